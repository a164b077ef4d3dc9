//! `tierfs key passwd`.

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::key::{PlaceArgs, check_master};
use crate::cli::passphrase::{NewPassphrase, Passphrase, protect};
use crate::cli::print;
use crate::crypt::conf::{Conf, ScryptCost};
use crate::keys::{self, file};

/// Changes the passphrase of a volume. Only the configuration file is written anew, and no file of
/// the volume: whoever has a copy of the old configuration file can open it with the old passphrase.
#[derive(Debug, Args)]
#[command(after_help = "\
With --master-key the options for the passphrase say where the master key comes from.

Examples:
  tierfs key passwd /slow/docs
  tierfs key passwd --passfile OLD --new-passfile NEW /slow/docs
  tierfs key passwd --master-key /slow/docs       the old passphrase is lost

Exit codes:
  0 done   1 refused, with the reason   2 wrong usage   77 wrong passphrase or master key
  78 wrong configuration file")]
pub(super) struct Passwd {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    source: Passphrase,
    #[command(flatten)]
    new: NewPassphrase,
    /// Unlock the volume with its master key instead of the passphrase
    #[arg(long)]
    master_key: bool,
    /// Take the master key also where there are no files to try it on
    #[arg(long, requires = "master_key")]
    unchecked: bool,
    /// Another cost of one try of a passphrase: 2^N, as memory in KiB; 10 to 28 [default: as before]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(10..=28))]
    scrypt_cost: Option<u8>,
}

impl Passwd {
    /// Changes it.
    ///
    /// # Errors
    /// Why it stays.
    pub(super) fn run(self) -> Outcome {
        protect()?;
        let place = self.place.place()?;
        let conf = keys::read_conf(&place.conf)?;
        let label = place.label();
        let source = self.source.source().unwrap_or_default();
        let master = if self.master_key {
            let master = keys::master_key(&source, label)?;
            check_master(&master, conf.features, place.dir.as_deref(), self.unchecked)?;
            master
        } else {
            keys::unlock(&conf, &source, label)?
        };
        let new = keys::new_passphrase(&self.new.source().unwrap_or_default(), label)?;
        let cost = match self.scrypt_cost {
            Some(log_n) => ScryptCost::with_log_n(log_n).map_err(|why| Failure::new(Exit::Usage, why))?,
            None => conf.cost,
        };
        let changed = Conf::wrap(&master, conf.features, &new, cost).map_err(|why| keys::refused(&why, label))?;
        file::replace_conf(&place.conf, &changed)?;
        print(&format!("changed the passphrase in {}\n", place.conf.display()))?;
        Ok(Exit::Ok)
    }
}
