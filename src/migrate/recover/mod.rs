//! What a crash cut short is finished or undone, before anything is served.
//!
//! For each file of a record it is looked at where its bodies are, and one of these follows. Every
//! repair can itself be cut short: what was done is found done. The record goes when its files are
//! at rest, and only after it what is in the trash: how many names lie there says how far a swap
//! had come. Both tiers are made durable first, and each repair is, so the record goes last.
//!
//! | to a slower tier | |
//! | --- | --- |
//! | every name of the source is in the trash | it has moved |
//! | else, and another file has its name on the new tier | it had moved, and was replaced there, before the power failed: the source is kept where nobody sees it |
//! | else, and the copy has changed since it was made | it had moved, and was written there, before the power failed: what is left of the source goes |
//! | else | it has not moved, or a program has removed or replaced it: names in the trash go back, the copy goes. If the source is nowhere, the copy is kept where nobody sees it |
//!
//! | to a faster tier | |
//! | --- | --- |
//! | the copy has no name | it has not moved: the copy in staging goes |
//! | the copy has one | it has moved: what is missing of its names is made, the source goes |
//!
//! A source that is to go but is not what it was (somebody wrote into it beside the mount) stays,
//! hidden, with a warning: `tierfs check` lists it. Whatever is in the trash without a record has
//! moved, and whatever is in staging is worth nothing.
//!
//! A record that is known to be a copy ([`small::is_copied`]) is set aside, and trash and staging stay as they are.
//!
//! A record that says done is of a batch that has moved. What lies in the trash is compared with it all the
//! same: when a process dies, who had found a source before it went gets at it, and may write. What is
//! saved goes to `.tierfs/lost` under the name it had in the trash, by which a second recovery knows that
//! it had been there.
//!
//! Nothing is deleted by a record unless its contents have the hash that the record tells: times prove
//! nothing after a power cut, since bytes can be durable without them. Through the mount nobody writes
//! into a file whose move is not durable ([`Union::open`] waits), so what differs was written beside it, or
//! is what a disk has lost: it is kept in `.tierfs/lost`, and the other copy is shown.

use std::sync::Arc;

use super::record::{DIRECTORY, DONE, LEN_MAX, Record, STAGING, TRASH};
use super::times::{self, Had, Note};
use crate::sys::process;
use crate::tier::{Dir, small};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Rank, Ranks};
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::union::Union;

mod repair;
mod seen;

use repair::{Fallible, Repair};

/// Brings every batch to rest that a crash cut short, and clears what is left over. To be called
/// before the union is served, under the locks of its tiers.
///
/// # Errors
/// The tier and what it says: the union must then not be served, since a file may be half moved.
pub fn recover(union: &Union) -> std::result::Result<(), (Rank, Errno)> {
    if union.may_move().is_err() {
        return Ok(());
    }
    bring_to_rest(union, false)
}

/// The same when the last missing tier of a union in use is back, before anything of it is served. Names
/// cannot be changed meanwhile, and no run is at work; the caller sees to both. What programs have may
/// change, so of a source that can be seen nothing is taken away: where a start would do that, because
/// its tier was changed elsewhere, both copies stay.
///
/// # Errors
/// As [`recover`]: the tier must then not be served.
pub fn recover_in_use(union: &Union) -> std::result::Result<(), (Rank, Errno)> {
    bring_to_rest(union, true)
}

/// What is on record of moves that were cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Nothing,
    /// Moves from these tiers. Who was without such a tier for a while may have had the copies, and may have
    /// them open: only a start can tell then which of the two is to stay.
    Moves(Ranks),
}

/// Looks for moves that were cut short.
///
/// # Errors
/// What the primary says.
pub fn cut_short(union: &Union) -> crate::types::errno::Result<Cut> {
    let Some(records) = union.own_dir_if_any(Rank::PRIMARY, DIRECTORY)? else { return Ok(Cut::Nothing) };
    let mut cut = Cut::Nothing;
    for name in small::names(records.as_ref())? {
        if [small::DRAFT, small::COPIED, DONE, times::PREFIX].iter().any(|prefix| name.as_bytes().starts_with(prefix)) {
            continue;
        }
        let raw = small::read(records.as_ref(), &name, LEN_MAX)?;
        // One that cannot be read may be of any tier.
        let record = raw.and_then(|raw| Record::parse(std::str::from_utf8(&raw).ok()?));
        let from = record.map_or(Ranks(u8::MAX), |record| Ranks::only(record.from));
        cut = match cut {
            Cut::Nothing => Cut::Moves(from),
            Cut::Moves(others) => Cut::Moves(others.or(from)),
        };
    }
    Ok(cut)
}

