//! The walk of one tier: facts about its regular files, directory by directory.
//!
//! Several threads share one stack of directories, so the walk goes down before it goes on, and
//! few directories are held open at a time. What they find comes to one consumer in batches, so
//! the memory does not grow with the tier. Every directory is opened below its parent and no link
//! is followed; filesystems mounted inside the tier belong to it, as they do in the union.

pub mod queue;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use self::walk::Walk;
use crate::migrate::Go;
use crate::tier::Tier;
use crate::tier::directory::Known;
use crate::tier::marker::verify::Found;
use crate::tier::place::{Place, Root};
use crate::types::attr::Stat;
use crate::types::errno::{Errno, Result};
use crate::types::facts::{Facts, Seen};
use crate::types::ids::Rank;
use crate::types::path::{Trees, UnionPath};

/// Most threads that one scan starts.
const THREADS_MAX: usize = 8;

/// Parcels that may wait for the consumer; the threads then wait for it.
const PARCELS_MAX: usize = 16;

/// How to scan.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Threads that read directories, besides the one that consumes: 1 to 8.
    pub threads: usize,
    /// Whether pins are read. Without it, [`Seen::pin`] is `None` everywhere.
    pub pins: bool,
    /// Counts as the scan goes on, and stops it.
    pub progress: &'a Progress,
}

/// Counts that others may read meanwhile, and the switch that ends the scan.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
    stopped: AtomicBool,
}

impl Progress {
    /// Regular files and their bytes seen so far, a file with several names once for each.
    pub fn seen(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Counts so much more.
    pub fn add(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Ends the scan soon; what was found comes to the consumer or is dropped.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether the scan was told to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// What becomes of a file that a scan comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Nothing: it is counted.
    Count,
    /// It goes to the consumer with the pin it inherits.
    Keep,
    /// It goes to the consumer after a look at a pin of its own: one more system call.
    KeepWithPin,
}

/// What comes to the consumer.
#[derive(Debug)]
pub enum Scanned {
    /// Files of one directory.
    Batch(Batch),
    /// A directory, or one file in it, that cannot be read, or whose pin cannot be read or
    /// understood (EINVAL). The scan goes on.
    Failed {
        /// Which.
        path: UnionPath,
        /// Why.
        errno: Errno,
        /// What was being done.
        during: &'static str,
    },
}

/// Kept files of one directory; all of them, unless there are thousands.
#[derive(Debug)]
pub struct Batch {
    /// The directory.
    pub dir: UnionPath,
    rank: Rank,
    /// The names one after another.
    names: Vec<u8>,
    files: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Where its name ends in `names`.
    end: usize,
    stat: Stat,
    pin: Option<Rank>,
}

impl Batch {
    fn new(dir: &UnionPath, rank: Rank) -> Batch {
        Batch { dir: dir.clone(), rank, names: Vec::new(), files: Vec::new() }
    }

    fn push(&mut self, name: &[u8], stat: &Stat, pin: Option<Rank>) {
        self.names.extend_from_slice(name);
        self.files.push(Kept { end: self.names.len(), stat: *stat, pin });
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = Seen<'_>> {
        let starts = std::iter::once(0).chain(self.files.iter().map(|file| file.end));
        self.files.iter().zip(starts).map(|(file, start)| Seen {
            dir: &self.dir,
            name: &self.names[start..file.end],
            rank: self.rank,
            stat: &file.stat,
            pin: file.pin,
        })
    }

    /// The files, each with its path. Names of one body share [`Stat::body`].
    pub fn facts(&self) -> impl Iterator<Item = Facts> {
        self.files().map(|seen| seen.facts())
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// What was seen in all, kept or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Names of regular files.
    pub files: u64,
    /// Their sizes in bytes, a body with several names once for each.
    pub bytes: u64,
    /// Directories that were read, the starts included.
    pub dirs: u64,
    /// Symbolic links, pipes, sockets and devices.
    pub others: u64,
    /// Directories, and single files, that could not be read.
    pub failed: u64,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.dirs += other.dirs;
        self.others += other.others;
        self.failed += other.failed;
    }
}

/// A tier, only to be scanned: neither its marker nor its lock is looked at, and the numbers of its bodies
/// are not those of the mount.
///
/// # Errors
/// ENOTDIR for anything but a directory, and what `open(2)` says.
pub fn open_to_read(place: &Place, rank: Rank) -> Result<Arc<dyn Tier>> {
    Root::open(place)?.read(Known { seed: u64::from(rank.0), ..Known::default() })
}

/// A tier to be looked at with its marker, and by the numbers that the mount gives its bodies; only
/// the marker where the root cannot be opened.
pub fn open_with_marker(place: &Place) -> (Found, Result<Arc<dyn Tier>>) {
    let root = Root::open(place);
    let found = Found::look(&place.path, root.as_ref().map_err(|errno| *errno));
    let known = found.marker().map(|marker| marker.known()).unwrap_or_default();
    (found, root.and_then(|root| root.read(known)))
}

/// Walks `tier`, which has `rank`, at and below each of `starts` (paths of directories or regular
/// files; those the tier does not have are passed over, as is a start below another).
///
/// `keep` is asked about every file, by several threads, with the pin that the file inherits;
/// `each` gets what it keeps, on the thread of the caller, in no order of directories. The private
/// directory of the tier is left out. What vanishes meanwhile is passed over.
///
/// # Errors
/// Where no thread can be started. What cannot be read is a [`Scanned::Failed`].
pub fn scan(
    tier: &dyn Tier,
    rank: Rank,
    starts: &[UnionPath],
    options: &Options<'_>,
    keep: &(dyn Fn(&Seen<'_>) -> Take + Sync),
    each: &mut dyn FnMut(Scanned) -> Go,
) -> Result<Totals> {
    let (send, parcels) = sync_channel(PARCELS_MAX);
    let walk = Walk::new(rank, options, keep, &tier.root(), outermost(starts));
    std::thread::scope(|scope| {
        let mut started = Ok(());
        for number in 0..options.threads.clamp(1, THREADS_MAX) {
            let mut worker = walk.worker(send.clone());
            let thread = std::thread::Builder::new().name("tierfs-scan".into());
            match thread.spawn_scoped(scope, move || worker.run()) {
                Err(error) if number == 0 => started = Err(Errno::of(&error)),
                // Fewer threads walk as well, only slower.
                _ => {}
            }
        }
        drop(send);
        consume(parcels, options.progress, each);
        started
    })?;
    Ok(walk.totals())
}

/// Those of `starts` that are not within another, each once.
fn outermost(starts: &[UnionPath]) -> Vec<UnionPath> {
    let mut sorted: Vec<&UnionPath> = starts.iter().collect();
    // What is above comes first.
    sorted.sort_unstable();
    let mut trees = Trees::default();
    sorted.into_iter().filter(|start| trees.add((*start).clone())).cloned().collect()
}

fn consume(parcels: Receiver<Vec<Scanned>>, progress: &Progress, each: &mut dyn FnMut(Scanned) -> Go) {
    for scanned in parcels.into_iter().flatten() {
        if each(scanned) == Go::Stop {
            progress.stop();
            // The receiver is dropped, so that no thread waits to hand something over.
            return;
        }
    }
}

#[cfg(test)]
mod tests;
