//! What keeps requests and the migrator apart, for the few system calls in which a file changes its
//! tier.
//!
//! A request that changes names in a directory, or opens or changes a file, passes a gate; the
//! migrator closes it. Requests pass many at a time. A gate is closed for renames, comparisons and
//! leases only, never while something is copied or made durable, but for `tree`: directories are
//! not renamed while a batch is being swapped, so that the paths in its record stay true.
//!
//! Lock order: `tree`, then `names`, then `files`, then `clone_lock` and the inode table.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::types::errno::{Errno, Result};
use crate::types::health::Held;
use crate::types::ids::{Ino, Ranks};

/// Fewer requests wait for a gate that is closed for another file.
const SHARDS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Gates {
    /// Passed by renames of directories, closed to them while a batch is swapped. A rename takes the
    /// writing side: it is the rarer of the two.
    tree: RwLock<()>,
    /// By directory: names in it.
    names: Gate,
    /// By file: opening it, its attributes, its links.
    files: Gate,
    /// How often names were closed, and how often opened again.
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Since when no gate for names was closed; nothing if one was closed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quiet(Option<u64>);

#[derive(Debug)]
struct Gate(Vec<RwLock<()>>);

impl Default for Gate {
    fn default() -> Gate {
        Gate((0..SHARDS).map(|_| RwLock::default()).collect())
    }
}

impl Gate {
    fn at(&self, ino: Ino) -> usize {
        // The number is mixed; its high bits choose the shard of the inode table.
        usize::try_from(ino.0 % SHARDS as u64).unwrap_or(0) % self.0.len()
    }
}

/// Held while a gate is passed.
pub(super) type Passing<'a> = RwLockReadGuard<'a, ()>;

/// Held while a gate is closed.
pub(super) type Closed<'a> = RwLockWriteGuard<'a, ()>;

impl Gates {
    /// A request changes names in `dir`.
    pub(super) fn names(&self, dir: Ino) -> Passing<'_> {
        self.names.0[self.names.at(dir)].read_recursive()
    }

    /// A request changes names in both. The guard of the second is absent where one gate serves both.
    pub(super) fn both_names(&self, one: Ino, other: Ino) -> (Passing<'_>, Option<Passing<'_>>) {
        let (a, b) = (self.names.at(one), self.names.at(other));
        let first = self.names.0[a.min(b)].read_recursive();
        (first, (a != b).then(|| self.names.0[a.max(b)].read_recursive()))
    }

    /// A request opens or changes a file.
    pub(super) fn file(&self, ino: Ino) -> Passing<'_> {
        self.files.0[self.files.at(ino)].read_recursive()
    }

    /// A request renames a directory.
    pub(super) fn rename_tree(&self) -> RwLockWriteGuard<'_, ()> {
        self.tree.write()
    }

    /// The migrator swaps a batch.
    pub(super) fn hold_tree(&self) -> RwLockReadGuard<'_, ()> {
        self.tree.read()
    }

    /// Whether a batch is being swapped, or a directory renamed.
    pub(super) fn is_tree_held(&self) -> bool {
        self.tree.is_locked()
    }

    /// The migrator lets nobody change names in these directories.
    pub(super) fn close_names(&self, dirs: &[Ino]) -> NamesClosed<'_> {
        let mut shards: Vec<usize> = dirs.iter().map(|dir| self.names.at(*dir)).collect();
        shards.sort_unstable();
        shards.dedup();
        let closed = shards.into_iter().map(|shard| self.names.0[shard].write()).collect();
        self.begun.fetch_add(1, Ordering::SeqCst);
        NamesClosed { gates: self, _closed: closed }
    }

    /// For who only looks, and passes no gate as long as nothing is closed: to be asked before.
    pub(super) fn quiet(&self) -> Quiet {
        let ended = self.ended.load(Ordering::SeqCst);
        Quiet((self.begun.load(Ordering::SeqCst) == ended).then_some(ended))
    }

    /// Whether no gate for names was closed since, so that what was seen was so at one moment. Who is
    /// told no passes the gate and looks again.
    pub(super) fn is_quiet_since(&self, quiet: Quiet) -> bool {
        quiet.0 == Some(self.begun.load(Ordering::SeqCst))
    }

    /// Waits for every request that passes a gate for names now.
    pub(super) fn drain(&self) {
        self.names.0.iter().for_each(|gate| drop(gate.write()));
        drop(self.tree.write());
    }

    /// The migrator lets nobody open or change the file.
    pub(super) fn close_file(&self, ino: Ino) -> Closed<'_> {
        self.files.0[self.files.at(ino)].write()
    }
}

/// Nobody changes names in some directories while this lives.
#[derive(Debug)]
pub struct NamesClosed<'a> {
    gates: &'a Gates,
    _closed: Vec<Closed<'a>>,
}

