//! From a change beside the mount to what the kernel must forget.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::fuse::Invalidator;
use crate::types::ids::{Ino, Rank};
use crate::types::name::Name;
use crate::union::{Learner, Stale, Union};
use crate::watch::{Change, Coverage, Listener, Watch, What};

/// Tells the kernel to forget what changed.
#[derive(Debug)]
pub(super) struct Forgetter {
    union: Arc<Union>,
    kernel: RwLock<Option<Arc<Invalidator>>>,
}

impl Forgetter {
    pub(super) fn new(union: Arc<Union>) -> Forgetter {
        Forgetter { union, kernel: RwLock::new(None) }
    }

    /// From here on the kernel may know something.
    pub(super) fn connect(&self, kernel: Invalidator) {
        *self.kernel.write() = Some(Arc::new(kernel));
    }

    /// The connection has ended: it knows nothing any more.
    pub(super) fn disconnect(&self) {
        *self.kernel.write() = None;
    }

    /// A file takes other space than it did.
    pub(super) fn attributes(&self, ino: Ino) {
        if let Some(kernel) = self.kernel.read().clone() {
            kernel.attributes(ino);
        }
    }

    fn stale(&self, rank: Rank, change: &Change<'_>) -> Stale {
        let name = change.name.map(Name::new).transpose();
        let Some(tier) = self.union.tier_at(rank) else { return Stale::default() };
        match (tier.body_of(change.dir), name) {
            (Ok(Some(body)), Ok(name)) => self.union.stale(rank, body, name.as_ref()).unwrap_or_else(|errno| {
                tracing::debug!(tier = %rank, "an out-of-band change cannot be looked at: {errno}");
                Stale::default()
            }),
            (Ok(_) | Err(_), _) => Stale::default(),
        }
    }
}

impl Listener for Forgetter {
    fn changed(&self, change: &Change<'_>) {
        let Some(kernel) = self.kernel.read().clone() else { return };
        for rank in (0u8..).map(Rank).take(self.union.tiers()) {
            let stale = self.stale(rank, change);
            let Some(dir) = stale.dir else { continue };
            match (change.what, change.name.and_then(|raw| Name::new(raw).ok())) {
                (What::Entry, Some(name)) => {
                    kernel.entry(dir, &name);
                    // A link made or removed changes the attributes of the object's other names.
                    stale.object.iter().for_each(|object| kernel.object(*object));
                }
                (What::Entry | What::Attributes | What::Data, _) => kernel.object(stale.object.unwrap_or(dir)),
            }
        }
    }

    fn lost(&self) {
        let Some(kernel) = self.kernel.read().clone() else { return };
        tracing::warn!("changes beside the mount came too fast: everything is looked up again");
        let names_done = kernel.all_names();
        self.union.each_known(&mut |ino, place| {
            kernel.object(ino);
            if let Some((parent, name)) = place.filter(|_| !names_done) {
                kernel.entry(parent, name);
            }
        });
    }
}

/// Has each directory watched when the union opens it.
#[derive(Debug)]
pub(super) struct Learning {
    pub watch: Arc<Watch>,
    /// The rank of each tier the watch knows, in its order: missing tiers are none of them.
    pub ranks: Vec<Rank>,
}

impl Learner for Learning {
    fn learn(&self, rank: Rank, dir: BorrowedFd<'_>) -> bool {
        let known = self.ranks.iter().position(|r| *r == rank).and_then(|at| u8::try_from(at).ok());
        known.is_some_and(|at| self.watch.learn(Rank(at), dir) == Coverage::Watched)
    }
}
