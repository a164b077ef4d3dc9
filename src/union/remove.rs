//! Removing names. There are no whiteouts: removing a name removes every copy, the shadowed ones
//! first, so that none comes back whenever the power fails.

use std::sync::Arc;

use super::dirs::Node;
use super::inodes::Leaving;
use super::place::check_public;
use super::removals::Into;
use super::resolve::{Copies, Resolution};
use super::{Found, Union};
use crate::tier::{Dir, Open};
use crate::types::attr::Stat;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank};
use crate::types::name::Name;

impl Union {
    /// Removes a non-directory.
    ///
    /// # Errors
    /// ENOENT; EISDIR; EBUSY where the name also hides a directory; what a tier says.
    pub fn unlink(&self, parent: Ino, name: &Name) -> Result<()> {
        self.may_change_names()?;
        check_public(parent, name)?;
        let _passing = self.gates.names(parent);
        let node = self.dir(parent)?;
        let copies = self.copies(&node, name)?;
        let (rank, stat) = match copies.visible {
            Resolution::Absent => return Err(Errno::ENOENT),
            Resolution::Dir(_) => return Err(Errno::EISDIR),
            Resolution::File(rank, stat) => (rank, stat),
        };
        self.refuse_conflict(&node, name, &copies)?;
        let (ino, leaving) = self.before_loss(&node, name, rank, &stat)?;
        if self.settling.is_cut(ino) {
            // The other of its bodies would come back.
            return Err(Errno::EIO);
        }
        for (shadowed, _) in copies.shadowed.iter().rev() {
            let dir = node.copy(*shadowed)?;
            self.went(&node, name, *shadowed, dir.unlink(name))?;
            // Tiers reach their disks in any order: without this a power failure could keep this
            // copy and not the visible one.
            self.sync_copy(parent, *shadowed, dir)?;
        }
        self.order(&node, name, rank)?;
        self.went(&node, name, rank, node.copy(rank)?.unlink(name))?;
        leaving.gone();
        self.inodes.unlinked(ino, parent, name, stat.nlink <= 1);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOTEMPTY if any tier has an entry in it; ENOTDIR; EBUSY where it hides a file; what a tier
    /// says.
    pub fn rmdir(&self, parent: Ino, name: &Name) -> Result<()> {
        self.may_change_names()?;
        check_public(parent, name)?;
        let below = match self.lookup(parent, name)? {
            Found::Object(attr) => attr.ino,
            Found::Absent(_) => return Err(Errno::ENOENT),
        };
        self.forget(below, 1);
        // No file comes into it on one tier after it was found empty there.
        let _passing = self.gates.both_names(parent, below);
        // The migrator may be cloning it: what is removed must not come after the look.
        let _alone = self.clone_lock.lock();
        let node = self.dir(parent)?;
        let copies = self.copies(&node, name)?;
        let dirs = match &copies.visible {
            Resolution::Absent => return Err(Errno::ENOENT),
            Resolution::File(..) => return Err(Errno::ENOTDIR),
            Resolution::Dir(dirs) => dirs,
        };
        self.refuse_conflict(&node, name, &copies)?;
        let (slowest, stat) = dirs.last().ok_or(Errno::EIO)?;
        let (ino, _) = self.identify(*slowest, node.copy(*slowest)?.as_ref(), Some(name), stat)?;
        if dirs.len() > 1 {
            // All or none: an entry on one tier must not cost the copy on another.
            for (rank, _) in dirs {
                check_empty(node.copy(*rank)?.open_dir(name)?.as_ref())?;
            }
        }
        dirs.iter().try_for_each(|(rank, _)| self.order(&node, name, *rank))?;
        for (rank, _) in dirs.iter().rev() {
            self.went(&node, name, *rank, node.copy(*rank)?.rmdir(name))?;
        }
        self.note_no_dir(below);
        self.inodes.unlinked(ino, parent, name, true);
        Ok(())
    }

    /// Notes that a name has gone, also where that failed: it may have been done all the same.
    fn went(&self, node: &Node, name: &Name, rank: Rank, result: Result<()>) -> Result<()> {
        self.note_went(node.ino, name, rank, Into::Here);
        result
    }

    /// EBUSY where a name stands for a file on one tier and a directory on another.
    pub(super) fn refuse_conflict(&self, node: &Node, name: &Name, copies: &Copies) -> Result<()> {
        if !copies.in_conflict() {
            return Ok(());
        }
        tracing::warn!(dir = %node.ino, %name, "a file on one tier and a directory on another share a name; move one of them away on its tier");
        Err(Errno::EBUSY)
    }

    /// The number of a file whose name is about to go. If it is open, or is opened before the
    /// second value is dropped, it is kept reachable.
    pub(super) fn before_loss(&self, node: &Node, name: &Name, rank: Rank, stat: &Stat) -> Result<(Ino, Leaving<'_>)> {
        let dir = node.copy(rank)?;
        let (ino, _) = self.identify(rank, dir.as_ref(), Some(name), stat)?;
        let (leaving, open) = self.inodes.leaving(ino);
        if open {
            self.keep_open(ino, dir, name, stat);
        }
        Ok((ino, leaving))
    }

    fn keep_open(&self, ino: Ino, dir: &Arc<dyn Dir>, name: &Name, stat: &Stat) {
        let held = dir.open(name, Open::Hold).and_then(|file| Ok((file.stat()?, file)));
        match held {
            Ok((now, file)) if (now.body, now.generation) == (stat.body, stat.generation) => {
                self.inodes.keep_orphan(ino, file.into());
            }
            // Its data stays reachable through the handle; only fstat will say ESTALE.
            Ok(_) | Err(_) => tracing::debug!(%ino, "an open file loses its name and is not held"),
        }
    }
}

/// ENOTEMPTY if the directory has an entry.
pub(super) fn check_empty(dir: &dyn Dir) -> Result<()> {
    let mut empty = true;
    dir.list(&mut |_| empty = false)?;
    if empty { Ok(()) } else { Err(Errno::ENOTEMPTY) }
}
