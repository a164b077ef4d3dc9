//! What stays of a file if the storage runs out of room in the middle of a change: all that was there.

use std::ops::RangeInclusive;

use super::blocks::{Blocks, RUN};
use crate::crypt::layout::HEADER;
use crate::types::attr::{SetAttr, Stat};
use crate::types::errno::{Errno, Result};

/// `FALLOC_FL_KEEP_SIZE` of `fallocate(2)`.
pub(super) const KEEP_SIZE: i32 = 1;
/// `SEEK_DATA` of `lseek(2)`.
pub(super) const SEEK_DATA: i32 = 3;
/// `SEEK_HOLE`.
pub(super) const SEEK_HOLE: i32 = 4;

/// Bytes in the unit of [`Stat::blocks`].
const SPACE_UNIT: u64 = 512;

/// A file before it is changed at and behind its end.
pub(super) struct Before {
    /// Bytes of ciphertext.
    pub(super) size: u64,
    /// Ciphertext of the last block, with the number of it, if that is to be written over.
    tail: Option<(u64, Vec<u8>)>,
}

/// How far a write came before it failed.
pub(super) struct Failed {
    /// Bytes of ciphertext that were written, counted from the beginning of the file.
    pub(super) until: u64,
    pub(super) errno: Errno,
}

impl Blocks<'_> {
    /// Remembers the last block of a file of `size` bytes of ciphertext if it is a short one among `touched`.
    pub(super) fn before(&self, size: u64, touched: RangeInclusive<u64>) -> Result<Before> {
        let last = self.layout().block_at(size);
        let is_short = size > HEADER as u64 && self.layout().start(last) < size;
        let saved = is_short && touched.contains(&last);
        let tail = if saved { Some((last, self.read_sealed(last, size)?)) } else { None };
        Ok(Before { size, tail })
    }

    /// Makes the end of the file what it was.
    pub(super) fn put_back(&self, before: &Before) {
        let tail = match &before.tail {
            Some((block, sealed)) => self.put(sealed, self.layout().start(*block)).map_err(|failed| failed.errno),
            None => Ok(()),
        };
        let cut = self.set_inner_size(before.size);
        if let Err(errno) = tail.and(cut) {
            self.teller.file(self.inner, &format!("its end is damaged by a write that failed: {errno}"));
        }
    }

    pub(super) fn set_inner_size(&self, size: u64) -> Result<()> {
        self.inner.set_attr(&SetAttr { size: Some(size), ..SetAttr::default() })
    }

    /// Writes all of `sealed` at `at` (bytes).
    pub(super) fn put(&self, sealed: &[u8], at: u64) -> std::result::Result<(), Failed> {
        let mut done = 0;
        while done < sealed.len() {
            let until = at + done as u64;
            match self.inner.write_at(&sealed[done..], until) {
                Ok(0) => return Err(Failed { until, errno: Errno::ENOSPC }),
                // Short: the next attempt tells why.
                Ok(len) => done += len,
                Err(errno) => return Err(Failed { until, errno }),
            }
        }
        Ok(())
    }

    /// Makes sure that a hole in the ciphertext from block `first` on can be filled, so that a write over it
    /// does not end in the middle of a block.
    ///
    /// # Errors
    /// ENOSPC, EDQUOT: nothing has changed then.
    pub(super) fn reserve_holes(&self, stat: &Stat, first: u64, until: u64) -> Result<()> {
        let is_sparse = stat.blocks.saturating_mul(SPACE_UNIT) < stat.size;
        let (from, until) = (self.layout().start(first), until.min(stat.size));
        if !is_sparse || stat.size < self.layout().start(1) || from >= until {
            return Ok(());
        }
        match self.inner.seek(from, SEEK_HOLE) {
            Ok(hole) if hole >= until => return Ok(()),
            Ok(_) | Err(_) => {}
        }
        match self.inner.allocate(KEEP_SIZE, from, until - from) {
            Err(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => Err(errno),
            // A filesystem that cannot promise room has to do without.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A write over old blocks ended at `until`, in the middle of one: what is left of that decides. The rest
    /// of a hole is all zeros, so that it can be one again; other blocks are tried to be finished.
    pub(super) fn heal(&self, until: u64, sealed: &[u8], sealed_at: u64) {
        let block = self.layout().block_at(until);
        let (start, end) = (self.layout().start(block), self.layout().start(block + 1));
        if start == until {
            return;
        }
        let len = |bytes: u64| usize::try_from(bytes).unwrap_or(0);
        let mut rest = vec![0; len(end - until)];
        let is_hole = self.inner.read_at(&mut rest, until).is_ok_and(|got| rest[..got].iter().all(|byte| *byte == 0));
        let healed = if is_hole {
            self.put(&vec![0; len(until - start)], start)
        } else {
            let from = len(until - sealed_at).min(sealed.len());
            let to = len(end - sealed_at).min(sealed.len());
            self.put(&sealed[from..to], until)
        };
        if let Err(failed) = healed {
            let words = format!("block {block} is damaged by a write that failed: {}", failed.errno);
            self.teller.file(self.inner, &words);
        }
    }
}

/// Bytes of ciphertext that a run takes at most.
pub(super) fn run_len(block_len: u64) -> usize {
    usize::try_from(RUN * block_len).unwrap_or(0) + HEADER
}
