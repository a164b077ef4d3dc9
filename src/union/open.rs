//! Open files: opening, releasing, and the handles between.
//!
//! Most opens need no handle of ours: the kernel reads the registered backing file, and everything
//! else (attributes, allocation, syncing) finds the file by its inode. Handle 0 stands for all of
//! these that only read.

use std::sync::Arc;

use parking_lot::Mutex;

use super::health::Losses;
use super::inodes::Serving;
use super::pages::{Counted, Served};
use super::passthrough::{Registrar, Registration};
use super::readdir::Stream;
use super::{Attr, Union};
use crate::stats::touch;
use crate::tier::{File, Open};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Fh, Ino, Rank};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    /// Whether it writes.
    pub fn writes(self) -> bool {
        self != Access::Read
    }

    pub(super) fn how(self) -> Open {
        match self {
            Access::Read => Open::Read,
            Access::Write => Open::Write,
            Access::ReadWrite => Open::ReadWrite,
        }
    }
}

/// An opened file, for the answer to the kernel.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub fh: Fh,
    /// The registration, where the kernel serves the data itself.
    pub backing: Option<Arc<Registration>>,
}

/// What stays of an open file.
#[derive(Debug)]
pub(super) enum Handle {
    /// tierfs serves the data.
    Plain { file: Arc<dyn File>, rank: Rank, writes: bool, counted: Counted },
    /// The kernel serves the data. `errors` is how many failures to sync this handle knows of, `losses` how
    /// often its tier was lost before: once that is more, what it has written may be gone.
    Writer { errors: u64, rank: Rank, losses: Losses },
    /// A directory.
    Dir(Arc<Stream>),
}

/// Open handles by number; numbers are used again.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<Slab>);

#[derive(Debug, Default)]
struct Slab {
    slots: Vec<Option<Handle>>,
    free: Vec<usize>,
}

/// The handle of everything that needs none.
const NO_STATE: Fh = Fh(0);

impl Handles {
    pub(super) fn insert(&self, handle: Handle) -> Fh {
        let mut slab = self.0.lock();
        let at = if let Some(at) = slab.free.pop() {
            slab.slots[at] = Some(handle);
            at
        } else {
            slab.slots.push(Some(handle));
            slab.slots.len() - 1
        };
        Fh(at as u64 + 1)
    }

    fn with<T>(&self, fh: Fh, act: impl FnOnce(&mut Handle) -> T) -> Option<T> {
        let at = usize::try_from(fh.0).ok()?.checked_sub(1)?;
        self.0.lock().slots.get_mut(at)?.as_mut().map(act)
    }

    fn remove(&self, fh: Fh) -> Option<Handle> {
        let at = usize::try_from(fh.0).ok()?.checked_sub(1)?;
        let mut slab = self.0.lock();
        let handle = slab.slots.get_mut(at)?.take();
        if handle.is_some() {
            slab.free.push(at);
        }
        handle
    }

    /// The file behind a handle whose data tierfs serves.
    pub(super) fn file(&self, fh: Fh) -> Option<Arc<dyn File>> {
        self.with(fh, |handle| match handle {
            Handle::Plain { file, rank, .. } => {
                touch(*rank);
                Some(Arc::clone(file))
            }
            Handle::Writer { .. } | Handle::Dir(_) => None,
        })?
    }

    /// The same, if the handle may have written to it.
    fn written(&self, fh: Fh) -> Option<Arc<dyn File>> {
        self.with(fh, |handle| match handle {
            Handle::Plain { file, rank, writes: true, .. } => {
                touch(*rank);
                Some(Arc::clone(file))
            }
            Handle::Plain { .. } | Handle::Writer { .. } | Handle::Dir(_) => None,
        })?
    }

    /// The stream behind a directory's handle.
    pub(super) fn stream(&self, fh: Fh) -> Result<Arc<Stream>> {
        self.with(fh, |handle| match handle {
            Handle::Dir(stream) => Some(Arc::clone(stream)),
            Handle::Writer { .. } | Handle::Plain { .. } => None,
        })
        .flatten()
        .ok_or(Errno::EBADF)
    }

