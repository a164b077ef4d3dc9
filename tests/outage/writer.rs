//! A program that works through the mount, goes on whatever happens, and remembers what was acknowledged.
//!
//! For every path it knows the versions that may be there. A step adds the version it makes; the fsync that makes
//! it durable takes away those before it, if no tier was lost between the change and the end of the fsync, or if
//! the change was made through the very handle that is synced. What has failed may be there or not: the path is
//! left alone until all tiers are back. A change of names that is refused with EROFS has changed nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::clock::{Calm, Clock, Doing, Moment};
use crate::common::{fs as short, wait};
use crate::known::Known;
use crate::rng::Rng;
use crate::version::{BLOCK, Version, block};

/// It alone works in its directory.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The mount point.
    pub(crate) root: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) dirs: Vec<PathBuf>,
    /// A directory that is under one of two names.
    pub(crate) dir_renamed: Option<(usize, PathBuf, PathBuf)>,
    pub(crate) files: BTreeMap<PathBuf, Known>,
    /// Empty directories, as files of mode 0 without contents.
    pub(crate) folders: BTreeMap<PathBuf, Known>,
    /// A file that was sure to be there is under one of both names.
    pub(crate) renamed: Vec<(PathBuf, PathBuf, Version)>,
    held: Vec<Held>,
    pub(crate) rng: Rng,
    next: u32,
    pub(crate) byte: u8,
    pub(crate) clock: Arc<Clock>,
    pub(crate) doing: Arc<Doing>,
    pub(crate) steps: usize,
    /// Steps that have failed, as they may while a tier is away.
    pub(crate) refused: usize,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
    /// A block that was being written when a tier failed may be unreadable: ciphertext is bound to whole blocks,
    /// which lie across the disk's.
    pub(crate) torn: bool,
}

/// A file that is kept open with a change that is not synced.
#[derive(Debug)]
struct Held {
    path: PathBuf,
    file: File,
}

impl Writer {
    pub(crate) fn new(root: &Path, home: &str, seed: u64, torn: bool) -> Writer {
        let home = PathBuf::from(home);
        let dirs: Vec<PathBuf> = (0..3).map(|at| home.join(format!("d{at}"))).collect();
        for dir in &dirs {
            std::fs::create_dir_all(root.join(dir)).expect("mkdir");
        }
        Writer {
            root: root.to_owned(),
            home,
            dirs,
            dir_renamed: None,
            files: BTreeMap::new(),
            folders: BTreeMap::new(),
            renamed: Vec::new(),
            held: Vec::new(),
            rng: Rng::new(seed),
            next: 1,
            byte: 0,
            clock: Arc::default(),
            doing: Arc::new(Doing::new()),
            steps: 0,
            refused: 0,
            wrong: Vec::new(),
            torn,
        }
    }

    /// Works until it is told to stop.
    pub(crate) fn work(&mut self) {
        let clock = Arc::clone(&self.clock);
        while !clock.is_stopped() {
            if clock.is_letting_go() {
                self.let_go();
            }
            let calm = clock.calm();
            match self.step() {
                Ok(()) => self.steps += 1,
                Err(error) => {
                    self.doing.tell(format!("which failed: {error}: {}", self.doing.told()));
                    self.judge(calm, &error);
                    self.refused += 1;
                }
            }
            // A program also thinks; and the others need the processor, too.
            let pause = Duration::from_micros(self.rng.below(4000) as u64);
            let _never = wait::within(pause, || None::<()>);
        }
        self.let_go();
        self.doing.tell("nothing more".into());
    }

    pub(crate) fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Notes what must not be.
    pub(crate) fn blame(&mut self, line: String) {
        if self.wrong.len() < 12 {
            self.wrong.push(format!("{:?}: {line}", self.home));
        }
    }

