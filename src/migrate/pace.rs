//! How fast a run copies, and whether it goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::types::errno::{Errno, Result};

/// Shared by the threads that copy.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_sec: Option<u64>,
    /// Until when the bytes copied so far would take at the allowed rate.
    due: Mutex<Instant>,
    /// Bytes copied that were not told yet.
    untold: AtomicU64,
    stopped: AtomicBool,
    deadline: Option<Instant>,
}

/// A thread sleeps no longer at a time, so that it stops soon when told, and a program that wants to
/// write the file that is being copied does not notice.
const NAP: Duration = Duration::from_millis(20);

impl Pace {
    pub(super) fn new(bytes_per_sec: Option<u64>, duration: Option<Duration>) -> Pace {
        let now = Instant::now();
        Pace {
            bytes_per_sec,
            due: Mutex::new(now),
            untold: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            deadline: duration.and_then(|duration| now.checked_add(duration)),
        }
    }

    /// Counts copied bytes and waits for as long as the limit wants it and `may_wait` allows it.
    ///
    /// # Errors
    /// EINTR if the run is to stop; what `may_wait` says.
    pub(super) fn copied(&self, bytes: usize, may_wait: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.untold.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(rate) = self.bytes_per_sec.filter(|rate| *rate > 0) {
            let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
            let until = {
                let mut due = self.due.lock();
                *due = (*due).max(Instant::now()) + cost;
                *due
            };
            while let Some(rest) = until.checked_duration_since(Instant::now()) {
                self.check()?;
                may_wait()?;
                std::thread::sleep(rest.min(NAP));
            }
        }
        self.check()
    }

    /// Bytes copied since the last call.
    pub(super) fn take_untold(&self) -> u64 {
        self.untold.swap(0, Ordering::Relaxed)
    }

    /// The user wants the run to stop, or it cannot go on.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether the time is over.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// EINTR if the run is to stop at once.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_stopped() { Err(Errno::EINTR) } else { Ok(()) }
    }
}
