//! Which tier a new file goes to, and the directories that must be there first.
//!
//! A directory that a slower tier has and the target has not is cloned: made and dressed in the
//! target's private directory, made durable, and only then renamed into place. So nobody ever sees
//! one with the wrong owner or without its ACL, and a file made durable in it stays reachable.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::Union;
use super::chain::Upwards;
use super::dirs::Node;
use crate::tier::small::{set_times_back, unique_name};
use crate::tier::{Dir, Rename, SetXattr, acl, split_keys};
use crate::types::attr::{SetAttr, SetTime, Stat};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank};
use crate::types::name::{Name, PRIVATE_DIR};

/// Where clones are dressed, below the private directory.
const STAGING: &str = "staging";

/// `S_IWGRP | S_IWOTH` of `inode(7)`.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// When a clone is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    /// Before it is returned: a file that a program makes durable in it must stay reachable.
    Now,
    /// By the caller, who makes many and has the whole tier synced before one of his files comes into
    /// any. Not on the primary, where a program may make a file in it at once, and not where no tier can be synced
    /// as a whole: there it is as [`Durable::Now`].
    Later,
}

impl Union {
    /// Tiers for a new file, best first: those with room, then the primary to say why not.
    pub(super) fn candidates(&self) -> Vec<Rank> {
        let ranks = (0u8..).map(Rank).zip(&self.slots).map(|(rank, _)| rank);
        if !self.settings.spill {
            return vec![Rank::PRIMARY];
        }
        let (low, roomy): (Vec<_>, Vec<_>) = ranks.partition(|rank| self.is_low(*rank));
        roomy.into_iter().chain(low).collect()
    }

    /// Runs `make` on the first tier that takes a new `name` in `parent`.
    ///
    /// # Errors
    /// EEXIST if any tier has the name; ENOSPC if none has room; what a tier says.
    pub(super) fn make<T>(
        &self,
        parent: Ino,
        name: &Name,
        make: impl Fn(&dyn Dir) -> Result<T>,
    ) -> Result<(Arc<Node>, Rank, T)> {
        self.may_change_names()?;
        self.finish_renames()?;
        check_public(parent, name)?;
        let _passing = self.gates.names(parent);
        let mut full = Errno::ENOSPC;
        for rank in self.candidates() {
            let attempt = self.ensure(parent, rank).and_then(|node| {
                self.check_absent(&node, name, Some(rank))?;
                self.order(&node, name, rank)?;
                let made = make(node.copy(rank)?.as_ref())?;
                self.note_came(parent, name, rank);
                Ok((node, rank, made))
            });
            match attempt {
                Err(errno @ Errno::ENOSPC) if self.settings.spill => full = errno,
                other => return other,
            }
        }
        Err(full)
    }

    /// EEXIST if a tier other than `but` holds `name`. The kernel has seen none, but a program
    /// beside the mount may have made one since; a new file must not hide it.
    pub(super) fn check_absent(&self, node: &Node, name: &Name, but: Option<Rank>) -> Result<()> {
        self.may_change_in(node)?;
        for (rank, dir) in node.copies().filter(|(rank, _)| Some(*rank) != but) {
            if dir.stat(Some(name))?.is_some() {
                tracing::debug!(tier = %rank, dir = %node.ino, "a name appeared beside the mount");
                return Err(Errno::EEXIST);
            }
        }
        Ok(())
    }

    /// The directory `ino` with a copy on `rank`: cloned there with its ancestors if need be.
    pub(super) fn ensure(&self, ino: Ino, rank: Rank) -> Result<Arc<Node>> {
        self.ensure_durable(ino, rank, Durable::Now)
    }

    /// The same; `durable` says when clones are made durable.
    pub(super) fn ensure_durable(&self, ino: Ino, rank: Rank, durable: Durable) -> Result<Arc<Node>> {
        let node = self.dir(ino)?;
        if node.find(rank).is_some() {
            return Ok(node);
        }
        let whole = durable == Durable::Later && self.tier(rank)?.syncing()?.is_some();
        let _alone = self.clone_lock.lock();
        self.clone_chain(ino, rank, if whole { Durable::Later } else { Durable::Now })
    }

    /// The directory with all of its copies, for whoever changes it itself: none is cloned meanwhile, which would
    /// show the attributes of before.
    pub(super) fn uncloned(&self, ino: Ino) -> Result<(Arc<Node>, Option<MutexGuard<'_, ()>>)> {
        let node = self.dir(ino)?;
        if node.copies().len() == self.tiers() {
            return Ok((node, None));
        }
        let alone = self.clone_lock.lock();
        Ok((self.dir(ino)?, Some(alone)))
    }