    /// While a tier is away there may be two errors; else none.
    fn judge(&mut self, calm: Calm, error: &io::Error) {
        let may_be = matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::ROFS));
        if self.clock.is_calm_since(calm) {
            let line = format!("{error} while all tiers are there: {}", self.doing.told());
            self.blame(line);
        } else if !may_be {
            let line = format!("{error}, which is not for what may be out of reach: {}", self.doing.told());
            self.blame(line);
        }
    }

    /// Whether a program may go on with what is there.
    pub(crate) fn is_usable(&self, path: &Path) -> bool {
        let known = self.files.get(path).is_none_or(Known::is_usable);
        known && path.parent().is_some_and(|dir| self.is_usable_dir(dir))
    }

    pub(crate) fn is_usable_dir(&self, dir: &Path) -> bool {
        self.dir_renamed.as_ref().is_none_or(|(at, _, _)| self.dirs[*at] != dir)
    }

    pub(crate) fn some_dir(&mut self) -> Option<PathBuf> {
        let dirs: Vec<PathBuf> = self.dirs.iter().filter(|dir| self.is_usable_dir(dir)).cloned().collect();
        if dirs.is_empty() { None } else { Some(dirs[self.rng.below(dirs.len())].clone()) }
    }

    /// A file that is there, with which a program may go on.
    pub(crate) fn some_file(&mut self) -> Option<(PathBuf, Version)> {
        let there: Vec<_> = self
            .files
            .iter()
            .filter(|(path, known)| known.is_usable() && self.is_usable(path))
            .filter_map(|(path, known)| Some((path.clone(), known.last()?.clone())))
            .collect();
        if there.is_empty() { None } else { Some(there[self.rng.below(there.len())].clone()) }
    }

    fn step(&mut self) -> io::Result<()> {
        let there = self.files.values().filter(|known| known.last().is_some()).count();
        let Some((path, version)) = self.some_file() else { return self.create() };
        if !self.settle(&path)? {
            return Ok(());
        }
        match self.rng.below(100) {
            0..14 if there < 12 => self.create(),
            0..7 if there < 40 => self.create(),
            0..14 => self.delete(&path),
            14..32 => self.change(&path, version),
            32..38 => self.hold(&path, version),
            38..44 => self.sync_held(),
            44..48 => self.map(&path, version),
            48..58 => self.replace(&path),
            58..68 => self.rename(&path, &version),
            68..74 => self.relink(&path, &version),
            74..80 => self.dress(&path, version),
            80..83 => self.rename_dir(),
            83..87 => self.folder(),
            _ => self.peek(&path),
        }
    }

    pub(crate) fn known(&mut self, path: &Path) -> &mut Known {
        self.files.entry(path.to_owned()).or_insert_with(|| Known::sure(None))
    }

    pub(crate) fn add(&mut self, path: &Path, version: Option<Version>) {
        self.known(path).state.possible.push(version);
    }

    pub(crate) fn freeze(&mut self, path: &Path) {
        self.known(path).frozen = true;
    }

    /// Does what may fail with `path`, and leaves it alone then.
    pub(crate) fn tried<T>(&mut self, path: &Path, outcome: io::Result<T>) -> io::Result<T> {
        if outcome.is_err() {
            self.freeze(path);
        }
        outcome
    }

    /// Makes durable what is not yet, so that steps do not mix. Whether a program can go on with it.
    pub(crate) fn settle(&mut self, path: &Path) -> io::Result<bool> {
        self.doing.tell(format!("settle {path:?}"));
        if let Some(began) = self.known(path).file_pending {
            if !self.clock.is_still(began) {
                self.freeze(path);
                return Ok(false);
            }
            let synced = self.sync_file(path);
            self.tried(path, synced)?;
        }
        if let Some(began) = self.known(path).name_pending {
            if !self.clock.is_still(began) {
                self.freeze(path);
                return Ok(false);
            }
            let synced = self.sync_names(path.parent().expect("a directory"));
            self.tried(path, synced)?;
        }
        Ok(self.known(path).is_sure())
    }

    /// Through another handle than the change was made with.
    pub(crate) fn sync_file(&mut self, path: &Path) -> io::Result<()> {
        File::open(self.at(path)).and_then(|file| file.sync_all()).or_else(|error| self.unless_lost(path, error))?;
        let pending = self.known(path).file_pending;
        match pending {
            Some(began) if self.clock.is_still(began) => self.known(path).settle(),
            _ => self.freeze(path),
        }
        Ok(())
    }

    /// What is not synced yet may be gone with a tier.
    fn unless_lost(&mut self, path: &Path, error: io::Error) -> io::Result<()> {
        let began = self.known(path).file_pending.or(self.known(path).name_pending);
        let lost = began.is_some_and(|began| !self.clock.is_still(began));
        if lost && error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_names(&mut self, dir: &Path) -> io::Result<()> {
        sync_dir(&self.at(dir))?;
        for (_, known) in self.files.iter_mut().filter(|(path, _)| path.parent() == Some(dir)) {
            match known.name_pending {
                Some(began) if self.clock.is_still(began) && !known.frozen => known.settle(),
                Some(_) => known.frozen = true,
                None => {}
            }
        }
        let files = &self.files;
        let open = |path: &Path| files.get(path).is_some_and(|known| !known.is_sure());
        // Once the new name is durable, a program goes on with it.
        self.renamed.retain(|(_, to, _)| open(to));
        self.files.retain(|_, known| !known.is_sure() || known.last().is_some());
        Ok(())
    }

    /// Four of five times the step is made durable at once.
    pub(crate) fn eager(&mut self) -> bool {
        self.rng.below(5) > 0
    }

    /// One block anew, or one more.
    fn with_block(&mut self, version: &Version, tag: u32) -> (usize, Version) {
        let at = self.rng.below(version.blocks.len() + 1);
        let mut version = version.clone();
        if at == version.blocks.len() {
            version.blocks.push(tag);
        } else {
            version.blocks[at] = tag;
        }
        (at, version)
    }

    /// A block of a file is written anew, or one is added, in one of the ways of programs.
    fn change(&mut self, path: &Path, version: Version) -> io::Result<()> {
        let tag = self.fresh();
        let (at, next) = self.with_block(&version, tag);
        let offset = (at * BLOCK) as u64;
        let began = self.clock.now();
        let way = self.rng.below(4);
        self.doing.tell(format!("change {path:?} block {at} to {tag} in way {way}"));
        let there = self.at(path);
        let flags = match way {
            0 => OFlags::WRONLY | OFlags::DSYNC,
            1 if at == version.blocks.len() => OFlags::WRONLY | OFlags::APPEND,
            _ => OFlags::RDWR,
        };
        let file = short::open(&there, flags, 0)?;
        self.add(path, Some(next));
        self.known(path).file_pending = Some(began);
        let written = match way {
            1 if at == version.blocks.len() => io::Write::write_all(&mut &file, &block(tag)),
            _ => file.write_all_at(&block(tag), offset),
        };
        self.tried(path, written)?;
        if way == 0 {
            self.acknowledged(path, began);
        } else if self.eager() {
            let began = self.clock.now();
            let synced = if way == 1 { file.sync_data() } else { file.sync_all() };
            self.tried(path, synced)?;
            self.acknowledged(path, began);
        }
        Ok(())
    }

    /// What began at that moment has made the newest version durable, unless a tier was lost meanwhile.
    pub(crate) fn acknowledged(&mut self, path: &Path, began: Moment) {
        if self.clock.is_still(began) { self.known(path).settle() } else { self.freeze(path) }
    }

    /// Writes and keeps the file open.
    fn hold(&mut self, path: &Path, version: Version) -> io::Result<()> {
        if self.held.len() > 1 || self.clock.is_letting_go() {
            return self.change(path, version);
        }
        let tag = self.fresh();
        let (at, next) = self.with_block(&version, tag);
        self.doing.tell(format!("hold {path:?} with block {at} as {tag}"));
        let file = short::open(self.at(path), OFlags::RDWR, 0)?;
        self.add(path, Some(next));
        let written = file.write_all_at(&block(tag), (at * BLOCK) as u64);
        self.tried(path, written)?;
        self.known(path).held = true;
        self.clock.held.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.held.push(Held { path: path.to_owned(), file });
        Ok(())
    }

    /// Syncs what is open: it says yes only for what is there. Once it has said no, it is asked again.
    fn sync_held(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.held.len());
        let Held { path, file } = self.held.swap_remove(at);
        self.doing.tell(format!("sync of {path:?}, which is open"));
        for _ in 0..3 {
            let began = self.clock.now();
            match file.sync_all() {
                // A no before was for a tier that was away and lost nothing.
                Ok(()) if self.clock.is_still(began) => {
                    self.known(&path).settle();
                    break;
                }
                Ok(()) | Err(_) => {}
            }
        }
        drop(file);
        self.clock.held.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
        let known = self.known(&path);
        known.held = false;
        known.frozen = known.state.possible.len() > 1;
        Ok(())
    }

    fn let_go(&mut self) {
        while !self.held.is_empty() {
            let _never_fails = self.sync_held();
        }
    }
}

/// An fsync of a directory.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
