//! What the kernel knows: inode number to place.
//!
//! An entry lives from the first lookup to the forget that takes back the last one. It is kept
//! small, since there may be millions: names on the heap, everything rare behind one pointer.

mod away;
mod forget;
mod inode;
mod opens;
mod pages;

pub use opens::Opens;
pub(in crate::union) use pages::{Dropping, Plain};

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub use away::Touched;
pub(in crate::union) use inode::Front;
use inode::{Closed, Inode};

use super::identity::Shown;
use super::passthrough::Registration;
use crate::stats::touch;
use crate::tier::File;
use crate::types::attr::{Body, Kind};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::name::Name;

/// Fewer threads meet on one lock.
const SHARDS: usize = 64;

/// Where a file is, as last seen.
#[derive(Debug, Clone)]
pub(in crate::union) struct Spot {
    pub parent: Ino,
    pub name: Name,
    pub rank: Rank,
    pub body: Body,
    pub generation: u32,
    /// The change time to show, of a moved file.
    pub shown: Option<Shown>,
}

/// What a lookup found, to be remembered.
#[derive(Debug, Clone, Copy)]
pub(in crate::union) struct Seen<'a> {
    pub ino: Ino,
    pub parent: Ino,
    pub name: &'a Name,
    /// The visible copy's rank.
    pub rank: Rank,
    /// All ranks of a directory, the one rank of anything else.
    pub ranks: Ranks,
    /// Tiers on which it could not be looked for.
    pub missing: Ranks,
    pub body: Body,
    pub generation: u32,
    pub kind: Kind,
    pub nlink: u32,
    pub shown: Option<Shown>,
    /// When the tiers were looked at.
    pub since: Since,
}

/// A moment, by what had happened until then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::union) struct Since {
    /// How many directories had been cloned.
    clones: u64,
    /// How many had been renamed.
    renames: u64,
}

/// How to reach a file.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack of one request, where a name needs no memory")]
pub(in crate::union) enum Place {
    /// By a name that must still lead to the body.
    Named(Spot),
    /// Only by this.
    Orphan(Arc<dyn File>),
}

/// While it lives, a name of the file may go at any moment: whoever opens it keeps it reachable.
#[derive(Debug)]
pub(in crate::union) struct Leaving<'a> {
    inodes: &'a Inodes,
    ino: Ino,
    gone: Cell<bool>,
}

impl Leaving<'_> {
    /// The name has gone.
    pub(in crate::union) fn gone(&self) {
        self.gone.set(true);
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let dropped = self.inodes.with(self.ino, |inode| {
            inode.leaving = inode.leaving.saturating_sub(1);
            // The name stays: nothing is kept open for it, least of all on a disk that has failed.
            if self.gone.get() || inode.leaving > 0 { None } else { inode.needless_orphan() }
        });
        drop(dropped);
    }
}

/// Who moves the data of an open file.
#[derive(Debug)]
pub(in crate::union) enum Serving {
    /// The kernel, past tierfs.
    Kernel(Arc<Registration>),
    /// tierfs, as for the other handles of the inode.
    Daemon,
    /// No handle was open before.
    Undecided,
}

#[derive(Debug)]
pub(in crate::union) struct Inodes {
    shards: Vec<Mutex<Shard>>,
    /// Directories cloned so far.
    clones: AtomicU64,
    /// Directories renamed so far.
    renames: AtomicU64,
    /// Access ACLs of directories changed so far.
    acls: AtomicU64,
    /// Open handles of files, and those of them whose data tierfs serves itself.
    open: AtomicU64,
    open_plain: AtomicU64,
    /// What the kernel has forgotten and is kept here all the same, the oldest first.
    remembered: Mutex<VecDeque<Ino>>,
    remember_max: usize,
    drops: Arc<pages::Drops>,
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

impl Inodes {
    /// An empty table that remembers so many places beyond those that the kernel knows.
    pub(in crate::union) fn new(remember_max: usize) -> Inodes {
        let none = AtomicU64::default;
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let remembered = Mutex::default();
        Inodes {
            shards,
            clones: none(),
            renames: none(),
            acls: none(),
            open: none(),
            open_plain: none(),
            remembered,
            remember_max,
            drops: Arc::default(),
        }
    }

    /// The high bits choose the shard, the low ones the bucket in it.
    fn shard(&self, ino: Ino) -> &Mutex<Shard> {
        &self.shards[usize::try_from(ino.0 >> 58).unwrap_or(0) % SHARDS]
    }

    /// What `act` brings with it is dropped after the lock where there is no such inode: that may close a file.
    fn with<T>(&self, ino: Ino, act: impl FnOnce(&mut Inode) -> T) -> Result<T> {
        let mut shard = self.shard(ino).lock();
        match shard.get_mut(&ino.0) {
            Some(inode) => Ok(act(inode)),
            None => Err(Errno::ESTALE),
        }
    }

