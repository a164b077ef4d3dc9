//! Counting around each request.

use std::time::{Duration, Instant};

use fuser::{INodeNo, Request};
use parking_lot::Mutex;

use super::convert;
use super::reply::guard;
use super::session::Adapter;
use crate::stats::counters;
use crate::stats::{Op, Sampled};
use crate::sys::process;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Ino;
use crate::union::open::Opened;
use crate::union::{Found, calls};

/// One request, for its count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    op: Op,
    began: Instant,
    /// The directory in which something is asked for, or a file.
    ino: Ino,
    pid: u32,
    /// By which the kernel knows it.
    unique: u64,
}

/// What is asked for, and the inode that it is about.
pub(super) fn ask(op: Op, req: &Request, ino: INodeNo) -> (Ask, Ino) {
    let ino = convert::ino(ino);
    (Ask { op, began: Instant::now(), ino, pid: req.pid(), unique: req.unique().0 }, ino)
}

/// Whether a request leaves everything as it is, but for what is undone where its answer is not taken.
fn only_asks(op: Op) -> bool {
    matches!(
        op,
        Op::Lookup
            | Op::Open
            | Op::Getattr
            | Op::Readlink
            | Op::Read
            | Op::Opendir
            | Op::Readdir
            | Op::Statfs
            | Op::Getxattr
            | Op::Listxattr
            | Op::Lseek
    )
}

impl Adapter {
    /// Runs and counts one request.
    pub(super) fn count<T>(&self, ask: Ask, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.counted(ask, |_| 0, act, drop)
    }

    /// The same for one that gives the kernel something to give back. `undo` takes it where the kernel was
    /// given an answer meanwhile.
    pub(super) fn count_given<T>(&self, ask: Ask, act: impl FnOnce() -> Result<T>, undo: impl FnOnce(T)) -> Result<T> {
        self.counted(ask, |_| 0, act, undo)
    }

    /// The same for one that moves bytes.
    pub(super) fn count_bytes(&self, ask: Ask, act: impl FnOnce() -> Result<usize>) -> Result<usize> {
        self.counted(ask, |bytes| *bytes as u64, act, drop)
    }

    /// The kernel has not learned of what a lookup has found.
    pub(super) fn not_found(&self, found: Found) {
        if let Found::Object(attr) = found {
            self.union().forget(attr.ino, 1);
        }
    }

    /// The kernel has not learned of what a listing has found.
    pub(super) fn not_listed(&self, entered: Vec<Ino>) {
        entered.into_iter().for_each(|ino| self.union().forget(ino, 1));
    }

    /// The kernel has not learned of a file that was opened.
    pub(super) fn not_opened(&self, ino: Ino, opened: &Opened) {
        self.union().release(ino, opened.fh);
    }

    fn counted<T>(
        &self,
        ask: Ask,
        bytes: fn(&T) -> u64,
        act: impl FnOnce() -> Result<T>,
        undo: impl FnOnce(T),
    ) -> Result<T> {
        counters::begin();
        calls::serving(ask.unique, !only_asks(ask.op));
        let mut result = guard(act);
        if calls::served() {
            result = result.and_then(|given| {
                undo(given);
                Err(Errno::EIO)
            });
        }
        let came_to = result.as_ref().map(bytes).map_err(|errno| *errno);
        if let Some(sampled) = self.stats.served(ask.op, ask.began, came_to) {
            self.look(ask, sampled);
        }
        result
    }

    /// Who asks, and where. A release or a forget comes when the kernel likes, and from anybody.
    #[cold]
    fn look(&self, ask: Ask, sampled: Sampled) {
        if matches!(ask.op, Op::Forget | Op::Release | Op::Releasedir | Op::Statfs) {
            return;
        }
        let program = self.programs.name(ask.pid);
        self.stats.enter(sampled, self.union().directory_of(ask.ino), program.as_ref());
    }
}

/// How long the name of a process is believed: it may have ended, and its number be another's.
const NAME_TTL: Duration = Duration::from_secs(1);

/// Names that are remembered.
const NAMES: usize = 512;

/// Between two looks into `/proc`, which take longer than many a request: where processes come and go
/// faster than this, some of their requests are not counted by program.
const PAUSE: Duration = Duration::from_micros(500);

/// Names of the programs that were seen last.
#[derive(Debug, Default)]
pub(super) struct Programs(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// By number of the process; made with the first.
    names: Vec<Option<(u32, Instant, String)>>,
    looked: Option<Instant>,
}

impl Programs {
    /// The name of the program that runs this process or thread; `None` for the kernel itself, for one
    /// that has ended or that this mount cannot see, and where it cannot be told quickly.
    fn name(&self, pid: u32) -> Option<String> {
        let at = pid as usize % NAMES;
        let mut seen = self.0.try_lock().filter(|_| pid != 0)?;
        let now = Instant::now();
        if let Some(Some((of, when, name))) = seen.names.get(at)
            && *of == pid
            && now.saturating_duration_since(*when) < NAME_TTL
        {
            return Some(name.clone());
        }
        if seen.looked.is_some_and(|looked| now.saturating_duration_since(looked) < PAUSE) {
            return None;
        }
        seen.looked = Some(now);
        drop(seen);
        let name = process::program(pid)?;
        if let Some(mut seen) = self.0.try_lock() {
            seen.names.resize(NAMES, None);
            seen.names[at] = Some((pid, now, name.clone()));
        }
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_remembered_and_looked_for_rarely() {
        let programs = Programs::default();
        let own = std::process::id();
        let name = programs.name(own);
        assert!(name.is_some());
        assert_eq!(programs.name(own), name, "without another look");
        let late = Instant::now() + Duration::from_secs(3600);
        programs.0.lock().looked = Some(late);
        programs.0.lock().names[own as usize % NAMES].as_mut().unwrap().1 = late;
        assert_eq!(programs.name(own), name);
        assert_eq!(programs.name(std::os::unix::process::parent_id()), None, "so soon nobody else is looked for");
        assert_eq!(programs.name(0), None);
    }
}