impl Drop for NamesClosed<'_> {
    fn drop(&mut self) {
        self.gates.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Files that have changed their tier but not yet durably. What a program makes durable in one of
/// them would be lost with the change at a power cut, so making it durable waits for that.
#[derive(Debug, Default)]
pub(super) struct Settling {
    files: Mutex<Unsettled>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct Unsettled {
    /// They will be durable soon, or back.
    soon: HashSet<Ino>,
    /// A tier has failed meanwhile: only what brings the record to rest can tell which body stays. What a program
    /// did with one of them until then could be lost with it.
    cut: HashSet<Ino>,
    /// By what and since when the first of these were.
    why: Option<(SystemTime, Ranks, Errno)>,
}

impl Settling {
    pub(super) fn add(&self, ino: Ino) {
        self.files.lock().soon.insert(ino);
    }

    /// These were cut short by an error of these tiers: they stay as they are until they are at rest.
    pub(super) fn cut(&self, inos: impl Iterator<Item = Ino>, (tiers, errno): (Ranks, Errno)) {
        let mut files = self.files.lock();
        for ino in inos {
            files.soon.remove(&ino);
            files.cut.insert(ino);
            files.why.get_or_insert_with(|| (SystemTime::now(), tiers, errno));
        }
        self.settled.notify_all();
    }

    /// All that was cut short is at rest.
    pub(super) fn mend(&self) {
        let mut files = self.files.lock();
        files.cut.clear();
        files.why = None;
    }

    /// What is cut short, and by what; nothing if nothing is.
    pub(super) fn held(&self) -> Option<Held> {
        let files = self.files.lock();
        let (since, tiers, errno) = files.why?;
        Some(Held { files: files.cut.len() as u64, since, tiers, errno })
    }

    /// Whether it was cut short.
    pub(super) fn is_cut(&self, ino: Ino) -> bool {
        self.files.lock().cut.contains(&ino)
    }

    /// EIO for one that was cut short.
    pub(super) fn may_change(&self, ino: Ino) -> Result<()> {
        if self.is_cut(ino) { Err(Errno::EIO) } else { Ok(()) }
    }

    /// These are durable where they are now.
    pub(super) fn remove(&self, inos: impl Iterator<Item = Ino>) {
        let mut files = self.files.lock();
        inos.for_each(|ino| {
            files.soon.remove(&ino);
        });
        self.settled.notify_all();
    }

    pub(super) fn is_empty(&self) -> bool {
        let files = self.files.lock();
        files.soon.is_empty() && files.cut.is_empty()
    }

    /// Whether it is not durable where it is.
    pub(super) fn has(&self, ino: Ino) -> bool {
        let files = self.files.lock();
        files.soon.contains(&ino) || files.cut.contains(&ino)
    }

    /// Waits until it is durable; EIO if it was cut short.
    pub(super) fn wait(&self, ino: Ino) -> Result<()> {
        let mut files = self.files.lock();
        while files.soon.contains(&ino) {
            self.settled.wait(&mut files);
        }
        if files.cut.contains(&ino) { Err(Errno::EIO) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::Rank;

    #[test]
    fn who_waits_for_a_file_whose_move_is_cut_short_is_told_so() {
        let settling = Settling::default();
        settling.add(Ino(1));
        settling.add(Ino(2));
        std::thread::scope(|scope| {
            let (one, two) = (scope.spawn(|| settling.wait(Ino(1))), scope.spawn(|| settling.wait(Ino(2))));
            settling.cut(std::iter::once(Ino(1)), (Ranks::only(Rank(1)), Errno::EIO));
            assert_eq!(one.join().expect("no panic"), Err(Errno::EIO));
            settling.remove([Ino(1), Ino(2)].into_iter());
            assert_eq!(two.join().expect("no panic"), Ok(()));
        });
        assert!(settling.has(Ino(1)) && settling.is_cut(Ino(1)) && !settling.has(Ino(2)));
        let held = settling.held().expect("one is held");
        assert_eq!((held.files, held.tiers, held.errno), (1, Ranks::only(Rank(1)), Errno::EIO));
        settling.mend();
        assert!(settling.is_empty() && settling.wait(Ino(1)) == Ok(()) && settling.held().is_none());
    }

    #[test]
    fn a_closed_gate_stops_only_its_own_shard() {
        let gates = Gates::default();
        let quiet = gates.quiet();
        assert!(gates.is_quiet_since(quiet));
        let closed = gates.close_names(&[Ino(5), Ino(5 + 64), Ino(6)]);
        assert_eq!(closed._closed.len(), 2);
        assert!(!gates.is_quiet_since(gates.quiet()));
        assert!(gates.names.0[gates.names.at(Ino(5))].try_read().is_none());
        assert!(gates.names.0[gates.names.at(Ino(7))].try_read().is_some());
        drop(closed);
        assert!(!gates.is_quiet_since(quiet) && gates.is_quiet_since(gates.quiet()));
        let (_one, other) = gates.both_names(Ino(5), Ino(69));
        assert!(other.is_none());
        assert!(gates.names.0[gates.names.at(Ino(5))].try_write().is_none());
    }
}
