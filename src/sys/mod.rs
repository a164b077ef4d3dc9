//! Every system call and every `unsafe` of tierfs.
//!
//! The wrappers impose what is safe for a union that strangers write into: no call follows a
//! symbolic link in its last component, every descriptor is close-on-exec, EINTR is retried, and a
//! file is named by a directory descriptor and one component, never by a path.

use crate::types::errno::{Errno, Result};

pub mod ability;
pub mod accounts;
pub mod aead;
pub mod at;
pub mod by_path;
pub mod clock;
pub mod creds;
pub mod device;
pub mod dirents;
pub mod durable;
pub mod fanotify;
pub mod fusermount;
pub mod io;
pub mod keyring;
pub mod lease;
pub mod limits;
pub mod local;
pub mod manager;
pub mod mount;
pub mod mountinfo;
pub mod overlap;
pub mod process;
pub mod random;
pub mod secret;
pub mod signal;
pub mod stat;
pub mod terminal;
pub mod tree;
pub mod users_of;
pub mod xattr;

/// Turns the -1 of a system call into its errno.
fn check(result: i32) -> Result<i32> {
    if result < 0 { Err(last()) } else { Ok(result) }
}

/// The same for calls that return a length.
fn check_len(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_| last())
}

/// Repeats `call` while a signal interrupts it.
fn retry(mut call: impl FnMut() -> i32) -> Result<i32> {
    loop {
        match check(call()) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// A number of the kernel, never negative, for which C libraries have different types.
fn word(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or(0)
}

fn last() -> Errno {
    Errno(nix::errno::Errno::last_raw())
}
