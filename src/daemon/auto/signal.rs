//! What wakes the background thread.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Wakes it, or ends it.
#[derive(Debug, Default)]
pub(super) struct Signal {
    flags: Mutex<Flags>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Flags {
    stop: bool,
    wake: bool,
    file: bool,
}

/// Why a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// The mount ends.
    Stop,
    /// The policy file may be another.
    File,
    /// There may be something to do.
    Work,
}

impl Signal {
    /// There is something to do.
    pub(super) fn wake(&self) {
        self.set(|flags| flags.wake = true);
    }

    /// The policy file may be another.
    pub(super) fn file_changed(&self) {
        self.set(|flags| flags.file = true);
    }

    /// The mount ends.
    pub(super) fn stop(&self) {
        self.set(|flags| flags.stop = true);
    }

    /// Whether the mount ends.
    pub(super) fn is_stopped(&self) -> bool {
        self.flags.lock().stop
    }

    fn set(&self, set: impl FnOnce(&mut Flags)) {
        set(&mut self.flags.lock());
        self.changed.notify_all();
    }

    /// Waits for one of these, at most so long.
    pub(super) fn wait(&self, longest: Duration) -> Woken {
        let mut flags = self.flags.lock();
        let idle = |flags: &mut Flags| !flags.stop && !flags.wake && !flags.file;
        self.changed.wait_while_for(&mut flags, idle, longest);
        flags.wake = false;
        if flags.stop {
            return Woken::Stop;
        }
        if std::mem::take(&mut flags.file) { Woken::File } else { Woken::Work }
    }
}
