//! Who is told that files are used, and opens that leave no trace.

use std::time::UNIX_EPOCH;

use super::Union;
use super::open::Access;
use crate::types::attr::Stat;
use crate::types::errno::Result;
use crate::types::ids::{Ino, Rank};
use crate::types::path::UnionPath;

/// In seconds.
const DAY: i64 = 86_400;

/// Is told of uses. Called from the threads that serve requests, with no lock held: it must be quick.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// Whether any use counts at present. Asked with every open and close, so it must cost no more than a
    /// look at a flag.
    fn is_wanted(&self) -> bool;

    /// The process (or thread) `pid` opens a file that is on `rank`.
    fn opens(&self, ino: Ino, rank: Rank, access: Access, pid: u32) -> Trace;

    /// What was told to open did not, and nobody else has it open.
    fn not_opened(&self, ino: Ino);

    /// The last handle of a file on `rank` is closed.
    fn closed(&self, ino: Ino, rank: Rank);
}

/// What an open leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// Reading sets the access time as the storage does it.
    Usual,
    /// Reading leaves the access time as it is.
    None,
}

impl Union {
    /// Has `observer` told of uses from here on. There is one, and it is set once.
    pub fn observe(&self, observer: Box<dyn Observer>) {
        // A second one would be a mistake of the caller that costs nothing.
        let _already_set = self.observer.set(observer);
    }

    /// The observer while it wants to be told of anything.
    fn wanting(&self) -> Option<&dyn Observer> {
        self.observer.get().map(AsRef::as_ref).filter(|observer| observer.is_wanted())
    }

    /// Tells of an open. Whether it is to leave no trace and can be served so: only by tierfs
    /// itself, so while no other handle is served by the kernel. A mapping that outlives its handle
    /// would not show in what tierfs reads ahead for others, so it must be known that there is none.
    pub(super) fn opens_quietly(&self, ino: Ino, access: Access, pid: u32) -> bool {
        let Some(observer) = self.wanting() else { return false };
        let Ok(rank) = self.inodes.rank(ino) else { return false };
        observer.opens(ino, rank, access, pid) == Trace::None
            && access == Access::Read
            && (!self.inodes.is_idle(ino) || !self.inodes.writing(ino).1 && self.inodes.unregister_idle(ino))
    }

    /// Whether the next read of a file sets its access time: as with `relatime`, once a day. A read
    /// that the kernel serves from its memory of the mount would not come to the tier.
    pub(super) fn awaits_read(&self, ino: Ino, stat: &Stat) -> bool {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let tier = || self.inodes.rank(ino).and_then(|rank| self.tier(rank));
        stat.atime.sec.saturating_add(DAY) <= i64::try_from(now).unwrap_or(i64::MAX)
            && tier().is_ok_and(|tier| tier.keeps_access_times())
    }

    /// Takes back what was told of an open that failed.
    pub(super) fn tell_not_opened(&self, ino: Ino) {
        if let Some(observer) = self.wanting()
            && self.inodes.is_idle(ino)
        {
            observer.not_opened(ino);
        }
    }

    /// Tells of the last close.
    pub(super) fn tell_closed(&self, ino: Ino, rank: Option<Rank>) {
        if let (Some(rank), Some(observer)) = (rank, self.wanting()) {
            observer.closed(ino, rank);
        }
    }

    /// The directory that an inode is, or is in as last seen; `None` if the kernel has forgotten it.
    pub fn directory_of(&self, ino: Ino) -> Option<Ino> {
        self.inodes.directory_of(ino)
    }

    /// Where a file was last seen: a hint, which a rename may have made wrong by now.
    ///
    /// # Errors
    /// ESTALE if it has no name, or the kernel has forgotten it.
    pub fn last_path(&self, ino: Ino) -> Result<UnionPath> {
        let spot = self.inodes.named(ino)?;
        let above = self.path_of(spot.parent)?;
        let dir = above.iter().fold(UnionPath::root(), |path, name| path.join(name.as_bytes()));
        Ok(dir.join(spot.name.as_bytes()))
    }
}
