//! The entries of a directory, straight from `getdents64(2)`.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use super::check_len;
use crate::types::attr::Kind;
use crate::types::errno::Result;

/// A few thousand names a call.
const BUFFER_LEN: usize = 128 * 1024;

/// Offset of `d_name` in `struct linux_dirent64` (`getdents64(2)`).
const NAME_AT: usize = 19;

/// Passes each entry but `.` and `..` to `each` as name, type (where the filesystem tells) and
/// inode number. `fd` must be freshly opened for listing.
pub fn list(fd: BorrowedFd<'_>, each: &mut dyn FnMut(&[u8], Option<Kind>, u64)) -> Result<()> {
    let mut buffer = vec![0u8; BUFFER_LEN];
    loop {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
        let len = check_len(unsafe {
            libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
                .try_into()
                .unwrap_or(-1)
        })?;
        if len == 0 {
            return Ok(());
        }
        parse(&buffer[..len], each);
    }
}

fn parse(mut records: &[u8], each: &mut dyn FnMut(&[u8], Option<Kind>, u64)) {
    while let Some((ino, rest)) = records.split_first_chunk::<8>() {
        let (Some(len), Some(&kind)) = (rest.get(8..10), rest.get(10)) else { return };
        let len = usize::from(u16::from_ne_bytes([len[0], len[1]]));
        let Some(record) = records.get(..len).filter(|_| len > NAME_AT) else { return };
        let name = &record[NAME_AT..];
        let name = name.split(|b| *b == 0).next().unwrap_or(name);
        if name != b"." && name != b".." {
            each(name, kind_of(kind), u64::from_ne_bytes(*ino));
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
        parse(&record, &mut |name, kind, ino| seen.push((name.to_vec(), kind, ino)));
        assert_eq!(seen, [(b"ab".to_vec(), Some(Kind::File), 7)]);
        for cut in 0..record.len() {
            parse(&record[..cut], &mut |_, _, _| panic!("a cut record was taken for whole"));
        }
    }
}
