//! Data of an open file.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use super::{check, check_len, retry, word};
use crate::types::errno::{Errno, Result};

fn offset(bytes: u64) -> Result<libc::off_t> {
    libc::off_t::try_from(bytes).map_err(|_| Errno::EFBIG)
}

/// Reads until `buffer` is full or the file ends.
pub fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        let rest = &mut buffer[done..];
        let position = offset(at + done as u64)?;
        // SAFETY: the kernel writes at most `rest.len()` bytes into `rest`.
        let got = check_len(unsafe { libc::pread(fd.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len(), position) });
        match got {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(_) if done > 0 => break,
            Err(other) => return Err(other),
        }
    }
    Ok(done)
}

/// Writes all of `data`; short only if an error struck after some bytes.
pub fn write_at(fd: BorrowedFd<'_>, data: &[u8], at: u64) -> Result<usize> {
    let mut done = 0;
    while done < data.len() {
        let rest = &data[done..];
        let position = offset(at + done as u64)?;
        // SAFETY: the kernel reads at most `rest.len()` bytes of `rest`.
        let put = check_len(unsafe { libc::pwrite(fd.as_raw_fd(), rest.as_ptr().cast(), rest.len(), position) });
        match put {
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(_) if done > 0 => break,
            Err(other) => return Err(other),
        }
    }
    Ok(done)
}

/// Appends all of `data` atomically against other appenders (`RWF_APPEND`, `pwritev2(2)`).
pub fn append(fd: BorrowedFd<'_>, data: &[u8]) -> Result<usize> {
    let part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: one iovec that spans `data`, which the kernel only reads.
    check_len(unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const part, 1, 0, libc::RWF_APPEND) })
}

/// Makes a file durable.
pub fn fsync(fd: BorrowedFd<'_>, data_only: bool) -> Result<()> {
    retry(|| {
        // SAFETY: plain calls on an open descriptor.
        unsafe { if data_only { libc::fdatasync(fd.as_raw_fd()) } else { libc::fsync(fd.as_raw_fd()) } }
    })?;
    still_there(fd)
}

/// Makes what was written to a new file reach the disk no later than what is done to names afterwards: a name
/// never comes back from a power cut without its contents.
///
/// ext4 and XFS write names by a journal, and have the file's size and place in it when its bytes are written
/// (`ext4_end_io_end` in `fs/ext4/page-io.c`, `xfs_end_ioend` in `fs/xfs/xfs_aops.c`). So there it is enough to
/// wait for these, which is several times faster than to wait for the journal; elsewhere the file is synced.
pub fn settle(fd: BorrowedFd<'_>) -> Result<()> {
    let mut raw = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `fd` is open and `raw` has room for one statfs.
    retry(|| unsafe { libc::fstatfs(fd.as_raw_fd(), raw.as_mut_ptr()) })?;
    // SAFETY: zeroed is valid for this struct of integers, and the call filled it.
    let kind = word(unsafe { raw.assume_init() }.f_type);
    if kind != word(libc::EXT4_SUPER_MAGIC) && kind != word(libc::XFS_SUPER_MAGIC) {
        return fsync(fd, true);
    }
    let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: a plain call on an open descriptor; a length of 0 is all of the file.
    match retry(|| unsafe { libc::sync_file_range(fd.as_raw_fd(), 0, 0, how) }) {
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::ESPIPE) => fsync(fd, true),
        other => other.map(drop),
    }
}

/// A filesystem that fails for good in the middle of a sync drops what it had to write, finds nothing more
/// to do, and can say that all went well: xfs does, when its log is shut down between the check at the
/// beginning of an fsync and the look at what is pinned (`xfs_file_fsync`, `fs/xfs/xfs_file.c`). It fails
/// every call after that, so the next one tells (`xfs_vn_getattr`).
fn still_there(fd: BorrowedFd<'_>) -> Result<()> {
    super::stat::statx(fd, None).map(drop)
}

/// Sets the size in bytes.
pub fn truncate(fd: BorrowedFd<'_>, size: u64) -> Result<()> {
    let size = offset(size)?;
    // SAFETY: a plain call on an open descriptor.
    retry(|| unsafe { libc::ftruncate(fd.as_raw_fd(), size) }).map(drop)
}

