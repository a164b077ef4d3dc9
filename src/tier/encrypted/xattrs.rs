//! Extended attributes: names and values are encrypted under `user.gocryptfs.`.
//!
//! In clear stay those that the kernel itself reads from the file: ACLs, by which it gives access; file
//! capabilities, which it takes away at each write; and SELinux labels. Attributes of others in the storage,
//! which have another prefix, are not shown.

use std::ffi::{CStr, CString};

use super::Shared;
use crate::crypt::names::XATTR_PREFIX;
use crate::tier::split_keys;
use crate::types::errno::{Errno, Result};

const CLEAR: [&[u8]; 4] =
    [b"system.posix_acl_access", b"system.posix_acl_default", b"security.capability", b"security.selinux"];

fn is_clear(key: &CStr) -> bool {
    CLEAR.contains(&key.to_bytes())
}

/// The name that `key` has in the storage.
///
/// # Errors
/// ERANGE for one that is too long.
pub(super) fn stored_key(shared: &Shared, key: &CStr) -> Result<CString> {
    if is_clear(key) {
        return Ok(key.to_owned());
    }
    let stored = shared.volume.names().encode_xattr(key.to_bytes())?;
    CString::new(stored).map_err(|_| Errno::EINVAL)
}

/// The value of `key`, for which `get` asks the storage. EIO for a damaged one, of which `tell` tells.
pub(super) fn get(
    shared: &Shared,
    key: &CStr,
    get: impl FnOnce(&CStr) -> Result<Vec<u8>>,
    tell: &dyn Fn(&str),
) -> Result<Vec<u8>> {
    let sealed = get(&stored_key(shared, key)?)?;
    if is_clear(key) {
        return Ok(sealed);
    }
    shared.volume.content().open_value(&sealed).map_err(|damage| {
        tell(&format!("the value of its attribute {} is damaged: {damage}", key.to_string_lossy()));
        Errno::EIO
    })
}

/// Has `set` set the stored form of `key` to that of `value`.
pub(super) fn set(
    shared: &Shared,
    key: &CStr,
    value: &[u8],
    set: impl FnOnce(&CStr, &[u8]) -> Result<()>,
) -> Result<()> {
    let stored = stored_key(shared, key)?;
    if is_clear(key) {
        return set(&stored, value);
    }
    set(&stored, &shared.volume.content().seal_value(value)?)
}

/// The names in plaintext of a list from the storage. Damaged ones are left out and told of.
pub(super) fn plain_list(shared: &Shared, list: &[u8], tell: &dyn Fn(&str)) -> Vec<u8> {
    let mut plain = Vec::with_capacity(list.len());
    for key in split_keys(list) {
        if is_clear(&key) {
            plain.extend_from_slice(key.to_bytes_with_nul());
        } else if key.to_bytes().starts_with(XATTR_PREFIX.as_bytes()) {
            match shared.volume.names().decode_xattr(key.to_bytes()) {
                Ok(name) if !name.contains(&0) => {
                    plain.extend_from_slice(&name);
                    plain.push(0);
                }
                Ok(_) => tell(&format!("the name of its attribute {} is damaged", key.to_string_lossy())),
                Err(damage) => {
                    tell(&format!("the name of its attribute {} is damaged: {damage}", key.to_string_lossy()))
                }
            }
        }
    }
    plain
}
