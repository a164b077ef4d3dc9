//! Numbers that must not be mistaken for one another.

use std::fmt;

/// How many tiers a union can have: ranks fit one byte-wide mask.
pub const TIERS_MAX: usize = 8;

/// A tier's place in the union, 0 the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(pub u8);

impl Rank {
    /// The primary.
    pub const PRIMARY: Rank = Rank(0);

    /// Reads what [`Rank`]'s `Display` shows, or a plain number; `None` for anything else and
    /// where no union has so many tiers.
    pub fn parse(word: &str) -> Option<Rank> {
        let number = match word {
            "primary" => "0",
            "secondary" => "1",
            _ => word.strip_prefix("tier").unwrap_or(word),
        };
        // The standard library reads a sign, too.
        let plain = number.bytes().all(|byte| byte.is_ascii_digit());
        let rank = Rank(number.parse().ok().filter(|_| plain)?);
        (rank.index() < TIERS_MAX).then_some(rank)
    }

    /// As an index into a list of tiers.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("primary"),
            1 => f.write_str("secondary"),
            n => write!(f, "tier{n}"),
        }
    }
}

/// An inode number of the union: what `st_ino` shows and what the kernel calls the node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount (`FUSE_ROOT_ID`, `linux/fuse.h`).
    pub const ROOT: Ino = Ino(1);
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// One open file or directory of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fh(pub u64);

/// The ranks on which something exists: bit `n` for rank `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ranks(pub u8);

impl Ranks {
    /// No rank.
    pub const NONE: Ranks = Ranks(0);

    /// Only `rank`.
    pub fn only(rank: Rank) -> Ranks {
        Ranks(1 << rank.0)
    }

    /// With `rank` added.
    pub fn with(self, rank: Rank) -> Ranks {
        Ranks(self.0 | 1 << rank.0)
    }

    /// The ranks in either.
    pub fn or(self, other: Ranks) -> Ranks {
        Ranks(self.0 | other.0)
    }

    /// The ranks in both.
    pub fn and(self, other: Ranks) -> Ranks {
        Ranks(self.0 & other.0)
    }

    /// With `rank` taken out.
    pub fn without(self, rank: Rank) -> Ranks {
        Ranks(self.0 & !(1 << rank.0))
    }

    /// Whether `rank` is in it.
    pub fn has(self, rank: Rank) -> bool {
        self.0 & 1 << rank.0 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The fastest rank in it.
    pub fn fastest(self) -> Option<Rank> {
        self.iter().next()
    }

    /// Fastest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Rank> + Clone {
        (0..8u8).map(Rank).filter(move |r| self.has(*r))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_read_as_it_is_shown_or_as_a_number() {
        for rank in (0..8).map(Rank) {
            assert_eq!(Rank::parse(&rank.to_string()), Some(rank));
            assert_eq!(Rank::parse(&rank.0.to_string()), Some(rank));
        }
        assert_eq!(Rank::parse("tier1"), Some(Rank(1)));
        for bad in ["", "tier", "8", "tier8", "256", "-1", "+1", " 1", "Primary", "primary ", "tiertier1"] {
            assert_eq!(Rank::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ranks_iterate_fastest_first() {
        let ranks = Ranks::only(Rank(3)).with(Rank(0)).with(Rank(7));
        assert_eq!(ranks.iter().collect::<Vec<_>>(), [Rank(0), Rank(3), Rank(7)]);
        assert_eq!(ranks.iter().next_back(), Some(Rank(7)));
        assert_eq!(ranks.without(Rank(0)).fastest(), Some(Rank(3)));
        assert_eq!(ranks.count(), 3);
        assert!(Ranks::NONE.is_empty());
    }
}
