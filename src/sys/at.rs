//! Names below a directory descriptor: open, make, remove, rename, link.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

use super::{check, check_len, retry};
use crate::types::errno::{Errno, Result};

/// Longest target of a symbolic link in bytes (`PATH_MAX`, `linux/limits.h`).
const LINK_MAX: usize = 4096;

/// How to open a name, in the words of `open(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(i32);

impl Flags {
    /// A reference that reads and writes nothing (`O_PATH`).
    pub const HOLD: Flags = Flags(libc::O_PATH);
    /// A reference to a directory.
    pub const HOLD_DIR: Flags = Flags(libc::O_PATH | libc::O_DIRECTORY);
    /// Entries of a directory.
    pub const LIST: Flags = Flags(libc::O_RDONLY | libc::O_DIRECTORY);
    /// Entries of a directory, without touching its access time.
    pub const LIST_QUIET: Flags = Flags(libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOATIME);
    /// For reading. Never waits for the other end of a fifo.
    pub const READ: Flags = Flags(libc::O_RDONLY | libc::O_NONBLOCK);
    /// For reading without touching the access time.
    pub const READ_QUIET: Flags = Flags(libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOATIME);
    /// For writing.
    pub const WRITE: Flags = Flags(libc::O_WRONLY | libc::O_NONBLOCK);
    /// For both.
    pub const READ_WRITE: Flags = Flags(libc::O_RDWR | libc::O_NONBLOCK);
    /// For both, without touching the access time.
    pub const READ_WRITE_QUIET: Flags = Flags(libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOATIME);

    /// Waits for who has a lease on the file (`fcntl(2)`). Not for a fifo.
    pub fn waiting(self) -> Flags {
        Flags(self.0 & !libc::O_NONBLOCK)
    }

    /// With a file created that must not be there, and so is none of the kinds that could make an open wait.
    ///
    /// The kernel makes it first and opens it then: whoever saw it in between may have a lease on it, which is
    /// waited for. Giving up at once would leave an empty file behind.
    pub fn create_new(self) -> Flags {
        Flags(self.waiting().0 | libc::O_CREAT | libc::O_EXCL)
    }
}

/// Opens `name` in `dir`. A symbolic link is ELOOP (ENOTDIR where a directory is wanted).
pub fn open(dir: BorrowedFd<'_>, name: &CStr, flags: Flags, mode: u32) -> Result<OwnedFd> {
    let bits = flags.0 | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: `dir` is open for the call's length and `name` ends with NUL.
    let fd = retry(|| unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), bits, mode) })?;
    // SAFETY: the kernel just handed out `fd`; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens again what `fd` refers to, with other rights. A regular file that was held with
/// `O_PATH` is opened through `/proc/self/fd`, which no rename can redirect.
///
/// What is opened for a program waits, as the program would, until another gives up its lease. Only
/// quiet reading, which serves tierfs itself, is refused at once with EAGAIN.
pub fn reopen(fd: BorrowedFd<'_>, flags: Flags) -> Result<OwnedFd> {
    let path = proc_path(fd, None)?;
    let patient = if flags == Flags::READ_QUIET { flags.0 } else { flags.0 & !libc::O_NONBLOCK };
    let bits = patient | libc::O_CLOEXEC;
    // SAFETY: `path` ends with NUL.
    let new = retry(|| unsafe { libc::open(path.as_ptr().cast(), bits) })?;
    // SAFETY: the kernel just handed out `new`; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Makes a directory.
pub fn mkdir(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: `dir` is open and `name` ends with NUL.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// Makes a node of the type in `mode`.
pub fn mknod(dir: BorrowedFd<'_>, name: &CStr, mode: u32, rdev: u64) -> Result<()> {
    // SAFETY: `dir` is open and `name` ends with NUL.
    check(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, rdev) }).map(drop)
}

