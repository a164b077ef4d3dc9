//! Changes merged before they are told.

use std::collections::HashMap;
use std::hash::Hash;
use std::os::fd::BorrowedFd;

use super::{Change, Listener, What};

/// How many different names a batch holds before it is delivered early, so that memory stays
/// bounded: about 8 MiB.
pub(super) const NAMES_MAX: usize = 65_536;

/// What happened to one name.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    entry: bool,
    attributes: bool,
    data: bool,
    is_dir: bool,
}

/// Changes by directory and name. `D` is what a directory is known by.
#[derive(Debug)]
pub(super) struct Batch<D> {
    dirs: HashMap<D, HashMap<Box<[u8]>, Seen>>,
    names: usize,
    lost: bool,
}

impl<D> Default for Batch<D> {
    fn default() -> Self {
        Batch { dirs: HashMap::new(), names: 0, lost: false }
    }
}

impl<D: Eq + Hash> Batch<D> {
    /// Adds a change; `None` names the directory itself.
    pub(super) fn add(&mut self, dir: D, name: Option<&[u8]>, what: What, is_dir: bool) {
        let names = self.dirs.entry(dir).or_default();
        let name = name.unwrap_or_default();
        if !names.contains_key(name) {
            names.insert(name.into(), Seen::default());
            self.names += 1;
        }
        let Some(seen) = names.get_mut(name) else { return };
        match what {
            // A directory that was itself moved: its parents tell of the names.
            What::Entry if name.is_empty() => seen.attributes = true,
            What::Entry => seen.entry = true,
            What::Attributes => seen.attributes = true,
            What::Data => seen.data = true,
        }
        seen.is_dir |= is_dir;
    }

    /// Notes that changes were missed, which makes all the others needless to tell.
    pub(super) fn lose(&mut self) {
        *self = Batch { lost: true, ..Batch::default() };
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.names == 0 && !self.lost
    }

    /// Whether it must be delivered before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.names >= NAMES_MAX
    }

    /// Tells everything. `open` leads to a directory: `Ok(None)` for one that is gone, which
    /// nobody needs to hear of since its own name went too; an error counts as missed changes.
    pub(super) fn deliver<F, E>(
        self,
        listener: &dyn Listener,
        may_be_own: bool,
        mut open: impl FnMut(&D) -> Result<Option<F>, E>,
    ) where
        F: std::os::fd::AsFd,
    {
        if self.lost {
            return listener.lost();
        }
        for (dir, names) in &self.dirs {
            match open(dir) {
                Ok(Some(fd)) => {
                    names.iter().for_each(|(name, seen)| tell(listener, fd.as_fd(), name, *seen, may_be_own))
                }
                Ok(None) => {}
                Err(_) => return listener.lost(),
            }
        }
    }
}

fn tell(listener: &dyn Listener, dir: BorrowedFd<'_>, name: &[u8], seen: Seen, may_be_own: bool) {
    let name = (!name.is_empty()).then_some(name);
    let change = |what| Change { dir, name, what, may_be_own, is_dir: seen.is_dir };
    if seen.entry {
        listener.changed(&change(What::Entry));
    }
    if seen.data {
        listener.changed(&change(What::Data));
    } else if seen.attributes {
        listener.changed(&change(What::Attributes));
    }
}
