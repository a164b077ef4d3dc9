//! Going to the background, and being told to stop.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

use super::check;
use crate::types::errno::{Errno, Result};

/// What tells one boot of the machine from another.
///
/// # Errors
/// What reading `/proc` says.
pub fn boot_id() -> Result<String> {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map(|id| id.trim().to_owned()).map_err(|error| Errno::of(&error))
}

/// A reason longer than this is cut: one line is promised.
const LINE_LEN_MAX: u64 = 16 * 1024;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Forked {
    /// The one that the user started; the other has told how it went.
    Parent(Told),
    /// The one that does the work.
    Child(Teller),
}

/// What the child told its parent.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// The exit code, 0 where all is well.
    pub code: u8,
    /// The reason in one line, empty where all is well.
    pub line: String,
}

/// Forks. The parent's call returns when the child has told how it went, or has ended.
///
/// Must be called before any thread is started: a fork carries over only the calling one.
///
/// # Errors
/// What `pipe2(2)` and `fork(2)` say.
pub fn background() -> Result<Forked> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the caller runs no other thread, so the child may go on as any process may.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(reader);
            Ok(Forked::Child(Teller { pipe: File::from(writer) }))
        }
        ForkResult::Parent { child } => {
            drop(writer);
            Ok(Forked::Parent(listen(reader, child)))
        }
    }
}

fn listen(reader: OwnedFd, child: Pid) -> Told {
    let mut bytes = Vec::new();
    let read = File::from(reader).take(LINE_LEN_MAX).read_to_end(&mut bytes);
    match (read, bytes.split_first()) {
        (Ok(_), Some((code, line))) => Told { code: *code, line: String::from_utf8_lossy(line).into_owned() },
        _ => Told { code: 1, line: format!("the background process {}", ending(child)) },
    }
}

fn ending(child: Pid) -> String {
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, code)) => format!("ended with code {code} before it served"),
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("was ended by {signal} before it served"),
        _ => "ended before it served".into(),
    }
}

/// The child's means to tell its parent how it went. Dropped without a word, it tells that the
/// child ended.
#[derive(Debug)]
pub struct Teller {
    pipe: File,
}

impl Teller {
    /// Cuts all ties to the terminal and lets the parent exit with success.
    ///
    /// # Errors
    /// What the failing system call says; the parent is then still waiting, until `self` is gone.
    pub fn serving(mut self) -> Result<()> {
        setsid()?;
        chdir("/")?;
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        dup2_stdin(null.as_fd())?;
        dup2_stdout(null.as_fd())?;
        dup2_stderr(null.as_fd())?;
        self.pipe.write_all(&[0]).map_err(|error| Errno::of(&error))
    }

    /// Lets the parent print `line` and exit with `code`.
    pub fn failed(mut self, code: u8, line: &str) {
        let mut bytes = vec![code.max(1)];
        bytes.extend_from_slice(line.as_bytes());
        // A parent that is gone has nobody to tell.
        let _ = self.pipe.write_all(&bytes);
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn note_stop(_signal: i32) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C, a closed terminal and `kill` do not end this process but are noted for
/// [`should_stop`].
///
/// # Errors
/// What `sigaction(2)` says.
pub fn catch_stop() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note_stop), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is safe at any moment.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Whether this process was asked to stop since [`catch_stop`].
pub fn should_stop() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// The name of a thread; empty if it has ended.
fn comm(pid: u32) -> Vec<u8> {
    let mut name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.truncate(name.len().saturating_sub(1));
    name
}

/// The process that a thread is of.
fn first_thread(pid: u32) -> Option<u32> {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let first = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Tgid:"));
    first.and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok())
}

/// The name of the program that runs the thread `pid`, as `ps` shows it: of at most 15 bytes. `None` if
/// it has ended.
pub fn program(pid: u32) -> Option<String> {
    let name = comm(first_thread(pid)?);
    (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
}

/// Whether `is_it` knows the name of a program, by the id of one of its threads: the thread's own, or
/// the first one's, which `ps` shows. `/proc` tells at most 15 bytes of each, none if it has ended.
pub fn has_name(pid: u32, is_it: impl Fn(&[u8]) -> bool) -> bool {
    is_it(&comm(pid)) || first_thread(pid).is_some_and(|first| first != pid && is_it(&comm(first)))
}

/// A process, held so that its number cannot become another's meanwhile.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// # Errors
    /// ESRCH if there is none; ENOSYS before Linux 5.3 (`pidfd_open(2)`).
    pub fn hold(pid: i32) -> Result<Process> {
        // SAFETY: a plain call; it makes a descriptor of its own, which nothing else knows.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
        let fd = check(i32::try_from(fd).map_err(|_| Errno::EINVAL)?)?;
        // SAFETY: as above: the descriptor is open and belongs to nobody.
        Ok(Process(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits until it has ended; `false` if it has not within `patience`.
    ///
    /// # Errors
    /// What `poll(2)` says.
    pub fn has_ended_within(&self, patience: Duration) -> Result<bool> {
        let until = Instant::now() + patience;
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            let wait = PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], wait) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return Ok(other? > 0),
            }
        }
    }
}

/// Has this thread wait for others: a low priority for the processor, the idle class for disks
/// (`ioprio_set(2)`). What it holds others must not wait for.
pub fn yield_to_others() {
    /// `IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)` of `linux/ioprio.h`.
    const IDLE: libc::c_long = 3 << 13;
    /// `IOPRIO_WHO_PROCESS` of `linux/ioprio.h`.
    const THREAD: libc::c_long = 1;
    /// A tenth of the processor where something else wants all of it.
    const NICE: i32 = 10;
    // SAFETY: plain calls on the calling thread; without them it only works at its usual priority.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, THREAD, 0, IDLE);
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_seen() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = Process::hold(i32::try_from(child.id()).unwrap()).unwrap();
        assert_eq!(process.has_ended_within(Duration::ZERO), Ok(false));
        drop(child.stdin.take());
        assert_eq!(process.has_ended_within(Duration::from_secs(600)), Ok(true));
        child.wait().unwrap();
    }

    #[test]
    fn a_thread_answers_to_its_own_name_and_to_its_programs() {
        let first = std::process::id();
        let name = std::fs::read(format!("/proc/{first}/comm")).unwrap();
        let name = name.strip_suffix(b"\n").unwrap().to_vec();
        let thread = std::thread::Builder::new().name("another".into()).spawn(move || {
            let own = nix::unistd::gettid().as_raw().unsigned_abs();
            (has_name(own, |it| it == b"another"), has_name(own, |it| it == name), has_name(own, |it| it == b"third"))
        });
        assert_eq!(thread.unwrap().join().unwrap(), (true, true, false));
        assert!(!has_name(u32::MAX, |it| it == b"none"));
        assert_eq!(program(u32::MAX), None);
    }
}