fn bring_to_rest(union: &Union, served: bool) -> std::result::Result<(), (Rank, Errno)> {
    let primary = |errno| (Rank::PRIMARY, errno);
    let Some(records) = union.own_dir_if_any(Rank::PRIMARY, DIRECTORY).map_err(primary)? else {
        return clear(union);
    };
    let mut unread = false;
    let directories = Directories::of_notes(union, &records)?;
    for name in small::names(records.as_ref()).map_err(primary)? {
        if name.as_bytes().starts_with(small::DRAFT) {
            records.unlink(&name).map_err(primary)?;
            continue;
        }
        if name.as_bytes().starts_with(times::PREFIX) {
            continue;
        }
        if set_copy_aside(records.as_ref(), &name).map_err(primary)? {
            unread = true;
            continue;
        }
        let raw = small::read(records.as_ref(), &name, LEN_MAX).map_err(primary)?;
        match raw.and_then(|raw| Record::parse(std::str::from_utf8(&raw).ok()?)) {
            Some(record) if usize::from(record.from.0.max(record.to.0)) < union.tiers() => {
                tracing::info!(from = %record.from, to = %record.to, files = record.files.len(), "finishing moves that were cut short");
                // What is seen here must be durable before anything is removed because of it: a dead
                // process leaves names that no disk has yet.
                seen::make_durable(union, &record)?;
                let repair = Repair::new(union, &record, served)?;
                if name.as_bytes().starts_with(DONE) {
                    repair.save(&record)?
                } else {
                    repair.run(&record)?
                }
                records.unlink(&name).and_then(|()| records.fsync()).map_err(primary)?;
            }
            Some(_) | None => {
                unread = true;
                tracing::error!(%name, "a record in .tierfs/moves of the primary cannot be read: it and everything in .tierfs/trash and .tierfs/staging stays. Report this.");
            }
        }
    }
    directories.set_back(union, records.as_ref())?;
    if unread { Ok(()) } else { clear(union) }
}

/// Sees to a record that is a copy: one that came back with a backup of the primary is about files as they were
/// then, and what has their names now is not to be touched because of it.
fn set_copy_aside(records: &dyn Dir, name: &Name) -> Result<bool> {
    let name = if name.as_bytes().starts_with(small::COPIED) {
        name.clone()
    } else if small::is_copied(records, name)? {
        small::set_aside(records, name)
    } else {
        return Ok(false);
    };
    tracing::error!(%name, "a record in .tierfs/moves of the primary has come with a copy or a backup of the tier: no file is touched because of it, and all in .tierfs/trash and .tierfs/staging of the tiers stays. Take from there what the mount does not have, then remove the record.");
    Ok(true)
}

/// Directories whose times a process was about to set back when it died.
struct Directories {
    had: Vec<Had>,
    notes: Vec<Name>,
    /// Of all of them and of those that recovery changes, for the case that it dies, too.
    _note: Option<Note>,
}

