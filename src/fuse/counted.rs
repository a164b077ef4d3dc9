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
use crate::types::errno::Result;
use crate::types::ids::Ino;
use crate::union::calls;

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

impl Adapter {
    /// Runs and counts one request.
    pub(super) fn count<T>(&self, ask: Ask, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.counted(ask, |_| 0, act)
    }

    /// The same for one that moves bytes.
    pub(super) fn count_bytes(&self, ask: Ask, act: impl FnOnce() -> Result<usize>) -> Result<usize> {
        self.counted(ask, |bytes| *bytes as u64, act)
    }

    fn counted<T>(&self, ask: Ask, bytes: fn(&T) -> u64, act: impl FnOnce() -> Result<T>) -> Result<T> {
        counters::begin();
        // Nobody waits for the answer to a forget.
        calls::serving(if matches!(ask.op, Op::Forget) { 0 } else { ask.unique });
        let result = guard(act);
        calls::serving(0);
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
const NAMES: usize = 64;

/// Names of the programs that were seen last.
#[derive(Debug)]
pub(super) struct Programs(Mutex<[Option<(u32, Instant, String)>; NAMES]>);

impl Default for Programs {
    fn default() -> Programs {
        Programs(Mutex::new([const { None }; NAMES]))
    }
}

impl Programs {
    /// The name of the program that runs this process or thread; `None` for the kernel itself and for
    /// one that has ended, or that this mount cannot see.
    fn name(&self, pid: u32) -> Option<String> {
        if pid == 0 {
            return None;
        }
        let at = pid as usize % NAMES;
        let known = self.0.try_lock().and_then(|names| names[at].clone());
        if let Some((_, _, name)) = known.filter(|(of, when, _)| *of == pid && when.elapsed() < NAME_TTL) {
            return Some(name);
        }
        let name = process::program(pid)?;
        if let Some(mut names) = self.0.try_lock() {
            names[at] = Some((pid, Instant::now(), name.clone()));
        }
        Some(name)
    }
}
