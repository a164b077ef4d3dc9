//! Swapping a batch: copies get their names, sources go.
//!
//! The order, and what a crash between two steps leaves (recovery is in [`super::recover`]):
//!
//! | step | to a slower tier | to a faster tier |
//! | --- | --- | --- |
//! | 1 | record, durable | record, durable |
//! | 2 | copies get their names, hidden by the sources | gate, lease, comparison; copies get their names and are seen |
//! | 3 | target durable | target durable |
//! | 4 | gate, lease, comparison; sources go to the trash: the copies are seen | sources, hidden, go to the trash; where a program beside the mount wants one, its copy goes instead, durably, and the program goes on |
//! | 5 | source tier durable | source tier durable |
//! | 6 | record says done, durable | record says done, durable |
//! | 7 | trash is emptied ([`super::trash`]), record goes | trash is emptied, record goes |
//!
//! A source goes only when its copy is durable under its name (3 before 4), and is deleted only
//! when it is durable that it has gone (5 and 6 before 7): so one whole version is always there,
//! and a deleted source cannot come back. What is done by a program between the step in which the
//! copy is seen and step 5 could be lost with that step at a power cut; so making such a file
//! durable waits for it, and recovery gives way to a copy that has changed.
//!
//! Sources in the trash are claimed until they are deleted: a program beside the mount may have found
//! one under its name before, and opens it only now. Then it is kept ([`super::trash`]).
//!
//! A step that fails halfway is taken back. Where the tier refuses that, too, nothing is withdrawn and
//! the record stays, so the next start finds the names in the trash and finishes or undoes the move.
//! What times the directories had is kept by [`super::times`].

use std::sync::Arc;

use super::record::{DIRECTORY, DONE, Moving, Record, STAGING, TRASH, Version};
use super::reserve;
use super::stage::{Copied, discard};
use super::times::Note;
use super::trash::Leftovers;
use super::{Skip, plan::Item};
use crate::tier::{Dir, File, Rename, Syncing, small};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Rank, Ranks};
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::union::Union;
use crate::union::moving::{Link, Refused, Subject, Walked};

mod parts;

/// One file of a batch: copied, durable, compared.
#[derive(Debug)]
pub(super) struct Ready<'a> {
    pub item: Item,
    pub names: Vec<(Arc<Walked<'a>>, Name)>,
    pub subject: Subject<'a>,
    pub copied: Copied,
}

impl<'a> Ready<'a> {
    fn links(&self) -> Vec<Link<'_>> {
        self.names.iter().map(|(dir, name)| Link { dir, name }).collect()
    }

    fn moving(&self) -> Moving {
        Moving {
            staged: self.copied.staged.name.clone(),
            body: self.subject.stat.body,
            copy: self.copied.staged.body,
            version: Version::of(&self.subject.stat),
            digest: self.copied.digest,
            names: self.names.iter().map(|(dir, name)| dir.path().join(name.as_bytes())).collect(),
        }
    }
}

/// What was being done where one of the two filesystems cannot do it.
const NO_RENAME: &str =
    "renaming without replacing (RENAME_NOREPLACE), which one of the two filesystems cannot do (tierfs doctor)";

/// What became of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Moved,
    Skipped(Skip),
    Failed(Errno, &'static str),
}

impl From<Refused> for Outcome {
    fn from(refused: Refused) -> Outcome {
        match refused {
            Refused::InUse => Outcome::Skipped(Skip::InUse),
            Refused::Changed => Outcome::Skipped(Skip::Changed),
            Refused::Gone => Outcome::Skipped(Skip::Gone),
            Refused::Occupied => Outcome::Skipped(Skip::Occupied),
            Refused::NoLease => Outcome::Skipped(Skip::NoLease),
            Refused::Failed(Errno::EXDEV) => Outcome::Skipped(Skip::Nested),
            // Of a server, such as NFS, whose renames can only replace.
            Refused::Failed(errno @ Errno::EINVAL) => Outcome::Failed(errno, NO_RENAME),
            Refused::Failed(errno) | Refused::Stuck(errno) => Outcome::Failed(errno, "swapping the copies"),
        }
    }
}

/// A batch that could not be brought to its end. Its record stays for the next start, where names
/// may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    pub rank: Rank,
    pub errno: Errno,
}

/// A batch between the same two tiers.
struct Swap<'u, 'a> {
    union: &'u Union,
    from: Rank,
    to: Rank,
    batch: &'a [Ready<'u>],
    outcomes: Vec<Option<Outcome>>,
    /// Files of which it must be looked up at the next start what became of them.
    stuck: Vec<usize>,
    /// Claims on sources of published copies, while a batch goes to a faster tier.
    claims: Vec<Option<Box<dyn File>>>,
    /// Claims on sources in the trash, until they are deleted.
    sources: Vec<Option<Box<dyn File>>>,
    /// Absent where it could not be made: times of directories then outlive no crash.
    note: Option<Note>,
    /// The record, once it is done.
    record: Option<(Arc<dyn Dir>, Name)>,
    staging: Arc<dyn Dir>,
    trash: Arc<dyn Dir>,
    /// Each absent where the tier cannot be synced as a whole.
    syncing_from: Option<Box<dyn Syncing>>,
    syncing_to: Option<&'a dyn Syncing>,
}

