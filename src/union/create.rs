//! Making files, directories, nodes and symbolic links.

use std::ffi::OsStr;
use std::time::Duration;

use super::health::Losses;
use super::inodes::Serving;
use super::open::{Access, Opened};
use super::passthrough::Registrar;
use super::resolve::Resolution;
use super::{Attr, Union};
use crate::tier::Open;
use crate::types::attr::{FORMAT_MASK, Kind, SetAttr};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank};
use crate::types::name::Name;

/// How a file is created and opened.
#[derive(Debug, Clone, Copy)]
pub struct Create {
    /// Permission bits, before the umask.
    pub mode: u32,
    /// What it is opened for.
    pub access: Access,
    /// Whether it must not be there (`O_EXCL`).
    pub exclusive: bool,
}

impl Union {
    /// Creates and opens a regular file, and counts a lookup.
    ///
    /// # Errors
    /// EEXIST if a tier has the name and `exclusive` is asked for; ESTALE if it has it otherwise:
    /// the kernel took the name for absent and has not checked whether the caller may open what is
    /// there. At this answer it looks again and opens it by the usual way. ENOSPC; what a tier says.
    pub fn create(
        &self,
        parent: Ino,
        name: &Name,
        how: &Create,
        by: &Caller,
        with: Option<&dyn Registrar>,
    ) -> Result<(Attr, Opened)> {
        let since = (self.states.era(), self.states.losses());
        let made = self.make(parent, name, |dir| dir.create(name, how.mode, how.access.how(), by));
        let (node, rank, file) = match made {
            Err(Errno::EEXIST) if !how.exclusive => return Err(Errno::ESTALE),
            other => other?,
        };
        let attr = self.enter(&node, name, &Resolution::File(rank, file.stat()?))?;
        let opened = self.open_new(attr.ino, how.access, file, with, since);
        if opened.is_err() {
            self.forget(attr.ino, 1);
        }
        // A file that is being written has no attributes worth keeping.
        let ttl = if how.access.writes() { Duration::ZERO } else { attr.ttl };
        Ok((Attr { ttl, ..attr }, opened?))
    }

    fn open_new(
        &self,
        ino: Ino,
        access: Access,
        file: Box<dyn crate::tier::File>,
        with: Option<&dyn Registrar>,
        since: (u64, Losses),
    ) -> Result<Opened> {
        let (era, losses) = since;
        let serving = self.inodes.opened(ino, access)?;
        let backing = || match serving {
            Serving::Kernel(backing) => Ok(Some(backing)),
            Serving::Daemon => Ok(None),
            // What is registered stays open for long, and must not look to the migrator like a writer.
            Serving::Undecided if with.is_some() => {
                match self.register(ino, file.reopen(Open::Hold)?.as_ref(), with, era) {
                    // A tier has gone or come. The file is made: whoever opened it is not told to try again.
                    Err(Errno::ESTALE) => Ok(None),
                    other => other,
                }
            }
            Serving::Undecided => Ok(None),
        };
        let opened = backing().and_then(|backing| self.serve(ino, access, (backing, &losses), || Ok(file)));
        if opened.is_err() {
            self.inodes.released(ino, access.writes(), false, None);
        }
        opened
    }

    /// Makes a directory, and counts a lookup.
    ///
    /// # Errors
    /// As [`Union::create`].
    pub fn mkdir(&self, parent: Ino, name: &Name, mode: u32, by: &Caller) -> Result<Attr> {
        let (node, rank, ()) = self.make(parent, name, |dir| dir.mkdir(name, mode, by))?;
        let stat = node.copy(rank)?.stat(Some(name))?.ok_or(Errno::ENOENT)?;
        self.enter(&node, name, &Resolution::Dir(vec![(rank, stat)]))
    }

    /// Makes a node of the type in `mode` (a regular file for no type), and counts a lookup.
    ///
    /// # Errors
    /// As [`Union::create`].
    pub fn mknod(&self, parent: Ino, name: &Name, mode: u32, rdev: u64, by: &Caller) -> Result<Attr> {
        let mode = if mode & FORMAT_MASK == 0 { mode | Kind::File.mode() } else { mode };
        self.make(parent, name, |dir| dir.mknod(name, mode, rdev, by)).and_then(|made| self.entered(&made, name))
    }

    /// Makes a symbolic link, and counts a lookup.
    ///
    /// # Errors
    /// As [`Union::create`].
    pub fn symlink(&self, parent: Ino, name: &Name, target: &OsStr, by: &Caller) -> Result<Attr> {
        self.make(parent, name, |dir| dir.symlink(name, target, by)).and_then(|made| self.entered(&made, name))
    }

    fn entered(&self, made: &(std::sync::Arc<super::dirs::Node>, Rank, ()), name: &Name) -> Result<Attr> {
        let (node, rank, ()) = made;
        let stat = node.copy(*rank)?.stat(Some(name))?.ok_or(Errno::ENOENT)?;
        self.enter(node, name, &Resolution::File(*rank, stat))
    }

    /// Changes attributes; of a merged directory on every copy.
    ///
    /// # Errors
    /// ESTALE if the name leads elsewhere now; EROFS; what a tier says.
    pub fn setattr(&self, ino: Ino, fh: Option<crate::types::ids::Fh>, change: &SetAttr) -> Result<Attr> {
        if self.inodes.kind(ino)? == Kind::Dir {
            self.may_change_names()?;
            // A swap gives directories the times back that they had before it.
            let _passing = self.gates.names(ino);
            let (node, alone) = self.uncloned(ino)?;
            self.may_change_in(&node)?;
            self.before_change(&node)?;
            // The copy that shows the change comes last, so that it never shows half of it.
            let changed = node.copies().rev().try_for_each(|(_, dir)| dir.set_attr(None, change));
            if change.mode.is_some() {
                // It is also the mask of an ACL.
                self.after_acl(&node);
            }
            changed?;
            drop(alone);
            return self.getattr(ino);
        }
        self.may_change_data()?;
        if change.size.is_some() && fh.is_none() {
            self.may_keep_contents(ino)?;
        }
        let _passing = self.gates.file(ino);
        self.settling.may_change(ino)?;
        // An open file is reached by its handle, whatever has become of its names.
        let open = fh.and_then(|fh| self.handles.file(fh));
        fh.map_or(Ok(()), |fh| self.must_be_the_same(fh))?;
        let file = open.clone().map_or_else(|| self.hold(ino), Ok)?;
        self.drop_shown(ino, file.as_ref());
        if let Some(size) = change.size {
            let size = SetAttr { size: Some(size), ..SetAttr::default() };
            match open {
                Some(open) => open.set_attr(&size)?,
                None => file.reopen(Open::Write)?.set_attr(&size)?,
            }
        }
        file.set_attr(&SetAttr { size: None, ..*change })?;
        Ok(self.open_attr(ino, file.stat()?))
    }
}
