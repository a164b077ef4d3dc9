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
//! | else | it has not moved, or a program has removed or replaced it: names in the trash go back, the copy goes |
//!
//! | to a faster tier | |
//! | --- | --- |
//! | the copy has no name | it has not moved: the copy in staging goes |
//! | the copy has one | it has moved: what is missing of its names is made, the source goes |
//!
//! A source that is to go but is not what it was (somebody wrote into it beside the mount) stays,
//! hidden, with a warning: `tierfs check` lists it. Whatever is in the trash without a record has
//! moved, and whatever is in staging is worth nothing.

use std::sync::Arc;

use super::record::{DIRECTORY, LEN_MAX, Moving, Record, STAGING, TRASH, Version};
use super::times::{self, Had, Note};
use crate::sys::process;
use crate::tier::{Dir, Rename, small};
use crate::types::attr::{Body, Kind, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::union::Union;
use crate::union::moving::{LOST, trash_name};

/// Brings every batch to rest that a crash cut short, and clears what is left over. To be called
/// before the union is served, under the locks of its tiers.
///
/// # Errors
/// The tier and what it says: the union must then not be served, since a file may be half moved.
pub fn recover(union: &Union) -> std::result::Result<(), (Rank, Errno)> {
    if union.may_move().is_err() {
        return Ok(());
    }
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
        let raw = small::read(records.as_ref(), &name, LEN_MAX).map_err(primary)?;
        match raw.and_then(|raw| Record::parse(std::str::from_utf8(&raw).ok()?)) {
            Some(record) if usize::from(record.from.0.max(record.to.0)) < union.tiers() => {
                tracing::info!(from = %record.from, to = %record.to, files = record.files.len(), "finishing moves that were cut short");
                // What is seen here must be durable before anything is removed because of it: a dead
                // process leaves names that no disk has yet.
                for rank in [record.to, record.from] {
                    let durable = union.tier_of(rank).and_then(|tier| tier.syncing()).and_then(|all| all.sync());
                    durable.map_err(|errno| (rank, errno))?;
                }
                Repair::new(union, &record)?.run(&record)?;
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
fn open_below(root: &Arc<dyn Dir>, path: &UnionPath) -> Result<Option<Arc<dyn Dir>>> {
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

struct Repair {
    from: Side,
    to: Side,
}

/// One tier of a batch.
struct Side {
    rank: Rank,
    root: Arc<dyn Dir>,
    /// The trash of the tier the files leave, the staging directory of the other.
    own: Arc<dyn Dir>,
    lost: Arc<dyn Dir>,
}

type Fallible<T> = std::result::Result<T, (Rank, Errno)>;

impl Side {
    fn new(union: &Union, rank: Rank, own: &str) -> Fallible<Side> {
        let open = || {
            let root = union.tier_of(rank)?.root();
            Ok(Side { rank, root, own: union.own_dir(rank, own)?, lost: union.own_dir(rank, LOST)? })
        };
        open().map_err(|errno| (rank, errno))
    }

    fn at<T>(&self, result: Result<T>) -> Fallible<T> {
        result.map_err(|errno| (self.rank, errno))
    }

    /// What the tier has under a path, with the directory it is in.
    fn find(&self, path: &UnionPath) -> Fallible<Option<(Arc<dyn Dir>, Name, Option<Stat>)>> {
        let look = || {
            let Some((above, name)) = path.split() else { return Ok(None) };
            let Some(dir) = open_below(&self.root, &above)? else { return Ok(None) };
            let stat = dir.stat(Some(&name))?;
            Ok(Some((dir, name, stat)))
        };
        self.at(look())
    }

    fn body_at(&self, path: &UnionPath, body: Body) -> Fallible<Option<(Arc<dyn Dir>, Name, Stat)>> {
        let found = self.find(path)?;
        Ok(found.and_then(|(dir, name, stat)| stat.filter(|stat| stat.body == body).map(|stat| (dir, name, stat))))
    }

    /// Removes a name and makes that durable. Set the directory's times back: nothing has changed
    /// for whoever looks at the union.
    fn remove(&self, dir: &dyn Dir, name: &Name) -> Fallible<()> {
        self.at(keeping_times(dir, || dir.unlink(name)).and_then(|()| dir.fsync()))
    }
}

fn keeping_times(dir: &dyn Dir, act: impl FnOnce() -> Result<()>) -> Result<()> {
    use crate::types::attr::{SetAttr, SetTime};
    let before = dir.stat(None)?.ok_or(Errno::ESTALE)?;
    act()?;
    let (atime, mtime) = (Some(SetTime::At(before.atime)), Some(SetTime::At(before.mtime)));
    dir.set_attr(None, &SetAttr { atime, mtime, ..SetAttr::default() })
}

impl Repair {
    fn new(union: &Union, record: &Record) -> Fallible<Repair> {
        let (from, to) = (Side::new(union, record.from, TRASH)?, Side::new(union, record.to, STAGING)?);
        Ok(Repair { from, to })
    }

    fn run(&self, record: &Record) -> Fallible<()> {
        for file in &record.files {
            if record.to > record.from {
                self.demoted(file)?;
            } else {
                self.promoted(file)?;
            }
        }
        Ok(())
    }

    /// A file that was on its way to a slower tier.
    fn demoted(&self, file: &Moving) -> Fallible<()> {
        let mut aside = 0;
        for at in 0..file.names.len() {
            aside += usize::from(self.in_trash(file, at)?);
        }
        if aside == file.names.len() {
            return self.finish_demoted(file);
        }
        if self.copy_changed(file)? {
            tracing::info!(path = %first(file), "a file was changed on its new tier before the power failed: that is kept");
            return file.names.iter().try_for_each(|path| self.remove_source(file, path));
        }
        if self.replaced(file)? {
            let (path, what) = (first(file), "a file was replaced on its new tier before the power failed");
            let Some((dir, name, _)) = self.from.body_at(&path, file.body)? else { return Ok(()) };
            tracing::warn!(%path, tier = %self.from.rank, "{what}: that is kept, and its former contents are in .tierfs/lost/{} of the tier. Delete them if they are not needed.", file.staged);
            let keep = || dir.rename(&name, self.from.lost.as_ref(), &file.staged, Rename::Replace);
            return self.from.at(keeping_times(dir.as_ref(), keep)
                .and_then(|()| self.from.lost.fsync())
                .and_then(|()| dir.fsync()));
        }
        self.undo_demoted(file)
    }

    /// Whether the copy had been seen and was then replaced, although the source is still there. While
    /// the source hides it, the union changes the name on the source's tier, too; so a copy that is
    /// neither in staging nor under its name, which another file has, was seen.
    fn replaced(&self, file: &Moving) -> Fallible<bool> {
        let [path] = file.names.as_slice() else { return Ok(false) };
        let unchanged = |(_, _, stat): (_, _, Stat)| Version::of(&stat) == file.version;
        let source = self.from.body_at(path, file.body)?.is_some_and(unchanged);
        let other = matches!(self.to.find(path)?, Some((_, _, Some(stat))) if stat.body != file.copy && stat.kind() == Kind::File);
        Ok(source && other && self.to.at(self.to.own.stat(Some(&file.staged)))?.is_none())
    }

    /// Its source has gone; the copy is the file.
    fn finish_demoted(&self, file: &Moving) -> Fallible<()> {
        let mut shown = false;
        for path in &file.names {
            shown |= self.to.body_at(path, file.copy)?.is_some();
        }
        // It was removed or replaced through the mount, or the tier has lost what it said was durable;
        // or the source was written to after it was copied. It cannot be told which: so it is neither
        // shown nor deleted.
        if !shown || self.source_changed(file)? {
            self.to_lost(file, 0)?;
        }
        Ok(())
    }

    /// Whether the source in the trash is not what was copied.
    fn source_changed(&self, file: &Moving) -> Fallible<bool> {
        let look = || self.from.own.stat(Some(&trash_name(&file.staged, 0)?));
        Ok(self.from.at(look())?.is_some_and(|stat| Version::of(&stat) != file.version))
    }

    fn undo_demoted(&self, file: &Moving) -> Fallible<()> {
        self.all_put_back(file)?;
        for path in &file.names {
            let Some((dir, name, stat)) = self.to.body_at(path, file.copy)? else { continue };
            if Version::of(&stat) == file.version {
                self.to.remove(dir.as_ref(), &name)?;
            } else {
                tracing::warn!(%path, tier = %self.to.rank, "a copy that was to be taken back was changed beside the mount and stays: see `tierfs check`");
            }
        }
        Ok(())
    }

    /// A file that was on its way to a faster tier.
    fn promoted(&self, file: &Moving) -> Fallible<()> {
        let mut published = None;
        for path in &file.names {
            published = published.or(self.to.body_at(path, file.copy)?);
        }
        let Some((dir, name, _)) = published else {
            if self.to.at(self.to.own.stat(Some(&file.staged)))?.is_some() {
                // Its names have gone although the disk had said that they were durable.
                return self.all_put_back(file);
            }
            // What is in the trash then was published, and removed or renamed since.
            return Ok(());
        };
        for path in &file.names {
            self.complete(file, path, dir.as_ref(), &name)?;
            self.remove_source(file, path)?;
        }
        Ok(())
    }

    /// Gives a promoted copy a name that its source still has.
    fn complete(&self, file: &Moving, path: &UnionPath, has: &dyn Dir, as_name: &Name) -> Fallible<()> {
        if self.from.body_at(path, file.body)?.is_none() {
            return Ok(());
        }
        let Some((dir, name, None)) = self.to.find(path)? else { return Ok(()) };
        self.to.at(keeping_times(dir.as_ref(), || has.link(as_name, dir.as_ref(), &name)).and_then(|()| dir.fsync()))
    }

    /// Whether a name of the copy leads to something that was changed after it was copied.
    fn copy_changed(&self, file: &Moving) -> Fallible<bool> {
        for path in &file.names {
            if let Some((_, _, stat)) = self.to.body_at(path, file.copy)? {
                return Ok(Version::of(&stat) != file.version);
            }
        }
        Ok(false)
    }

    fn remove_source(&self, file: &Moving, path: &UnionPath) -> Fallible<()> {
        let Some((dir, name, stat)) = self.from.body_at(path, file.body)? else { return Ok(()) };
        if Version::of(&stat) == file.version {
            return self.from.remove(dir.as_ref(), &name);
        }
        tracing::warn!(%path, tier = %self.from.rank, "a file that has moved was changed beside the mount on its former tier: both stay, see `tierfs check`");
        Ok(())
    }

    fn in_trash(&self, file: &Moving, at: usize) -> Fallible<bool> {
        let look = || Ok(self.from.own.stat(Some(&trash_name(&file.staged, at)?))?.is_some());
        self.from.at(look())
    }

    fn all_put_back(&self, file: &Moving) -> Fallible<()> {
        for (at, path) in file.names.iter().enumerate() {
            if self.in_trash(file, at)? {
                self.put_back(file, at, path)?;
            }
        }
        Ok(())
    }

    fn put_back(&self, file: &Moving, at: usize, path: &UnionPath) -> Fallible<()> {
        let Some((dir, name, None)) = self.from.find(path)? else { return self.to_lost(file, at) };
        let back = || {
            let from = trash_name(&file.staged, at)?;
            self.from.own.rename(&from, dir.as_ref(), &name, Rename::NoReplace)
        };
        self.from.at(keeping_times(dir.as_ref(), back).and_then(|()| dir.fsync()))
    }

    fn to_lost(&self, file: &Moving, at: usize) -> Fallible<()> {
        let keep = || {
            let name = trash_name(&file.staged, at)?;
            self.from.own.rename(&name, self.from.lost.as_ref(), &name, Rename::Replace)?;
            self.from.lost.fsync()?;
            tracing::warn!(path = %first(file), tier = %self.from.rank, "the name of a file was removed or replaced while the file was on its way; its former contents are in .tierfs/lost/{name} of the tier. Delete them if they are not needed.");
            Ok(())
        };
        self.from.at(keep())
    }
}

fn first(file: &Moving) -> UnionPath {
    file.names.first().cloned().unwrap_or_default()
}
