//! `tierfs key test`.

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::key::{PlaceArgs, check_master, show_master, volume_of};
use crate::cli::passphrase::{Passphrase, protect};
use crate::cli::print;
use crate::keys;
use crate::keys::verify::{self, Evidence};

/// Tells whether a passphrase unlocks a volume, or whether a master key opens its files. Changes
/// nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
With --master-key the options for the passphrase say where the master key comes from.

Exit codes:
  0 it is the right one   1 error   2 wrong usage   77 it is wrong   78 wrong configuration file")]
pub(super) struct Test {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    source: Passphrase,
    /// Try a master key on the files of the volume
    #[arg(long)]
    master_key: bool,
    /// Show the master key that the passphrase unlocks
    #[arg(long, conflicts_with = "master_key")]
    print_master_key: bool,
}

impl Test {
    /// Tries it.
    ///
    /// # Errors
    /// That it is wrong, or why that cannot be told.
    pub(super) fn run(self) -> Outcome {
        protect()?;
        let place = self.place.place()?;
        let conf = keys::read_conf(&place.conf)?;
        let (source, label) = (self.source.source().unwrap_or_default(), place.label());
        if self.master_key {
            let master = keys::master_key(&source, label)?;
            check_master(&master, conf.features, place.dir.as_deref(), false)?;
            print(&format!("the master key opens the files of {}\n", label.display()))?;
            return Ok(Exit::Ok);
        }
        let master = keys::unlock(&conf, &source, label)?;
        let volume = volume_of(&master, conf.features)?;
        if let Some(dir) = place.dir.as_deref().filter(|dir| verify::try_on(&volume, dir) == Evidence::Refuses) {
            let (conf, dir) = (place.conf.display(), dir.display());
            let line = format!(
                "the passphrase is that of {conf}, but no file in {dir} opens with its key: it is that of another \
                 volume. Put the right one back from a copy, or make it again with `tierfs key restore {dir}`"
            );
            return Err(Failure::new(Exit::Config, line));
        }
        print(&format!("the passphrase unlocks {}\n", label.display()))?;
        if self.print_master_key {
            show_master(&master)?;
        }
        Ok(Exit::Ok)
    }
}
