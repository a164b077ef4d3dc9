//! Room, holes and where they are: `fallocate(2)` and `lseek(2)` in blocks of ciphertext.

use super::blocks::{BLOCK_LEN, Blocks};
use super::room::{KEEP_SIZE, SEEK_DATA, SEEK_HOLE};
use crate::crypt::layout::{BLOCK, Layout};
use crate::types::errno::{Errno, Result};

/// `FALLOC_FL_PUNCH_HOLE` of `fallocate(2)`.
const PUNCH_HOLE: i32 = 2;
/// `FALLOC_FL_ZERO_RANGE`.
const ZERO_RANGE: i32 = 16;

impl Blocks<'_> {
    /// `fallocate(2)` on plaintext. The lock of the body is held alone.
    ///
    /// # Errors
    /// EOPNOTSUPP for what would move bytes from block to block; EINVAL; what the storage says.
    pub(super) fn allocate(&self, mode: i32, offset: u64, length: u64) -> Result<()> {
        let end = offset.checked_add(length).filter(|end| *end <= Layout::PLAIN_MAX).ok_or(Errno::EFBIG)?;
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        let size = self.layout().plain_size(self.inner.stat()?.size);
        match mode & !KEEP_SIZE {
            0 => self.reserve(offset, end)?,
            PUNCH_HOLE if mode & KEEP_SIZE != 0 => self.zero(offset, end.min(size), PUNCH_HOLE)?,
            PUNCH_HOLE => return Err(Errno::EOPNOTSUPP),
            ZERO_RANGE => self.zero(offset, end.min(size), ZERO_RANGE)?,
            _ => return Err(Errno::EOPNOTSUPP),
        }
        if mode & ZERO_RANGE != 0 && end > size {
            self.reserve(offset.max(size), end)?;
        }
        if mode & (KEEP_SIZE | PUNCH_HOLE) == 0 && end > size { self.resize(end) } else { Ok(()) }
    }

    fn reserve(&self, offset: u64, end: u64) -> Result<()> {
        let first = offset / BLOCK_LEN;
        let from = if first == 0 { 0 } else { self.layout().start(first) };
        let until = self.layout().cipher_size(end);
        self.inner.allocate(KEEP_SIZE, from, until.saturating_sub(from).max(1))
    }

    /// Makes zeros of what is between two places in the file: whole blocks become holes of the storage, the
    /// rest is written.
    fn zero(&self, offset: u64, end: u64, how: i32) -> Result<()> {
        if offset >= end {
            return Ok(());
        }
        let (first, until) = (offset.div_ceil(BLOCK_LEN), end / BLOCK_LEN);
        if first < until {
            let (from, to) = (self.layout().start(first), self.layout().start(until));
            self.inner.allocate(how | KEEP_SIZE, from, to - from)?;
        }
        let edges = if first < until {
            [(offset, first * BLOCK_LEN), (until * BLOCK_LEN, end)]
        } else {
            // Within one block, or two.
            let middle = (first * BLOCK_LEN).clamp(offset, end);
            [(offset, middle), (middle, end)]
        };
        for (from, to) in edges {
            if from < to {
                let len = usize::try_from(to - from).unwrap_or(BLOCK).min(BLOCK);
                self.write(&[0; BLOCK][..len], Some(from))?;
            }
        }
        Ok(())
    }

    /// `lseek(2)`. Only what is a hole in whole blocks is one.
    pub(super) fn seek(&self, offset: u64, whence: i32) -> Result<u64> {
        let cipher_size = self.inner.stat()?.size;
        let size = self.layout().plain_size(cipher_size);
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let from = self.layout().start(offset / BLOCK_LEN);
        match whence {
            SEEK_DATA => {
                let at = offset.max(self.next_data(from, cipher_size)? * BLOCK_LEN);
                if at < size { Ok(at) } else { Err(Errno::ENXIO) }
            }
            SEEK_HOLE => {
                Ok(self.next_hole(from, cipher_size)?.map_or(size, |block| offset.max(block * BLOCK_LEN)).min(size))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// The first block from place `from` of the ciphertext on that is no hole.
    fn next_data(&self, from: u64, size: u64) -> Result<u64> {
        let mut at = from;
        loop {
            let block = self.layout().block_at(self.inner.seek(at, SEEK_DATA)?);
            if !self.is_zero(block, size)? {
                return Ok(block);
            }
            at = self.layout().start(block + 1);
        }
    }

    /// Whether a whole block is zeros: at the edge of data it shares a page of the storage with another block,
    /// so where data is does not tell. Taken for data, a sparse file would gain some at each move.
    fn is_zero(&self, block: u64, size: u64) -> Result<bool> {
        let (start, end) = (self.layout().start(block), self.layout().start(block + 1));
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        Ok(end <= size && self.inner.read_at(&mut bytes, start)? == bytes.len() && bytes.iter().all(|byte| *byte == 0))
    }

    /// The first block from place `from` of the ciphertext on that is a hole as a whole.
    fn next_hole(&self, from: u64, size: u64) -> Result<Option<u64>> {
        let layout = self.layout();
        let mut at = from;
        loop {
            let hole = self.inner.seek(at, SEEK_HOLE)?;
            let block = layout.block_at(hole) + u64::from(layout.start(layout.block_at(hole)) < hole);
            let (start, end) = (layout.start(block), layout.start(block + 1));
            // The block before ends in the hole and begins beside data.
            if block > layout.block_at(from) && self.is_zero(block - 1, size)? {
                return Ok(Some(block - 1));
            }
            if end > size {
                return Ok(None);
            }
            match self.inner.seek(start, SEEK_DATA) {
                Ok(data) if data < end => at = data,
                Ok(_) | Err(Errno::ENXIO) => return Ok(Some(block)),
                Err(other) => return Err(other),
            }
        }
    }
}
