//! Truncation, both ways.

use super::blocks::{BLOCK_LEN, Blocks, Header};
use crate::crypt::layout::{BLOCK, Layout};
use crate::types::errno::{Errno, Result};

impl Blocks<'_> {
    /// Makes the plaintext `size` bytes long. The lock of the body is held alone.
    pub(super) fn resize(&self, size: u64) -> Result<()> {
        if size > Layout::PLAIN_MAX {
            return Err(Errno::EFBIG);
        }
        let old_size = self.inner.stat()?.size;
        let old = self.layout().plain_size(old_size);
        if size == 0 {
            *self.opened.id.lock() = None;
            self.set_inner_size(0)
        } else if size == old {
            self.set_inner_size(old_size)
        } else if size < old {
            self.shrink(size, old_size)
        } else {
            self.grow(size, old, old_size)
        }
    }

    /// The block in which the file ends now is shortened in its place, which needs no room, and then the rest
    /// is cut off.
    fn shrink(&self, size: u64, old_size: u64) -> Result<()> {
        let (block, rest) = (size / BLOCK_LEN, size % BLOCK_LEN);
        let cut = self.layout().cipher_size(size);
        if rest == 0 {
            return self.set_inner_size(cut);
        }
        let Header::Id(id) = self.header()? else { return Err(Errno::EIO) };
        let sealed = self.read_sealed(block, old_size)?;
        let (plain, _) = self.read_block(&id, block, old_size)?;
        let shortened = self
            .put_block(&id, block, &plain[..usize::try_from(rest).unwrap_or(BLOCK)])
            .and_then(|()| self.set_inner_size(cut));
        shortened.inspect_err(|_| {
            if self.put(&sealed, self.layout().start(block)).is_err() {
                self.teller.file(self.inner, &format!("block {block} is damaged by a truncation that failed"));
            }
        })
    }

    /// Whole blocks between the old end and the new one are holes; a short one at the end cannot be.
    fn grow(&self, size: u64, old: u64, old_size: u64) -> Result<()> {
        let (last, rest) = (old / BLOCK_LEN, old % BLOCK_LEN);
        let before = self.before(old_size, last..=last)?;
        let grown = self.id_to_write(old).and_then(|(id, is_new)| {
            if is_new {
                self.put(&id.header(), 0).map_err(|failed| failed.errno)?;
            }
            if rest != 0 {
                let len = (size - last * BLOCK_LEN).min(BLOCK_LEN);
                self.extend_block(&id, last, old_size, usize::try_from(len).unwrap_or(BLOCK))?;
                if size <= (last + 1) * BLOCK_LEN {
                    return Ok(());
                }
            }
            match usize::try_from(size % BLOCK_LEN).unwrap_or(0) {
                0 => self.set_inner_size(self.layout().cipher_size(size)),
                short => self.put_block(&id, size / BLOCK_LEN, &[0; BLOCK][..short]),
            }
        });
        grown.inspect_err(|_| self.put_back(&before))
    }
}
