//! What is known of files while a tier is away, and what of it still holds when the tier is back.

use std::sync::atomic::Ordering;

use super::{Front, Inodes, Seen};
use crate::types::attr::Kind;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::name::Name;

/// What concerns an inode when a tier goes or comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// Its number.
    pub ino: Ino,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether its contents are on that tier.
    pub on_tier: bool,
}

impl Inodes {
    /// Every directory may be on `rank`, too: it was not looked for there for a while.
    pub(in crate::union) fn unsettle(&self, rank: Rank) {
        for shard in &self.shards {
            for inode in shard.lock().values_mut().filter(|inode| inode.kind == Kind::Dir) {
                inode.ranks = inode.ranks.with(rank);
                inode.maybe = inode.maybe.with(rank);
            }
        }
    }

    /// Those of a directory's ranks on which it need not be.
    pub(in crate::union) fn maybe(&self, ino: Ino) -> Ranks {
        self.with(ino, |inode| inode.maybe).unwrap_or(Ranks::NONE)
    }

    /// A directory was found on `ranks` and on no others but perhaps those `missing`, when there had been so many
    /// `clones`. It may have been cloned since, or a tier may have come; then the next look decides. `certain` is
    /// asked when nobody can note either meanwhile.
    pub(in crate::union) fn settle(
        &self,
        ino: Ino,
        (ranks, missing): (Ranks, Ranks),
        clones: u64,
        certain: &dyn Fn() -> bool,
    ) {
        let _forgotten = self.with(ino, |inode| {
            if clones == self.clones() && certain() {
                inode.ranks = ranks.or(inode.ranks.and(missing));
                inode.maybe = inode.maybe.and(missing);
            }
        });
    }

    /// Counts another lookup of a directory that is known at this place, whatever copy of it the lookup
    /// has found. Its generation and whether its ranks have changed; `None` if what was seen is not `certain`.
    pub(in crate::union) fn again(
        &self,
        ino: Ino,
        seen: &Seen<'_>,
        certain: &dyn Fn() -> bool,
    ) -> Result<Option<(u32, bool)>> {
        let mut shard = self.shard(ino).lock();
        if !certain() {
            return Ok(None);
        }
        let inode = shard.get_mut(&ino.0).ok_or(Errno::ESTALE)?;
        if inode.kind != Kind::Dir || inode.unnamed || !inode.is_at(seen.parent, seen.name.as_bytes()) {
            return Err(Errno::ESTALE);
        }
        inode.lookups += 1;
        let (ranks, maybe) = inode.ranks_after(seen, seen.since.clones != self.clones());
        let changed = inode.ranks != ranks;
        (inode.ranks, inode.maybe) = (ranks, maybe);
        Ok(Some((inode.generation, changed)))
    }

    /// What the fastest copy of a directory says, where the copies differ: it may be away later.
    pub(in crate::union) fn set_front(&self, ino: Ino, front: Option<Front>) {
        let _forgotten = self.with(ino, |inode| {
            if front.is_some() || inode.rare.is_some() {
                inode.rare().front = front;
            }
        });
    }

    /// The same, as it was last seen.
    pub(in crate::union) fn front(&self, ino: Ino) -> Option<Front> {
        self.with(ino, |inode| inode.rare.as_ref().and_then(|rare| rare.front)).ok().flatten()
    }

    /// How many access ACLs of directories were changed so far, to be asked before one is read.
    pub(in crate::union) fn acl_changes(&self) -> u64 {
        self.acls.load(Ordering::SeqCst)
    }

    /// That of a directory has been changed, and is not known any more: what was read before does not count.
    pub(in crate::union) fn acl_changed(&self, ino: Ino) {
        let _forgotten = self.with(ino, |inode| {
            inode.acl_of = None;
            inode.rare().acl_changed = self.acls.fetch_add(1, Ordering::SeqCst) + 1;
        });
    }

    /// The access ACL of a directory, as its copy on `rank` has it; nothing if it was changed since there had been
    /// so many `changes`.
    pub(in crate::union) fn set_acl(&self, ino: Ino, rank: Rank, changes: u64, acl: Option<Vec<u8>>) {
        let _forgotten = self.with(ino, |inode| {
            if inode.rare.as_ref().is_some_and(|rare| rare.acl_changed > changes) {
                return;
            }
            inode.acl_of = Some(rank);
            if acl.is_some() || inode.rare.is_some() {
                inode.rare().acl = acl.map(Vec::into_boxed_slice);
            }
        });
    }

    /// The same, as it was last seen, and of which copy.
    pub(in crate::union) fn acl(&self, ino: Ino) -> Option<(Rank, Option<Box<[u8]>>)> {
        let known =
            |inode: &mut super::Inode| Some((inode.acl_of?, inode.rare.as_ref().and_then(|rare| rare.acl.clone())));
        self.with(ino, known).ok().flatten()
    }

    /// Drops the registrations of files on `rank`, and what is kept open of them: their bodies are another filesystem's
    /// from here on. One that the kernel serves for an open handle is another file to it from the next lookup on
    /// ([`Inodes::reborn`]).
    /// What is returned closes them.
    pub(in crate::union) fn unregister(&self, rank: Rank) -> impl Sized + use<> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let there = shard.values_mut().filter(|inode| inode.kind != Kind::Dir && inode.rank == rank);
            for inode in there {
                inode.lose_tier();
                if inode.handles > inode.plain {
                    let rare = inode.rare();
                    rare.reborn = rare.reborn.wrapping_add(1);
                }
                // Also of a file without a name: whatever is asked of it is an error for ever.
                let orphan = inode.rare.as_mut().and_then(|rare| rare.orphan.take());
                taken.push((inode.backing.take(), orphan));
            }
        }
        taken
    }

    /// What is to be added to a file's generation. The kernel lets nobody open a file by another backing file as long
    /// as one handle has the former. By another generation it takes it for another file that has got the number, and
    /// what is open of the former is an error (`fuse_stale_inode` of `fs/fuse/inode.c`).
    pub(in crate::union) fn reborn(&self, ino: Ino) -> u32 {
        self.with(ino, |inode| inode.rare.as_ref().map_or(0, |rare| rare.reborn)).unwrap_or(0)
    }

    /// Passes every inode to `each`, without a lock held meanwhile.
    pub(in crate::union) fn touched(&self, rank: Rank, each: &mut dyn FnMut(Touched)) {
        for shard in &self.shards {
            let known: Vec<_> = shard
                .lock()
                .iter()
                .map(|(ino, inode)| {
                    let is_dir = inode.kind == Kind::Dir;
                    Touched { ino: Ino(*ino), is_dir, on_tier: !is_dir && inode.rank == rank }
                })
                .collect();
            known.into_iter().for_each(&mut *each);
        }
    }
}

/// What a lookup needs to know a directory again.
impl Seen<'_> {
    pub(in crate::union) fn place(&self) -> (Ino, &Name) {
        (self.parent, self.name)
    }
}
