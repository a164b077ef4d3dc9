//! An open or held file of an encrypted tier.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

use super::blocks::Blocks;
use super::dir::same_kind;
use super::{Opened, Shared, xattrs};
use crate::tier::{Dir, File, Open, SetXattr};
use crate::types::attr::{Body, Kind, SetAttr, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::lease::Excludes;
use crate::types::name::Name;

pub(super) struct EncryptedFile {
    inner: Box<dyn File>,
    shared: Arc<Shared>,
    /// What is shared with all who have this body open, once its contents were touched.
    opened: OnceLock<(Body, Arc<Opened>)>,
    /// The length of the target, of a held link whose stored form does not tell it.
    pub(super) target_len: Option<u64>,
}

impl std::fmt::Debug for EncryptedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("EncryptedFile").field(&self.inner).finish()
    }
}

impl Drop for EncryptedFile {
    fn drop(&mut self) {
        if let Some((body, opened)) = self.opened.take() {
            self.shared.bodies.close(body, opened);
        }
    }
}

/// How the ciphertext is opened: to write a part of a block is to read it too.
pub(super) fn inner_how(how: Open) -> Open {
    match how {
        Open::Write => Open::ReadWrite,
        Open::Hold | Open::Read | Open::ReadQuiet | Open::ReadWrite | Open::ReadWriteQuiet => how,
    }
}

/// Opens a file for `how` by `open`. To write a part of a block is to read it too, which the owner may not be
/// allowed: who is not root lends himself that right meanwhile, by `set`, which changes the mode.
pub(super) fn open_lending(
    how: Open,
    open: &dyn Fn(Open) -> Result<Box<dyn File>>,
    stat: &dyn Fn() -> Result<Option<Stat>>,
    set: &dyn Fn(&SetAttr) -> Result<()>,
) -> Result<Box<dyn File>> {
    let refused = match open(inner_how(how)) {
        Err(Errno::EACCES) if how == Open::Write => Errno::EACCES,
        other => return other,
    };
    let mode = stat()?.ok_or(Errno::ENOENT)?.mode & 0o7777;
    if mode & OWNER_RW != OWNER_W {
        return Err(refused);
    }
    let with = |mode| set(&SetAttr { mode: Some(mode), ..SetAttr::default() });
    with(mode | OWNER_RW).map_err(|_| refused)?;
    let opened = open(inner_how(how));
    with(mode)?;
    opened
}

/// The owner's rights to read and write, and that to write (`inode(7)`).
const OWNER_RW: u32 = 0o600;
const OWNER_W: u32 = 0o200;

impl EncryptedFile {
    pub(super) fn new(inner: Box<dyn File>, shared: Arc<Shared>) -> EncryptedFile {
        EncryptedFile { inner, shared, opened: OnceLock::new(), target_len: None }
    }

    pub(super) fn kind(&self) -> Result<Kind> {
        Ok(self.inner.stat()?.kind())
    }

    fn blocks(&self) -> Result<Blocks<'_>> {
        let opened = match self.opened.get() {
            Some((_, opened)) => opened,
            None => {
                let body = self.inner.stat()?.body;
                let opened = self.shared.bodies.open(body);
                if let Err((body, opened)) = self.opened.set((body, opened)) {
                    // Another thread was faster.
                    self.shared.bodies.close(body, opened);
                }
                &self.opened.get().ok_or(Errno::EIO)?.1
            }
        };
        let content = self.shared.volume.content();
        Ok(Blocks { inner: self.inner.as_ref(), content, opened, teller: &self.shared.teller })
    }

    fn tell(&self, words: &str) {
        self.shared.teller.file(self.inner.as_ref(), words);
    }
}

