//! Whether a tier is still the one that was opened.
//!
//! A server whose disk is not mounted shows an empty directory in its place, and says of every name that it
//! is absent. A local filesystem cannot do that: what is open stays what it is. So only a tier that others
//! serve is asked, and by what it cannot have without its disk: its marker.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::sys::stat;
use crate::tier::marker::{self, Id};
use crate::tier::{Dir, Tier};
use crate::types::attr::Time;
use crate::types::errno::{Errno, Result};

/// What tells a tier from whatever else may be in its place.
#[derive(Debug)]
pub struct Proof {
    root: Arc<dyn Dir>,
    id: Id,
    /// tierfs's own directory, as it was when the marker in it was last read.
    own: Mutex<Option<(Arc<dyn Dir>, Look)>>,
}

/// What tells that a directory is the same as before and nothing was replaced in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    dev: u64,
    ino: u64,
    mtime: Time,
}

impl Look {
    /// One request to the server.
    fn at(fd: BorrowedFd<'_>) -> Result<Look> {
        let now = stat::statx_now(fd)?;
        if now.nlink == 0 {
            return Err(Errno::ENOENT);
        }
        Ok(Look { dev: now.dev, ino: now.ino, mtime: now.mtime })
    }
}

impl Proof {
    /// For `tier`, whose marker says `id`.
    pub fn new(tier: &dyn Tier, id: Id) -> Proof {
        Proof { root: tier.root(), id, own: Mutex::new(None) }
    }

    /// Asks the server: one request, or some more after the directory of the marker has changed.
    ///
    /// # Errors
    /// EIO if it does not show that tier any more.
    pub(super) fn check(&self) -> Result<()> {
        // Not under the lock: the server may not answer.
        let known = self.own.lock().clone();
        if let Some((own, before)) = known
            && own.held().is_some_and(|fd| Look::at(fd) == Ok(before))
        {
            return Ok(());
        }
        let found = self.read();
        let proved = if found.is_ok() { Ok(()) } else { Err(Errno::EIO) };
        let before = std::mem::replace(&mut *self.own.lock(), found.ok().flatten());
        // Not under the lock: closing it asks the server, too.
        drop(before);
        proved
    }

    /// Reads the marker by its name, and takes down where it was found.
    fn read(&self) -> Result<Option<(Arc<dyn Dir>, Look)>> {
        let own = marker::own_dir(self.root.as_ref())?.ok_or(Errno::ENOENT)?;
        // Before: what changes meanwhile is seen by the next look.
        // None of a server that counts no links: then the marker is read each time.
        let look = own.held().and_then(|fd| Look::at(fd).ok());
        match marker::read(self.root.as_ref()) {
            Ok(Some(marker)) if marker.tier == self.id => Ok(look.map(|look| (own, look))),
            Ok(_) | Err(_) => Err(Errno::ENOENT),
        }
    }
}
