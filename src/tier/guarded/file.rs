//! Files behind a guard.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::Guard;
use super::dir::behind;
use crate::tier::{Dir, File, Open, SetXattr};
use crate::types::attr::{SetAttr, Stat};
use crate::types::errno::Result;
use crate::types::lease::Excludes;
use crate::types::name::Name;

/// A file of one instance of a tier.
#[derive(Debug)]
pub(super) struct GuardedFile {
    inner: Box<dyn File>,
    guard: Arc<Guard>,
}

impl GuardedFile {
    pub(super) fn new(inner: Box<dyn File>, guard: Arc<Guard>) -> GuardedFile {
        GuardedFile { inner, guard }
    }

    /// What cannot fail: nothing is done where the tier is gone.
    fn hint(&self, act: impl FnOnce()) {
        let _gone = self.guard.call(|| {
            act();
            Ok(())
        });
    }
}

impl File for GuardedFile {
    fn stat(&self) -> Result<Stat> {
        self.guard.call(|| self.inner.stat())
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        self.guard.call(|| self.inner.set_attr(change))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.guard.call(|| self.inner.read_at(buffer, offset))
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        self.guard.call(|| self.inner.write_at(data, offset))
    }

    fn append(&self, data: &[u8]) -> Result<usize> {
        self.guard.call(|| self.inner.append(data))
    }

    fn fsync(&self, data_only: bool) -> Result<()> {
        self.guard.call(|| self.inner.fsync(data_only))
    }

    fn settle(&self) -> Result<()> {
        self.guard.call(|| self.inner.settle())
    }

    fn allocate(&self, mode: i32, offset: u64, length: u64) -> Result<()> {
        self.guard.call(|| self.inner.allocate(mode, offset, length))
    }

    fn seek(&self, offset: u64, whence: i32) -> Result<u64> {
        self.guard.call(|| self.inner.seek(offset, whence))
    }

    fn get_xattr(&self, key: &CStr) -> Result<Vec<u8>> {
        self.guard.call(|| self.inner.get_xattr(key))
    }

    fn set_xattr(&self, key: &CStr, value: &[u8], how: SetXattr) -> Result<()> {
        self.guard.call(|| self.inner.set_xattr(key, value, how))
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        self.guard.call(|| self.inner.list_xattr())
    }

    fn remove_xattr(&self, key: &CStr) -> Result<()> {
        self.guard.call(|| self.inner.remove_xattr(key))
    }

    fn backing(&self) -> Option<BorrowedFd<'_>> {
        // The kernel would go past the guard, and wait for a server as long as that takes.
        if self.guard.proof.is_none() && !self.guard.is_closed() { self.inner.backing() } else { None }
    }

    fn link_to(&self, to: &dyn Dir, new: &Name) -> Result<()> {
        let to = behind(&self.guard, to)?;
        self.guard.change(|| self.inner.link_to(to, new))
    }

    fn copy_to(&self, offset: u64, to: &dyn File, to_offset: u64, length: u64) -> Result<usize> {
        self.guard.call(|| self.inner.copy_to(offset, to, to_offset, length))
    }

    fn reopen(&self, how: Open) -> Result<Box<dyn File>> {
        let inner = self.guard.call(|| self.inner.reopen(how))?;
        Ok(Box::new(GuardedFile::new(inner, Arc::clone(&self.guard))))
    }

    fn is_written(&self) -> Result<bool> {
        self.guard.call(|| self.inner.is_written())
    }

    fn claim(&self, excludes: Excludes) -> Result<bool> {
        self.guard.call(|| self.inner.claim(excludes))
    }

    fn is_claimed(&self, excludes: Excludes) -> Result<bool> {
        self.guard.call(|| self.inner.is_claimed(excludes))
    }

    fn unclaim(&self) -> Result<()> {
        // Never refused: somebody may wait for the end of the claim.
        self.inner.unclaim()
    }

    fn drop_cache(&self) {
        self.hint(|| self.inner.drop_cache());
    }

    fn read_ahead(&self, length: u64) {
        self.hint(|| self.inner.read_ahead(length));
    }

    fn start_writing(&self, offset: u64, length: u64) {
        self.hint(|| self.inner.start_writing(offset, length));
    }

    fn flags(&self) -> Result<u32> {
        self.guard.call(|| self.inner.flags())
    }

    fn set_flags(&self, flags: u32) -> Result<()> {
        self.guard.call(|| self.inner.set_flags(flags))
    }

    fn fsxattr(&self) -> Result<[u8; 28]> {
        self.guard.call(|| self.inner.fsxattr())
    }
}
