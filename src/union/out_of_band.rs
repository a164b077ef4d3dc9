//! Changes made beside the mount: what the kernel must forget because of one.

use super::{Union, identity};
use crate::types::attr::Body;
use crate::types::errno::Result;
use crate::types::ids::{Ino, Rank};
use crate::types::name::Name;

/// What is stale in the kernel's caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stale {
    /// The directory in which the change happened.
    pub dir: Option<Ino>,
    /// The object under the name.
    pub object: Option<Ino>,
}

impl Union {
    /// What an out-of-band change of `name` (or of the directory itself) in the directory `body`
    /// on `rank` makes stale. Nothing, if the kernel does not know that directory.
    ///
    /// # Errors
    /// What a tier says.
    pub fn stale(&self, rank: Rank, body: Body, name: Option<&Name>) -> Result<Stale> {
        let Some(dir) = self.dirs.of_body(rank, body) else { return Ok(Stale::default()) };
        let Some(name) = name else { return Ok(Stale { dir: Some(dir), object: Some(dir) }) };
        let node = self.dir(dir)?;
        let object = match node.find(rank).map(|d| d.stat(Some(name))).transpose()?.flatten() {
            None => None,
            Some(stat) if stat.is_dir() => self.dirs.of_body(rank, stat.body),
            Some(stat) => match node.find(rank) {
                Some(d) => Some(self.identify(rank, d.as_ref(), Some(name), &stat)?.0),
                None => Some(identity::of_body(stat.body)),
            },
        };
        Ok(Stale { dir: Some(dir), object })
    }

    /// Passes every inode the kernel knows to `each`, with its last known parent and name.
    pub fn each_known(&self, each: &mut dyn FnMut(Ino, Option<(Ino, &Name)>)) {
        self.inodes.each(each);
    }

    /// The tier and directory body numbers of a directory that an event names by its descriptor
    /// are the tier's to tell; this gives the tier of a rank.
    pub fn tier_at(&self, rank: Rank) -> Option<&std::sync::Arc<dyn crate::tier::Tier>> {
        self.slots.get(rank.index())?.tier.as_ref()
    }
}
