//! What the kernel knows: inode number to place.
//!
//! An entry lives from the first lookup to the forget that takes back the last one. It is kept
//! small, since there may be millions: names on the heap, everything rare behind one pointer.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::passthrough::Registration;
use crate::tier::File;
use crate::types::attr::{Body, Kind};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::name::Name;

/// Fewer threads meet on one lock.
const SHARDS: usize = 64;

/// Names kept of one hard-linked file; more are found again by a lookup.
const ALIASES_MAX: usize = 32;

/// Where a file is, as last seen.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub parent: Ino,
    pub name: Name,
    pub rank: Rank,
    pub body: Body,
    pub generation: u32,
}

/// What a lookup found, to be remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub ino: Ino,
    pub parent: Ino,
    pub name: &'a Name,
    /// The visible copy's rank.
    pub rank: Rank,
    /// All ranks of a directory, the one rank of anything else.
    pub ranks: Ranks,
    pub body: Body,
    pub generation: u32,
    pub kind: Kind,
    pub nlink: u32,
    /// How many clones there had been when the tiers were looked at.
    pub clones: u64,
}

#[derive(Debug)]
struct Inode {
    parent: Ino,
    name: Box<[u8]>,
    body: Body,
    lookups: u64,
    generation: u32,
    /// Open handles, and those of them open for writing.
    handles: u32,
    writers: u32,
    /// Those of the handles whose data tierfs serves itself.
    plain: u32,
    rank: Rank,
    ranks: Ranks,
    kind: Kind,
    /// Opened for reading and writing since it was last seen at rest: perhaps mapped.
    maybe_mapped: bool,
    /// No name leads here any more.
    unnamed: bool,
    /// A name is about to go.
    leaving: bool,
    backing: Option<Arc<Registration>>,
    rare: Option<Box<Rare>>,
}

/// What few inodes have.
#[derive(Debug, Default)]
struct Rare {
    /// Other names of a hard-linked file.
    aliases: Vec<(Ino, Box<[u8]>, Rank)>,
    /// A file without a name that is still open.
    orphan: Option<Arc<dyn File>>,
    /// Opens in flight that a rename or an unlink must not orphan are counted in `handles`.
    errors: u64,
}

/// How to reach a file.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack of one request, where a name needs no memory")]
pub(super) enum Place {
    /// By a name that must still lead to the body.
    Named(Spot),
    /// Only by this.
    Orphan(Arc<dyn File>),
}

/// While it lives, a name of the file may go at any moment: whoever opens it keeps it reachable.
#[derive(Debug)]
pub(super) struct Leaving<'a> {
    inodes: &'a Inodes,
    ino: Ino,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let _forgotten = self.inodes.with(self.ino, |inode| inode.leaving = false);
    }
}

/// Who moves the data of an open file.
#[derive(Debug)]
pub(super) enum Serving {
    /// The kernel, past tierfs.
    Kernel(Arc<Registration>),
    /// tierfs, as for the other handles of the inode.
    Daemon,
    /// No handle was open before.
    Undecided,
}

#[derive(Debug)]
pub(super) struct Inodes {
    shards: Vec<Mutex<Shard>>,
    /// Directories cloned so far.
    clones: AtomicU64,
}

type Shard = HashMap<u64, Inode, BuildHasherDefault<Straight>>;

/// Inode numbers are mixed already.
#[derive(Debug, Default)]
struct Straight(u64);

impl Hasher for Straight {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

impl Default for Inodes {
    fn default() -> Self {
        Inodes { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), clones: AtomicU64::new(0) }
    }
}

impl Inodes {
    /// The high bits choose the shard, the low ones the bucket in it.
    fn shard(&self, ino: Ino) -> &Mutex<Shard> {
        &self.shards[usize::try_from(ino.0 >> 58).unwrap_or(0) % SHARDS]
    }

