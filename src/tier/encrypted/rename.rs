//! Renaming and linking: the entry changes its name in one step of the storage, whatever side files need before
//! and after.

use parking_lot::MutexGuard;

use super::dir::{EncryptedDir, same_kind};
use super::directories::Aside;
use super::names::{Entry, side_of};
use crate::tier::{Dir, Rename};
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

impl EncryptedDir {
    pub(super) fn rename_entry(&self, name: &Name, to: &dyn Dir, new: &Name, how: Rename) -> Result<()> {
        let to = same_kind(to)?;
        let (old, new) = (self.entry(name)?, to.entry_to_make(new)?);
        if old.full.is_none() && new.full.is_none() {
            return self.rename_stored(None, &old.name, to, &new.name, how);
        }
        let long = self.shared.long.lock();
        let is_new = match &new.full {
            Some(full) if how != Rename::Exchange => to.put_side(&side_of(new.name.as_bytes())?, full)?,
            _ => false,
        };
        if let Err(errno) = self.rename_stored(Some(&long), &old.name, to, &new.name, how) {
            if is_new {
                to.drop_side(&side_of(new.name.as_bytes())?);
            }
            return Err(errno);
        }
        self.drop_old_side(&old)
    }

    /// The side file of a name that is left goes. It is still in use after an exchange, and where both names
    /// are of one file, which a rename leaves as they are.
    fn drop_old_side(&self, old: &Entry) -> Result<()> {
        if old.full.is_some() && self.inner.stat(Some(&old.name)).is_ok_and(|stat| stat.is_none()) {
            self.drop_side(&side_of(old.name.as_bytes())?);
        }
        Ok(())
    }

    /// `long` is the lock of long names, where it is held already.
    fn rename_stored(
        &self,
        long: Option<&MutexGuard<'_, ()>>,
        old: &Name,
        to: &EncryptedDir,
        new: &Name,
        how: Rename,
    ) -> Result<()> {
        let renamed = {
            let _entering = self.shared.emptying.read();
            self.inner.rename(old, to.inner.as_ref(), new, how)
        };
        match renamed {
            // The IV of a directory without entries is in the way, or what a crash left in it.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if how == Rename::Replace => {
                // Not while somebody is about to put a long name there, whose side file would be taken for a leaving.
                let _long = if long.is_none() { Some(self.shared.long.lock()) } else { None };
                self.rename_over(old, to, new)
            }
            other => other,
        }
    }

    /// Renames a directory over another, whose IV goes first if it has no entries. A crash leaves either the
    /// empty directory and the old name, or the new one.
    fn rename_over(&self, old: &Name, to: &EncryptedDir, new: &Name) -> Result<()> {
        let volume_names = self.shared.volume.names();
        if volume_names.is_plain() {
            return Err(Errno::ENOTEMPTY);
        }
        let _alone = self.shared.emptying.write();
        let target = to.inner.open_dir(new)?;
        if same_body(self.inner.as_ref(), old, target.as_ref())? {
            return Ok(());
        }
        let aside = Aside::take(target.as_ref(), to.inner.as_ref())?;
        aside.conclude(self.inner.rename(old, to.inner.as_ref(), new, Rename::Replace))
    }
}

fn same_body(dir: &dyn Dir, name: &Name, other: &dyn Dir) -> Result<bool> {
    let (one, two) = (dir.stat(Some(name))?, other.stat(None)?);
    Ok(one.zip(two).is_some_and(|(one, two)| one.body == two.body))
}
