//! `tierfs key restore`.

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::key::{KindArgs, check_master, volume_of};
use crate::cli::passphrase::{NewPassphrase, Passphrase, protect};
use crate::cli::print;
use crate::keys;
use crate::keys::verify;

/// Makes the configuration file of a volume again where it is lost. It takes the master key, and the
/// same options with which the volume was made; files of the volume are tried, so that wrong ones
/// are told.
#[derive(Debug, Args)]
#[command(after_help = "\
The options for the passphrase say where the master key comes from.

Examples:
  tierfs key restore /slow/docs
  tierfs key restore --cipher xchacha --passfile MASTER --new-passfile NEW /slow/docs

Exit codes:
  0 done   1 refused, with the reason   2 wrong usage   77 wrong master key or options")]
pub(super) struct Restore {
    #[command(flatten)]
    kind: KindArgs,
    #[command(flatten)]
    source: Passphrase,
    #[command(flatten)]
    new: NewPassphrase,
    /// Take the master key also where there are no files to try it on
    #[arg(long)]
    unchecked: bool,
}

impl Restore {
    /// Makes the file.
    ///
    /// # Errors
    /// Why it is not made.
    pub(super) fn run(self) -> Outcome {
        protect()?;
        let plan = self.kind.plan()?;
        plan.check_restore()?;
        let master = keys::master_key(&self.source.source().unwrap_or_default(), &plan.dir)?;
        let files = (!plan.reverse).then_some(plan.dir.as_path());
        let fits = |why: Option<&str>| match why {
            Some(why) if !self.unchecked => Err(Failure::new(Exit::Denied, format!("{}: {why}", plan.dir.display()))),
            _ => Ok(()),
        };
        fits(files.and_then(|dir| verify::vectors_misfit(&plan.features, dir)))?;
        check_master(&master, plan.features, files, self.unchecked)?;
        let volume = volume_of(&master, plan.features)?;
        fits(files.and_then(|dir| verify::names_misfit(&volume, dir)))?;
        let new = keys::new_passphrase(&self.new.source().unwrap_or_default(), &plan.dir)?;
        plan.restore(&master, &new)?;
        print(&format!("made {} again\n", plan.place().conf.display()))?;
        Ok(Exit::Ok)
    }
}
