//! Signals: what ends the daemon in order, and what must not end it.

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction, signal,
};

use crate::types::errno::Result;

/// Prepares the process before threads are started: they inherit the mask.
pub fn prepare() {
    let mut ending = SigSet::empty();
    ENDING.iter().for_each(|s| ending.add(*s));
    // Both can fail only for arguments that are not these.
    let _mask = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&ending), None);
    ignore_stray();
}

/// Keeps signals that concern nobody from ending the process.
pub fn ignore_stray() {
    // A lease that another program's open breaks sends SIGIO, which ends a process by default.
    // SAFETY: ignoring a signal runs no handler.
    let _ignored = unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) };
    // SAFETY: as above; a client that goes away must not end the daemon.
    let _ignored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
}

/// Calls `act` while an interrupt does not end the process. For a question at the terminal: it is answered with
/// that key, too, and the terminal is put back in order first.
pub fn without_interrupt<T>(act: impl FnOnce() -> T) -> T {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal runs no handler.
    let before = unsafe { sigaction(Signal::SIGINT, &ignore) };
    let result = act();
    if let Ok(before) = before {
        // SAFETY: what was there before was right for it.
        let _back = unsafe { sigaction(Signal::SIGINT, &before) };
    }
    result
}

const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Runs `act`, on a thread of its own, each time the process is asked to end.
///
/// # Errors
/// EAGAIN if there can be no more threads.
pub fn on_termination(act: impl Fn() + Send + 'static) -> Result<()> {
    let wait = move || {
        let mut ending = SigSet::empty();
        ENDING.iter().for_each(|s| ending.add(*s));
        while ending.wait().is_ok() {
            act();
        }
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(wait);
    thread.map(drop).map_err(|error| crate::types::errno::Errno::of(&error))
}
