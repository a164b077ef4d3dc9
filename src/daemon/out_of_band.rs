//! From a change beside the mount to what the kernel must forget.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::fuse::Invalidator;
use crate::tier::Outside;
use crate::types::ids::{Ino, Rank};
use crate::types::name::Name;
use crate::union::{Learner, Outdated, Stale, Union};
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

    /// What the kernel holds of a file is outdated, as the union has found.
    pub(super) fn contents(&self, ino: Ino) {
        let Some(kernel) = self.kernel.read().clone() else { return };
        kernel.object(ino);
    }

    /// Attributes of an object have changed, and perhaps contents. `certain` if those have, and another program has
    /// changed them.
    fn object(&self, kernel: &Invalidator, ino: Ino, certain: bool) {
        match self.union.outdated(ino, certain) {
            Outdated::All(_opens_wait) => kernel.object(ino),
            Outdated::Attributes => kernel.attributes(ino),
        }
    }

    /// A file takes other space than it did.
    pub(super) fn attributes(&self, ino: Ino) {
        let Some(kernel) = self.kernel.read().clone() else { return };
        kernel.attributes(ino);
    }

    fn stale(&self, rank: Rank, change: &Change<'_>, name: Option<&Name>) -> Stale {
        let Some(tier) = self.union.tier_at(rank) else { return Stale::default() };
        let Ok(Some(body)) = tier.body_of(change.dir) else { return Stale::default() };
        self.union.stale(rank, body, name).unwrap_or_else(|errno| {
            tracing::debug!(tier = %rank, "an out-of-band change cannot be looked at: {errno}");
            Stale::default()
        })
    }

    /// Has everything in a directory looked up again: on an encrypted tier the name of what was removed there
    /// cannot always be told.
    fn forget_all(&self, kernel: &Invalidator, dir: Ino) {
        self.object(kernel, dir, false);
        let mut known = Vec::new();
        self.union.each_known(&mut |ino, place| {
            known.extend(place.filter(|(parent, _)| *parent == dir).map(|(_, name)| (ino, name.clone())));
        });
        for (ino, name) in known {
            kernel.entry(dir, &name);
            self.object(kernel, ino, false);
        }
    }
}

impl Listener for Forgetter {
    fn changed(&self, change: &Change<'_>) {
        let Some(kernel) = self.kernel.read().clone() else { return };
        for rank in (0u8..).map(Rank).take(self.union.tiers()) {
            // Of a whole filesystem's changes most are elsewhere, and a name there means nothing.
            let Some(dir) = self.stale(rank, change, None).dir else { continue };
            let Some(tier) = self.union.tier_at(rank) else { continue };
            let name = match change.name.map(|stored| tier.outside(change.dir, stored)) {
                None => None,
                Some(Outside::Name(name)) => Some(name),
                Some(Outside::Nothing) => continue,
                Some(Outside::Any) => {
                    self.forget_all(&kernel, dir);
                    continue;
                }
            };
            let stale = self.stale(rank, change, name.as_deref());
            match (change.what, name) {
                (What::Entry, Some(name)) => {
                    kernel.entry(dir, &name);
                    // A link made or removed changes the attributes of the object's other names.
                    stale.object.iter().for_each(|object| self.object(&kernel, *object, false));
                }
                (What::Entry | What::Attributes | What::Data, _) => {
                    let certain = change.what == What::Data && !change.may_be_own;
                    self.object(&kernel, stale.object.unwrap_or(dir), certain);
                }
            }
        }
    }

    fn lost(&self) {
        tracing::warn!("changes beside the mount came too fast: everything is looked up again");
        self.everything();
    }
}

impl Forgetter {
    /// Has everything asked again that is on a tier which has gone, and every listing. Names stay known:
    /// with them directories keep their numbers, which the copies that are left may not tell.
    pub(super) fn gone(&self, rank: Rank) {
        let Some(kernel) = self.kernel.read().clone() else { return };
        self.union.each_touched(rank, &mut |touched| {
            if touched.is_dir || touched.on_tier {
                self.object(&kernel, touched.ino, false);
            }
        });
    }

    /// Has the names of all files looked up again, and all attributes. Names of directories stay known, as
    /// in [`Forgetter::gone`].
    pub(super) fn all_but_directories(&self) {
        let Some(kernel) = self.kernel.read().clone() else { return };
        let mut directories = std::collections::HashSet::new();
        self.union.each_touched(Rank::PRIMARY, &mut |touched| {
            if touched.is_dir {
                directories.insert(touched.ino);
            }
        });
        self.union.each_known(&mut |ino, place| {
            self.object(&kernel, ino, false);
            if let Some((parent, name)) = place.filter(|_| !directories.contains(&ino)) {
                kernel.entry(parent, name);
            }
        });
    }

    /// Has everything looked up again. This may wait for requests that are under way.
    pub(super) fn everything(&self) {
        let Some(kernel) = self.kernel.read().clone() else { return };
        let names_done = kernel.all_names();
        self.union.each_known(&mut |ino, place| {
            self.object(&kernel, ino, false);
            if let Some((parent, name)) = place.filter(|_| !names_done) {
                kernel.entry(parent, name);
            }
        });
    }
}

/// Has each directory watched when the union opens it.
#[derive(Debug)]
pub(super) struct Learning {
    pub watch: Weak<Watch>,
    /// The rank of each tier the watch knows, in its order: missing tiers are none of them.
    pub ranks: Vec<Rank>,
}

impl Learner for Learning {
    fn learn(&self, rank: Rank, dir: BorrowedFd<'_>) -> bool {
        let known = self.ranks.iter().position(|r| *r == rank).and_then(|at| u8::try_from(at).ok());
        let watch = self.watch.upgrade();
        known.zip(watch).is_some_and(|(at, watch)| {
            let covered = watch.learn(Rank(at), dir);
            Watch::let_go(watch);
            covered == Coverage::Watched
        })
    }
}
