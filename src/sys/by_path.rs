//! The few calls that take a path: for commands, which name files as their user does.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::types::errno::Result;

/// Refers to what is at `path`, a link itself rather than its target, without opening it.
///
/// # Errors
/// What `open(2)` with O_PATH says.
pub fn hold(path: &Path) -> Result<OwnedFd> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Where what `fd` refers to is now, for messages only: it may be elsewhere a moment later.
pub fn of(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
}
