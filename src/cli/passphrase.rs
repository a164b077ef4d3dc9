//! The options that say where a passphrase comes from, and warnings about that.

use std::path::PathBuf;

use clap::Args;

use crate::cli::complain;
use crate::cli::exit::{Exit, Failure};
use crate::keys;
use crate::sys::secret;
use crate::types::passphrase::Source;

/// Where the passphrase comes from; without any of these it is asked for at the terminal.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub struct Passphrase {
    /// Take the passphrase from the first line of a file
    #[arg(long, value_name = "FILE", help_heading = "Passphrase (asked for where none of these is given)")]
    passfile: Option<PathBuf>,
    /// Take it from a key file: one line of text, such as base64
    #[arg(long, value_name = "FILE", help_heading = "Passphrase (asked for where none of these is given)")]
    keyfile: Option<PathBuf>,
    /// Take it from the first line that a program writes; split at spaces, no shell
    #[arg(long, value_name = "COMMAND", help_heading = "Passphrase (asked for where none of these is given)")]
    extpass: Option<String>,
    /// Take it from a credential that systemd hands to the service
    #[arg(long, value_name = "NAME", help_heading = "Passphrase (asked for where none of these is given)")]
    credential: Option<String>,
    /// Take it from a key of type `user` in the kernel's keyring
    #[arg(long, value_name = "NAME", help_heading = "Passphrase (asked for where none of these is given)")]
    keyring: Option<String>,
}

/// Where a new passphrase comes from; without any of these it is asked for twice.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub struct NewPassphrase {
    /// The same as --passfile, for the new passphrase
    #[arg(long, value_name = "FILE", help_heading = "New passphrase (asked for where none of these is given)")]
    new_passfile: Option<PathBuf>,
    /// As --keyfile
    #[arg(long, value_name = "FILE", help_heading = "New passphrase (asked for where none of these is given)")]
    new_keyfile: Option<PathBuf>,
    /// As --extpass
    #[arg(long, value_name = "COMMAND", help_heading = "New passphrase (asked for where none of these is given)")]
    new_extpass: Option<String>,
    /// As --credential
    #[arg(long, value_name = "NAME", help_heading = "New passphrase (asked for where none of these is given)")]
    new_credential: Option<String>,
    /// As --keyring
    #[arg(long, value_name = "NAME", help_heading = "New passphrase (asked for where none of these is given)")]
    new_keyring: Option<String>,
}

impl Passphrase {
    /// The source that was named, if any; warns where it is careless.
    pub fn source(&self) -> Option<Source> {
        let sources = [
            self.passfile.clone().map(Source::PassFile),
            self.keyfile.clone().map(Source::KeyFile),
            self.extpass.clone().map(Source::Command),
            self.credential.clone().map(Source::Credential),
            self.keyring.clone().map(Source::Keyring),
        ];
        sources.into_iter().flatten().next().map(warned)
    }
}

impl NewPassphrase {
    /// The source that was named, if any; warns where it is careless.
    pub fn source(&self) -> Option<Source> {
        let args = self.clone();
        Passphrase {
            passfile: args.new_passfile,
            keyfile: args.new_keyfile,
            extpass: args.new_extpass,
            credential: args.new_credential,
            keyring: args.new_keyring,
        }
        .source()
    }
}

fn warned(source: Source) -> Source {
    if let Some(line) = keys::careless(&source) {
        complain(format!("warning: {line}").as_bytes());
    }
    source
}

/// Keeps what this process will know out of core dumps and debuggers. Before the first passphrase.
pub fn protect() -> Result<(), Failure> {
    secret::protect_process().map_err(|errno| Failure::error(format!("cannot forbid core dumps: {errno}")))
}

impl From<keys::Error> for Failure {
    fn from(error: keys::Error) -> Failure {
        let exit = match error.kind {
            keys::Kind::Wrong => Exit::Denied,
            keys::Kind::Conf => Exit::Config,
            keys::Kind::Usage => Exit::Usage,
            keys::Kind::Failed => Exit::Error,
            keys::Kind::Interrupted => Exit::Interrupted,
        };
        Failure::new(exit, error)
    }
}
