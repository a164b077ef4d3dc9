//! What only an encrypted tier can have wrong: names, targets and attributes that do not decrypt.

use super::entry::{Look, Seen};
use super::read::dir_on;
use super::walk::Merged;
use super::{Finding, What};
use crate::tier::Dir;
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::types::path::UnionPath;

impl Look<'_> {
    /// Whether every byte on a tier is read, and each can be damaged in a way that shows.
    pub(super) fn reads_ciphertext(&self, rank: Rank) -> bool {
        self.data.is_some() && self.tiers.iter().any(|tier| tier.rank == rank && tier.is_encrypted)
    }

    /// Whether an entry is one of those that [`What::Nameless`] tells.
    pub(super) fn is_nameless(&self, rank: Rank, dir: &dyn Dir, stored: &[u8]) -> bool {
        let mut is_nameless = false;
        let is_encrypted = self.tiers.iter().any(|tier| tier.rank == rank && tier.is_encrypted);
        is_encrypted && dir.list_damaged(&mut |name, _| is_nameless |= name == stored).is_ok() && is_nameless
    }

    /// Reads where a link leads, which sets its access time.
    pub(super) fn target(&self, merged: &Merged, name: &[u8], rank: Rank, seen: &mut Seen<'_>) {
        let read = Name::new(name).and_then(|name| dir_on(merged, rank)?.readlink(&name));
        match read {
            // It is something else by now.
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(errno) => self.failed(merged.path.join(name), rank, errno, "reading the target of the link", seen),
        }
    }

    /// What is in the storage and has no name.
    pub(super) fn names(&self, path: &dyn Fn() -> UnionPath, rank: Rank, dir: &dyn Dir, seen: &mut Seen<'_>) {
        let read = dir.list_damaged(&mut |stored, why| {
            let what = What::Nameless { rank, stored: stored.to_vec(), why };
            seen.findings.push(Finding { path: path(), what });
        });
        if let Err(errno) = read {
            self.failed(path(), rank, errno, "reading the directory", seen);
        }
    }
}
