//! Directories kept open, a descriptor for each tier that holds one.
//!
//! A [`Node`] does not change: when a directory gains or loses a copy, a new node takes its place
//! here, and whoever still holds the old one works with what was true when he began.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::stats::touch;
use crate::tier::Dir;
use crate::types::attr::{Body, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank, Ranks};

/// One merged directory: its copies, fastest first.
#[derive(Debug)]
pub(super) struct Node {
    pub ino: Ino,
    /// The tiers that were missing when it was opened: what they hold is not known.
    pub missing: Ranks,
    /// Which set of tiers that was, as [`super::health::States::era`] counts them.
    pub era: u64,
    watched: AtomicBool,
    copies: Vec<(Rank, Arc<dyn Dir>)>,
}

impl Node {
    pub(super) fn new(
        ino: Ino,
        (missing, era): (Ranks, u64),
        watched: bool,
        copies: Vec<(Rank, Arc<dyn Dir>)>,
    ) -> Node {
        Node { ino, missing, era, watched: AtomicBool::new(watched), copies }
    }

    /// With which tiers it was opened.
    pub(super) fn tiers(&self) -> (Ranks, u64) {
        (self.missing, self.era)
    }

    /// Whether changes in it are told, if they are told at all.
    pub(super) fn watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    pub(super) fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// Fastest first.
    pub(super) fn copies(&self) -> impl DoubleEndedIterator<Item = (Rank, &Arc<dyn Dir>)> + ExactSizeIterator {
        self.copies.iter().map(|(rank, dir)| (*rank, dir))
    }

    /// The copy on `rank`. EIO if there is none: the caller has been told there is.
    pub(super) fn copy(&self, rank: Rank) -> Result<&Arc<dyn Dir>> {
        self.find(rank).ok_or(Errno::EIO)
    }

    pub(super) fn find(&self, rank: Rank) -> Option<&Arc<dyn Dir>> {
        self.copies.iter().find(|(r, _)| *r == rank).map(|(_, dir)| dir)
    }

    pub(super) fn ranks(&self) -> Ranks {
        self.copies.iter().fold(Ranks::NONE, |ranks, (rank, _)| ranks.with(*rank))
    }

    /// Attributes of every copy, fastest first.
    pub(super) fn stats(&self) -> Result<Vec<(Rank, Stat)>> {
        let stat = |(rank, dir): (Rank, &Arc<dyn Dir>)| {
            touch(rank);
            Ok((rank, dir.stat(None)?.ok_or(Errno::ESTALE)?))
        };
        self.copies().map(stat).collect()
    }

    fn with(&self, rank: Rank, dir: Arc<dyn Dir>, watched: bool) -> Node {
        let mut copies: Vec<_> = self.copies.iter().filter(|(r, _)| *r != rank).cloned().collect();
        copies.push((rank, dir));
        copies.sort_by_key(|(rank, _)| *rank);
        Node::new(self.ino, self.tiers(), self.watched() && watched, copies)
    }
}

#[derive(Debug)]
pub(super) struct Dirs {
    root: RwLock<Arc<Node>>,
    open: RwLock<HashMap<Ino, Kept>>,
    /// Bodies of the copies, to tell which directory an out-of-band change was in.
    bodies: RwLock<Bodies>,
    clock: AtomicU64,
    most: usize,
}

#[derive(Debug, Default)]
struct Bodies {
    inos: HashMap<(Rank, Body), Ino>,
    of: HashMap<Ino, Vec<(Rank, Body)>>,
}

impl Bodies {
    fn insert(&mut self, rank: Rank, body: Body, ino: Ino) {
        if self.inos.insert((rank, body), ino) != Some(ino) {
            self.of.entry(ino).or_default().push((rank, body));
        }
    }
}

#[derive(Debug)]
struct Kept {
    node: Arc<Node>,
    used: AtomicU64,
}

impl Dirs {
    pub(super) fn new(roots: Vec<Option<Arc<dyn Dir>>>, most: usize) -> Result<Dirs> {
        let tiers = u8::try_from(roots.len()).unwrap_or(u8::MAX);
        let copies: Vec<_> = (0u8..).map(Rank).zip(roots).filter_map(|(rank, dir)| Some((rank, dir?))).collect();
        if copies.is_empty() {
            return Err(Errno::EIO);
        }
        let there = copies.iter().fold(Ranks::NONE, |ranks, (rank, _)| ranks.with(*rank));
        let missing = (0..tiers).map(Rank).filter(|rank| !there.has(*rank));
        let missing = missing.fold(Ranks::NONE, Ranks::with);
        let root = Arc::new(Node::new(Ino::ROOT, (missing, 0), true, copies));
        let mut bodies = Bodies::default();
        for (rank, stat) in root.stats()? {
            bodies.insert(rank, stat.body, Ino::ROOT);
        }
        Ok(Dirs {
            root: RwLock::new(root),
            open: RwLock::default(),
            bodies: RwLock::new(bodies),
            clock: AtomicU64::new(0),
            most: most.max(64),
        })
    }

