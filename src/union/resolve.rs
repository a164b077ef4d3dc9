//! What the tiers hold under one name.
//!
//! The visible copy is the one on the fastest tier. Directories that lie on each other without
//! anything else between are one merged directory. Below a non-directory everything of its name is
//! shadowed, and so is a non-directory below a directory.

use super::dirs::Node;
use super::{Union, merge};
use crate::stats::touch;
use crate::types::attr::Stat;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Rank, Ranks};
use crate::types::name::Name;

/// The visible side of a name.
#[derive(Debug)]
pub(super) enum Resolution {
    /// No tier has it.
    Absent,
    /// Anything but a directory.
    File(Rank, Stat),
    /// The copies of a directory, fastest first; never empty.
    Dir(Vec<(Rank, Stat)>),
}

impl Resolution {
    /// The ranks of the visible side.
    pub(super) fn ranks(&self) -> Ranks {
        match self {
            Resolution::Absent => Ranks::NONE,
            Resolution::File(rank, _) => Ranks::only(*rank),
            Resolution::Dir(copies) => copies.iter().fold(Ranks::NONE, |ranks, (rank, _)| ranks.with(*rank)),
        }
    }
}

/// All copies of one name.
#[derive(Debug)]
pub(super) struct Copies {
    pub visible: Resolution,
    /// Shadowed copies, fastest first.
    pub shadowed: Vec<(Rank, Stat)>,
}

impl Copies {
    /// Whether a file hides a directory or the reverse. Removing the visible side would bring up
    /// something the user never saw under this name, and removing both would delete it.
    pub(super) fn in_conflict(&self) -> bool {
        let visible_is_dir = matches!(self.visible, Resolution::Dir(_));
        self.shadowed.iter().any(|(_, stat)| visible_is_dir || stat.is_dir())
    }
}

impl Union {
    /// The visible side of `name` in `node`, with as few looks at tiers as that takes.
    ///
    /// EIO, never absence, where a tier might hold it that was missing when `node` was opened.
    pub(super) fn resolve(&self, node: &Node, name: &Name) -> Result<Resolution> {
        let mut dirs = Vec::new();
        for (rank, dir) in node.copies() {
            touch(rank);
            let Some(stat) = self.look(node, rank, dir.stat(Some(name)))? else { continue };
            if dirs.is_empty() && node.missing.fastest().is_some_and(|missing| missing < rank) {
                return Err(Errno::EIO);
            }
            if stat.is_dir() {
                dirs.push((rank, stat));
            } else if dirs.is_empty() {
                return Ok(Resolution::File(rank, stat));
            } else {
                break;
            }
        }
        if !dirs.is_empty() {
            return Ok(Resolution::Dir(dirs));
        }
        if !node.missing.is_empty() { Err(Errno::EIO) } else { Ok(Resolution::Absent) }
    }

    /// All copies of `name` in `node`, for whoever changes it.
    pub(super) fn copies(&self, node: &Node, name: &Name) -> Result<Copies> {
        self.may_change_in(node)?;
        let mut found = Vec::new();
        for (rank, dir) in node.copies() {
            touch(rank);
            found.extend(self.look(node, rank, dir.stat(Some(name)))?.map(|stat| (rank, stat)));
        }
        Ok(sort(found))
    }

    /// A tier's answer, with its own directory in the root taken out by the caller.
    fn look(&self, node: &Node, rank: Rank, answer: Result<Option<Stat>>) -> Result<Option<Stat>> {
        answer.inspect_err(|errno| {
            tracing::warn!(tier = %rank, dir = %node.ino, "cannot look up a name: {errno}");
        })
    }

    /// Attributes of a merged directory.
    pub(super) fn merged(&self, copies: &[(Rank, Stat)]) -> Result<Stat> {
        if let [(_, only)] = copies {
            return Ok(*only);
        }
        let stats: Vec<Stat> = copies.iter().map(|(_, stat)| *stat).collect();
        merge(&stats).ok_or(Errno::EIO)
    }
}

/// Splits copies, fastest first, into the visible side and the rest.
fn sort(found: Vec<(Rank, Stat)>) -> Copies {
    let mut rest = found.into_iter().peekable();
    let Some((rank, first)) = rest.next() else {
        return Copies { visible: Resolution::Absent, shadowed: Vec::new() };
    };
    if !first.is_dir() {
        return Copies { visible: Resolution::File(rank, first), shadowed: rest.collect() };
    }
    let mut dirs = vec![(rank, first)];
    while let Some(copy) = rest.next_if(|(_, stat)| stat.is_dir()) {
        dirs.push(copy);
    }
    Copies { visible: Resolution::Dir(dirs), shadowed: rest.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::attr::{Body, Kind, Time};

    fn stat(kind: Kind) -> Stat {
        Stat {
            body: Body(5),
            generation: 0,
            mode: kind.mode(),
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            blksize: 4096,
            atime: Time::default(),
            mtime: Time::default(),
            ctime: Time::default(),
        }
    }

    #[test]
    fn a_non_directory_ends_the_merge() {
        // Kinds by rank; ranks of the visible side; number shadowed; conflict.
        let table: [(&[Option<Kind>], u8, usize, bool); 7] = [
            (&[None, None], 0, 0, false),
            (&[None, Some(Kind::File)], 0b10, 0, false),
            (&[Some(Kind::File), Some(Kind::File)], 0b01, 1, false),
            (&[Some(Kind::Dir), Some(Kind::Dir)], 0b11, 0, false),
            (&[Some(Kind::Dir), Some(Kind::Symlink), Some(Kind::Dir)], 0b001, 2, true),
            (&[Some(Kind::File), Some(Kind::Dir)], 0b01, 1, true),
            (&[Some(Kind::Dir), None, Some(Kind::Dir)], 0b101, 0, false),
        ];
        for (kinds, ranks, shadowed, conflict) in table {
            let found = (0u8..).zip(kinds).filter_map(|(n, kind)| Some((Rank(n), stat((*kind)?)))).collect();
            let copies = sort(found);
            assert_eq!(copies.visible.ranks(), Ranks(ranks), "{kinds:?}");
            assert_eq!(copies.shadowed.len(), shadowed, "{kinds:?}");
            assert_eq!(copies.in_conflict(), conflict, "{kinds:?}");
        }
    }
}
