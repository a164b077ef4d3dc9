//! Files behind a guard.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::Guard;
use super::calls::Inside;
use super::dir::behind;
use crate::tier::{Dir, File, Open, SetXattr};
use crate::types::attr::{SetAttr, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::lease::Excludes;
use crate::types::name::Name;

/// A file of one instance of a tier.
#[derive(Debug)]
pub(super) struct GuardedFile {
    /// Until it is closed.
    inner: Option<Box<dyn File>>,
    guard: Arc<Guard>,
    /// While it closes. Dropped after `inner`, which stands before it.
    closing: Option<Inside>,
}

impl GuardedFile {
    pub(super) fn new(inner: Box<dyn File>, guard: Arc<Guard>) -> GuardedFile {
        GuardedFile { inner: Some(inner), guard, closing: None }
    }

    fn call<T>(&self, act: impl FnOnce(&dyn File) -> Result<T>) -> Result<T> {
        let inner = self.inner.as_deref().ok_or(Errno::EIO)?;
        self.guard.call(|| act(inner))
    }

    /// What cannot fail: nothing is done where the tier is gone.
    fn hint(&self, act: impl FnOnce(&dyn File)) {
        let _gone = self.call(|file| {
            act(file);
            Ok(())
        });
    }
}

impl Drop for GuardedFile {
    fn drop(&mut self) {
        self.closing = self.guard.enter_to_close(|| Box::new(self.inner.take()));
    }
}

impl File for GuardedFile {
    fn stat(&self) -> Result<Stat> {
        self.call(|file| file.stat())
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        self.call(|file| file.set_attr(change))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.call(|file| file.read_at(buffer, offset))
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        self.call(|file| file.write_at(data, offset))
    }

    fn append(&self, data: &[u8]) -> Result<usize> {
        self.call(|file| file.append(data))
    }

    fn flush(&self) -> Result<()> {
        if self.guard.proof.is_some() { self.call(|file| file.flush()) } else { Ok(()) }
    }

    fn fsync(&self, data_only: bool) -> Result<()> {
        self.call(|file| file.fsync(data_only))
    }

    fn settle(&self) -> Result<()> {
        self.call(|file| file.settle())
    }

    fn allocate(&self, mode: i32, offset: u64, length: u64) -> Result<()> {
        self.call(|file| file.allocate(mode, offset, length))
    }

    fn seek(&self, offset: u64, whence: i32) -> Result<u64> {
        self.call(|file| file.seek(offset, whence))
    }

    fn get_xattr(&self, key: &CStr) -> Result<Vec<u8>> {
        self.call(|file| file.get_xattr(key))
    }

    fn set_xattr(&self, key: &CStr, value: &[u8], how: SetXattr) -> Result<()> {
        self.call(|file| file.set_xattr(key, value, how))
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        self.call(|file| file.list_xattr())
    }

    fn remove_xattr(&self, key: &CStr) -> Result<()> {
        self.call(|file| file.remove_xattr(key))
    }

    fn backing(&self) -> Option<BorrowedFd<'_>> {
        // The kernel would go past the guard, and wait for a server as long as that takes.
        let inner = self.inner.as_ref().filter(|_| self.guard.proof.is_none() && !self.guard.is_closed())?;
        inner.backing()
    }

    fn link_to(&self, to: &dyn Dir, new: &Name) -> Result<()> {
        let to = behind(&self.guard, to)?;
        let inner = self.inner.as_deref().ok_or(Errno::EIO)?;
        self.guard.change(|| inner.link_to(to, new))
    }

    fn copy_to(&self, offset: u64, to: &dyn File, to_offset: u64, length: u64) -> Result<usize> {
        self.call(|file| file.copy_to(offset, to, to_offset, length))
    }

    fn reopen(&self, how: Open) -> Result<Box<dyn File>> {
        let inner = self.call(|file| file.reopen(how))?;
        Ok(Box::new(GuardedFile::new(inner, Arc::clone(&self.guard))))
    }

    fn is_written(&self) -> Result<bool> {
        self.call(|file| file.is_written())
    }

    fn claim(&self, excludes: Excludes) -> Result<bool> {
        self.call(|file| file.claim(excludes))
    }

    fn is_claimed(&self, excludes: Excludes) -> Result<bool> {
        self.call(|file| file.is_claimed(excludes))
    }

    fn unclaim(&self) -> Result<()> {
        // Never refused: somebody may wait for the end of the claim.
        self.inner.as_ref().map_or(Ok(()), |file| file.unclaim())
    }

    fn drop_cache(&self) {
        self.hint(|file| file.drop_cache());
    }

    fn read_ahead(&self, length: u64) {
        self.hint(|file| file.read_ahead(length));
    }

    fn start_writing(&self, offset: u64, length: u64) {
        self.hint(|file| file.start_writing(offset, length));
    }

    fn flags(&self) -> Result<u32> {
        self.call(|file| file.flags())
    }

    fn set_flags(&self, flags: u32) -> Result<()> {
        self.call(|file| file.set_flags(flags))
    }

    fn fsxattr(&self) -> Result<[u8; 28]> {
        self.call(|file| file.fsxattr())
    }
}