/// Swaps a batch whose copies are durable. What is returned is still to be deleted.
pub(super) fn swap<'u>(
    union: &'u Union,
    (from, to): (Rank, Rank),
    batch: Vec<Ready<'u>>,
    syncing_to: Option<&dyn Syncing>,
) -> std::result::Result<Leftovers<'u>, (Broken, Vec<Ready<'u>>)> {
    match swap_all(union, (from, to), &batch, syncing_to) {
        Ok(Swapped { outcomes, at_rest, sources, staging, trash, record }) => {
            Ok(Leftovers { union, from, batch, outcomes, at_rest, sources, staging, trash, record })
        }
        Err(broken) => Err((broken, batch)),
    }
}

/// What a swap leaves.
struct Swapped {
    outcomes: Vec<Outcome>,
    at_rest: bool,
    sources: Vec<Option<Box<dyn File>>>,
    staging: Arc<dyn Dir>,
    trash: Arc<dyn Dir>,
    record: Option<(Arc<dyn Dir>, Name)>,
}

fn swap_all<'u>(
    union: &'u Union,
    (from, to): (Rank, Rank),
    batch: &[Ready<'u>],
    syncing_to: Option<&dyn Syncing>,
) -> std::result::Result<Swapped, Broken> {
    let at_from = |errno| Broken { rank: from, errno };
    let at_to = |errno| Broken { rank: to, errno };
    let mut swap = Swap {
        union,
        from,
        to,
        batch,
        outcomes: vec![None; batch.len()],
        stuck: Vec::new(),
        claims: batch.iter().map(|_| None).collect(),
        sources: batch.iter().map(|_| None).collect(),
        note: None,
        record: None,
        staging: union.own_dir(to, STAGING).map_err(at_to)?,
        trash: union.own_dir(from, TRASH).map_err(at_from)?,
        syncing_from: union.tier_of(from).and_then(|tier| tier.syncing()).map_err(at_from)?,
        syncing_to,
    };
    // Paths in the record stay true while this is held.
    let tree = union.hold_tree();
    let settled = Settled { union, batch };
    let result = swap.run();
    // Those that wait are told so. Else a program would go on with a copy whose source may come back with its tier.
    if let Some(first) = swap.stuck.first() {
        let errno = match swap.outcomes.get(*first) {
            Some(Some(Outcome::Failed(errno, _))) => *errno,
            _ => Errno::EIO,
        };
        let why = (Ranks::only(from).with(to), errno);
        union.cut_short(swap.stuck.iter().map(|at| &batch[*at].subject), true, why);
    }
    if let Err(broken) = result {
        // Those that have moved durably stay moved whatever becomes of the record.
        let cut = batch.iter().zip(&swap.outcomes).filter(|(_, outcome)| **outcome != Some(Outcome::Moved));
        union.cut_short(cut.map(|(ready, _)| &ready.subject), false, (Ranks::only(broken.rank), broken.errno));
    }
    drop(tree);
    drop(settled);
    result?;
    let Swap { outcomes, stuck, sources, staging, trash, record, .. } = swap;
    let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Skipped(Skip::Gone))).collect();
    Ok(Swapped { outcomes, at_rest: stuck.is_empty(), sources, staging, trash, record })
}

/// From here on the batch has moved, and what lies in the trash says no more how far it came.
fn mark_done(records: &dyn Dir, name: &Name) -> Result<Name> {
    let done = Name::new(&[DONE, name.as_bytes()].concat())?;
    records.rename(name, records, &done, Rename::NoReplace)?;
    records.fsync()?;
    Ok(done)
}

/// Lets those go on that wait for the batch, whatever became of it.
struct Settled<'u, 'a> {
    union: &'u Union,
    batch: &'a [Ready<'u>],
}

impl Drop for Settled<'_, '_> {
    fn drop(&mut self) {
        self.union.settled(self.batch.iter().map(|ready| &ready.subject));
    }
}

