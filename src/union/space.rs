//! Space: what `statfs` tells, and whether a tier takes new files.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{MinFree, SpaceOf, Union};
use crate::types::attr::Space;
use crate::types::errno::Result;
use crate::types::ids::Rank;

/// How long an answer about free space holds, in milliseconds: a create must not pay for it.
const FRESH_MS: u64 = 1000;

/// Whether tiers are below their `min_free`, as last seen.
#[derive(Debug)]
pub(super) struct Room {
    start: Instant,
    /// For each rank the time of the last look in milliseconds, shifted, with the answer below.
    seen: Vec<AtomicU64>,
}

impl Room {
    pub(super) fn new(tiers: usize) -> Room {
        Room { start: Instant::now(), seen: (0..tiers).map(|_| AtomicU64::new(0)).collect() }
    }

    fn get(&self, rank: Rank, look: impl FnOnce() -> bool) -> bool {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX >> 1) + FRESH_MS + 1;
        let Some(slot) = self.seen.get(rank.index()) else { return false };
        let seen = slot.load(Ordering::Relaxed);
        if now.saturating_sub(seen >> 1) < FRESH_MS {
            return seen & 1 != 0;
        }
        let low = look();
        slot.store(now << 1 | u64::from(low), Ordering::Relaxed);
        low
    }
}

/// Whether less than `min_free` is left, so that new files go elsewhere.
pub fn is_low(space: &Space, min_free: MinFree) -> bool {
    let unit = u64::from(space.frsize.max(1));
    match min_free {
        MinFree::Bytes(bytes) => space.bavail.saturating_mul(unit) < bytes,
        MinFree::Percent(percent) => u128::from(space.bavail) * 100 < u128::from(space.blocks) * u128::from(percent),
    }
}

impl Union {
    /// Whether `rank` should get no more new files.
    pub(super) fn is_low(&self, rank: Rank) -> bool {
        let Some(slot) = self.slots.get(rank.index()) else { return false };
        if matches!(slot.min_free, MinFree::Bytes(0) | MinFree::Percent(0)) {
            return false;
        }
        let Some(tier) = &slot.tier else { return true };
        self.room.get(rank, || tier.space().is_ok_and(|space| is_low(&space, slot.min_free)))
    }

    /// Bytes that moved files may take on `rank` above what it keeps free, and whether it has room
    /// for more files at all: 0 if not.
    ///
    /// # Errors
    /// What the tier says.
    pub fn room(&self, rank: Rank) -> Result<u64> {
        let space = self.tier(rank)?.space()?;
        let unit = u64::from(space.frsize.max(1));
        let keep = match self.slots.get(rank.index()).map(|slot| slot.min_free) {
            Some(MinFree::Bytes(bytes)) => bytes,
            Some(MinFree::Percent(percent)) => {
                let keep = u128::from(space.blocks) * u128::from(percent) / 100 * u128::from(unit);
                u64::try_from(keep).unwrap_or(u64::MAX)
            }
            None => 0,
        };
        // A filesystem that makes inodes as it needs them counts none.
        let inodes_gone = space.files > 0 && space.ffree == 0;
        Ok(if inodes_gone { 0 } else { space.bavail.saturating_mul(unit).saturating_sub(keep) })
    }

    /// How many more files the filesystem of `rank` can hold; as many as can be counted where it makes
    /// inodes as it needs them.
    ///
    /// # Errors
    /// What the tier says.
    pub fn files_left(&self, rank: Rank) -> Result<u64> {
        let space = self.tier(rank)?.space()?;
        Ok(if space.files == 0 { u64::MAX } else { space.ffree })
    }

    /// What `statfs(2)` tells.
    ///
    /// # Errors
    /// EIO where the tier asked for is missing; what a tier says.
    pub fn statfs(&self) -> Result<Space> {
        match self.settings.space_of {
            SpaceOf::Tier(rank) => self.tier(rank)?.space(),
            SpaceOf::Sum => {
                let missing = self.missing();
                let present = (0u8..).map(Rank).zip(&self.slots).filter(|(rank, _)| !missing.has(*rank));
                let tiers = present.filter_map(|(_, slot)| slot.tier.as_ref());
                let (told, failed): (Vec<_>, Vec<_>) = tiers.map(|tier| tier.space()).partition(Result::is_ok);
                let spaces: Vec<Space> = told.into_iter().flatten().collect();
                // One that fails is about to be given up: programs that only ask for room go on without it.
                match failed.into_iter().next() {
                    Some(error) if spaces.is_empty() => error,
                    Some(_) | None => Ok(sum(&spaces)),
                }
            }
        }
    }
}

/// Adds filesystems up, each once, in blocks of the first.
fn sum(spaces: &[Space]) -> Space {
    let mut counted: Vec<u64> = Vec::new();
    let mut total: Option<Space> = None;
    for space in spaces {
        if counted.contains(&space.filesystem) {
            continue;
        }
        counted.push(space.filesystem);
        match &mut total {
            None => total = Some(*space),
            Some(total) => {
                let unit = u128::from(total.frsize.max(1));
                let scale = |blocks: u64| {
                    u64::try_from(u128::from(blocks) * u128::from(space.frsize.max(1)) / unit).unwrap_or(u64::MAX)
                };
                total.blocks = total.blocks.saturating_add(scale(space.blocks));
                total.bfree = total.bfree.saturating_add(scale(space.bfree));
                total.bavail = total.bavail.saturating_add(scale(space.bavail));
                total.files = total.files.saturating_add(space.files);
                total.ffree = total.ffree.saturating_add(space.ffree);
                total.namelen = total.namelen.min(space.namelen);
            }
        }
    }
    total.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(filesystem: u64, frsize: u32, blocks: u64) -> Space {
        Space {
            filesystem,
            frsize,
            bsize: frsize,
            blocks,
            bfree: blocks / 2,
            bavail: blocks / 4,
            files: 10,
            ffree: 5,
            namelen: 255,
        }
    }

    #[test]
    fn a_shared_filesystem_counts_once() {
        let total = sum(&[space(1, 4096, 100), space(1, 4096, 100), space(2, 1024, 400)]);
        assert_eq!((total.blocks, total.bfree, total.bavail, total.files), (200, 100, 50, 20));
    }

    #[test]
    fn low_is_less_than_asked_for() {
        let space = space(1, 1024, 400);
        for (min_free, low) in [
            (MinFree::Bytes(100 * 1024), false),
            (MinFree::Bytes(100 * 1024 + 1), true),
            (MinFree::Percent(25), false),
            (MinFree::Percent(26), true),
        ] {
            assert_eq!(is_low(&space, min_free), low, "{min_free:?}");
        }
    }
}
