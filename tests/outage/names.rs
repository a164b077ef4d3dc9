//! Steps that change names.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::known::Known;
use crate::version::Version;
use crate::writer::{Writer, sync_dir};

/// An empty directory.
pub(crate) const FOLDER: Version = Version { blocks: Vec::new(), mode: 0, mark: None };

impl Writer {
    /// Does something that leaves these versions under these paths. Refused with EROFS it has done nothing; after
    /// any other error it may have.
    pub(crate) fn attempt<T>(
        &mut self,
        touched: &[(&Path, Option<Version>)],
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let began = self.clock.now();
        for (path, version) in touched {
            self.add(path, version.clone());
        }
        let outcome = act();
        let refused = outcome.as_ref().is_err_and(|error| Errno::from_io_error(error) == Some(Errno::ROFS));
        for (path, _) in touched {
            let known = self.known(path);
            match &outcome {
                Ok(_) => known.name_pending = Some(began),
                Err(_) if refused => drop(known.state.possible.pop()),
                Err(_) => known.frozen = true,
            }
        }
        self.files.retain(|_, known| !known.is_sure() || known.last().is_some());
        outcome
    }

    fn new_path(&mut self) -> Option<PathBuf> {
        let name = format!("n{}", self.fresh());
        Some(self.some_dir()?.join(name))
    }

    /// The names of these paths are made durable.
    fn sync_around(&mut self, paths: &[&Path]) -> io::Result<()> {
        let mut dirs: Vec<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
        dirs.dedup();
        let synced = dirs.into_iter().try_for_each(|dir| self.sync_names(dir));
        if synced.is_err() {
            paths.iter().for_each(|path| self.freeze(path));
        }
        synced
    }

    pub(crate) fn create(&mut self) -> io::Result<()> {
        let Some(path) = self.new_path() else { return Ok(()) };
        self.make(&path)?;
        self.sync_around(&[&path])
    }

    pub(crate) fn delete(&mut self, path: &Path) -> io::Result<()> {
        self.doing.tell(format!("delete {path:?}"));
        let there = self.at(path);
        self.attempt(&[(path, None)], || std::fs::remove_file(there))?;
        if self.eager() { self.sync_around(&[path]) } else { Ok(()) }
    }

    /// As editors save.
    pub(crate) fn replace(&mut self, path: &Path) -> io::Result<()> {
        let new = path.with_file_name(format!("t{}", self.fresh()));
        let Some(version) = self.make(&new)? else { return Ok(()) };
        self.doing.tell(format!("rename {new:?} over {path:?}, for {version:?}"));
        let (from, to) = (self.at(&new), self.at(path));
        let began = self.known(&new).name_pending;
        let done = self.attempt(&[(&new, None), (path, Some(version))], || std::fs::rename(from, to));
        if let Err(error) = done {
            // Its name is not durable, nor will it be. It may have gone with its tier.
            self.freeze(&new);
            let lost = began.is_some_and(|began| !self.clock.is_still(began));
            return if lost && error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
        }
        if self.eager() { self.sync_around(&[&new, path]) } else { Ok(()) }
    }

    /// To a new name or over another file.
    pub(crate) fn rename(&mut self, path: &Path, version: &Version) -> io::Result<()> {
        let over = self.some_file().map(|(other, _)| other).filter(|other| other != path);
        let to = match over {
            Some(other) if self.rng.below(2) == 0 => Some(other),
            _ => self.new_path(),
        };
        let Some(to) = to else { return Ok(()) };
        if self.files.contains_key(&to) && !self.settle(&to)? {
            return Ok(());
        }
        self.doing.tell(format!("rename {path:?} to {to:?}, for {version:?}"));
        let (here, there) = (self.at(path), self.at(&to));
        self.renamed.push((path.to_owned(), to.clone(), version.clone()));
        let done = self.attempt(&[(path, None), (&to, Some(version.clone()))], || std::fs::rename(here, there));
        if done.is_err() && self.is_usable(path) {
            self.renamed.pop();
        }
        done?;
        if self.eager() { self.sync_around(&[path, &to]) } else { Ok(()) }
    }

