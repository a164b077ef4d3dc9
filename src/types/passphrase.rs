//! Where the passphrase of an encrypted volume comes from. Never the passphrase itself.

use std::path::PathBuf;

/// One source of a passphrase. Whatever it is, the same bytes open the volume with gocryptfs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Source {
    /// Whoever sits at the terminal is asked.
    #[default]
    Prompt,
    /// The first line of a file, without its newline.
    PassFile(PathBuf),
    /// All of a file: one line of text, whose newline, if it has one, does not count.
    KeyFile(PathBuf),
    /// The first line that a program writes: its words, separated by spaces, run without a shell.
    Command(String),
    /// The first line of a credential that systemd hands to the service, by its name.
    Credential(String),
    /// The first line of a key of the type `user` in the kernel's keyrings, by its description.
    Keyring(String),
}
