//! One entry of the table.

use std::sync::Arc;

use super::{Seen, Spot};
use crate::tier::File;
use crate::types::attr::{Body, Kind};
use crate::types::errno::Result;
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::name::Name;
use crate::union::identity::Shown;
use crate::union::pages::{Counted, Pages};
use crate::union::passthrough::Registration;

/// Names kept of one hard-linked file; more are found again by a lookup.
const ALIASES_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) parent: Ino,
    pub(super) name: Box<[u8]>,
    pub(super) body: Body,
    pub(super) lookups: u64,
    pub(super) generation: u32,
    /// Open handles, and those of them open for writing.
    pub(super) handles: u32,
    pub(super) writers: u32,
    /// Those of the handles whose data tierfs serves itself.
    pub(super) plain: u32,
    /// And those of these that write, but for those whose tier was lost since: they write nothing any more.
    pub(super) plain_writers: u32,
    /// What the kernel may hold of the contents.
    pub(super) pages: Pages,
    pub(super) rank: Rank,
    pub(super) ranks: Ranks,
    /// Those of them that a directory may have: their tier was away when it was last looked at.
    pub(super) maybe: Ranks,
    pub(super) kind: Kind,
    /// Opened for reading and writing since it was last seen at rest: perhaps mapped.
    pub(super) maybe_mapped: bool,
    /// Opened at some time since it was first seen.
    pub(super) was_open: bool,
    /// No name leads here any more.
    pub(super) unnamed: bool,
    /// Names that are about to go.
    pub(super) leaving: u32,
    /// Of a directory: the tier of the copy whose access ACL is known. Where [`Rare`] has none, it has none.
    pub(super) acl_of: Option<Rank>,
    pub(super) backing: Option<Arc<Registration>>,
    pub(super) rare: Option<Box<Rare>>,
}

/// What few inodes have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Other names of a hard-linked file.
    pub(super) aliases: Vec<(Ino, Box<[u8]>, Rank)>,
    /// A file without a name that is still open.
    pub(super) orphan: Option<Arc<dyn File>>,
    /// Opens in flight that a rename or an unlink must not orphan are counted in `handles`.
    pub(super) errors: u64,
    /// The change time to show, of a moved file.
    pub(super) shown: Option<Shown>,
    /// Of a directory: which of all renames of directories was its last.
    pub(super) renamed: u64,
    /// Of a directory whose copies differ: what the fastest says.
    pub(super) front: Option<Front>,
    /// Of a directory: which of all changes of access ACLs was its last.
    pub(super) acl_changed: u64,
    /// Of a directory: its access ACL ([`Inode::acl_of`]).
    pub(super) acl: Option<Box<[u8]>>,
    /// How often its tier was lost while the kernel served it past tierfs.
    pub(super) reborn: u32,
    /// How often its tier was lost while tierfs served handles that write: those of before are not counted any more.
    pub(super) bereft: u32,
}

/// By what the kernel decides who may do what in a directory, as its fastest copy says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::union) struct Front {
    pub rank: Rank,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What an inode had open.
pub(super) type Closed = (Option<Arc<Registration>>, Option<Arc<dyn File>>);

impl Inode {
    /// The root of the mount, which has copies on `ranks`.
    pub(super) fn root(ranks: Ranks) -> Inode {
        Inode {
            parent: Ino::ROOT,
            name: Box::default(),
            body: Body(0),
            lookups: 1,
            generation: 0,
            handles: 0,
            writers: 0,
            plain: 0,
            pages: Pages::None,
            plain_writers: 0,
            rank: ranks.fastest().unwrap_or(Rank::PRIMARY),
            ranks,
            maybe: Ranks::NONE,
            kind: Kind::Dir,
            maybe_mapped: false,
            was_open: false,
            unnamed: false,
            leaving: 0,
            acl_of: None,
            backing: None,
            rare: None,
        }
    }

    pub(super) fn new(seen: &Seen<'_>) -> Inode {
        let rare = seen.shown.map(|shown| Box::new(Rare { shown: Some(shown), ..Rare::default() }));
        Inode {
            parent: seen.parent,
            name: seen.name.as_bytes().into(),
            body: seen.body,
            lookups: 1,
            generation: seen.generation,
            handles: 0,
            writers: 0,
            plain: 0,
            pages: Pages::None,
            plain_writers: 0,
            rank: seen.rank,
            ranks: seen.ranks,
            maybe: Ranks::NONE,
            kind: seen.kind,
            maybe_mapped: false,
            was_open: false,
            unnamed: false,
            leaving: 0,
            acl_of: None,
            backing: None,
            rare,
        }
    }

