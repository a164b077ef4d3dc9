//! What a scan knows of one file: all that a policy decides by and a report counts.

use super::attr::Stat;
use super::ids::Rank;
use super::path::UnionPath;

/// A regular file as a scan comes by it, without memory of its own.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its directory in the union.
    pub dir: &'a UnionPath,
    /// Its name there.
    pub name: &'a [u8],
    /// The tier it is on.
    pub rank: Rank,
    /// Its attributes on that tier.
    pub stat: &'a Stat,
    /// The tier it is pinned to, as far as that is known by now.
    pub pin: Option<Rank>,
}

impl Seen<'_> {
    /// To keep.
    pub fn facts(&self) -> Facts {
        Facts { path: self.dir.join(self.name), rank: self.rank, stat: *self.stat, pin: self.pin }
    }
}

/// One regular file on one tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where it is in the union.
    pub path: UnionPath,
    /// The tier it is on.
    pub rank: Rank,
    /// Its attributes on that tier. `blocks` × 512 is what it takes there.
    pub stat: Stat,
    /// The tier it is pinned to, by its own pin or the nearest directory's above it.
    pub pin: Option<Rank>,
}
