//! Handles, registrations and failures to sync, by inode.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inodes, Serving};
use crate::stats::touch;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank};
use crate::union::pages::Counted;
use crate::union::passthrough::Registration;

/// Handles of files that are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opens {
    /// All of them.
    pub files: u64,
    /// Those whose data tierfs serves itself.
    pub plain: u64,
}

impl Inodes {
    /// How many handles are open, now or a moment ago.
    pub(in crate::union) fn opens(&self) -> Opens {
        Opens { files: self.open.load(Ordering::Relaxed), plain: self.open_plain.load(Ordering::Relaxed) }
    }

    /// Counts an open handle, and tells how its data may be served.
    pub(in crate::union) fn opened(&self, ino: Ino, access: crate::union::Access) -> Result<Serving> {
        self.with(ino, |inode| {
            self.open.fetch_add(1, Ordering::Relaxed);
            touch(inode.rank);
            inode.handles += 1;
            inode.was_open = true;
            inode.writers += u32::from(access.writes());
            inode.maybe_mapped |= access == crate::union::Access::ReadWrite;
            match &inode.backing {
                Some(backing) => Serving::Kernel(Arc::clone(backing)),
                None if inode.plain > 0 => Serving::Daemon,
                None => Serving::Undecided,
            }
        })
    }

    /// The tier of a file, as last seen.
    pub(in crate::union) fn rank(&self, ino: Ino) -> Result<Rank> {
        self.with(ino, |inode| inode.rank)
    }

    /// Counts a handle off again, `plain` if tierfs serves its data. The tier of the file if it was the last.
    pub(in crate::union) fn released(&self, ino: Ino, writes: bool, plain: bool, counted: Counted) -> Option<Rank> {
        let mut shard = self.shard(ino).lock();
        let inode = shard.get_mut(&ino.0)?;
        self.open.fetch_sub(u64::from(inode.handles > 0), Ordering::Relaxed);
        self.open_plain.fetch_sub(u64::from(plain && inode.plain > 0), Ordering::Relaxed);
        inode.handles = inode.handles.saturating_sub(1);
        inode.writers = inode.writers.saturating_sub(u32::from(writes));
        inode.plain = inode.plain.saturating_sub(u32::from(plain));
        inode.uncount(counted);
        // Another open of a file without a name may be on its way: only the forget ends it.
        let closed = (inode.handles == 0).then_some(inode.rank);
        let gone = if inode.handles == 0 && inode.lookups == 0 { shard.remove(&ino.0) } else { None };
        drop(shard);
        // Dropping it may close files: not under the lock.
        drop(gone);
        closed
    }

    /// Keeps `new` as the one registration of the inode; another that came first wins. `None` if
    /// tierfs serves a handle itself already: the two must not be mixed. ESTALE if it is not `certain` that
    /// the file is still there, which is asked when nobody can drop registrations meanwhile.
    pub(in crate::union) fn register(
        &self,
        ino: Ino,
        new: Arc<Registration>,
        certain: &dyn Fn() -> bool,
    ) -> Result<Option<Arc<Registration>>> {
        self.with(ino, |inode| {
            if !certain() {
                return Err(Errno::ESTALE);
            }
            // One that is not kept is taken back after the lock.
            Ok((inode.plain == 0).then(|| Arc::clone(inode.backing.get_or_insert_with(|| Arc::clone(&new)))))
        })?
    }

    /// Drops the registration of an inode that has no handles. Returns whether it is gone.
    pub(in crate::union) fn unregister_idle(&self, ino: Ino) -> bool {
        let taken = self.with(ino, |inode| if inode.handles > 0 { Err(()) } else { Ok(inode.backing.take()) });
        // Whatever was taken closes here, after the lock.
        !matches!(taken, Ok(Err(())))
    }

    /// Whether a writable handle is open, and whether a mapping for writing may live on.
    pub(in crate::union) fn writing(&self, ino: Ino) -> (bool, bool) {
        self.with(ino, |inode| (inode.writers > 0, inode.maybe_mapped)).unwrap_or((false, false))
    }

    /// The file was found at rest.
    pub(in crate::union) fn at_rest(&self, ino: Ino) {
        let _forgotten = self.with(ino, |inode| inode.maybe_mapped &= inode.writers > 0);
    }

    /// How often making the file durable has failed.
    pub(in crate::union) fn sync_errors(&self, ino: Ino) -> u64 {
        self.with(ino, |inode| inode.rare.as_ref().map_or(0, |r| r.errors)).unwrap_or(0)
    }

    pub(in crate::union) fn count_sync_error(&self, ino: Ino) {
        let _forgotten = self.with(ino, |inode| inode.rare().errors += 1);
    }
}
