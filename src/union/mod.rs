//! One namespace over all tiers, in FUSE's words but without fuser's types.
//!
//! A request names an inode number and perhaps a component below it. The difficulty is that a tier
//! knows only directories and names, that names change while requests run, and that programs write
//! beside the mount. What settles it:
//!
//! - [`inodes`] says where an inode was last seen (parent, name, rank). It is a hint: whoever acts
//!   on a file first holds it and compares its body with the one the kernel asked for, and answers
//!   ESTALE if another file has taken the name. The kernel then looks the name up again.
//! - [`dirs`] keeps directories open, a descriptor for each tier, so a directory is never reached
//!   through a path. The number of descriptors is bounded.
//! - [`resolve`] joins what the tiers hold under one name into a visible copy.
//!
//! - [`gates`] keeps the migrator and requests apart while a file changes its tier.
//!
//! Lock order: who brings renames to rest ([`unfinished`]), then gates, then `clone_lock`, then a shard of the inode table, then nothing. No lock of the table
//! is held across a call into a tier. The kernel serialises changes of one directory (it holds the
//! directory's lock across the request), so two requests never create or remove the same name.

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::tier::Tier;
use crate::types::attr::{Kind, Stat, Time};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank, Ranks};

mod attributes;
mod chain;
pub mod create;
mod data;
mod dirs;
mod dos;
mod front;
mod gates;
mod health;
pub mod identity;
mod inodes;
mod journal;
mod link;
mod lookup;
pub mod moving;
pub mod open;
mod out_of_band;
mod pages;
pub mod passthrough;
mod place;
pub mod readdir;
mod remove;
mod rename;
mod resolve;
mod space;
#[cfg(test)]
mod tests;
mod unfinished;
pub mod uses;
mod xattrs;

pub use crate::tier::guarded::calls;
pub use health::Closing;
pub use inodes::{Opens, Touched};
pub use open::Access;
pub use out_of_band::Stale;
pub use pages::Outdated;
pub use space::is_low;

/// A tier in its place. One that is `None` never comes; others may go and come back
/// ([`Tier::is_there`]), which [`Union::lose`] and [`Union::regain`] are told.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The tier.
    pub tier: Option<Arc<dyn Tier>>,
    /// New files go elsewhere below so many free bytes or hundredths.
    pub min_free: MinFree,
}

/// Free space a tier keeps for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFree {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of the filesystem.
    Percent(u8),
}

/// Whose space `statfs` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceOf {
    /// All tiers', each filesystem once.
    Sum,
    /// One tier's.
    Tier(Rank),
}

/// How the union behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long the kernel may keep names, attributes and absences that may change untold.
    pub ttl: Duration,
    /// The most of that for the attributes of regular files.
    pub file_ttl: Duration,
    /// Whose space `statfs` tells.
    pub space_of: SpaceOf,
    /// Whether new files go to the next tier when one is full.
    pub spill: bool,
    /// Whether nothing may be changed.
    pub read_only: bool,
    /// Files on this tier and slower ones carry `OFFLINE` among their DOS attributes.
    pub offline_from: Option<Rank>,
    /// Most directories kept open at a time.
    pub dirs_max: usize,
    /// Places kept of what the kernel has forgotten, for who comes with a file handle.
    pub remember: usize,
    /// Whether tierfs runs as root: it may set any owner and use `trusted.` attributes.
    pub root: bool,
}

/// Attributes as the union shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// Tells apart two inodes that had one number.
    pub generation: u32,
    /// Everything else. `body` and `generation` in it are the visible copy's.
    pub stat: Stat,
    /// How long the kernel may keep the attributes.
    pub ttl: Duration,
    /// How long it may keep the name, where one was looked up.
    pub name_ttl: Duration,
}

/// What a lookup finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Something.
    Object(Attr),
    /// Nothing, and for how long the kernel may remember that.
    Absent(Duration),
}

/// Has directories watched one by one, where a tier cannot be watched as a whole.
pub trait Learner: std::fmt::Debug + Send + Sync {
    /// Whether changes in `dir` of `rank` are told from here on.
    fn learn(&self, rank: Rank, dir: BorrowedFd<'_>) -> bool;
}

/// Who is told of files that take other space since they moved.
struct Moved(Box<dyn Fn(Ino) + Send + Sync>);

impl std::fmt::Debug for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Moved")
    }
}

/// The union of the tiers.
#[derive(Debug)]
pub struct Union {
    slots: Vec<Slot>,
    settings: Settings,
    inodes: inodes::Inodes,
    dirs: dirs::Dirs,
    handles: open::Handles,
    /// One ancestor chain is cloned at a time, so that no directory gets two clones on a tier, and
    /// none while a directory is renamed, so that no clone appears under a name that has gone.
    clone_lock: Mutex<()>,
    gates: gates::Gates,
    settling: gates::Settling,
    renames: unfinished::Renames,
    room: space::Room,
    stamp_key: CString,
    registered: passthrough::Registered,
    states: health::States,
    /// How long what changes only with notice may be kept, in milliseconds.
    told_ms: AtomicU64,
    learner: OnceLock<Box<dyn Learner>>,
    moved: OnceLock<Moved>,
    dropper: OnceLock<pages::Dropper>,
    control: OnceLock<PathBuf>,
    config: OnceLock<PathBuf>,
    observer: OnceLock<Box<dyn uses::Observer>>,
}