    /// As [`Union::ensure`], for whoever holds the lock on clones.
    pub(super) fn ensure_alone(&self, ino: Ino, rank: Rank, _alone: &MutexGuard<'_, ()>) -> Result<Arc<Node>> {
        self.clone_chain(ino, rank, Durable::Now)
    }

    /// Clones what is missing, top down. The lock on clones is held.
    fn clone_chain(&self, ino: Ino, rank: Rank, durable: Durable) -> Result<Arc<Node>> {
        let mut chain = Vec::new();
        let (mut at, mut upwards) = (ino, Upwards::from(ino));
        let mut node = loop {
            let node = self.dir(at)?;
            if node.find(rank).is_some() {
                break node;
            }
            let (spot, _) = self.inodes.dir(at)?;
            let parent = spot.parent;
            chain.push((node, spot));
            if at == Ino::ROOT {
                return Err(Errno::EIO);
            }
            upwards.to(parent)?;
            at = parent;
        };
        for (source, spot) in chain.into_iter().rev() {
            let dir = self.clone_dir(&source, node.copy(rank)?.as_ref(), (rank, durable), &spot.name)?;
            let watched = self.learn(rank, dir.as_ref());
            // In this order: who opens the directory by the old ranks has his node replaced.
            self.inodes.add_rank(source.ino, rank);
            node = self.dirs.grow(&source, rank, dir, watched);
            let stats = node.stats()?;
            self.dirs.learn(source.ino, &stats);
        }
        Ok(node)
    }

    fn clone_dir(
        &self,
        source: &Node,
        parent: &dyn Dir,
        (rank, durable): (Rank, Durable),
        name: &Name,
    ) -> Result<Arc<dyn Dir>> {
        let (_, fastest) = source.copies().next().ok_or(Errno::EIO)?;
        let before = parent.stat(None)?.ok_or(Errno::ESTALE)?;
        let staging = self.private(rank, STAGING)?;
        let temporary = unique_name()?;
        staging.mkdir(&temporary, 0o700, &Caller::DAEMON)?;
        let published = self.dress(source, fastest.as_ref(), staging.as_ref(), &temporary, rank).and_then(|dir| {
            if durable == Durable::Now {
                dir.fsync()?;
            }
            staging.rename(&temporary, parent, name, Rename::NoReplace)?;
            Ok(dir)
        });
        match published {
            Ok(dir) => {
                // The entry came by tierfs's own doing: the directory above has not changed.
                set_times_back(parent, before.atime, before.mtime)?;
                if durable == Durable::Now {
                    parent.fsync()?;
                }
                Ok(dir)
            }
            Err(errno) => {
                if let Err(left) = staging.rmdir(&temporary) {
                    tracing::warn!(tier = %rank, "a staging directory stays behind: {left}");
                }
                match errno {
                    Errno::EEXIST => parent.open_dir(name),
                    other => Err(other),
                }
            }
        }
    }

    fn dress(&self, source: &Node, from: &dyn Dir, staging: &dyn Dir, name: &Name, rank: Rank) -> Result<Arc<dyn Dir>> {
        let dir = staging.open_dir(name)?;
        let (slowest, last) = source.copies().next_back().ok_or(Errno::EIO)?;
        if rank > slowest {
            let stat = last.stat(None)?.ok_or(Errno::ESTALE)?;
            self.stamp(rank, dir.as_ref(), (source.ino, stat.generation))?;
        }
        let stat = self.merged(&source.stats()?)?;
        self.copy_attributes(from, &stat, dir.as_ref())?;
        Ok(dir)
    }

    /// Owner, extended attributes with ACLs, mode and times, in the order in which none undoes
    /// another.
    pub(super) fn copy_attributes(&self, from: &dyn Dir, stat: &Stat, to: &dyn Dir) -> Result<()> {
        let owner = SetAttr { uid: Some(stat.uid), gid: Some(stat.gid), ..SetAttr::default() };
        match to.set_attr(None, &owner) {
            // An ordinary user cannot give directories away.
            Err(Errno::EPERM) if !self.settings.root => {}
            other => other?,
        }
        let listed = match from.list_xattr(None) {
            Err(Errno::EOPNOTSUPP) => Vec::new(),
            other => other?,
        };
        for key in split_keys(&listed) {
            self.copy_xattr(from, &key, to)?;
        }
        acl::strip(to, &|key| split_keys(&listed).iter().any(|has| has.as_c_str() == key))?;
        to.set_attr(None, &SetAttr { mode: Some(stat.mode), ..times(stat) })
    }

