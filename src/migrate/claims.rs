//! Claims on files that are being copied, and the thread that gives them up.
//!
//! A program that opens such a file for writing waits in the kernel until the claim goes. The
//! thread that copies yields to everything else and may itself be waiting for a busy disk, so it is
//! not left to it to notice: a thread of its own looks after all claims.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::tier::File;
use crate::types::lease::Excludes;

/// Longest wait of a program for a file that is being copied, but for the scheduler's part.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The files that are claimed against writers now.
#[derive(Debug, Default)]
pub(super) struct Claims {
    files: Mutex<Vec<Arc<dyn File>>>,
    ended: AtomicBool,
}

/// A file is looked after while this lives.
#[derive(Debug)]
pub(super) struct LookedAfter<'a> {
    claims: &'a Claims,
    file: Arc<dyn File>,
}

impl Drop for LookedAfter<'_> {
    fn drop(&mut self) {
        self.claims.files.lock().retain(|file| !Arc::ptr_eq(file, &self.file));
    }
}

impl Claims {
    /// Has the claim on `file` given up as soon as somebody waits for that.
    pub(super) fn look_after(&self, file: &Arc<dyn File>) -> LookedAfter<'_> {
        self.files.lock().push(Arc::clone(file));
        LookedAfter { claims: self, file: Arc::clone(file) }
    }

    /// Gives claims up until what [`Claims::until_dropped`] gave is dropped.
    pub(super) fn run(&self) {
        while !self.ended.load(Ordering::Acquire) {
            std::thread::park_timeout(LOOK_INTERVAL);
            for file in self.files.lock().iter() {
                if file.is_claimed(Excludes::Writers) == Ok(false)
                    && let Err(errno) = file.unclaim()
                {
                    tracing::debug!("a claim that somebody waits for cannot be given up: {errno}");
                }
            }
        }
    }

    /// Ends [`Claims::run`] when it is dropped, also by a panic.
    pub(super) fn until_dropped(&self) -> impl Drop + '_ {
        End(self)
    }
}

struct End<'a>(&'a Claims);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}
