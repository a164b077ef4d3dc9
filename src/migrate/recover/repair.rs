//! The repair of one batch: what is decided for each file, and done.

use std::sync::Arc;

use super::open_below;
use crate::migrate::record::{Moving, Record, STAGING, TRASH, Version};
use crate::tier::{Dir, Rename};
use crate::types::attr::{Body, Kind, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::union::Union;
use crate::union::moving::{LOST, trash_name};

/// A batch that was cut short, on its two tiers.
pub(super) struct Repair {
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

/// With the tier that failed.
pub(super) type Fallible<T> = std::result::Result<T, (Rank, Errno)>;

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
    pub(super) fn new(union: &Union, record: &Record) -> Fallible<Repair> {
        let (from, to) = (Side::new(union, record.from, TRASH)?, Side::new(union, record.to, STAGING)?);
        Ok(Repair { from, to })
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
