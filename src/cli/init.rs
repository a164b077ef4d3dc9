//! `tierfs init`.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{absolute, conflicts, next, print};
use crate::config::{Draft, TierConfig, check, load, spec, template};
use crate::daemon::unlock;
use crate::sys::durable::Lock;
use crate::sys::overlap;
use crate::tier::marker::verify::{self, Found, Verdict};
use crate::tier::marker::{self, Id, Marker};
use crate::tier::place::{Place, Root};
use crate::types::errno::Errno;
use crate::types::shown;

/// Makes directories the tiers of a union. Files in them stay where and as they are: each tier only
/// gets a directory .tierfs with a marker, by which a disk that is not mounted, or the wrong one, is
/// told from an empty tier. First it reports the paths that exist on several tiers, of which only
/// one copy will be seen. May be repeated; with one more tier at the end, that tier is added.
#[derive(Debug, Args)]
#[command(
    override_usage = "tierfs init [OPTIONS] SPEC\n       tierfs init [OPTIONS] --config FILE",
    after_help = "\
The report goes to standard error, a commented configuration to standard output.

Examples:
  tierfs init --dry-run /fast/docs:/slow/docs      only report what would be hidden
  tierfs init --mountpoint /srv/docs /fast/docs:/slow/docs > /etc/tierfs/docs.yaml
  tierfs init /fast/docs:/slow/docs:/cold/docs     add a third tier

Exit codes:
  0 done   1 refused, with the reason   2 wrong usage   75 a tier is in use   77 wrong passphrase
  78 wrong configuration"
)]
pub struct Init {
    /// The tiers, fastest first: PRIMARY:SECONDARY[:...]; write \: for a colon in a path
    #[arg(value_name = "SPEC", required_unless_present = "config", conflicts_with = "config")]
    spec: Option<OsString>,
    /// Take the tiers from a configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the new configuration to a file, which must not exist, instead of standard output
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
    /// The mount point to put into the new configuration
    #[arg(long, value_name = "DIR")]
    mountpoint: Option<PathBuf>,
    /// The name to put into the new configuration [default: that of the directory]
    #[arg(long)]
    name: Option<String>,
    /// Only report; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// How long something that only starts is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Init {
    /// Adopts the tiers.
    ///
    /// # Errors
    /// Why they cannot be one union.
    pub fn run(self) -> Outcome {
        let mut draft = self.draft()?;
        if let Some(file) = self.write_config.as_deref().filter(|file| fs::symlink_metadata(file).is_ok()) {
            let line = format!("{} is there already: name a new file", file.display());
            return Err(Failure::error(line));
        }
        if let Some(above) = self.write_config.as_deref().map(absolute).transpose()?.as_deref().and_then(Path::parent)
            && !self.dry_run
            && !above.is_dir()
        {
            let shown = above.display();
            return Err(Failure::error(format!("{shown} is not there: make it with mkdir -p {shown}")));
        }
        let paths: Vec<&Path> = draft.tiers.iter().map(|tier| tier.path.as_path()).collect();
        let places = unlocked(&draft)?;
        let roots = open(&places)?;
        match draft.mountpoint.as_deref() {
            Some(mountpoint) => {
                apart(&paths, mountpoint)?;
                overlap::check(&paths, mountpoint)
            }
            None => overlap::check_tiers(&paths),
        }
        .map_err(Failure::error)?;
        let expected: Vec<_> = draft.tiers.iter().map(|tier| tier.id.as_deref().and_then(Id::parse)).collect();
        let found = acceptable(&paths, &roots, &expected)?;
        let is_whole = marker::is_whole(&found.iter().map(Found::marker).collect::<Vec<_>>());
        if !self.dry_run && !is_whole {
            // The comparison takes long: who is in the way is told before it.
            keep_out(&paths, &roots)?;
        }
        report(&places);
        if self.dry_run {
            return Ok(Exit::Ok);
        }
        let markers = adopt(&paths, &roots, &expected)?;
        for (tier, marker) in draft.tiers.iter_mut().zip(&markers) {
            eprintln!("{}: tier {} is {}", marker.rank, marker.tier, tier.path.display());
            tier.id = Some(marker.tier.to_string());
        }
        self.write(&draft)?;
        Ok(Exit::Ok)
    }

