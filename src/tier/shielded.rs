//! A tier behind which nothing can be changed, whatever is tried: for a view of what must stay as it
//! is, such as a backup.

use std::ffi::CStr;
use std::sync::Arc;

use super::read_only::{unchangeable_dir, unchangeable_file, unchangeable_tier};
use super::{Dir, File, Listed, Open, Tier};
use crate::types::attr::{Body, Space, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// Another tier, for reading only.
#[derive(Debug)]
pub struct ShieldedTier(Arc<dyn Tier>);

impl ShieldedTier {
    /// In front of `inner`.
    pub fn new(inner: Arc<dyn Tier>) -> ShieldedTier {
        ShieldedTier(inner)
    }
}

impl Tier for ShieldedTier {
    fn root(&self) -> Arc<dyn Dir> {
        Arc::new(ShieldedDir(self.0.root()))
    }

    fn space(&self) -> Result<Space> {
        self.0.space()
    }

    unchangeable_tier!();
}

#[derive(Debug)]
struct ShieldedDir(Arc<dyn Dir>);

impl Dir for ShieldedDir {
    fn stat(&self, name: Option<&Name>) -> Result<Option<Stat>> {
        self.0.stat(name)
    }

    fn open_dir(&self, name: &Name) -> Result<Arc<dyn Dir>> {
        Ok(Arc::new(ShieldedDir(self.0.open_dir(name)?)))
    }

    fn open(&self, name: &Name, how: Open) -> Result<Box<dyn File>> {
        only_reads(how)?;
        Ok(Box::new(ShieldedFile(self.0.open(name, how)?)))
    }

    fn readlink(&self, name: &Name) -> Result<Vec<u8>> {
        self.0.readlink(name)
    }

    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> Result<()> {
        self.0.list(each)
    }

    fn get_xattr(&self, name: Option<&Name>, key: &CStr) -> Result<Vec<u8>> {
        self.0.get_xattr(name, key)
    }

    fn list_xattr(&self, name: Option<&Name>) -> Result<Vec<u8>> {
        self.0.list_xattr(name)
    }

    unchangeable_dir!();
}

#[derive(Debug)]
struct ShieldedFile(Box<dyn File>);

impl File for ShieldedFile {
    fn stat(&self) -> Result<Stat> {
        self.0.stat()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn seek(&self, offset: u64, whence: i32) -> Result<u64> {
        self.0.seek(offset, whence)
    }

    fn get_xattr(&self, key: &CStr) -> Result<Vec<u8>> {
        self.0.get_xattr(key)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        self.0.list_xattr()
    }

    fn reopen(&self, how: Open) -> Result<Box<dyn File>> {
        only_reads(how)?;
        Ok(Box::new(ShieldedFile(self.0.reopen(how)?)))
    }

    unchangeable_file!();
}

/// EROFS for what writes.
pub(super) fn only_reads(how: Open) -> Result<()> {
    match how {
        Open::Hold | Open::Read | Open::ReadQuiet => Ok(()),
        Open::Write | Open::ReadWrite | Open::ReadWriteQuiet => Err(Errno::EROFS),
    }
}
