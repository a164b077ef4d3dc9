//! What the threads of a walk have still to do.

use parking_lot::{Condvar, Mutex};

use super::Progress;

/// Jobs that several threads take and add. The last that was added is taken first, so that a walk
/// goes down before it goes on.
#[derive(Debug)]
pub struct Queue<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<J> {
    jobs: Vec<J>,
    /// Threads that work on a job, which may add more.
    busy: usize,
}

impl<J> Default for Queue<J> {
    fn default() -> Queue<J> {
        Queue { state: Mutex::new(State { jobs: Vec::new(), busy: 0 }), changed: Condvar::new() }
    }
}

/// Counts a thread as busy, also where it panics: the others would wait for it for ever.
#[derive(Debug)]
pub struct Busy<'a, J>(&'a Queue<J>);

impl<J> Drop for Busy<'_, J> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.busy -= 1;
        if state.busy == 0 {
            self.0.changed.notify_all();
        }
    }
}

impl<J> Queue<J> {
    /// More to do.
    pub fn add(&self, jobs: Vec<J>) {
        if jobs.is_empty() {
            return;
        }
        self.state.lock().jobs.extend(jobs);
        self.changed.notify_all();
    }

    /// The next job. `idle` is called once before there is a wait for one; `None` ends the thread.
    pub fn next(&self, progress: &Progress, idle: impl FnOnce()) -> Option<(J, Busy<'_, J>)> {
        let mut idle = Some(idle);
        let mut state = self.state.lock();
        loop {
            if progress.is_stopped() {
                return None;
            }
            if let Some(job) = state.jobs.pop() {
                state.busy += 1;
                return Some((job, Busy(self)));
            }
            match idle.take() {
                // It may wait for the consumer, so the others must not wait for it.
                Some(idle) => parking_lot::MutexGuard::unlocked(&mut state, idle),
                None if state.busy == 0 => return None,
                None => self.changed.wait(&mut state),
            }
        }
    }
}
