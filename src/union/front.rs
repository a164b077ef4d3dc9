//! Who may do what in a directory whose fastest copy is away.
//!
//! The kernel decides that by owner, group and mode as the fastest copy has them. Slower copies may have
//! others: they were given others beside the mount, or a change failed before it came to the fastest. While
//! the fastest is away the mount goes on to say what it said.
//!
//! The access ACL belongs to that: without it, or by another one of a slower copy, a directory could be open to
//! whom it was closed. The default ACL does not: nothing is made while a tier is away.

use super::Union;
use super::dirs::Node;
use super::inodes::Front;
use super::xattrs::ACCESS_ACL;
use crate::types::attr::Stat;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::name::Name;

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

    /// The same where the directory was looked up as `name` in `above`: its access ACL is learned with it.
    pub(super) fn fronted_as(
        &self,
        ino: Ino,
        (above, name): (&Node, &Name),
        copies: &[(Rank, Stat)],
        stat: Stat,
    ) -> Stat {
        if let [(first, _), _, ..] = copies
            && is_fastest(*first, above.missing)
            && let Some(dir) = above.find(*first)
        {
            let changes = self.inodes.acl_changes();
            self.note_acl(ino, *first, changes, &dir.get_xattr(Some(name), ACCESS_ACL));
        }
        self.fronted(ino, above.missing, copies, stat)
    }

    /// The `answer` to a question that was asked when there had been so many `changes`. An error of the tier tells
    /// nothing: what is known stays.
    fn note_acl(&self, ino: Ino, rank: Rank, changes: u64, answer: &Result<Vec<u8>>) {
        match answer {
            Ok(acl) => self.inodes.set_acl(ino, rank, changes, Some(acl.clone())),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => self.inodes.set_acl(ino, rank, changes, None),
            Err(_) => {}
        }
    }

    /// The access ACL of a directory, which is that of its fastest copy also while that is away.
    pub(super) fn access_acl(&self, node: &Node) -> Result<Vec<u8>> {
        let (first, dir) = node.copies().next().ok_or(Errno::EIO)?;
        if is_fastest(first, node.missing) {
            let changes = self.inodes.acl_changes();
            let answer = dir.get_xattr(None, ACCESS_ACL);
            if node.copies().len() > 1 || !node.missing.is_empty() {
                self.note_acl(node.ino, first, changes, &answer);
            }
            return answer;
        }
        match self.inodes.acl(node.ino) {
            Some((rank, acl)) if node.missing.has(rank) && rank < first => acl.map(Vec::from).ok_or(Errno::ENODATA),
            Some(_) | None => dir.get_xattr(None, ACCESS_ACL),
        }
    }

    /// The access ACL of a directory may have changed, on all copies or on some.
    pub(super) fn after_acl(&self, node: &Node) {
        // Nothing is known of one that has a single copy.
        if node.copies().len() > 1 {
            self.inodes.acl_changed(node.ino);
            self.learn_acl(node);
        }
    }

    /// Has the access ACL of a directory known for when a tier is away.
    pub(super) fn learn_acl(&self, node: &Node) {
        if node.copies().len() > 1 {
            // What it says is only to be known.
            let _learned = self.access_acl(node);
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
