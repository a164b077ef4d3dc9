//! The threads of a scan: the directories still to be read, and the reading of one.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use parking_lot::Mutex;

use super::queue::Queue;
use super::{Batch, Options, Scanned, Take, Totals};
use crate::tier::{Dir, Found, Surveyed};
use crate::types::attr::{Kind, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::facts::Seen;
use crate::types::ids::Rank;
use crate::types::name::{Name, PRIVATE_DIR};
use crate::types::path::UnionPath;
use crate::types::pin;

/// Files in one batch, so that a huge directory does not fill the memory.
const BATCH_FILES_MAX: usize = 8192;

/// Small directories are handed over together, about so many files at a time.
const PARCEL_FILES: usize = 1024;

/// What the threads of one scan share.
pub(super) struct Walk<'a> {
    rank: Rank,
    options: &'a Options<'a>,
    keep: &'a (dyn Fn(&Seen<'_>) -> Take + Sync),
    queue: Queue<Job>,
    totals: Mutex<Totals>,
}

impl<'a> Walk<'a> {
    /// Of `starts` below `root`.
    pub(super) fn new(
        rank: Rank,
        options: &'a Options<'a>,
        keep: &'a (dyn Fn(&Seen<'_>) -> Take + Sync),
        root: &Arc<dyn Dir>,
        starts: Vec<UnionPath>,
    ) -> Walk<'a> {
        let queue = Queue::default();
        queue.add(starts.into_iter().map(|start| Job::Start(Arc::clone(root), start)).collect());
        Walk { rank, options, keep, queue, totals: Mutex::default() }
    }

    /// For one thread.
    pub(super) fn worker(&'a self, send: SyncSender<Vec<Scanned>>) -> Worker<'a> {
        Worker { walk: self, send, parcel: Vec::new(), weight: 0 }
    }

    /// What was seen by now.
    pub(super) fn totals(&self) -> Totals {
        *self.totals.lock()
    }
}

/// A directory to be read. The pins are those that it inherits.
enum Job {
    /// Below the root, which is open.
    Start(Arc<dyn Dir>, UnionPath),
    /// The last name of the path, in the open directory.
    Below(Arc<dyn Dir>, UnionPath, Option<Rank>),
}

/// One thread of a scan.
pub(super) struct Worker<'a> {
    walk: &'a Walk<'a>,
    send: SyncSender<Vec<Scanned>>,
    parcel: Vec<Scanned>,
    /// Files in the parcel.
    weight: usize,
}

impl Worker<'_> {
    /// Works until nothing is left or the scan is stopped.
    pub(super) fn run(&mut self) {
        let walk = self.walk;
        while let Some((job, _busy)) = walk.queue.next(walk.options.progress, || self.flush()) {
            match job {
                Job::Start(root, path) => self.start(root, &path),
                Job::Below(parent, path, pin) => self.below(&parent, &path, pin),
            }
        }
        self.flush();
    }

    /// Hands over what there is.
    fn flush(&mut self) {
        self.weight = 0;
        if !self.parcel.is_empty() && self.send.send(std::mem::take(&mut self.parcel)).is_err() {
            self.walk.options.progress.stop();
        }
    }

    fn put(&mut self, scanned: Scanned) {
        self.weight += match &scanned {
            Scanned::Batch(batch) => batch.len(),
            Scanned::Failed { .. } => 1,
        };
        self.parcel.push(scanned);
        if self.weight >= PARCEL_FILES {
            self.flush();
        }
    }

    fn failed(&mut self, path: UnionPath, errno: Errno, during: &'static str) {
        self.walk.totals.lock().failed += 1;
        self.put(Scanned::Failed { path, errno, during });
    }

    /// Goes down to a start and reads the pins on the way.
    fn start(&mut self, root: Arc<dyn Dir>, start: &UnionPath) {
        let mut path = UnionPath::root();
        let mut pin = self.pin(&*root, &path, None);
        let mut dir = root;
        for name in start.names() {
            if path.is_root() && name.is_private() {
                return;
            }
            let below = path.join(name.as_bytes());
            match dir.open_dir(&name) {
                Ok(opened) => dir = opened,
                Err(Errno::ENOTDIR) if below == *start => return self.single(&*dir, &path, name.as_bytes(), pin),
                Err(errno) => return self.unless_gone(&below, errno),
            }
            path = below;
            pin = self.pin(&*dir, &path, pin);
        }
        self.read(&dir, &path, pin);
    }

    /// A start that is no directory.
    fn single(&mut self, dir: &dyn Dir, path: &UnionPath, name: &[u8], pin: Option<Rank>) {
        let mut reading = Reading::new(self.walk, dir, path, pin);
        let found = Name::new(name).and_then(|name| dir.stat(Some(&name)));
        match found {
            Ok(Some(stat)) if stat.kind() == Kind::File => reading.file(self, name, &stat),
            Ok(Some(_)) => reading.totals.others += 1,
            Ok(None) => {}
            Err(errno) => self.failed(path.join(name), errno, "reading attributes"),
        }
        reading.end(self);
    }

    fn below(&mut self, parent: &Arc<dyn Dir>, path: &UnionPath, inherited: Option<Rank>) {
        let Some(name) = path.name() else {
            return self.failed(path.clone(), Errno::ENAMETOOLONG, "opening a directory");
        };
        match parent.open_dir(&name) {
            Ok(dir) => {
                let pin = self.pin(&*dir, path, inherited);
                self.read(&dir, path, pin);
            }
            Err(errno) => self.unless_gone(path, errno),
        }
    }

    /// What was removed or replaced meanwhile is no failure.
    fn unless_gone(&mut self, path: &UnionPath, errno: Errno) {
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) {
            self.failed(path.clone(), errno, "reading a directory");
        }
    }

    /// The pin of an opened directory.
    fn pin(&mut self, dir: &dyn Dir, path: &UnionPath, inherited: Option<Rank>) -> Option<Rank> {
        if !self.walk.options.pins {
            return None;
        }
        self.read_pin(|| dir.get_xattr(None, pin::KEY), || path.clone(), inherited)
    }

    /// A pin that cannot be understood keeps things where they are: somebody meant to pin them.
    fn read_pin(
        &mut self,
        get: impl FnOnce() -> Result<Vec<u8>>,
        path: impl FnOnce() -> UnionPath,
        inherited: Option<Rank>,
    ) -> Option<Rank> {
        match get() {
            Ok(word) => match pin::parse(&word) {
                Some(rank) => Some(rank),
                None => {
                    self.failed(path(), Errno::EINVAL, "reading a pin");
                    Some(self.walk.rank)
                }
            },
            // Without the right to read, or when it is gone, there is nothing to move either.
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ENOENT | Errno::EACCES) => inherited,
            Err(errno) => {
                self.failed(path(), errno, "reading a pin");
                Some(self.walk.rank)
            }
        }
    }

    fn read(&mut self, dir: &Arc<dyn Dir>, path: &UnionPath, pin: Option<Rank>) {
        let mut reading = Reading::new(self.walk, &**dir, path, pin);
        let outcome = dir.survey(&mut |entry| reading.entry(self, entry));
        if let Err(errno) = outcome {
            self.unless_gone(path, errno);
        } else {
            reading.totals.dirs += 1;
        }
        let below = std::mem::take(&mut reading.below);
        reading.end(self);
        self.walk.queue.add(below.into_iter().map(|path| Job::Below(Arc::clone(dir), path, pin)).collect());
    }
}

