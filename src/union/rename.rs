//! Renaming across tiers.
//!
//! What has to happen on each tier is planned as a list of steps over what was found, and then
//! done. The order makes an old version come back never: shadowed copies of the old name go before
//! the rename, or they would show when the visible one has left; slower copies of the new name go
//! while they are shadowed: by the target before it, the target itself by the source after it. Where one step is not the whole change (a directory that lies
//! on two tiers, a target on a faster tier than the source), a crash between two steps would leave
//! a mixture, so the steps are first written down ([`super::journal`]) and finished at the next
//! start. A step that a tier refuses has those before it taken back: a rename that fails has
//! changed nothing.

use std::sync::Arc;

use parking_lot::{MutexGuard, RwLockWriteGuard};

use super::Union;
use super::dirs::Node;
use super::gates::Passing;
use super::inodes::Leaving;
use super::journal::Record;
use super::place::check_public;
use super::remove::check_empty;
use super::resolve::{Copies, Resolution};
use super::unfinished::Unfinished;
use crate::tier::Rename;
use crate::types::attr::{Body, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank};
use crate::types::name::Name;

/// Which of the two names a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Old,
    New,
}

/// One change on one tier. `body` is what must be found for the step to be still to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub rank: Rank,
    pub act: Act,
    pub body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Remove a non-directory.
    Unlink(Side),
    /// Remove an empty directory.
    Rmdir(Side),
    /// Old name becomes new name.
    Forth,
    /// New name becomes old name.
    Back,
    /// The two change places.
    Exchange,
}

/// The steps of a rename, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    /// Whether a crash between two steps would show.
    pub journal: bool,
}

fn copies_of(side: &Copies) -> Vec<(Rank, Stat)> {
    match &side.visible {
        Resolution::Absent => Vec::new(),
        Resolution::File(rank, stat) => std::iter::once((*rank, *stat)).chain(side.shadowed.iter().copied()).collect(),
        Resolution::Dir(dirs) => dirs.clone(),
    }
}

fn step(rank: Rank, act: Act, stat: &Stat) -> Step {
    Step { rank, act, body: stat.body }
}

/// Plans a rename of `old` to `new`. Neither may be in conflict.
///
/// # Errors
/// Those of `rename(2)` that the types of the two decide.
pub(super) fn plan(old: &Copies, new: &Copies, how: Rename) -> Result<Plan> {
    match (&old.visible, &new.visible, how) {
        (Resolution::Absent, _, _) | (_, Resolution::Absent, Rename::Exchange) => Err(Errno::ENOENT),
        (_, Resolution::File(..) | Resolution::Dir(_), Rename::NoReplace) => Err(Errno::EEXIST),
        (_, _, Rename::Exchange) => Ok(plan_exchange(old, new)),
        (Resolution::File(..), Resolution::Dir(_), _) => Err(Errno::EISDIR),
        (Resolution::Dir(_), Resolution::File(..), _) => Err(Errno::ENOTDIR),
        (Resolution::File(rank, stat), _, _) => Ok(plan_file(*rank, stat, old, new)),
        (Resolution::Dir(dirs), _, _) => Ok(plan_dir(dirs, new)),
    }
}

fn plan_file(rank: Rank, stat: &Stat, old: &Copies, new: &Copies) -> Plan {
    let mut steps = Vec::new();
    steps.extend(old.shadowed.iter().rev().map(|(r, s)| step(*r, Act::Unlink(Side::Old), s)));
    let (faster, slower): (Vec<_>, Vec<_>) =
        copies_of(new).into_iter().filter(|(r, _)| *r != rank).partition(|(r, _)| *r < rank);
    let gone = |(r, s): &(Rank, Stat)| step(*r, Act::Unlink(Side::New), s);
    // Up to the rename every copy that goes is shadowed, so that a step that fails costs nothing. After it there is at
    // most one on this tier's slower side, and that only if nothing was replaced: then the rename can be taken back.
    let visible = new.visible.ranks();
    let (last, hidden): (Vec<_>, Vec<_>) = slower.into_iter().partition(|(r, _)| visible.has(*r));
    steps.extend(hidden.iter().rev().map(gone));
    if !faster.is_empty() && copies_of(new).iter().any(|(r, s)| *r == rank && s.body == stat.body) {
        // Both are names of one body there, and `rename(2)` would do nothing. The other way round a failure could
        // leave it hidden under the new name alone.
        steps.extend(last.iter().chain(faster.iter().rev()).map(gone));
        steps.push(step(rank, Act::Unlink(Side::Old), stat));
    } else {
        steps.push(step(rank, Act::Forth, stat));
        steps.extend(last.iter().chain(faster.iter().rev()).map(gone));
    }
    Plan { steps, journal: !faster.is_empty() }
}

