//! Merged listings.
//!
//! A listing is a snapshot: the names of all tiers at the moment the directory was opened or
//! rewound, each once, in an order that the names alone give. So offsets are stable whatever happens to
//! the directory meanwhile, and merging costs one pass. Names lie in one piece of memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use super::dirs::Node;
use super::open::Handle;
use super::resolve::Resolution;
use super::{Found, Union, identity};
use crate::types::attr::Kind;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Fh, Ino, Rank};
use crate::types::name::Name;

/// An open directory.
#[derive(Debug)]
pub(super) struct Stream {
    node: Arc<Node>,
    listing: Mutex<Option<Arc<Listing>>>,
}

/// One snapshot.
#[derive(Debug, Default)]
pub struct Listing {
    names: Vec<u8>,
    entries: Vec<Packed>,
    /// A tier was missing that may hold more.
    partial: bool,
}

#[derive(Debug, Clone, Copy)]
struct Packed {
    at: u32,
    len: u8,
    kind: Option<Kind>,
    ino: Ino,
}

/// An entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its type, `None` if the storage did not tell.
    pub kind: Option<Kind>,
    /// Its number.
    pub ino: Ino,
}

impl Listing {
    /// The entry at `index`.
    pub fn get(&self, index: usize) -> Option<Entry<'_>> {
        let entry = self.entries.get(index)?;
        let at = entry.at as usize;
        let name = self.names.get(at..at + usize::from(entry.len))?;
        Some(Entry { name, kind: entry.kind, ino: entry.ino })
    }

    /// Puts the entries into an order that the names alone give. The kernel keeps the beginning of one
    /// snapshot and may ask for the rest by its offset in a later one: where a file that has changed
    /// its tier meanwhile stood elsewhere, others would be passed over or told twice.
    fn order(&mut self) {
        let name = |entry: &Packed| {
            let at = entry.at as usize;
            self.names.get(at..at + usize::from(entry.len)).unwrap_or_default()
        };
        let mut keyed: Vec<(u64, u32)> = (0u32..)
            .zip(&self.entries)
            .map(|(index, entry)| (BuildHasherDefault::<DefaultHasher>::default().hash_one(name(entry)), index))
            .collect();
        keyed.sort_unstable_by(|(a, at_a), (b, at_b)| {
            let by_name = || name(&self.entries[*at_a as usize]).cmp(name(&self.entries[*at_b as usize]));
            a.cmp(b).then_with(by_name)
        });
        self.entries = keyed.iter().map(|(_, index)| self.entries[*index as usize]).collect();
    }

    fn push(&mut self, name: &[u8], kind: Option<Kind>, ino: Ino) {
        let (Ok(at), Ok(len)) = (u32::try_from(self.names.len()), u8::try_from(name.len())) else {
            // Four gigabytes of names, or a name no Linux filesystem takes.
            return;
        };
        self.names.extend_from_slice(name);
        self.entries.push(Packed { at, len, kind, ino });
    }
}

/// Names that a faster tier has, by their hash: the names themselves are in the listing.
#[derive(Debug, Default)]
struct Seen {
    hasher: RandomState,
    /// Hash to index in the listing. Of two names with one hash the second is under the next free.
    at: HashMap<u64, u32>,
}

impl Seen {
    fn find(&self, listing: &Listing, name: &[u8]) -> Option<usize> {
        let mut hash = self.hasher.hash_one(name);
        loop {
            let index = *self.at.get(&hash)? as usize;
            if listing.get(index).is_some_and(|entry| entry.name == name) {
                return Some(index);
            }
            hash = hash.wrapping_add(1);
        }
    }

    /// The name is the next that the listing gets.
    fn insert(&mut self, listing: &Listing, name: &[u8]) {
        let Ok(index) = u32::try_from(listing.entries.len()) else { return };
        let mut hash = self.hasher.hash_one(name);
        while self.at.contains_key(&hash) {
            hash = hash.wrapping_add(1);
        }
        self.at.insert(hash, index);
    }
}

impl Union {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// ESTALE if it is elsewhere now; what a tier says.
    pub fn opendir(&self, ino: Ino) -> Result<Fh> {
        let node = self.dir(ino)?;
        Ok(self.handles.insert(Handle::Dir(Arc::new(Stream { node, listing: Mutex::new(None) }))))
    }

    /// The snapshot behind a handle, a new one if `rewound`.
    ///
    /// # Errors
    /// EBADF; what a tier says.
    pub fn listing(&self, fh: Fh, rewound: bool) -> Result<Arc<Listing>> {
        let stream = self.handles.stream(fh)?;
        let mut kept = stream.listing.lock();
        if let Some(listing) = kept.as_ref().filter(|_| !rewound) {
            return Ok(Arc::clone(listing));
        }
        // A copy that came since the directory was opened belongs to the snapshot too.
        let node = self.dir(stream.node.ino).unwrap_or_else(|_| Arc::clone(&stream.node));
        let quiet = self.gates.quiet();
        let mut listing = self.list(&node)?;
        if !self.gates.is_quiet_since(quiet) {
            // A file that came to a faster tier after that one was listed, and left the slower one
            // before its turn, would be in neither.
            let _passing = self.gates.names(node.ino);
            listing = self.list(&node)?;
        }
        let listing = Arc::new(listing);
        *kept = Some(Arc::clone(&listing));
        Ok(listing)
    }

