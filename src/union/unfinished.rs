//! Renames whose record stays though the mount goes on.
//!
//! A record ([`super::journal`]) is rolled forward at the next start, by what is found under its two names. That is right
//! only as long as nothing has come to these names since. Where a tier refuses to remove the record, or to have a failed
//! rename taken back, the record is noted here, and nobody makes or changes a name before it is gone: each who wants to
//! tries first to bring the rename to rest, and gets EIO if the tier still refuses. So does who opens the file for writing
//! that was to be replaced; who had it open before is not kept from it. Removing names is always possible:
//! a step that finds nothing does nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Union;
use super::inodes::Spot;
use super::journal::{Record, Written, walk};
use super::rename::{Act, Side, Step, take_back};
use crate::tier::Dir;
use crate::types::attr::Body;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::name::Name;

/// A rename that is on record.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) written: Written,
    pub(super) record: Record,
    /// The directories of its names.
    pub(super) dirs: (Ino, Ino),
    /// So many of its steps are done and to be taken back. What is left of any other is to be made durable.
    pub(super) undo: usize,
}

/// Those whose record could not be removed.
#[derive(Debug, Default)]
pub(super) struct Renames {
    count: AtomicUsize,
    left: Mutex<Left>,
    /// Held by who brings them to rest. No gate is held by who waits for it.
    finishing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Left {
    /// The last is the newest. One stays here until it is at rest: its file may not be written while that goes on.
    renames: Vec<Arc<Unfinished>>,
    /// What those were to replace that are on the tier which was lost: by directory and name, and where it is. It may
    /// have them still, and the next start finds them.
    lost: Vec<(Ino, Name, Vec<Step>)>,
}

impl Left {
    fn lose(&mut self, rename: &Unfinished) {
        let record = &rename.record;
        self.lost.push((rename.dirs.1, record.new_name.clone(), record.steps.clone()));
    }
}

/// Whether steps that are still to be done at the next start would take `body` on `rank` away from the new name.
fn replace(steps: &[Step], rank: Rank, body: Body) -> bool {
    steps.iter().filter(|step| step.rank == rank).any(|step| match step.act {
        Act::Unlink(Side::New) => step.body == body,
        Act::Forth => step.body != body,
        Act::Unlink(Side::Old) | Act::Rmdir(_) | Act::Back | Act::Exchange => false,
    })
}

impl Renames {
    /// Unless `lost` says, while nobody can clear them, that the tier of the records is lost.
    pub(super) fn add(&self, rename: Unfinished, lost: impl FnOnce() -> bool) {
        let mut left = self.left.lock();
        if lost() {
            left.lose(&rename);
        } else {
            left.renames.push(Arc::new(rename));
        }
        self.recount(&left);
    }

    /// The tier of the records is lost: what is kept open of it must go, or it could not be unmounted. Records that it
    /// still has when it is back are found then, before names can be changed.
    pub(super) fn clear(&self) -> impl Sized + use<> {
        let mut left = self.left.lock();
        let renames = std::mem::take(&mut left.renames);
        renames.iter().for_each(|rename| left.lose(rename));
        self.recount(&left);
        renames
    }

    fn newest(&self) -> Option<Arc<Unfinished>> {
        self.left.lock().renames.last().cloned()
    }

    fn remove(&self, rename: &Arc<Unfinished>) {
        let mut left = self.left.lock();
        left.renames.retain(|other| !Arc::ptr_eq(other, rename));
        self.recount(&left);
    }

    fn recount(&self, left: &Left) {
        self.count.store(left.renames.len() + left.lost.len(), Ordering::SeqCst);
    }

    /// Whether the next start would have one of them take the place of what is there, and whether it is one that can
    /// be brought to rest.
    fn replacing(&self, spot: &Spot) -> Option<bool> {
        let left = self.left.lock();
        let is_it = |parent: Ino, name: &Name, steps: &[Step]| {
            spot.parent == parent && spot.name == *name && replace(steps, spot.rank, spot.body)
        };
        if left.lost.iter().any(|(parent, name, steps)| is_it(*parent, name, steps)) {
            return Some(false);
        }
        let mut renames = left.renames.iter().map(|rename| (rename.dirs.1, &rename.record));
        renames.any(|(parent, record)| is_it(parent, &record.new_name, &record.steps)).then_some(true)
    }
}

impl Union {
    /// Removes the record of a rename that was made in this `era`, and of which `undo` steps are still to be taken
    /// back. Where that cannot be, it is tried again before the next name is made or changed.
    pub(super) fn clear_record(&self, rename: Unfinished, undo: usize, era: u64) {
        let rename = Unfinished { undo, ..rename };
        // What the record promised must be durable before it goes.
        let durable = || {
            let mut dirs = [rename.dirs.0, rename.dirs.1].into_iter();
            dirs.try_for_each(|ino| {
                self.dir_in(ino, era)?.copies().try_for_each(|(rank, dir)| self.sync_copy(ino, rank, dir))
            })
        };
        if undo == 0 {
            let Err(errno) = durable().and_then(|()| self.remove_journal(&rename.written)) else { return };
            tracing::warn!(old = %rename.record.old_name, new = %rename.record.new_name, "the record of a rename cannot be removed: {errno}; it is tried again before the next name is made or changed");
        }
        self.note_unfinished(rename);
    }