    pub(in crate::union) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    /// Passes every inode and its last known place to `each`, without a lock held meanwhile.
    pub(in crate::union) fn each(&self, each: &mut dyn FnMut(Ino, Option<(Ino, &Name)>)) {
        for shard in &self.shards {
            let known: Vec<_> = shard.lock().iter().map(|(ino, inode)| (Ino(*ino), inode.spot().ok())).collect();
            for (ino, spot) in known {
                each(ino, spot.as_ref().filter(|_| ino != Ino::ROOT).map(|spot| (spot.parent, &spot.name)));
            }
        }
    }

    pub(in crate::union) fn insert_root(&self, ranks: Ranks) {
        self.shard(Ino::ROOT).lock().insert(Ino::ROOT.0, Inode::root(ranks));
    }

    /// Counts one lookup of what was seen. Returns whether the directory's ranks have changed; nothing
    /// if what was seen is not `certain`, which is asked when nobody can note a move meanwhile, or is a directory where
    /// it was before a rename.
    pub(in crate::union) fn remember(&self, seen: &Seen<'_>, certain: &dyn Fn() -> bool) -> Option<bool> {
        let mut shard = self.shard(seen.ino).lock();
        if !certain() {
            return None;
        }
        let (changed, closed) = match shard.get_mut(&seen.ino.0) {
            Some(inode) if inode.was_renamed_since(seen) => return None,
            Some(inode) => {
                inode.lookups += 1;
                inode.refresh(seen, seen.since.clones != self.clones())
            }
            None => {
                shard.insert(seen.ino.0, Inode::new(seen));
                (true, Closed::default())
            }
        };
        drop(shard);
        // Not under the lock.
        drop(closed);
        Some(changed)
    }

    /// Now, to be asked before the tiers are looked at.
    pub(in crate::union) fn since(&self) -> Since {
        Since { clones: self.clones(), renames: self.renames.load(Ordering::SeqCst) }
    }

    /// How many directories were cloned so far, to be asked before the tiers are looked at.
    pub(in crate::union) fn clones(&self) -> u64 {
        self.clones.load(Ordering::SeqCst)
    }

    pub(in crate::union) fn place(&self, ino: Ino) -> Result<Place> {
        self.with(ino, |inode| {
            touch(inode.rank);
            if let Some(orphan) = inode.rare.as_ref().and_then(|r| r.orphan.clone()) {
                return Ok(Place::Orphan(orphan));
            }
            if inode.unnamed { Err(Errno::ESTALE) } else { inode.spot().map(Place::Named) }
        })?
    }

    /// The last known name, whether or not the file is also held. ESTALE if it has none.
    pub(in crate::union) fn named(&self, ino: Ino) -> Result<Spot> {
        self.with(ino, |inode| if inode.unnamed { Err(Errno::ESTALE) } else { inode.spot() })?
    }

    /// The last known name proved wrong: takes the next alias. ESTALE if there is none.
    pub(in crate::union) fn next_place(&self, ino: Ino, wrong: &Spot) -> Result<Spot> {
        self.with(ino, |inode| {
            let known = (inode.rank, inode.body, inode.generation) == (wrong.rank, wrong.body, wrong.generation);
            if known && inode.is_at(wrong.parent, wrong.name.as_bytes()) {
                inode.take_alias().ok_or(Errno::ESTALE)?;
            }
            inode.spot()
        })?
    }

    pub(in crate::union) fn kind(&self, ino: Ino) -> Result<Kind> {
        self.with(ino, |inode| inode.kind)
    }

    /// The directory itself, or the one a file was last seen in.
    pub(in crate::union) fn directory_of(&self, ino: Ino) -> Option<Ino> {
        self.with(ino, |inode| if inode.kind == Kind::Dir { ino } else { inode.parent }).ok()
    }

    /// Parent, name and ranks of a directory.
    pub(in crate::union) fn dir(&self, ino: Ino) -> Result<(Spot, Ranks)> {
        self.with(ino, |inode| {
            if inode.kind != Kind::Dir {
                return Err(Errno::ENOTDIR);
            }
            if inode.unnamed { Err(Errno::ESTALE) } else { Ok((inode.spot()?, inode.ranks)) }
        })?
    }

    /// A clone of the directory was made on `rank`.
    pub(in crate::union) fn add_rank(&self, ino: Ino, rank: Rank) {
        // First: a lookup that looked before and is remembered after this must see it.
        self.clones.fetch_add(1, Ordering::SeqCst);
        // A directory that was forgotten meanwhile is seen anew by the next lookup.
        // The body that is known stays that of the copy it was read from.
        let _forgotten = self.with(ino, |inode| inode.ranks = inode.ranks.with(rank));
    }

