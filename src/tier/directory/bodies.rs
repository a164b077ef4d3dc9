//! Which number a body has.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;

use crate::sys::stat::Statx;
use crate::types::attr::{Body, Stat, Time};
use crate::types::errno::Result;

/// Nothing has left the tier yet.
pub(super) const NEVER: i64 = i64::MAX;

/// Nanoseconds: longer than a tick of the clock by which filesystems stamp (at most 10 ms).
pub(super) const GIVEN_AHEAD: i64 = 20_000_000;

pub(super) fn nanos(time: Time) -> i64 {
    time.sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nsec))
}

pub(super) fn time_of(nanos: i64) -> Time {
    let nsec = u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
    Time { sec: nanos.div_euclid(1_000_000_000), nsec }
}

pub(super) fn now() -> i64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(NEVER))
}

/// Makes the number of a body.
///
/// A file that moves to another tier takes its number along, and its inode here becomes free for
/// the next file. So that this one does not get the same number, bodies born since the first file
/// left have their birth time mixed in; older ones keep the number they always had.
#[derive(Debug)]
pub(super) struct Bodies {
    pub(super) seed: u64,
    pub(super) root_dev: u64,
    /// Nanoseconds since 1970: when the first body left with its number.
    pub(super) given: AtomicI64,
    /// Stable ids of filesystems mounted inside the tier, and of btrfs subvolumes.
    pub(super) others: RwLock<HashMap<u64, u64>>,
}

impl Bodies {
    pub(super) fn filesystem(&self, dev: u64, at: impl FnOnce() -> Result<u64>) -> u64 {
        if dev == self.root_dev {
            return 0;
        }
        if let Some(id) = self.others.read().get(&dev) {
            return *id;
        }
        // The device number is a poor second: it may change at the next boot.
        let id = at().unwrap_or(dev);
        self.others.write().insert(dev, id);
        id
    }

    pub(super) fn body(&self, filesystem: u64, ino: u64) -> Body {
        Body(mix(mix(self.seed ^ filesystem) ^ ino))
    }

    pub(super) fn stat(&self, raw: &Statx, fsid: impl FnOnce() -> Result<u64>) -> Stat {
        let born = raw.btime.unwrap_or_default();
        let birth = mix(born.sec.cast_unsigned() ^ mix(u64::from(born.nsec)));
        let late = raw.btime.is_some() && nanos(born) >= self.given.load(Ordering::Acquire);
        let first = self.body(self.filesystem(raw.dev, fsid), raw.ino);
        Stat {
            body: if late { Body(mix(first.0 ^ birth)) } else { first },
            // 0 says that nothing tells this body from a later one under the same inode number.
            generation: raw.btime.map_or(0, |_| u32::try_from(birth & 0x7fff_ffff).unwrap_or(1).max(1)),
            mode: raw.mode,
            nlink: raw.nlink,
            uid: raw.uid,
            gid: raw.gid,
            rdev: raw.rdev,
            size: raw.size,
            blocks: raw.blocks,
            blksize: raw.blksize,
            atime: raw.atime,
            mtime: raw.mtime,
            ctime: raw.ctime,
        }
    }
}

/// A bijection that spreads every bit over all: the finaliser of MurmurHash3, by Austin Appleby,
/// after an odd increment so that zero does not map to itself. Never change it: inode numbers of
/// every mount come from it.
#[must_use]
pub fn mix(word: u64) -> u64 {
    let mut x = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}
