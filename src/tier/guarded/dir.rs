//! Directories behind a guard.

use std::any::Any;
use std::ffi::{CStr, OsStr};
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::Guard;
use super::calls::{self, Inside};
use super::file::GuardedFile;
use crate::tier::read_only::unchangeable_dir;
use crate::tier::{Dir, File, Listed, Open, Rename, SetXattr, Surveyed};
use crate::types::attr::{SetAttr, Stat};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// A directory of one instance of a tier.
#[derive(Debug)]
pub(super) struct GuardedDir {
    inner: Arc<dyn Dir>,
    guard: Arc<Guard>,
    /// While it closes. Dropped after `inner`, which stands before it.
    closing: Option<Inside>,
}

impl GuardedDir {
    pub(super) fn new(inner: Arc<dyn Dir>, guard: Arc<Guard>) -> GuardedDir {
        GuardedDir { inner, guard, closing: None }
    }

    fn file(&self, inner: Box<dyn File>) -> Box<dyn File> {
        Box::new(GuardedFile::new(inner, Arc::clone(&self.guard)))
    }
}

/// The directory behind the guard, which must be this one: between two instances nothing is renamed.
pub(super) fn behind<'a>(guard: &Guard, dir: &'a dyn Dir) -> Result<&'a dyn Dir> {
    match dir.as_any().downcast_ref::<GuardedDir>() {
        Some(other) if other.guard.id() == guard.id() => Ok(other.inner.as_ref()),
        Some(_) => Err(Errno::EIO),
        None => Err(Errno::EXDEV),
    }
}

impl Drop for GuardedDir {
    fn drop(&mut self) {
        self.closing = self.guard.enter_to_close(|| Box::new(std::mem::replace(&mut self.inner, Arc::new(Gone))));
    }
}

impl Dir for GuardedDir {
    fn stat(&self, name: Option<&Name>) -> Result<Option<Stat>> {
        self.guard.look(|| self.inner.stat(name), Option::is_none)
    }

    fn open_dir(&self, name: &Name) -> Result<Arc<dyn Dir>> {
        let inner = self.guard.call(|| self.inner.open_dir(name))?;
        Ok(Arc::new(GuardedDir::new(inner, Arc::clone(&self.guard))))
    }

    fn open(&self, name: &Name, how: Open) -> Result<Box<dyn File>> {
        self.guard.call(|| self.inner.open(name, how)).map(|file| self.file(file))
    }

    fn create(&self, name: &Name, mode: u32, how: Open, by: &Caller) -> Result<Box<dyn File>> {
        self.guard.change(|| self.inner.create(name, mode, how, by)).map(|file| self.file(file))
    }

    fn mkdir(&self, name: &Name, mode: u32, by: &Caller) -> Result<()> {
        self.guard.change(|| self.inner.mkdir(name, mode, by))
    }

    fn mknod(&self, name: &Name, mode: u32, rdev: u64, by: &Caller) -> Result<()> {
        self.guard.change(|| self.inner.mknod(name, mode, rdev, by))
    }

    fn symlink(&self, name: &Name, target: &OsStr, by: &Caller) -> Result<()> {
        self.guard.change(|| self.inner.symlink(name, target, by))
    }

    fn readlink(&self, name: &Name) -> Result<Vec<u8>> {
        self.guard.call(|| self.inner.readlink(name))
    }

    fn link(&self, name: &Name, to: &dyn Dir, new: &Name) -> Result<()> {
        let to = behind(&self.guard, to)?;
        self.guard.change(|| self.inner.link(name, to, new))
    }

    fn unlink(&self, name: &Name) -> Result<()> {
        self.guard.change(|| self.inner.unlink(name))
    }

    fn rmdir(&self, name: &Name) -> Result<()> {
        self.guard.change(|| self.inner.rmdir(name))
    }

    fn rename(&self, name: &Name, to: &dyn Dir, new: &Name, how: Rename) -> Result<()> {
        let to = behind(&self.guard, to)?;
        self.guard.change(|| self.inner.rename(name, to, new, how))
    }

    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> Result<()> {
        self.guard.look(|| self.inner.list(each), |()| true)
    }

    fn survey(&self, each: &mut dyn FnMut(Surveyed<'_>) -> ControlFlow<()>) -> Result<()> {
        // Who is told may wait for others.
        let mut told = |found: Surveyed<'_>| calls::outside(|| each(found));
        self.guard.look(|| self.inner.survey(&mut told), |()| true)
    }

    fn set_attr(&self, name: Option<&Name>, change: &SetAttr) -> Result<()> {
        self.guard.call(|| self.inner.set_attr(name, change))
    }

    fn get_xattr(&self, name: Option<&Name>, key: &CStr) -> Result<Vec<u8>> {
        self.guard.call(|| self.inner.get_xattr(name, key))
    }

    fn set_xattr(&self, name: Option<&Name>, key: &CStr, value: &[u8], how: SetXattr) -> Result<()> {
        self.guard.call(|| self.inner.set_xattr(name, key, value, how))
    }

    fn list_xattr(&self, name: Option<&Name>) -> Result<Vec<u8>> {
        self.guard.call(|| self.inner.list_xattr(name))
    }

    fn remove_xattr(&self, name: Option<&Name>, key: &CStr) -> Result<()> {
        self.guard.call(|| self.inner.remove_xattr(name, key))
    }

    fn fsync(&self) -> Result<()> {
        self.guard.call(|| self.inner.fsync())
    }

    fn descriptor(&self) -> Result<OwnedFd> {
        self.guard.call(|| self.inner.descriptor())
    }

    fn held(&self) -> Option<BorrowedFd<'_>> {
        self.inner.held()
    }

    fn as_file(&self) -> Result<Box<dyn File>> {
        self.guard.call(|| self.inner.as_file()).map(|file| self.file(file))
    }

    fn stored_name(&self, name: &Name) -> Result<Vec<u8>> {
        self.guard.call(|| self.inner.stored_name(name))
    }

    fn list_damaged(&self, each: &mut dyn FnMut(&[u8], String)) -> Result<()> {
        self.guard.call(|| self.inner.list_damaged(each))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The root of a tier that is not there.
#[derive(Debug)]
pub(super) struct Gone;

impl Dir for Gone {
    fn stat(&self, _name: Option<&Name>) -> Result<Option<Stat>> {
        Err(Errno::EIO)
    }

    fn open_dir(&self, _name: &Name) -> Result<Arc<dyn Dir>> {
        Err(Errno::EIO)
    }

    fn open(&self, _name: &Name, _how: Open) -> Result<Box<dyn File>> {
        Err(Errno::EIO)
    }

    fn readlink(&self, _name: &Name) -> Result<Vec<u8>> {
        Err(Errno::EIO)
    }

    fn list(&self, _each: &mut dyn FnMut(Listed<'_>)) -> Result<()> {
        Err(Errno::EIO)
    }

    fn get_xattr(&self, _name: Option<&Name>, _key: &CStr) -> Result<Vec<u8>> {
        Err(Errno::EIO)
    }

    fn list_xattr(&self, _name: Option<&Name>) -> Result<Vec<u8>> {
        Err(Errno::EIO)
    }

    unchangeable_dir!();
}