impl Directories {
    fn of_notes(union: &Union, records: &Arc<dyn Dir>) -> Fallible<Directories> {
        let boot = process::boot_id().unwrap_or_default();
        let (mut had, mut notes, mut touched) = (Vec::new(), Vec::new(), Vec::new());
        let mut gather = || -> Result<()> {
            for name in small::names(records.as_ref())? {
                let raw = small::read(records.as_ref(), &name, LEN_MAX)?.unwrap_or_default();
                let text = std::str::from_utf8(&raw).unwrap_or_default();
                if name.as_bytes().starts_with(times::PREFIX) {
                    had.extend(times::parse(text, &boot));
                    notes.push(name);
                } else if let Some(record) = Record::parse(text) {
                    let above = |path: &UnionPath| path.split().map(|(above, _)| above);
                    let dirs = record.files.iter().flat_map(|file| file.names.iter().filter_map(above));
                    touched.extend(dirs.flat_map(|dir| [(record.from, dir.clone()), (record.to, dir)]));
                }
            }
            Ok(())
        };
        gather().map_err(|errno| (Rank::PRIMARY, errno))?;
        touched.sort();
        touched.dedup();
        touched.retain(|(rank, path)| usize::from(rank.0) < union.tiers() && !noted(&had, *rank, path));
        for (rank, path) in touched {
            let at = |errno| (rank, errno);
            let root = union.tier_of(rank).map_err(at)?.root();
            let Some(dir) = open_below(&root, &path).map_err(at)? else { continue };
            let stat = dir.stat(None).and_then(|stat| stat.ok_or(Errno::ESTALE)).map_err(at)?;
            had.push(Had { rank, path, atime: stat.atime, mtime: stat.mtime });
        }
        let note = if had.is_empty() { None } else { Note::begin(Arc::clone(records)).ok() };
        if let Some(Err(errno)) = note.as_ref().map(|note| note.tell(&had)) {
            tracing::debug!("times of directories are not on record: {errno}");
        }
        Ok(Directories { had, notes, _note: note })
    }

    fn set_back(self, union: &Union, records: &dyn Dir) -> Fallible<()> {
        for had in self.had.iter().filter(|had| usize::from(had.rank.0) < union.tiers()) {
            let root = union.tier_of(had.rank).map_err(|errno| (had.rank, errno))?.root();
            let back = open_below(&root, &had.path)
                .and_then(|dir| dir.map_or(Ok(()), |dir| times::set_back(dir.as_ref(), had)));
            back.map_err(|errno| (had.rank, errno))?;
        }
        let gone = self.notes.iter().try_for_each(|name| records.unlink(name));
        gone.map_err(|errno| (Rank::PRIMARY, errno))
    }
}

fn noted(had: &[Had], rank: Rank, path: &UnionPath) -> bool {
    had.iter().any(|had| had.rank == rank && had.path == *path)
}

/// A directory of a tier; `None` if there is none.
pub(super) fn open_below(root: &Arc<dyn Dir>, path: &UnionPath) -> Result<Option<Arc<dyn Dir>>> {
    let mut dir = Arc::clone(root);
    for part in path.names() {
        dir = match dir.open_dir(&part) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            other => other?,
        };
    }
    Ok(Some(dir))
}

/// Empties trash and staging.
fn clear(union: &Union) -> std::result::Result<(), (Rank, Errno)> {
    for rank in (0u8..).map(Rank).take(union.tiers()) {
        for own in [TRASH, STAGING] {
            empty(union, rank, own).map_err(|errno| (rank, errno))?;
        }
    }
    Ok(())
}

/// Removes what lies in trash and staging of a union in use while no run is at work; the caller sees
/// to that.
///
/// # Errors
/// EBUSY, and nothing is removed, while a record of moves is there: they come to rest at the next
/// start. What a tier says.
pub fn clear_leftovers(union: &Union) -> std::result::Result<(), (Rank, Errno)> {
    let at_primary = |errno| (Rank::PRIMARY, errno);
    union.may_move().map_err(at_primary)?;
    let records = union.own_dir_if_any(Rank::PRIMARY, DIRECTORY).map_err(at_primary)?;
    let names = records.map(|dir| small::names(dir.as_ref())).transpose().map_err(at_primary)?.unwrap_or_default();
    if names.iter().any(|name| !name.as_bytes().starts_with(small::DRAFT)) {
        return Err((Rank::PRIMARY, Errno::EBUSY));
    }
    union.without_clones(|| clear(union))
}

fn empty(union: &Union, rank: Rank, own: &str) -> Result<()> {
    let Some(dir) = union.own_dir_if_any(rank, own)? else { return Ok(()) };
    for name in small::names(dir.as_ref())? {
        match dir.unlink(&name) {
            Err(Errno::EISDIR | Errno::EPERM) => dir.rmdir(&name)?,
            other => other?,
        }
    }
    Ok(())
}
