//! POSIX ACLs that a new file or directory has from the default ACL of the one above it (`acl(5)`).

use std::ffi::CStr;

use super::{Dir, File};
use crate::types::errno::{Errno, Result};

/// Who may do what (`acl(5)`).
pub const ACCESS: &CStr = c"system.posix_acl_access";

/// What new entries of a directory get.
pub const DEFAULT: &CStr = c"system.posix_acl_default";

/// Takes the ACLs of a directory away, but for the `kept`. Whether there was one: then the mode has to be set
/// once more.
///
/// # Errors
/// EPERM for whoever does not own it; what the tier says.
pub fn strip(dir: &dyn Dir, kept: &dyn Fn(&CStr) -> bool) -> Result<bool> {
    let mut stripped = false;
    for key in [ACCESS, DEFAULT].into_iter().filter(|key| !kept(key)) {
        // Looking costs no transaction.
        stripped |= is_there(dir.get_xattr(None, key))? && is_gone(dir.remove_xattr(None, key))?;
    }
    Ok(stripped)
}

/// Takes the ACL of a file away. Whether there was one.
///
/// # Errors
/// As [`strip`].
pub fn strip_file(file: &dyn File) -> Result<bool> {
    Ok(is_there(file.get_xattr(ACCESS))? && is_gone(file.remove_xattr(ACCESS))?)
}

fn is_there(got: Result<Vec<u8>>) -> Result<bool> {
    match got {
        Ok(_) => Ok(true),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EINVAL) => Ok(false),
        Err(other) => Err(other),
    }
}

fn is_gone(removed: Result<()>) -> Result<bool> {
    match removed {
        Err(Errno::ENODATA) => Ok(true),
        other => other.map(|()| true),
    }
}