impl<'u, 'a> Swap<'u, 'a> {
    fn run(&mut self) -> std::result::Result<(), Broken> {
        let primary = |errno| Broken { rank: Rank::PRIMARY, errno };
        self.leave_out_strays()?;
        self.order();
        if self.open().is_empty() {
            return Ok(());
        }
        let records = self.union.own_dir(Rank::PRIMARY, DIRECTORY).map_err(primary)?;
        let name = reserve::with(self.union, || self.write_record(records.as_ref())).map_err(|errno| {
            // Nobody knows of the copies.
            self.batch.iter().for_each(|ready| discard(self.staging.as_ref(), &ready.copied.staged.name));
            primary(errno)
        })?;
        self.note = Note::begin(Arc::clone(&records)).ok();
        let done = if self.to > self.from { self.demote() } else { self.promote() };
        // After a failure the sources are in place, or in the trash with durable copies: the record
        // stays, and the next start sorts it out.
        done?;
        if let Some(at) = self.stuck.first() {
            let path = self.batch[*at].item.path();
            tracing::error!(%path, "a file is half moved, since its tier failed: unmount and mount again when the disk is in order, and the move is finished or undone");
            return Ok(());
        }
        let done = mark_done(records.as_ref(), &name).map_err(primary)?;
        self.record = Some((records, done));
        Ok(())
    }

    fn write_record(&self, records: &dyn Dir) -> Result<Name> {
        let files = self.open().into_iter().map(|at| self.batch[at].moving()).collect();
        let record = Record { from: self.from, to: self.to, files };
        let mut name = small::unique_name()?;
        self.union.put_record(records, &mut name, &record.to_text())?;
        Ok(name)
    }

    fn demote(&mut self) -> std::result::Result<(), Broken> {
        let (from, to) = (self.from, self.to);
        let staging = Arc::clone(&self.staging);
        self.each_run(to, &mut |swap, closed, at| {
            let ready = &swap.batch[at];
            let links = ready.links();
            let staged = &ready.copied.staged;
            swap.union.publish_hidden(closed, &ready.subject, &links, staged, (to, staging.as_ref()))
        })?;
        self.sync(to)?;
        let published = self.open();
        let trash = Arc::clone(&self.trash);
        self.each_run(from, &mut |swap, closed, at| {
            let ready = &swap.batch[at];
            let links = ready.links();
            let staged = &ready.copied.staged;
            let source = swap.union.take_aside(closed, &ready.subject, &links, staged, to, trash.as_ref())?;
            swap.sources[at] = Some(source);
            Ok(())
        })?;
        // Of a stuck one the copy may be all that is to be seen.
        let refused = |at: &usize| self.outcomes[*at].is_some() && !self.stuck.contains(at);
        let withdrawn: Vec<usize> = published.into_iter().filter(refused).collect();
        self.withdraw(&withdrawn)?;
        self.sync(from)?;
        self.close();
        Ok(())
    }

    fn promote(&mut self) -> std::result::Result<(), Broken> {
        let (from, to) = (self.from, self.to);
        let staging = Arc::clone(&self.staging);
        self.each_run(to, &mut |swap, closed, at| {
            let ready = &swap.batch[at];
            let links = ready.links();
            let staged = &ready.copied.staged;
            let claim = swap.union.publish_visible(closed, &ready.subject, &links, staged, (to, staging.as_ref()))?;
            swap.claims[at] = Some(claim);
            Ok(())
        })?;
        self.sync(to)?;
        let trash = Arc::clone(&self.trash);
        self.each_run(from, &mut |swap, closed, at| {
            let ready = &swap.batch[at];
            let links = ready.links();
            let staged = &ready.copied.staged;
            let claim = swap.claims[at].take().ok_or(Refused::Gone)?;
            let source = (staged, claim.as_ref());
            match swap.union.remove_hidden(closed, &ready.subject, &links, source, (to, trash.as_ref())) {
                Ok(()) => {
                    swap.sources[at] = Some(claim);
                    Ok(())
                }
                // Removed or renamed through the mount meanwhile, the hidden source with it.
                Err(Refused::Gone) => Ok(()),
                Err(stuck @ Refused::Stuck(_)) => Err(stuck),
                // The source stays, so the copy must go. Whoever opens the source waits until the claim
                // goes, and the copy goes before it.
                Err(why) => {
                    swap.claims[at] = Some(claim);
                    Err(why)
                }
            }
        })?;
        let awaited: Vec<usize> = (0..self.batch.len()).filter(|at| self.claims[*at].is_some()).collect();
        self.unpublish(&awaited)?;
        self.sync(from)?;
        self.close();
        Ok(())
    }

    /// Those that nothing has ended yet.
    fn open(&self) -> Vec<usize> {
        (0..self.batch.len()).filter(|at| self.outcomes[*at].is_none()).collect()
    }

    fn close(&mut self) {
        for outcome in &mut self.outcomes {
            outcome.get_or_insert(Outcome::Moved);
        }
    }
}

/// Has the kernel read again what space the moved files take.
pub(super) fn tell_kernel(union: &Union, batch: &[Ready<'_>], outcomes: &[Outcome]) {
    let moved = batch.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Moved);
    moved.for_each(|(ready, _)| union.tell_moved(&ready.subject));
}

/// Where the files of a batch are, for messages.
pub(super) fn paths(batch: &[Ready<'_>]) -> impl Iterator<Item = UnionPath> {
    batch.iter().map(|ready| ready.item.path())
}