    fn copy_xattr(&self, from: &dyn Dir, key: &std::ffi::CStr, to: &dyn Dir) -> Result<()> {
        if key == self.stamp_key.as_c_str() {
            return Ok(());
        }
        let value = match from.get_xattr(None, key) {
            Err(Errno::ENODATA) => return Ok(()),
            other => other?,
        };
        let acl = key.to_bytes().starts_with(b"system.posix_acl");
        match to.set_xattr(None, key, &value, SetXattr::default()) {
            // Without its ACL a directory may let in whom it should not; anything else is worth
            // less than the file that is to be made.
            Err(Errno::EOPNOTSUPP | Errno::EPERM) if !acl => {
                tracing::warn!(key = ?key, "a cloned directory lacks an extended attribute");
                Ok(())
            }
            other => other,
        }
    }

    /// A directory of tierfs's own on a tier.
    pub(super) fn private(&self, rank: Rank, name: &str) -> Result<Arc<dyn Dir>> {
        let private = open_or_make(self.tier(rank)?.root().as_ref(), &Name::new(PRIVATE_DIR.as_bytes())?)?;
        self.check_trusted(rank, private.as_ref())?;
        let dir = open_or_make(private.as_ref(), &Name::new(name.as_bytes())?)?;
        self.check_trusted(rank, dir.as_ref())?;
        // What is made here must not get the rights of it. An older version has made it with those of the root.
        match acl::strip(dir.as_ref(), &|_| false) {
            Ok(true) => dir.set_attr(None, &SetAttr { mode: Some(OWN_MODE), ..SetAttr::default() })?,
            Ok(false) => {}
            Err(errno) => tracing::warn!(tier = %rank, "the ACL of {PRIVATE_DIR}/{name} cannot be removed: {errno}"),
        }
        Ok(dir)
    }

    /// A directory of tierfs's own on a tier, if it is there.
    pub(super) fn private_if_any(&self, rank: Rank, name: &str) -> Result<Option<Arc<dyn Dir>>> {
        let mut dir = self.tier(rank)?.root();
        for part in [PRIVATE_DIR, name] {
            dir = match dir.open_dir(&Name::new(part.as_bytes())?) {
                Err(Errno::ENOENT) => return Ok(None),
                other => other?,
            };
            self.check_trusted(rank, dir.as_ref())?;
        }
        Ok(Some(dir))
    }

    /// EPERM if someone other than the tier's owner can write in a directory of tierfs's own. He
    /// could have made it before the first mount, and root does what is written down there.
    pub(super) fn check_trusted(&self, rank: Rank, dir: &dyn Dir) -> Result<()> {
        let stat = dir.stat(None)?.ok_or(Errno::ESTALE)?;
        let owner = self.tier(rank)?.root().stat(None)?.ok_or(Errno::ESTALE)?.uid;
        if !self.settings.root || ([0, owner].contains(&stat.uid) && stat.mode & WRITABLE_BY_OTHERS == 0) {
            return Ok(());
        }
        tracing::error!(tier = %rank, uid = stat.uid, "other users can write in {PRIVATE_DIR} of the tier: remove its directories `renames` and `staging`, and give {PRIVATE_DIR} to root with mode 755");
        Err(Errno::EPERM)
    }
}

/// Of directories of tierfs's own, which hold what only its owner may read.
const OWN_MODE: u32 = 0o700;

fn open_or_make(dir: &dyn Dir, name: &Name) -> Result<Arc<dyn Dir>> {
    match dir.open_dir(name) {
        Err(Errno::ENOENT) => {
            match dir.mkdir(name, OWN_MODE, &Caller::DAEMON) {
                Err(Errno::EEXIST) => {}
                other => other?,
            }
            // A record is not durable in a directory that is not.
            dir.fsync()?;
            dir.open_dir(name)
        }
        other => other,
    }
}

/// EACCES for tierfs's own directory, which nobody else may make, name or remove.
pub(super) fn check_public(parent: Ino, name: &Name) -> Result<()> {
    if parent == Ino::ROOT && name.is_private() { Err(Errno::EACCES) } else { Ok(()) }
}

/// Access and modification times to set back.
pub(super) fn times(stat: &Stat) -> SetAttr {
    SetAttr { atime: Some(SetTime::At(stat.atime)), mtime: Some(SetTime::At(stat.mtime)), ..SetAttr::default() }
}
