//! Writing: whole blocks are sealed from the caller's bytes, those at the edges from what was there and them.

use super::blocks::{BLOCK_LEN, Blocks, Header, RUN, with_room};
use super::room::{Before, Failed, run_len};
use crate::crypt::layout::{BLOCK, FileId, HEADER, Layout};
use crate::types::errno::{Errno, Result};

/// One write.
struct Write<'a> {
    id: FileId,
    /// Whether the header is still to be written.
    is_new: bool,
    /// Bytes of plaintext and of ciphertext before.
    old: u64,
    old_size: u64,
    data: &'a [u8],
    offset: u64,
    /// The plaintext of the first and of the last block, where `data` is not all of it.
    edges: [Option<(u64, [u8; BLOCK])>; 2],
}

impl Write<'_> {
    fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }

    fn first(&self) -> u64 {
        self.offset / BLOCK_LEN
    }

    fn last(&self) -> u64 {
        (self.end() - 1) / BLOCK_LEN
    }

    /// Bytes of plaintext that block `block` has afterwards.
    fn len_of(&self, block: u64) -> usize {
        let len = self.old.max(self.end()).saturating_sub(block * BLOCK_LEN).min(BLOCK_LEN);
        usize::try_from(len).unwrap_or(BLOCK)
    }

    /// What of `data` lies between two places in the file.
    fn part(&self, from: u64, until: u64) -> &[u8] {
        let index = |at: u64| usize::try_from(at.clamp(self.offset, self.end()) - self.offset).unwrap_or(0);
        &self.data[index(from)..index(until)]
    }

    /// Whether all that block `block` has afterwards is in `data`.
    fn covers(&self, block: u64) -> bool {
        let start = block * BLOCK_LEN;
        self.offset <= start && start + self.len_of(block) as u64 <= self.end()
    }

    fn edge(&self, block: u64) -> &[u8] {
        let edge = self.edges.iter().flatten().find(|(number, _)| *number == block);
        edge.map_or(&[], |(_, plain)| &plain[..self.len_of(block)])
    }
}

