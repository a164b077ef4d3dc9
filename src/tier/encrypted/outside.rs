//! What a change beside the mount means: the storage tells names of ciphertext.

use std::os::fd::{AsFd, BorrowedFd};

use super::names::{FULL_LEN_MAX, Role, role, side_of};
use crate::crypt::names::{DIRIV_NAME, DirIv, LONG_PREFIX, NAME_SUFFIX};
use crate::crypt::volume::Volume;
use crate::sys::at::{self, Flags};
use crate::sys::io;
use crate::tier::Outside;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// More than a side file or an IV has, in bytes.
const TOO_LONG: usize = FULL_LEN_MAX + 1;

/// What a change of `name` in `dir`, a directory of ciphertext, means.
pub(super) fn outside(volume: &Volume, dir: BorrowedFd<'_>, name: &[u8]) -> Outside {
    let names = volume.names();
    if names.is_plain() {
        // Below the root the name of the configuration is one like others; in the root nobody knows of it.
        return Outside::of(name);
    }
    let long = match role(name) {
        // All names are others then.
        Role::Iv => return Outside::Any,
        Role::Conf | Role::Draft => return Outside::Nothing,
        Role::Entry => None,
        Role::Long => Some(name),
        Role::Side => name.strip_suffix(NAME_SUFFIX.as_bytes()),
    };
    let iv = if names.has_dir_ivs() {
        match read(dir, DIRIV_NAME.as_bytes()).ok().and_then(|bytes| DirIv::parse(&bytes).ok()) {
            Some(iv) => iv,
            None => return Outside::Any,
        }
    } else {
        DirIv::ZERO
    };
    let full = match long {
        None => name.to_vec(),
        Some(long) if long.len() <= LONG_PREFIX.len() => return Outside::Nothing,
        Some(long) => match side_of(long).and_then(|side| read(dir, side.as_bytes())) {
            Ok(full) if names.hashed(&full) == long => full,
            Ok(_) | Err(_) => return Outside::Any,
        },
    };
    // What has no valid name is shown to nobody.
    names.decode(&iv, &full).map_or(Outside::Nothing, |name| Outside::of(&name))
}

fn read(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let file = at::open(dir, Name::new(name)?.as_c_str(), Flags::READ, 0)?;
    let mut bytes = vec![0; TOO_LONG];
    let len = io::read_at(file.as_fd(), &mut bytes, 0)?;
    bytes.truncate(len);
    if len == TOO_LONG { Err(Errno::EFBIG) } else { Ok(bytes) }
}
