//! The root of a tier, and the lock that keeps others out of it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::types::errno::{Errno, Result};

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Errno {
        Errno(errno as i32)
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Opens a tier root. Symbolic links on the way to it are the administrator's and are followed.
///
/// # Errors
/// ENOTDIR for anything but a directory, and what `open(2)` says.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    Ok(openat(AT_FDCWD, path, DIRECTORY, Mode::empty())?)
}

/// Opens a directory once more: locks taken on the two do not share their fate.
///
/// # Errors
/// What `open(2)` says.
pub fn open_again(dir: &OwnedFd) -> Result<OwnedFd> {
    Ok(openat(dir, ".", DIRECTORY, Mode::empty())?)
}

/// Keeps others out of a directory until it is dropped or the process ends (`flock(2)`).
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its effect")] nix::fcntl::Flock<OwnedFd>);

/// Takes the lock on the directory `dir`, waiting for another process's no longer than `patience`.
/// `None` if it is still held then.
///
/// # Errors
/// What `flock(2)` says.
pub fn lock(dir: OwnedFd, patience: Duration) -> Result<Option<Lock>> {
    let start = Instant::now();
    let mut dir = dir;
    loop {
        dir = match nix::fcntl::Flock::lock(dir, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(Lock(lock))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) if start.elapsed() >= patience => return Ok(None),
            Err((dir, nix::errno::Errno::EWOULDBLOCK | nix::errno::Errno::EINTR)) => dir,
            Err((_, error)) => return Err(error.into()),
        };
        std::thread::sleep(LOCK_RETRY);
    }
}

/// Between two attempts to take a lock.
const LOCK_RETRY: Duration = Duration::from_millis(5);
