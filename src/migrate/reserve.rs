//! Room on the primary for records and manifests. A run is wanted most when the primary is full, and
//! then not even the few kilobytes could be written that moving something away takes.

use crate::tier::{Dir, Open};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::union::Union;

/// The directory of it in `.tierfs` of the primary.
const DIRECTORY: &str = "reserve";
const FILE: &str = "room";

/// A record of a batch, its manifest, and the blocks of their directories, some times over.
const BYTES: u64 = 2 << 20;

/// Nothing is kept where less than this is free, in bytes.
const PLENTY: u64 = 64 << 20;

/// Keeps the room if it is not kept yet. Without it a run works as long as there is room.
pub(super) fn keep(union: &Union) {
    if union.may_move().is_err() {
        return;
    }
    if let Err(errno) = try_keep(union) {
        tracing::debug!("no room is kept for records on the primary: {errno}");
    }
}

fn try_keep(union: &Union) -> Result<()> {
    // A small or nearly full primary has other uses for its room.
    if union.room(Rank::PRIMARY)? < PLENTY {
        return Ok(());
    }
    let (dir, name) = (union.own_dir(Rank::PRIMARY, DIRECTORY)?, Name::new(FILE.as_bytes())?);
    if dir.stat(Some(&name))?.is_some() {
        return Ok(());
    }
    let file = dir.create(&name, 0o600, Open::Write, &Caller::DAEMON)?;
    file.allocate(0, 0, BYTES).inspect_err(|_| drop_room(dir.as_ref(), &name))
}

/// Does something that writes to the primary; if that is full, the room is given up and it is tried
/// once more.
pub(super) fn with<T>(union: &Union, act: impl Fn() -> Result<T>) -> Result<T> {
    match act() {
        Err(Errno::ENOSPC) => {}
        other => return other,
    }
    if let Some(dir) = union.own_dir_if_any(Rank::PRIMARY, DIRECTORY)? {
        drop_room(dir.as_ref(), &Name::new(FILE.as_bytes())?);
        // Some filesystems free blocks only with their journal.
        dir.fsync()?;
    }
    act()
}

fn drop_room(dir: &dyn Dir, name: &Name) {
    if let Err(errno) = dir.unlink(name)
        && errno != Errno::ENOENT
    {
        tracing::debug!("room for records cannot be given up: {errno}");
    }
}
