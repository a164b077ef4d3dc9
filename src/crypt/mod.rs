//! The on-disk format of gocryptfs, version 2: keys, contents, names and the configuration file.
//!
//! Everything here is a function over values: no file is opened and no directory is walked. The
//! format is not ours to change: whatever is written here is opened by gocryptfs 2.3, and the other
//! way round. docs/ENCRYPTION.md says what it protects from and what not.

use std::fmt;

mod aes;
pub mod base64;
pub mod conf;
pub mod content;
pub mod derive;
mod eme;
pub mod features;
mod kdf;
pub mod layout;
pub mod names;
mod siv;
#[cfg(test)]
mod tests;
pub mod volume;

pub use conf::Conf;
pub use content::Content;
pub use features::{Cipher, Features, NameMode};
pub use kdf::MasterKey;
pub use layout::{FileId, Layout};
pub use names::{DirIv, Names, Stored};
pub use volume::Volume;

/// Ciphertext that is not what this volume's key wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The 18 bytes before the first block.
    Header,
    /// The block of contents with this number, from 0.
    Block(u64),
    /// The target of a symbolic link.
    Target,
    /// The value of an extended attribute.
    Value,
    /// The name of an entry or of an extended attribute.
    Name(NameDamage),
    /// `gocryptfs.diriv`.
    DirIv,
}

/// What is wrong with an encrypted name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameDamage {
    /// Not base64, or not in the one way in which names are written.
    NotBase64,
    /// No whole number of cipher blocks, or too many of them.
    Length,
    /// It opens to something that no name was padded to: another key, directory or a forgery.
    Padding,
    /// It opens to a name that no file can have.
    Unusable,
    /// The prefix of encrypted attributes is missing.
    Prefix,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Header => f.write_str("the header of the encrypted file is damaged"),
            Damage::Block(block) => {
                let from = u128::from(*block) * layout::BLOCK as u128;
                write!(f, "block {block} (bytes {from} to {}) is damaged", from + layout::BLOCK as u128 - 1)
            }
            Damage::Target => f.write_str("the encrypted target of the symbolic link is damaged"),
            Damage::Value => f.write_str("the encrypted value of the attribute is damaged"),
            Damage::Name(why) => write!(f, "the encrypted name is {why}"),
            Damage::DirIv => f.write_str("gocryptfs.diriv does not hold 16 bytes that name a directory"),
        }
    }
}

impl fmt::Display for NameDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameDamage::NotBase64 => "no base64 as this volume writes it",
            NameDamage::Length => "of a length that no encrypted name has",
            NameDamage::Padding => "not made with this key for this directory",
            NameDamage::Unusable => "that of a name which no file can have",
            NameDamage::Prefix => "without the prefix of encrypted attributes",
        })
    }
}

impl std::error::Error for Damage {}
