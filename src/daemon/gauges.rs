//! All numbers of a mount, for whoever shows them.

use std::sync::Arc;

use crate::stats::snapshot::Gauges;
use crate::stats::{Snapshot, Stats};
use crate::types::ids::Ino;
use crate::union::Union;

/// Longer paths of directories are not told.
const PATH_LEN_MAX: usize = 4096;

/// Tells all numbers of a mount. No tier is asked for that.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) stats: Arc<Stats>,
    pub(super) union: Arc<Union>,
}

impl Numbers {
    /// Everything, as of now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let open = self.union.opens();
        let gauges = Gauges {
            open_files: open.files,
            passthrough_files: open.files.saturating_sub(open.plain),
            inodes: self.union.inodes_known() as u64,
        };
        Snapshot { gauges, ..self.stats.snapshot(&|ino| self.path(ino)) }
    }

    fn path(&self, ino: Ino) -> Option<String> {
        let path = if ino == Ino::ROOT { "/".into() } else { format!("/{}", self.union.last_path(ino).ok()?) };
        (path.len() <= PATH_LEN_MAX).then_some(path)
    }
}
