//! The IV of a directory: 16 bytes that make its names different from those of other directories.
//!
//! It never changes while the directory is there, so it is read once for each handle. A directory that has
//! lost it has lost all its names; only where nothing is in it, is it given a new one, by the first who puts
//! something there.

use std::ops::ControlFlow;

use super::dir::EncryptedDir;
use super::names::{Role, draft, role};
use crate::crypt::Damage;
use crate::crypt::names::{DIRIV_NAME, DirIv};
use crate::tier::{Dir, Open, Rename};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// Length in bytes.
const IV_LEN: usize = 16;

/// What a directory has for an IV.
enum Present {
    Whole(DirIv),
    /// Nothing, or an empty file: a crash can leave both.
    Missing,
    /// Something else.
    Damaged(Damage),
}

pub(super) fn iv_name() -> Result<Name> {
    Name::new(DIRIV_NAME.as_bytes())
}

fn read(inner: &dyn Dir) -> Result<Present> {
    read_from(inner, &iv_name()?)
}

fn read_from(inner: &dyn Dir, name: &Name) -> Result<Present> {
    let file = match inner.open(name, Open::ReadQuiet) {
        Err(Errno::ENOENT) => return Ok(Present::Missing),
        other => other?,
    };
    let mut bytes = [0; IV_LEN + 1];
    let len = file.read_at(&mut bytes, 0)?;
    if len == 0 {
        return Ok(Present::Missing);
    }
    Ok(DirIv::parse(&bytes[..len]).map_or_else(Present::Damaged, Present::Whole))
}

/// The IV of a directory, where it is whole. Changes and tells nothing.
pub(super) fn peek(dir: &EncryptedDir) -> Option<DirIv> {
    if !dir.shared.volume.names().has_dir_ivs() {
        return Some(DirIv::ZERO);
    }
    match read(dir.inner.as_ref()) {
        Ok(Present::Whole(iv)) => Some(iv),
        _ => None,
    }
}

/// Gives a directory an IV, which is on the disk before a name that the directory gets afterwards.
///
/// # Errors
/// EEXIST; what the storage says. There is none then.
pub(super) fn give(inner: &dyn Dir, by: &Caller) -> Result<DirIv> {
    let iv = DirIv::random()?;
    write(inner, iv, by)?;
    Ok(iv)
}

/// Gives `inner` the IV that is in the file `name` of `from`.
///
/// # Errors
/// ENOENT where there is none whole; as [`give`].
pub(super) fn copy(from: &dyn Dir, name: &Name, inner: &dyn Dir) -> Result<()> {
    match read_from(from, name)? {
        Present::Whole(iv) => write(inner, iv, &Caller::DAEMON),
        Present::Missing | Present::Damaged(_) => Err(Errno::ENOENT),
    }
}

fn write(inner: &dyn Dir, iv: DirIv, by: &Caller) -> Result<()> {
    let name = iv_name()?;
    let file = inner.create(&name, 0o444, Open::ReadWrite, &Caller { umask: 0, ..*by })?;
    let written = file.write_at(&iv.0, 0).and_then(|len| if len < IV_LEN { Err(Errno::ENOSPC) } else { Ok(()) });
    written.and_then(|()| file.settle()).inspect_err(|_| {
        if let Err(why) = inner.unlink(&name) {
            tracing::debug!("half an IV stays behind: {why}");
        }
    })
}

/// What of a directory's contents is in the way of nothing: side files without an entry, drafts. The root of a
/// volume has its configuration besides.
///
/// # Errors
/// ENOTEMPTY if there is any entry; what listing says.
pub(super) fn leavings(inner: &dyn Dir, is_root: bool) -> Result<Vec<Name>> {
    let (mut leavings, mut is_empty) = (Vec::new(), true);
    inner.survey(&mut |found| match role(found.name) {
        Role::Iv => ControlFlow::Continue(()),
        Role::Conf if is_root => ControlFlow::Continue(()),
        Role::Side | Role::Draft => {
            leavings.extend(Name::new(found.name));
            ControlFlow::Continue(())
        }
        Role::Entry | Role::Long | Role::Conf => {
            is_empty = false;
            ControlFlow::Break(())
        }
    })?;
    if is_empty { Ok(leavings) } else { Err(Errno::ENOTEMPTY) }
}