    pub(super) fn root(&self) -> Arc<Node> {
        Arc::clone(&self.root.read())
    }

    /// There are other tiers now. Everything that is open was opened with others and is returned, to be
    /// closed where that may take long.
    pub(super) fn replace_root(&self, root: Node, copies: &[(Rank, Stat)]) -> impl Sized + use<> {
        let before = std::mem::replace(&mut *self.root.write(), Arc::new(root));
        let closed: Vec<Kept> = self.open.write().drain().map(|(_, kept)| kept).collect();
        self.learn(Ino::ROOT, copies);
        (before, closed)
    }

    /// The directory, if it is open with the tiers of this era.
    pub(super) fn get(&self, ino: Ino, era: u64) -> Option<Arc<Node>> {
        if ino == Ino::ROOT {
            return Some(self.root()).filter(|root| root.era == era);
        }
        let open = self.open.read();
        let kept = open.get(&ino).filter(|kept| kept.node.era == era)?;
        kept.used.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        Some(Arc::clone(&kept.node))
    }

    /// Keeps `node` unless one is kept already, and returns the one that is kept. Another may have
    /// come since this one's copies were opened, with a copy more.
    pub(super) fn keep_first(&self, node: Arc<Node>) -> Arc<Node> {
        self.insert(node, false)
    }

    /// Keeps `node`, and closes the longest unused eighth when there are too many.
    fn insert(&self, node: Arc<Node>, replace: bool) -> Arc<Node> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        let mut dropped = Vec::new();
        let mut open = self.open.write();
        // Of a set of tiers that is no more: it would be kept open for nobody, and with it perhaps a
        // filesystem that is gone.
        if node.era < self.root.read().era {
            return node;
        }
        if !replace && let Some(first) = open.get(&node.ino).filter(|first| first.node.era >= node.era) {
            return Arc::clone(&first.node);
        }
        if open.len() >= self.most {
            let mut ages: Vec<u64> = open.values().map(|k| k.used.load(Ordering::Relaxed)).collect();
            let at = ages.len() / 8;
            let oldest = *ages.select_nth_unstable(at).1;
            dropped.extend(open.extract_if(|_, kept| kept.used.load(Ordering::Relaxed) <= oldest));
        }
        let kept = Kept { node: Arc::clone(&node), used: AtomicU64::new(now) };
        dropped.extend(open.insert(node.ino, kept).map(|k| (Ino::ROOT, k)));
        drop(open);
        // The descriptors close here, after the lock.
        drop(dropped);
        node
    }

    /// The directory has a copy more.
    pub(super) fn grow(&self, node: &Node, rank: Rank, dir: Arc<dyn Dir>, watched: bool) -> Arc<Node> {
        self.insert(Arc::new(node.with(rank, dir, watched)), true)
    }

    pub(super) fn close(&self, ino: Ino) {
        let closed = self.open.write().remove(&ino);
        drop(closed);
    }

    pub(super) fn learn(&self, ino: Ino, copies: &[(Rank, Stat)]) {
        let known = self.bodies.read();
        if copies.iter().all(|(rank, stat)| known.inos.get(&(*rank, stat.body)) == Some(&ino)) {
            return;
        }
        drop(known);
        let mut bodies = self.bodies.write();
        for (rank, stat) in copies {
            bodies.insert(*rank, stat.body, ino);
        }
    }

    /// The kernel has forgotten a directory.
    pub(super) fn forget(&self, ino: Ino) {
        self.close(ino);
        let mut bodies = self.bodies.write();
        for key in bodies.of.remove(&ino).unwrap_or_default() {
            if bodies.inos.get(&key) == Some(&ino) {
                bodies.inos.remove(&key);
            }
        }
    }

    pub(super) fn of_body(&self, rank: Rank, body: Body) -> Option<Ino> {
        self.bodies.read().inos.get(&(rank, body)).copied()
    }
}
