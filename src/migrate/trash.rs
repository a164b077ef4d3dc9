//! The end of a batch: sources that have moved, and copies that got no names, are deleted.

use std::sync::Arc;

use super::reserve;
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
        let mut is_over = true;
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
            if moved && let Some(source) = &source {
                match self.save(ready, source.is_claimed(Excludes::All)) {
                    Save::Needless => {}
                    Save::Done => continue,
                    Save::Failed => {
                        is_over = false;
                        continue;
                    }
                }
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
        // By it the next start saves what the trash has and no copy.
        if is_over
            && let Some((records, name)) = &self.record
            && let Err(errno) = records.unlink(name)
        {
            tracing::warn!(%name, "a record stays behind until the next start: {errno}");
        }
    }

    /// A program may have found the source under its name before it went, and opens it only now: what it
    /// writes there must not be deleted. So the source is kept, also where nobody can tell.
    fn save(&self, ready: &Ready<'_>, claimed: Result<bool>) -> Save {
        let why = match claimed {
            Ok(true) => return Save::Needless,
            Ok(false) => "a program opened a file beside the mount just when it moved".to_owned(),
            Err(errno) => format!("it cannot be told whether a program uses a file that has moved ({errno})"),
        };
        let base = &ready.copied.staged.name;
        // The tier may be full: that is when files leave it.
        let keep = || {
            let (lost, name) = (self.union.own_dir(self.from, LOST)?, trash_name(base, 0)?);
            self.trash.rename(&name, lost.as_ref(), &name, Rename::NoReplace)?;
            lost.fsync()
        };
        let kept = reserve::with(self.union, keep);
        let path = ready.item.path();
        match kept {
            Ok(()) => {
                tracing::warn!(%path, tier = %self.from, "{why}: what it writes there is in .tierfs/lost/{base}.0 of the tier");
                Save::Done
            }
            Err(errno) => {
                tracing::error!(%path, tier = %self.from, "{why}: what it writes there is in .tierfs/trash/{base}.0 of the tier, and the next start saves it: {errno}");
                Save::Failed
            }
        }
    }
}

/// What became of a source that a program may write to.
enum Save {
    /// No program has it.
    Needless,
    Done,
    /// It lies in the trash still.
    Failed,
}
