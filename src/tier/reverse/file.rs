//! A file of the source as ciphertext.
//!
//! Each read takes the plaintext of all blocks it touches in one call and seals them, so no block ever
//! holds bytes of two reads. That the plaintext is still the one that was opened is seen
//! afterwards, before the answer: what has the times and size of the moment it was opened is the same. That
//! rests on times that move with every change. Two changes within one tick of the filesystem's clock
//! would have the same, and the kernel may still give out the attributes of before the last, so a file that
//! changed just now is opened a moment later. Only stores
//! through a mapping of memory can stay unseen, for as long as the kernel lets them.

use std::cell::Cell;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::fixed::seek_without_holes;
use super::{Settings, seed, settles_in, xattrs};
use crate::crypt::derive::{self, BlockNonces};
use crate::crypt::layout::{BLOCK, FileId, HEADER};
use crate::sys::clock;
use crate::tier::read_only::unchangeable_file;
use crate::tier::shielded::only_reads;
use crate::tier::{File, Open};
use crate::types::attr::Stat;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::types::view::OnChange;

/// Where a file is.
#[derive(Debug)]
pub(super) struct Place {
    /// In the view.
    pub path: Vec<u8>,
    /// In the source.
    pub plain: UnionPath,
}

/// A thing of the source that is held but not open.
#[derive(Debug)]
pub(super) struct Held {
    settings: Arc<Settings>,
    inner: Box<dyn File>,
    place: Arc<Place>,
}

impl Held {
    pub(super) fn new(settings: Arc<Settings>, inner: Box<dyn File>, place: Arc<Place>) -> Held {
        Held { settings, inner, place }
    }
}

impl File for Held {
    fn stat(&self) -> Result<Stat> {
        Ok(self.settings.shown(self.inner.stat()?))
    }

    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn seek(&self, _offset: u64, _whence: i32) -> Result<u64> {
        Err(Errno::EBADF)
    }

    fn get_xattr(&self, key: &CStr) -> Result<Vec<u8>> {
        xattr(&self.settings, self.inner.as_ref(), &self.place, key)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        Ok(xattrs::list(&self.settings, self.inner.stat()?.kind(), &self.inner.list_xattr()?))
    }

    fn reopen(&self, how: Open) -> Result<Box<dyn File>> {
        only_reads(how)?;
        if how == Open::Hold {
            let inner = self.inner.reopen(Open::Hold)?;
            return Ok(Box::new(Held::new(Arc::clone(&self.settings), inner, Arc::clone(&self.place))));
        }
        // A backup is no use of the file. Who has a lease on it is waited for.
        let inner = match self.inner.reopen(Open::ReadQuiet) {
            Err(Errno::EAGAIN) => self.inner.reopen(Open::Read)?,
            other => other?,
        };
        Ok(Box::new(Opened::new(Arc::clone(&self.settings), inner, Arc::clone(&self.place))?))
    }

    unchangeable_file!();
}

fn xattr(settings: &Settings, inner: &dyn File, place: &Place, key: &CStr) -> Result<Vec<u8>> {
    let seed = || Ok(seed::of(&place.path, &inner.stat()?));
    xattrs::get(settings, key, seed, |key| inner.get_xattr(key))
}

/// A file open for reading.
#[derive(Debug)]
struct Opened {
    settings: Arc<Settings>,
    inner: Box<dyn File>,
    place: Arc<Place>,
    /// As it was when it was opened.
    was: Stat,
    id: FileId,
    nonces: BlockNonces,
    /// Whether the change has been told.
    told: AtomicBool,
    /// The last block that a read ended in the middle of, so that who goes on there gets
    /// the rest of the same. Only where a changing file is served.
    cut: Mutex<Option<(u64, Vec<u8>)>>,
}