    pub(super) fn note_unfinished(&self, rename: Unfinished) {
        self.renames.add(rename, || self.missing().has(Rank::PRIMARY));
    }

    /// Brings renames to rest whose record stayed. To be called, with no gate passed, before a name is made or changed.
    ///
    /// # Errors
    /// EIO where a tier still refuses: then no name may be made or changed.
    pub fn finish_renames(&self) -> Result<()> {
        if self.renames.count.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let _alone = self.renames.finishing.lock();
        while let Some(rename) = self.renames.newest() {
            if let Err(errno) = self.finish(&rename) {
                tracing::debug!(old = %rename.record.old_name, "a rename cannot be brought to rest: {errno}");
                return Err(Errno::EIO);
            }
            self.renames.remove(&rename);
            tracing::info!(old = %rename.record.old_name, new = %rename.record.new_name, "a rename that was cut short is at rest");
        }
        Ok(())
    }

    /// To be called, with no gate passed, before the contents of a file may change: those of one that is to be replaced
    /// would go at the next start.
    ///
    /// # Errors
    /// EIO where it is such a file and a tier still refuses to bring the rename to rest.
    pub(super) fn may_keep_contents(&self, ino: Ino) -> Result<()> {
        if self.renames.count.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        match self.inodes.named(ino).ok().and_then(|spot| self.renames.replacing(&spot)) {
            Some(true) => self.finish_renames(),
            Some(false) => Err(Errno::EIO),
            None => Ok(()),
        }
    }

    fn finish(&self, rename: &Unfinished) -> Result<()> {
        let Record { old_dir, old_name, new_dir, new_name, steps } = &rename.record;
        if rename.undo > 0 {
            // As for a rename of a directory: nobody clones one, or changes names beside it.
            let _tree = self.gates.rename_tree();
            let _names = self.gates.close_names(&[rename.dirs.0, rename.dirs.1]);
            let _alone = self.clone_lock.lock();
            take_back(&steps[..rename.undo], (old_name, new_name), |rank| {
                let from = self.copy_of(rename.dirs.0, old_dir, rank)?;
                Ok((from, self.copy_of(rename.dirs.1, new_dir, rank)?))
            })?;
        }
        // Whatever has become of the directories: all that the tiers have.
        for rank in steps.iter().fold(Ranks::NONE, |ranks, step| ranks.with(step.rank)).iter() {
            self.sync_renamed(rank, rename)?;
        }
        self.remove_journal(&rename.written)
    }

    /// A tier that cannot be synced as a whole: both directories, which nobody can have renamed since. One that was
    /// removed has no names.
    fn sync_renamed(&self, rank: Rank, rename: &Unfinished) -> Result<()> {
        let tier = self.tier(rank)?;
        if let Some(whole) = tier.syncing()? {
            return self.sync_whole(rank, whole.as_ref());
        }
        let Record { old_dir, new_dir, .. } = &rename.record;
        for (ino, path) in [(rename.dirs.0, old_dir), (rename.dirs.1, new_dir)] {
            let dir = match self.dir(ino) {
                Err(Errno::ESTALE) => walk(&tier.root(), path)?,
                node => node?.find(rank).map(Arc::clone),
            };
            match dir.map_or(Ok(()), |dir| dir.fsync()) {
                Err(Errno::ENOENT | Errno::ESTALE) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// A directory on a tier: by its number or, if the kernel has forgotten that, by its path.
    fn copy_of(&self, ino: Ino, path: &[Name], rank: Rank) -> Result<Arc<dyn Dir>> {
        match self.dir(ino) {
            Err(Errno::ESTALE) => walk(&self.tier(rank)?.root(), path)?.ok_or(Errno::EIO),
            node => node?.copy(rank).map(Arc::clone),
        }
    }
}
