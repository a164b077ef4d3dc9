//! Mending what can be mended without a risk, through a union that is mounted or held alone.
//!
//! A finding may be old when it is mended, and whoever asks may be wrong: everything is proved again
//! here. A hidden copy goes only when, while nobody could write either, every byte and all metadata
//! were equal, the visible copy is durable under its name, and no move is on record. It goes by
//! the trash, so at a power cut it is there or it is gone, and the visible one is there in any case.

use std::sync::Arc;

use super::Mend;
use super::compare;
use super::read::{attributes, of_dir, open_quietly, without_stamps};
use crate::migrate;
use crate::tier::{Dir, File, small};
use crate::types::attr::{Kind, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::lease::Excludes;
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::union::Union;
use crate::union::moving::{Duplicate, Link, Refused, Subject, Walked, trash_name};

const TRASH: &str = "trash";
const RECORDS: &str = "moves";

/// Mends one thing. Nobody moves files of the union meanwhile: the caller sees to that. `stop` is
/// asked now and then whether to give up.
///
/// # Errors
/// Why it stays as it is, in words.
pub fn mend(union: &Union, what: &Mend, stop: &dyn Fn() -> bool) -> std::result::Result<(), String> {
    match what {
        Mend::Duplicate(path, rank) => duplicate(union, path, *rank, stop).map_err(words),
        Mend::Directory(path) => {
            // What is replaced is kept nowhere else.
            let levelled = union.walk(path).and_then(|walked| union.level(&walked, &|rank, dir| tell(path, rank, dir)));
            levelled.map_err(|errno| errno.to_string())
        }
        Mend::Leftovers => migrate::clear_leftovers(union).map_err(|(rank, errno)| match errno {
            Errno::EBUSY => "moves that were cut short are on record: unmount and mount again first; remove one whose name begins with copied- when nothing is missing".into(),
            errno => format!("the {rank} says: {errno}"),
        }),
    }
}

/// Logs what a copy of a directory has.
fn tell(path: &UnionPath, rank: Rank, dir: &dyn Dir) -> Result<()> {
    let stat = dir.stat(None)?.ok_or(Errno::ESTALE)?;
    let has = compare::told_whole(&stat, &without_stamps(of_dir(dir)?));
    tracing::info!(%path, tier = %rank, "a directory is made like its fastest copy; it had {has}");
    Ok(())
}

/// Why a duplicate stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Refused(Refused),
    /// It is not equal.
    Differs,
    Stopped,
}

impl From<Errno> for Kept {
    fn from(errno: Errno) -> Kept {
        Kept::Refused(errno.into())
    }
}

impl From<Refused> for Kept {
    fn from(refused: Refused) -> Kept {
        Kept::Refused(refused)
    }
}

fn words(why: Kept) -> String {
    match why {
        Kept::Differs => "the copies are not equal".into(),
        Kept::Stopped | Kept::Refused(Refused::Failed(Errno::EINTR)) => "it was stopped before".into(),
        Kept::Refused(Refused::InUse) => "a program has it open, or moves are on record: try again later".into(),
        Kept::Refused(Refused::Changed | Refused::Occupied) => "it has changed meanwhile: check again".into(),
        Kept::Refused(Refused::Gone) => "it is gone".into(),
        Kept::Refused(Refused::NoLease) => "its filesystem, or this user, cannot keep writers away".into(),
        Kept::Refused(Refused::Failed(errno)) => errno.to_string(),
        Kept::Refused(Refused::Stuck(errno)) => {
            format!("it lies in .tierfs/trash and could not be put back ({errno}): look at it before you unmount")
        }
    }
}

