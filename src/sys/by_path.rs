//! The few calls that take a path: for commands, which name files as their user does.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::types::errno::Result;

/// Refers to what is at `path`, a link itself rather than its target, without opening it.
///
/// # Errors
/// What `open(2)` with O_PATH says.
pub fn hold(path: &Path) -> Result<OwnedFd> {
    Ok(open(
        path,
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}