impl File for EncryptedFile {
    fn stat(&self) -> Result<Stat> {
        Ok(self.shared.plain_stat(self.inner.stat()?, self.target_len))
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        if let Some(size) = change.size {
            let blocks = self.blocks()?;
            let _alone = blocks.opened.lock.write();
            blocks.resize(size)?;
        }
        self.inner.set_attr(&SetAttr { size: None, ..*change })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let blocks = self.blocks()?;
        let _shared = blocks.opened.lock.read();
        blocks.read(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        let blocks = self.blocks()?;
        let _alone = blocks.opened.lock.write();
        blocks.write(data, Some(offset))
    }

    fn append(&self, data: &[u8]) -> Result<usize> {
        let blocks = self.blocks()?;
        let _alone = blocks.opened.lock.write();
        blocks.write(data, None)
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }

    fn fsync(&self, data_only: bool) -> Result<()> {
        self.inner.fsync(data_only)
    }

    fn settle(&self) -> Result<()> {
        self.inner.settle()
    }

    fn allocate(&self, mode: i32, offset: u64, length: u64) -> Result<()> {
        let blocks = self.blocks()?;
        let _alone = blocks.opened.lock.write();
        blocks.allocate(mode, offset, length)
    }

    fn seek(&self, offset: u64, whence: i32) -> Result<u64> {
        let blocks = self.blocks()?;
        let _shared = blocks.opened.lock.read();
        blocks.seek(offset, whence)
    }

    fn get_xattr(&self, key: &CStr) -> Result<Vec<u8>> {
        xattrs::get(&self.shared, key, |key| self.inner.get_xattr(key), &|words| self.tell(words))
    }

    fn set_xattr(&self, key: &CStr, value: &[u8], how: SetXattr) -> Result<()> {
        xattrs::set(&self.shared, key, value, |key, value| self.inner.set_xattr(key, value, how))
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        Ok(xattrs::plain_list(&self.shared, &self.inner.list_xattr()?, &|words| self.tell(words)))
    }

    fn remove_xattr(&self, key: &CStr) -> Result<()> {
        self.inner.remove_xattr(&xattrs::stored_key(&self.shared, key)?)
    }

    fn backing(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn link_to(&self, to: &dyn Dir, new: &Name) -> Result<()> {
        let to = same_kind(to)?;
        to.make(new, |stored| self.inner.link_to(to.inner.as_ref(), stored))
    }

    fn copy_to(&self, _offset: u64, _to: &dyn File, _to_offset: u64, _length: u64) -> Result<usize> {
        Err(Errno::EXDEV)
    }

    fn reopen(&self, how: Open) -> Result<Box<dyn File>> {
        let inner = open_lending(how, &|how| self.inner.reopen(how), &|| self.inner.stat().map(Some), &|change| {
            self.inner.set_attr(change)
        })?;
        let mut file = EncryptedFile::new(inner, Arc::clone(&self.shared));
        file.target_len = self.target_len;
        Ok(Box::new(file))
    }

    fn is_written(&self) -> Result<bool> {
        self.inner.is_written()
    }

    fn claim(&self, excludes: Excludes) -> Result<bool> {
        self.inner.claim(excludes)
    }

    fn is_claimed(&self, excludes: Excludes) -> Result<bool> {
        self.inner.is_claimed(excludes)
    }

    fn unclaim(&self) -> Result<()> {
        self.inner.unclaim()
    }

    fn drop_cache(&self) {
        self.inner.drop_cache();
    }

    fn read_ahead(&self, length: u64) {
        self.inner.read_ahead(self.shared.volume.content().layout().cipher_size(length));
    }

    fn start_writing(&self, offset: u64, length: u64) {
        let layout = self.shared.volume.content().layout();
        let from = layout.cipher_size(offset);
        let until = layout.cipher_size(offset.saturating_add(length));
        self.inner.start_writing(from, until.saturating_sub(from));
    }

    fn flags(&self) -> Result<u32> {
        self.inner.flags()
    }

    fn set_flags(&self, flags: u32) -> Result<()> {
        self.inner.set_flags(flags)
    }

    fn fsxattr(&self) -> Result<[u8; 28]> {
        self.inner.fsxattr()
    }
}
