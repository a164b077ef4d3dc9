//! Moving files between tiers: the one engine.
//!
//! scan → plan → for each batch: stage, swap. A plan is a value, so a dry run, `explain` and the
//! tests see what a run would do. The running mount and the command alone both call [`run`] on a
//! [`Union`]: a mount on its own, the command on one it has opened under the tiers' locks.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::policy::{Limits, Order, Policy, Verify};
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;

#[cfg(test)]
mod alone_tests;
#[cfg(test)]
mod beside_tests;
#[cfg(test)]
mod between_tests;
mod book;
mod claims;
mod contents;
#[cfg(test)]
mod copied_tests;
mod copying;
mod digest;
mod durable;
mod engine;
mod gather;
mod known;
pub mod manifest;
mod pace;
mod plan;
mod preflight;
mod probe;
mod promotions;
#[cfg(test)]
mod race_tests;
mod record;
mod recover;
mod rehearsal;
#[cfg(test)]
mod rehearsal_tests;
#[cfg(test)]
mod removals_tests;
#[cfg(test)]
mod renames_tests;
mod reserve;
mod room;
pub mod scan;
#[cfg(test)]
mod spy_tests;
mod stage;
mod stations;
mod swap;
#[cfg(test)]
mod taken_tests;
#[cfg(test)]
mod tests;
mod times;
mod trash;
mod ways;

pub use contents::prove;
pub use digest::Digest;
pub use engine::run;
pub use probe::probe;
pub use record::{OWN_DIRS, moving};
pub use recover::{Cut, clear_leftovers, cut_short, recover, recover_in_use};
pub use reserve::{WANTED_MIB, keep as keep_room};

/// What to move.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Which files, where to.
    pub what: What,
    /// Only these paths and what is below them; empty for everything.
    pub paths: Vec<UnionPath>,
    /// When to stop.
    pub limits: Limits,
    /// Demotes only until so many hundredths of the tier the files leave are free.
    pub until_free_percent: Option<u8>,
    /// In which order.
    pub order: Order,
    /// How a copy is proved.
    pub verify: Verify,
    /// Failed files after which the run stops; `None` for never.
    pub errors_max: Option<u64>,
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// How the files are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// By a policy, on every tier.
    Policy(Box<Policy>),
    /// The files at and below the paths go to this tier, whatever their age: a recall.
    To(Rank),
    /// What the named run moved goes back to where it was.
    Undo(String),
    /// Files leave a tier until there is room enough again.
    Relieve(Box<Relieve>),
    /// The paths are files that were used: those that this policy promotes then move up.
    Promote(Box<Policy>),
}

/// Which tier is too full, and what may go.
#[derive(Debug, Clone, PartialEq)]
pub struct Relieve {
    /// With watermarks for the tier.
    pub policy: Policy,
    /// Which tier.
    pub tier: Rank,
    /// Bytes that are to become free.
    pub bytes: u64,
    /// These stay.
    pub except: HashSet<UnionPath>,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            What::Policy(policy) => match policy.only_target() {
                // As nearly every run does.
                None | Some(Rank(1)) => f.write_str("migrate"),
                Some(rank) => write!(f, "migrate to {rank}"),
            },
            What::To(rank) => write!(f, "recall to {rank}"),
            What::Undo(run) => write!(f, "undo {run}"),
            What::Relieve(relieve) => write!(f, "make room on {}", relieve.tier),
            What::Promote(_) => f.write_str("promote"),
        }
    }
}

/// Why a file does not move though the plan says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// A program has it open, through the mount or beside it.
    InUse,
    /// It changed since it was planned.
    Changed,
    /// It is gone.
    Gone,
    /// Some of its hard links are outside of what was scanned.
    LinksOutside,
    /// Another tier has something under one of its names.
    Occupied,
    /// Another copy hides it.
    Shadowed,
    /// Not a regular file.
    Special,
    /// `chattr +i` or `+a`.
    Immutable,
    /// Encrypted by its filesystem (fscrypt) or sealed by fs-verity.
    Sealed,
    /// The target cannot represent an extended attribute or ACL.
    Xattr,
    /// The target cannot represent its times.
    Times,
    /// The target cannot represent owner or mode, or this user may not set them.
    Owner,
    /// Too large for the target's filesystem.
    TooLarge,
    /// The target has no room for it.
    NoSpace,
    /// A quota of the target has no room for it.
    Quota,
    /// It is larger than all that a run may move.
    OverLimit,
    /// It is on a filesystem mounted inside its tier, or the target directory is.
    Nested,
    /// Nobody can tell whether it is in use: its filesystem gives no leases.
    NoLease,
    /// Its filesystem tells no birth times: the next file there could get its inode number, and both
    /// would be taken for one.
    NoBirthTime,
}

/// What keeps one file from moving at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// A run would skip it.
    Stays(Skip),
    /// This error came up while this was done.
    Failed(Errno, &'static str),
    /// Nothing can be written to this tier.
    ReadOnly(Rank),
    /// The whole union is read-only, or a tier is missing.
    Mount,
}

/// A thing that happened. Paths are from the root of the union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The scan goes on: files and bytes seen so far.
    Scanned {
        /// Files.
        files: u64,
        /// Bytes.
        bytes: u64,
    },
    /// The plan is made: what will move.
    Planned {
        /// Files.
        files: u64,
        /// Bytes.
        bytes: u64,
    },
    /// So many bytes more were copied.
    Copied {
        /// Bytes.
        bytes: u64,
    },
    /// A file has moved or, in a dry run, would.
    Moved {
        /// Which.
        path: UnionPath,
        /// From this tier.
        from: Rank,
        /// To this one.
        to: Rank,
        /// Its size.
        bytes: u64,
        /// Its age by the policy, zero where there is none.
        age: Duration,
    },
    /// A file stays though planned.
    Skipped {
        /// Which.
        path: UnionPath,
        /// Why.
        why: Skip,
    },
    /// A file could not be moved for an error of a tier.
    Failed {
        /// Which.
        path: UnionPath,
        /// The error.
        errno: Errno,
        /// What was being done.
        during: &'static str,
    },
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// On.
    On,
    /// Stop: the user wants it so.
    Stop,
}

/// Why a run ended before its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A limit or the end of a window.
    Limit,
    /// The user.
    Interrupted,
    /// The target is full.
    Full(Rank),
    /// Too many errors.
    Errors,
    /// An error that concerns a whole tier.
    Failed(Rank),
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// The name of the run, by which it can be undone; empty if nothing moved.
    pub run: String,
    /// Regular files looked at.
    pub scanned: u64,
    /// Files moved (hard links counted once) or, in a dry run, that would.
    pub moved: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes that those which have moved took on the tiers they left: fewer where they have holes, or the
    /// tier compresses.
    pub taken: u64,
    /// Files skipped, by reason.
    pub skipped: BTreeMap<Skip, u64>,
    /// Files failed.
    pub failed: u64,
    /// Why it ended early.
    pub stopped: Option<Stop>,
    /// How long it took.
    pub took: Duration,
}

/// Why a run could not be made at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Another run is at work.
    Busy,
    /// The union is read-only or a tier is missing.
    ReadOnly,
    /// There is no such path, run or tier.
    NotFound(String),
    /// A path cannot be looked at.
    Path(UnionPath, Errno),
    /// A tier failed.
    Tier(Rank, Errno),
    /// The primary is so full that no move can be put on record.
    NoRoom,
}
