//! Reading one file or directory of a tier without a trace.

use std::ffi::{CStr, CString};
use std::time::Duration;

use super::compare::Attributes;
use super::walk::Merged;
use crate::tier::{Dir, File, Open, split_keys};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::union::identity::stamp_key;

/// How often a file is tried to be opened that another program has claimed, and how long between.
pub(super) const OPEN_TRIES_MAX: u32 = 200;
pub(super) const OPEN_RETRY: Duration = Duration::from_millis(25);

pub(super) fn stamp_keys() -> [&'static CStr; 2] {
    [stamp_key(true), stamp_key(false)]
}

pub(super) fn dir_on(merged: &Merged, rank: Rank) -> Result<&dyn Dir> {
    merged.copies.iter().find(|(known, _)| *known == rank).map(|(_, dir)| dir.as_ref()).ok_or(Errno::ENOENT)
}

/// Opens for reading. A file that the migrator has claimed just now is tried again: it lets go of
/// it when it sees that somebody waits.
pub(super) fn open_quietly(dir: &dyn Dir, name: &Name) -> Result<Box<dyn File>> {
    for _ in 0..OPEN_TRIES_MAX {
        match dir.open(name, Open::ReadQuiet) {
            Err(Errno::EAGAIN) => std::thread::sleep(OPEN_RETRY),
            other => return other,
        }
    }
    dir.open(name, Open::ReadQuiet)
}

pub(super) fn list(listed: Result<Vec<u8>>) -> Result<Vec<CString>> {
    match listed {
        Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
        other => other.map(|list| split_keys(&list)),
    }
}

/// The extended attributes of an open file but its stamp.
pub(super) fn attributes(file: &dyn File) -> Result<Attributes> {
    gather(list(file.list_xattr())?, |key| file.get_xattr(key)).map(without_stamps)
}

pub(super) fn of_dir(dir: &dyn Dir) -> Result<Attributes> {
    gather(list(dir.list_xattr(None))?, |key| dir.get_xattr(None, key))
}

fn gather(keys: Vec<CString>, get: impl Fn(&CStr) -> Result<Vec<u8>>) -> Result<Attributes> {
    let mut all = Attributes::new();
    for key in keys {
        match get(&key) {
            Ok(value) => drop(all.insert(key, value)),
            Err(Errno::ENODATA) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(all)
}

pub(super) fn without_stamps(mut all: Attributes) -> Attributes {
    stamp_keys().iter().for_each(|key| drop(all.remove(*key)));
    all
}
