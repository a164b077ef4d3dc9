//! Who may do what in a directory whose fastest copy is away.
//!
//! The kernel decides that by owner, group and mode as the fastest copy has them. Slower copies may have
//! others: they were given others beside the mount, or a change failed before it came to the fastest. While
//! the fastest is away the mount goes on to say what it said.

use super::Union;
use super::dirs::Node;
use super::inodes::Front;
use crate::types::attr::Stat;
use crate::types::errno::Result;
use crate::types::ids::{Ino, Rank, Ranks};

fn of((rank, stat): &(Rank, Stat)) -> Front {
    Front { rank: *rank, mode: stat.mode, uid: stat.uid, gid: stat.gid }
}

/// What is to be remembered of copies, fastest first: nothing where they say the same.
fn differing(copies: &[(Rank, Stat)]) -> Option<Front> {
    let first = copies.first().map(of)?;
    let differs = |copy: &(Rank, Stat)| Front { rank: first.rank, ..of(copy) } != first;
    copies.iter().any(differs).then_some(first)
}

/// Whether the copy on `first` is the fastest, wherever else there are copies.
fn is_fastest(first: Rank, missing: Ranks) -> bool {
    missing.fastest().is_none_or(|missing| first < missing)
}

impl Union {
    /// The attributes to show of a directory, whose copies are these where `missing` tiers are away.
    pub(super) fn fronted(&self, ino: Ino, missing: Ranks, copies: &[(Rank, Stat)], stat: Stat) -> Stat {
        let Some((first, _)) = copies.first() else { return stat };
        if is_fastest(*first, missing) {
            self.inodes.set_front(ino, differing(copies));
            return stat;
        }
        match self.inodes.front(ino) {
            Some(front) if missing.has(front.rank) && front.rank < *first => {
                Stat { mode: front.mode, uid: front.uid, gid: front.gid, ..stat }
            }
            Some(_) | None => stat,
        }
    }

    /// The attributes of a directory are about to be changed, copy by copy and the fastest last.
    pub(super) fn before_change(&self, node: &Node) -> Result<()> {
        if node.copies().len() > 1 {
            self.inodes.set_front(node.ino, node.stats()?.first().map(of));
        }
        Ok(())
    }
}
