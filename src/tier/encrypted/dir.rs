//! A directory of an encrypted tier.

use std::any::Any;
use std::ffi::{CStr, OsStr};
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};

use super::Shared;
use super::file::{EncryptedFile, inner_how, open_lending};
use super::xattrs;
use crate::crypt::names::DirIv;
use crate::tier::{Dir, File, Listed, Open, Rename, SetXattr, Surveyed};
use crate::types::attr::{Kind, SetAttr, Stat};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// Longest target of a link in the storage, in bytes (`PATH_MAX` less its NUL, `linux/limits.h`).
const STORED_TARGET_MAX: usize = 4095;

#[derive(Debug)]
pub(super) struct EncryptedDir {
    pub(super) inner: Arc<dyn Dir>,
    pub(super) shared: Arc<Shared>,
    /// The IV, once it was needed.
    pub(super) iv: OnceLock<DirIv>,
    /// Whether this is the root of the volume, where its configuration is.
    pub(super) is_root: bool,
}

/// The other directory of a link or rename, which belongs to the same tier.
pub(super) fn same_kind(to: &dyn Dir) -> Result<&EncryptedDir> {
    to.as_any().downcast_ref().ok_or(Errno::EXDEV)
}

impl EncryptedDir {
    fn file(&self, inner: Box<dyn File>) -> EncryptedFile {
        EncryptedFile::new(inner, Arc::clone(&self.shared))
    }

    /// The name in the storage, `None` for the directory itself.
    fn stored(&self, name: Option<&Name>) -> Result<Option<Name>> {
        name.map(|name| self.entry(name).map(|entry| entry.name)).transpose()
    }

    /// The target of the link that is `stored`.
    fn target(&self, stored: &Name) -> Result<Vec<u8>> {
        let text = self.inner.readlink(stored)?;
        let volume = &self.shared.volume;
        if volume.names().is_plain() || text.is_empty() {
            return Ok(text);
        }
        let opened = volume.names().decode_target(&text).and_then(|sealed| volume.content().open_value(&sealed));
        opened.map_err(|damage| {
            let words = format!("the target of this link is damaged: {damage}");
            self.shared.teller.entry(self.inner.as_ref(), stored.as_bytes(), &words);
            Errno::EIO
        })
    }

    /// The length of a link's target, where the length of what is stored does not tell it.
    fn target_len(&self, stored: &Name, kind: Kind) -> Option<u64> {
        let asks = kind == Kind::Symlink && self.shared.hides_target_len();
        if asks { self.target(stored).ok().map(|target| target.len() as u64) } else { None }
    }
}

impl Dir for EncryptedDir {
    fn stat(&self, name: Option<&Name>) -> Result<Option<Stat>> {
        let stored = match self.stored(name) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        let Some(stat) = self.inner.stat(stored.as_ref())? else { return Ok(None) };
        let target_len = stored.as_ref().and_then(|stored| self.target_len(stored, stat.kind()));
        Ok(Some(self.shared.plain_stat(stat, target_len)))
    }

    fn open_dir(&self, name: &Name) -> Result<Arc<dyn Dir>> {
        let inner = self.inner.open_dir(&self.entry(name)?.name)?;
        Ok(Arc::new(EncryptedDir { inner, shared: Arc::clone(&self.shared), iv: OnceLock::new(), is_root: false }))
    }

    fn open(&self, name: &Name, how: Open) -> Result<Box<dyn File>> {
        let stored = self.entry(name)?.name;
        let inner =
            open_lending(how, &|how| self.inner.open(&stored, how), &|| self.inner.stat(Some(&stored)), &|change| {
                self.inner.set_attr(Some(&stored), change)
            })?;
        let mut file = self.file(inner);
        if how == Open::Hold && self.shared.hides_target_len() {
            file.target_len = self.target_len(&stored, file.kind()?);
        }
        Ok(Box::new(file))
    }

    fn create(&self, name: &Name, mode: u32, how: Open, by: &Caller) -> Result<Box<dyn File>> {
        let inner = self.make(name, |stored| self.inner.create(stored, mode, inner_how(how), by))?;
        Ok(Box::new(self.file(inner)))
    }

    fn mkdir(&self, name: &Name, mode: u32, by: &Caller) -> Result<()> {
        self.make_dir(name, mode, by)
    }

