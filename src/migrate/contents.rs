//! Contents: copied with their holes and hashed on the way, and read again to compare.

use super::digest::{BLOCK, Digest, Form, Hasher};
use crate::tier::File;
use crate::types::attr::Stat;
use crate::types::errno::{Errno, Result};

/// Bytes read and written at a time: long enough for a disk, short enough to stop soon when a
/// program wants to write the file.
pub(super) const CHUNK: usize = 1 << 20;

/// Larger files have their room reserved before the copy, so that a full tier is known at once and
/// the file lies in one piece. For small ones it costs more than it gives.
const RESERVED_FROM: u64 = 4 << 20;

/// `FALLOC_FL_KEEP_SIZE` of `linux/falloc.h`: a copy that is cut short must not look whole.
const KEEP_SIZE: i32 = 1;

/// SEEK_DATA and SEEK_HOLE of `lseek(2)`.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// The form in which a file is hashed: one that takes less room than its size has holes.
pub(super) fn form(stat: &Stat) -> Form {
    if stat.blocks.saturating_mul(512) < stat.size { Form::Sparse } else { Form::Plain }
}

/// Copies all of `source`, whose attributes are `stat`, into the empty `target`. `pace` is called
/// before each chunk with the length of the one before, and stops the copy by an error.
///
/// # Errors
/// ENOSPC; what the tiers or `pace` say.
pub(super) fn copy(
    source: &dyn File,
    stat: &Stat,
    target: &dyn File,
    buffer: &mut [u8],
    pace: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Digest> {
    let form = form(stat);
    let mut hasher = Hasher::new(form);
    if form == Form::Plain && stat.size >= RESERVED_FROM {
        match target.allocate(KEEP_SIZE, 0, stat.size) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
            other => other?,
        }
    }
    each_chunk(source, stat.size, form, buffer, &mut |offset, bytes| {
        hasher.update(offset, bytes);
        write_all(target, bytes, offset)?;
        if bytes.len() == CHUNK {
            target.start_writing(offset, bytes.len() as u64);
        }
        pace(bytes.len())
    })?;
    if form == Form::Sparse {
        // A hole at the end is made by the size alone.
        let size = crate::types::attr::SetAttr { size: Some(stat.size), ..Default::default() };
        target.set_attr(&size)?;
    }
    Ok(hasher.finish(stat.size))
}

/// The hash of a file of `size` bytes as it is now.
///
/// # Errors
/// What the tier or `pace` says.
pub(super) fn hash(
    file: &dyn File,
    size: u64,
    form: Form,
    buffer: &mut [u8],
    pace: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Digest> {
    let mut hasher = Hasher::new(form);
    each_chunk(file, size, form, buffer, &mut |offset, bytes| {
        hasher.update(offset, bytes);
        pace(bytes.len())
    })?;
    Ok(hasher.finish(size))
}

/// Reads all of a file whose attributes are `stat`. `false` if its hash is not `expected`, where one is
/// expected. `pace` is as in [`copy`].
///
/// # Errors
/// What the tier or `pace` says; ESTALE if the file has become shorter.
pub fn prove(
    file: &dyn File,
    stat: &Stat,
    expected: Option<&Digest>,
    pace: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<bool> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(stat.size).unwrap_or(CHUNK))];
    match expected {
        Some(digest) => Ok(hash(file, stat.size, digest.form(), &mut buffer, pace)? == *digest),
        None => each_chunk(file, stat.size, form(stat), &mut buffer, &mut |_, bytes| pace(bytes.len())).map(|()| true),
    }
}

/// Passes the contents on, in the sparse form without most of what is zero.
fn each_chunk(
    file: &dyn File,
    size: u64,
    form: Form,
    buffer: &mut [u8],
    each: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    while at < size {
        let (start, end) = match form {
            Form::Plain => (at, size),
            Form::Sparse => match next_data(file, at, size)? {
                Some(range) => range,
                None => return Ok(()),
            },
        };
        at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            read_all(file, &mut buffer[..want], at)?;
            each(at, &buffer[..want])?;
            at += want as u64;
        }
    }
    Ok(())
}

/// A read that is cut short hides its error, which the rest tells. ESTALE where the file has become
/// shorter: whoever did that has changed it.
fn read_all(file: &dyn File, buffer: &mut [u8], at: u64) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64)? {
            0 => return Err(Errno::ESTALE),
            got => done += got,
        }
    }
    Ok(())
}

/// As [`read_all`]; ENOSPC where nothing is written and no error told.
fn write_all(file: &dyn File, bytes: &[u8], at: u64) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], at + done as u64)? {
            0 => return Err(Errno::ENOSPC),
            put => done += put,
        }
    }
    Ok(())
}

/// The next range at or after `at` that holds data, widened to whole blocks.
fn next_data(file: &dyn File, at: u64, size: u64) -> Result<Option<(u64, u64)>> {
    let block = BLOCK as u64;
    let start = match file.seek(at, SEEK_DATA) {
        Ok(start) => start / block * block,
        Err(Errno::ENXIO) => return Ok(None),
        // A filesystem that cannot tell holes gives its zeros as data.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some((at, size))),
        Err(other) => return Err(other),
    };
    let start = start.max(at);
    let end = match file.seek(start, SEEK_HOLE) {
        // It has become shorter: the comparison tells.
        Err(Errno::ENXIO) => size,
        // Else the holes after it would be written as zeros.
        other => other?.max(start + 1),
    };
    Ok((start < size).then(|| (start, end.div_ceil(block).saturating_mul(block).min(size))))
}