impl Union {
    /// Over `slots`, fastest first.
    ///
    /// # Errors
    /// EINVAL for no tier or more than eight; EIO if all are missing; what a tier says of its root.
    pub fn new(slots: Vec<Slot>, settings: Settings) -> Result<Union> {
        if slots.is_empty() || slots.len() > crate::types::ids::TIERS_MAX {
            return Err(Errno::EINVAL);
        }
        let roots =
            slots.iter().map(|s| s.tier.as_ref().filter(|t| t.is_there()).map(|t| t.root())).collect::<Vec<_>>();
        let gone = (0u8..).map(Rank).zip(&roots).filter(|(_, root)| root.is_none());
        let missing = gone.fold(Ranks::NONE, |ranks, (rank, _)| ranks.with(rank));
        let dirs = dirs::Dirs::new(roots, settings.dirs_max)?;
        let union = Union {
            room: space::Room::new(slots.len()),
            inodes: inodes::Inodes::new(settings.remember),
            dirs,
            handles: open::Handles::default(),
            clone_lock: Mutex::new(()),
            gates: gates::Gates::default(),
            settling: gates::Settling::default(),
            renames: unfinished::Renames::default(),
            stamp_key: identity::stamp_key(settings.root).to_owned(),
            registered: passthrough::Registered::default(),
            told_ms: AtomicU64::new(0),
            learner: OnceLock::new(),
            moved: OnceLock::new(),
            dropper: OnceLock::new(),
            control: OnceLock::new(),
            config: OnceLock::new(),
            observer: OnceLock::new(),
            states: health::States::new(slots.len(), missing),
            slots,
            settings,
        };
        union.inodes.insert_root(union.dirs.root().ranks());
        if !union.is_degraded() && !union.settings.read_only {
            union.recover()?;
        }
        Ok(union)
    }

    /// How many tiers there are, missing ones counted.
    pub fn tiers(&self) -> usize {
        self.slots.len()
    }

    /// How many inodes the kernel knows.
    pub fn inodes_known(&self) -> usize {
        self.inodes.len()
    }

    /// How many handles of files are open.
    pub fn opens(&self) -> Opens {
        self.inodes.opens()
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn tier(&self, rank: Rank) -> Result<&Arc<dyn Tier>> {
        let tier = self.slots.get(rank.index()).and_then(|s| s.tier.as_ref()).ok_or(Errno::EIO)?;
        // One that is being taken in again is there before it is served.
        if self.missing().has(rank) && !tier.is_there() { Err(Errno::EIO) } else { Ok(tier) }
    }

    /// EROFS unless names may be changed. With a tier missing they may not: what is done to a name
    /// here could be undone by a copy there.
    fn may_change_names(&self) -> Result<()> {
        if self.settings.read_only || self.is_degraded() { Err(Errno::EROFS) } else { Ok(()) }
    }

    fn may_change_data(&self) -> Result<()> {
        if self.settings.read_only { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// From here on, changes beside the mount are told, or there are none: what is looked up may be
    /// kept for `ttl`.
    pub fn trust(&self, ttl: Duration) {
        self.told_ms.store(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// From here on, changes beside the mount are not told.
    pub fn distrust(&self) {
        self.trust(Duration::ZERO);
    }

    /// How long what changes only with notice may be kept.
    pub fn trusted(&self) -> Duration {
        Duration::from_millis(self.told_ms.load(Ordering::Relaxed)).max(self.settings.ttl)
    }

    /// Directories are watched only as `learner` learns of them.
    pub fn set_learner(&self, learner: Box<dyn Learner>) {
        // There is one watch and it sets this once.
        let _already_set = self.learner.set(learner);
        // The root is open already; every other directory learns of this when it is opened.
        let root = self.dirs.root();
        root.set_watched(root.copies().all(|(rank, dir)| self.learn(rank, dir.as_ref())));
    }

    /// Where commands reach the daemon of this mount: what `user.tierfs.control` answers.
    pub fn set_control(&self, socket: PathBuf) {
        // A mount has one socket and it is set once.
        let _already_set = self.control.set(socket);
    }

    /// The configuration by which commands unlock the tiers of this mount: what `user.tierfs.config` answers.
    pub fn set_config(&self, file: PathBuf) {
        // A mount has one and it is set once.
        let _already_set = self.config.set(file);
    }

    /// How long what is in the directory may be kept.
    fn ttl_in(&self, node: &dirs::Node) -> Duration {
        if node.watched() { self.trusted() } else { self.settings.ttl }
    }

    fn attr(ino: Ino, generation: u32, stat: Stat, ttl: Duration) -> Attr {
        Attr { ino, generation, stat, ttl, name_ttl: Duration::ZERO }
    }
}

/// Joins the copies of a directory, fastest first: the fastest's attributes, the newest times of
/// change. A directory with several copies has one link, as on btrfs: how many subdirectories the
/// union has cannot be told without reading them all.
fn merge(copies: &[Stat]) -> Option<Stat> {
    let (first, rest) = copies.split_first()?;
    let mut merged = *first;
    let newest = |pick: fn(&Stat) -> Time| copies.iter().map(pick).max().unwrap_or_default();
    if !rest.is_empty() && merged.kind() == Kind::Dir {
        merged.mtime = newest(|s| s.mtime);
        merged.ctime = newest(|s| s.ctime);
        // None once it is removed: an open directory still has attributes.
        merged.nlink = copies.iter().map(|stat| stat.nlink.min(1)).max().unwrap_or(0);
    }
    Some(merged)
}
