//! Which tiers are there.
//!
//! A tier can go while the mount is in use, and come back. A request works with the tiers that were
//! there when it opened its directory: a [`super::dirs::Node`] says which were missing then, and what
//! it answers is decided by that. So a request that began before a tier came back says EIO and never
//! that a name is absent.
//!
//! Each set of tiers is an era. A directory that was opened in another is opened anew, and what a
//! lookup has found is remembered only in the era in which it began. While one era ends, directories
//! wait for the next, which takes no call into a tier.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::Union;
use super::dirs::Node;
use super::inodes::Touched;
use crate::types::attr::Stat;
use crate::types::errno::{Errno, Result};
use crate::types::health::{Condition, Health};
use crate::types::ids::{Ino, Rank, Ranks, TIERS_MAX};

/// The state of all tiers.
#[derive(Debug)]
pub(super) struct States {
    missing: AtomicU8,
    /// Odd while one set of tiers gives way to the next.
    era: AtomicU64,
    /// Held from one set of tiers to the next: two at a time would leave neither.
    turning: Mutex<()>,
    /// Held while the era is odd, for who waits for the next.
    between: Mutex<()>,
    /// How often each tier was lost for good: what was open on it then is no more, also when it is back.
    lost: [AtomicU64; TIERS_MAX],
    /// Whether a directory may be known by the number of another of its copies than the slowest.
    mixed: AtomicBool,
    told: Mutex<Vec<Health>>,
}

/// How often each tier was lost at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Losses([u64; TIERS_MAX]);

impl States {
    /// At the beginning `missing` are not there.
    pub(super) fn new(tiers: usize, missing: Ranks) -> States {
        let since = SystemTime::now();
        let state = |rank: u8| {
            let gone = missing.has(Rank(rank));
            Health {
                condition: if gone { Condition::Missing } else { Condition::Serving },
                since,
                reason: if gone { "was not there when the mount began".into() } else { String::new() },
                times_gone: u64::from(gone),
            }
        };
        let told = (0u8..).take(tiers).map(state).collect();
        States {
            missing: AtomicU8::new(missing.0),
            era: AtomicU64::new(0),
            turning: Mutex::default(),
            between: Mutex::default(),
            lost: Default::default(),
            mixed: AtomicBool::new(!missing.is_empty()),
            told: Mutex::new(told),
        }
    }

    pub(super) fn missing(&self) -> Ranks {
        Ranks(self.missing.load(Ordering::SeqCst))
    }

    /// The era that is now. Waits while one gives way to the next.
    pub(super) fn era(&self) -> u64 {
        loop {
            let era = self.era.load(Ordering::SeqCst);
            if era.is_multiple_of(2) {
                return era;
            }
            // Asleep: with many inodes known this takes a while.
            drop(self.between.lock());
        }
    }

    /// How often each tier was lost so far, to be asked before a file is opened.
    pub(super) fn losses(&self) -> Losses {
        Losses(std::array::from_fn(|at| self.lost[at].load(Ordering::SeqCst)))
    }

    /// Whether the tier was lost since.
    pub(super) fn is_lost_since(&self, rank: Rank, losses: &Losses) -> bool {
        self.lost.get(rank.index()).map(|lost| lost.load(Ordering::SeqCst)) != losses.0.get(rank.index()).copied()
    }

    /// Whether it is still the same.
    pub(super) fn is_era(&self, era: u64) -> bool {
        self.era.load(Ordering::SeqCst) == era
    }

    /// Whether directories may be known by other numbers than those of their slowest copies. It stays so: the
    /// kernel may know one for as long as the mount lasts. It costs a look into memory.
    pub(super) fn mixed(&self) -> bool {
        self.mixed.load(Ordering::Relaxed)
    }

    fn tell(&self, rank: Rank, condition: Condition, reason: &str) {
        if let Some(health) = self.told.lock().get_mut(rank.index()) {
            let went = health.condition.is_serving() && !condition.is_serving();
            let since = if health.condition == condition { health.since } else { SystemTime::now() };
            let times_gone = health.times_gone + u64::from(went);
            *health = Health { condition, since, reason: reason.to_owned(), times_gone };
        }
    }
}

/// What is to be closed because a tier has gone: dropping it may take long.
pub struct Closing(#[expect(dead_code, reason = "held to be dropped")] Box<dyn std::any::Any + Send>);

impl std::fmt::Debug for Closing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Closing")
    }
}

impl Union {
    /// How each tier is, fastest first.
    pub fn health(&self) -> Vec<Health> {
        self.states.told.lock().clone()
    }

    /// The tiers that are not there: what they hold is EIO.
    pub fn missing(&self) -> Ranks {
        self.states.missing()
    }

    /// Whether a tier is missing.
    pub fn is_degraded(&self) -> bool {
        !self.missing().is_empty()
    }

