//! `tierfs decrypt-view`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::absolute;
use crate::cli::exit::{Failure, Outcome};
use crate::cli::passphrase::Passphrase;
use crate::cli::view::{Running, unlock};
use crate::config::Encryption;
use crate::config::view::{DecryptView, ViewOptions};
use crate::daemon::views::decrypt;

/// Shows the plaintext of an encrypted volume, to read or restore from it: a copy of what
/// `tierfs encrypt-view` or `gocryptfs -reverse` shows, an encrypted tier, any gocryptfs volume. Nothing is
/// written into it.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub struct DecryptViewCommand {
    /// The directory of ciphertext, with gocryptfs.conf in it
    #[arg(value_name = "CIPHERDIR")]
    volume: PathBuf,
    /// The directory to mount on
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
    /// The configuration of the volume, if it is not gocryptfs.conf in CIPHERDIR
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Passphrase,
    #[command(flatten)]
    running: Running,
}

const AFTER: &str = "\
Examples:
  tierfs decrypt-view /backup/docs /mnt/docs
  tierfs decrypt-view --passfile /etc/tierfs/backup.pass /backup/docs /mnt/docs
  cp -a /mnt/docs/2026 /srv/docs/
  tierfs umount /mnt/docs

Exit codes:
  0 done   1 error   2 wrong usage   75 in use   77 wrong passphrase
  78 no configuration, or not that of this volume";

impl DecryptViewCommand {
    /// Shows it.
    ///
    /// # Errors
    /// Why it does not serve.
    pub fn run(self) -> Outcome {
        let config = self.configuration()?;
        let source = config.encryption.source.clone();
        self.running.run(|| decrypt::open(&config, &|conf, path| unlock(&source, conf, path)))
    }

    fn configuration(&self) -> Result<DecryptView, Failure> {
        let conf = self.conf.as_deref().map(absolute).transpose()?;
        Ok(DecryptView {
            volume: absolute(&self.volume)?,
            encryption: Encryption { conf, source: self.passphrase.source().unwrap_or_default() },
            mountpoint: absolute(&self.mountpoint)?,
            options: self.running.options(ViewOptions::default())?,
        })
    }
}