    /// A name is about to go. Tells whether the file is in use: open now, or open before, for then
    /// a program may be about to open it again, and the kernel, which has found the inode already,
    /// counts on that to work. Who opens another from here on learns of it from
    /// [`Inodes::is_leaving`].
    pub(in crate::union) fn leaving(&self, ino: Ino) -> (Leaving<'_>, bool) {
        let open = self.with(ino, |inode| {
            inode.leaving += 1;
            inode.handles > 0 || inode.was_open
        });
        (Leaving { inodes: self, ino, gone: Cell::new(false) }, open == Ok(true))
    }

    /// Whether a name of the file is about to go, or the last has gone.
    pub(in crate::union) fn is_leaving(&self, ino: Ino) -> bool {
        self.with(ino, |inode| inode.leaving > 0 || inode.unnamed) == Ok(true)
    }

    /// Before a name goes that may be the last: keeps the open file reachable.
    pub(in crate::union) fn keep_orphan(&self, ino: Ino, file: Arc<dyn File>) {
        // What it replaces closes after the lock.
        drop(self.with(ino, |inode| inode.rare().orphan.replace(file)));
    }

    /// A name has gone; `last` if the file has no other.
    pub(in crate::union) fn unlinked(&self, ino: Ino, parent: Ino, name: &Name, last: bool) {
        let dropped = self.with(ino, |inode| {
            if inode.is_at(parent, name.as_bytes()) {
                if inode.take_alias().is_none() {
                    inode.unnamed = true;
                }
            } else {
                inode.drop_alias((parent, name));
            }
            inode.unnamed |= last;
            // What an inode without a name holds open goes with the forget, which comes at once
            // unless a program still uses it.
            inode.needless_orphan()
        });
        drop(dropped);
    }

    /// A file is about to have this name on `rank`: who does not find it under the old one from
    /// here on looks there.
    pub(in crate::union) fn foresee(&self, ino: Ino, place: (Ino, &Name), rank: Rank) {
        let _forgotten = self.with(ino, |inode| {
            inode.drop_alias(place);
            if inode.kind != Kind::Dir && !inode.is_at(place.0, place.1.as_bytes()) {
                inode.rare().aliases.push((place.0, place.1.as_bytes().into(), rank));
            }
        });
    }

    /// Whether nobody has the file open and no name of it is about to go.
    pub(in crate::union) fn is_idle(&self, ino: Ino) -> bool {
        self.with(ino, |inode| inode.handles == 0 && inode.leaving == 0 && !inode.unnamed) == Ok(true)
    }

    /// An idle file has become another body on another tier, under the same names.
    pub(in crate::union) fn moved(&self, ino: Ino, rank: Rank, body: Body, generation: u32, shown: Option<Shown>) {
        let dropped = self.with(ino, |inode| {
            (inode.rank, inode.ranks) = (rank, Ranks::only(rank));
            (inode.body, inode.generation) = (body, generation);
            inode.maybe_mapped = false;
            let backing = inode.backing.take();
            let rare = inode.rare();
            rare.shown = shown;
            rare.aliases.iter_mut().for_each(|alias| alias.2 = rank);
            (backing, rare.orphan.take())
        });
        drop(dropped);
    }

    /// Whether the kernel, and not only the migrator, may know the inode: it has more lookups than
    /// `own`.
    pub(in crate::union) fn is_known_beyond(&self, ino: Ino, own: u64) -> bool {
        self.with(ino, |inode| inode.lookups > own) == Ok(true)
    }

    /// The change time to show for a file.
    pub(in crate::union) fn shown(&self, ino: Ino) -> Option<Shown> {
        self.with(ino, |inode| inode.rare.as_ref().and_then(|rare| rare.shown)).ok().flatten()
    }

    /// Takes it away: something changes.
    pub(in crate::union) fn take_shown(&self, ino: Ino) -> Option<Shown> {
        self.with(ino, |inode| inode.rare.as_mut().and_then(|rare| rare.shown.take())).ok().flatten()
    }

    /// A name has become another, on `rank`.
    pub(in crate::union) fn renamed(&self, ino: Ino, old: (Ino, &Name), new: (Ino, &Name), rank: Rank) {
        let _forgotten = self.with(ino, |inode| {
            inode.drop_alias(old);
            inode.drop_alias(new);
            if inode.kind == Kind::Dir {
                // It has been renamed on its tiers: who looks from here on finds the new name.
                inode.rare().renamed = self.renames.fetch_add(1, Ordering::SeqCst) + 1;
            }
            // A directory has no other name, wherever it was last seen.
            if inode.kind == Kind::Dir || inode.is_at(old.0, old.1.as_bytes()) {
                inode.parent = new.0;
                inode.name = new.1.as_bytes().into();
                inode.rank = rank;
            } else if !inode.is_at(new.0, new.1.as_bytes()) {
                inode.rare().aliases.push((new.0, new.1.as_bytes().into(), rank));
            }
        });
    }
}

#[cfg(test)]
mod tests;
