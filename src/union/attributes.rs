//! Inode flags of `chattr(1)`. Other ioctls are not passed on: FITRIM or a shutdown would hit the
//! whole tier.

use super::Union;
use crate::tier::{File, Open};
use crate::types::attr::Kind;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Ino;

impl Union {
    fn for_flags(&self, ino: Ino) -> Result<Box<dyn File>> {
        match self.inodes.kind(ino)? {
            Kind::Dir => self.dir(ino)?.copies().next().ok_or(Errno::EIO)?.1.as_file(),
            Kind::File => self.hold(ino)?.reopen(Open::ReadQuiet),
            Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => Err(Errno::ENOTTY),
        }
    }

    /// The flags.
    ///
    /// # Errors
    /// ENOTTY where the storage has none.
    pub fn flags(&self, ino: Ino) -> Result<u32> {
        self.for_flags(ino)?.flags()
    }

    /// Sets the flags; of a merged directory on every copy.
    ///
    /// # Errors
    /// As [`Union::flags`]; EPERM; EROFS.
    pub fn set_flags(&self, ino: Ino, flags: u32) -> Result<()> {
        self.may_change_data()?;
        if self.inodes.kind(ino)? == Kind::Dir {
            self.may_change_names()?;
            let (node, _alone) = self.uncloned(ino)?;
            self.may_change_in(&node)?;
            return node.copies().rev().try_for_each(|(_, dir)| dir.as_file()?.set_flags(flags));
        }
        let _passing = self.gates.file(ino);
        self.settling.may_change(ino)?;
        let file = self.for_flags(ino)?;
        self.drop_shown(ino, file.as_ref());
        file.set_flags(flags)
    }

    /// `struct fsxattr` of `linux/fs.h`.
    ///
    /// # Errors
    /// As [`Union::flags`].
    pub fn fsxattr(&self, ino: Ino) -> Result<[u8; 28]> {
        self.for_flags(ino)?.fsxattr()
    }
}
