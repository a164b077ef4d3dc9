//! Files of the view that the source has not, or has under another name.

use std::ffi::CStr;

use crate::tier::read_only::unchangeable_file;
use crate::tier::shielded::only_reads;
use crate::tier::{File, Open};
use crate::types::attr::{Body, Kind, Stat, Time};
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// 2000-01-01. What a fixed file holds follows from its path and the key: it never changes, so neither does
/// its time, and no program that mirrors the view copies it a second time.
const MADE: Time = Time { sec: 946_684_800, nsec: 0 };

/// Bytes that follow from a path: `gocryptfs.diriv` and the whole of a long name.
#[derive(Debug, Clone)]
pub(super) struct Fixed {
    bytes: Vec<u8>,
    stat: Stat,
}

impl Fixed {
    /// With the number `body`, of the owner of `beside`.
    pub(super) fn new(bytes: Vec<u8>, body: Body, beside: &Stat) -> Fixed {
        let stat = Stat {
            body,
            generation: 0,
            mode: Kind::File.mode() | 0o444,
            nlink: 1,
            rdev: 0,
            size: bytes.len() as u64,
            blocks: 1,
            blksize: 4096,
            atime: MADE,
            mtime: MADE,
            ctime: MADE,
            ..*beside
        };
        Fixed { bytes, stat }
    }

    pub(super) fn attributes(&self) -> Stat {
        self.stat
    }
}

impl File for Fixed {
    fn stat(&self) -> Result<Stat> {
        Ok(self.stat)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.bytes.get(from..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn seek(&self, offset: u64, whence: i32) -> Result<u64> {
        seek_without_holes(self.stat.size, offset, whence)
    }

    fn get_xattr(&self, _key: &CStr) -> Result<Vec<u8>> {
        Err(Errno::ENODATA)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn reopen(&self, how: Open) -> Result<Box<dyn File>> {
        only_reads(how)?;
        Ok(Box::new(self.clone()))
    }

    unchangeable_file!();
}

/// The configuration file, as it is, under a number of the view's own.
#[derive(Debug)]
pub(super) struct Conf {
    inner: Box<dyn File>,
    body: Body,
}

impl Conf {
    pub(super) fn new(inner: Box<dyn File>, body: Body) -> Conf {
        Conf { inner, body }
    }

    pub(super) fn shown(stat: Stat, body: Body) -> Stat {
        Stat { body, generation: 0, nlink: 1, ..stat }
    }
}

impl File for Conf {
    fn stat(&self) -> Result<Stat> {
        Ok(Conf::shown(self.inner.stat()?, self.body))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn seek(&self, offset: u64, whence: i32) -> Result<u64> {
        self.inner.seek(offset, whence)
    }

    fn get_xattr(&self, _key: &CStr) -> Result<Vec<u8>> {
        Err(Errno::ENODATA)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn reopen(&self, how: Open) -> Result<Box<dyn File>> {
        only_reads(how)?;
        Ok(Box::new(Conf { inner: self.inner.reopen(how)?, body: self.body }))
    }

    unchangeable_file!();
}

/// SEEK_DATA and SEEK_HOLE of `lseek(2)` in a file of `size` bytes that is all data: the ciphertext
/// of zeros is none.
pub(super) fn seek_without_holes(size: u64, offset: u64, whence: i32) -> Result<u64> {
    const SEEK_DATA: i32 = 3;
    const SEEK_HOLE: i32 = 4;
    match whence {
        SEEK_DATA | SEEK_HOLE if offset >= size => Err(Errno::ENXIO),
        SEEK_DATA => Ok(offset),
        SEEK_HOLE => Ok(size),
        _ => Err(Errno::EINVAL),
    }
}