    fn draft(&self) -> Result<Draft, Failure> {
        let mut draft = match (&self.config, &self.spec) {
            (Some(file), _) => load::load(file)?,
            (None, given) => {
                let mut draft = Draft::default();
                for path in spec::parse(given.as_deref().unwrap_or_default())? {
                    draft.tiers.push(TierConfig::at(absolute(&path)?));
                }
                draft
            }
        };
        if let Some(mountpoint) = &self.mountpoint {
            draft.mountpoint = Some(absolute(mountpoint)?);
        }
        // The rules for a mount hold, but for the mount point, which may come later.
        let whole =
            Draft { mountpoint: draft.mountpoint.clone().or_else(|| Some(PathBuf::from("/"))), ..draft.clone() };
        check::finish(whole)?;
        Ok(draft)
    }

    fn write(&self, draft: &Draft) -> Result<(), Failure> {
        if self.config.is_some() && self.write_config.is_none() {
            return Ok(());
        }
        let place = draft.mountpoint.as_deref().or(draft.tiers.first().map(|tier| tier.path.as_path()));
        let name = place.and_then(Path::file_name).map(|name| name.display().to_string());
        let name = self.name.clone().or(draft.name.clone()).or(name).unwrap_or("tierfs".into());
        let text = template::render(&name, draft.mountpoint.as_deref(), &draft.tiers).map_err(Failure::error)?;
        let Some(path) = &self.write_config else {
            return print(&text);
        };
        // Whoever may write it says what root does. Opening the tiers has put the umask away.
        let mut options = fs::OpenOptions::new();
        let written = options.write(true).create_new(true).mode(0o644).open(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| Failure::error(format!("{}: {}", path.display(), Errno::of(&error))))?;
        let tiers: Vec<&Path> = draft.tiers.iter().map(|tier| tier.path.as_path()).collect();
        eprint!("{}", next::steps(&absolute(path)?, draft.mountpoint.as_deref(), &tiers));
        Ok(())
    }
}

/// Refuses a mount point that would be made inside a tier. One that is there is compared more closely elsewhere.
fn apart(tiers: &[&Path], mountpoint: &Path) -> Result<(), Failure> {
    let above = mountpoint.ancestors().find_map(|above| above.canonicalize().ok());
    let inside = tiers.iter().find(|tier| {
        let real = tier.canonicalize();
        above.as_ref().is_some_and(|above| real.is_ok_and(|real| above.starts_with(real)))
    });
    match inside {
        Some(tier) if mountpoint.symlink_metadata().is_err() => {
            let (inner, outer) = (mountpoint.display(), tier.display());
            let line =
                format!("the mount point {inner} would lie inside the tier {outer}: name one outside of all tiers");
            Err(Failure::error(line))
        }
        _ => Ok(()),
    }
}

fn open(places: &[Place]) -> Result<Vec<Root>, Failure> {
    let mut roots = Vec::new();
    for place in places {
        let root = Root::open(place).map_err(|errno| {
            let shown = place.path.display();
            Failure::error(match errno {
                Errno::ENOENT => {
                    format!("the tier {shown} does not exist: make it with mkdir -p {shown}")
                }
                errno => format!("the tier {shown} cannot be opened: {errno}"),
            })
        })?;
        roots.push(root);
    }
    Ok(roots)
}

/// The tiers as they can be read; a mount point may come later.
fn unlocked(draft: &Draft) -> Result<Vec<Place>, Failure> {
    let places = unlock::places(&check::finish_unmounted(draft.clone())?);
    places.map_err(|error| Failure { line: error.line, code: error.code })
}

