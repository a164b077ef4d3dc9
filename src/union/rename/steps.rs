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
        old: Place<'_>,
        new: Place<'_>,
        plan: &Plan,
        era: u64,
    ) -> std::result::Result<(), Failed> {
        for (at, step) in plan.steps.iter().enumerate() {
            if let Err(errno) = self.take(old, new, step, era) {
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

    fn take(&self, old: Place<'_>, new: Place<'_>, step: &Step, era: u64) -> Result<()> {
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
            Act::Forth => renamed((from?.as_ref(), old.name), (to?.as_ref(), new.name), step.body, Rename::Replace),
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
