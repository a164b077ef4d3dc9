//! A program that writes through the mount and remembers what it was told is durable.
//!
//! For every path it knows the versions that may be there after a cut. A step adds the version it
//! makes, the fsync that makes it durable removes those before it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::XattrFlags;

use crate::common::fs as short;
use crate::rng::Rng;
use crate::version::{BLOCK, State, Version, block, fill, find, healed};

/// It alone works in its directory.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The mount point.
    root: PathBuf,
    dirs: Vec<PathBuf>,
    home: PathBuf,
    files: BTreeMap<PathBuf, State>,
    /// A file is under one of both until that is durable.
    renamed: Vec<(PathBuf, PathBuf, Version)>,
    dir_renamed: Option<(usize, PathBuf, PathBuf)>,
    rng: Rng,
    next: u32,
    pub(crate) steps: usize,
    /// A block that was being written when the power failed may be unreadable: ciphertext is bound to
    /// whole blocks, which lie across the disk's.
    torn: bool,
    /// Set just before the power is cut: what is acknowledged from then on does not count, since a
    /// filesystem that is being shut down may say that a lost change is durable (xfs does).
    cutting: Arc<AtomicBool>,
    /// The first error that stopped it.
    pub(crate) stopped: Option<String>,
}

impl Writer {
    pub(crate) fn new(root: &Path, home: &str, seed: u64, torn: bool) -> Writer {
        let home = PathBuf::from(home);
        let dirs: Vec<PathBuf> = (0..3).map(|at| home.join(format!("d{at}"))).collect();
        for dir in &dirs {
            std::fs::create_dir_all(root.join(dir)).expect("mkdir");
            sync_dir(&root.join(dir)).expect("fsync");
        }
        sync_dir(&root.join(&home)).expect("fsync");
        sync_dir(root).expect("fsync");
        Writer {
            root: root.to_owned(),
            dirs,
            home,
            files: BTreeMap::new(),
            renamed: Vec::new(),
            dir_renamed: None,
            rng: Rng::new(seed),
            next: 1,
            steps: 0,
            torn,
            cutting: Arc::default(),
            stopped: None,
        }
    }

