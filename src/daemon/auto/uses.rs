//! Files that are used on slower tiers, until they are promoted.
//!
//! An open is counted at once; the file is queued when nobody has it open any more. Without a policy
//! that asks for any of this, an open costs one look at a flag.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::signal::Signal;
use crate::policy::uses::Uses;
use crate::policy::{Policy, Promotion};
use crate::sys::{clock, process};
use crate::types::attr::Time;
use crate::types::ids::{Ino, Rank};
use crate::types::path::UnionPath;
use crate::union::Union;
use crate::union::open::Access;
use crate::union::uses::{Observer, Trace};

/// Files that wait at a time, open or to be promoted. More than this are not promoted by this use.
const WAITING_MAX: usize = 1 << 16;

/// After these a file that was in use is tried again; then only another use brings it back.
const RETRIES: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)];

/// The kernel's clock for file times may be so far behind.
const CLOCK_LAG_MAX: Duration = Duration::from_millis(100);

/// Uses of files.
#[derive(Debug)]
pub(super) struct Used {
    union: Weak<Union>,
    signal: Arc<Signal>,
    started: Instant,
    /// Whether any open is to be looked at.
    wanted: AtomicBool,
    rules: RwLock<Rules>,
    state: Mutex<State>,
}

/// What of a policy concerns an open.
#[derive(Debug, Default)]
struct Rules {
    ignored: Vec<String>,
    writes: bool,
    reads: bool,
}

#[derive(Debug)]
struct State {
    reads: Uses<Ino>,
    /// Used often enough, and open: since when it may have been written, for one that counts only if
    /// it was.
    open: HashMap<Ino, Opened>,
    due: HashMap<UnionPath, Due>,
}

/// A file that is to be promoted once it is closed.
#[derive(Debug, Clone, Default)]
struct Opened {
    changed_since: Option<Time>,
    program: Option<String>,
}

/// A file that is to be promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    /// Only if it has changed since.
    pub changed_since: Option<Time>,
    /// The program that has used it.
    pub program: Option<String>,
    tries: usize,
    at: Duration,
}

impl Used {
    pub(super) fn new(union: Weak<Union>, signal: Arc<Signal>) -> Used {
        let state = State { reads: Uses::new(1, Duration::ZERO), open: HashMap::new(), due: HashMap::new() };
        Used {
            union,
            signal,
            started: Instant::now(),
            wanted: AtomicBool::new(false),
            rules: RwLock::default(),
            state: Mutex::new(state),
        }
    }

    /// From here on this policy says what counts. Reads are counted from the start.
    pub(super) fn follow(&self, policy: &Policy, writes: bool) {
        let reads = match policy.promote {
            Promotion::Reads { count, within } => Some((count, within)),
            Promotion::Never | Promotion::Write => None,
        };
        let rules = Rules { ignored: policy.ignore_processes.clone(), writes, reads: reads.is_some() };
        let wanted = writes || reads.is_some() || !rules.ignored.is_empty();
        let mut state = self.state.lock();
        let (count, within) = reads.unwrap_or((1, Duration::ZERO));
        state.reads = Uses::new(count, within);
        if !writes && reads.is_none() {
            state.open.clear();
            state.due.clear();
        }
        drop(state);
        *self.rules.write() = rules;
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// When the first file is to be promoted, since the start of this value.
    pub(super) fn next(&self) -> Option<Duration> {
        self.state.lock().due.values().map(|due| due.at).min()
    }

    /// How long until that is.
    pub(super) fn until(&self, at: Duration) -> Duration {
        at.saturating_sub(self.started.elapsed())
    }

    /// Takes up to `count` files that are due.
    pub(super) fn take(&self, count: usize) -> Vec<(UnionPath, Due)> {
        let now = self.started.elapsed();
        let mut state = self.state.lock();
        let ready = state.due.iter().filter(|(_, due)| due.at <= now).take(count);
        let ready: Vec<_> = ready.map(|(path, due)| (path.clone(), due.clone())).collect();
        for (path, _) in &ready {
            state.due.remove(path);
        }
        ready
    }

    /// A file could not be promoted now: at once again, or, if it was in use, after a while.
    pub(super) fn put_back(&self, path: UnionPath, due: Due, in_use: bool) {
        let mut due = due;
        if in_use {
            let Some(wait) = RETRIES.get(due.tries) else { return };
            due.tries += 1;
            due.at = self.started.elapsed() + *wait;
        }
        let mut state = self.state.lock();
        // A use since then counts more.
        if state.due.len() < WAITING_MAX {
            state.due.entry(path).or_insert(due);
        }
    }
}

impl Observer for Arc<Used> {
    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    fn opens(&self, ino: Ino, rank: Rank, access: Access, pid: u32) -> Trace {
        let rules = self.rules.read();
        let is_ignored = |name: &[u8]| Policy::is_among(&rules.ignored, name);
        if !rules.ignored.is_empty() && process::has_name(pid, is_ignored) {
            return Trace::None;
        }
        let written = rules.writes && access.writes();
        let read = rules.reads && access != Access::Write;
        if rank == Rank::PRIMARY || !written && !read {
            return Trace::Usual;
        }
        let mut state = self.state.lock();
        if state.open.len() >= WAITING_MAX {
            return Trace::Usual;
        }
        if read && state.reads.add(ino, self.started.elapsed()) {
            state.open.insert(ino, Opened::default());
        } else if written && !state.open.contains_key(&ino) {
            state.open.insert(ino, Opened { changed_since: Some(a_moment_ago()), program: None });
        } else {
            return Trace::Usual;
        }
        drop(state);
        // Nobody waits for `/proc`.
        let program = process::program(pid);
        self.state.lock().open.entry(ino).and_modify(|opened| opened.program = program);
        Trace::Usual
    }

    fn not_opened(&self, ino: Ino) {
        self.state.lock().open.remove(&ino);
    }

    fn closed(&self, ino: Ino, rank: Rank) {
        if rank == Rank::PRIMARY {
            return;
        }
        let Some(Opened { changed_since, program }) = self.state.lock().open.remove(&ino) else { return };
        let Some(path) = self.union.upgrade().and_then(|union| union.last_path(ino).ok()) else { return };
        let mut state = self.state.lock();
        if state.due.len() < WAITING_MAX {
            state.due.insert(path, Due { changed_since, program, tries: 0, at: self.started.elapsed() });
            drop(state);
            self.signal.wake();
        }
    }
}

fn a_moment_ago() -> Time {
    let now = clock::now();
    let lag = CLOCK_LAG_MAX.subsec_nanos();
    match now.nsec.checked_sub(lag) {
        Some(nsec) => Time { nsec, ..now },
        None => Time { sec: now.sec - 1, nsec: now.nsec + 1_000_000_000 - lag },
    }
}
