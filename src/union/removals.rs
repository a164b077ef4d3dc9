//! Names that went from a tier and may not be gone on its disk yet.
//!
//! One filesystem keeps its names in order: a file that was removed does not come back once a newer one of its name
//! is durable. Two filesystems know nothing of each other. So what went from a tier is remembered until that tier has
//! it on its disk, and is made durable before the same name is made, given or removed on another: else a
//! power cut could bring the former file back, to hide or to outlive a newer one. A name that stays on its tier costs
//! nothing: removals are never made durable for their own sake, however many there are.
//!
//! What is remembered is bounded. It is coarsened when there is too much: from names to a directory, from directories
//! to a tier. A name that is taken for one that went costs one sync.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Union;
use super::dirs::Node;
use crate::tier::{Dir, Syncing};
use crate::types::errno::Result;
use crate::types::ids::{Ino, Rank};
use crate::types::name::Name;

/// Requests in different directories seldom wait for each other.
const SHARDS: usize = 16;

/// Most names remembered in one shard.
const NAMES_MAX: usize = 2048;

/// Most directories with such names in one shard.
const DIRS_MAX: usize = 512;

/// Where the file of a name went that was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    /// Nowhere, or to another name in the same directory.
    Here,
    /// To a name in this directory, which must have it before the former name goes for good.
    Dir(Ino),
    /// Several were taken away, to more than one directory.
    Many,
}

impl Into {
    fn and(self, other: Into) -> Into {
        if self == other { self } else { Into::Many }
    }
}

/// A name that went from a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Went {
    rank: Rank,
    into: Into,
    since: u64,
}

impl Went {
    fn and(self, other: Went) -> Went {
        Went { rank: self.rank, into: self.into.and(other.into), since: self.since.max(other.since) }
    }
}

/// A hash, or none for every name of the directory.
type Key = (Option<u64>, Rank);

#[derive(Debug, Default)]
struct Shard {
    dirs: HashMap<Ino, BTreeMap<Key, Went>>,
    /// How many keys with a hash there are.
    names: usize,
    /// Names in directories that are not told apart any more.
    anywhere: BTreeMap<Rank, Went>,
}

impl Shard {
    fn add(&mut self, dir: Ino, name: u64, went: Went) {
        if self.dirs.len() >= DIRS_MAX && !self.dirs.contains_key(&dir) {
            self.merge_dirs();
        }
        let of = self.dirs.entry(dir).or_default();
        if let Some(any) = of.get_mut(&(None, went.rank)) {
            *any = any.and(went);
            return;
        }
        self.names += usize::from(of.insert((Some(name), went.rank), went).is_none());
        if self.names > NAMES_MAX {
            self.merge_names();
        }
    }

    /// Of the directory with the most names none is told apart from here on.
    fn merge_names(&mut self) {
        let Some(of) = self.dirs.values_mut().max_by_key(|of| of.len()) else { return };
        self.names = self.names.saturating_sub(hashes(of));
        for ((_, rank), went) in std::mem::take(of) {
            of.entry((None, rank)).and_modify(|any| *any = any.and(went)).or_insert(went);
        }
    }

    fn merge_dirs(&mut self) {
        for ((_, rank), went) in self.dirs.drain().flat_map(|(_, of)| of) {
            let went = Went { into: Into::Many, ..went };
            self.anywhere.entry(rank).and_modify(|any| *any = any.and(went)).or_insert(went);
        }
        self.names = 0;
    }

    /// What went under this name from other tiers than `rank`, each tier once.
    fn elsewhere(&self, dir: Ino, name: u64, rank: Rank) -> Vec<Went> {
        let mut found: BTreeMap<Rank, Went> = self.anywhere.clone();
        if let Some(of) = self.dirs.get(&dir) {
            for hash in [None, Some(name)] {
                for (_, went) in of.range((hash, Rank(0))..=(hash, Rank(u8::MAX))) {
                    found.entry(went.rank).and_modify(|first| *first = first.and(*went)).or_insert(*went);
                }
            }
        }
        found.into_values().filter(|went| went.rank != rank).collect()
    }

    fn keep(&mut self, dir: Ino, stays: impl Fn(&Key, &Went) -> bool) {
        let Some(of) = self.dirs.get_mut(&dir) else { return };
        self.names -= hashes(of);
        of.retain(|key, went| stays(key, went));
        self.names += hashes(of);
        if of.is_empty() {
            self.dirs.remove(&dir);
        }
    }
}

fn hashes(of: &BTreeMap<Key, Went>) -> usize {
    of.keys().filter(|(hash, _)| hash.is_some()).count()
}

fn hash(name: &Name) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.as_bytes().hash(&mut hasher);
    hasher.finish()
}

