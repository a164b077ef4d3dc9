//! Closing what is open on an instance. Where a tier does not answer that may never come back: a server's
//! files are written out at their close.
//!
//! As long as the guard is open, a close is a call into the tier like any other. Once it is closed, nobody
//! waits: what is to be closed is handed to one thread of that instance, which closes one after the other and
//! then ends.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Guard, calls};

/// What is to be closed of one instance.
#[derive(Default)]
pub(super) struct Closer(Mutex<Work>);

#[derive(Default)]
struct Work {
    waiting: VecDeque<Box<dyn Any + Send>>,
    /// Whether a thread looks after it.
    at_work: bool,
}

impl Guard {
    /// Closes it without waiting for the tier.
    pub(super) fn close_later(self: &Arc<Guard>, what: Box<dyn Any + Send>) {
        let mut work = self.closer.0.lock();
        work.waiting.push_back(what);
        if std::mem::replace(&mut work.at_work, true) {
            return;
        }
        drop(work);
        let guard = Arc::clone(self);
        if std::thread::Builder::new().name("tierfs-close".into()).spawn(move || guard.close_waiting()).is_err() {
            // Without a thread it takes as long as it takes.
            self.close_waiting();
        }
    }

    fn close_waiting(&self) {
        while let Some(next) = self.closer.next() {
            // What is written out comes to its end before the tier is taken in again.
            let _inside = calls::enter(self.id);
            drop(next);
        }
    }
}

impl Closer {
    fn next(&self) -> Option<Box<dyn Any + Send>> {
        let mut work = self.0.lock();
        let next = work.waiting.pop_front();
        work.at_work = next.is_some();
        next
    }
}
