//! The entries of a directory, straight from `getdents64(2)`.

use std::cell::Cell;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use super::check_len;
use crate::types::attr::Kind;
use crate::types::errno::Result;

/// A few thousand names a call.
const BUFFER_LEN: usize = 128 * 1024;

/// Bytes of a record with a short name.
const RECORD_LEN_USUAL: usize = 32;

/// Offset of `d_name` in `struct linux_dirent64` (`getdents64(2)`).
const NAME_AT: usize = 19;

/// One entry of a directory, as long as its buffer lives.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a CStr,
    /// Its type, where the filesystem tells it.
    pub kind: Option<Kind>,
    /// Its inode number.
    pub ino: u64,
}

thread_local! {
    /// The buffer of the last listing: a new one of this size costs more than a small directory.
    static SPARE: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// Passes each entry but `.` and `..` to `each` as name, type (where the filesystem tells) and
/// inode number. `fd` must be freshly opened for listing.
pub fn list(fd: BorrowedFd<'_>, each: &mut dyn FnMut(&[u8], Option<Kind>, u64)) -> Result<()> {
    buffers(fd, &mut |records| {
        parse(records, &mut |entry| each(entry.name.to_bytes(), entry.kind, entry.ino));
        true
    })
}

/// Passes entries as many at a time as the kernel gives, those of one call in the order of their
/// inode numbers: on a disk their inodes lie in this order. Ends where `each` says `false`.
pub fn list_by_inode(fd: BorrowedFd<'_>, each: &mut dyn FnMut(&[Entry<'_>]) -> bool) -> Result<()> {
    buffers(fd, &mut |records| {
        let mut entries = Vec::with_capacity(records.len() / RECORD_LEN_USUAL);
        parse(records, &mut |entry| entries.push(entry));
        entries.sort_unstable_by_key(|entry| entry.ino);
        each(&entries)
    })
}

/// Passes each buffer that the kernel fills, until `each` says `false`.
fn buffers(fd: BorrowedFd<'_>, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<()> {
    let mut buffer = SPARE.take().unwrap_or_else(|| vec![0u8; BUFFER_LEN]);
    let outcome = loop {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
        let read = check_len(unsafe {
            libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
                .try_into()
                .unwrap_or(-1)
        });
        match read {
            Ok(0) => break Ok(()),
            Ok(len) if each(&buffer[..len]) => {}
            Ok(_) => break Ok(()),
            Err(errno) => break Err(errno),
        }
    };
    SPARE.set(Some(buffer));
    outcome
}

fn parse<'a>(mut records: &'a [u8], each: &mut dyn FnMut(Entry<'a>)) {
    while let Some((ino, rest)) = records.split_first_chunk::<8>() {
        let (Some(len), Some(&kind)) = (rest.get(8..10), rest.get(10)) else { return };
        let len = usize::from(u16::from_ne_bytes([len[0], len[1]]));
        let Some(record) = records.get(..len).filter(|_| len > NAME_AT) else { return };
        let Ok(name) = CStr::from_bytes_until_nul(&record[NAME_AT..]) else { return };
        if name != c"." && name != c".." {
            each(Entry { name, kind: kind_of(kind), ino: u64::from_ne_bytes(*ino) });
        }
        records = &records[len..];
    }
}

fn kind_of(d_type: u8) -> Option<Kind> {
    match d_type {
        libc::DT_REG => Some(Kind::File),
        libc::DT_DIR => Some(Kind::Dir),
        libc::DT_LNK => Some(Kind::Symlink),
        libc::DT_FIFO => Some(Kind::Fifo),
        libc::DT_SOCK => Some(Kind::Socket),
        libc::DT_CHR => Some(Kind::Char),
        libc::DT_BLK => Some(Kind::Block),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_buffer_is_no_panic() {
        let mut record = vec![7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 24, 0, libc::DT_REG];
        record.extend(b"ab\0\0\0");
        let mut seen = Vec::new();
        parse(&record, &mut |entry| seen.push((entry.name.to_bytes().to_vec(), entry.kind, entry.ino)));
        assert_eq!(seen, [(b"ab".to_vec(), Some(Kind::File), 7)]);
        for cut in 0..record.len() {
            parse(&record[..cut], &mut |_| panic!("a cut record was taken for whole"));
        }
    }
}