    fn with<T>(&self, ino: Ino, act: impl FnOnce(&mut Inode) -> T) -> Result<T> {
        self.shard(ino).lock().get_mut(&ino.0).map(act).ok_or(Errno::ESTALE)
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    /// Passes every inode and its last known place to `each`, without a lock held meanwhile.
    pub(super) fn each(&self, each: &mut dyn FnMut(Ino, Option<(Ino, &Name)>)) {
        for shard in &self.shards {
            let known: Vec<_> = shard.lock().iter().map(|(ino, inode)| (Ino(*ino), inode.spot().ok())).collect();
            for (ino, spot) in known {
                each(ino, spot.as_ref().filter(|_| ino != Ino::ROOT).map(|spot| (spot.parent, &spot.name)));
            }
        }
    }

    pub(super) fn insert_root(&self, ranks: Ranks) {
        let root = Inode {
            parent: Ino::ROOT,
            name: Box::default(),
            body: Body(0),
            lookups: 1,
            generation: 0,
            handles: 0,
            writers: 0,
            plain: 0,
            rank: ranks.fastest().unwrap_or(Rank::PRIMARY),
            ranks,
            kind: Kind::Dir,
            maybe_mapped: false,
            unnamed: false,
            leaving: false,
            backing: None,
            rare: None,
        };
        self.shard(Ino::ROOT).lock().insert(Ino::ROOT.0, root);
    }

    /// Counts one lookup of what was seen. Returns whether the directory's ranks have changed.
    pub(super) fn remember(&self, seen: &Seen<'_>) -> bool {
        let mut shard = self.shard(seen.ino).lock();
        match shard.get_mut(&seen.ino.0) {
            Some(inode) => {
                inode.lookups += 1;
                inode.refresh(seen, seen.clones != self.clones())
            }
            None => {
                shard.insert(seen.ino.0, Inode::new(seen));
                true
            }
        }
    }

    /// How many directories were cloned so far, to be asked before the tiers are looked at.
    pub(super) fn clones(&self) -> u64 {
        self.clones.load(Ordering::SeqCst)
    }

    /// Takes back `count` lookups. Returns whether the inode is gone.
    pub(super) fn forget(&self, ino: Ino, count: u64) -> bool {
        if ino == Ino::ROOT {
            return false;
        }
        let mut shard = self.shard(ino).lock();
        let Some(inode) = shard.get_mut(&ino.0) else { return false };
        inode.lookups = inode.lookups.saturating_sub(count);
        let gone = inode.lookups == 0 && inode.handles == 0;
        let inode = if gone { shard.remove(&ino.0) } else { None };
        drop(shard);
        // Dropping it may close files: not under the lock.
        drop(inode);
        gone
    }

    pub(super) fn place(&self, ino: Ino) -> Result<Place> {
        self.with(ino, |inode| {
            if let Some(orphan) = inode.rare.as_ref().and_then(|r| r.orphan.clone()) {
                return Ok(Place::Orphan(orphan));
            }
            if inode.unnamed { Err(Errno::ESTALE) } else { inode.spot().map(Place::Named) }
        })?
    }

    /// The last known name, whether or not the file is also held. ESTALE if it has none.
    pub(super) fn named(&self, ino: Ino) -> Result<Spot> {
        self.with(ino, |inode| if inode.unnamed { Err(Errno::ESTALE) } else { inode.spot() })?
    }

    /// The last known name proved wrong: takes the next alias. ESTALE if there is none.
    pub(super) fn next_place(&self, ino: Ino, wrong: &Spot) -> Result<Spot> {
        self.with(ino, |inode| {
            if inode.is_at(wrong.parent, wrong.name.as_bytes()) {
                inode.take_alias().ok_or(Errno::ESTALE)?;
            }
            inode.spot()
        })?
    }

    pub(super) fn kind(&self, ino: Ino) -> Result<Kind> {
        self.with(ino, |inode| inode.kind)
    }

    /// Parent, name and ranks of a directory.
    pub(super) fn dir(&self, ino: Ino) -> Result<(Spot, Ranks)> {
        self.with(ino, |inode| {
            if inode.kind != Kind::Dir {
                return Err(Errno::ENOTDIR);
            }
            if inode.unnamed { Err(Errno::ESTALE) } else { Ok((inode.spot()?, inode.ranks)) }
        })?
    }

    /// A clone of the directory was made on `rank`.
    pub(super) fn add_rank(&self, ino: Ino, rank: Rank) {
        // First: a lookup that looked before and is remembered after this must see it.
        self.clones.fetch_add(1, Ordering::SeqCst);
        // A directory that was forgotten meanwhile is seen anew by the next lookup.
        // The body that is known stays that of the copy it was read from.
        let _forgotten = self.with(ino, |inode| inode.ranks = inode.ranks.with(rank));
    }

    /// A name is about to go. Tells whether the file is open now; who opens it from here on
    /// learns of it from [`Inodes::is_leaving`].
    pub(super) fn leaving(&self, ino: Ino) -> (Leaving<'_>, bool) {
        let open = self.with(ino, |inode| {
            inode.leaving = true;
            inode.handles > 0
        });
        (Leaving { inodes: self, ino }, open == Ok(true))
    }

    /// Whether a name of the file is about to go, or the last has gone.
    pub(super) fn is_leaving(&self, ino: Ino) -> bool {
        self.with(ino, |inode| inode.leaving || inode.unnamed) == Ok(true)
    }

    /// Before a name goes that may be the last: keeps the open file reachable.
    pub(super) fn keep_orphan(&self, ino: Ino, file: Arc<dyn File>) {
        let _forgotten = self.with(ino, |inode| inode.rare().orphan = Some(file));
    }

    /// A name has gone; `last` if the file has no other.
    pub(super) fn unlinked(&self, ino: Ino, parent: Ino, name: &Name, last: bool) {
        let dropped = self.with(ino, |inode| {
            if inode.is_at(parent, name.as_bytes()) {
                if inode.take_alias().is_none() {
                    inode.unnamed = true;
                }
            } else {
                inode.drop_alias((parent, name));
            }
            inode.unnamed |= last;
            let named = !inode.unnamed;
            if named && let Some(rare) = &mut inode.rare {
                rare.orphan = None;
            }
            if inode.unnamed && inode.handles == 0 { inode.backing.take() } else { None }
        });
        drop(dropped);
    }

    /// A file is about to have this name on `rank`: who does not find it under the old one from
    /// here on looks there.
    pub(super) fn expect(&self, ino: Ino, place: (Ino, &Name), rank: Rank) {
        let _forgotten = self.with(ino, |inode| {
            inode.drop_alias(place);
            if inode.kind != Kind::Dir && !inode.is_at(place.0, place.1.as_bytes()) {
                inode.rare().aliases.push((place.0, place.1.as_bytes().into(), rank));
            }
        });
    }

    /// A name has become another, on `rank`.
    pub(super) fn renamed(&self, ino: Ino, old: (Ino, &Name), new: (Ino, &Name), rank: Rank) {
        let _forgotten = self.with(ino, |inode| {
            inode.drop_alias(old);
            inode.drop_alias(new);
            if inode.is_at(old.0, old.1.as_bytes()) {
                inode.parent = new.0;
                inode.name = new.1.as_bytes().into();
                inode.rank = rank;
            } else if !inode.is_at(new.0, new.1.as_bytes()) {
                inode.rare().aliases.push((new.0, new.1.as_bytes().into(), rank));
            }
        });
    }

    /// Counts an open handle, and tells how its data may be served.
    pub(super) fn opened(&self, ino: Ino, access: super::Access) -> Result<Serving> {
        self.with(ino, |inode| {
            inode.handles += 1;
            inode.writers += u32::from(access.writes());
            inode.maybe_mapped |= access == super::Access::ReadWrite;
            match &inode.backing {
                Some(backing) => Serving::Kernel(Arc::clone(backing)),
                None if inode.plain > 0 => Serving::Daemon,
                None => Serving::Undecided,
            }
        })
    }

    /// The data of one open handle is served by tierfs, unless another open has settled for the
    /// kernel meanwhile: the two must not be mixed.
    pub(super) fn serve_plain(&self, ino: Ino) -> Result<Option<Arc<Registration>>> {
        self.with(ino, |inode| {
            inode.plain += u32::from(inode.backing.is_none());
            inode.backing.clone()
        })
    }

    /// Counts a handle off again.
    pub(super) fn released(&self, ino: Ino, writes: bool, plain: bool) {
        let dropped = {
            let mut shard = self.shard(ino).lock();
            let Some(inode) = shard.get_mut(&ino.0) else { return };
            inode.handles = inode.handles.saturating_sub(1);
            inode.writers = inode.writers.saturating_sub(u32::from(writes));
            inode.plain = inode.plain.saturating_sub(u32::from(plain));
            if inode.handles > 0 {
                return;
            }
            if inode.lookups == 0 {
                (shard.remove(&ino.0), None, None)
            } else {
                let orphan = inode.rare.as_mut().and_then(|r| r.orphan.take());
                let backing = if inode.unnamed { inode.backing.take() } else { None };
                (None, backing, orphan)
            }
        };
        drop(dropped);
    }

    /// Keeps `new` as the one registration of the inode; another that came first wins.
    pub(super) fn register(&self, ino: Ino, new: Arc<Registration>) -> Result<Arc<Registration>> {
        self.with(ino, |inode| Arc::clone(inode.backing.get_or_insert(new)))
    }

    /// Drops the registration of an inode that has no handles. Returns whether it is gone.
    pub(super) fn unregister_idle(&self, ino: Ino) -> bool {
        let taken = self.with(ino, |inode| if inode.handles > 0 { Err(()) } else { Ok(inode.backing.take()) });
        // Whatever was taken closes here, after the lock.
        !matches!(taken, Ok(Err(())))
    }

    /// Whether a writable handle is open, and whether a mapping for writing may live on.
    pub(super) fn writing(&self, ino: Ino) -> (bool, bool) {
        self.with(ino, |inode| (inode.writers > 0, inode.maybe_mapped)).unwrap_or((false, false))
    }

    /// The file was found at rest.
    pub(super) fn at_rest(&self, ino: Ino) {
        let _forgotten = self.with(ino, |inode| inode.maybe_mapped &= inode.writers > 0);
    }

    /// How often making the file durable has failed.
    pub(super) fn sync_errors(&self, ino: Ino) -> u64 {
        self.with(ino, |inode| inode.rare.as_ref().map_or(0, |r| r.errors)).unwrap_or(0)
    }

    pub(super) fn count_sync_error(&self, ino: Ino) {
        let _forgotten = self.with(ino, |inode| inode.rare().errors += 1);
    }
}

impl Inode {
    fn new(seen: &Seen<'_>) -> Inode {
        Inode {
            parent: seen.parent,
            name: seen.name.as_bytes().into(),
            body: seen.body,
            lookups: 1,
            generation: seen.generation,
            handles: 0,
            writers: 0,
            plain: 0,
            rank: seen.rank,
            ranks: seen.ranks,
            kind: seen.kind,
            maybe_mapped: false,
            unnamed: false,
            leaving: false,
            backing: None,
            rare: None,
        }
    }

