//! The repair of one batch: what is decided for each file, and done.

use std::sync::Arc;

use super::open_below;
use crate::migrate::contents::prove;
use crate::migrate::record::{Moving, Record, STAGING, TRASH, Version};
use crate::migrate::reserve;
use crate::tier::{Dir, Open, Rename};
use crate::types::attr::{Body, Kind, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::union::Union;
use crate::union::moving::{LOST, trash_name};

/// A batch that was cut short, on its two tiers.
pub(super) struct Repair<'u> {
    from: Side<'u>,
    to: Side<'u>,
    /// Programs use the union meanwhile.
    served: bool,
}

/// One tier of a batch.
struct Side<'u> {
    union: &'u Union,
    rank: Rank,
    root: Arc<dyn Dir>,
    /// The trash of the tier the files leave, the staging directory of the other.
    own: Arc<dyn Dir>,
}

/// With the tier that failed.
pub(super) type Fallible<T> = std::result::Result<T, (Rank, Errno)>;

impl<'u> Side<'u> {
    fn new(union: &'u Union, rank: Rank, own: &str) -> Fallible<Side<'u>> {
        let open = || {
            let root = union.tier_of(rank)?.root();
            Ok(Side { union, rank, root, own: reserve::with(union, || union.own_dir(rank, own))? })
        };
        open().map_err(|errno| (rank, errno))
    }

    /// Where that goes which is neither shown nor deleted. Made only for that: the tier may be full.
    fn lost(&self) -> Result<Arc<dyn Dir>> {
        reserve::with(self.union, || self.union.own_dir(self.rank, LOST))
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

    /// Takes a name to where it is neither shown nor deleted.
    fn keep_in_lost(&self, dir: &dyn Dir, name: &Name, as_name: &Name) -> Fallible<()> {
        let keep = || {
            let lost = self.lost()?;
            let rename = || dir.rename(name, lost.as_ref(), as_name, Rename::Replace);
            keeping_times(dir, || reserve::with(self.union, rename))?;
            lost.fsync()?;
            dir.fsync()
        };
        self.at(keep())
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

impl<'u> Repair<'u> {
    pub(super) fn new(union: &'u Union, record: &Record, served: bool) -> Fallible<Repair<'u>> {
        let (from, to) = (Side::new(union, record.from, TRASH)?, Side::new(union, record.to, STAGING)?);
        Ok(Repair { from, to, served })
    }

    /// Saves what must not be deleted of the sources of a batch that has moved.
    pub(super) fn save(&self, record: &Record) -> Fallible<()> {
        record.files.iter().try_for_each(|file| self.save_trash(file, false))
    }

    /// Brings every file of the record to rest.
    pub(super) fn run(&self, record: &Record) -> Fallible<()> {
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
        for (at, path) in file.names.iter().enumerate() {
            aside += usize::from(self.is_aside(file, at, path)?);
        }
        if aside == file.names.len() {
            return self.finish_demoted(file);
        }
        // Programs have the source, which hides what lies on the slower tier, and may write to it now.
        if self.served && (self.copy_changed(file)? || self.replaced(file)?) {
            let what = "the tier was changed elsewhere while a file was on its way to it";
            tracing::warn!(path = %first(file), tier = %self.to.rank, "{what}: both copies stay, see `tierfs check`");
            return Ok(());
        }
        if self.copy_changed(file)? {
            tracing::info!(path = %first(file), "a file was changed on its new tier before the power failed: that is kept");
            return file.names.iter().try_for_each(|path| self.remove_source(file, path));
        }
        if self.replaced(file)? {
            let (path, what) = (first(file), "a file was replaced on its new tier before the power failed");
            let Some((dir, name, _)) = self.from.body_at(&path, file.body)? else { return Ok(()) };
            tracing::warn!(%path, tier = %self.from.rank, "{what}: that is kept, and its former contents are in .tierfs/lost/{} of the tier. Delete them if they are not needed.", file.staged);
            return self.from.keep_in_lost(dir.as_ref(), &name, &file.staged);
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
        // If not, it was removed or replaced through the mount, or the tier has lost what it said was
        // durable. It cannot be told which: so the source is neither shown nor deleted.
        self.save_trash(file, !shown)
    }

    /// Takes out of the trash what must not be deleted with it: everything, or what is not what was
    /// copied. That was written to beside the mount, or put under the name in the moment in which it was
    /// taken aside.
    fn save_trash(&self, file: &Moving, everything: bool) -> Fallible<()> {
        let own = self.from.own.as_ref();
        for at in 0..file.names.len() {
            let name = self.from.at(trash_name(&file.staged, at))?;
            if let Some(stat) = self.from.at(own.stat(Some(&name)))?
                && (everything || stat.body != file.body || !is_as_copied(file, own, &name, &stat))
            {
                self.to_lost(file, at)?;
            }
        }
        Ok(())
    }

    fn undo_demoted(&self, file: &Moving) -> Fallible<()> {
        self.all_put_back(file)?;
        let mut sources = 0;
        for path in &file.names {
            sources += usize::from(self.from.body_at(path, file.body)?.is_some());
        }
        let mut same = None;
        for (at, path) in file.names.iter().enumerate() {
            let Some((dir, name, stat)) = self.to.body_at(path, file.copy)? else { continue };
            if Version::of(&stat) != file.version {
                tracing::warn!(%path, tier = %self.to.rank, "a copy that was to be taken back was changed beside the mount and stays: see `tierfs check`");
            } else if *same.get_or_insert_with(|| is_as_copied(file, dir.as_ref(), &name, &stat)) && sources > 0 {
                self.to.remove(dir.as_ref(), &name)?;
            } else {
                // Its source has vanished beside the mount, or the copy was seen and written to, or the
                // tier has lost what it said was durable.
                let what = "a copy that was to be taken back is not what was copied, or its source has gone";
                tracing::warn!(%path, tier = %self.to.rank, "{what}: it is in .tierfs/lost/{}.{at} of the tier. Delete it if it is not needed.", file.staged);
                // A rename to another name of the same body does nothing (`rename(2)`).
                let as_name = self.to.at(trash_name(&file.staged, at))?;
                self.to.keep_in_lost(dir.as_ref(), &name, &as_name)?;
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
        let Some((dir, name, _)) = published else { return self.unpublished(file) };
        for path in &file.names {
            self.complete(file, path, dir.as_ref(), &name)?;
            // A directory that has gone, or another file under the name, leaves the source its name.
            if self.to.body_at(path, file.copy)?.is_some() {
                self.remove_source(file, path)?;
            }
        }
        self.save_trash(file, false)
    }

    /// The copy of a promotion has no name, by what is durable.
    fn unpublished(&self, file: &Moving) -> Fallible<()> {
        let own = self.to.own.as_ref();
        // Else what is in the trash was published, and removed or renamed since.
        let Some(stat) = self.to.at(own.stat(Some(&file.staged)))? else { return self.save_trash(file, false) };
        // Its names have gone although the disk had said that they were durable. First, since a copy in
        // staging is what tells so, should this be cut short.
        self.all_put_back(file)?;
        // The rest of the staging directory is worth nothing.
        if !is_as_copied(file, own, &file.staged, &stat) {
            let what = "a copy was seen and written to before the power failed, or its tier has lost some of it";
            tracing::warn!(path = %first(file), tier = %self.to.rank, "{what}: it is in .tierfs/lost/{} of the tier. Delete it if it is not needed.", file.staged);
            self.to.keep_in_lost(own, &file.staged, &file.staged)?;
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
        let why = if is_as_copied(file, dir.as_ref(), &name, &stat) {
            match self.from.remove(dir.as_ref(), &name) {
                // `chattr +i` of the file or its directory: the other copy is whole and seen.
                Err((_, errno @ (Errno::EPERM | Errno::EACCES))) => format!("cannot be removed ({errno})"),
                other => return other,
            }
        } else {
            "was changed beside the mount".to_owned()
        };
        tracing::warn!(%path, tier = %self.from.rank, "the former copy of a file that has moved {why}: both stay, see `tierfs check`");
        Ok(())
    }

    /// Whether a name of the source had been taken aside: it is in the trash or, if an earlier recovery was
    /// cut short, saved from there. A source whose name another file has was saved when it was to go back.
    fn is_aside(&self, file: &Moving, at: usize, path: &UnionPath) -> Fallible<bool> {
        if self.in_trash(file, at)? {
            return Ok(true);
        }
        let saved = || {
            let Some(lost) = self.from.union.own_dir_if_any(self.from.rank, LOST)? else { return Ok(false) };
            Ok(lost.stat(Some(&trash_name(&file.staged, at)?))?.is_some())
        };
        Ok(self.from.at(saved())? && !matches!(self.from.find(path)?, Some((_, _, Some(_)))))
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
            let (name, lost) = (trash_name(&file.staged, at)?, self.from.lost()?);
            let rename = || self.from.own.rename(&name, lost.as_ref(), &name, Rename::Replace);
            reserve::with(self.from.union, rename)?;
            lost.fsync()?;
            tracing::warn!(path = %first(file), tier = %self.from.rank, "the name of a file was removed or replaced while the file was on its way; its former contents are in .tierfs/lost/{name} of the tier. Delete them if they are not needed.");
            Ok(())
        };
        self.from.at(keep())
    }
}

/// Larger files are not compared by their contents: a mount must begin within minutes.
const COMPARED_MAX: u64 = 4 << 30;

/// Whether a body is what was copied, also in its contents: a program beside the mount can make bytes
/// durable by `O_DSYNC` or `msync(2)` that leave the times of before the power failed. What cannot be
/// read, tried twice, is not what was copied.
fn is_as_copied(file: &Moving, dir: &dyn Dir, name: &Name, stat: &Stat) -> bool {
    if Version::of(stat) != file.version {
        return false;
    }
    if stat.size > COMPARED_MAX {
        return true;
    }
    let is_same = || {
        let body = dir.open(name, Open::ReadQuiet)?;
        prove(body.as_ref(), stat, Some(&file.digest), &mut |_| Ok(()))
    };
    is_same().or_else(|_| is_same()) == Ok(true)
}

fn first(file: &Moving) -> UnionPath {
    file.names.first().cloned().unwrap_or_default()
}