    /// A tier is still away, for this reason.
    pub fn explain_missing(&self, rank: Rank, reason: &str) {
        let condition = self.health().get(rank.index()).map(|health| health.condition);
        if let Some(condition) = condition.filter(|condition| !condition.is_serving()) {
            self.states.tell(rank, condition, reason);
        }
    }

    /// A tier has gone. Its calls answer EIO already. From here on what it holds is EIO, and names
    /// are not changed. `same` if what comes back will be the same instance of its filesystem.
    pub fn lose(&self, rank: Rank, condition: Condition, reason: &str, same: bool) -> Closing {
        self.states.mixed.store(true, Ordering::SeqCst);
        let _alone = self.states.turning.lock();
        let missing = self.missing().with(rank);
        if !same && let Some(lost) = self.states.lost.get(rank.index()) {
            lost.fetch_add(1, Ordering::SeqCst);
        }
        let root = self.dirs.root();
        let copies = root.copies().filter(|(r, _)| *r != rank).map(|(r, dir)| (r, Arc::clone(dir))).collect();
        let dirs = self.turn(missing, root.watched(), copies, &[]);
        self.states.tell(rank, condition, reason);
        let registered = (!same).then(|| self.inodes.unregister(rank));
        drop(root);
        Closing(Box::new((dirs, registered)))
    }

    /// A tier that had gone is back, and everything that a crash or its going cut short on it is at
    /// rest.
    ///
    /// # Errors
    /// What its root says: then it is still missing.
    pub fn regain(&self, rank: Rank) -> Result<()> {
        let dir = self.tier(rank)?.root();
        let stat = dir.stat(None)?.ok_or(Errno::EIO)?;
        let watched = self.learn(rank, dir.as_ref());
        let alone = self.states.turning.lock();
        let root = self.dirs.root();
        let mut copies: Vec<_> = root.copies().filter(|(r, _)| *r != rank).map(|(r, d)| (r, Arc::clone(d))).collect();
        copies.push((rank, dir));
        copies.sort_by_key(|(rank, _)| *rank);
        let closing = self.turn(self.missing().without(rank), root.watched() && watched, copies, &[(rank, stat)]);
        self.states.tell(rank, Condition::Serving, "");
        drop(alone);
        // It closes what was open of every tier, also of one that does not answer: who gives that up needs the lock.
        drop((root, closing));
        Ok(())
    }

    /// From one set of tiers to the next.
    fn turn(
        &self,
        missing: Ranks,
        watched: bool,
        copies: Vec<(Rank, Arc<dyn crate::tier::Dir>)>,
        back: &[(Rank, Stat)],
    ) -> impl Sized + use<> {
        let _between = self.states.between.lock();
        let era = self.states.era.fetch_add(1, Ordering::SeqCst) + 2;
        // What is remembered from here on was found in the next era.
        for (rank, _) in back {
            self.inodes.unsettle(*rank);
        }
        self.states.missing.store(missing.0, Ordering::SeqCst);
        let closed = self.dirs.replace_root(Node::new(Ino::ROOT, (missing, era), watched, copies), back);
        self.states.era.store(era, Ordering::SeqCst);
        closed
    }

    /// Passes every inode that the kernel knows to `each`: what it must forget when a tier goes or comes.
    pub fn each_touched(&self, rank: Rank, each: &mut dyn FnMut(Touched)) {
        self.inodes.touched(rank, each);
    }

    /// EROFS for a directory of which a copy may be on a tier that was missing when it was opened. Whoever
    /// changes names asks this after the gate: the tier may have gone while he waited there.
    pub(super) fn may_change_in(&self, node: &Node) -> Result<()> {
        if node.missing.is_empty() && self.states.is_era(node.era) { Ok(()) } else { Err(Errno::EROFS) }
    }

    /// The directory, with the tiers of `era`. EIO in any other: a step is made durable on every tier that
    /// was there at the look, or the next is not taken.
    pub(super) fn dir_in(&self, ino: Ino, era: u64) -> Result<Arc<Node>> {
        let node = self.dir(ino)?;
        if node.era == era { Ok(node) } else { Err(Errno::EIO) }
    }

    /// EIO for a file on a tier that is missing.
    pub(super) fn must_be_there(&self, ino: Ino) -> Result<()> {
        let missing = self.missing();
        if !missing.is_empty() && self.inodes.rank(ino).is_ok_and(|rank| missing.has(rank)) {
            return Err(Errno::EIO);
        }
        Ok(())
    }

    /// Waits until no request is under way that began when names could be changed. Called while a tier
    /// is missing, so that none begins.
    pub fn let_changes_end(&self) {
        self.gates.drain();
        drop(self.clone_lock.lock());
    }
}