    /// Passes entries from `offset` on to `add`, each with the offset of the next, until `add` says
    /// that there is no more room. Offset 0 takes a new snapshot.
    ///
    /// # Errors
    /// EBADF; what a tier or `add` says; EIO after the last entry where a tier is missing.
    pub fn fill(
        &self,
        ino: Ino,
        fh: Fh,
        offset: u64,
        mut add: impl FnMut(u64, &Entry<'_>) -> Result<bool>,
    ) -> Result<()> {
        let listing = self.listing(fh, offset == 0)?;
        let mut passed = false;
        let parent = self.inodes.dir(ino).map_or(Ino::ROOT, |(spot, _)| spot.parent);
        for next in offset + 1.. {
            let entry = match next {
                1 => Entry { name: b".", kind: Some(Kind::Dir), ino },
                2 => Entry { name: b"..", kind: Some(Kind::Dir), ino: parent },
                _ => match usize::try_from(next - 3).ok().and_then(|index| listing.get(index)) {
                    Some(entry) => entry,
                    // The end is no end while a missing tier may hold more: who deletes elsewhere
                    // what is not listed here must not take it for one.
                    None if listing.partial && !passed => return Err(Errno::EIO),
                    None => break,
                },
            };
            if add(next, &entry)? {
                break;
            }
            passed = true;
        }
        Ok(())
    }

    fn list(&self, node: &Node) -> Result<Listing> {
        let mut listing = Listing { partial: !node.missing.is_empty(), ..Listing::default() };
        let last = node.ranks().iter().next_back();
        let mut seen = Seen::default();
        let mut merged: Vec<Rank> = Vec::new();
        for (rank, dir) in node.copies() {
            let several = Some(rank) != last || !merged.is_empty();
            dir.list(&mut |found| {
                if node.ino == Ino::ROOT && found.name == crate::types::name::PRIVATE_DIR.as_bytes() {
                    return;
                }
                let ino = identity::of_body(found.body);
                if several && let Some(index) = seen.find(&listing, found.name) {
                    // The number of a merged directory is its slowest copy's.
                    let entry = &mut listing.entries[index];
                    if entry.kind == Some(Kind::Dir) && found.kind == Some(Kind::Dir) {
                        entry.ino = ino;
                    }
                    return;
                }
                if Some(rank) != last {
                    seen.insert(&listing, found.name);
                }
                listing.push(found.name, found.kind, ino);
            })?;
            merged.push(rank);
        }
        self.settle(node, &mut listing)?;
        listing.order();
        Ok(listing)
    }

    /// Numbers that the listing alone does not tell: of stamped bodies, and of unknown types.
    fn settle(&self, node: &Node, listing: &mut Listing) -> Result<()> {
        let stamped = node.ranks().iter().any(|rank| self.tier(rank).is_ok_and(|t| t.has_stamps() || t.has_given()));
        for index in 0..listing.entries.len() {
            if !stamped && listing.entries[index].kind.is_some() {
                continue;
            }
            let Some(name) = listing.get(index).and_then(|entry| Name::new(entry.name).ok()) else { continue };
            let (rank, stat) = match self.resolve(node, &name) {
                // A missing tier may hold another under the name: what is there is listed all the same.
                Err(Errno::EIO) if !node.missing.is_empty() => continue,
                Err(errno) => return Err(errno),
                Ok(Resolution::Absent) => continue,
                Ok(Resolution::File(rank, stat)) => (rank, stat),
                Ok(Resolution::Dir(copies)) => *copies.last().ok_or(Errno::EIO)?,
            };
            let (ino, _) = self.identify(rank, node.copy(rank)?.as_ref(), Some(&name), &stat)?;
            listing.entries[index].ino = ino;
            listing.entries[index].kind = Some(stat.kind());
        }
        Ok(())
    }

    /// Looks up an entry of a listing and counts the lookup if it is still there.
    ///
    /// # Errors
    /// As [`Union::lookup`].
    pub fn lookup_listed(&self, fh: Fh, entry: &Entry<'_>) -> Result<Found> {
        let stream = self.handles.stream(fh)?;
        let name = Name::new(entry.name)?;
        self.lookup(stream.node.ino, &name)
    }

    /// Makes the entries of a directory durable on every tier that holds it.
    ///
    /// # Errors
    /// What a tier says.
    pub fn fsync_dir(&self, ino: Ino, fh: Fh) -> Result<()> {
        let opened = self.handles.stream(fh).map(|stream| Arc::clone(&stream.node));
        let node = self.dir(ino).or_else(|_| opened.clone())?;
        // Names may have changed there that are not durable yet.
        if self.inodes.dir(ino).is_ok_and(|(_, ranks)| ranks.iter().any(|rank| node.missing.has(rank))) {
            return Err(Errno::EIO);
        }
        // What was done since it was opened may have gone with a tier that has come back without it.
        if let Ok(opened) = opened
            && opened.era != node.era
        {
            opened.copies().try_for_each(|(_, dir)| dir.fsync())?;
        }
        node.copies().try_for_each(|(rank, dir)| self.sync_copy(ino, rank, dir))
    }
}