    /// The tier of a handle that writes past tierfs, and how often it had been lost at the open.
    fn losses(&self, fh: Fh) -> Option<(Rank, Losses)> {
        self.with(fh, |handle| match handle {
            Handle::Writer { rank, losses, .. } => Some((*rank, *losses)),
            Handle::Plain { .. } | Handle::Dir(_) => None,
        })?
    }

    /// Brings the handle's count of sync failures to `now` and tells whether it missed some.
    fn catch_up(&self, fh: Fh, now: u64) -> bool {
        self.with(fh, |handle| match handle {
            Handle::Writer { errors, .. } => std::mem::replace(errors, now) < now,
            Handle::Plain { .. } | Handle::Dir(_) => false,
        })
        .unwrap_or(false)
    }
}

impl Union {
    /// Opens a regular file for the process (or thread) `pid`; `with` is how the kernel may serve the
    /// data.
    ///
    /// # Errors
    /// ESTALE if the name leads elsewhere now; EROFS; what a tier says.
    pub fn open(&self, ino: Ino, access: Access, pid: u32, with: Option<&dyn Registrar>) -> Result<Opened> {
        if access.writes() {
            self.may_change_data()?;
            self.may_keep_contents(ino)?;
        }
        let (era, losses) = (self.states.era(), self.states.losses());
        self.must_be_there(ino)?;
        let quiet = self.opens_quietly(ino, access, pid);
        let (how, with) = if quiet { (Open::ReadQuiet, None) } else { (access.how(), with) };
        self.open_told(ino, access, how, (with, era, &losses)).inspect_err(|_| self.tell_not_opened(ino))
    }

    fn open_told(
        &self,
        ino: Ino,
        access: Access,
        how: Open,
        (with, era, losses): (Option<&dyn Registrar>, u64, &Losses),
    ) -> Result<Opened> {
        let serving = loop {
            // Once it is counted the migrator leaves the file alone.
            let passing = self.gates.file(ino);
            // The kernel makes what is written by passthrough durable without asking (`O_DSYNC`, `msync(2)`).
            // At a power cut it would be lost with a move that is not durable yet.
            if access.writes() && self.settling.has(ino) {
                drop(passing);
                self.settling.wait(ino)?;
                continue;
            }
            break self.inodes.opened(ino, access)?;
        };
        let opened =
            self.keep_leaving(ino).and_then(|()| self.open_counted(ino, access, how, serving, (with, era, losses)));
        if opened.is_err() {
            self.inodes.released(ino, access.writes(), false, None);
        }
        opened
    }

    /// A file that is opened while its name goes is kept reachable, or found gone in time.
    fn keep_leaving(&self, ino: Ino) -> Result<()> {
        if self.inodes.is_leaving(ino) {
            self.inodes.keep_orphan(ino, self.hold(ino)?);
        }
        Ok(())
    }

    fn open_counted(
        &self,
        ino: Ino,
        access: Access,
        how: Open,
        serving: Serving,
        (with, era, losses): (Option<&dyn Registrar>, u64, &Losses),
    ) -> Result<Opened> {
        let backing = match serving {
            Serving::Kernel(backing) => Some(backing),
            Serving::Daemon => None,
            Serving::Undecided if with.is_some() => self.register(ino, self.hold(ino)?.as_ref(), with, era)?,
            Serving::Undecided => None,
        };
        self.serve(ino, access, (backing, losses), || self.hold(ino)?.reopen(how))
    }

    /// Gives an open, counted file its handle.
    pub(super) fn serve(
        &self,
        ino: Ino,
        access: Access,
        (backing, losses): (Option<Arc<Registration>>, &Losses),
        open: impl FnOnce() -> Result<Box<dyn File>>,
    ) -> Result<Opened> {
        if backing.is_none() {
            let file = open()?;
            // It does not move while it is open.
            let rank = self.inodes.rank(ino)?;
            match self.serve_plain(ino, access, file.as_ref())? {
                Served::Plain(mut counted) => {
                    let file: Arc<dyn File> = file.into();
                    if self.states.is_lost_since(rank, losses) && file.stat().is_err() {
                        // Counted too late for `Union::lose`, perhaps: it can write nothing.
                        self.inodes.uncount(ino, counted.take());
                    }
                    let writes = access.writes();
                    let fh = self.handles.insert(Handle::Plain { file, rank, writes, counted });
                    return Ok(Opened { fh, backing: None });
                }
                Served::ByKernel(backing) => return self.serve_by_kernel(ino, access, Some(backing), losses),
            }
        }
        self.serve_by_kernel(ino, access, backing, losses)
    }

