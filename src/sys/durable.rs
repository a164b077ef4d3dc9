//! Small files that must survive a power cut: replaced whole, never written in place.
//!
//! Everything is relative to a directory descriptor and follows no symbolic link, because the
//! directory belongs to a tier into which strangers may write.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

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

/// Opens the directory `name`; `None` where the name is absent.
///
/// # Errors
/// ENOTDIR for anything but a directory, also for a link to one; else what `openat(2)` says.
pub fn open_dir(at: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
    match openat(at, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(nix::errno::Errno::ENOENT) => Ok(None),
        Err(nix::errno::Errno::ELOOP) => Err(Errno::ENOTDIR),
        Err(error) => Err(error.into()),
    }
}

/// Opens the directory `name`, made with `mode` if it is absent.
///
/// # Errors
/// As [`open_dir`] and `mkdirat(2)`.
pub fn make_dir(at: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<OwnedFd> {
    if let Some(fd) = open_dir(at, name)? {
        return Ok(fd);
    }
    match mkdirat(at, name, Mode::from_bits_truncate(mode)) {
        Ok(()) => {
            let fd = open_dir(at, name)?.ok_or(Errno::ENOENT)?;
            // The caller's umask may have taken bits away.
            fchmod(&fd, Mode::from_bits_truncate(mode))?;
            fsync(at)?;
            Ok(fd)
        }
        Err(nix::errno::Errno::EEXIST) => open_dir(at, name)?.ok_or(Errno::ENOENT),
        Err(error) => Err(error.into()),
    }
}

/// All bytes of the regular file `name`; `None` where the name is absent.
///
/// # Errors
/// EFBIG for more than `len_max` bytes, EINVAL for anything but a regular file, ELOOP for a link.
pub fn read_small(at: BorrowedFd<'_>, name: &CStr, len_max: usize) -> Result<Option<Vec<u8>>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let quiet = openat(at, name, flags | OFlag::O_NOATIME, Mode::empty());
    let fd = match quiet {
        // Only the owner may read without touching the access time.
        Err(nix::errno::Errno::EPERM) => openat(at, name, flags, Mode::empty()),
        other => other,
    };
    let fd = match fd {
        Ok(fd) => fd,
        Err(nix::errno::Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let kind = SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFREG {
        return Err(Errno::EINVAL);
    }
    let mut bytes = Vec::new();
    let limit = len_max as u64 + 1;
    File::from(fd).take(limit).read_to_end(&mut bytes).map_err(|e| Errno::of(&e))?;
    if bytes.len() > len_max {
        return Err(Errno::EFBIG);
    }
    Ok(Some(bytes))
}

/// Puts `bytes` in place of the file `name`. On success they are on the disk; after a crash at any
/// point the file is the old one or the new one, whole. `scratch` is a name beside it that no
/// other writer uses.
///
/// # Errors
/// What the first failing system call says; the old file is then still there.
pub fn replace(at: BorrowedFd<'_>, name: &CStr, scratch: &CStr, bytes: &[u8], mode: u32) -> Result<()> {
    match unlinkat(at, scratch, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(mode);
    let mut file = File::from(openat(at, scratch, flags, mode)?);
    fchmod(file.as_fd(), mode)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| Errno::of(&e))?;
    renameat(at, scratch, at, name)?;
    fsync(at)?;
    Ok(())
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

/// Random bytes from the kernel.
///
/// # Errors
/// What reading `/dev/urandom` says.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|e| Errno::of(&e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        let at = root.as_fd();
        assert_eq!(read_small(at, c"f", 9), Ok(None));
        std::fs::write(dir.path().join("f.tmp"), "left by a crash").unwrap();
        replace(at, c"f", c"f.tmp", b"one", 0o644).unwrap();
        replace(at, c"f", c"f.tmp", b"two", 0o640).unwrap();
        assert_eq!(read_small(at, c"f", 3), Ok(Some(b"two".to_vec())));
        assert_eq!(read_small(at, c"f", 2), Err(Errno::EFBIG));
        let mode = std::fs::metadata(dir.path().join("f")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert!(!dir.path().join("f.tmp").exists());
    }

    #[test]
    fn links_and_special_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        let at = root.as_fd();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        assert_eq!(read_small(at, c"link", 9), Err(Errno::ELOOP));
        assert_eq!(open_dir(at, c"link").unwrap_err(), Errno::ENOTDIR);
        assert_eq!(make_dir(at, c"link", 0o700).unwrap_err(), Errno::ENOTDIR);
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).unwrap();
        assert_eq!(read_small(at, c"fifo", 9), Err(Errno::EINVAL));
        assert_eq!(read_small(root.as_fd(), c".", 9), Err(Errno::EINVAL));
    }
}