    fn mknod(&self, name: &Name, mode: u32, rdev: u64, by: &Caller) -> Result<()> {
        self.make(name, |stored| self.inner.mknod(stored, mode, rdev, by))
    }

    fn symlink(&self, name: &Name, target: &OsStr, by: &Caller) -> Result<()> {
        let volume = &self.shared.volume;
        if volume.names().is_plain() {
            return self.make(name, |stored| self.inner.symlink(stored, target, by));
        }
        let text = volume.names().encode_target(&volume.content().seal_value(target.as_bytes())?);
        if text.len() > STORED_TARGET_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.make(name, |stored| self.inner.symlink(stored, OsStr::from_bytes(&text), by))
    }

    fn readlink(&self, name: &Name) -> Result<Vec<u8>> {
        self.target(&self.entry(name)?.name)
    }

    fn link(&self, name: &Name, to: &dyn Dir, new: &Name) -> Result<()> {
        let (to, old) = (same_kind(to)?, self.entry(name)?);
        to.make(new, |stored| self.inner.link(&old.name, to.inner.as_ref(), stored))
    }

    fn unlink(&self, name: &Name) -> Result<()> {
        self.take(name, |stored| self.inner.unlink(stored))
    }

    fn rmdir(&self, name: &Name) -> Result<()> {
        self.remove_dir(name)
    }

    fn rename(&self, name: &Name, to: &dyn Dir, new: &Name, how: Rename) -> Result<()> {
        self.rename_entry(name, to, new, how)
    }

    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> Result<()> {
        self.list_entries(each)
    }

    fn survey(&self, each: &mut dyn FnMut(Surveyed<'_>) -> ControlFlow<()>) -> Result<()> {
        self.survey_entries(each)
    }

    fn set_attr(&self, name: Option<&Name>, change: &SetAttr) -> Result<()> {
        self.inner.set_attr(self.stored(name)?.as_ref(), change)
    }

    fn get_xattr(&self, name: Option<&Name>, key: &CStr) -> Result<Vec<u8>> {
        let stored = self.stored(name)?;
        let tell = |words: &str| self.tell_of(stored.as_ref(), words);
        xattrs::get(&self.shared, key, |key| self.inner.get_xattr(stored.as_ref(), key), &tell)
    }

    fn set_xattr(&self, name: Option<&Name>, key: &CStr, value: &[u8], how: SetXattr) -> Result<()> {
        let stored = self.stored(name)?;
        xattrs::set(&self.shared, key, value, |key, value| self.inner.set_xattr(stored.as_ref(), key, value, how))
    }

    fn list_xattr(&self, name: Option<&Name>) -> Result<Vec<u8>> {
        let stored = self.stored(name)?;
        let list = self.inner.list_xattr(stored.as_ref())?;
        Ok(xattrs::plain_list(&self.shared, &list, &|words| self.tell_of(stored.as_ref(), words)))
    }

    fn remove_xattr(&self, name: Option<&Name>, key: &CStr) -> Result<()> {
        let stored = self.stored(name)?;
        self.inner.remove_xattr(stored.as_ref(), &xattrs::stored_key(&self.shared, key)?)
    }

    fn fsync(&self) -> Result<()> {
        self.inner.fsync()
    }

    fn descriptor(&self) -> Result<OwnedFd> {
        self.inner.descriptor()
    }

    fn held(&self) -> Option<BorrowedFd<'_>> {
        self.inner.held()
    }

    fn as_file(&self) -> Result<Box<dyn File>> {
        Ok(Box::new(self.file(self.inner.as_file()?)))
    }

    fn list_damaged(&self, each: &mut dyn FnMut(&[u8], String)) -> Result<()> {
        self.damaged_entries(each)
    }

    fn stored_name(&self, name: &Name) -> Result<Vec<u8>> {
        Ok(self.entry(name)?.name.as_bytes().to_vec())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl EncryptedDir {
    fn tell_of(&self, stored: Option<&Name>, words: &str) {
        match stored {
            Some(stored) => self.shared.teller.entry(self.inner.as_ref(), stored.as_bytes(), words),
            None => self.shared.teller.dir(self.inner.as_ref(), words),
        }
    }
}
