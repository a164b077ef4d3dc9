//! What earlier runs have hashed. A file that comes back from a slower tier with the size and the times that
//! it had and other contents was damaged there; brought up it would look whole for ever.

use std::collections::HashMap;

use super::digest::Digest;
use super::manifest::{self, Entry};
use super::plan::Item;
use super::{Request, What};
use crate::policy::Verify;
use crate::types::attr::Time;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::union::Union;

/// The last hash of each file of a plan that comes up, where one is known.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<UnionPath, Option<Version>>);

#[derive(Debug)]
struct Version {
    on: Rank,
    bytes: u64,
    mtime: Time,
    digest: Digest,
}

impl Known {
    /// Reads the manifests, if anything comes up. What cannot be read is not known.
    ///
    /// Not for files that come up because they were used: that is asked every few seconds.
    pub(super) fn of(union: &Union, request: &Request, items: &[Item]) -> Known {
        if request.verify == Verify::Size || matches!(request.what, What::Promote(_)) {
            return Known::default();
        }
        let coming = items.iter().filter(|item| item.to < item.from);
        let mut known: HashMap<UnionPath, Option<Version>> = coming.map(|item| (item.path(), None)).collect();
        let Ok(primary) = union.tier_of(Rank::PRIMARY).map(|tier| tier.root()) else { return Known::default() };
        if known.is_empty() {
            return Known::default();
        }
        let runs = manifest::runs(primary.as_ref()).unwrap_or_default();
        for run in runs {
            let read = manifest::read_each(primary.as_ref(), &run, &mut |line| {
                let Some(Entry { path, to: on, bytes, mtime, digest, .. }) = line.as_ref().and_then(Entry::of) else {
                    return;
                };
                if let Some(found) = known.get_mut(&path) {
                    *found = Some(Version { on, bytes, mtime, digest });
                }
            });
            if let Err(errno) = read {
                tracing::debug!(run, "the hashes of a run are not known: {errno}");
            }
        }
        Known(known)
    }

    /// Whether a file is as it was when it came to its tier, but for its contents.
    pub(super) fn contradicts(&self, item: &Item, digest: &Digest) -> bool {
        let Some(Some(then)) = self.0.get(&item.path()) else { return false };
        let same = then.on == item.from && item.has(then.bytes, then.mtime);
        // Files with holes are hashed in a form of their own.
        same && then.digest.form() == digest.form() && then.digest != *digest
    }
}