/// Removes a draft, file or directory.
pub(super) fn remove_draft(inner: &dyn Dir, draft: &Name) -> Result<()> {
    match inner.unlink(draft) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        other => return other,
    }
    let dir = inner.open_dir(draft)?;
    match dir.unlink(&iv_name()?) {
        Ok(()) | Err(Errno::ENOENT) => inner.rmdir(draft),
        other => other,
    }
}

impl EncryptedDir {
    /// The IV, to look at what is there; `None` where nothing is and no IV either. That changes nothing: who
    /// looks may be another process than the one that serves the tier, and just now removes the directory.
    ///
    /// # Errors
    /// EIO if the names of entries are lost; ENOENT if the directory itself is gone; what the storage says.
    pub(super) fn iv(&self) -> Result<Option<DirIv>> {
        if !self.shared.volume.names().has_dir_ivs() {
            return Ok(Some(DirIv::ZERO));
        }
        if let Some(iv) = self.iv.get() {
            return Ok(Some(*iv));
        }
        if let Some(iv) = self.read_iv()? {
            return Ok(Some(iv));
        }
        match leavings(self.inner.as_ref(), self.is_root) {
            Ok(_) => Ok(None),
            // It may have got one meanwhile, and then entries.
            Err(Errno::ENOTEMPTY) => self.read_iv()?.map(Some).ok_or_else(|| self.lost_iv()),
            Err(other) => Err(other),
        }
    }

    /// The IV, to put an entry there.
    ///
    /// # Errors
    /// As [`EncryptedDir::iv`]; what making an IV says.
    pub(super) fn iv_to_enter(&self) -> Result<DirIv> {
        match self.iv()? {
            Some(iv) => Ok(iv),
            None => self.mend().map(|iv| *self.iv.get_or_init(|| iv)),
        }
    }

    /// The IV as it is on the disk; `None` if there is none.
    fn read_iv(&self) -> Result<Option<DirIv>> {
        match read(self.inner.as_ref())? {
            Present::Whole(iv) => Ok(Some(*self.iv.get_or_init(|| iv))),
            Present::Missing => Ok(None),
            Present::Damaged(damage) => Err(self.no_iv(&damage.to_string())),
        }
    }

    fn lost_iv(&self) -> Errno {
        self.no_iv(&format!("{DIRIV_NAME} is missing or empty"))
    }

    fn no_iv(&self, why: &str) -> Errno {
        let words = format!("no name in this directory can be read: {why}. Restore that file from a backup");
        self.shared.teller.dir(self.inner.as_ref(), &words);
        Errno::EIO
    }

    /// Gives the directory an IV if nothing is in it: it lost its own in a crash when it was made or removed.
    fn mend(&self) -> Result<DirIv> {
        let alone = self.shared.emptying.write();
        // It may have been on its way out of a directory that could not be removed after all.
        if let Present::Whole(iv) = read(self.inner.as_ref())? {
            return Ok(iv);
        }
        match leavings(self.inner.as_ref(), self.is_root) {
            Ok(_) => {}
            Err(Errno::ENOTEMPTY) => {
                drop(alone);
                return Err(self.lost_iv());
            }
            Err(other) => return Err(other),
        }
        let name = iv_name()?;
        let iv = match give(self.inner.as_ref(), &Caller::DAEMON) {
            Err(Errno::EEXIST) => {
                // An empty file: it goes, and nobody misses it.
                let aside = draft()?;
                self.inner.rename(&name, self.inner.as_ref(), &aside, Rename::Replace)?;
                let iv = give(self.inner.as_ref(), &Caller::DAEMON)?;
                self.drop_side(&aside);
                iv
            }
            other => other?,
        };
        tracing::debug!("an empty directory without {DIRIV_NAME} got one");
        Ok(iv)
    }
}
