//! Keys of the type `user` in the kernel's keyrings: what `keyctl add user NAME …` stores.

use std::ffi::CStr;

use nix::libc;

use super::secret::Secret;
use crate::types::errno::{Errno, Result};

/// ENOKEY: no such key is there.
pub const NO_KEY: Errno = Errno(libc::ENOKEY);

const LINK: libc::c_long = 8;
const READ: libc::c_long = 11;
const PROCESS_KEYRING: libc::c_long = -2;
const USER_KEYRING: libc::c_long = -4;

/// The bytes of the key `description`, at most `len_max` of them, from the keyrings of this session
/// and of this user.
///
/// # Errors
/// [`NO_KEY`] where there is none, also where the kernel has no keyrings; EFBIG where it is longer;
/// else what `request_key(2)` and `keyctl(2)` say.
pub fn read(description: &CStr, len_max: usize) -> Result<Secret> {
    // A service of systemd has a session keyring of its own, which leads not to that of the user.
    // Failing leaves what the session has.
    // SAFETY: takes two numbers.
    unsafe { libc::syscall(libc::SYS_keyctl, LINK, USER_KEYRING, PROCESS_KEYRING) };
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: both texts end with NUL and live for the call; no program is to make the key.
    let found = unsafe { libc::syscall(libc::SYS_request_key, c"user".as_ptr(), description.as_ptr(), nothing, 0) };
    let key = match answer(found) {
        Err(Errno::ENOSYS) => return Err(NO_KEY),
        other => other?,
    };
    let mut secret = Secret::zeroed(len_max);
    let room = secret.as_mut_slice();
    // SAFETY: the kernel writes at most `room.len()` bytes to `room`.
    let len = answer(unsafe { libc::syscall(libc::SYS_keyctl, READ, key, room.as_mut_ptr(), room.len()) })?;
    let len = usize::try_from(len).map_err(|_| Errno::EOVERFLOW)?;
    if len > len_max {
        return Err(Errno::EFBIG);
    }
    secret.truncate(len);
    Ok(secret)
}

fn answer(result: libc::c_long) -> Result<libc::c_long> {
    if result < 0 { Err(super::last()) } else { Ok(result) }
}
