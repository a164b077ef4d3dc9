//! Why a configuration file does not serve, in plain words.

use std::fmt;

use crate::types::errno::Errno;
use crate::types::units::show_size;

/// Why a file is no configuration that tierfs can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfProblem {
    /// Not the JSON of such a file; the text says what is wrong with it.
    NotAConf(String),
    /// A version of the format that is not 2.
    Version(i64),
    /// Flags that tierfs does not know.
    UnknownFlags(Vec<String>),
    /// Flags that do not go together, or that old volumes lack.
    Flags(&'static str),
    /// A value that is out of its range; the text says which.
    Value(String),
}

/// Why the master key is not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlock {
    /// It is not the passphrase of this volume, or the wrapped key is damaged: the two look alike.
    WrongPassphrase,
    /// There is no passphrase of no bytes.
    EmptyPassphrase,
    /// A FIDO2 token takes its place.
    Fido2,
    /// Deriving the key needs `needed` bytes of memory and there are `available`.
    Memory {
        /// What scrypt needs.
        needed: u64,
        /// What the system says is free for use.
        available: u64,
    },
    /// A system call failed.
    System(Errno),
}

impl fmt::Display for ConfProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfProblem::NotAConf(why) => write!(f, "not a gocryptfs configuration file: {why}"),
            ConfProblem::Version(version) => write!(f, "version {version} of the format; only version 2 is known"),
            ConfProblem::UnknownFlags(flags) => write!(
                f,
                "the volume uses features that this tierfs does not know ({}): use a newer tierfs, or gocryptfs",
                flags.join(", ")
            ),
            ConfProblem::Flags(why) => f.write_str(why),
            ConfProblem::Value(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unlock::WrongPassphrase => f.write_str("wrong passphrase"),
            Unlock::EmptyPassphrase => f.write_str("the passphrase is empty"),
            Unlock::Fido2 => f.write_str(
                "the volume is unlocked by a FIDO2 token, which tierfs cannot ask: \
                 `tierfs key passwd --master-key` gives it a passphrase instead, or use gocryptfs",
            ),
            Unlock::Memory { needed, available } => write!(
                f,
                "unlocking needs {} of memory and {} are available",
                show_size(*needed),
                show_size(*available)
            ),
            Unlock::System(errno) => write!(f, "cannot derive the key: {errno}"),
        }
    }
}

impl From<Errno> for Unlock {
    fn from(errno: Errno) -> Unlock {
        Unlock::System(errno)
    }
}

impl std::error::Error for ConfProblem {}
impl std::error::Error for Unlock {}
