//! Looking at a mount that has not answered. The look is another process: a mount that hangs can hold whoever looks
//! at it so that not even a signal ends it.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{print_bytes, target};
use crate::sys::mount;
use crate::sys::process::Process;
use crate::sys::{by_path, xattr};
use crate::types::errno::Errno;

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a look at a mount comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// The socket of its program.
    Socket(PathBuf),
    /// It serves, and takes no commands.
    Mute,
    /// Its program has ended.
    Dead,
    /// The user may not look.
    Denied,
    /// It does not answer.
    Silent,
}

/// Exit codes of the process that looks, for this file alone.
const MUTE: u8 = 20;
const DEAD: u8 = 21;
const DENIED: u8 = 22;
const UNKNOWN: u8 = 23;

/// The other process: looks, and says what it found by its exit code and what it prints.
pub(super) fn look(point: &Path) -> Outcome {
    let coded = |code: u8| Err(Failure { line: String::new(), code });
    if mount::is_dead(point) {
        return coded(DEAD);
    }
    let socket = by_path::hold(point).and_then(|held| xattr::get(held.as_fd(), None, target::CONTROL));
    match socket {
        Ok(socket) => {
            print_bytes(&socket)?;
            Ok(Exit::Ok)
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => coded(MUTE),
        Err(Errno::ENOTCONN) => coded(DEAD),
        Err(Errno::EACCES | Errno::EPERM) => coded(DENIED),
        Err(_) => coded(UNKNOWN),
    }
}

/// Looks at all of them at the same time.
pub(super) fn look_at(points: &[PathBuf]) -> Vec<Look> {
    let looking: Vec<Option<Child>> = points.iter().map(|point| start(point).ok()).collect();
    let until = Instant::now() + PATIENCE;
    looking.into_iter().map(|child| child.map_or(Look::Silent, |child| seen(child, until))).collect()
}

fn start(point: &Path) -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["status", "--look-at"]).arg(point);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
}

fn seen(mut child: Child, until: Instant) -> Look {
    let rest = until.saturating_duration_since(Instant::now());
    let held = i32::try_from(child.id()).map_err(|_| Errno::EINVAL).and_then(Process::hold);
    if held.and_then(|held| held.has_ended_within(rest)) != Ok(true) {
        // It may not end before the mount answers: it is not waited for.
        let _ = child.kill();
        return Look::Silent;
    }
    let mut told = Vec::new();
    let read = child.stdout.take().map(|mut out| out.read_to_end(&mut told));
    let code = child.wait().ok().and_then(|status| status.code());
    match code.and_then(|code| u8::try_from(code).ok()) {
        Some(0) if matches!(read, Some(Ok(_))) => Look::Socket(PathBuf::from(std::ffi::OsString::from_vec(told))),
        Some(DEAD) => Look::Dead,
        Some(DENIED) => Look::Denied,
        Some(MUTE) => Look::Mute,
        _ => Look::Silent,
    }
}
