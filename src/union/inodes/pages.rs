//! What the kernel may hold of the contents of files, by inode.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Inodes;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Ino;
use crate::union::Access;
use crate::union::pages::{AtOpen, Counted, Outdated, Pages};
use crate::union::passthrough::Registration;

/// Files of which the kernel is being made to drop pages, and how many are at it. One is begun with the
/// file's shard of the table locked, and whoever opens the file looks with that locked.
#[derive(Debug, Default)]
pub(super) struct Drops {
    active: AtomicUsize,
    files: Mutex<HashMap<Ino, u32>>,
    ended: Condvar,
}

/// While it lives, the kernel is made to drop what it holds of a file: whoever opens the file for writing
/// waits.
#[derive(Debug)]
pub struct Dropping {
    drops: Arc<Drops>,
    ino: Ino,
}

impl Drop for Dropping {
    fn drop(&mut self) {
        let mut files = self.drops.files.lock();
        if let Some(count) = files.get_mut(&self.ino) {
            *count -= 1;
            if *count == 0 {
                files.remove(&self.ino);
            }
        }
        self.drops.active.fetch_sub(1, Ordering::SeqCst);
        self.drops.ended.notify_all();
    }
}

impl Drops {
    fn begin(self: &Arc<Drops>, ino: Ino) -> Dropping {
        let mut files = self.files.lock();
        *files.entry(ino).or_insert(0) += 1;
        self.active.fetch_add(1, Ordering::SeqCst);
        Dropping { drops: Arc::clone(self), ino }
    }

    fn has(&self, ino: Ino) -> bool {
        self.active.load(Ordering::SeqCst) > 0 && self.files.lock().contains_key(&ino)
    }

    /// Whether all have ended in time.
    fn wait(&self, ino: Ino, until: Option<Instant>) -> bool {
        let mut files = self.files.lock();
        while files.contains_key(&ino) {
            match until {
                None => self.ended.wait(&mut files),
                Some(until) if self.ended.wait_until(&mut files, until).timed_out() => {
                    return !files.contains_key(&ino);
                }
                Some(_) => {}
            }
        }
        true
    }
}

/// How the data of an open handle is served that was to be served by tierfs.
#[derive(Debug)]
pub(in crate::union) enum Plain {
    /// By the kernel: another open has settled for that, and the two must not be mixed.
    Kernel(Arc<Registration>),
    /// By tierfs, and what the kernel holds may stay.
    Kept,
    /// By tierfs, once the kernel has dropped what it holds. Whether no other handle is open.
    Outdated(Dropping, bool),
}

impl Inodes {
    /// Counts an open handle whose data tierfs serves, of a file of this version (see [`AtOpen`]). Waits while
    /// the kernel drops pages of the file, but for a handle that only reads no longer than `patience`.
    pub(in crate::union) fn serve_plain(
        &self,
        ino: Ino,
        access: Access,
        (version, anew): (Option<u64>, bool),
        patience: Duration,
    ) -> Result<(Plain, Counted)> {
        let mut in_time = true;
        loop {
            let mut shard = self.shard(ino).lock();
            let inode = shard.get_mut(&ino.0).ok_or(Errno::ESTALE)?;
            if let Some(backing) = &inode.backing {
                return Ok((Plain::Kernel(Arc::clone(backing)), None));
            }
            if in_time && self.drops.has(ino) {
                drop(shard);
                in_time = self.wait_dropped(ino, access, patience);
                continue;
            }
            let open = AtOpen { version, alone: inode.handles <= 1, written: inode.plain_writers > 0, anew };
            let (pages, outdated) = inode.pages.at_open(&open);
            inode.plain += 1;
            inode.plain_writers += u32::from(access.writes());
            self.open_plain.fetch_add(1, Ordering::Relaxed);
            inode.pages = if in_time { pages } else { Pages::Unsure };
            let counted = access.writes().then(|| inode.bereft());
            let kept = !in_time || !outdated;
            return Ok((if kept { Plain::Kept } else { Plain::Outdated(self.drops.begin(ino), open.alone) }, counted));
        }
    }

