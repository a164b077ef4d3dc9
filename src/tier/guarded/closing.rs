//! Closing what is open on an instance. Where a tier does not answer that may never come back: a server's
//! files are written out at their close.
//!
//! As long as the guard is open, a close is a call into the tier like any other. Once it is closed, nobody
//! waits: what is to be closed is handed to one thread of that instance, which closes one after the other and
//! then ends.
//!
//! Until the last of it is closed somebody is inside of the instance ([`Insiders`]), also between two closes:
//! what a close writes out must not come after the tier was brought to rest.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Guard;
use super::calls::{self, Inside};

/// What is to be closed of one instance.
#[derive(Default)]
pub(super) struct Closer(Mutex<Work>);

/// Who is inside of one instance of a tier. It keeps nothing of the instance open.
#[derive(Clone)]
pub struct Insiders {
    guard: u32,
    closer: Arc<Closer>,
}

impl std::fmt::Debug for Insiders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Insiders").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl Insiders {
    /// Whether a call has not come back, or a close that was left to the thread of the instance is still to come.
    pub fn any(&self) -> bool {
        // In this order: whoever leaves something to be closed is inside until it is in the queue.
        calls::under_way().iter().any(|call| call.guard == self.guard) || self.closer.0.lock().at_work
    }
}

#[derive(Default)]
struct Work {
    waiting: VecDeque<Box<dyn Any + Send>>,
    /// Whether a thread looks after it: from the first that is handed in until the last is closed.
    at_work: bool,
}

impl Guard {
    /// Who is inside of the instance.
    pub fn insiders(&self) -> Insiders {
        Insiders { guard: self.id, closer: Arc::clone(&self.closer) }
    }

    /// The thread is inside from here on, to close something; where the guard is closed that is handed over,
    /// and the thread is not.
    pub(super) fn enter_to_close(self: &Arc<Guard>, what: impl FnOnce() -> Box<dyn Any + Send>) -> Option<Inside> {
        let inside = self.come();
        if self.is_closed() {
            self.close_later(what());
            return None;
        }
        Some(inside)
    }

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
