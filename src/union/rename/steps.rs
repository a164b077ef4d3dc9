//! The steps of a rename, taken and taken back.
//!
//! A server that answers late, or is asked twice, may have done what it reports as failed. So an error counts only
//! where a look shows that nothing was done: else what is to be replaced could be gone, and what was to replace it be
//! taken back.

use std::sync::Arc;

use super::{Act, Place, Plan, Side, Step};
use crate::tier::{Dir, Rename};
use crate::types::attr::Body;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::union::Union;
use crate::union::removals::Into;

/// A rename that stopped between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::union) struct Failed {
    pub errno: Errno,
    /// So many steps from the first are done and could not be taken back; 0 if everything is as it was before.
    pub undo: usize,
}

/// A name in a directory of one tier.
type At<'a> = (&'a dyn Dir, &'a Name);

impl Union {
    pub(in crate::union) fn perform(
        &self,
        (old, new, how): (Place<'_>, Place<'_>, Rename),
        plan: &Plan,
        era: u64,
    ) -> std::result::Result<(), Failed> {
        for (at, step) in plan.steps.iter().enumerate() {
            let done = self.take((old, new, how), step, era);
            self.note_step(old, new, step, done.is_ok());
            if let Err(errno) = done {
                plan.steps[..at].iter().for_each(|step| self.note_step(old, new, step, false));
                let dirs = |rank| {
                    let (from, to) = (self.dir_in(old.dir, era)?, self.dir_in(new.dir, era)?);
                    Ok((Arc::clone(from.copy(rank)?), Arc::clone(to.copy(rank)?)))
                };
                let Err(why) = take_back(&plan.steps[..at], (old.name, new.name), dirs) else {
                    return Err(Failed { errno, undo: 0 });
                };
                tracing::error!(old = %old.name, new = %new.name, "a failed rename cannot be taken back: {why}; names cannot be made or changed until it is, or the next mount finishes it");
                return Err(Failed { errno, undo: at });
            }
        }
        Ok(())
    }

    /// What went under either name before this rename is durable before the name is changed on another tier.
    pub(super) fn order_steps(&self, old: Place<'_>, new: Place<'_>, plan: &Plan, era: u64) -> Result<()> {
        let (old_dir, new_dir) = (self.dir_in(old.dir, era)?, self.dir_in(new.dir, era)?);
        plan.steps.iter().try_for_each(|step| {
            if !matches!(step.act, Act::Unlink(Side::New) | Act::Rmdir(Side::New)) {
                self.order(&old_dir, old.name, step.rank)?;
            }
            if !matches!(step.act, Act::Unlink(Side::Old) | Act::Rmdir(Side::Old)) {
                self.order(&new_dir, new.name, step.rank)?;
            }
            Ok(())
        })
    }

    /// Remembers which names have gone with a step. One that is not `done` may have been, or is to be taken back: then
    /// either name may have gone.
    fn note_step(&self, old: Place<'_>, new: Place<'_>, step: &Step, done: bool) {
        let old_went = || self.note_went(old.dir, old.name, step.rank, Into::Dir(new.dir));
        let new_went = || self.note_went(new.dir, new.name, step.rank, Into::Dir(old.dir));
        match step.act {
            // Durable.
            Act::Unlink(Side::Old) if done => {}
            Act::Unlink(Side::Old) | Act::Rmdir(Side::Old) => self.note_went(old.dir, old.name, step.rank, Into::Here),
            Act::Unlink(Side::New) | Act::Rmdir(Side::New) => self.note_went(new.dir, new.name, step.rank, Into::Here),
            Act::Exchange if done => {}
            Act::Forth if done => {
                old_went();
                self.note_came(new.dir, new.name, step.rank);
            }
            Act::Back if done => {
                new_went();
                self.note_came(old.dir, old.name, step.rank);
            }
            Act::Forth | Act::Back | Act::Exchange => {
                old_went();
                new_went();
            }
        }
    }

