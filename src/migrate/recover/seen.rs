//! What recovery sees of a batch is made durable before anything is taken away because of it: a process that died
//! leaves names and bytes that no disk has yet.

use std::collections::BTreeSet;

use super::open_below;
use super::repair::Fallible;
use crate::migrate::record::{Record, STAGING, TRASH};
use crate::tier::durable::sync_entry;
use crate::types::errno::Result;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::union::Union;
use crate::union::moving::{LOST, trash_name};

/// Both tiers as a whole. One that cannot be synced so: every file of the record wherever it may be, and the
/// directories it may be in.
pub(super) fn make_durable(union: &Union, record: &Record) -> Fallible<()> {
    for rank in [record.to, record.from] {
        on_tier(union, record, rank).map_err(|errno| (rank, errno))?;
    }
    Ok(())
}

fn on_tier(union: &Union, record: &Record, rank: Rank) -> Result<()> {
    let tier = union.tier_of(rank)?;
    if let Some(whole) = tier.syncing()? {
        return union.sync_whole(rank, whole.as_ref());
    }
    let root = tier.root();
    let mut dirs: BTreeSet<UnionPath> = BTreeSet::new();
    for path in record.files.iter().flat_map(|file| &file.names) {
        let Some((above, name)) = path.split() else { continue };
        if let Some(dir) = open_below(&root, &above)? {
            sync_entry(dir.as_ref(), &name)?;
        }
        dirs.insert(above);
    }
    for own in [STAGING, TRASH, LOST] {
        let Some(dir) = union.own_dir_if_any(rank, own)? else { continue };
        for file in &record.files {
            sync_entry(dir.as_ref(), &file.staged)?;
            for at in 0..file.names.len() {
                sync_entry(dir.as_ref(), &trash_name(&file.staged, at)?)?;
            }
        }
        dir.fsync()?;
    }
    for above in &dirs {
        if let Some(dir) = open_below(&root, above)? {
            dir.fsync()?;
        }
    }
    Ok(())
}
