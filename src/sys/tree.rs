//! A private clone of a mount.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

use super::retry;
use crate::types::errno::Result;

/// The tree below the directory `root` (O_PATH will do) through mounts of its own, which are in
/// no mount namespace: nobody else reaches files through them. So a mark on a mount
/// ([`super::fanotify::Group`]) tells what is done through the result, also by FUSE passthrough,
/// from what others do. The result is an O_PATH descriptor of the same directory: same files,
/// same `dev` and `ino`, same flags (`ro`, `noexec`).
///
/// Mounts below `root` are cloned too. One that is unmounted later stays in use here until the
/// result and everything opened through it is closed, unless its parent is a shared mount; one
/// that is made later is not seen here, nor is `mount -o remount,bind`. Renames and hard links
/// between the clone and the original mount are EXDEV.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, EINVAL on an unbindable mount or one of another mount namespace.
/// `root` itself serves as well then, but is not told apart.
pub fn private_clone(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as u32;
    let fd = retry(|| {
        // SAFETY: `root` is open for the call's length and the empty name ends with NUL.
        let fd = unsafe { libc::syscall(libc::SYS_open_tree, root.as_raw_fd(), c"".as_ptr(), flags) };
        i32::try_from(fd).unwrap_or(-1)
    })?;
    // SAFETY: the kernel just handed out `fd`; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has what is read through a private clone leave its access time as it does on most mounts
/// (`relatime`), whatever the mount says that was cloned (`mount_setattr(2)`).
///
/// # Errors
/// ENOSYS before Linux 5.12; EPERM where the mount's flags are locked, as in a user namespace.
pub fn keep_access_times(clone: BorrowedFd<'_>) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RELATIME,
        attr_clr: libc::MOUNT_ATTR__ATIME,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    retry(|| {
        // SAFETY: the empty name ends with NUL, and the kernel reads as many bytes of `attr` as it has.
        let done = unsafe {
            let (fd, path) = (clone.as_raw_fd(), c"".as_ptr());
            libc::syscall(libc::SYS_mount_setattr, fd, path, flags, &raw const attr, size_of_val(&attr))
        };
        i32::try_from(done).unwrap_or(-1)
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::at::{self, Flags};
    use crate::sys::stat::statx;
    use crate::types::errno::Errno;

    #[test]
    fn a_clone_leads_to_the_same_files_through_another_mount() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::write(dir.path().join("file"), "contents").unwrap();
        let root = crate::sys::durable::open_root(dir.path()).unwrap();
        let clone = match private_clone(root.as_fd()) {
            Err(Errno::EPERM) => return eprintln!("skipped: open_tree needs CAP_SYS_ADMIN"),
            other => other.unwrap(),
        };
        for name in [None, Some(c"file")] {
            let (a, b) = (statx(root.as_fd(), name).unwrap(), statx(clone.as_fd(), name).unwrap());
            assert_eq!((a.dev, a.ino), (b.dev, b.ino));
        }
        // Another mount: a rename between the two crosses mounts, though the filesystem is one.
        let crossing = at::rename(root.as_fd(), c"file", clone.as_fd(), c"moved", at::RenameFlag::Replace);
        assert_eq!(crossing, Err(Errno::EXDEV));
        let file = at::open(clone.as_fd(), c"file", Flags::READ_WRITE, 0).unwrap();
        assert_eq!(std::io::read_to_string(fs::File::from(file)).unwrap(), "contents");
        at::mkdir(clone.as_fd(), c"made", 0o755).unwrap();
        assert!(dir.path().join("made").is_dir());
    }
}