/// A moment: what went before it is durable when a sync that began after it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(u64);

/// What went and is not known to be durable.
#[derive(Debug, Default)]
pub(super) struct Removals {
    shards: [Mutex<Shard>; SHARDS],
    clock: AtomicU64,
}

impl Removals {
    fn shard(&self, dir: Ino) -> &Mutex<Shard> {
        &self.shards[usize::try_from(dir.0 % SHARDS as u64).unwrap_or(0) % SHARDS]
    }

    /// Called when the name has gone, or may have: what is noted before it goes could be taken for durable too early.
    fn went(&self, dir: Ino, name: &Name, rank: Rank, into: Into) {
        let mut shard = self.shard(dir).lock();
        let since = self.clock.fetch_add(1, Ordering::SeqCst) + 1;
        shard.add(dir, hash(name), Went { rank, into, since });
    }

    /// The name is there again on the same tier, which keeps the order itself.
    fn came(&self, dir: Ino, name: &Name, rank: Rank) {
        let mut shard = self.shard(dir).lock();
        let key = (Some(hash(name)), rank);
        let Some(of) = shard.dirs.get_mut(&dir) else { return };
        let known = of.remove(&key).is_some();
        let empty = of.is_empty();
        shard.names -= usize::from(known);
        if empty {
            shard.dirs.remove(&dir);
        }
    }

    fn elsewhere(&self, dir: Ino, name: &Name, rank: Rank) -> Vec<Went> {
        let shard = self.shard(dir).lock();
        if shard.dirs.is_empty() && shard.anywhere.is_empty() {
            return Vec::new();
        }
        shard.elsewhere(dir, hash(name), rank)
    }

    fn now(&self) -> Moment {
        Moment(self.clock.load(Ordering::SeqCst))
    }

    /// The directory was synced on `rank`, from `begun` on.
    fn synced(&self, dir: Ino, rank: Rank, begun: Moment) {
        self.shard(dir).lock().keep(dir, |_, went| went.rank != rank || went.since > begun.0);
    }

    /// All of the tier was.
    fn synced_whole(&self, rank: Rank, begun: Moment) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let stays = |went: &Went| went.rank != rank || went.since > begun.0;
            shard.anywhere.retain(|_, went| stays(went));
            let dirs: Vec<Ino> = shard.dirs.keys().copied().collect();
            dirs.into_iter().for_each(|dir| shard.keep(dir, |_, went| stays(went)));
        }
    }

    /// The directory is no more: nothing is done in it.
    fn forget(&self, dir: Ino) {
        self.shard(dir).lock().keep(dir, |_, _| false);
    }
}

impl Union {
    /// Makes durable what went under this name from other tiers. Comes before the name is made, given or removed on
    /// `rank`.
    ///
    /// # Errors
    /// What a tier says: then the name must not be changed there.
    pub(super) fn order(&self, node: &Node, name: &Name, rank: Rank) -> Result<()> {
        self.removals.elsewhere(node.ino, name, rank).into_iter().try_for_each(|went| {
            self.make_gone(node, went).inspect_err(|errno| {
                tracing::warn!(dir = %node.ino, %name, tier = %went.rank, "a file of this name was removed from the tier, which does not make that durable: {errno}; the name cannot be changed on another tier until it does");
            })
        })
    }

    fn make_gone(&self, node: &Node, went: Went) -> Result<()> {
        let rank = went.rank;
        let to = match went.into {
            Into::Here => None,
            Into::Dir(ino) => Some(self.dir(ino).ok().and_then(|node| node.find(rank).cloned())),
            Into::Many => Some(None),
        };
        let here = node.find(rank);
        // A directory that is not open any more is reached with all the rest.
        if to.as_ref().is_some_and(Option::is_none) || here.is_none() {
            // Where that cannot be believed what is open is synced below, here and whenever it is asked for again: the rest
            // is left to its server.
            if let Some(whole) = self.tier(rank)?.syncing()? {
                self.sync_whole(rank, whole.as_ref())?;
            }
        }
        if let Some(Some(to)) = to {
            to.fsync()?;
        }
        here.map_or(Ok(()), |dir| self.sync_copy(node.ino, rank, dir))
    }

    /// Makes everything on a tier durable, and with it what went from there.
    ///
    /// # Errors
    /// Those of [`Syncing::sync`].
    pub fn sync_whole(&self, rank: Rank, whole: &dyn Syncing) -> Result<()> {
        let begun = self.removals.now();
        whole.sync()?;
        self.removals.synced_whole(rank, begun);
        Ok(())
    }

