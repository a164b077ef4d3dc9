//! What the kernel keeps of the contents of files that tierfs serves itself, and when it must drop it.
//!
//! The kernel sends a write from pages that it has unlocked and that count as clean
//! (`fuse_fill_write_pages`, fs/fuse/file.c). If such a page is dropped while the write is under way, a
//! reader fetches it anew, and may fetch what was there before the write: that stays in memory then, and a
//! program that changes the file by what it reads there damages it. So pages are dropped only while
//! nobody has the file open for writing. The kernel is not asked to drop them by itself where a
//! modification time is another (`FUSE_AUTO_INVAL_DATA`): each write of the mount's own sets one. Nor
//! are they dropped with the answer to an open, which takes effect when other opens have been answered.
//! They are dropped while the open waits, and other opens of the file wait, too.
//!
//! A tier that is lost takes with it what was not synced, and the kernel may still hold that: nobody must read it
//! once the tier is back, since no fsync would write it. Handles of before write nothing any more and do not count.
//!
//! Beside the mount anybody may write at any time; a change that is told is passed on at once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use super::Union;
use super::inodes::{Dropping, Plain};
use super::open::Access;
use super::passthrough::Registration;
use crate::tier::File;
use crate::types::attr::Stat;
use crate::types::errno::Result;
use crate::types::ids::Ino;

/// So long an open waits at most until pages are dropped: the kernel waits for reads that are under way,
/// and the tier may not answer them.
pub(super) const DROP_MAX: Duration = Duration::from_secs(1);

/// Two changes so close to one another may leave the same time on a file: the clock of a filesystem
/// ticks each 1 to 10 ms (`current_time`, fs/inode.c).
const TICK: Duration = Duration::from_millis(100);

/// The same where times have whole seconds, or even ones (FAT).
const COARSE_TICK: Duration = Duration::from_millis(2100);

/// Threads that wait for the kernel to drop pages at a time.
const DROPPERS_MAX: usize = 16;

/// What the kernel may hold of a file's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pages {
    /// Nothing.
    #[default]
    None,
    /// Only what belongs to this version.
    Of(u64),
    /// What may be of an earlier version, or written by programs of the mount since.
    Unsure,
}

/// How a handle is counted among those that write, where tierfs serves them: how often it had lost its tier by then.
/// `None` if it is not.
pub(super) type Counted = Option<u32>;

/// How the data of a handle is served.
#[derive(Debug)]
pub(super) enum Served {
    /// By the kernel: another open has settled for that meanwhile.
    ByKernel(Arc<Registration>),
    /// By tierfs.
    Plain(Counted),
}

/// What is known of a file when it is opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtOpen {
    /// What is there; `None` if another change could look the same.
    pub version: Option<u64>,
    /// No other handle is open.
    pub alone: bool,
    /// Another handle is open for writing and may be written to.
    pub written: bool,
    /// The first handle must find nothing: a read is to come to the tier, or nobody tells of changes
    /// beside the mount.
    pub anew: bool,
}

impl Pages {
    /// What the kernel may hold once the file is open, and whether it must drop what it holds before.
    pub(super) fn at_open(self, open: &AtOpen) -> (Pages, bool) {
        let now = open.version.map_or(Pages::Unsure, Pages::Of);
        match self {
            Pages::None => (now, false),
            _ if open.written => (Pages::Unsure, false),
            Pages::Of(_) if self == now && !(open.alone && open.anew) => (self, false),
            Pages::Of(_) | Pages::Unsure => (now, true),
        }
    }

    /// What it may hold once the file may have changed.
    pub(super) fn doubted(self) -> Pages {
        if self == Pages::None { self } else { Pages::Unsure }
    }
}

/// Tells versions of a file apart; `None` for one that is so young `now` that the next need not look
/// different.
fn version(stat: &Stat, now: SystemTime) -> Option<u64> {
    let changed = u64::try_from(stat.ctime.sec).ok()?;
    let changed = SystemTime::UNIX_EPOCH + Duration::new(changed, stat.ctime.nsec);
    let tick = if (stat.ctime.nsec, stat.mtime.nsec) == (0, 0) { COARSE_TICK } else { TICK };
    if now.duration_since(changed).ok()? < tick {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (stat.body, stat.generation, stat.size, stat.mtime, stat.ctime).hash(&mut hasher);
    Some(hasher.finish())
}

/// What to make the kernel drop for a change beside the mount.
#[derive(Debug)]
pub enum Outdated {
    /// Attributes and contents, before this is dropped.
    All(Option<Dropping>),
    /// Attributes only.
    Attributes,
}

/// Makes the kernel drop the contents of a file, and waits until it has.
pub(super) struct Dropper {
    tell: Arc<dyn Fn(Ino) + Send + Sync>,
    at_work: Arc<AtomicUsize>,
}

/// One of the threads that wait for the kernel.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Dropper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dropper")
    }
}

impl Dropper {
    /// Whether it is begun. The kernel waits for reads of other handles, which need a thread to be served
    /// by: it is asked on one of its own.
    fn beside(&self, ino: Ino, dropping: Dropping) -> bool {
        let place = Place(Arc::clone(&self.at_work));
        if self.at_work.fetch_add(1, Ordering::Relaxed) >= DROPPERS_MAX {
            return false;
        }
        let tell = Arc::clone(&self.tell);
        let drop_them = move || {
            let (_place, _dropping) = (place, dropping);
            tell(ino);
        };
        std::thread::Builder::new().name("tierfs-pages".into()).spawn(drop_them).is_ok()
    }
}