    fn serve_by_kernel(
        &self,
        ino: Ino,
        access: Access,
        backing: Option<Arc<Registration>>,
        losses: &Losses,
    ) -> Result<Opened> {
        let fh = if access.writes() {
            let (errors, rank) = (self.inodes.sync_errors(ino), self.inodes.rank(ino)?);
            self.handles.insert(Handle::Writer { errors, rank, losses: *losses })
        } else {
            NO_STATE
        };
        Ok(Opened { fh, backing })
    }

    /// EIO, for ever, for a handle that writes past tierfs to a tier that was lost since it was opened. The
    /// kernel still writes to the tier as it was; what is at its place now is another, whatever it holds.
    pub(super) fn must_be_the_same(&self, fh: Fh) -> Result<()> {
        match self.handles.losses(fh) {
            Some((rank, losses)) if self.states.is_lost_since(rank, &losses) => Err(Errno::EIO),
            Some(_) | None => Ok(()),
        }
    }

    /// The last close of a handle.
    pub fn release(&self, ino: Ino, fh: Fh) {
        let (writes, plain, counted) = match self.handles.remove(fh) {
            None => (false, false, None),
            Some(Handle::Writer { .. }) => (true, false, None),
            Some(Handle::Plain { writes, counted, .. }) => (writes, true, counted),
            Some(Handle::Dir(_)) => return,
        };
        let closed = self.inodes.released(ino, writes, plain, counted);
        self.tell_closed(ino, closed);
    }

    /// Whether a close may have something to tell: else [`Union::flush`] does nothing, whatever the handle.
    pub fn hears_of_closes(&self) -> bool {
        self.slots.iter().any(|slot| slot.tier.as_ref().is_none_or(|tier| tier.holds_back()))
    }

    /// A program closes a handle, or one of several descriptors of it: has what it wrote reach the tier's server.
    ///
    /// # Errors
    /// What `close(2)` says on the tier; EIO where the tier has gone since.
    pub fn flush(&self, fh: Fh) -> Result<()> {
        self.handles.written(fh).map_or(Ok(()), |file| file.flush())
    }

    /// Makes a file durable.
    ///
    /// The kernel tells a failed write-back once to each descriptor that was open then, but this
    /// call has only one for all handles of a file that is served by passthrough. So a failure is
    /// counted, and each handle that was open learns of it at its own next call.
    ///
    /// # Errors
    /// What the tier says; EIO for a failure another handle was told first.
    pub fn fsync(&self, ino: Ino, fh: Fh, data_only: bool) -> Result<()> {
        self.settling.wait(ino)?;
        if let Some(file) = self.handles.file(fh) {
            return file.fsync(data_only);
        }
        self.must_be_the_same(fh)?;
        let result = self.hold(ino)?.reopen(Open::ReadQuiet).and_then(|file| file.fsync(data_only));
        if result.is_err() {
            self.inodes.count_sync_error(ino);
        }
        // It may have gone and come back meanwhile.
        self.must_be_the_same(fh)?;
        let missed = self.handles.catch_up(fh, self.inodes.sync_errors(ino));
        match result {
            Ok(()) if missed => Err(Errno::EIO),
            other => other,
        }
    }

    /// A file for one operation: the handle's own, or one opened for this.
    pub(super) fn file_for(&self, ino: Ino, fh: Fh, how: Open) -> Result<Arc<dyn File>> {
        if let Some(file) = self.handles.file(fh) {
            return Ok(file);
        }
        self.must_be_the_same(fh)?;
        Ok(self.hold(ino)?.reopen(how)?.into())
    }

    /// Attributes of an open file or, without a handle, of an inode.
    ///
    /// # Errors
    /// As [`Union::getattr`].
    pub fn getattr_open(&self, ino: Ino, fh: Fh) -> Result<Attr> {
        let Some(file) = self.handles.file(fh) else { return self.getattr(ino) };
        Ok(self.open_attr(ino, file.stat()?))
    }
}