    /// Makes the entries of a directory durable on a tier.
    pub(super) fn sync_copy(&self, ino: Ino, rank: Rank, dir: &Arc<dyn Dir>) -> Result<()> {
        let begun = self.removals.now();
        dir.fsync()?;
        self.removals.synced(ino, rank, begun);
        Ok(())
    }

    /// A name has gone from a tier, or may have.
    pub(super) fn note_went(&self, dir: Ino, name: &Name, rank: Rank, into: Into) {
        // Where there is no other tier there is nothing to order.
        if self.slots.len() > 1 {
            let into = if into == Into::Dir(dir) { Into::Here } else { into };
            self.removals.went(dir, name, rank, into);
        }
    }

    /// A name has come to a tier.
    pub(super) fn note_came(&self, dir: Ino, name: &Name, rank: Rank) {
        self.removals.came(dir, name, rank);
    }

    /// A directory has gone from all tiers.
    pub(super) fn note_no_dir(&self, dir: Ino) {
        self.removals.forget(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: Ino = Ino(7);

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn ranks(removals: &Removals, dir: Ino, text: &str, but: u8) -> Vec<u8> {
        removals.elsewhere(dir, &name(text), Rank(but)).iter().map(|went| went.rank.0).collect()
    }

    fn went(removals: &Removals, dir: Ino, text: &str, rank: u8) {
        removals.went(dir, &name(text), Rank(rank), Into::Here);
    }

    #[test]
    fn a_name_that_went_is_remembered_for_all_other_tiers() {
        let removals = Removals::default();
        went(&removals, DIR, "x", 1);
        went(&removals, DIR, "x", 2);
        assert_eq!(ranks(&removals, DIR, "x", 0), [1, 2]);
        assert_eq!(ranks(&removals, DIR, "x", 1), [2]);
        assert!(ranks(&removals, DIR, "y", 0).is_empty());
        assert!(ranks(&removals, Ino(8), "x", 0).is_empty());
        removals.came(DIR, &name("x"), Rank(1));
        assert_eq!(ranks(&removals, DIR, "x", 0), [2]);
        removals.forget(DIR);
        assert!(ranks(&removals, DIR, "x", 0).is_empty());
        assert_eq!(removals.shard(DIR).lock().names, 0);
    }

    #[test]
    fn a_sync_covers_only_what_went_before_it_began() {
        let removals = Removals::default();
        went(&removals, DIR, "x", 1);
        let begun = removals.now();
        went(&removals, DIR, "y", 1);
        went(&removals, DIR, "x", 2);
        removals.synced(DIR, Rank(1), begun);
        assert_eq!(ranks(&removals, DIR, "x", 0), [2]);
        assert_eq!(ranks(&removals, DIR, "y", 0), [1]);
        removals.synced_whole(Rank(1), begun);
        assert_eq!(ranks(&removals, DIR, "y", 0), [1]);
        removals.synced_whole(Rank(1), removals.now());
        assert!(ranks(&removals, DIR, "y", 0).is_empty());
    }

    /// However much goes, it is known that something did, in bounded memory.
    #[test]
    fn nothing_that_went_is_forgotten_when_there_is_much() {
        let removals = Removals::default();
        for n in 0..3 * NAMES_MAX {
            went(&removals, DIR, &n.to_string(), 0);
        }
        assert!(removals.shard(DIR).lock().names <= NAMES_MAX);
        for n in 0..3 * NAMES_MAX {
            assert_eq!(ranks(&removals, DIR, &n.to_string(), 1), [0]);
        }
        let others: Vec<Ino> = (0..3 * DIRS_MAX as u64).map(|n| Ino(DIR.0 + n * SHARDS as u64)).collect();
        others.iter().for_each(|dir| went(&removals, *dir, "x", 0));
        assert!(removals.shard(DIR).lock().dirs.len() <= DIRS_MAX);
        for dir in &others {
            assert_eq!(ranks(&removals, *dir, "x", 1), [0]);
        }
        removals.synced_whole(Rank(0), removals.now());
        let shard = removals.shard(DIR).lock();
        assert!(shard.dirs.is_empty() && shard.anywhere.is_empty() && shard.names == 0);
    }

    #[test]
    fn where_a_name_went_is_known_until_there_are_several() {
        let removals = Removals::default();
        let into = || removals.elsewhere(DIR, &name("x"), Rank(0)).first().map(|went| went.into);
        removals.went(DIR, &name("x"), Rank(1), Into::Dir(Ino(9)));
        assert_eq!(into(), Some(Into::Dir(Ino(9))));
        for n in 0..=NAMES_MAX {
            went(&removals, DIR, &n.to_string(), 1);
        }
        assert_eq!(into(), Some(Into::Many));
    }
}