impl Union {
    /// How the kernel is made to drop what it holds of a file's contents. `tell` returns when it has.
    pub fn on_outdated(&self, tell: impl Fn(Ino) + Send + Sync + 'static) {
        // There is one mount and it asks once.
        let _already_set = self.dropper.set(Dropper { tell: Arc::new(tell), at_work: Arc::default() });
    }

    /// Whether an open may have to wait: while the kernel is made to drop what it holds of the file, and to write
    /// to one that has not moved durably yet.
    pub fn may_open_wait(&self, ino: Ino, access: Access) -> bool {
        self.inodes.is_dropping(ino) || access.writes() && self.settling.has(ino)
    }

    /// Counts an open handle whose data tierfs serves, unless another open has settled for the kernel
    /// meanwhile. Nothing outdated is in the kernel's memory afterwards.
    pub(super) fn serve_plain(&self, ino: Ino, access: Access, file: &dyn File) -> Result<Served> {
        let stat = file.stat().ok();
        let told = self.trusted() > self.settings.ttl;
        let anew = !told || access != Access::Write && stat.is_some_and(|stat| self.awaits_read(ino, &stat));
        let version = stat.as_ref().and_then(|stat| version(stat, SystemTime::now()));
        let (plain, counted) = self.inodes.serve_plain(ino, access, (version, anew), DROP_MAX)?;
        match plain {
            Plain::Kernel(backing) => return Ok(Served::ByKernel(backing)),
            Plain::Kept => {}
            Plain::Outdated(dropping, alone) => {
                if !self.drop_pages(ino, access, dropping, alone) {
                    self.inodes.unsure(ino);
                }
            }
        }
        Ok(Served::Plain(counted))
    }

    /// Whether the kernel has dropped what it holds.
    fn drop_pages(&self, ino: Ino, access: Access, dropping: Dropping, alone: bool) -> bool {
        let Some(dropper) = self.dropper.get() else { return false };
        if alone {
            // No handle, so no read under way for which the kernel would wait.
            (dropper.tell)(ino);
            drop(dropping);
            return true;
        }
        dropper.beside(ino, dropping) && self.inodes.wait_dropped(ino, access, DROP_MAX)
    }

    /// A file has changed beside the mount, or may have. Pages of one that is being written to are dropped
    /// only where another program has `certain`ly changed its contents; else when it is opened next and
    /// nobody else has it open for writing.
    pub fn outdated(&self, ino: Ino, certain: bool) -> Outdated {
        self.inodes.outdated(ino, certain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::attr::{Body, Time};

    const QUIET: AtOpen = AtOpen { version: Some(7), alone: true, written: false, anew: false };

    #[test]
    fn pages_of_the_version_that_is_there_are_kept() {
        assert_eq!(Pages::None.at_open(&QUIET), (Pages::Of(7), false));
        assert_eq!(Pages::Of(7).at_open(&QUIET), (Pages::Of(7), false));
        assert_eq!(Pages::Of(6).at_open(&QUIET), (Pages::Of(7), true));
        assert_eq!(Pages::Unsure.at_open(&QUIET), (Pages::Of(7), true));
        assert_eq!(Pages::Of(6).at_open(&AtOpen { alone: false, ..QUIET }), (Pages::Of(7), true));
    }

    #[test]
    fn pages_of_a_young_version_are_not_trusted_at_the_next_open() {
        let young = AtOpen { version: None, ..QUIET };
        assert_eq!(Pages::None.at_open(&young), (Pages::Unsure, false));
        assert_eq!(Pages::Of(7).at_open(&young), (Pages::Unsure, true));
        let time = Time { sec: 1000, nsec: 1 };
        let stat = |size| Stat {
            body: Body(1),
            generation: 0,
            mode: 0o100_644,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size,
            blocks: 8,
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
        };
        let at = |ms: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000 + ms);
        assert_eq!(version(&stat(1), at(50)), None);
        assert_eq!(version(&stat(1), SystemTime::UNIX_EPOCH), None, "of a clock that goes ahead");
        assert!(version(&stat(1), at(200)).is_some());
        let whole = Time { sec: 1000, nsec: 0 };
        assert_eq!(version(&Stat { mtime: whole, ctime: whole, ..stat(1) }, at(2000)), None);
        assert_ne!(version(&stat(1), at(200)), version(&stat(2), at(200)));
    }

    #[test]
    fn pages_are_never_dropped_while_another_handle_writes() {
        for pages in [Pages::Of(6), Pages::Of(7), Pages::Unsure] {
            for (alone, anew) in [(false, false), (false, true)] {
                let open = AtOpen { alone, anew, written: true, ..QUIET };
                assert_eq!(pages.at_open(&open), (Pages::Unsure, false));
            }
        }
    }

    #[test]
    fn only_the_first_handle_finds_nothing_where_a_read_must_come_to_the_tier() {
        let open = AtOpen { anew: true, ..QUIET };
        assert_eq!(Pages::Of(7).at_open(&open), (Pages::Of(7), true));
        assert_eq!(Pages::Of(7).at_open(&AtOpen { alone: false, ..open }), (Pages::Of(7), false));
    }
}
