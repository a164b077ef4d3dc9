//! One component of a path, checked once.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use crate::types::errno::Errno;

/// The longest name a Linux filesystem takes (`NAME_MAX`, `linux/limits.h`), in bytes.
pub const NAME_MAX: usize = 255;

/// The directory in every tier root that belongs to tierfs; invisible through the mount.
pub const PRIVATE_DIR: &str = ".tierfs";

/// A file name: 1 to 255 bytes, neither `.` nor `..`, no `/`, no NUL. Any other bytes.
///
/// Kept with its terminating NUL on the stack, so that no request needs memory for a name.
#[derive(Clone)]
pub struct Name {
    len: u8,
    bytes: [u8; NAME_MAX + 1],
}

impl Name {
    /// Checks `raw`.
    ///
    /// # Errors
    /// ENAMETOOLONG for more than 255 bytes, EINVAL for anything else that is no name.
    pub fn new(raw: &[u8]) -> Result<Name, Errno> {
        let len = u8::try_from(raw.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        if raw.is_empty() || raw == b"." || raw == b".." || raw.iter().any(|b| matches!(b, 0 | b'/')) {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; NAME_MAX + 1];
        bytes[..raw.len()].copy_from_slice(raw);
        Ok(Name { len, bytes })
    }

    /// The bytes, without the NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// For the standard library.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(self.as_bytes())
    }

    /// For a system call.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes[..=usize::from(self.len)]).unwrap_or(c"")
    }

    /// Whether this is tierfs's own directory in a tier root.
    pub fn is_private(&self) -> bool {
        self.as_bytes() == PRIVATE_DIR.as_bytes()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl TryFrom<&OsStr> for Name {
    type Error = Errno;

    fn try_from(raw: &OsStr) -> Result<Name, Errno> {
        Name::new(raw.as_bytes())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_os_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_os_str().display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert_eq!(Name::new(bad), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(Name::new(&[b'x'; 256]), Err(Errno::ENAMETOOLONG));
        for good in [&b"a"[..], b"...", b"\xff\xfe", &[b'x'; 255]] {
            let name = Name::new(good).unwrap();
            assert_eq!(name.as_bytes(), good);
            assert_eq!(name.as_c_str().to_bytes(), good);
        }
    }
}