fn plan_dir(dirs: &[(Rank, Stat)], new: &Copies) -> Plan {
    let mut steps: Vec<Step> = dirs.iter().map(|(rank, stat)| step(*rank, Act::Forth, stat)).collect();
    for (rank, stat) in copies_of(new).iter().rev() {
        if dirs.iter().all(|(r, _)| r != rank) {
            steps.push(step(*rank, Act::Rmdir(Side::New), stat));
        }
    }
    let journal = steps.len() > 1;
    Plan { steps, journal }
}

fn plan_exchange(old: &Copies, new: &Copies) -> Plan {
    let mut steps = Vec::new();
    for (side, copies) in [(Side::Old, old), (Side::New, new)] {
        if matches!(copies.visible, Resolution::File(..)) {
            steps.extend(copies.shadowed.iter().rev().map(|(r, s)| step(*r, Act::Unlink(side), s)));
        }
    }
    let shown = |copies: &Copies| match &copies.visible {
        Resolution::File(rank, stat) => vec![(*rank, *stat)],
        Resolution::Absent | Resolution::Dir(_) => copies_of(copies),
    };
    let (ours, theirs) = (shown(old), shown(new));
    let before = steps.len();
    for (rank, stat) in &ours {
        let both = theirs.iter().any(|(r, _)| r == rank);
        steps.push(step(*rank, if both { Act::Exchange } else { Act::Forth }, stat));
    }
    for (rank, stat) in &theirs {
        if ours.iter().all(|(r, _)| r != rank) {
            steps.push(step(*rank, Act::Back, stat));
        }
    }
    let journal = steps.len() - before > 1;
    Plan { steps, journal }
}

/// Both ends of a rename.
struct Sides {
    from: Arc<Node>,
    to: Arc<Node>,
    olds: Copies,
    news: Copies,
}

/// What a rename holds while it works. They are dropped in this order.
struct Held<'a> {
    /// If a directory is renamed: no other request clones it, or one below it, under its old name on
    /// a tier the plan knows nothing of.
    alone: Option<MutexGuard<'a, ()>>,
    _names: (Passing<'a>, Option<Passing<'a>>),
    /// No batch is being swapped below a directory that is renamed.
    _tree: Option<RwLockWriteGuard<'a, ()>>,
}

/// A name and the directory it is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub dir: Ino,
    pub name: &'a Name,
}

