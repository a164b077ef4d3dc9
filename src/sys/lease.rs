//! Leases (`F_SETLEASE`, `fcntl(2)`): how the kernel tells who else has a file open.
//!
//! A lease is refused while somebody has the file open, or mapped, in a way it excludes; whoever
//! opens it so later waits in the kernel until the lease goes, at most `/proc/sys/fs/lease-break-time`
//! seconds. Descriptors held with `O_PATH` count for nothing. Breaking sends SIGIO, which the
//! process must ignore. The lease belongs to the open file and goes with its last descriptor.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use super::check;
use crate::types::errno::{Errno, Result};
use crate::types::lease::Excludes;

fn word(excludes: Excludes) -> i32 {
    match excludes {
        Excludes::Writers => libc::F_RDLCK,
        Excludes::All => libc::F_WRLCK,
    }
}

/// Takes a lease; `false` if somebody it excludes is there.
///
/// # Errors
/// EINVAL where the filesystem gives no leases, EACCES for a file of another user.
pub fn take(fd: BorrowedFd<'_>, excludes: Excludes) -> Result<bool> {
    // SAFETY: a plain call on an open descriptor.
    match check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, word(excludes)) }) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Whether the lease stands and nobody waits for it to go.
///
/// # Errors
/// What `fcntl(2)` says.
pub fn stands(fd: BorrowedFd<'_>, excludes: Excludes) -> Result<bool> {
    // SAFETY: a plain call on an open descriptor.
    let now = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETLEASE) })?;
    Ok(now == word(excludes))
}

/// Gives the lease back; whoever waited goes on.
///
/// # Errors
/// What `fcntl(2)` says.
pub fn drop(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: a plain call on an open descriptor.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) }).map(std::mem::drop)
}

/// Whether anybody holds a file open or mapped for writing. `fd` must be open for reading only.
///
/// # Errors
/// What `fcntl(2)` says.
pub fn is_written(fd: BorrowedFd<'_>) -> Result<bool> {
    match take(fd, Excludes::Writers) {
        Ok(true) => drop(fd).map(|()| false),
        Ok(false) | Err(Errno::EACCES | Errno::EINVAL) => Ok(true),
        Err(other) => Err(other),
    }
}
