//! Taking away what no program sees: hidden copies that are equal to the visible one, and differing
//! metadata on the slower copies of a directory.

use super::steps::{aside, put_back, undone};
use super::{Link, Refused, Subject, Walked};
use crate::tier::{Dir, File};
use crate::types::attr::{SetAttr, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::lease::Excludes;
use crate::types::name::Name;
use crate::union::Union;

/// A hidden copy that was found equal to the visible one.
#[derive(Debug)]
pub struct Duplicate<'a> {
    /// Its tier.
    pub rank: Rank,
    /// Open for reading, and claimed against everybody since before it was compared.
    pub file: &'a dyn File,
    /// Its attributes when it was claimed.
    pub stat: Stat,
}

/// How often the slower copies of a directory are set again because the fastest changed meanwhile.
const LEVEL_TRIES_MAX: usize = 4;

impl Union {
    /// Takes the hidden copy `duplicate` of the name in `link` aside into `trash` under `base`, where
    /// the caller deletes it. `visible` is the copy it was compared with, open and claimed against
    /// writers since before that.
    ///
    /// `at_rest` is asked while nobody can change names in the directory: whether no move is on record.
    /// A move puts equal hidden copies there on purpose.
    ///
    /// # Errors
    /// [`Refused`]: everything is as it was.
    pub fn take_duplicate(
        &self,
        link: Link<'_>,
        subject: &Subject<'_>,
        visible: &dyn File,
        duplicate: &Duplicate<'_>,
        trash: (&dyn Dir, &Name),
        at_rest: &dyn Fn() -> Result<bool>,
    ) -> std::result::Result<(), Refused> {
        self.may_change_names()?;
        let taken = self.with_names_closed(&[link.dir], duplicate.rank, &|_| {}, |_closed| {
            let _closed_file = self.gates.close_file(subject.identity.0);
            if !at_rest()? {
                return Err(Refused::InUse);
            }
            let node = link.dir.node()?;
            let now = self.copies(&node, link.name)?;
            let ours = now.shadowed.iter().find(|(rank, _)| *rank == duplicate.rank);
            if now.in_conflict() || !ours.is_some_and(|(_, stat)| stat.is_version(&duplicate.stat)) {
                return Err(Refused::Changed);
            }
            check_claims(link, subject, visible, duplicate)?;
            let links = [link];
            aside(duplicate.rank, &links, &duplicate.stat, (trash.1, trash.0))?;
            let same = duplicate.file.stat()?.is_version_but_ctime(&duplicate.stat);
            match check_claims(link, subject, visible, duplicate) {
                Ok(()) if same => Ok(()),
                outcome => undone(outcome.err().unwrap_or(Refused::Changed), || {
                    put_back(duplicate.rank, &links, trash.1, trash.0, 1)
                }),
            }
        });
        taken?
    }

    /// Gives every slower copy of a directory the owner, the mode and the extended attributes with
    /// ACLs of the fastest, which are those that programs see. Each keeps its own times. `before` looks at
    /// one before it is changed.
    ///
    /// # Errors
    /// What a tier or `before` says. Some may be set then; setting them again is no harm.
    pub fn level(&self, dir: &Walked<'_>, before: &dyn Fn(Rank, &dyn Dir) -> Result<()>) -> Result<()> {
        self.may_change_names()?;
        let node = dir.node()?;
        let mut copies = node.copies();
        let (_, fastest) = copies.next().ok_or(Errno::EIO)?;
        for (rank, slower) in copies {
            before(rank, slower.as_ref())?;
            for _ in 0..LEVEL_TRIES_MAX {
                let wanted = fastest.stat(None)?.ok_or(Errno::ESTALE)?;
                self.level_one(fastest.as_ref(), &wanted, slower.as_ref())?;
                // A program may have changed both meanwhile, the slower one first.
                if fastest.stat(None)?.is_some_and(|now| now.ctime == wanted.ctime) {
                    break;
                }
            }
            slower.fsync()?;
        }
        Ok(())
    }

    fn level_one(&self, fastest: &dyn Dir, wanted: &Stat, slower: &dyn Dir) -> Result<()> {
        let list = |dir: &dyn Dir| match dir.list_xattr(None) {
            Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
            other => other.map(|list| crate::tier::split_keys(&list)),
        };
        let kept = list(fastest)?;
        for key in list(slower)?.iter().filter(|key| !kept.contains(key) && !self.is_stamp(key)) {
            match slower.remove_xattr(None, key) {
                Ok(()) | Err(Errno::ENODATA) => {}
                Err(other) => return Err(other),
            }
        }
        let own = slower.stat(None)?.ok_or(Errno::ESTALE)?;
        let dressed = Stat { atime: own.atime, mtime: own.mtime, ..*wanted };
        self.copy_attributes(fastest, &dressed, slower)?;
        // An ACL of the one copy may have changed the mode of the other.
        slower.set_attr(None, &SetAttr { mode: Some(wanted.mode), ..SetAttr::default() })
    }
}

fn check_claims(
    link: Link<'_>,
    subject: &Subject<'_>,
    visible: &dyn File,
    duplicate: &Duplicate<'_>,
) -> std::result::Result<(), Refused> {
    let shown = link.dir.copy(subject.rank)?.stat(Some(link.name))?;
    if !shown.is_some_and(|stat| stat.is_version(&subject.stat)) || !visible.stat()?.is_version(&subject.stat) {
        return Err(Refused::Changed);
    }
    if visible.is_claimed(Excludes::Writers)? && duplicate.file.is_claimed(Excludes::All)? {
        return Ok(());
    }
    Err(Refused::InUse)
}
