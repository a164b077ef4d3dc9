//! One run at a time on a mount. What the mount does by itself gives way to a command.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::work::Work;

/// How often a command that waits looks whether anybody still waits for it.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Command,
    Background,
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    at_work: Mutex<Option<Who>>,
    ended: Condvar,
    /// Commands that wait for a background run.
    waiting: AtomicUsize,
    /// What the run that is at work does.
    pub(super) work: Work,
}

/// Held while a run is at work.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.work.clear();
        *self.0.at_work.lock() = None;
        self.0.ended.notify_all();
    }
}

impl Turns {
    /// For a command: waits for a background run to give way. `None` if another command is at work, or
    /// the command is no longer wanted.
    pub(super) fn command(&self, is_wanted: &mut dyn FnMut() -> bool) -> Option<Turn<'_>> {
        let mut at_work = self.at_work.lock();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        while *at_work == Some(Who::Background) && is_wanted() {
            self.ended.wait_for(&mut at_work, PATIENCE);
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let free = at_work.is_none();
        if free {
            *at_work = Some(Who::Command);
        }
        free.then(|| Turn(self))
    }

    /// For a background run: `None` if any other run is at work or waits.
    pub(super) fn background(&self) -> Option<Turn<'_>> {
        let mut at_work = self.at_work.lock();
        let free = at_work.is_none() && !self.must_give_way();
        if free {
            *at_work = Some(Who::Background);
        }
        free.then(|| Turn(self))
    }

    /// Whether a command waits for the background run that is at work.
    pub(super) fn must_give_way(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Whether any run is at work.
    pub(super) fn is_taken(&self) -> bool {
        self.at_work.lock().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_background_run_gives_way_and_a_command_does_not() {
        let turns = Turns::default();
        let command = turns.command(&mut || true).unwrap();
        assert!(turns.command(&mut || true).is_none() && turns.background().is_none() && turns.is_taken());
        drop(command);
        let background = turns.background().unwrap();
        assert!(turns.background().is_none() && !turns.must_give_way());
        assert!(turns.command(&mut || false).is_none(), "it has hung up");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turns.command(&mut || true).is_some());
            while !turns.must_give_way() {
                std::thread::yield_now();
            }
            drop(background);
            assert!(waiting.join().unwrap());
        });
        assert!(!turns.is_taken() && !turns.must_give_way());
    }
}