/// One directory while it is read.
struct Reading<'a> {
    walk: &'a Walk<'a>,
    dir: &'a dyn Dir,
    path: &'a UnionPath,
    pin: Option<Rank>,
    batch: Batch,
    below: Vec<UnionPath>,
    totals: Totals,
}

impl<'a> Reading<'a> {
    fn new(walk: &'a Walk<'a>, dir: &'a dyn Dir, path: &'a UnionPath, pin: Option<Rank>) -> Reading<'a> {
        let batch = Batch::new(path, walk.rank);
        Reading { walk, dir, path, pin, batch, below: Vec::new(), totals: Totals::default() }
    }

    fn entry(&mut self, worker: &mut Worker<'_>, entry: Surveyed<'_>) -> ControlFlow<()> {
        match entry.what {
            Ok(Found::File(stat)) => self.file(worker, entry.name, &stat),
            Ok(Found::Other(Kind::Dir)) if self.path.is_root() && entry.name == PRIVATE_DIR.as_bytes() => {}
            Ok(Found::Other(Kind::Dir)) => self.below.push(self.path.join(entry.name)),
            Ok(Found::Other(_)) => self.totals.others += 1,
            Err(errno) => worker.failed(self.path.join(entry.name), errno, "reading attributes"),
        }
        if self.walk.options.progress.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn file(&mut self, worker: &mut Worker<'_>, name: &[u8], stat: &Stat) {
        self.totals.files += 1;
        self.totals.bytes += stat.size;
        let seen = Seen { dir: self.path, name, rank: self.walk.rank, stat, pin: self.pin };
        let pin = match (self.walk.keep)(&seen) {
            Take::Count => return,
            Take::KeepWithPin if self.walk.options.pins => self.own_pin(worker, name),
            Take::Keep | Take::KeepWithPin => self.pin,
        };
        self.batch.push(name, stat, pin);
        if self.batch.len() >= BATCH_FILES_MAX {
            self.hand_over(worker);
        }
    }

    fn own_pin(&self, worker: &mut Worker<'_>, name: &[u8]) -> Option<Rank> {
        let get = || self.dir.get_xattr(Some(&Name::new(name)?), pin::KEY);
        worker.read_pin(get, || self.path.join(name), self.pin)
    }

    /// Passes on the batch and the counts.
    fn hand_over(&mut self, worker: &mut Worker<'_>) {
        let totals = std::mem::take(&mut self.totals);
        let progress = self.walk.options.progress;
        progress.add(totals.files, totals.bytes);
        self.walk.totals.lock().add(totals);
        if !self.batch.is_empty() {
            let batch = std::mem::replace(&mut self.batch, Batch::new(self.path, self.walk.rank));
            worker.put(Scanned::Batch(batch));
        }
    }

    fn end(mut self, worker: &mut Worker<'_>) {
        self.hand_over(worker);
    }
}