    /// `outdated` if a clone was made since the tiers were looked at: perhaps of this directory. Whether its
    /// ranks have changed, and what is to be closed after the lock.
    pub(super) fn refresh(&mut self, seen: &Seen<'_>, outdated: bool) -> (bool, Closed) {
        let mut closed = Closed::default();
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
            closed = (self.backing.take(), self.rare.as_mut().and_then(|rare| rare.orphan.take()));
            // But the kernel may have a handle on the number.
            self.rare = self.rare.take().filter(|rare| rare.reborn > 0 || rare.bereft > 0);
            if let Some(rare) = &mut self.rare {
                **rare = Rare { reborn: rare.reborn, bereft: rare.bereft, ..Rare::default() };
            }
            self.acl_of = None;
            self.was_open = false;
            self.pages = self.pages.doubted();
        }
        let same = (self.body, self.generation) == (seen.body, seen.generation) && seen.kind == Kind::Dir;
        let (ranks, maybe) = if same { self.ranks_after(seen, outdated) } else { (seen.ranks, Ranks::NONE) };
        let changed = self.ranks != ranks;
        if seen.shown.is_some() || self.rare.is_some() {
            self.rare().shown = seen.shown;
        }
        // The lookup may have looked just before the name went: an orphan stays one until the last
        // close, and reaches the file in either case.
        self.unnamed = false;
        self.body = seen.body;
        self.generation = seen.generation;
        self.kind = seen.kind;
        self.rank = seen.rank;
        self.ranks = ranks;
        self.maybe = maybe;
        (changed, closed)
    }

    /// The ranks of this directory once it was seen so, and those of them on which it only may be: what
    /// is known of a tier that was missing at the look still holds.
    pub(super) fn ranks_after(&self, seen: &Seen<'_>, outdated: bool) -> (Ranks, Ranks) {
        let found = if outdated { self.ranks.or(seen.ranks) } else { seen.ranks };
        (found.or(self.ranks.and(seen.missing)), self.maybe.and(seen.missing))
    }

    /// Its tier is lost, and what was not synced with it: what the kernel holds may be nowhere else, also where the
    /// version looks the same. The handles of before write nothing any more, so that nobody overtakes them.
    pub(super) fn lose_tier(&mut self) {
        self.pages = self.pages.doubted();
        if std::mem::take(&mut self.plain_writers) > 0 {
            let rare = self.rare();
            rare.bereft = rare.bereft.wrapping_add(1);
        }
    }

    /// See [`Rare::bereft`].
    pub(super) fn bereft(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.bereft)
    }

    /// A handle writes no more that was counted as one that does.
    pub(super) fn uncount(&mut self, counted: Counted) {
        if counted.is_some_and(|bereft| bereft == self.bereft()) {
            self.plain_writers = self.plain_writers.saturating_sub(1);
        }
    }

    /// What is kept open of a file that has a name.
    pub(super) fn needless_orphan(&mut self) -> Option<Arc<dyn File>> {
        if self.unnamed { None } else { self.rare.as_mut().and_then(|rare| rare.orphan.take()) }
    }

    /// The kernel knows it no more: nothing is kept open for it.
    pub(super) fn close(&mut self) -> Closed {
        self.was_open = false;
        self.maybe_mapped = false;
        self.pages = Pages::None;
        (self.backing.take(), self.rare.as_mut().and_then(|rare| rare.orphan.take()))
    }

    pub(super) fn is_at(&self, parent: Ino, name: &[u8]) -> bool {
        self.parent == parent && &*self.name == name
    }

    /// Whether `seen` has this directory where it was when it was looked at, before it was renamed. A place that is
    /// not its own any more would make it its own ancestor by the next rename.
    pub(super) fn was_renamed_since(&self, seen: &Seen<'_>) -> bool {
        let renamed = self.rare.as_ref().map_or(0, |rare| rare.renamed);
        self.kind == Kind::Dir
            && seen.kind == Kind::Dir
            && renamed > seen.since.renames
            && !self.is_at(seen.parent, seen.name.as_bytes())
    }

    pub(super) fn drop_alias(&mut self, place: (Ino, &Name)) {
        if let Some(rare) = &mut self.rare {
            rare.aliases.retain(|(p, n, _)| (*p, &**n) != (place.0, place.1.as_bytes()));
        }
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Box::default)
    }

    pub(super) fn take_alias(&mut self) -> Option<()> {
        let (parent, name, rank) = self.rare.as_mut()?.aliases.pop()?;
        self.parent = parent;
        self.name = name;
        self.rank = rank;
        Some(())
    }

    pub(super) fn spot(&self) -> Result<Spot> {
        // The root has no name; nobody asks for it by one.
        let name = if self.name.is_empty() { Name::new(b"root") } else { Name::new(&self.name) };
        let shown = self.rare.as_ref().and_then(|rare| rare.shown);
        let (rank, body, generation) = (self.rank, self.body, self.generation);
        Ok(Spot { parent: self.parent, name: name?, rank, body, generation, shown })
    }
}