    /// Works until something fails.
    pub(crate) fn work(&mut self, stop: &AtomicBool, cutting: &Arc<AtomicBool>) {
        self.stopped = None;
        self.cutting = Arc::clone(cutting);
        while !stop.load(Ordering::SeqCst) {
            match self.step() {
                Ok(()) => self.steps += 1,
                Err(error) => {
                    self.stopped = Some(error.to_string());
                    return;
                }
            }
        }
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn some_dir(&mut self) -> PathBuf {
        let at = self.rng.below(self.dirs.len());
        self.dirs[at].clone()
    }

    fn new_path(&mut self) -> PathBuf {
        let name = format!("n{}", self.fresh());
        self.some_dir().join(name)
    }

    /// One that is there for sure.
    fn some_file(&mut self) -> Option<(PathBuf, Version)> {
        let there: Vec<_> = self.files.iter().filter_map(|(path, s)| Some((path.clone(), s.last()?.clone()))).collect();
        if there.is_empty() { None } else { Some(there[self.rng.below(there.len())].clone()) }
    }

    fn step(&mut self) -> io::Result<()> {
        let there = self.files.values().filter(|state| state.last().is_some()).count();
        let Some((path, version)) = self.some_file() else { return self.create() };
        self.settle(&path)?;
        match self.rng.below(100) {
            _ if there < 12 => self.create(),
            0..12 if there < 40 => self.create(),
            0..24 => self.delete(&path),
            24..48 => self.change(&path, version),
            48..64 => self.replace(&path),
            64..78 => self.rename(&path, &version),
            78..88 => self.relink(&path, &version),
            88..96 => self.dress(&path, version),
            _ => self.rename_dir(),
        }
    }

    fn state(&mut self, path: &Path) -> &mut State {
        self.files.entry(path.to_owned()).or_insert_with(|| State::sure(None))
    }

    fn add(&mut self, path: &Path, version: Option<Version>) {
        self.state(path).possible.push(version);
    }

    /// A step is finished: a mere crash of a program leaves what it made.
    fn done(&mut self, paths: &[&Path]) {
        for path in paths {
            let state = self.state(path);
            state.done = state.possible.len() - 1;
        }
    }

    /// Makes durable what is not yet, so that steps do not mix.
    fn settle(&mut self, path: &Path) -> io::Result<()> {
        if self.state(path).file_pending {
            self.sync_file(path)?;
        }
        if self.state(path).name_pending { self.sync(path.parent().expect("a directory")) } else { Ok(()) }
    }

    fn in_time(&self) -> io::Result<()> {
        let late = self.cutting.load(Ordering::SeqCst);
        if late { Err(io::Error::other("the power is being cut")) } else { Ok(()) }
    }

    fn sync_file(&mut self, path: &Path) -> io::Result<()> {
        File::open(self.at(path))?.sync_all()?;
        self.in_time()?;
        self.state(path).settle();
        Ok(())
    }

    fn sync(&mut self, dir: &Path) -> io::Result<()> {
        sync_dir(&self.at(dir))?;
        self.in_time()?;
        let of_dir = |path: &Path| path.parent() == Some(dir);
        self.files.iter_mut().filter(|(path, s)| of_dir(path) && s.name_pending).for_each(|(_, s)| s.settle());
        let files = &self.files;
        let open = |path: &Path| files.get(path).is_some_and(|s| s.name_pending);
        self.renamed.retain(|(from, to, _)| open(from) || open(to));
        self.files.retain(|_, state| state.possible.len() > 1 || state.last().is_some());
        Ok(())
    }

    /// Four of five times the step is made durable at once.
    fn eager(&mut self) -> bool {
        self.rng.below(5) > 0
    }

    fn create(&mut self) -> io::Result<()> {
        let path = self.new_path();
        let version = self.make(&path)?;
        self.state(&path).name_pending = true;
        self.done(&[&path]);
        let _ = version;
        self.sync(path.parent().expect("a directory"))
    }

    /// A new file whose contents are durable.
    fn make(&mut self, path: &Path) -> io::Result<Version> {
        let blocks: Vec<u32> = (0..1 + self.rng.below(3)).map(|_| self.fresh()).collect();
        let empty = Version { blocks: Vec::new(), mode: 0o644, mark: None };
        let version = Version { blocks, ..empty.clone() };
        for length in 0..version.blocks.len() {
            self.add(path, Some(Version { blocks: version.blocks[..length].to_vec(), ..empty.clone() }));
        }
        self.add(path, Some(version.clone()));
        let file = File::options().write(true).create_new(true).mode(0o644).open(self.at(path))?;
        file.set_permissions(PermissionsExt::from_mode(0o644))?;
        fill(&file, &version.blocks)?;
        file.sync_all()?;
        Ok(version)
    }

    fn delete(&mut self, path: &Path) -> io::Result<()> {
        self.add(path, None);
        self.state(path).name_pending = true;
        std::fs::remove_file(self.at(path))?;
        self.done(&[path]);
        if self.eager() { self.sync(path.parent().expect("a directory")) } else { Ok(()) }
    }

    /// A block of a file is written anew, or one is added.
    fn change(&mut self, path: &Path, mut version: Version) -> io::Result<()> {
        let tag = self.fresh();
        let at = self.rng.below(version.blocks.len() + 1);
        if at == version.blocks.len() {
            version.blocks.push(tag);
        } else {
            version.blocks[at] = tag;
        }
        self.add(path, Some(version));
        self.state(path).file_pending = true;
        let file = File::options().read(true).write(true).open(self.at(path))?;
        file.write_all_at(&block(tag), (at * BLOCK) as u64)?;
        self.done(&[path]);
        if self.eager() {
            file.sync_all()?;
            self.in_time()?;
            self.state(path).settle();
        }
        Ok(())
    }

    /// As editors save.
    fn replace(&mut self, path: &Path) -> io::Result<()> {
        let new = path.with_file_name(format!("t{}", self.fresh()));
        let version = self.make(&new)?;
        self.state(&new).name_pending = true;
        self.done(&[&new]);
        self.take_over(&new, path, &version, |from, to| std::fs::rename(from, to))
    }

    fn take_over(
        &mut self,
        from: &Path,
        to: &Path,
        version: &Version,
        act: impl FnOnce(&Path, &Path) -> io::Result<()>,
    ) -> io::Result<()> {
        self.add(from, None);
        self.add(to, Some(version.clone()));
        self.state(from).name_pending = true;
        self.state(to).name_pending = true;
        self.renamed.push((from.to_owned(), to.to_owned(), version.clone()));
        act(&self.at(from), &self.at(to))?;
        self.done(&[from, to]);
        if self.eager() {
            self.sync(from.parent().expect("a directory"))?;
            if from.parent() != to.parent() {
                self.sync(to.parent().expect("a directory"))?;
            }
        }
        Ok(())
    }

    /// To a new name or over another file.
    fn rename(&mut self, path: &Path, version: &Version) -> io::Result<()> {
        let over = self.some_file().map(|(other, _)| other).filter(|other| other != path);
        let to = match over {
            Some(other) if self.rng.below(2) == 0 => other,
            _ => self.new_path(),
        };
        self.settle(&to)?;
        self.take_over(path, &to, version, |from, to| std::fs::rename(from, to))
    }

    /// A second name, and the first goes.
    fn relink(&mut self, path: &Path, version: &Version) -> io::Result<()> {
        let to = self.new_path();
        self.take_over(path, &to, version, |from, to| {
            std::fs::hard_link(from, to)?;
            if let Some(dir) = to.parent() {
                sync_dir(dir)?;
            }
            std::fs::remove_file(from)
        })
    }

    fn dress(&mut self, path: &Path, mut version: Version) -> io::Result<()> {
        let tag = self.fresh();
        let mark = self.rng.below(2) == 0;
        if mark {
            version.mark = Some(tag.to_le_bytes().to_vec());
        } else {
            version.mode = 0o600 | (tag & 0o77);
        }
        self.add(path, Some(version.clone()));
        self.state(path).file_pending = true;
        let there = self.at(path);
        if mark {
            rustix::fs::setxattr(&there, "user.mark", &tag.to_le_bytes(), XattrFlags::empty())?;
        } else {
            std::fs::set_permissions(&there, PermissionsExt::from_mode(version.mode))?;
        }
        self.done(&[path]);
        if self.eager() { self.sync_file(path) } else { Ok(()) }
    }

    fn rename_dir(&mut self) -> io::Result<()> {
        let at = self.rng.below(self.dirs.len());
        let from = self.dirs[at].clone();
        let below: Vec<PathBuf> = self.files.keys().filter(|path| path.starts_with(&from)).cloned().collect();
        below.iter().try_for_each(|path| self.settle(path))?;
        self.sync(&from)?;
        let fresh = self.fresh();
        let to = self.home.join(format!("d{at}-{fresh}"));
        self.dir_renamed = Some((at, from.clone(), to.clone()));
        std::fs::rename(self.at(&from), self.at(&to))?;
        sync_dir(&self.at(&self.home))?;
        self.in_time()?;
        self.dir_renamed = None;
        self.rekey(at, &from, &to);
        Ok(())
    }

    fn rekey(&mut self, at: usize, from: &Path, to: &Path) {
        let moved = |path: &PathBuf| path.strip_prefix(from).map_or(path.clone(), |rest| to.join(rest));
        self.files = std::mem::take(&mut self.files).into_iter().map(|(path, s)| (moved(&path), s)).collect();
        self.renamed.iter_mut().for_each(|(a, b, _)| (*a, *b) = (moved(a), moved(b)));
        self.dirs[at] = to.to_owned();
    }

    /// Compares what is there with what may be. `power`: more than a program was lost.
    pub(crate) fn check(&mut self, power: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some((at, from, to)) = self.dir_renamed.take() {
            let there = (short::exists(self.at(&from)), short::exists(self.at(&to)));
            match there {
                (true, false) => {}
                (false, true) => self.rekey(at, &from, &to),
                both => wrong.push(format!("{from:?} renamed to {to:?}: there are {both:?}")),
            }
        }
        let mut found = BTreeMap::new();
        for (path, state) in &self.files {
            let from = if power { 0 } else { state.done };
            let found_now = find(&self.root.join(path), self.torn && power)
                .and_then(|now| healed(&self.root.join(path), state, from, now));
            match found_now {
                Ok(now) if state.allows(from, now.as_ref()) => {
                    found.insert(path.clone(), now);
                }
                Ok(now) => wrong.push(format!("{path:?}: found {now:?}, possible from {from}: {state:?}")),
                Err(line) => wrong.push(line),
            }
        }
        for (from, to, version) in std::mem::take(&mut self.renamed) {
            let has = |path: &Path| found.get(path).is_some_and(|now| now.as_ref() == Some(&version));
            let replaced = found.get(&to).is_some_and(Option::is_some);
            if !has(&from)
                && !has(&to)
                && !replaced
                && wrong.is_empty()
                && self.files.get(&to).and_then(State::last) == Some(&version)
            {
                wrong.push(format!("{from:?} renamed to {to:?} is under neither"));
            }
        }
        for dir in &self.dirs {
            for name in short::names(self.at(dir)) {
                let path = dir.join(name);
                if !self.files.contains_key(&path) {
                    wrong.push(format!("{path:?} has come back: {:?}", find(&self.root.join(&path), false)));
                }
            }
        }
        // A relink that was cut leaves a file with two names; from here on each name is a file.
        let mut seen = std::collections::BTreeSet::new();
        let there = found.into_iter().filter(|(path, now)| {
            let there = self.root.join(path);
            let again = now.is_some() && !seen.insert(short::ino(&there));
            if again {
                std::fs::remove_file(&there).unwrap_or_else(|error| panic!("{there:?}: {error}"));
            }
            now.is_some() && !again
        });
        self.files = there.map(|(path, now)| (path, State::sure(now))).collect();
        wrong
    }
}

/// An fsync of a directory.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