impl Blocks<'_> {
    /// Writes `data` at `offset`, or at the end of the file. The lock of the body is held alone.
    pub(super) fn write(&self, data: &[u8], offset: Option<u64>) -> Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let stat = self.inner.stat()?;
        let old = self.layout().plain_size(stat.size);
        let offset = offset.unwrap_or(old);
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > Layout::PLAIN_MAX) {
            return Err(Errno::EFBIG);
        }
        let (id, is_new) = self.id_to_write(old)?;
        let mut write = Write { id, is_new, old, old_size: stat.size, data, offset, edges: [None, None] };
        let (first, last) = (write.first(), write.last());
        write.edges = [self.edge(&write, first)?, if last > first { self.edge(&write, last)? } else { None }];
        let before = self.before(stat.size, first.min(old / BLOCK_LEN)..=last)?;
        self.reserve_holes(&stat, first, self.layout().start(last + 1))?;
        if let Err(errno) = self.lead(&write) {
            self.put_back(&before);
            return Err(errno);
        }
        let mut block = first;
        while block <= last {
            let until = block.saturating_add(RUN).min(last + 1);
            if let Err(failed) = self.write_run(&write, block, until) {
                return self.written_until(&write, &failed, &before);
            }
            block = until;
        }
        *self.opened.id.lock() = Some(id.0);
        Ok(data.len())
    }

    /// The id that a file of `old` bytes has, or will have, and whether it is a new one. Read anew each time:
    /// to seal with one that the file had once would be to lose the block.
    pub(super) fn id_to_write(&self, old: u64) -> Result<(FileId, bool)> {
        let header = if old == 0 { Header::Empty } else { self.header()? };
        match header {
            Header::Id(id) => Ok((id, false)),
            Header::Empty => Ok((FileId::random()?, true)),
        }
    }

    /// The plaintext that a block of which only a part is in the data gets.
    fn edge(&self, write: &Write<'_>, block: u64) -> Result<Option<(u64, [u8; BLOCK])>> {
        if write.covers(block) {
            return Ok(None);
        }
        let start = block * BLOCK_LEN;
        let mut plain =
            if start < write.old { self.read_block(&write.id, block, write.old_size)?.0 } else { [0; BLOCK] };
        let part = write.part(start, start + BLOCK_LEN);
        let from = usize::try_from(write.offset.saturating_sub(start)).unwrap_or(0);
        plain[from..from + part.len()].copy_from_slice(part);
        Ok(Some((block, plain)))
    }

    /// Writes what comes before the first block: a header that is not in one piece with it, and the old last
    /// block in its full length where it is not the last any more.
    fn lead(&self, write: &Write<'_>) -> Result<()> {
        if write.is_new && write.first() > 0 {
            self.put(&write.id.header(), 0).map_err(|failed| failed.errno)?;
        }
        if !write.old.is_multiple_of(BLOCK_LEN) && write.old / BLOCK_LEN < write.first() {
            self.extend_block(&write.id, write.old / BLOCK_LEN, write.old_size, BLOCK)?;
        }
        Ok(())
    }

    /// Makes the short last block of a file of `size` bytes of ciphertext `len` bytes long: zeros follow.
    pub(super) fn extend_block(&self, id: &FileId, block: u64, size: u64, len: usize) -> Result<()> {
        let (plain, _) = self.read_block(id, block, size)?;
        self.put_block(id, block, &plain[..len])
    }

    /// Seals a block and writes it.
    pub(super) fn put_block(&self, id: &FileId, block: u64, plain: &[u8]) -> Result<()> {
        let mut sealed = vec![0; self.layout().sealed_len(plain.len())];
        self.content.seal(id, block, plain, &mut sealed)?;
        self.put(&sealed, self.layout().start(block)).map_err(|failed| failed.errno)
    }

    /// Writes the blocks from `first` up to, not with, `until`.
    fn write_run(&self, write: &Write<'_>, first: u64, until: u64) -> std::result::Result<(), Failed> {
        with_room(run_len(self.layout().block()), |room| {
            let mut len = 0;
            if write.is_new && first == 0 {
                room[..HEADER].copy_from_slice(&write.id.header());
                len = HEADER;
            }
            let at = self.layout().start(first) - len as u64;
            let mut block = first;
            while block < until {
                let whole = (block..until).take_while(|block| write.covers(*block)).count() as u64;
                let plain = match whole {
                    0 => write.edge(block),
                    _ => write.part(block * BLOCK_LEN, (block + whole) * BLOCK_LEN),
                };
                let sealed = self.layout().sealed_len(plain.len());
                self.content
                    .seal(&write.id, block, plain, &mut room[len..len + sealed])
                    .map_err(|errno| Failed { until: at, errno })?;
                len += sealed;
                block += whole.max(1);
            }
            self.put(&room[..len], at).inspect_err(|failed| {
                if self.layout().block_at(failed.until) < write.old / BLOCK_LEN {
                    self.heal(failed.until, &room[..len], at);
                }
            })
        })
    }

    /// A write ended early. The whole blocks that it wrote stay; behind them is what was there.
    fn written_until(&self, write: &Write<'_>, failed: &Failed, before: &Before) -> Result<usize> {
        let block = self.layout().block_at(failed.until);
        let written = (block * BLOCK_LEN).saturating_sub(write.offset);
        // Before the old end only the block in which it ended is not whole, and that was healed.
        if block >= write.old / BLOCK_LEN {
            let is_last = block == write.old / BLOCK_LEN && !write.old.is_multiple_of(BLOCK_LEN);
            if written == 0 || is_last {
                self.put_back(before);
            } else {
                self.set_inner_size(self.layout().start(block))?;
            }
        }
        if written == 0 { Err(failed.errno) } else { Ok(usize::try_from(written).unwrap_or(0)) }
    }
}
