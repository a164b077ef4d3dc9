//! Contents of files whose data tierfs serves itself, and what passthrough leaves to it.

use super::Union;
use crate::tier::Open;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Fh, Ino};

impl Union {
    /// Reads at `offset` (bytes); short only at the end.
    ///
    /// # Errors
    /// EBADF for a handle whose data the kernel serves; what a tier says.
    pub fn read(&self, fh: Fh, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.handles.file(fh).ok_or(Errno::EBADF)?.read_at(buffer, offset)
    }

    /// Writes at `offset` (bytes), or at the end if `append`.
    ///
    /// # Errors
    /// As [`Union::read`].
    pub fn write(&self, fh: Fh, offset: u64, data: &[u8], append: bool) -> Result<usize> {
        let file = self.handles.file(fh).ok_or(Errno::EBADF)?;
        if append { file.append(data) } else { file.write_at(data, offset) }
    }

    /// `fallocate(2)`.
    ///
    /// # Errors
    /// What a tier says.
    pub fn fallocate(&self, ino: Ino, fh: Fh, mode: i32, offset: u64, length: u64) -> Result<()> {
        self.may_change_data()?;
        let _passing = self.gates.file(ino);
        self.file_for(ino, fh, Open::Write)?.allocate(mode, offset, length)
    }

    /// `lseek(2)` with SEEK_DATA or SEEK_HOLE.
    ///
    /// # Errors
    /// ENXIO past the end; what a tier says.
    pub fn seek(&self, ino: Ino, fh: Fh, offset: u64, whence: i32) -> Result<u64> {
        self.file_for(ino, fh, Open::ReadQuiet)?.seek(offset, whence)
    }

    /// `copy_file_range(2)`; returns the bytes copied.
    ///
    /// # Errors
    /// EXDEV where the tiers cannot do it among themselves: the kernel then copies.
    pub fn copy_range(&self, from: (Ino, Fh, u64), to: (Ino, Fh, u64), length: u64) -> Result<usize> {
        self.may_change_data()?;
        let source = self.file_for(from.0, from.1, Open::Read)?;
        let target = self.file_for(to.0, to.1, Open::Write)?;
        source.copy_to(from.2, target.as_ref(), to.2, length)
    }
}
