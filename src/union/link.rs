//! Hard links.

use super::place::check_public;
use super::resolve::Resolution;
use super::{Attr, Union};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Ino;
use crate::types::name::Name;

impl Union {
    /// Gives a file another name, on the tier that holds it, and counts a lookup. Never EXDEV
    /// within the mount: what the new directory lacks on that tier is cloned.
    ///
    /// # Errors
    /// EEXIST if any tier has the name; ENOENT for a file without names; what a tier says.
    pub fn link(&self, ino: Ino, parent: Ino, name: &Name) -> Result<Attr> {
        self.may_change_names()?;
        self.finish_renames()?;
        check_public(parent, name)?;
        let _passing = loop {
            self.settling.wait(ino)?;
            let passing = (self.gates.names(parent), self.gates.file(ino));
            // A name made before the move is durable could stay while the move does not.
            if !self.settling.has(ino) {
                break passing;
            }
        };
        let file = self.hold(ino)?;
        let spot = self.inodes.named(ino).map_err(|_| Errno::ENOENT)?;
        let node = self.ensure(parent, spot.rank)?;
        self.check_absent(&node, name, None)?;
        let dir = node.copy(spot.rank)?;
        file.link_to(dir.as_ref(), name)?;
        let stat = dir.stat(Some(name))?.ok_or(Errno::ENOENT)?;
        self.enter(&node, name, &Resolution::File(spot.rank, stat))
    }
}