impl Union {
    /// Renames, with the flags of `renameat2(2)`.
    ///
    /// # Errors
    /// Those of `rename(2)`, never EXDEV within one tier's filesystem; EBUSY where a name stands
    /// for a file on one tier and a directory on another; EROFS; what a tier says.
    pub fn rename(&self, old: (Ino, &Name), new: (Ino, &Name), how: Rename) -> Result<()> {
        self.may_change_names()?;
        self.finish_renames()?;
        check_public(old.0, old.1)?;
        check_public(new.0, new.1)?;
        let (old, new) = (Place { dir: old.0, name: old.1 }, Place { dir: new.0, name: new.1 });
        let (sides, held) = self.sides(old, new)?;
        let Sides { from, to, olds, news } = &sides;
        self.refuse_conflict(from, old.name, olds)?;
        self.refuse_conflict(to, new.name, news)?;
        let plan = plan(olds, news, how)?;
        let lost = how == Rename::Replace;
        let ((moved, _), (other, leaving)) = (self.ino_of(from, old, olds, false)?, self.ino_of(to, new, news, lost)?);
        let inos = (moved, other);
        if let (Resolution::Dir(_), Resolution::Dir(dirs), Rename::Replace) = (&olds.visible, &news.visible, how) {
            for (rank, _) in dirs {
                check_empty(to.copy(*rank)?.open_dir(new.name)?.as_ref())?;
            }
        }
        self.make_ready(old, new, &plan, held.alone.as_ref())?;
        // Before the record: one of a rename that was refused could be carried out at the next start.
        self.order_steps(old, new, &plan, from.era)?;
        let record = if plan.journal { Some(self.write_record(old, new, &plan)?) } else { None };
        self.expect_renamed(old, new, &sides, inos, how);
        let done = self.perform((old, new, how), &plan, from.era);
        if done.is_ok() {
            leaving.iter().for_each(Leaving::gone);
            self.note_renamed(old, new, olds, news, inos, how);
        } else {
            self.note_stayed(old, new, &sides, inos, how);
        }
        if let Some(record) = record {
            // It took place, or it did not, whatever becomes of its record.
            self.clear_record(record, done.as_ref().map_or_else(|failed| failed.undo, |()| 0), from.era);
        }
        done.map_err(|failed| failed.errno)
    }

    /// What the two names stand for, with the gates that keep it so.
    fn sides(&self, old: Place<'_>, new: Place<'_>) -> Result<(Sides, Held<'_>)> {
        let look = || -> Result<Sides> {
            let (from, to) = (self.dir(old.dir)?, self.dir(new.dir)?);
            let (olds, news) = (self.copies(&from, old.name)?, self.copies(&to, new.name)?);
            Ok(Sides { from, to, olds, news })
        };
        let (names, sides) = loop {
            let names = self.gates.both_names(old.dir, new.dir);
            let sides = look()?;
            let Some(unsettled) = self.unsettled(old, new, &sides)? else { break (names, sides) };
            // Not with a gate passed: the migrator may need it closed to come to an end.
            drop(names);
            self.settling.wait(unsettled)?;
        };
        if ![&sides.olds, &sides.news].iter().any(|side| matches!(side.visible, Resolution::Dir(_))) {
            return Ok((sides, Held { alone: None, _names: names, _tree: None }));
        }
        drop(names);
        let tree = self.gates.rename_tree();
        let names = self.gates.both_names(old.dir, new.dir);
        let alone = self.clone_lock.lock();
        Ok((look()?, Held { alone: Some(alone), _names: names, _tree: Some(tree) }))
    }

    /// One of the two that has changed its tier but not yet durably. With a new name it could appear
    /// under both after a power cut, as two files of one number.
    fn unsettled(&self, old: Place<'_>, new: Place<'_>, sides: &Sides) -> Result<Option<Ino>> {
        if self.settling.is_empty() {
            return Ok(None);
        }
        for (node, place, copies) in [(&sides.from, old, &sides.olds), (&sides.to, new, &sides.news)] {
            if let Resolution::File(rank, stat) = &copies.visible {
                let (ino, _) = self.identify(*rank, node.copy(*rank)?.as_ref(), Some(place.name), stat)?;
                if self.settling.has(ino) {
                    return Ok(Some(ino));
                }
            }
        }
        Ok(None)
    }

    /// Clones come first: the steps then need no more than renames and removals.
    fn make_ready(
        &self,
        old: Place<'_>,
        new: Place<'_>,
        plan: &Plan,
        alone: Option<&MutexGuard<'_, ()>>,
    ) -> Result<()> {
        for step in &plan.steps {
            if matches!(step.act, Act::Forth | Act::Back | Act::Exchange) {
                for dir in [old.dir, new.dir] {
                    match alone {
                        Some(alone) => self.ensure_alone(dir, step.rank, alone)?,
                        None => self.ensure(dir, step.rank)?,
                    };
                }
            }
        }
        Ok(())
    }

