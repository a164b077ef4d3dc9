//! The end of a batch: sources that have moved, and copies that got no names, are deleted.

use super::stage::discard;
use super::swap::{Outcome, Ready, Swap};
use crate::tier::Rename;
use crate::types::errno::Errno;
use crate::types::lease::Excludes;
use crate::union::moving::{LOST, trash_name};

impl Swap<'_, '_> {
    /// What is left of the sources, and copies that got no names.
    pub(super) fn empty_trash(&mut self) {
        for at in 0..self.batch.len() {
            let ready = &self.batch[at];
            let base = &ready.copied.staged.name;
            let moved = self.outcomes[at] == Some(Outcome::Moved);
            if !moved {
                discard(self.staging.as_ref(), base);
            }
            // A copy that was taken back lies under the names of links, too.
            let dir = if moved { &self.trash } else { &self.staging };
            let source = self.sources[at].take();
            if moved && source.as_ref().is_some_and(|source| source.is_claimed(Excludes::All) != Ok(true)) {
                self.keep(ready);
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
    }

    /// A program found the source under its name before it went, and opens it only now: what it writes
    /// there must not be deleted.
    fn keep(&self, ready: &Ready<'_>) {
        let base = &ready.copied.staged.name;
        let kept = self.union.own_dir(self.from, LOST).and_then(|lost| {
            let name = trash_name(base, 0)?;
            self.trash.rename(&name, lost.as_ref(), &name, Rename::NoReplace)?;
            lost.fsync()
        });
        let path = ready.item.path();
        match kept {
            Ok(()) => {
                tracing::warn!(%path, tier = %self.from, "a program opened a file beside the mount just when it moved: what it writes there is in .tierfs/lost/{base}.0 of the tier");
            }
            Err(errno) => {
                tracing::error!(%path, tier = %self.from, "a program opened a file beside the mount just when it moved: save what it writes from .tierfs/trash/{base}.0 of the tier before the next start: {errno}");
            }
        }
    }
}