thread_local! {
    /// Plaintext and ciphertext of the last read: new memory of this size costs more than a small read.
    static SPARE: Cell<(Vec<u8>, Vec<u8>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// Looks at a file that keeps changing, before that is the answer.
const SETTLING_MAX: u32 = 5;

impl Opened {
    fn new(settings: Arc<Settings>, inner: Box<dyn File>, place: Arc<Place>) -> Result<Opened> {
        let mut was = inner.stat()?;
        for _ in 0..SETTLING_MAX {
            let Some(rest) = settles_in(&was, clock::now()) else { break };
            std::thread::sleep(rest);
            was = inner.stat()?;
        }
        if settings.on_change == OnChange::Fail && settles_in(&was, clock::now()).is_some() {
            tracing::warn!(file = %place.plain, "changes all the time: whoever opens it gets an error");
            return Err(Errno::EIO);
        }
        let seed = seed::of(&place.path, &was);
        let (id, nonces) = (derive::file_id(&seed), BlockNonces::of(&seed));
        let (told, cut) = (AtomicBool::new(false), Mutex::new(None));
        Ok(Opened { settings, inner, place, was, id, nonces, told, cut })
    }

    /// EIO, and one line in the log, unless the file is as it was when it was opened.
    fn unchanged(&self) -> Result<()> {
        let now = self.inner.stat()?;
        let of = |stat: &Stat| (stat.size, stat.mtime, stat.ctime);
        if of(&now) == of(&self.was) {
            return Ok(());
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            let file = &self.place.plain;
            tracing::warn!(%file, "changed while it was read: who reads it gets an error and must try again");
        }
        Err(Errno::EIO)
    }

    /// Seals the blocks from `first` to `last` into `sealed`.
    fn seal(&self, first: u64, last: u64, plain: &mut Vec<u8>, sealed: &mut Vec<u8>) -> Result<()> {
        let (from, to) = (first * BLOCK as u64, ((last + 1) * BLOCK as u64).min(self.was.size));
        let want = usize::try_from(to.saturating_sub(from)).map_err(|_| Errno::EINVAL)?;
        plain.resize(want, 0);
        let got = self.inner.read_at(plain, from)?;
        match self.settings.on_change {
            OnChange::Fail => {
                self.unchanged()?;
                if got < want {
                    // The storage has less than it says and denies any change.
                    return Err(Errno::EIO);
                }
            }
            OnChange::Serve => plain.truncate(got),
        }
        sealed.resize(self.settings.layout().sealed_len(plain.len()), 0);
        self.settings.volume.content().seal_with(&self.id, first, &|block| self.nonces.at(block), plain, sealed)
    }

    /// Puts the block that the last read ended in in the place of the first of `sealed`.
    fn rejoin(&self, first: u64, sealed: &mut Vec<u8>) {
        let cut = self.cut.lock();
        let Some((_, kept)) = cut.as_ref().filter(|(block, _)| *block == first) else { return };
        let full = BLOCK + self.settings.layout().overhead;
        if sealed.len() >= full && kept.len() == full {
            sealed[..full].copy_from_slice(kept);
        } else {
            // A short block is the last.
            sealed.clone_from(kept);
        }
    }

    /// Keeps the block in which a read ends that goes up to `end` in the ciphertext.
    fn keep_cut(&self, first: u64, end: u64, sealed: &[u8]) {
        let layout = self.settings.layout();
        let block = layout.block_at(end.saturating_sub(1));
        let from = usize::try_from((block - first) * layout.block()).unwrap_or(usize::MAX);
        let Some(rest) = sealed.get(from..).filter(|rest| !rest.is_empty()) else { return };
        let len = rest.len().min(BLOCK + layout.overhead);
        *self.cut.lock() = (end != layout.start(block + 1)).then(|| (block, rest[..len].to_vec()));
    }

    fn read_with(&self, buffer: &mut [u8], offset: u64, plain: &mut Vec<u8>, sealed: &mut Vec<u8>) -> Result<usize> {
        let layout = self.settings.layout();
        let size = layout.cipher_size(self.was.size);
        let end = offset.saturating_add(buffer.len() as u64).min(size);
        if offset >= end {
            return Ok(0);
        }
        let mut done = 0;
        if offset < HEADER as u64 {
            let from = usize::try_from(offset).unwrap_or(HEADER);
            let header = self.id.header();
            done = (HEADER - from).min(buffer.len());
            buffer[..done].copy_from_slice(&header[from..from + done]);
        }
        let at = offset + done as u64;
        if at >= end {
            return Ok(done);
        }
        let (first, last) = (layout.block_at(at), layout.block_at(end - 1));
        self.seal(first, last, plain, sealed)?;
        if self.settings.on_change == OnChange::Serve {
            self.rejoin(first, sealed);
            self.keep_cut(first, end, sealed);
        }
        let skip = usize::try_from(at - layout.start(first)).unwrap_or(usize::MAX);
        let ready = sealed.get(skip..).unwrap_or_default();
        let len = ready.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        buffer[done..done + len].copy_from_slice(&ready[..len]);
        Ok(done + len)
    }
}

impl File for Opened {
    /// Where a changing file is served, the size stays that of the moment it was opened: so much
    /// can be read.
    fn stat(&self) -> Result<Stat> {
        let now = self.settings.shown(self.inner.stat()?);
        match self.settings.on_change {
            OnChange::Fail => Ok(now),
            OnChange::Serve => Ok(Stat { size: self.settings.layout().cipher_size(self.was.size), ..now }),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let (mut plain, mut sealed) = SPARE.take();
        let read = self.read_with(buffer, offset, &mut plain, &mut sealed);
        SPARE.set((plain, sealed));
        read
    }

    fn seek(&self, offset: u64, whence: i32) -> Result<u64> {
        seek_without_holes(self.settings.layout().cipher_size(self.was.size), offset, whence)
    }

    fn get_xattr(&self, key: &CStr) -> Result<Vec<u8>> {
        xattr(&self.settings, self.inner.as_ref(), &self.place, key)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        Ok(xattrs::list(&self.settings, self.inner.stat()?.kind(), &self.inner.list_xattr()?))
    }

    fn reopen(&self, how: Open) -> Result<Box<dyn File>> {
        Held::new(Arc::clone(&self.settings), self.inner.reopen(Open::Hold)?, Arc::clone(&self.place)).reopen(how)
    }

    unchangeable_file!();
}
