//! The end of a batch: sources that have moved, and copies that got no names, are deleted.

use std::sync::Arc;

use super::stage::discard;
use super::swap::{Outcome, Ready};
use crate::tier::{Dir, File, Rename};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::lease::Excludes;
use crate::types::name::Name;
use crate::union::Union;
use crate::union::moving::{LOST, trash_name};

/// What a batch leaves when its record has gone.
#[derive(Debug)]
pub(super) struct Leftovers<'u> {
    pub(super) union: &'u Union,
    /// The tier the files have left.
    pub(super) from: Rank,
    pub(super) batch: Vec<Ready<'u>>,
    pub(super) outcomes: Vec<Outcome>,
    /// Whether the record has gone. Else the next start needs what lies in the trash.
    pub(super) at_rest: bool,
    /// Claims on sources in the trash, until they are deleted.
    pub(super) sources: Vec<Option<Box<dyn File>>>,
    pub(super) staging: Arc<dyn Dir>,
    pub(super) trash: Arc<dyn Dir>,
    /// By which the next start knows what may be deleted, should this not come to its end.
    pub(super) record: Option<(Arc<dyn Dir>, Name)>,
}

impl Leftovers<'_> {
    /// Deletes what is left of the sources, and copies that got no names.
    pub(super) fn delete(mut self) {
        if !self.at_rest {
            return;
        }
        for at in 0..self.batch.len() {
            let ready = &self.batch[at];
            let base = &ready.copied.staged.name;
            let moved = self.outcomes[at] == Outcome::Moved;
            if !moved {
                discard(self.staging.as_ref(), base);
            }
            // A copy that was taken back lies under the names of links, too.
            let dir = if moved { &self.trash } else { &self.staging };
            let source = self.sources[at].take();
            if moved
                && let Some(source) = &source
                && !self.is_unused(ready, source.is_claimed(Excludes::All))
            {
                continue;
            }
            for link in 0..ready.names.len() {
                let gone = trash_name(base, link).and_then(|name| dir.unlink(&name));
                if let Err(errno) = gone
                    && errno != Errno::ENOENT
                {
                    tracing::warn!(name = %base, "a moved file stays behind in .tierfs until the next start: {errno}");
                }
            }
        }
        if let Some((records, name)) = &self.record
            && let Err(errno) = records.unlink(name)
        {
            tracing::warn!(%name, "a record stays behind until the next start: {errno}");
        }
    }

    /// A program may have found the source under its name before it went, and opens it only now: what it
    /// writes there must not be deleted. So the source is kept, also where nobody can tell.
    fn is_unused(&self, ready: &Ready<'_>, claimed: Result<bool>) -> bool {
        let why = match claimed {
            Ok(true) => return true,
            Ok(false) => "a program opened a file beside the mount just when it moved".to_owned(),
            Err(errno) => format!("it cannot be told whether a program uses a file that has moved ({errno})"),
        };
        let base = &ready.copied.staged.name;
        let kept = self.union.own_dir(self.from, LOST).and_then(|lost| {
            let name = trash_name(base, 0)?;
            self.trash.rename(&name, lost.as_ref(), &name, Rename::NoReplace)?;
            lost.fsync()
        });
        let path = ready.item.path();
        match kept {
            Ok(()) => {
                tracing::warn!(%path, tier = %self.from, "{why}: what it writes there is in .tierfs/lost/{base}.0 of the tier");
            }
            Err(errno) => {
                tracing::error!(%path, tier = %self.from, "{why}: save what it writes from .tierfs/trash/{base}.0 of the tier before the next start: {errno}");
            }
        }
        false
    }
}