/// `fallocate(2)`.
pub fn allocate(fd: BorrowedFd<'_>, mode: i32, at: u64, length: u64) -> Result<()> {
    let (at, length) = (offset(at)?, offset(length)?);
    // SAFETY: a plain call on an open descriptor.
    retry(|| unsafe { libc::fallocate(fd.as_raw_fd(), mode, at, length) }).map(drop)
}

/// `lseek(2)` with SEEK_DATA or SEEK_HOLE; the position of the descriptor is nobody's.
pub fn seek(fd: BorrowedFd<'_>, at: u64, whence: i32) -> Result<u64> {
    let at = offset(at)?;
    // SAFETY: a plain call on an open descriptor.
    let found = unsafe { libc::lseek(fd.as_raw_fd(), at, whence) };
    u64::try_from(found).map_err(|_| super::last())
}

/// Copies inside the kernel (`copy_file_range(2)`).
pub fn copy_range(from: BorrowedFd<'_>, at: u64, to: BorrowedFd<'_>, to_at: u64, length: usize) -> Result<usize> {
    let (mut a, mut b) = (offset(at)?, offset(to_at)?);
    // SAFETY: both descriptors are open; the offsets are valid for reading and writing.
    check_len(unsafe { libc::copy_file_range(from.as_raw_fd(), &raw mut a, to.as_raw_fd(), &raw mut b, length, 0) })
}

/// Reads the inode flags of `chattr(1)` (`FS_IOC_GETFLAGS`, `ioctl_iflags(2)`).
pub fn get_flags(fd: BorrowedFd<'_>) -> Result<u32> {
    let mut flags = 0u32;
    // SAFETY: this request writes one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) })?;
    Ok(flags)
}

/// Sets the inode flags (`FS_IOC_SETFLAGS`).
pub fn set_flags(fd: BorrowedFd<'_>, flags: u32) -> Result<()> {
    // SAFETY: this request reads one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) }).map(drop)
}

/// `struct fsxattr` of `linux/fs.h`: 28 bytes.
pub type Fsxattr = [u8; 28];

/// Reads the extended inode flags (`FS_IOC_FSGETXATTR`).
pub fn get_fsxattr(fd: BorrowedFd<'_>) -> Result<Fsxattr> {
    let mut raw = MaybeUninit::<Fsxattr>::zeroed();
    // SAFETY: this request writes 28 bytes.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSGETXATTR, raw.as_mut_ptr()) })?;
    // SAFETY: zeroed bytes are valid, and the call filled them.
    Ok(unsafe { raw.assume_init() })
}

/// `_IOR('X', 31, struct fsxattr)`.
pub const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;

/// Forgets the pages of a file that are on the disk, so that the next read comes from there
/// (`posix_fadvise(2)`, POSIX_FADV_DONTNEED).
pub fn drop_cache(fd: BorrowedFd<'_>) {
    // SAFETY: a plain call on an open descriptor. It is advice: nothing depends on its result.
    let _advice = unsafe { libc::posix_fadvise(fd.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// Has the first pages of a file read ahead (`posix_fadvise(2)`, POSIX_FADV_WILLNEED).
pub fn read_ahead(fd: BorrowedFd<'_>, length: u64) {
    let Ok(length) = offset(length) else { return };
    // SAFETY: a plain call on an open descriptor. It is advice: nothing depends on its result.
    let _advice = unsafe { libc::posix_fadvise(fd.as_raw_fd(), 0, length, libc::POSIX_FADV_WILLNEED) };
}

/// Starts to write a range to the disk without waiting (`sync_file_range(2)`).
pub fn start_writing(fd: BorrowedFd<'_>, at: u64, length: u64) {
    let (Ok(at), Ok(length)) = (offset(at), offset(length)) else { return };
    // SAFETY: a plain call on an open descriptor. It is a hint: durability never rests on it.
    let _hint = unsafe { libc::sync_file_range(fd.as_raw_fd(), at, length, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Makes all of the filesystem durable that `fd` is on (`syncfs(2)`). Since Linux 5.8 it also tells
/// of failed write-backs since `fd` was opened.
pub fn syncfs(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: a plain call on an open descriptor.
    retry(|| unsafe { libc::syncfs(fd.as_raw_fd()) })?;
    still_there(fd)
}
