//! Unlocking volumes, and making and changing their configuration files.
//!
//! No passphrase and no key is ever in an argument, an environment variable, a log or a message;
//! both live in secret memory from their first byte on.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::crypt::MasterKey;
use crate::crypt::conf::{Conf, Unlock};
use crate::sys::secret::Secret;
use crate::types::errno::Errno;
use crate::types::passphrase::Source;

pub mod create;
pub mod file;
pub mod master;
mod prompt;
mod source;
pub mod verify;

pub use file::{conf_in, read_conf};
pub use source::careless;

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The passphrase or the master key is not that of the volume.
    Wrong,
    /// The configuration file is none, or of a kind that is not known.
    Conf,
    /// What was asked for does not go together.
    Usage,
    /// It could not be done.
    Failed,
    /// Whoever was asked has interrupted it.
    Interrupted,
}

/// Why there is no key: one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Of which kind; it decides the exit code.
    pub kind: Kind,
    /// For the administrator.
    pub line: String,
}

impl Error {
    fn new(kind: Kind, line: impl fmt::Display) -> Error {
        Error { kind, line: line.to_string() }
    }

    /// A failed call on a file.
    fn at(path: &Path, errno: Errno) -> Error {
        Error::new(Kind::Failed, format!("{}: {errno}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Error {}

/// The passphrase of `volume`, which is asked for once where `source` is the prompt.
pub fn passphrase(source: &Source, volume: &Path) -> Result<Secret, Error> {
    source::read(source, &mut || prompt::once("Passphrase", volume))
}

/// A passphrase that `volume` is to get, which is asked for twice where `source` is the prompt.
pub fn new_passphrase(source: &Source, volume: &Path) -> Result<Secret, Error> {
    source::read(source, &mut || prompt::twice("New passphrase", volume))
}

/// The master key of `volume`, typed or read as its eight groups of digits.
pub fn master_key(source: &Source, volume: &Path) -> Result<MasterKey, Error> {
    let text = source::read(source, &mut || prompt::once("Master key", volume))?;
    master::parse(&text).ok_or_else(|| {
        let line = "that is no master key: it has 64 hexadecimal digits, with or without dashes";
        Error::new(Kind::Wrong, format!("{}: {line}", volume.display()))
    })
}

/// Unlocks `conf`, the configuration of `volume`, with the passphrase that `source` gives.
pub fn unlock(conf: &Conf, source: &Source, volume: &Path) -> Result<MasterKey, Error> {
    if conf.fido2 {
        return Err(refused(&Unlock::Fido2, volume));
    }
    let passphrase = passphrase(source, volume)?;
    conf.unlock(&passphrase).map_err(|why| refused(&why, volume))
}

/// The error of a volume that does not unlock.
pub fn refused(why: &Unlock, volume: &Path) -> Error {
    let kind = match why {
        Unlock::WrongPassphrase => Kind::Wrong,
        Unlock::Fido2 => Kind::Conf,
        Unlock::EmptyPassphrase | Unlock::Memory { .. } | Unlock::System(_) => Kind::Failed,
    };
    Error::new(kind, format!("{}: {why}", volume.display()))
}

/// A volume as a command names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory of ciphertext, or of plaintext with a reverse view; not where only the
    /// configuration file is named.
    pub dir: Option<PathBuf>,
    /// The configuration file.
    pub conf: PathBuf,
}

impl Place {
    /// What messages call it.
    pub fn label(&self) -> &Path {
        self.dir.as_deref().unwrap_or(&self.conf)
    }
}
