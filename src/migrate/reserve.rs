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
const PROBE: &str = "probe";

/// A record of a batch, its manifest, and the blocks of their directories, some times over.
const BYTES: u64 = 2 << 20;

/// Nothing is kept where less than this is free, in bytes: what is kept must not be what fills it.
const PLENTY: u64 = 16 << 20;

/// What a run needs at the least before it can free anything, in bytes: the record of a batch, and what
/// the filesystem takes for a directory or two.
const LEAST: u64 = 256 << 10;

/// The room a user has to make where nothing is left to give up, in MiB.
pub const WANTED_MIB: u64 = BYTES >> 20;

/// Keeps the room if it is not kept yet: at the start of a mount and with each run, since the primary may
/// be full when the first run is wanted. Without it a run works as long as there is room.
pub fn keep(union: &Union) {
    if union.tiers() < 2 || union.may_move().is_err() {
        return;
    }
    if let Err(errno) = try_keep(union) {
        tracing::debug!("no room is kept for records on the primary: {errno}");
    }
}

fn try_keep(union: &Union) -> Result<()> {
    // Not above what the mount keeps free: it is just for a primary that has no more than that.
    let space = union.tier_of(Rank::PRIMARY)?.space()?;
    if space.bavail.saturating_mul(u64::from(space.frsize)) < PLENTY {
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

/// Makes sure that a batch can be put on record: room is kept, or there is some.
///
/// # Errors
/// ENOSPC if there is none; what the primary says.
pub(super) fn ensure(union: &Union) -> Result<()> {
    let (dir, probe) = (union.own_dir(Rank::PRIMARY, DIRECTORY)?, Name::new(PROBE.as_bytes())?);
    if dir.stat(Some(&Name::new(FILE.as_bytes())?))?.is_some() {
        return Ok(());
    }
    // A crash may have left one.
    drop_room(dir.as_ref(), &probe);
    let file = dir.create(&probe, 0o600, Open::Write, &Caller::DAEMON)?;
    let found = file.allocate(0, 0, LEAST);
    drop_room(dir.as_ref(), &probe);
    match found {
        // Then the first record tells.
        Err(Errno::EOPNOTSUPP) => Ok(()),
        other => other,
    }
}

fn drop_room(dir: &dyn Dir, name: &Name) {
    if let Err(errno) = dir.unlink(name)
        && errno != Errno::ENOENT
    {
        tracing::debug!("room for records cannot be given up: {errno}");
    }
}
