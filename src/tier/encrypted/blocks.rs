//! Contents of a file: reading blocks, and what all that changes them needs.

use std::cell::Cell;

use super::Opened;
use super::tell::Teller;
use crate::crypt::layout::{BLOCK, FileId, HEADER, Layout};
use crate::crypt::{Content, Damage};
use crate::tier::File;
use crate::types::errno::{Errno, Result};

/// Bytes of plaintext in a block.
pub(super) const BLOCK_LEN: u64 = BLOCK as u64;

/// Blocks that are read or written at once: what lies in the cache of a core while it is worked on.
pub(super) const RUN: u64 = 64;

/// The contents of one open file.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    pub(super) inner: &'a dyn File,
    pub(super) content: &'a Content,
    pub(super) opened: &'a Opened,
    pub(super) teller: &'a Teller,
}

/// The header of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// The file has contents, bound to this.
    Id(FileId),
    /// There is none, or nothing behind it: the file is empty.
    Empty,
}

thread_local! {
    /// Room for a run of ciphertext.
    static SPARE: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// Lends `act` the room for a run of ciphertext with its header; what is in it is nobody's.
pub(super) fn with_room<T>(len: usize, act: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut room = SPARE.take().unwrap_or_default();
    if room.len() < len {
        room.resize(len, 0);
    }
    let result = act(&mut room[..len]);
    SPARE.set(Some(room));
    result
}

/// What a read of a run met.
enum Run {
    /// So many bytes, which the end of the file may have cut short.
    Read(usize),
    /// A block that does not open.
    Bad(Damage),
}

impl<'a> Blocks<'a> {
    pub(super) fn layout(&self) -> Layout {
        self.content.layout()
    }

    pub(super) fn bad(&self, damage: Damage) -> Errno {
        self.teller.file(self.inner, &damage.to_string());
        Errno::EIO
    }

    /// The header as it is now.
    pub(super) fn header(&self) -> Result<Header> {
        let mut header = [0; HEADER + 1];
        let len = self.inner.read_at(&mut header, 0)?;
        self.parse(&header[..len])
    }

    fn parse(&self, start: &[u8]) -> Result<Header> {
        if start.is_empty() || start.len() == HEADER {
            return Ok(Header::Empty);
        }
        if start.len() < HEADER {
            return Err(self.bad(Damage::Header));
        }
        let id = FileId::parse(&start[..HEADER]).map_err(|damage| self.bad(damage))?;
        *self.opened.id.lock() = Some(id.0);
        Ok(Header::Id(id))
    }

    /// Fills `buffer` from `offset` on; fewer bytes only at the end of the file. The lock of the body is held.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset.saturating_add(done as u64);
            if at >= Layout::PLAIN_MAX {
                break;
            }
            let (first, skip) = (at / BLOCK_LEN, at % BLOCK_LEN);
            let want = (RUN * BLOCK_LEN - skip).min((buffer.len() - done) as u64);
            let end = done + usize::try_from(want).unwrap_or(buffer.len() - done);
            let piece = &mut buffer[done..end];
            let known = *self.opened.id.lock();
            let run = match self.read_run(known.map(FileId), first, skip, piece)? {
                // Somebody may have written the file anew beside the mount, or just now half of this block.
                Run::Bad(_) => self.read_run(None, first, skip, piece)?,
                run @ Run::Read(_) => run,
            };
            let got = match run {
                Run::Read(got) => got,
                Run::Bad(damage) => return Err(self.bad(damage)),
            };
            done += got;
            if done < end {
                break;
            }
        }
        Ok(done)
    }

    /// Fills `out` from `skip` bytes into block `first` on.
    fn read_run(&self, known: Option<FileId>, first: u64, skip: u64, out: &mut [u8]) -> Result<Run> {
        let count = (skip + out.len() as u64).div_ceil(BLOCK_LEN);
        let lead = if first == 0 { HEADER } else { 0 };
        let len = usize::try_from(count * self.layout().block()).map_err(|_| Errno::EINVAL)? + lead;
        let from = self.layout().start(first) - lead as u64;
        with_room(len, |room| {
            let id = match known.filter(|_| first > 0) {
                Some(id) => id,
                None if first > 0 => match self.header()? {
                    Header::Id(id) => id,
                    Header::Empty => return Ok(Run::Read(0)),
                },
                None => FileId([0; 16]),
            };
            let got = self.inner.read_at(room, from)?;
            let id = match lead {
                0 => id,
                _ => match self.parse(&room[..got])? {
                    Header::Id(id) => id,
                    Header::Empty => return Ok(Run::Read(0)),
                },
            };
            let cipher = room.get(lead..got).unwrap_or_default();
            let skip = usize::try_from(skip).unwrap_or(0);
            Ok(self.open_run(&id, first, cipher, skip, out).map_or_else(Run::Bad, Run::Read))
        })
    }

    /// Opens `cipher`, whose first block is number `first`, and puts what comes `skip` bytes into it to `out`.
    fn open_run(
        &self,
        id: &FileId,
        first: u64,
        cipher: &[u8],
        skip: usize,
        out: &mut [u8],
    ) -> std::result::Result<usize, Damage> {
        let stride = BLOCK + self.layout().overhead;
        let (mut rest, mut block, mut skip, mut done) = (cipher, first, skip, 0);
        while !rest.is_empty() && done < out.len() {
            // As many blocks as go to their place directly; one that is wanted in part goes by the scratch.
            let whole = (0..rest.len().div_ceil(stride))
                .take_while(|_| skip == 0)
                .take_while(|n| done + self.plain_len(rest, stride, n + 1) <= out.len())
                .count();
            if whole > 0 {
                let len = rest.len().min(whole * stride);
                let room = done + self.plain_len(rest, stride, whole);
                done += self.content.open(id, block, &rest[..len], &mut out[done..room])?;
                rest = &rest[len..];
                block += whole as u64;
                continue;
            }
            let len = rest.len().min(stride);
            let mut scratch = [0; BLOCK];
            let got = self.content.open(id, block, &rest[..len], &mut scratch)?;
            let part = scratch.get(skip..got).unwrap_or_default();
            let part = &part[..part.len().min(out.len() - done)];
            out[done..done + part.len()].copy_from_slice(part);
            done += part.len();
            rest = &rest[len..];
            block += 1;
            skip = 0;
        }
        Ok(done)
    }

    /// Bytes of plaintext in the first `count` blocks of `cipher`; at least one in each.
    fn plain_len(&self, cipher: &[u8], stride: usize, count: usize) -> usize {
        let len = cipher.len().min(count * stride);
        let (full, rest) = (len / stride, len % stride);
        full * BLOCK + if rest == 0 { 0 } else { rest.saturating_sub(self.layout().overhead).max(1) }
    }

    /// The plaintext of block `block` of a file whose ciphertext has `size` bytes, and how long it is; zeros
    /// behind it.
    pub(super) fn read_block(&self, id: &FileId, block: u64, size: u64) -> Result<([u8; BLOCK], usize)> {
        let mut plain = [0; BLOCK];
        let cipher = self.read_sealed(block, size)?;
        let len = self.content.open(id, block, &cipher, &mut plain).map_err(|damage| self.bad(damage))?;
        plain[len..].fill(0);
        Ok((plain, len))
    }

    /// The ciphertext of a block, empty where there is none.
    pub(super) fn read_sealed(&self, block: u64, size: u64) -> Result<Vec<u8>> {
        let start = self.layout().start(block);
        let len = size.saturating_sub(start).min(self.layout().block());
        let mut cipher = vec![0; usize::try_from(len).unwrap_or(0)];
        let got = self.inner.read_at(&mut cipher, start)?;
        cipher.truncate(got);
        Ok(cipher)
    }
}
