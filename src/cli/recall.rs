//! `tierfs recall`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::criteria::rank;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{Manner, Output};
use crate::cli::run;
use crate::cli::target::{self, Target};
use crate::control::wire::What;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;

/// Brings files back to the primary, whatever their age; or, with --run, what a run moved back to
/// where it was. A recalled file moves down again by the next run that finds it old enough: pin
/// it to keep it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs recall /srv/docs/2019/lease.pdf
  tierfs recall -r /srv/docs/projects/old
  tierfs recall --run 20261121T091500-ab12            undo a run of the only mount
  tierfs recall --run 20261121T091500-ab12 /srv/docs  the same; see `tierfs history`
  tierfs recall --run 20261121T091500-ab12 /srv/docs projects/2019   only what is there

Exit codes:
  0 done   1 error   2 wrong usage   3 some files failed   75 another run is at work
  130 interrupted")]
pub struct Recall {
    /// Files, or with -r directories, in a mounted tierfs; with --run the union and paths as in migrate
    #[arg(value_name = "PATH", required_unless_present = "undo")]
    paths: Vec<PathBuf>,
    /// Everything below directories
    #[arg(short = 'r', long)]
    recursive: bool,
    /// The tier they go to
    #[arg(long, value_name = "TIER", value_parser = rank, default_value = "primary", conflicts_with = "undo")]
    to: Rank,
    /// Take back what this run moved
    #[arg(id = "undo", long = "run", value_name = "RUN")]
    undo: Option<String>,
    /// Only tell what would move
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// One JSON object for each file and one at the end
    #[arg(long)]
    json: bool,
    /// Print nothing where nothing moved and nothing failed
    #[arg(short = 'q', long)]
    quiet: bool,
}

impl Recall {
    /// Makes the run.
    ///
    /// # Errors
    /// Why it could not be made, or not to its end.
    pub fn run(self) -> Outcome {
        let (target, paths, what) = match &self.undo {
            Some(name) => {
                let target = target::find(self.paths.first().map(|path| path.as_os_str()))?;
                let paths = target.paths(self.paths.get(1..).unwrap_or_default())?;
                (target, paths, What::Undo(name.clone()))
            }
            None => {
                let (target, paths) = self.named()?;
                (target, paths, What::To(self.to.0))
            }
        };
        let each = self.dry_run && !self.quiet;
        let manner = Manner { json: self.json, quiet: self.quiet, each, dry_run: self.dry_run, ..Manner::default() };
        let mut output = Output::new(manner, None)?;
        let run = run::plain(what, &paths, self.dry_run);
        match run::run(&target, run, &mut |event| output.tell(&event)) {
            Ok(summary) => output.finish(&summary),
            Err(failure) => {
                output.give_up();
                Err(failure)
            }
        }
    }

    /// The one mount that all paths are in, and where they are there.
    fn named(&self) -> Result<(Target, Vec<UnionPath>), Failure> {
        let mut paths = Vec::new();
        let mut spots = Vec::new();
        for path in &self.paths {
            let (spot, inside) = target::spot_of(path)?;
            self.check(path)?;
            spots.push(spot);
            paths.push(inside);
        }
        let first = spots.first().ok_or_else(|| Failure::new(Exit::Usage, "which files? Name at least one"))?;
        if let Some(at) = spots.iter().position(|spot| spot != first) {
            let line = format!(
                "{} and {} are in different mounts: recall them one after the other",
                self.paths[0].display(),
                self.paths[at].display()
            );
            return Err(Failure::new(Exit::Usage, line));
        }
        Ok((target::find(Some(first.point.as_os_str()))?, paths))
    }

    fn check(&self, path: &Path) -> Result<(), Failure> {
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) && !self.recursive {
            let line = format!("{} is a directory: give -r to recall everything below it", path.display());
            return Err(Failure::new(Exit::Usage, line));
        }
        Ok(())
    }
}
