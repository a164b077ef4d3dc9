//! What an entry is called in the storage, and the side files that hold long names.

use std::borrow::Cow;

use super::dir::EncryptedDir;
use crate::crypt::names::{CONF_NAME, DIRIV_NAME, DirIv, LONG_PREFIX, NAME_SUFFIX, Stored};
use crate::tier::{Dir, Open, Rename, small};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// What follows the prefix of long names in a name that is not final yet. Stock gocryptfs passes over all that
/// looks like the side file of a long name, so nobody sees these, and the listing of no volume suffers from
/// one that a crash left behind.
const DRAFT: &str = "draft-";

/// More than any encrypted name takes, in bytes: 256 bytes in base64.
pub(super) const FULL_LEN_MAX: usize = 344;

/// An entry as the storage knows it.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name there.
    pub(super) name: Name,
    /// The whole encrypted name, where `name` is only a hash of it.
    pub(super) full: Option<Vec<u8>>,
}

/// What a name in the storage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// An entry of the volume, or something foreign.
    Entry,
    /// An entry whose name is in a side file.
    Long,
    /// The side file of a long name.
    Side,
    /// The IV of the directory.
    Iv,
    /// Something half made, or half removed.
    Draft,
    /// The configuration of the volume.
    Conf,
}

/// The role of a name in a volume with encrypted names.
pub(super) fn role(stored: &[u8]) -> Role {
    match stored.strip_prefix(LONG_PREFIX.as_bytes()) {
        // A hash may begin like a draft, but has no dot in it.
        Some(rest) if rest.ends_with(NAME_SUFFIX.as_bytes()) => {
            if rest.starts_with(DRAFT.as_bytes()) {
                Role::Draft
            } else {
                Role::Side
            }
        }
        Some(_) => Role::Long,
        None if stored == DIRIV_NAME.as_bytes() => Role::Iv,
        None if stored == CONF_NAME.as_bytes() => Role::Conf,
        None => Role::Entry,
    }
}

/// A name nobody has, which no listing shows.
pub(super) fn draft() -> Result<Name> {
    let unique = small::unique_name()?;
    Name::new(&[LONG_PREFIX.as_bytes(), DRAFT.as_bytes(), unique.as_bytes(), NAME_SUFFIX.as_bytes()].concat())
}

/// The side file of a long name.
pub(super) fn side_of(long: &[u8]) -> Result<Name> {
    Name::new(&[long, NAME_SUFFIX.as_bytes()].concat())
}

/// What is in a side file.
///
/// # Errors
/// ENOENT; what reading says. A file that is too long to be one is cut, and so no name.
pub(super) fn read_side(inner: &dyn Dir, side: &Name) -> Result<Vec<u8>> {
    let file = inner.open(side, Open::ReadQuiet)?;
    let mut full = vec![0; FULL_LEN_MAX + 1];
    let len = file.read_at(&mut full, 0)?;
    full.truncate(len);
    Ok(full)
}

impl EncryptedDir {
    /// The entry that `name` is, be it there or not.
    ///
    /// # Errors
    /// ENAMETOOLONG; ENOENT for a name that no entry can have, and where no entry is; what reading the IV says.
    pub(super) fn entry(&self, name: &Name) -> Result<Entry> {
        self.entry_with(name, || self.iv()?.ok_or(Errno::ENOENT))
    }

    /// The entry that `name` will be.
    ///
    /// # Errors
    /// ENAMETOOLONG; EPERM for a name that no entry can have; what reading or making the IV says.
    pub(super) fn entry_to_make(&self, name: &Name) -> Result<Entry> {
        match self.entry_with(name, || self.iv_to_enter()) {
            Err(Errno::ENOENT) if self.shared.volume.names().is_plain() => Err(Errno::EPERM),
            other => other,
        }
    }

    fn entry_with(&self, name: &Name, iv: impl FnOnce() -> Result<DirIv>) -> Result<Entry> {
        let names = self.shared.volume.names();
        if names.is_plain() && self.is_root && name.as_bytes() == CONF_NAME.as_bytes() {
            return Err(Errno::ENOENT);
        }
        match names.encode(&iv()?, name.as_bytes())? {
            Stored::Short(stored) => Ok(Entry { name: Name::new(&stored)?, full: None }),
            Stored::Long { entry, full } => Ok(Entry { name: Name::new(&entry)?, full: Some(full) }),
        }
    }

    /// Has `act` put an entry called `name` into this directory. A side file is there before, whole, and is gone
    /// again if `act` fails.
    ///
    /// # Errors
    /// EPERM for a name that no entry can have; what `act` says.
    pub(super) fn make<T>(&self, name: &Name, act: impl FnOnce(&Name) -> Result<T>) -> Result<T> {
        let entry = self.entry_to_make(name)?;
        let Some(full) = &entry.full else {
            let _entering = self.shared.emptying.read();
            return act(&entry.name);
        };
        let _long = self.shared.long.lock();
        let side = side_of(entry.name.as_bytes())?;
        let is_new = self.put_side(&side, full)?;
        let _entering = self.shared.emptying.read();
        act(&entry.name).inspect_err(|_| {
            if is_new {
                self.drop_side(&side);
            }
        })
    }

