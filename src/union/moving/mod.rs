//! What the migrator asks of the union: ways to a file, and the few steps in which a file changes
//! its tier while programs use the mount.
//!
//! The migrator goes to a file as the kernel does, by counted lookups, so a moved file is one that
//! the table knows. A step works under closed gates ([`super::gates`]) and begins with proof that
//! nothing has changed: the same body with the same size and times under every name, nobody who
//! has it open, and a lease that keeps it so. [`crate::migrate`] has the order of the steps and why
//! it is safe.

use std::sync::Arc;

use parking_lot::Mutex;

use super::dirs::Node;
pub use super::gates::NamesClosed;
use super::identity::{Identity, Shown, Stamp, of_body};
use super::place::{Durable, check_public, times};
use super::resolve::Resolution;
use super::{Found, Union};
use crate::tier::{Dir, File, SetXattr, Tier};
use crate::types::attr::{Body, Kind, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::health::Held;
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::name::Name;
use crate::types::path::UnionPath;

mod duplicates;
mod steps;

pub use duplicates::Duplicate;
pub use steps::{LOST, trash_name};

/// A directory on the migrator's way, known to the table until this is dropped.
#[derive(Debug)]
pub struct Walked<'a> {
    union: &'a Union,
    /// From below the root down to the directory.
    chain: Vec<Ino>,
    path: UnionPath,
    /// Copies once asked for: a step that undoes another must reach the same directory, wherever
    /// it has gone meanwhile.
    copies: Mutex<Vec<(Rank, Arc<dyn Dir>)>>,
}

impl Drop for Walked<'_> {
    fn drop(&mut self) {
        self.chain.iter().rev().for_each(|ino| self.union.forget(*ino, 1));
    }
}

/// A regular file as the union shows it, known to the table until this is dropped.
#[derive(Debug)]
pub struct Subject<'a> {
    union: &'a Union,
    identity: Identity,
    /// The tier of the visible copy.
    pub rank: Rank,
    /// Its attributes there.
    pub stat: Stat,
    /// The same with the change time that programs see.
    shown: Stat,
    /// Whether it hides other copies, any of which could come to light if it moved.
    pub hides: bool,
    /// Whether the number it shows could come to another file once its inode is free: the tier's
    /// filesystem tells no birth times.
    pub number_comes_back: bool,
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        self.union.forget(self.identity.0, 1);
    }
}

/// One name of a file.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// The directory.
    pub dir: &'a Walked<'a>,
    /// The name in it.
    pub name: &'a Name,
}

/// A finished copy that waits in a tier's staging directory.
#[derive(Debug)]
pub struct Staged {
    /// Its name there.
    pub name: Name,
    /// Its body.
    pub body: Body,
    /// Its generation.
    pub generation: u32,
    shown: Shown,
}

/// Why a step was not done. Nothing has changed then, but for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A program has the file open, or was about to.
    InUse,
    /// It is not what it was when it was copied.
    Changed,
    /// A name of it is gone.
    Gone,
    /// The target has something under one of its names.
    Occupied,
    /// The filesystem gives no leases.
    NoLease,
    /// A system call failed.
    Failed(Errno),
    /// One failed, and what was done before it could not be taken back: some names have changed.
    Stuck(Errno),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Refused {
        match errno {
            Errno::ENOENT | Errno::ESTALE => Refused::Gone,
            Errno::EEXIST => Refused::Occupied,
            other => Refused::Failed(other),
        }
    }
}

impl Walked<'_> {
    /// Where it is.
    pub fn path(&self) -> &UnionPath {
        &self.path
    }

    fn ino(&self) -> Ino {
        self.chain.last().copied().unwrap_or(Ino::ROOT)
    }

    fn node(&self) -> Result<Arc<Node>> {
        self.union.dir(self.ino())
    }

    /// Its copy on a tier.
    ///
    /// # Errors
    /// ENOENT if there is none; what a tier says.
    pub fn copy(&self, rank: Rank) -> Result<Arc<dyn Dir>> {
        self.kept(rank, || self.node()?.find(rank).map(Arc::clone).ok_or(Errno::ENOENT))
    }

    fn kept(&self, rank: Rank, look: impl FnOnce() -> Result<Arc<dyn Dir>>) -> Result<Arc<dyn Dir>> {
        let mut copies = self.copies.lock();
        if let Some((_, dir)) = copies.iter().find(|(known, _)| *known == rank) {
            return Ok(Arc::clone(dir));
        }
        let dir = look()?;
        copies.push((rank, Arc::clone(&dir)));
        Ok(dir)
    }

    /// Its copy on a tier, or that of the nearest directory above it which has one: what is missing
    /// below would be cloned there.
    ///
    /// # Errors
    /// EEXIST if the tier has something else under the name of a directory that would be cloned; what it
    /// says.
    pub fn nearest(&self, rank: Rank) -> Result<Arc<dyn Dir>> {
        let names: Vec<Name> = self.path.names().collect();
        for depth in (0..=self.chain.len()).rev() {
            let ino = depth.checked_sub(1).and_then(|at| self.chain.get(at)).copied().unwrap_or(Ino::ROOT);
            let node = self.union.dir(ino)?;
            let Some(dir) = node.find(rank) else { continue };
            let below = names.get(depth).map(|name| dir.stat(Some(name))).transpose()?.flatten();
            let taken = below.is_some_and(|stat| !stat.is_dir());
            return if taken { Err(Errno::EEXIST) } else { Ok(Arc::clone(dir)) };
        }
        Err(Errno::EIO)
    }

    /// Its copy on a tier, cloned there with its ancestors if there is none. Clones on a slower tier
    /// than the primary are durable when the tier has been synced.
    ///
    /// # Errors
    /// What a tier says.
    pub fn ensure(&self, rank: Rank) -> Result<Arc<dyn Dir>> {
        let durable = if rank == Rank::PRIMARY { Durable::Now } else { Durable::Later };
        self.kept(rank, || self.union.ensure_durable(self.ino(), rank, durable)?.copy(rank).map(Arc::clone))
    }
}