    /// A handle writes no more that was counted as one that does.
    pub(in crate::union) fn uncount(&self, ino: Ino, counted: Counted) {
        let _forgotten = self.with(ino, |inode| inode.uncount(counted));
    }

    /// Waits until the kernel drops no pages of the file any more: a write may begin only then. For a handle
    /// that only reads no longer than `patience`. Whether it is so.
    pub(in crate::union) fn wait_dropped(&self, ino: Ino, access: Access, patience: Duration) -> bool {
        self.drops.wait(ino, (!access.writes()).then(|| Instant::now() + patience))
    }

    /// Whether the kernel is being made to drop pages of the file.
    pub(in crate::union) fn is_dropping(&self, ino: Ino) -> bool {
        self.drops.has(ino)
    }

    /// The kernel may hold anything of the file.
    pub(in crate::union) fn unsure(&self, ino: Ino) {
        let _forgotten = self.with(ino, |inode| inode.pages = Pages::Unsure);
    }

    /// See [`crate::union::Union::outdated`].
    pub(in crate::union) fn outdated(&self, ino: Ino, certain: bool) -> Outdated {
        let mut shard = self.shard(ino).lock();
        if let Some(inode) = shard.get_mut(&ino.0) {
            inode.pages = inode.pages.doubted();
            if inode.plain_writers > 0 {
                return if certain { Outdated::All(None) } else { Outdated::Attributes };
            }
        }
        Outdated::All(Some(self.drops.begin(ino)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::types::ids::{Rank, Ranks};

    const LONG: Duration = Duration::from_secs(3600);
    const INO: Ino = Ino::ROOT;

    /// With one inode, of which the kernel may hold another version than 7.
    fn table() -> Inodes {
        let inodes = Inodes::new(0);
        inodes.insert_root(Ranks::only(Rank::PRIMARY));
        inodes.unsure(INO);
        inodes
    }

    fn serve(inodes: &Inodes, access: Access, patience: Duration) -> Plain {
        inodes.serve_plain(INO, access, (Some(7), false), patience).unwrap().0
    }

    /// The second guard was dropped with the table locked, and stopped the mount.
    #[test]
    fn two_drops_of_one_file_hold_nothing_up_and_a_writer_waits_for_both() {
        let inodes = table();
        let [first, second] = [inodes.outdated(INO, true), inodes.outdated(INO, false)];
        inodes.opened(INO, Access::Write).unwrap();
        let (done, served) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let outdated = matches!(serve(&inodes, Access::Write, Duration::ZERO), Plain::Outdated(..));
                done.send(outdated).unwrap();
            });
            assert!(served.try_recv().is_err());
            drop(first);
            assert!(served.try_recv().is_err() && inodes.is_dropping(INO));
            drop(second);
            assert!(served.recv().unwrap(), "its pages were doubted");
        });
        assert!(!inodes.is_dropping(INO));
    }

    #[test]
    fn a_reader_waits_no_longer_than_it_must() {
        let inodes = table();
        let _hangs = inodes.outdated(INO, true);
        inodes.opened(INO, Access::Read).unwrap();
        assert!(matches!(serve(&inodes, Access::Read, Duration::ZERO), Plain::Kept));
        assert_eq!(inodes.with(INO, |inode| inode.pages).unwrap(), Pages::Unsure);
    }

    /// Each took the other for a writer, and both kept what the kernel had.
    #[test]
    fn of_two_writers_that_open_at_once_one_has_pages_dropped() {
        let inodes = table();
        for _ in 0..2 {
            inodes.opened(INO, Access::ReadWrite).unwrap();
        }
        assert!(matches!(serve(&inodes, Access::ReadWrite, LONG), Plain::Outdated(_, false)));
        assert!(matches!(serve(&inodes, Access::ReadWrite, LONG), Plain::Kept));
        assert!(matches!(inodes.outdated(INO, false), Outdated::Attributes));
        assert!(matches!(inodes.outdated(INO, true), Outdated::All(None)));
        for _ in 0..2 {
            inodes.released(INO, true, true, Some(0));
        }
        assert!(matches!(inodes.outdated(INO, false), Outdated::All(Some(_))));
    }
}
