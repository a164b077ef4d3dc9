//! Changes that other programs make in the tiers, beside the mount.
//!
//! The kernel keeps names, attributes and absences of the mount for long; each of them is wrong
//! from the moment another program changes the tier below. [`start`] watches the tiers and tells
//! a [`Listener`], which invalidates. fanotify sees a whole filesystem at once and leaves out
//! what this process did itself; where it is not allowed or not able, inotify (through `notify`)
//! watches the directories that [`Watch::learn`] names; where the storage cannot tell at all,
//! [`Coverage`] says so and the caller keeps nothing for long.
//!
//! Watching never slows what it watches more than the kernel's queueing costs: after a wakeup the
//! thread drains, merges equal changes, delivers, and then does not look again for [`NAP`].
//!
//! FUSE passthrough writes as the client, so its writes cannot be told from others' by the process.
//! They go through the mounts by which this process reaches the tiers: if those are private
//! ([`crate::sys::tree::private_clone`]), an ignore mark on each leaves them out.
//!
//! Seen late: writes through a writable mapping, when it is unmapped. Not seen: a changed link
//! count of the *other* names of a file that is linked or unlinked; changes that another machine
//! makes on shared storage.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::sys::fanotify::{filesystem_of, is_remote};
use crate::types::errno::Result;
use crate::types::ids::Rank;

mod batch;
pub mod file;
mod learned;
mod whole;

#[cfg(test)]
mod end_tests;
#[cfg(test)]
mod tests;

use learned::Learned;
use whole::Whole;

/// How long the thread leaves events in the queue after it has emptied it: the writer is not
/// charged a wakeup for each, and equal events merge. Also how late, at most, a change is told
/// after another one.
pub const NAP: Duration = Duration::from_millis(10);

/// One change in a tier.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The directory (O_PATH), held open only for the call, and reached through the mount of the
    /// tier as [`start`] got it. It need not be inside a tier: all changes of a tier's filesystem
    /// are told.
    pub dir: BorrowedFd<'a>,
    /// The name in `dir`; `None`: the directory itself. A change of a directory's attributes is told
    /// so through fanotify, and both so and by the name in its parent through inotify.
    pub name: Option<&'a [u8]>,
    /// What happened to it. A name that is there may meanwhile be another object.
    pub what: What,
    /// Whether it may be a change of this process: inotify does not tell who made it.
    pub may_be_own: bool,
    /// Whether the name meant a directory.
    pub is_dir: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// The name was created, deleted or renamed, so the attributes of `dir` changed too.
    Entry,
    /// Attributes changed, contents did not.
    Attributes,
    /// Contents changed, and with them size and times.
    Data,
}

/// Who is told. Called from one thread at a time, never with a lock of this module held.
pub trait Listener: Send + Sync {
    /// One change. Several changes of one name in one batch are merged; those of different names
    /// come in no order.
    fn changed(&self, change: &Change<'_>);

    /// Changes were missed: anything in any tier may be different.
    fn lost(&self);
}

/// How well a tier, or a directory of it, is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Every change is told.
    Watched,
    /// Changes are told in the directories for which [`Watch::learn`] answers `Watched`.
    ByDirectory,
    /// Nothing is told.
    Unwatched(Reason),
}

/// Why nothing is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A network or FUSE filesystem: others change it without this kernel's knowledge.
    Remote,
    /// Neither fanotify nor inotify can be used.
    Unsupported,
    /// No more directories can be watched (`fs.inotify.max_user_watches`, descriptors).
    Limit,
    /// The directory cannot be watched, for example for want of read permission.
    Refused,
}

/// Watches until it is dropped. Dropping waits for a running call of the listener to return.
#[derive(Debug)]
pub struct Watch {
    coverage: Vec<Coverage>,
    learned: Option<Learned>,
    _whole: Option<Whole>,
}

impl Watch {
    /// Gives back what was borrowed for a request. It may be the last that holds the watch, which then ends here, and
    /// its end waits for its threads. These may wait for the kernel's lock of a directory, which is held for this very
    /// request: so another thread ends it.
    pub fn let_go(watch: Arc<Watch>) {
        if let Some(last) = Arc::into_inner(watch) {
            let ends = std::thread::Builder::new().name("watch-end".into()).spawn(move || drop(last));
            drop(ends.map_err(|error| tracing::warn!("a request may wait for the end of a watch: {error}")));
        }
    }

    /// How well each tier is watched, by rank.
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    /// Watches `dir` of the tier `rank` too, if that needs to be asked for. Cheap on a tier that
    /// is watched as a whole, and for a directory that is known already. What happened in `dir`
    /// before the call is not told: read attributes and names after it.
    pub fn learn(&self, rank: Rank, dir: BorrowedFd<'_>) -> Coverage {
        match (self.coverage.get(rank.index()), &self.learned) {
            (Some(Coverage::ByDirectory), Some(learned)) => learned.add(dir),
            (Some(Coverage::ByDirectory) | None, _) => Coverage::Unwatched(Reason::Unsupported),
            (Some(known), _) => *known,
        }
    }
}

/// Watches `tiers` for `listener`: their roots in the order of rank (O_PATH will do), as the
/// administrator mounted them. `own` are the private clones of them through which this process
/// reads, writes and passes through; what happens there is not told. A tier without a clone only
/// has passthrough told and slowed (a microsecond per write). To be called in the process that
/// serves the mount, after any fork.
///
/// # Errors
/// Only what stops a thread from being started; a tier that cannot be watched is no error.
pub fn start(tiers: &[BorrowedFd<'_>], own: &[BorrowedFd<'_>], listener: Arc<dyn Listener>) -> Result<Watch> {
    let mut coverage = vec![Coverage::ByDirectory; tiers.len()];
    for (tier, covered) in tiers.iter().zip(&mut coverage) {
        if filesystem_of(*tier).is_ok_and(|(_, kind)| is_remote(kind)) {
            *covered = Coverage::Unwatched(Reason::Remote);
        }
    }
    let whole = Whole::start(tiers, own, &mut coverage, Arc::clone(&listener))?;
    let learned = coverage.contains(&Coverage::ByDirectory).then(|| Learned::start(listener)).transpose()?.flatten();
    if learned.is_none() {
        for covered in coverage.iter_mut().filter(|c| **c == Coverage::ByDirectory) {
            *covered = Coverage::Unwatched(Reason::Unsupported);
        }
    }
    Ok(Watch { coverage, learned, _whole: whole })
}
