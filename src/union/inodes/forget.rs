//! What the kernel knows no more.

use super::Inodes;
use super::inode::Closed;
use crate::types::ids::Ino;

impl Inodes {
    /// Takes back `count` lookups. Returns whether the inode is gone.
    pub(in crate::union) fn forget(&self, ino: Ino, count: u64) -> bool {
        if ino == Ino::ROOT {
            return false;
        }
        let mut shard = self.shard(ino).lock();
        let Some(inode) = shard.get_mut(&ino.0) else { return false };
        inode.lookups = inode.lookups.saturating_sub(count);
        let gone = inode.lookups == 0 && inode.handles == 0;
        let kept = gone && self.remember_max > 0 && !inode.unnamed;
        let closed = if kept { inode.close() } else { Closed::default() };
        let inode = if gone && !kept { shard.remove(&ino.0) } else { None };
        drop(shard);
        // Dropping it may close files: not under the lock.
        drop((inode, closed));
        if kept {
            self.keep_remembered(ino);
        }
        gone
    }

    /// Whether the kernel knows it.
    pub(in crate::union) fn is_looked_up(&self, ino: Ino) -> bool {
        self.shard(ino).lock().get(&ino.0).is_some_and(|inode| inode.lookups > 0)
    }

    /// One more is remembered; the oldest goes if it is one too many.
    fn keep_remembered(&self, ino: Ino) {
        let mut remembered = self.remembered.lock();
        remembered.push_back(ino);
        let oldest = if remembered.len() > self.remember_max { remembered.pop_front() } else { None };
        drop(remembered);
        let Some(oldest) = oldest else { return };
        let mut shard = self.shard(oldest).lock();
        // Not if the kernel has come back to it.
        if shard.get(&oldest.0).is_some_and(|inode| inode.lookups == 0 && inode.handles == 0) {
            let inode = shard.remove(&oldest.0);
            drop(shard);
            drop(inode);
        }
    }
}