fn duplicate(union: &Union, path: &UnionPath, rank: Rank, stop: &dyn Fn() -> bool) -> std::result::Result<(), Kept> {
    union.may_move()?;
    let (above, name) = path.split().ok_or(Errno::ENOENT)?;
    let dir = union.walk(&above)?;
    let subject = union.subject(&dir, &name)?.ok_or(Refused::Gone)?;
    if rank <= subject.rank {
        return Err(Refused::Changed.into());
    }
    let visible = claim(dir.copy(subject.rank)?.as_ref(), &name, Excludes::Writers)?;
    if !visible.stat()?.is_version(&subject.stat) {
        return Err(Refused::Changed.into());
    }
    let hidden = claim(dir.copy(rank)?.as_ref(), &name, Excludes::All)?;
    let duplicate = Duplicate { rank, file: hidden.as_ref(), stat: hidden.stat()? };
    check_equal(visible.as_ref(), &subject.stat, &duplicate, stop)?;
    // From here on it may be the only copy.
    visible.fsync(false)?;
    sync_way(union, subject.rank, &above)?;
    take(union, Link { dir: &dir, name: &name }, &subject, visible.as_ref(), &duplicate)?;
    settle(&dir, rank);
    Ok(())
}

fn claim(dir: &dyn Dir, name: &Name, excludes: Excludes) -> std::result::Result<Box<dyn File>, Kept> {
    let file = open_quietly(dir, name)?;
    match file.claim(excludes) {
        Ok(true) => Ok(file),
        Ok(false) => Err(Refused::InUse.into()),
        Err(Errno::EINVAL | Errno::EACCES) => Err(Refused::NoLease.into()),
        Err(other) => Err(other.into()),
    }
}

/// Whether nothing is lost with the hidden copy. The visible one is read from its disk, not from
/// memory.
fn check_equal(
    visible: &dyn File,
    shown: &Stat,
    hidden: &Duplicate<'_>,
    stop: &dyn Fn() -> bool,
) -> std::result::Result<(), Kept> {
    let differs = compare::file_differs(shown, &hidden.stat);
    if hidden.stat.kind() != Kind::File || !differs.is_empty() || shown.size != hidden.stat.size {
        return Err(Kept::Differs);
    }
    if attributes(visible)? != attributes(hidden.file)? {
        return Err(Kept::Differs);
    }
    visible.fsync(true)?;
    visible.drop_cache();
    let mut pace = |_| {
        if stop() {
            return Err(Errno::EINTR);
        }
        // Whoever wants to write one waits for this.
        let alone = visible.is_claimed(Excludes::Writers)? && hidden.file.is_claimed(Excludes::All)?;
        if alone { Ok(()) } else { Err(Errno::EAGAIN) }
    };
    match compare::same_contents(visible, hidden.file, shown.size, &mut pace) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Kept::Differs),
        Err(Errno::EAGAIN) => Err(Refused::InUse.into()),
        Err(Errno::EINTR) => Err(Kept::Stopped),
        Err(other) => Err(other.into()),
    }
}

/// Makes the directories on the way to a file durable on its tier, the file's own first.
fn sync_way(union: &Union, rank: Rank, dir: &UnionPath) -> Result<()> {
    let mut way: Vec<Arc<dyn Dir>> = vec![union.tier_of(rank)?.root()];
    for name in dir.names() {
        let above = way.last().ok_or(Errno::ESTALE)?;
        let below = above.open_dir(&name)?;
        way.push(below);
    }
    way.iter().rev().try_for_each(|dir| dir.fsync())
}

fn take(
    union: &Union,
    link: Link<'_>,
    subject: &Subject<'_>,
    visible: &dyn File,
    duplicate: &Duplicate<'_>,
) -> std::result::Result<(), Kept> {
    let trash = union.own_dir(duplicate.rank, TRASH)?;
    let base = small::unique_name()?;
    let records = union.own_dir(Rank::PRIMARY, RECORDS)?;
    let at_rest = || Ok(small::names(records.as_ref())?.is_empty());
    union.take_duplicate(link, subject, visible, duplicate, (trash.as_ref(), &base), &at_rest)?;
    // What stays behind here goes at the next start.
    if let Err(errno) = trash.unlink(&trash_name(&base, 0)?) {
        tracing::warn!(name = %base, "a duplicate stays behind in .tierfs/trash until the next start: {errno}");
    }
    Ok(())
}

/// Makes durable that the duplicate has gone, so that it does not come back after the visible copy
/// was deleted. A program that makes that deletion durable does this, too.
fn settle(dir: &Walked<'_>, rank: Rank) {
    if let Err(errno) = dir.copy(rank).and_then(|dir| dir.fsync()) {
        tracing::warn!(dir = %dir.path(), "a duplicate that was removed may come back after a power cut: {errno}");
    }
}
