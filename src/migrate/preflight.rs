//! What keeps a file where it is, as far as it shows before anything is copied.
//!
//! A run asks this before it copies, a dry run and `explain` ask it instead: so they give the same
//! reasons. What shows only in the copy (attributes, times or owners that the target cannot hold, a
//! quota) and what happens later is not foreseen. Nothing on a tier is changed here, and a file is
//! claimed for some microseconds at most: a program that opens it in this moment waits for no longer.

use std::sync::Arc;

use super::plan::Item;
use super::ways::of_way;
use super::{Event, Skip, Summary};
use crate::sys::stat::{self, Mounted};
use crate::tier::{Dir, File, Open};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::lease::Excludes;
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::union::Union;
use crate::union::moving::{Subject, Walked};

/// Why a file does not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It stays.
    Skip(Skip),
    /// A system call failed while this was done.
    Failed(Errno, &'static str),
}

impl From<Skip> for Refusal {
    fn from(skip: Skip) -> Refusal {
        Refusal::Skip(skip)
    }
}

impl Refusal {
    /// Whether it says nothing of the file: the user or the clock ended the run meanwhile.
    fn is_end(self) -> bool {
        matches!(self, Refusal::Failed(Errno::EINTR, _))
    }

    /// Counts it in the summary of a run.
    pub(super) fn count(self, summary: &mut Summary) {
        match self {
            _ if self.is_end() => {}
            Refusal::Skip(why) => *summary.skipped.entry(why).or_default() += 1,
            Refusal::Failed(..) => summary.failed += 1,
        }
    }

    /// What is told of it.
    pub(super) fn event(self, path: UnionPath) -> Option<Event> {
        match self {
            _ if self.is_end() => None,
            Refusal::Skip(why) => Some(Event::Skipped { path, why }),
            Refusal::Failed(errno, during) => Some(Event::Failed { path, errno, during }),
        }
    }
}

/// Immutable and append-only files of `chattr(1)` (`linux/fs.h`).
const FIXED: u32 = 0x10 | 0x20;

/// Flags that the file's filesystem enforces on its contents, and that no copy could have: encrypted by
/// it, sealed by fs-verity.
const SEALED: u32 = 0x800 | 0x10_0000;

/// Whether `item`, whose directories are `names`, would be copied and swapped now.
pub(super) fn preflight(
    union: &Union,
    item: &Item,
    names: &[(Arc<Walked<'_>>, Name)],
) -> std::result::Result<(), Refusal> {
    let Looked { subject, source, name } = look(union, item, names)?;
    // The claim is the file's, and goes with it in this line.
    claim(source.as_ref(), name, Excludes::All).map(drop)?;
    if union.is_in_use(&subject) { Err(Skip::InUse.into()) } else { Ok(()) }
}

/// A file that may move as far as its names show.
pub(super) struct Looked<'u, 'n> {
    pub subject: Subject<'u>,
    /// The directory of its first name on the tier that it leaves.
    pub source: Arc<dyn Dir>,
    /// Its first name.
    pub name: &'n Name,
}

/// The file of an item, which programs see under each of its names, and no tier has anything else there: what
/// one has would be hidden by the copy, or come to light when the file goes.
pub(super) fn look<'u, 'n>(
    union: &'u Union,
    item: &Item,
    names: &'n [(Arc<Walked<'u>>, Name)],
) -> std::result::Result<Looked<'u, 'n>, Refusal> {
    let Some(((dir, name), others)) = names.split_first() else { return Err(Skip::Gone.into()) };
    let subject = look_at(union, dir, name)?;
    check(item, &subject)?;
    for (dir, name) in others {
        check(item, &look_at(union, dir, name)?)?;
    }
    Ok(Looked { subject, source: dir.copy(item.from).map_err(of_way)?, name })
}

/// The file that has this name now.
pub(super) fn look_at<'u>(
    union: &'u Union,
    dir: &Walked<'u>,
    name: &Name,
) -> std::result::Result<Subject<'u>, Refusal> {
    union.subject(dir, name).map_err(of_way)?.ok_or(Refusal::Skip(Skip::Gone))
}

/// What is wrong with a file as the union shows it under one of its names.
fn check(item: &Item, subject: &Subject<'_>) -> std::result::Result<(), Skip> {
    if subject.rank != item.from {
        return Err(Skip::Shadowed);
    }
    if subject.hides {
        return Err(Skip::Occupied);
    }
    if subject.number_comes_back {
        return Err(Skip::NoBirthTime);
    }
    if item.is_still(&subject.stat) { Ok(()) } else { Err(Skip::Changed) }
}

/// Opens a file that may leave its tier and claims it; with its inode flags.
pub(super) fn claim(
    dir: &dyn Dir,
    name: &Name,
    excludes: Excludes,
) -> std::result::Result<(Box<dyn File>, u32), Refusal> {
    let source = match dir.open(name, Open::ReadQuiet) {
        Err(Errno::ENOENT) => return Err(Skip::Gone.into()),
        // A program beside the mount holds a lease of its own.
        Err(Errno::EAGAIN) => return Err(Skip::InUse.into()),
        other => other.map_err(|errno| Refusal::Failed(errno, "opening the file"))?,
    };
    let flags = source.flags().unwrap_or(0);
    if flags & FIXED != 0 {
        return Err(Skip::Immutable.into());
    }
    if flags & SEALED != 0 {
        return Err(Skip::Sealed.into());
    }
    match source.claim(excludes) {
        Ok(true) => Ok((source, flags)),
        Ok(false) => Err(Skip::InUse.into()),
        Err(Errno::EINVAL | Errno::EACCES) => Err(Skip::NoLease.into()),
        Err(other) => Err(Refusal::Failed(other, "claiming the file")),
    }
}

/// Whether files can leave a directory on one tier and come to it on another, where it need not be yet.
///
/// # Errors
/// EXDEV if a filesystem is mounted there inside the tier; EEXIST if something else has the name of one
/// of the directories; EOPNOTSUPP if copies there cannot be stamped; what the tiers say.
pub(super) fn check_way(union: &Union, dir: &Walked<'_>, from: Rank, to: Rank) -> Result<()> {
    let (source, target) = (dir.copy(from)?, dir.nearest(to)?);
    let nested = is_nested(union, from, source.as_ref())? || is_nested(union, to, target.as_ref())?;
    if nested {
        return Err(Errno::EXDEV);
    }
    if union.can_stamp(target.as_ref())? { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// Whether nothing can be renamed between a directory of a tier and the tier's own directories.
fn is_nested(union: &Union, rank: Rank, dir: &dyn Dir) -> Result<bool> {
    let root = union.tier_of(rank)?.root();
    let mounted = |dir: &dyn Dir| -> Result<Option<Mounted>> { dir.held().map(stat::mounted).transpose() };
    Ok(mounted(root.as_ref())? != mounted(dir)?)
}

/// Whether nothing can be written to a tier. A tier that does not tell shows it when it is written to.
pub(super) fn is_read_only(union: &Union, rank: Rank) -> bool {
    let root = union.tier_of(rank).map(|tier| tier.root());
    root.is_ok_and(|root| root.held().is_some_and(|held| stat::is_read_only(held) == Ok(true)))
}
