//! Extended attributes of `(directory, Some(name))` or of a descriptor itself (`None`).
//!
//! The calls go through `/proc/self/fd`, which works for descriptors held with `O_PATH` and for
//! names of any depth; the `l` forms never follow a link in the last component. Reading a value by
//! name is asked of the kernel directly where it is new enough.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

use super::at::{ProcPath, proc_path};
use super::{check, check_len};
use crate::types::errno::{Errno, Result};

/// Most bytes one value or one list can have (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`, `linux/limits.h`).
const SIZE_MAX: usize = 65536;

/// Tried first; values that need more cost a second call.
const SIZE_USUAL: usize = 512;

/// The value of `key`, ENODATA if there is none.
pub fn get(fd: BorrowedFd<'_>, name: Option<&CStr>, key: &CStr) -> Result<Vec<u8>> {
    if let Some(name) = name
        && let Some(outcome) = get_at(fd, name, key)
    {
        return outcome;
    }
    // Without a name the path itself is the magic link to the object, which must be followed.
    let call = if name.is_some() { libc::lgetxattr } else { libc::getxattr };
    let path = proc_path(fd, name)?;
    // SAFETY: both strings end with NUL; the kernel writes at most `len` bytes into `buffer`.
    fill(|buffer, len| unsafe { call(path.as_ptr().cast(), key.as_ptr(), buffer, len) })
}

/// `getxattrat(2)` (Linux 6.13), the same number on every architecture.
const SYS_GETXATTRAT: libc::c_long = 464;

/// `struct xattr_args` of `linux/xattr.h`.
#[repr(C, align(8))]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Whether the kernel has `getxattrat`, as far as is known.
static HAS_GET_AT: AtomicBool = AtomicBool::new(true);

/// In one call, without the way through `/proc`, which costs several times as much; `None` where
/// the kernel cannot, or a filter of system calls forbids it.
fn get_at(fd: BorrowedFd<'_>, name: &CStr, key: &CStr) -> Option<Result<Vec<u8>>> {
    if !HAS_GET_AT.load(Ordering::Relaxed) {
        return None;
    }
    let outcome = fill(|buffer, len| {
        let mut args = XattrArgs { value: buffer as u64, size: u32::try_from(len).unwrap_or(u32::MAX), flags: 0 };
        let (fd, flags, size) = (fd.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW, size_of::<XattrArgs>());
        // SAFETY: both strings end with NUL, `args` is of the size given, and the kernel writes at
        // most `args.size` bytes into the buffer that it names.
        unsafe { libc::syscall(SYS_GETXATTRAT, fd, name.as_ptr(), flags, key.as_ptr(), &raw mut args, size) as isize }
    });
    match outcome {
        Err(Errno::ENOSYS) => {
            HAS_GET_AT.store(false, Ordering::Relaxed);
            None
        }
        Err(Errno::EPERM) => None,
        other => Some(other),
    }
}

/// The names, each ended by NUL, without those that only show in another form what has a name
/// already.
pub fn list(fd: BorrowedFd<'_>, name: Option<&CStr>) -> Result<Vec<u8>> {
    let call = if name.is_some() { libc::llistxattr } else { libc::listxattr };
    let path = proc_path(fd, name)?;
    // SAFETY: the path ends with NUL; the kernel writes at most `len` bytes into `buffer`.
    let list = fill(|buffer, len| unsafe { call(path.as_ptr().cast(), buffer.cast(), len) })?;
    Ok(without_shadows(list))
}

/// XFS shows ACLs to root a second time, as it stores them (`fs/xfs/xfs_xattr.c`). Copied to another
/// filesystem they would be attributes of their own, which go stale with the next change.
const SHADOWS: [&[u8]; 2] = [b"trusted.SGI_ACL_FILE\0", b"trusted.SGI_ACL_DEFAULT\0"];

fn without_shadows(list: Vec<u8>) -> Vec<u8> {
    let is_shadow = |key: &[u8]| SHADOWS.contains(&key);
    let keys = || list.split_inclusive(|byte| *byte == 0);
    if keys().any(is_shadow) { keys().filter(|key| !is_shadow(key)).flatten().copied().collect() } else { list }
}

fn fill(call: impl Fn(*mut libc::c_void, usize) -> isize) -> Result<Vec<u8>> {
    let mut small = [0u8; SIZE_USUAL];
    match check_len(call(small.as_mut_ptr().cast(), small.len())) {
        Ok(len) => return Ok(small[..len].to_vec()),
        Err(Errno::ERANGE) => {}
        Err(other) => return Err(other),
    }
    let mut large = vec![0u8; SIZE_MAX];
    let len = check_len(call(large.as_mut_ptr().cast(), large.len()))?;
    large.truncate(len);
    Ok(large)
}

/// Sets `key`; `flags` as in `setxattr(2)`.
pub fn set(fd: BorrowedFd<'_>, name: Option<&CStr>, key: &CStr, value: &[u8], flags: i32) -> Result<()> {
    let call = if name.is_some() { libc::lsetxattr } else { libc::setxattr };
    let path: ProcPath = proc_path(fd, name)?;
    // SAFETY: both strings end with NUL; the kernel reads `value.len()` bytes of `value`.
    check(unsafe { call(path.as_ptr().cast(), key.as_ptr(), value.as_ptr().cast(), value.len(), flags) }).map(drop)
}

/// Removes `key`, ENODATA if there is none.
pub fn remove(fd: BorrowedFd<'_>, name: Option<&CStr>, key: &CStr) -> Result<()> {
    let call = if name.is_some() { libc::lremovexattr } else { libc::removexattr };
    let path = proc_path(fd, name)?;
    // SAFETY: both strings end with NUL.
    check(unsafe { call(path.as_ptr().cast(), key.as_ptr()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn both_ways_to_a_value_tell_the_same() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let root = crate::sys::by_path::hold(dir.path()).unwrap();
        let root = root.as_fd();
        for value in [b"".to_vec(), b"short".to_vec(), vec![7; 3000]] {
            match set(root, Some(c"file"), c"user.key", &value, 0) {
                Err(Errno::EOPNOTSUPP) => return eprintln!("skipped: no extended attributes here"),
                other => other.unwrap(),
            }
            let held = crate::sys::at::open(root, c"file", crate::sys::at::Flags::HOLD, 0).unwrap();
            assert_eq!(get(held.as_fd(), None, c"user.key"), Ok(value.clone()), "through /proc");
            assert_eq!(get(root, Some(c"file"), c"user.key"), Ok(value.clone()));
            if let Some(outcome) = get_at(root, c"file", c"user.key") {
                assert_eq!(outcome, Ok(value));
            }
        }
        assert_eq!(get(root, Some(c"link"), c"user.key"), Err(Errno::ENODATA), "a link is not followed");
        assert_eq!(get(root, Some(c"absent"), c"user.key"), Err(Errno::ENOENT));
    }
}
