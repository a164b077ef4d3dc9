//! Where the passphrase of a volume comes from, on the command line.

use std::path::PathBuf;

use clap::Args;

use crate::types::passphrase::Source;

/// At most one source; none is the terminal.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub struct Passphrase {
    /// The passphrase is the first line of this file
    #[arg(long, value_name = "FILE", help_heading = "Passphrase")]
    passfile: Option<PathBuf>,
    /// The passphrase is all of this file
    #[arg(long, value_name = "FILE", help_heading = "Passphrase")]
    keyfile: Option<PathBuf>,
    /// The passphrase is the first line that this program writes; it runs without a shell
    #[arg(long, value_name = "COMMAND", help_heading = "Passphrase")]
    extpass: Option<String>,
    /// The passphrase is in this credential of the systemd service
    #[arg(long, value_name = "NAME", help_heading = "Passphrase")]
    credential: Option<String>,
    /// The passphrase is in this key of the kernel's keyrings
    #[arg(long, value_name = "DESCRIPTION", help_heading = "Passphrase")]
    keyring: Option<String>,
}

impl Passphrase {
    /// The source that was named, if any.
    pub fn source(&self) -> Option<Source> {
        let sources = [
            self.passfile.clone().map(Source::PassFile),
            self.keyfile.clone().map(Source::KeyFile),
            self.extpass.clone().map(Source::Command),
            self.credential.clone().map(Source::Credential),
            self.keyring.clone().map(Source::Keyring),
        ];
        sources.into_iter().flatten().next()
    }
}
