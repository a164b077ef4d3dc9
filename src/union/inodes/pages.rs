//! What the kernel may hold of the contents of files, by inode.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Inodes;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Ino;
use crate::union::Access;
use crate::union::pages::{AtOpen, Outdated, Pages};
use crate::union::passthrough::Registration;

/// Wakes opens that wait until pages are dropped.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    lock: Mutex<()>,
    some: Condvar,
}

/// While it lives, the kernel is made to drop what it holds of a file, and opens of the file wait.
#[derive(Debug)]
pub struct Dropping<'a> {
    inodes: &'a Inodes,
    ino: Ino,
}

impl Drop for Dropping<'_> {
    fn drop(&mut self) {
        let _forgotten = self.inodes.with(self.ino, |inode| inode.dropping = false);
        // Whoever has seen it under this lock waits already.
        drop(self.inodes.dropped.lock.lock());
        self.inodes.dropped.some.notify_all();
    }
}

/// How the data of an open handle is served that was to be served by tierfs.
#[derive(Debug)]
pub(in crate::union) enum Plain<'a> {
    /// By the kernel: another open has settled for that, and the two must not be mixed.
    Kernel(Arc<Registration>),
    /// By tierfs, and what the kernel holds is right.
    Kept,
    /// By tierfs, once the kernel has dropped what it holds. Whether no other handle is open.
    Outdated(Dropping<'a>, bool),
}

impl Inodes {
    /// Counts an open handle whose data tierfs serves, of a file of this version (see [`AtOpen`]). Waits for
    /// others that have pages dropped, but no longer than `patience`.
    pub(in crate::union) fn serve_plain(
        &self,
        ino: Ino,
        access: Access,
        (version, anew): (Option<u64>, bool),
        patience: Duration,
    ) -> Result<Plain<'_>> {
        let mut until = None;
        loop {
            let mut shard = self.shard(ino).lock();
            let inode = shard.get_mut(&ino.0).ok_or(Errno::ESTALE)?;
            if let Some(backing) = &inode.backing {
                return Ok(Plain::Kernel(Arc::clone(backing)));
            }
            if inode.dropping && until.is_none_or(|until| Instant::now() < until) {
                drop(shard);
                let until = *until.get_or_insert_with(|| Instant::now() + patience);
                self.wait_dropped(ino, until);
                continue;
            }
            inode.plain += 1;
            self.open_plain.fetch_add(1, Ordering::Relaxed);
            let (alone, others) = (inode.handles <= 1, inode.writers - u32::from(access.writes()).min(inode.writers));
            let open = AtOpen { version, alone, written: others > 0, anew };
            let (pages, outdated) = inode.pages.at_open(&open);
            inode.pages = if access.writes() { Pages::Unsure } else { pages };
            // Another one is at it and did not end in time.
            if inode.dropping || !outdated {
                return Ok(Plain::Kept);
            }
            inode.dropping = true;
            return Ok(Plain::Outdated(Dropping { inodes: self, ino }, alone));
        }
    }

    fn wait_dropped(&self, ino: Ino, until: Instant) {
        let mut waiting = self.dropped.lock.lock();
        while self.with(ino, |inode| inode.dropping) == Ok(true) {
            if self.dropped.some.wait_until(&mut waiting, until).timed_out() {
                return;
            }
        }
    }

    /// The kernel may hold anything of the file.
    pub(in crate::union) fn unsure(&self, ino: Ino) {
        let _forgotten = self.with(ino, |inode| inode.pages = Pages::Unsure);
    }

    /// See [`crate::union::Union::outdated`].
    pub(in crate::union) fn outdated(&self, ino: Ino, may_be_own: bool) -> Outdated<'_> {
        self.with(ino, |inode| {
            if inode.pages == Pages::None {
                return Outdated::All(None);
            }
            inode.pages = Pages::Unsure;
            if inode.writers > 0 {
                return if may_be_own { Outdated::Attributes } else { Outdated::All(None) };
            }
            let first = !std::mem::replace(&mut inode.dropping, true);
            Outdated::All(first.then_some(Dropping { inodes: self, ino }))
        })
        .unwrap_or(Outdated::All(None))
    }
}