    /// `outdated` if a clone was made since the tiers were looked at: perhaps of this directory.
    fn refresh(&mut self, seen: &Seen<'_>, outdated: bool) -> bool {
        if !self.is_at(seen.parent, seen.name.as_bytes()) {
            // Of a file with one name the old one is kept, too: a lookup that looked before a rename
            // may be remembered after it.
            if seen.kind != Kind::Dir && !self.unnamed {
                let old = (self.parent, std::mem::take(&mut self.name), self.rank);
                let rare = self.rare();
                if seen.nlink <= 1 {
                    rare.aliases.clear();
                }
                rare.aliases.retain(|(p, n, _)| (*p, &**n) != (seen.parent, seen.name.as_bytes()));
                if rare.aliases.len() >= ALIASES_MAX {
                    rare.aliases.remove(0);
                }
                rare.aliases.push(old);
            }
            self.parent = seen.parent;
            self.name = seen.name.as_bytes().into();
        }
        if (self.body, self.generation) != (seen.body, seen.generation) {
            // Another file has the number now: nothing that was known holds.
            self.backing = None;
            self.rare = None;
        }
        let same = (self.body, self.generation) == (seen.body, seen.generation) && seen.kind == Kind::Dir;
        let ranks = if outdated && same { self.ranks.or(seen.ranks) } else { seen.ranks };
        let changed = self.ranks != ranks;
        // The lookup may have looked just before the name went: an orphan stays one until the last
        // close, and reaches the file in either case.
        self.unnamed = false;
        self.body = seen.body;
        self.generation = seen.generation;
        self.kind = seen.kind;
        self.rank = seen.rank;
        self.ranks = ranks;
        changed
    }

    fn is_at(&self, parent: Ino, name: &[u8]) -> bool {
        self.parent == parent && &*self.name == name
    }

    fn drop_alias(&mut self, place: (Ino, &Name)) {
        if let Some(rare) = &mut self.rare {
            rare.aliases.retain(|(p, n, _)| (*p, &**n) != (place.0, place.1.as_bytes()));
        }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Box::default)
    }

    fn take_alias(&mut self) -> Option<()> {
        let (parent, name, rank) = self.rare.as_mut()?.aliases.pop()?;
        self.parent = parent;
        self.name = name;
        self.rank = rank;
        Some(())
    }

    fn spot(&self) -> Result<Spot> {
        // The root has no name; nobody asks for it by one.
        let name = if self.name.is_empty() { Name::new(b"root") } else { Name::new(&self.name) };
        Ok(Spot { parent: self.parent, name: name?, rank: self.rank, body: self.body, generation: self.generation })
    }
}