impl Union {
    /// The directory at `path`.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR; what a tier says.
    pub fn walk(&self, path: &UnionPath) -> Result<Walked<'_>> {
        let mut walked = Walked { union: self, chain: Vec::new(), path: path.clone(), copies: Mutex::default() };
        for name in path.names() {
            let Found::Object(attr) = self.lookup(walked.ino(), &name)? else { return Err(Errno::ENOENT) };
            walked.chain.push(attr.ino);
            if attr.stat.kind() != Kind::Dir {
                return Err(Errno::ENOTDIR);
            }
        }
        Ok(walked)
    }

    /// The regular file `name` in `dir`; `None` if it is something else or absent.
    ///
    /// # Errors
    /// What a tier says.
    pub fn subject(&self, dir: &Walked<'_>, name: &Name) -> Result<Option<Subject<'_>>> {
        check_public(dir.ino(), name)?;
        let node = dir.node()?;
        let copies = self.copies(&node, name)?;
        let Resolution::File(rank, stat) = copies.visible else { return Ok(None) };
        if stat.kind() != Kind::File {
            return Ok(None);
        }
        let attr = self.enter(&node, name, &copies.visible)?;
        // As it is on record, and not as the kernel has it since a tier was lost.
        let generation = attr.generation.wrapping_sub(self.inodes.reborn(attr.ino));
        let (identity, hides) = ((attr.ino, generation), !copies.shadowed.is_empty());
        let number_comes_back = stat.generation == 0 && attr.ino == of_body(stat.body);
        Ok(Some(Subject { union: self, identity, rank, stat, shown: attr.stat, hides, number_comes_back }))
    }

    /// Whether a program has it open through the mount, or is about to.
    pub fn is_in_use(&self, subject: &Subject<'_>) -> bool {
        !self.inodes.is_idle(subject.identity.0)
    }

    /// Whether anything has this name in `dir`.
    ///
    /// # Errors
    /// What a tier says.
    pub fn has(&self, dir: &Walked<'_>, name: &Name) -> Result<bool> {
        if dir.path.is_root() && name.is_private() {
            return Ok(false);
        }
        let node = dir.node()?;
        Ok(!matches!(self.resolve(&node, name)?, Resolution::Absent))
    }

    /// How many directories were cloned so far.
    pub fn clones(&self) -> u64 {
        self.inodes.clones()
    }

    /// Which tier of the union this is.
    ///
    /// # Errors
    /// EIO for one that is missing.
    pub fn tier_of(&self, rank: Rank) -> Result<&dyn Tier> {
        self.tier(rank).map(AsRef::as_ref)
    }

    /// A directory of tierfs's own on a tier, made if need be.
    ///
    /// # Errors
    /// EPERM if others can write there; what the tier says.
    pub fn own_dir(&self, rank: Rank, name: &str) -> Result<Arc<dyn Dir>> {
        self.private(rank, name)
    }

    /// The same, only if it is there.
    ///
    /// # Errors
    /// As [`Union::own_dir`].
    pub fn own_dir_if_any(&self, rank: Rank, name: &str) -> Result<Option<Arc<dyn Dir>>> {
        self.private_if_any(rank, name)
    }

    /// EROFS unless files may be moved.
    ///
    /// # Errors
    /// EROFS.
    pub fn may_move(&self) -> Result<()> {
        self.may_change_names()
    }

    /// What a tier must have on record before a file leaves it.
    ///
    /// # Errors
    /// What the tier says.
    pub fn announce_given(&self, from: Rank) -> Result<()> {
        self.tier(from)?.announce_given()
    }

    /// What a tier must have on record before a file comes to it.
    ///
    /// # Errors
    /// What the tier says.
    pub fn announce_stamps(&self, to: Rank) -> Result<()> {
        self.tier(to)?.announce_stamps()
    }

    /// Whether a copy in a directory of a tier can carry the stamp that keeps a file's number.
    ///
    /// # Errors
    /// What the tier says.
    pub fn can_stamp(&self, dir: &dyn Dir) -> Result<bool> {
        match dir.get_xattr(None, &self.stamp_key) {
            Err(Errno::EOPNOTSUPP) => Ok(false),
            Ok(_) | Err(Errno::ENODATA) => Ok(true),
            Err(other) => Err(other),
        }
    }

    /// Whether an extended attribute is one that tierfs itself keeps on a body.
    pub fn is_stamp(&self, key: &std::ffi::CStr) -> bool {
        key == self.stamp_key.as_c_str()
    }

    /// Makes a copy show the number and change time of `subject`, as which it is going to be dressed;
    /// `new` is what it is so far.
    ///
    /// # Errors
    /// EOPNOTSUPP where the tier has no extended attributes; what it says.
    pub fn stamp_copy(&self, subject: &Subject<'_>, copy: &dyn File, new: &Stat, name: &Name) -> Result<Staged> {
        let shown = Shown::carry(&subject.shown, new.ctime);
        let (ino, generation) = subject.identity;
        let stamp = Stamp { body: new.body, body_generation: new.generation, ino, generation, shown: Some(shown) };
        copy.set_xattr(&self.stamp_key, &stamp.write(), SetXattr::default())?;
        Ok(Staged { name: name.clone(), body: new.body, generation: new.generation, shown })
    }

    /// Runs `act` while no directory is cloned, so that what lies in staging is nobody's.
    pub fn without_clones<T>(&self, act: impl FnOnce() -> T) -> T {
        let _alone = self.clone_lock.lock();
        act()
    }

    /// Directories are not renamed while this lives.
    pub fn hold_tree(&self) -> impl Drop + '_ {
        self.gates.hold_tree()
    }

    /// Runs `act` while nobody changes names in `dirs`, and gives their copies on `rank` the times
    /// back that they had before: a move is no change of a directory. `note` is told these, and of
    /// nothing once all have them back.
    ///
    /// # Errors
    /// What a tier says.
    pub fn with_names_closed<T>(
        &self,
        dirs: &[&Walked<'_>],
        rank: Rank,
        note: &dyn Fn(&[(&UnionPath, Stat)]),
        act: impl FnOnce(&NamesClosed<'_>) -> T,
    ) -> Result<T> {
        let mut dirs: Vec<&Walked<'_>> = dirs.to_vec();
        dirs.sort_unstable_by_key(|dir| dir.ino());
        dirs.dedup_by_key(|dir| dir.ino());
        let inos: Vec<Ino> = dirs.iter().map(|dir| dir.ino()).collect();
        let closed = self.gates.close_names(&inos);
        let mut before = Vec::new();
        let mut had = Vec::new();
        for dir in dirs {
            let copy = dir.copy(rank)?;
            let stat = copy.stat(None)?.ok_or(Errno::ESTALE)?;
            before.push((copy, stat));
            had.push((dir.path(), stat));
        }
        note(&had);
        let result = act(&closed);
        for (dir, stat) in before {
            let set_back = || match dir.stat(None)? {
                Some(now) if now.mtime != stat.mtime => dir.set_attr(None, &times(&stat)),
                _ => Ok(()),
            };
            match set_back() {
                // The directory has gone, but what was done in it was done.
                Err(Errno::ENOENT | Errno::ESTALE) => {}
                other => other?,
            }
        }
        note(&[]);
        Ok(result)
    }

    /// Whether a file has changed its tier and not yet durably: some requests for it wait then.
    pub fn is_settling(&self, ino: Ino) -> bool {
        self.settling.has(ino)
    }

    /// Whether files change their tier now: a rename may then have to wait for it.
    pub fn is_swapping(&self) -> bool {
        self.gates.is_tree_held()
    }

    /// These have moved durably.
    pub fn settled<'a>(&self, subjects: impl Iterator<Item = &'a Subject<'a>>) {
        self.settling.remove(subjects.map(|subject| subject.identity.0));
    }

    /// These were cut short when a tier failed: `all` of them, and of the others those that programs see already
    /// where they go. Until the record is brought to rest nobody changes them, gives them other names or is told
    /// that they are durable: EIO. `why` is the error and which tiers may have given it.
    pub fn cut_short<'a>(&self, subjects: impl Iterator<Item = &'a Subject<'a>>, all: bool, why: (Ranks, Errno)) {
        let inos = subjects.map(|subject| subject.identity.0);
        self.settling.cut(inos.filter(|ino| all || self.settling.has(*ino)).collect::<Vec<_>>().into_iter(), why);
    }

    /// The files that were cut short, as long as they are not at rest.
    pub fn held(&self) -> Option<Held> {
        self.settling.held()
    }

    /// Everything that was cut short is at rest.
    pub fn mended(&self) {
        self.settling.mend();
    }

    /// Tells who asked for it that a file takes other space now, if the kernel may know it.
    pub fn tell_moved(&self, subject: &Subject<'_>) {
        let ino = subject.identity.0;
        if let Some(tell) = self.moved.get()
            && self.inodes.is_known_beyond(ino, 1)
        {
            tell.0(ino);
        }
    }

    /// Asks for that. Never called while a gate is closed.
    pub fn on_moved(&self, tell: impl Fn(Ino) + Send + Sync + 'static) {
        // There is one mount and it asks once.
        let _already_set = self.moved.set(super::Moved(Box::new(tell)));
    }
}