    fn take(&self, (old, new, how): (Place<'_>, Place<'_>, Rename), step: &Step, era: u64) -> Result<()> {
        let (old_dir, new_dir) = (self.dir_in(old.dir, era)?, self.dir_in(new.dir, era)?);
        let (from, to) = (old_dir.find(step.rank).ok_or(Errno::EIO), new_dir.find(step.rank).ok_or(Errno::EIO));
        match step.act {
            Act::Unlink(Side::Old) => {
                // The copy that hides it may have got its name by a move that is not durable yet.
                old_dir.copies().filter(|(rank, _)| *rank != step.rank).try_for_each(|(_, dir)| dir.fsync())?;
                from?.unlink(old.name)?;
                // Without this a power failure could keep the copy and not the rename that follows.
                from?.fsync()
            }
            Act::Unlink(Side::New) => {
                // What takes the place of the copy must be as durable as its removal: a power
                // failure could otherwise leave neither under this name.
                new_dir.copies().filter(|(rank, _)| *rank != step.rank).try_for_each(|(_, dir)| dir.fsync())?;
                let dir = to?;
                removed((dir.as_ref(), new.name), dir.unlink(new.name))
            }
            Act::Rmdir(Side::Old) => from?.rmdir(old.name),
            Act::Rmdir(Side::New) => {
                let dir = to?;
                removed((dir.as_ref(), new.name), dir.rmdir(new.name))
            }
            Act::Forth => {
                let (from, to) = (from?, to?);
                let rename = |how| renamed((from.as_ref(), old.name), (to.as_ref(), new.name), step.body, how);
                match how {
                    // Somebody may have made the new name beside the mount since it was looked at. Some filesystems
                    // have no such flag.
                    Rename::NoReplace => match rename(Rename::NoReplace) {
                        Err(Errno::EINVAL) => rename(Rename::Replace),
                        other => other,
                    },
                    Rename::Replace | Rename::Exchange => rename(Rename::Replace),
                }
            }
            Act::Back => renamed((to?.as_ref(), new.name), (from?.as_ref(), old.name), step.body, Rename::Replace),
            Act::Exchange => renamed((from?.as_ref(), old.name), (to?.as_ref(), new.name), step.body, Rename::Exchange),
        }
    }
}

/// Undoes steps that were done, the last first; what is found undone stays so. What a step removed was shadowed or an
/// empty directory, and stays away. `dirs` gives the directories of the old and of the new name on a tier.
pub(in crate::union) fn take_back(
    steps: &[Step],
    (old, new): (&Name, &Name),
    dirs: impl Fn(Rank) -> Result<(Arc<dyn Dir>, Arc<dyn Dir>)>,
) -> Result<()> {
    steps.iter().rev().try_for_each(|step| {
        let (from, to) = dirs(step.rank)?;
        let (old, new) = ((from.as_ref(), old), (to.as_ref(), new));
        let (at, back, how) = match step.act {
            Act::Unlink(_) | Act::Rmdir(_) => return Ok(()),
            Act::Forth => (new, old, Rename::NoReplace),
            Act::Back => (old, new, Rename::NoReplace),
            Act::Exchange => (new, old, Rename::Exchange),
        };
        if has(back, step.body)? || !has(at, step.body)? {
            return Ok(());
        }
        renamed(at, back, step.body, how)
    })
}

fn has((dir, name): At<'_>, body: Body) -> Result<bool> {
    Ok(dir.stat(Some(name))?.is_some_and(|stat| stat.body == body))
}

fn removed((dir, name): At<'_>, result: Result<()>) -> Result<()> {
    match result {
        Err(_) if matches!(dir.stat(Some(name)), Ok(None)) => Ok(()),
        other => other,
    }
}

fn renamed(from: At<'_>, to: At<'_>, body: Body, how: Rename) -> Result<()> {
    match from.0.rename(from.1, to.0, to.1, how) {
        Err(_) if has(to, body) == Ok(true) && has(from, body) == Ok(false) => Ok(()),
        other => other,
    }
}