    /// Makes the side file of a long name, unless it is there; whether it was not.
    pub(super) fn put_side(&self, side: &Name, full: &[u8]) -> Result<bool> {
        match self.write_side(side, full) {
            Ok(()) => return Ok(true),
            Err(Errno::EEXIST) => {}
            Err(other) => return Err(other),
        }
        if read_side(self.inner.as_ref(), side)? == full {
            return Ok(false);
        }
        // A crash left it half written, or somebody forged it: the entry, if there is one, gets its name back.
        let draft = draft()?;
        self.write_side(&draft, full)?;
        self.inner
            .rename(&draft, self.inner.as_ref(), side, Rename::Replace)
            .inspect_err(|_| self.drop_side(&draft))?;
        Ok(false)
    }

    fn write_side(&self, side: &Name, full: &[u8]) -> Result<()> {
        let file = self.inner.create(side, 0o444, Open::ReadWrite, &Caller::DAEMON)?;
        let written = file.write_at(full, 0).and_then(|len| if len < full.len() { Err(Errno::ENOSPC) } else { Ok(()) });
        // An entry whose name did not reach the disk with it would have none after a power cut.
        written.and_then(|()| file.settle()).inspect_err(|_| self.drop_side(side))
    }

    /// Removes a side file, or what else is in nobody's way.
    pub(super) fn drop_side(&self, side: &Name) {
        match self.inner.unlink(side) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => tracing::debug!(%side, "a side file stays behind: {errno}"),
        }
    }

    /// Has `act` take an entry away, and its side file after it.
    pub(super) fn take(&self, name: &Name, act: impl FnOnce(&Name) -> Result<()>) -> Result<()> {
        let entry = self.entry(name)?;
        if entry.full.is_none() {
            return act(&entry.name);
        }
        let _long = self.shared.long.lock();
        act(&entry.name)?;
        self.drop_side(&side_of(entry.name.as_bytes())?);
        Ok(())
    }

    /// The plaintext of a name in the storage; `None` for what is no entry.
    ///
    /// # Errors
    /// What is wrong with it, in words, or what reading its side file says.
    pub(super) fn plain_name(&self, iv: &DirIv, stored: &[u8]) -> std::result::Result<Option<Name>, NoName> {
        let names = self.shared.volume.names();
        if names.is_plain() {
            let hidden = self.is_root && stored == CONF_NAME.as_bytes();
            return if hidden { Ok(None) } else { Name::new(stored).map(Some).map_err(NoName::Storage) };
        }
        let full = match role(stored) {
            Role::Side | Role::Iv | Role::Draft => return Ok(None),
            Role::Conf if self.is_root => return Ok(None),
            Role::Entry | Role::Conf if stored.len() > names.long_max() => {
                return Err(NoName::Damaged("it is longer than names of this volume can be".into()));
            }
            Role::Entry | Role::Conf => Cow::Borrowed(stored),
            Role::Long => match side_of(stored).and_then(|side| read_side(self.inner.as_ref(), &side)) {
                Ok(full) if names.hashed(&full) == stored => Cow::Owned(full),
                Ok(_) => return Err(NoName::Damaged("what is in its .name file does not belong to it".into())),
                Err(Errno::ENOENT) => return self.nameless(stored),
                Err(errno) => return Err(NoName::Storage(errno)),
            },
        };
        if matches!(full, Cow::Owned(_)) && full.len() <= names.long_max() {
            return Err(NoName::Damaged("its name is too short for a .name file".into()));
        }
        let plain = names.decode(iv, &full).map_err(|damage| NoName::Damaged(damage.to_string()))?;
        Name::new(&plain).map(Some).map_err(|_| NoName::Damaged("it is no name".into()))
    }

    /// A long name without its side file: it may be gone by now, or on its way.
    fn nameless(&self, stored: &[u8]) -> std::result::Result<Option<Name>, NoName> {
        let name = Name::new(stored).map_err(NoName::Storage)?;
        match self.inner.stat(Some(&name)) {
            Ok(None) => Ok(None),
            Ok(Some(_)) => Err(NoName::Damaged("its .name file is missing".into())),
            Err(errno) => Err(NoName::Storage(errno)),
        }
    }
}

/// Why there is no plaintext of a name.
#[derive(Debug)]
pub(super) enum NoName {
    /// The storage could not be read.
    Storage(Errno),
    /// The name is damaged or forged.
    Damaged(String),
}

impl NoName {
    /// What a program is told.
    pub(super) fn errno(&self) -> Errno {
        match self {
            NoName::Storage(errno) => *errno,
            NoName::Damaged(_) => Errno::EIO,
        }
    }
}

impl std::fmt::Display for NoName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoName::Storage(errno) => write!(f, "its name cannot be read: {errno}"),
            NoName::Damaged(why) => write!(f, "it has no valid name: {why}"),
        }
    }
}
