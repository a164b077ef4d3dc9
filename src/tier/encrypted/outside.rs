//! What a change beside the mount means: the storage tells names of ciphertext.

use std::os::fd::{AsFd, BorrowedFd};

use super::names::{Role, role, side_of};
use crate::crypt::names::{CONF_NAME, DIRIV_NAME, DirIv, LONG_PREFIX, NAME_SUFFIX};
use crate::crypt::volume::Volume;
use crate::sys::at::{self, Flags};
use crate::sys::io;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// More than a side file or an IV has, in bytes.
const SIDE_LEN_MAX: usize = 345;

/// What changed in a directory whose storage names a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outside {
    /// The entry of this name.
    Entry(Vec<u8>),
    /// All names of the directory may have: its IV was changed.
    Directory,
    /// Something that nobody sees.
    Nothing,
    /// An entry whose name cannot be told any more: all that is known of the directory is to be forgotten.
    Unknown,
}

/// What a change of `name` in `dir`, a directory of ciphertext, means.
pub fn outside(volume: &Volume, dir: BorrowedFd<'_>, name: &[u8]) -> Outside {
    let names = volume.names();
    if names.is_plain() {
        return if name == CONF_NAME.as_bytes() { Outside::Nothing } else { Outside::Entry(name.to_vec()) };
    }
    let long = match role(name) {
        Role::Iv => return Outside::Directory,
        Role::Conf | Role::Draft => return Outside::Nothing,
        Role::Entry => None,
        Role::Long => Some(name),
        Role::Side => name.strip_suffix(NAME_SUFFIX.as_bytes()),
    };
    let iv = if names.has_dir_ivs() {
        match read(dir, DIRIV_NAME.as_bytes()).ok().and_then(|bytes| DirIv::parse(&bytes).ok()) {
            Some(iv) => iv,
            None => return Outside::Unknown,
        }
    } else {
        DirIv::ZERO
    };
    let full = match long {
        None => name.to_vec(),
        Some(long) if long.len() <= LONG_PREFIX.len() => return Outside::Nothing,
        Some(long) => match side_of(long).and_then(|side| read(dir, side.as_bytes())) {
            Ok(full) if names.hashed(&full) == long => full,
            Ok(_) | Err(_) => return Outside::Unknown,
        },
    };
    // What has no valid name is shown to nobody.
    names.decode(&iv, &full).map_or(Outside::Nothing, Outside::Entry)
}

fn read(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let file = at::open(dir, Name::new(name)?.as_c_str(), Flags::READ, 0)?;
    let mut bytes = vec![0; SIDE_LEN_MAX];
    let len = io::read_at(file.as_fd(), &mut bytes, 0)?;
    bytes.truncate(len);
    if len == SIDE_LEN_MAX { Err(Errno::EFBIG) } else { Ok(bytes) }
}
