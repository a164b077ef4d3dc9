//! Extended attributes of the view.
//!
//! gocryptfs keeps each under an encrypted name in the namespace of users, with an encrypted value;
//! ACLs pass as they are, because the kernel must understand them.

use std::ffi::{CStr, CString};

use super::Settings;
use crate::crypt::derive;
use crate::tier::split_keys;
use crate::types::attr::Kind;
use crate::types::errno::{Errno, Result};

/// The names under which the attributes `list` of a thing of this kind are shown, each ended by NUL.
pub(super) fn list(settings: &Settings, kind: Kind, list: &[u8]) -> Vec<u8> {
    let mut shown = Vec::new();
    for key in split_keys(list) {
        if is_acl(&key) {
            shown.extend(key.into_bytes_with_nul());
            continue;
        }
        // Attributes of users are for files and directories only (`xattr(7)`).
        if !matches!(kind, Kind::File | Kind::Dir) || is_own(&key) {
            continue;
        }
        match settings.names().encode_xattr(key.to_bytes()) {
            Ok(stored) => shown.extend(stored.into_iter().chain([0])),
            Err(errno) => tracing::warn!("the attribute {key:?} is not in the view: its name is too long: {errno}"),
        }
    }
    shown
}

/// The value of the attribute shown as `key`, of a thing whose numbers follow from `seed`; `get`
/// reads one of the source.
pub(super) fn get(
    settings: &Settings,
    key: &CStr,
    seed: impl FnOnce() -> Result<Vec<u8>>,
    get: impl FnOnce(&CStr) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    if is_acl(key) {
        return get(key);
    }
    let plain = settings.names().decode_xattr(key.to_bytes()).map_err(|_| Errno::ENODATA)?;
    let plain = CString::new(plain).map_err(|_| Errno::ENODATA)?;
    if is_own(&plain) {
        return Err(Errno::ENODATA);
    }
    let value = get(&plain)?;
    if value.is_empty() {
        return Ok(value);
    }
    let nonce = derive::xattr_nonce(&seed()?, key.to_bytes());
    settings.volume.content().seal_value_with(&nonce, &value)
}

fn is_acl(key: &CStr) -> bool {
    key == c"system.posix_acl_access" || key == c"system.posix_acl_default"
}

/// What tierfs keeps on a tier for itself concerns that tier alone.
fn is_own(key: &CStr) -> bool {
    let key = key.to_bytes();
    key.starts_with(b"user.tierfs.") || key.starts_with(b"trusted.tierfs.")
}
