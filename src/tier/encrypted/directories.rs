//! Making and removing directories, each of which must have its IV as long as it has a name.

use super::dir::EncryptedDir;
use super::iv::{self, iv_name, leavings, remove_draft};
use super::names::{draft, side_of};
use crate::tier::{Dir, Rename};
use crate::types::attr::SetAttr;
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// What the owner needs to have names in a directory (`inode(7)`).
const OWNER_ALL: u32 = 0o700;

/// The IV of a directory while it is out of it.
pub(super) struct Aside<'a> {
    /// Where it is now.
    parent: &'a dyn Dir,
    draft: Name,
    /// Where it was.
    dir: &'a dyn Dir,
}

impl<'a> Aside<'a> {
    /// Takes the IV out of an empty directory, so that the storage sees that it is empty. A crash leaves it so,
    /// and it gets another when it is opened next.
    ///
    /// # Errors
    /// ENOTEMPTY; what the storage says.
    pub(super) fn take(dir: &'a dyn Dir, parent: &'a dyn Dir) -> Result<Aside<'a>> {
        for left in leavings(dir, false)? {
            remove_draft(dir, &left)?;
        }
        let draft = draft()?;
        match dir.rename(&iv_name()?, parent, &draft, Rename::Replace) {
            Ok(()) | Err(Errno::ENOENT) => Ok(Aside { parent, draft, dir }),
            Err(other) => Err(other),
        }
    }

    /// What was to take the directory away is done, or has failed: `done` says so, and is returned.
    pub(super) fn conclude(self, done: Result<()>) -> Result<()> {
        if done.is_ok() {
            self.forget()
        } else {
            self.put_back()
        }
        done
    }

    /// The directory is gone.
    fn forget(self) {
        if let Err(errno) = self.parent.unlink(&self.draft)
            && errno != Errno::ENOENT
        {
            tracing::debug!(draft = %self.draft, "the IV of a removed directory stays behind: {errno}");
        }
    }

    /// The directory stays, and who has it open goes on to name entries by its IV.
    fn put_back(self) {
        let back = iv_name().and_then(|name| self.parent.rename(&self.draft, self.dir, &name, Rename::NoReplace));
        match back {
            // Where there was none before there is none now.
            Ok(()) | Err(Errno::ENOENT) => return,
            // The parent may be one from which nothing can be taken (`chattr +a`), or its filesystem know no flags.
            Err(_) => {}
        }
        match iv::copy(self.parent, &self.draft, self.dir) {
            Ok(()) => self.forget(),
            Err(errno) => {
                tracing::warn!(draft = %self.draft, "the IV of a directory that could not be removed cannot be put back: {errno}");
            }
        }
    }
}

impl EncryptedDir {
    pub(super) fn make_dir(&self, name: &Name, mode: u32, by: &Caller) -> Result<()> {
        if !self.shared.volume.names().has_dir_ivs() {
            return self.make(name, |stored| self.inner.mkdir(stored, mode, by));
        }
        // Cheaper to see now than after the IV was written to the disk.
        if self.inner.stat(Some(&self.entry_to_make(name)?.name))?.is_some() {
            return Err(Errno::EEXIST);
        }
        let draft = draft()?;
        // Who is not root needs all rights on a directory to put its IV into it.
        let lent = OWNER_ALL & !(mode & !by.umask);
        let maker = Caller { umask: by.umask & !OWNER_ALL, ..*by };
        self.inner.mkdir(&draft, mode | lent, &maker)?;
        let made = self.furnish(&draft, lent, by).and_then(|()| {
            self.make(name, |stored| match self.inner.rename(&draft, self.inner.as_ref(), stored, Rename::NoReplace) {
                // A filesystem that knows no flags: nothing is replaced but a directory without entries.
                Err(Errno::EINVAL) => self.inner.rename(&draft, self.inner.as_ref(), stored, Rename::Replace),
                other => other,
            })
        });
        made.map_err(|errno| {
            if let Err(why) = remove_draft(self.inner.as_ref(), &draft) {
                tracing::debug!(%draft, "a half made directory stays behind: {why}");
            }
            if matches!(errno, Errno::ENOTEMPTY | Errno::ENOTDIR) { Errno::EEXIST } else { errno }
        })
    }

    /// Puts the IV into a new directory and takes back the rights that its owner was lent for that.
    fn furnish(&self, draft: &Name, lent: u32, by: &Caller) -> Result<()> {
        let dir = self.inner.open_dir(draft)?;
        iv::give(dir.as_ref(), by)?;
        if lent == 0 {
            return Ok(());
        }
        let stat = dir.stat(None)?.ok_or(Errno::ENOENT)?;
        dir.set_attr(None, &SetAttr { mode: Some(stat.mode & 0o7777 & !lent), ..SetAttr::default() })
    }

    pub(super) fn remove_dir(&self, name: &Name) -> Result<()> {
        let entry = self.entry(name)?;
        let _long = self.shared.long.lock();
        let _alone = self.shared.emptying.write();
        let removed = if self.shared.volume.names().has_dir_ivs() {
            self.remove_with_iv(&entry.name)
        } else {
            self.remove_without_iv(&entry.name)
        };
        removed?;
        if entry.full.is_some() {
            self.drop_side(&side_of(entry.name.as_bytes())?);
        }
        Ok(())
    }

    fn remove_with_iv(&self, stored: &Name) -> Result<()> {
        let dir = self.inner.open_dir(stored)?;
        let aside = match Aside::take(dir.as_ref(), self.inner.as_ref()) {
            Err(Errno::EACCES) => return self.remove_closed(stored, dir.as_ref()),
            other => other?,
        };
        aside.conclude(self.inner.rmdir(stored))
    }

    /// A directory whose owner, who is not root, has no rights on it can be removed all the same if it is empty.
    fn remove_closed(&self, stored: &Name, dir: &dyn Dir) -> Result<()> {
        let stat = dir.stat(None)?.ok_or(Errno::ENOENT)?;
        let mode = stat.mode & 0o7777;
        let with = |mode| dir.set_attr(None, &SetAttr { mode: Some(mode), ..SetAttr::default() });
        if mode & OWNER_ALL == OWNER_ALL {
            return Err(Errno::EACCES);
        }
        with(mode | OWNER_ALL).map_err(|_| Errno::EACCES)?;
        let outcome = Aside::take(dir, self.inner.as_ref()).and_then(|aside| aside.conclude(self.inner.rmdir(stored)));
        if outcome.is_err()
            && let Err(why) = with(mode)
        {
            tracing::debug!("a directory keeps rights that its owner was lent: {why}");
        }
        outcome
    }

    /// Where names have no IV only what a crash left behind can be in the way.
    fn remove_without_iv(&self, stored: &Name) -> Result<()> {
        match self.inner.rmdir(stored) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if !self.shared.volume.names().is_plain() => {}
            other => return other,
        }
        let dir = self.inner.open_dir(stored)?;
        for left in leavings(dir.as_ref(), false)? {
            remove_draft(dir.as_ref(), &left)?;
        }
        self.inner.rmdir(stored)
    }
}