/// Makes a symbolic link.
pub fn symlink(dir: BorrowedFd<'_>, name: &CStr, target: &CStr) -> Result<()> {
    // SAFETY: `dir` is open; both strings end with NUL.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// The target of a symbolic link.
pub fn readlink(dir: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>> {
    let mut buffer = vec![0u8; LINK_MAX];
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
    let len = check_len(unsafe {
        libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    })?;
    buffer.truncate(len);
    Ok(buffer)
}

/// A second name for `name` (a symbolic link itself, not its target).
pub fn link(dir: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, new: &CStr) -> Result<()> {
    // SAFETY: both descriptors are open; both strings end with NUL.
    check(unsafe { libc::linkat(dir.as_raw_fd(), name.as_ptr(), to.as_raw_fd(), new.as_ptr(), 0) }).map(drop)
}

/// A name for what `fd` holds, also if its last name is gone but it is still linked.
pub fn link_held(fd: BorrowedFd<'_>, to: BorrowedFd<'_>, new: &CStr) -> Result<()> {
    let path = proc_path(fd, None)?;
    // SAFETY: the descriptor is open; both strings end with NUL.
    check(unsafe {
        libc::linkat(libc::AT_FDCWD, path.as_ptr().cast(), to.as_raw_fd(), new.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    })
    .map(drop)
}

/// Removes a non-directory.
pub fn unlink(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: `dir` is open and `name` ends with NUL.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Removes an empty directory.
pub fn rmdir(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: `dir` is open and `name` ends with NUL.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) }).map(drop)
}

/// What a rename does with a target that is there (`renameat2(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameFlag {
    /// It goes.
    Replace,
    /// EEXIST.
    NoReplace,
    /// The two change places.
    Exchange,
}

/// Renames.
pub fn rename(dir: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, new: &CStr, flag: RenameFlag) -> Result<()> {
    let bits = match flag {
        RenameFlag::Replace => 0,
        RenameFlag::NoReplace => libc::RENAME_NOREPLACE,
        RenameFlag::Exchange => libc::RENAME_EXCHANGE,
    };
    let (old_fd, new_fd) = (dir.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both descriptors are open; both strings end with NUL.
    #[cfg(not(target_env = "musl"))]
    let done = unsafe { libc::renameat2(old_fd, name.as_ptr(), new_fd, new.as_ptr(), bits) };
    // SAFETY: as above. By its number, since the musl of Rust has no function of the name; it is 0 or -1.
    #[cfg(target_env = "musl")]
    let done = unsafe { libc::syscall(libc::SYS_renameat2, old_fd, name.as_ptr(), new_fd, new.as_ptr(), bits) } as i32;
    let result = check(done);
    match result {
        // A filesystem without renameat2 flags (NFS, some FUSE) says EINVAL: say so plainly.
        Err(Errno::EINVAL) if flag == RenameFlag::Exchange => Err(Errno::EINVAL),
        other => other.map(drop),
    }
}

/// `/proc/self/fd/N` or `/proc/self/fd/N/name`, ended by NUL: the object itself whatever its path
/// has become. The last component is followed or not as the call that uses it decides.
pub(super) fn proc_path(fd: BorrowedFd<'_>, name: Option<&CStr>) -> Result<ProcPath> {
    use std::io::Write;
    let mut path = ProcPath([0; PROC_PATH_MAX]);
    let room = PROC_PATH_MAX - 1;
    let mut cursor = &mut path.0[..room];
    let written = match name {
        None => write!(cursor, "/proc/self/fd/{}", fd.as_raw_fd()),
        Some(name) => {
            write!(cursor, "/proc/self/fd/{}/", fd.as_raw_fd()).and_then(|()| cursor.write_all(name.to_bytes()))
        }
    };
    written.map_err(|_| Errno::ENAMETOOLONG)?;
    Ok(path)
}

const PROC_PATH_MAX: usize = 300;

/// A short path on the stack, ended by NUL.
pub(super) struct ProcPath([u8; PROC_PATH_MAX]);

impl ProcPath {
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

/// Another descriptor for the same open file.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned().map_err(|e| Errno::of(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that made a file in the instant when a run listed the directory got EAGAIN, and an empty file.
    #[test]
    fn regression_who_makes_a_file_waits_for_a_lease_on_it() {
        for flags in [Flags::READ, Flags::WRITE, Flags::READ_WRITE, Flags::READ_WRITE_QUIET] {
            assert_eq!(flags.create_new().0 & libc::O_NONBLOCK, 0, "{flags:?}");
        }
    }
}
