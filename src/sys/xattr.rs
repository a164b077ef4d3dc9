//! Extended attributes of `(directory, Some(name))` or of a descriptor itself (`None`).
//!
//! The calls go through `/proc/self/fd`, which works for descriptors held with `O_PATH` and for
//! names of any depth; the `l` forms never follow a link in the last component.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

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
    // Without a name the path itself is the magic link to the object, which must be followed.
    let call = if name.is_some() { libc::lgetxattr } else { libc::getxattr };
    let path = proc_path(fd, name)?;
    // SAFETY: both strings end with NUL; the kernel writes at most `len` bytes into `buffer`.
    fill(|buffer, len| unsafe { call(path.as_ptr().cast(), key.as_ptr(), buffer, len) })
}

/// The names, each ended by NUL.
pub fn list(fd: BorrowedFd<'_>, name: Option<&CStr>) -> Result<Vec<u8>> {
    let call = if name.is_some() { libc::llistxattr } else { libc::listxattr };
    let path = proc_path(fd, name)?;
    // SAFETY: the path ends with NUL; the kernel writes at most `len` bytes into `buffer`.
    fill(|buffer, len| unsafe { call(path.as_ptr().cast(), buffer.cast(), len) })
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
