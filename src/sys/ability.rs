//! What a filesystem is able to, tried on files without a name, which are gone when they are closed; renames on an
//! empty one that is removed again.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::sys::stat::Mode;

use super::at::{self, RenameFlag};
use super::{check, io, xattr};
use crate::types::errno::{Errno, Result};

/// The flag of `chattr +F` (`FS_CASEFOLD_FL`, `linux/fs.h`).
const CASEFOLD: u32 = 0x4000_0000;

/// A file without a name on the filesystem of `dir` (`O_TMPFILE`, `open(2)`): nothing sees it come or go.
///
/// # Errors
/// EOPNOTSUPP where the filesystem has none, EROFS, EACCES and what else `open(2)` says.
pub fn nameless(dir: &Path) -> Result<File> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    Ok(File::from(open(dir, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
}

/// Whether names in a directory have no case.
pub fn is_casefold(dir: &File) -> bool {
    io::get_flags(dir.as_fd()).is_ok_and(|flags| flags & CASEFOLD != 0)
}

/// Has `to` share the blocks of `from` (`ioctl_ficlone(2)`).
///
/// # Errors
/// EOPNOTSUPP where the filesystem cannot.
pub fn share_blocks(from: &File, to: &File) -> Result<()> {
    // SAFETY: both descriptors are open, and the request takes one as its argument.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) }).map(drop)
}

/// Reserves space for a file.
///
/// # Errors
/// EOPNOTSUPP where the filesystem cannot.
pub fn reserve(file: &File, length: u64) -> Result<()> {
    io::allocate(file.as_fd(), 0, 0, length)
}

/// Punches a hole at its beginning.
///
/// # Errors
/// EOPNOTSUPP where the filesystem cannot.
pub fn punch(file: &File, length: u64) -> Result<()> {
    io::allocate(file.as_fd(), libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 0, length)
}

/// Sets an attribute on an open file.
///
/// # Errors
/// EOPNOTSUPP where the filesystem keeps none of its kind, E2BIG or ENOSPC where it is too large.
pub fn attribute(file: &File, key: &std::ffi::CStr, value: &[u8]) -> Result<()> {
    xattr::set(file.as_fd(), None, key, value, 0)
}

/// Gives an open file an ACL that says more than its mode does.
///
/// # Errors
/// EOPNOTSUPP where the filesystem keeps none.
pub fn acl(file: &File) -> Result<()> {
    // `struct posix_acl_xattr_header` and its entries (`linux/posix_acl_xattr.h`): owner, one user,
    // group, mask, others.
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 6, u32::MAX), (0x02, 4, 1), (0x04, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(rights.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    attribute(file, c"system.posix_acl_access", &value)
}

/// Has an empty file renamed so that none of the new name would be replaced (`RENAME_NOREPLACE`, `renameat2(2)`).
/// It is made for that in `dir`, and removed.
///
/// # Errors
/// EINVAL where the filesystem cannot; EROFS, EACCES and what else making a file says.
pub fn rename_unless_there(dir: &Path) -> Result<()> {
    let held = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = open(dir, held, Mode::empty())?;
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let name =
        |what: &str| CString::new(format!("doctor-{what}-{}-{since}", std::process::id())).map_err(|_| Errno::EINVAL);
    let (old, new) = (name("old")?, name("new")?);
    let made = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    drop(openat(&dir, old.as_c_str(), made, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let renamed = at::rename(dir.as_fd(), &old, dir.as_fd(), &new, RenameFlag::NoReplace);
    // Both: a server may do what it says that it does not.
    let _gone = [&old, &new].map(|name| at::unlink(dir.as_fd(), name));
    renamed
}

/// Why something cannot be done, in words of a tired administrator.
pub fn in_words(errno: Errno) -> String {
    match errno {
        Errno::EOPNOTSUPP => "the filesystem has none".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(file) = nameless(dir.path()) else { return eprintln!("skipped: no files without a name here") };
        std::io::Write::write_all(&mut (&file), &[7; 65536]).unwrap();
        let other = nameless(dir.path()).unwrap();
        for outcome in [acl(&file), reserve(&file, 1 << 20), punch(&file, 4096), share_blocks(&file, &other)] {
            assert!(matches!(outcome, Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EXDEV)), "{outcome:?}");
        }
        let renamed = rename_unless_there(dir.path());
        assert!(matches!(renamed, Ok(()) | Err(Errno::EINVAL)), "{renamed:?}");
        assert!(!is_casefold(&File::open(dir.path()).unwrap()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
