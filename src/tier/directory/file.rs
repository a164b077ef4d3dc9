//! An open or held file of a plain tier.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::bodies::Bodies;
use super::{same_kind, set_attr, set_xattr};
use crate::sys::at::{self, Flags};
use crate::sys::{io, lease, stat, xattr};
use crate::tier::{Dir, File, Open, SetXattr};
use crate::types::attr::{SetAttr, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::lease::Excludes;
use crate::types::name::Name;

#[derive(Debug)]
pub(super) struct DirectoryFile {
    pub(super) fd: OwnedFd,
    pub(super) bodies: Arc<Bodies>,
}

impl File for DirectoryFile {
    fn stat(&self) -> Result<Stat> {
        let raw = stat::statx(self.fd.as_fd(), None)?;
        Ok(self.bodies.stat(&raw, || stat::statfs(self.fd.as_fd()).map(|s| s.filesystem)))
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        if let Some(size) = change.size {
            io::truncate(self.fd.as_fd(), size)?;
        }
        set_attr(self.fd.as_fd(), None, change)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        io::read_at(self.fd.as_fd(), buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        io::write_at(self.fd.as_fd(), data, offset)
    }

    fn append(&self, data: &[u8]) -> Result<usize> {
        io::append(self.fd.as_fd(), data)
    }

    fn flush(&self) -> Result<()> {
        io::flush(self.fd.as_fd())
    }

    fn fsync(&self, data_only: bool) -> Result<()> {
        io::fsync(self.fd.as_fd(), data_only)
    }

    fn settle(&self) -> Result<()> {
        io::settle(self.fd.as_fd())
    }

    fn allocate(&self, mode: i32, offset: u64, length: u64) -> Result<()> {
        io::allocate(self.fd.as_fd(), mode, offset, length)
    }

    fn seek(&self, offset: u64, whence: i32) -> Result<u64> {
        io::seek(self.fd.as_fd(), offset, whence)
    }

    fn get_xattr(&self, key: &CStr) -> Result<Vec<u8>> {
        xattr::get(self.fd.as_fd(), None, key)
    }

    fn set_xattr(&self, key: &CStr, value: &[u8], how: SetXattr) -> Result<()> {
        set_xattr(self.fd.as_fd(), None, key, value, how)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        xattr::list(self.fd.as_fd(), None)
    }

    fn remove_xattr(&self, key: &CStr) -> Result<()> {
        xattr::remove(self.fd.as_fd(), None, key)
    }

    fn backing(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn link_to(&self, to: &dyn Dir, new: &Name) -> Result<()> {
        at::link_held(self.fd.as_fd(), same_kind(to)?.fd(), new.as_c_str())
    }

    fn copy_to(&self, offset: u64, to: &dyn File, to_offset: u64, length: u64) -> Result<usize> {
        let to = to.backing().ok_or(Errno::EXDEV)?;
        io::copy_range(self.fd.as_fd(), offset, to, to_offset, usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn reopen(&self, how: Open) -> Result<Box<dyn File>> {
        let fd = match at::reopen(self.fd.as_fd(), how.flags()) {
            Err(Errno::EPERM) if how == Open::ReadQuiet => at::reopen(self.fd.as_fd(), Flags::READ)?,
            // Somebody has a lease on it and is asked to let go: a program's open waits for that.
            Err(Errno::EAGAIN) if matches!(how, Open::Read | Open::Write | Open::ReadWrite) => {
                at::reopen(self.fd.as_fd(), how.flags().waiting())?
            }
            other => other?,
        };
        Ok(Box::new(DirectoryFile { fd, bodies: Arc::clone(&self.bodies) }))
    }

    fn is_written(&self) -> Result<bool> {
        lease::is_written(self.fd.as_fd())
    }

    fn claim(&self, excludes: Excludes) -> Result<bool> {
        lease::take(self.fd.as_fd(), excludes)
    }

    fn is_claimed(&self, excludes: Excludes) -> Result<bool> {
        lease::stands(self.fd.as_fd(), excludes)
    }

    fn unclaim(&self) -> Result<()> {
        lease::drop(self.fd.as_fd())
    }

    fn drop_cache(&self) {
        io::drop_cache(self.fd.as_fd());
    }

    fn read_ahead(&self, length: u64) {
        io::read_ahead(self.fd.as_fd(), length);
    }

    fn start_writing(&self, offset: u64, length: u64) {
        io::start_writing(self.fd.as_fd(), offset, length);
    }

    fn flags(&self) -> Result<u32> {
        io::get_flags(self.fd.as_fd())
    }

    fn set_flags(&self, flags: u32) -> Result<()> {
        io::set_flags(self.fd.as_fd(), flags)
    }

    fn fsxattr(&self) -> Result<[u8; 28]> {
        io::get_fsxattr(self.fd.as_fd())
    }
}