fn refuse(found: &[Found], expected: &[Option<Id>]) -> Result<(), Failure> {
    if verify::grows(found) {
        return Ok(());
    }
    match verify::verify(found, expected) {
        Verdict::Fresh | Verdict::Good => Ok(()),
        Verdict::Foreign(reason) => Err(Failure::error(reason)),
        Verdict::Missing(ranks) => {
            let absent = ranks.fastest().and_then(|rank| found.get(rank.index()));
            let absent = absent.map(Found::absence).unwrap_or_default();
            let line = format!(
                "{absent} Other tiers or the configuration say that it had one. To make a new union \
                 of these directories, remove .tierfs from each, and the ids from the configuration"
            );
            Err(Failure::error(line))
        }
    }
}

fn report(places: &[Place]) {
    match conflicts::find(places, |line| eprintln!("{}", shown::escape(line.as_bytes()))) {
        Err(errno) => eprintln!("The trees could not be compared: {errno}"),
        Ok(0) => eprintln!("No path is in conflict."),
        Ok(1) => eprintln!("1 conflict. Nothing was changed; the hidden copy stays on its tier."),
        Ok(many) => {
            eprintln!("{many} conflicts. Nothing was changed; hidden copies stay on their tiers.")
        }
    }
}

/// What is there, if it can be or become a union.
fn acceptable(paths: &[&Path], roots: &[Root], expected: &[Option<Id>]) -> Result<Vec<Found>, Failure> {
    let found: Vec<Found> = paths.iter().zip(roots).map(|(path, root)| Found::look(path, Ok(root))).collect();
    refuse(&found, expected)?;
    let fresh: Vec<&Path> =
        found.iter().filter(|tier| tier.marker().is_none()).map(|tier| tier.path.as_path()).collect();
    overlap::nested(&fresh).map_or(Ok(found), |nested| Err(Failure::error(nested)))
}

/// Keeps mounts, runs and other adoptions out of the tiers.
fn keep_out(paths: &[&Path], roots: &[Root]) -> Result<Vec<Lock>, Failure> {
    let mut locks = Vec::new();
    for (path, root) in paths.iter().zip(roots) {
        let path = path.display();
        let broken = |errno| Failure::error(format!("{path} cannot be locked: {errno}"));
        let taken = root.lock_to_adopt(PATIENCE).map_err(broken)?;
        let line = || format!("{path}: another program has locked it, perhaps another tierfs that starts: wait");
        locks.push(taken.ok_or_else(|| Failure::new(Exit::Busy, line()))?);
        match root.lock(Duration::ZERO) {
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(broken(errno)),
            Ok(Some(lock)) => locks.push(lock),
            Ok(None) => {
                let line =
                    "is in use, by a mount or a run: `tierfs status` tells which; unmount or wait, then try again";
                return Err(Failure::new(Exit::Busy, format!("{path} {line}")));
            }
        }
    }
    Ok(locks)
}

/// Makes the tiers a union. One that is whole stays as it is, so that it may be in use meanwhile.
fn adopt(paths: &[&Path], roots: &[Root], expected: &[Option<Id>]) -> Result<Vec<Marker>, Failure> {
    let known = |found: &[Found]| found.iter().map(Found::marker).collect::<Vec<_>>();
    let old = known(&acceptable(paths, roots, expected)?);
    if marker::is_whole(&old) {
        return Ok(old.into_iter().flatten().collect());
    }
    let _locks = keep_out(paths, roots)?;
    // Whoever had them may have changed what is there.
    let old = known(&acceptable(paths, roots, expected)?);
    let roots: Vec<_> = roots.iter().collect();
    marker::adopt(&roots, &old).map_err(|(rank, errno)| {
        let path = paths.get(rank.index()).map(|path| path.display().to_string());
        let path = path.unwrap_or_default();
        Failure::error(format!("{path}/.tierfs/marker cannot be written: {errno}"))
    })
}