    /// A second name, and the first goes.
    pub(crate) fn relink(&mut self, path: &Path, version: &Version) -> io::Result<()> {
        let Some(to) = self.new_path() else { return Ok(()) };
        self.doing.tell(format!("link {path:?} as {to:?}"));
        let (here, there) = (self.at(path), self.at(&to));
        self.attempt(&[(&to, Some(version.clone()))], || std::fs::hard_link(&here, there))?;
        let synced = self.sync_around(&[&to]);
        // Who changes one of both changes the other. And the new name may be gone with its tier: then it is too
        // early to remove the old.
        if synced.is_err() || !self.known(&to).is_sure() {
            self.freeze(path);
            self.freeze(&to);
            return synced;
        }
        self.doing.tell(format!("unlink {path:?}, which is {to:?}"));
        let done = self.attempt(&[(path, None)], || std::fs::remove_file(&here));
        if done.is_err() {
            self.freeze(path);
            self.freeze(&to);
            return done;
        }
        if self.eager() { self.sync_around(&[path, &to]) } else { Ok(()) }
    }

    pub(crate) fn rename_dir(&mut self) -> io::Result<()> {
        if self.dir_renamed.is_some() {
            return Ok(());
        }
        let at = self.rng.below(self.dirs.len());
        let from = self.dirs[at].clone();
        let below: Vec<PathBuf> = self.files.keys().filter(|path| path.starts_with(&from)).cloned().collect();
        for path in below {
            if !self.is_usable(&path) || !self.settle(&path)? {
                return Ok(());
            }
        }
        let name = format!("d{at}-{}", self.fresh());
        let to = self.home.join(name);
        self.doing.tell(format!("rename of the directory {from:?} to {to:?}"));
        let began = self.clock.now();
        self.dir_renamed = Some((at, from.clone(), to.clone()));
        let done = std::fs::rename(self.at(&from), self.at(&to));
        if done.as_ref().is_err_and(|error| Errno::from_io_error(error) == Some(Errno::ROFS)) {
            self.dir_renamed = None;
        }
        done?;
        sync_dir(&self.at(&self.home))?;
        if self.clock.is_still(began) {
            self.dir_renamed = None;
            self.rekey(at, &from, &to);
        }
        Ok(())
    }

    /// What was below one directory is below another.
    pub(crate) fn rekey(&mut self, at: usize, from: &Path, to: &Path) {
        let moved = |path: &PathBuf| path.strip_prefix(from).map_or(path.clone(), |rest| to.join(rest));
        self.files = std::mem::take(&mut self.files).into_iter().map(|(path, known)| (moved(&path), known)).collect();
        self.renamed.iter_mut().for_each(|(a, b, _)| (*a, *b) = (moved(a), moved(b)));
        self.dirs[at] = to.to_owned();
    }

    /// An empty directory comes or goes.
    pub(crate) fn folder(&mut self) -> io::Result<()> {
        let sure: Vec<PathBuf> =
            self.folders.iter().filter(|(_, known)| known.is_sure()).map(|(path, _)| path.clone()).collect();
        let name = format!("m{}", self.fresh());
        let make = sure.len() < 2 || self.rng.below(2) == 0;
        let path = if make { self.home.join(name) } else { sure[self.rng.below(sure.len())].clone() };
        self.doing.tell(format!("{} {path:?}", if make { "mkdir" } else { "rmdir" }));
        let began = self.clock.now();
        let there = self.at(&path);
        let known = self.folders.entry(path.clone()).or_insert_with(|| Known::sure(None));
        known.state.possible.push(make.then_some(FOLDER));
        known.frozen = true;
        let done = if make { std::fs::create_dir(there) } else { std::fs::remove_dir(there) };
        if done.as_ref().is_err_and(|error| Errno::from_io_error(error) == Some(Errno::ROFS)) {
            known.state.possible.pop();
            known.frozen = false;
        }
        let synced = done.and_then(|()| sync_dir(&self.root.join(&self.home)));
        if let Some(known) = self.folders.get_mut(&path).filter(|_| synced.is_ok() && self.clock.is_still(began)) {
            known.frozen = false;
            known.settle();
        }
        self.folders.retain(|_, known| !known.is_sure() || known.last().is_some());
        synced
    }
}
