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

/// Has what a server or a filesystem in a program is still to be told of a file told now, as the close of a
/// descriptor does, and says what comes of it. Nothing of it is durable by that.
///
/// # Errors
/// Those of `close(2)`: EIO, ENOSPC, EDQUOT of what was written before. The file stays open.
pub fn flush(fd: BorrowedFd<'_>) -> Result<()> {
    retry(|| {
        // SAFETY: plain calls; the descriptor that is closed was made here, and is gone also where that fails (`close(2)`).
        unsafe {
            let copy = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0);
            if copy < 0 { copy } else { libc::close(copy) }
        }
    })?;
    Ok(())
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
    let kind = word(filesystem(fd)?.f_type);
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

fn filesystem(fd: BorrowedFd<'_>) -> Result<libc::statfs> {
    let mut raw = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `fd` is open and `raw` has room for one statfs.
    retry(|| unsafe { libc::fstatfs(fd.as_raw_fd(), raw.as_mut_ptr()) })?;
    // SAFETY: zeroed is valid for this struct of integers, and the call filled it.
    Ok(unsafe { raw.assume_init() })
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

/// `RAMFS_MAGIC` and `BCACHEFS_STATFS_MAGIC`: the one of `linux/magic.h`, the other of `fs/bcachefs`.
const RAMFS: u64 = 0x8584_58f6;
const BCACHEFS: u64 = 0xca45_1a4e;

/// Types of `statfs(2)` whose `sync_fs` commits the journal or the transaction with a flush of the disk, and says
/// when it could not: `ext4_sync_fs`, `xfs_fs_sync_fs`, `btrfs_sync_fs`, `bch2_sync_fs`. What is in memory only can
/// become no more durable.
///
/// Left out for what their sources say: FUSE (nothing is sent to the server), SMB, 9p and eCryptfs (nothing is
/// asked of the server or of what is below), exFAT, FAT and NTFS (no flush), F2FS and ZFS (success after an error of the
/// checkpoint, or while the pool is suspended), NFS (only `fsync(2)` sends again what a server lost that was
/// restarted meanwhile, `nfs_file_fsync`), overlayfs (which tells nobody what its upper directory is on). Of all
/// others nothing is known.
const SYNCED_AS_A_WHOLE: [u64; 6] = [
    0xef53,      // EXT4_SUPER_MAGIC, also of ext2 and ext3
    0x5846_5342, // XFS_SUPER_MAGIC
    0x9123_683e, // BTRFS_SUPER_MAGIC
    0x0102_1994, // TMPFS_MAGIC
    BCACHEFS,
    RAMFS,
];

/// Whether what [`syncfs`] says of the filesystem that `fd` is on can be believed. Where not, each file and each
/// directory must be made durable by itself.
///
/// # Errors
/// What `fstatfs(2)` says.
pub fn is_synced_as_a_whole(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(SYNCED_AS_A_WHOLE.contains(&word(filesystem(fd)?.f_type)))
}

/// Makes all of the filesystem durable that `fd` is on (`syncfs(2)`). Since Linux 5.8 it also tells
/// of failed write-backs since `fd` was opened.
///
/// # Errors
/// EROFS also where the filesystem has gone read-only since, for an error of its disk: the kernel then writes
/// nothing and reports success (`sync_filesystem`, `fs/sync.c`).
pub fn syncfs(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: a plain call on an open descriptor.
    retry(|| unsafe { libc::syncfs(fd.as_raw_fd()) })?;
    if super::stat::is_read_only(fd)? {
        return Err(Errno::EROFS);
    }
    still_there(fd)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;

    /// The kernel syncs nothing of a filesystem that an error has made read-only, and says that all went well.
    #[test]
    fn a_filesystem_that_has_gone_read_only_is_not_durable() {
        let dir = tempfile::tempdir().unwrap();
        let run = |program: &str, args: &[&str]| Command::new(program).args(args).arg(dir.path()).status().unwrap();
        let mounted =
            crate::sys::creds::is_root() && run("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).success();
        if !mounted {
            eprintln!("skipped: no filesystem can be mounted here");
            return;
        }
        let root = std::fs::File::open(dir.path()).unwrap();
        let before = (is_synced_as_a_whole(root.as_fd()), syncfs(root.as_fd()));
        let gone = run("mount", &["-o", "remount,ro"]).success();
        let after = syncfs(root.as_fd());
        drop(root);
        run("umount", &["-l"]);
        assert_eq!((before, gone, after), ((Ok(true), Ok(())), true, Err(Errno::EROFS)));
    }

    #[test]
    fn only_filesystems_that_are_known_are_synced_as_a_whole() {
        // FUSE, NFS, SMB (two), 9p, overlayfs, F2FS, ZFS, exFAT, FAT, eCryptfs.
        let others = [
            0x6573_5546,
            0x6969,
            0xff53_4d42,
            0xfe53_4d42,
            0x0102_1997,
            0x794c_7630,
            0xf2f5_2010,
            0x2fc1_2fc1,
            0x2011_bab0,
            0x4d44,
            0xf15f,
        ];
        assert!(others.iter().all(|kind| !SYNCED_AS_A_WHOLE.contains(kind)));
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!(is_synced_as_a_whole(proc.as_fd()), Ok(false));
    }
}