    /// The number behind a name; if the name is to be `lost`, its open file is kept reachable.
    fn ino_of(
        &self,
        node: &Node,
        place: Place<'_>,
        copies: &Copies,
        lost: bool,
    ) -> Result<(Option<Ino>, Option<Leaving<'_>>)> {
        let (rank, stat) = match &copies.visible {
            Resolution::Absent => return Ok((None, None)),
            Resolution::File(rank, stat) if lost => {
                let (ino, leaving) = self.before_loss(node, place.name, *rank, stat)?;
                return Ok((Some(ino), Some(leaving)));
            }
            Resolution::File(rank, stat) => (rank, stat),
            Resolution::Dir(dirs) => dirs.last().map(|(rank, stat)| (rank, stat)).ok_or(Errno::EIO)?,
        };
        let (ino, _) = self.identify(*rank, node.copy(*rank)?.as_ref(), Some(place.name), stat)?;
        Ok((Some(ino), None))
    }

    pub(super) fn write_record(&self, old: Place<'_>, new: Place<'_>, plan: &Plan) -> Result<Unfinished> {
        let record = Record {
            old_dir: self.path_of(old.dir)?,
            old_name: old.name.clone(),
            new_dir: self.path_of(new.dir)?,
            new_name: new.name.clone(),
            steps: plan.steps.clone(),
        };
        self.write_journal(record, (old.dir, new.dir))
    }

    /// Between the rename on the tier and its note in the table an open file must still be found.
    fn expect_renamed(
        &self,
        old: Place<'_>,
        new: Place<'_>,
        sides: &Sides,
        inos: (Option<Ino>, Option<Ino>),
        how: Rename,
    ) {
        if let Some(moved) = inos.0 {
            self.inodes.foresee(moved, (new.dir, new.name), rank_of(&sides.olds));
        }
        if let Some(other) = inos.1.filter(|_| how == Rename::Exchange) {
            self.inodes.foresee(other, (old.dir, old.name), rank_of(&sides.news));
        }
    }

    /// Nothing came of what was expected.
    fn note_stayed(
        &self,
        old: Place<'_>,
        new: Place<'_>,
        sides: &Sides,
        inos: (Option<Ino>, Option<Ino>),
        how: Rename,
    ) {
        if let Some(moved) = inos.0 {
            self.inodes.renamed(moved, (new.dir, new.name), (old.dir, old.name), rank_of(&sides.olds));
        }
        if let Some(other) = inos.1.filter(|_| how == Rename::Exchange) {
            self.inodes.renamed(other, (old.dir, old.name), (new.dir, new.name), rank_of(&sides.news));
        }
    }

    fn note_renamed(
        &self,
        old: Place<'_>,
        new: Place<'_>,
        olds: &Copies,
        news: &Copies,
        inos: (Option<Ino>, Option<Ino>),
        how: Rename,
    ) {
        let (Some(moved), gone) = inos else { return };
        if let Some(other) = gone.filter(|other| *other != moved) {
            if how == Rename::Exchange {
                self.inodes.renamed(other, (new.dir, new.name), (old.dir, old.name), rank_of(news));
            } else {
                let last = match &news.visible {
                    Resolution::File(_, stat) => stat.nlink <= 1,
                    Resolution::Absent | Resolution::Dir(_) => true,
                };
                self.inodes.unlinked(other, new.dir, new.name, last);
            }
        }
        self.inodes.renamed(moved, (old.dir, old.name), (new.dir, new.name), rank_of(olds));
    }
}

/// The rank by which the table knows what is under a name.
fn rank_of(copies: &Copies) -> Rank {
    match &copies.visible {
        Resolution::File(rank, _) => *rank,
        Resolution::Absent => Rank::PRIMARY,
        Resolution::Dir(dirs) => dirs.last().map_or(Rank::PRIMARY, |(rank, _)| *rank),
    }
}

mod steps;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use steps::Failed;
pub(super) use steps::take_back;
