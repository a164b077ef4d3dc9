//! Attributes: statx, chmod, chown, utimens, statfs. Everything on `(directory, Some(name))` or on
//! a descriptor itself (`None`), never through a link.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use super::at::proc_path;
use super::{check, retry, word};
use crate::types::attr::{SetTime, Space, Time};
use crate::types::errno::{Errno, Result};

/// What `statx(2)` tells, not yet joined with a tier's identity.
#[derive(Debug, Clone, Copy)]
pub struct Statx {
    /// Device of the filesystem, as `makedev(3)`.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Time of creation, where the filesystem keeps it.
    pub btime: Option<Time>,
    /// Type and permissions.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of contents.
    pub mtime: Time,
    /// Last change.
    pub ctime: Time,
}

fn time(raw: libc::statx_timestamp) -> Time {
    Time { sec: raw.tv_sec, nsec: raw.tv_nsec }
}

/// Attributes, ENOENT if absent.
pub fn statx(fd: BorrowedFd<'_>, name: Option<&CStr>) -> Result<Statx> {
    statx_with(fd, name, 0)
}

/// Attributes of what is open as its server tells them now, not as this machine remembers them.
pub fn statx_now(fd: BorrowedFd<'_>) -> Result<Statx> {
    statx_with(fd, None, libc::AT_STATX_FORCE_SYNC)
}

fn statx_with(fd: BorrowedFd<'_>, name: Option<&CStr>, how: libc::c_int) -> Result<Statx> {
    let flags =
        how | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | if name.is_none() { libc::AT_EMPTY_PATH } else { 0 };
    let path = name.unwrap_or(c"");
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    let mut raw = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `fd` is open, `path` ends with NUL, and `raw` has room for one statx.
    retry(|| unsafe { libc::statx(fd.as_raw_fd(), path.as_ptr(), flags, mask, raw.as_mut_ptr()) })?;
    // SAFETY: it was zeroed, which is valid for this struct of integers, and the call filled it.
    let raw = unsafe { raw.assume_init() };
    Ok(Statx {
        dev: libc::makedev(raw.stx_dev_major, raw.stx_dev_minor),
        ino: raw.stx_ino,
        btime: (raw.stx_mask & libc::STATX_BTIME != 0).then(|| time(raw.stx_btime)),
        mode: u32::from(raw.stx_mode),
        nlink: raw.stx_nlink,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        rdev: libc::makedev(raw.stx_rdev_major, raw.stx_rdev_minor),
        size: raw.stx_size,
        blocks: raw.stx_blocks,
        blksize: raw.stx_blksize,
        atime: time(raw.stx_atime),
        mtime: time(raw.stx_mtime),
        ctime: time(raw.stx_ctime),
    })
}

/// Changes permission bits. EOPNOTSUPP for a symbolic link.
///
/// `fchmodat2` (Linux 6.6) does not follow a link that someone swapped in; older kernels get the
/// same through a descriptor of the object itself.
pub fn chmod(fd: BorrowedFd<'_>, name: Option<&CStr>, mode: u32) -> Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | if name.is_none() { libc::AT_EMPTY_PATH } else { 0 };
    let path = name.unwrap_or(c"");
    // SAFETY: `fd` is open and `path` ends with NUL.
    let result = unsafe { libc::syscall(SYS_FCHMODAT2, fd.as_raw_fd(), path.as_ptr(), mode, flags) };
    if result == 0 {
        return Ok(());
    }
    match super::last() {
        Errno::ENOSYS => chmod_by_descriptor(fd, name, mode),
        other => Err(other),
    }
}

/// `fchmodat2(2)`, the same number on every architecture.
const SYS_FCHMODAT2: libc::c_long = 452;

fn chmod_by_descriptor(fd: BorrowedFd<'_>, name: Option<&CStr>, mode: u32) -> Result<()> {
    let held;
    let object = match name {
        None => fd,
        Some(name) => {
            held = super::at::open(fd, name, super::at::Flags::HOLD, 0)?;
            std::os::fd::AsFd::as_fd(&held)
        }
    };
    let path = proc_path(object, None)?;
    // SAFETY: the path ends with NUL; it leads to the object held open above.
    check(unsafe { libc::fchmodat(libc::AT_FDCWD, path.as_ptr().cast(), mode, 0) }).map(drop)
}

/// Changes owner and group; `None` leaves one as it is.
pub fn chown(fd: BorrowedFd<'_>, name: Option<&CStr>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | if name.is_none() { libc::AT_EMPTY_PATH } else { 0 };
    let (uid, gid) = (uid.unwrap_or(u32::MAX), gid.unwrap_or(u32::MAX));
    // SAFETY: `fd` is open and the name ends with NUL.
    check(unsafe { libc::fchownat(fd.as_raw_fd(), name.unwrap_or(c"").as_ptr(), uid, gid, flags) }).map(drop)
}

/// Changes access and modification time; `None` leaves one as it is.
pub fn set_times(
    fd: BorrowedFd<'_>,
    name: Option<&CStr>,
    atime: Option<SetTime>,
    mtime: Option<SetTime>,
) -> Result<()> {
    let times = [timespec(atime), timespec(mtime)];
    let flags = libc::AT_SYMLINK_NOFOLLOW | if name.is_none() { libc::AT_EMPTY_PATH } else { 0 };
    // SAFETY: `fd` is open, the name ends with NUL, and `times` holds two timespecs.
    check(unsafe { libc::utimensat(fd.as_raw_fd(), name.unwrap_or(c"").as_ptr(), times.as_ptr(), flags) }).map(drop)
}

fn timespec(time: Option<SetTime>) -> libc::timespec {
    match time {
        None => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        Some(SetTime::Now) => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
        Some(SetTime::At(t)) => libc::timespec { tv_sec: t.sec, tv_nsec: i64::from(t.nsec) },
    }
}

/// Space, inodes and a stable id of the filesystem (`f_fsid` of `statfs(2)`).
pub fn statfs(fd: BorrowedFd<'_>) -> Result<Space> {
    let mut raw = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `fd` is open and `raw` has room for one statfs.
    retry(|| unsafe { libc::fstatfs(fd.as_raw_fd(), raw.as_mut_ptr()) })?;
    // SAFETY: zeroed is valid for this struct of integers, and the call filled it.
    let raw = unsafe { raw.assume_init() };
    // SAFETY: fsid_t is two C ints with no invalid values; the libc crate only hides the field.
    let id = unsafe { std::mem::transmute_copy::<libc::fsid_t, u64>(&raw.f_fsid) };
    let short = |n: u64| u32::try_from(n).unwrap_or(0);
    Ok(Space {
        bsize: short(word(raw.f_bsize)),
        frsize: if raw.f_frsize == 0 { short(word(raw.f_bsize)) } else { short(word(raw.f_frsize)) },
        blocks: raw.f_blocks,
        bfree: raw.f_bfree,
        bavail: raw.f_bavail,
        files: raw.f_files,
        ffree: raw.f_ffree,
        namelen: short(word(raw.f_namelen)),
        filesystem: if id == 0 { word(raw.f_type) } else { id },
    })
}

/// Whether reading sets access times on the mount by which `fd` was opened.
pub fn keeps_access_times(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(mount_flags(fd)? & (libc::ST_NOATIME | libc::ST_RDONLY) == 0)
}

/// Whether nothing can be written by the mount by which `fd` was opened.
pub fn is_read_only(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(mount_flags(fd)? & libc::ST_RDONLY != 0)
}

fn mount_flags(fd: BorrowedFd<'_>) -> Result<libc::c_ulong> {
    let mut raw = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `fd` is open and `raw` has room for one statvfs.
    retry(|| unsafe { libc::fstatvfs(fd.as_raw_fd(), raw.as_mut_ptr()) })?;
    // SAFETY: zeroed is valid for this struct of integers, and the call filled it.
    Ok(unsafe { raw.assume_init() }.f_flag)
}

/// Where an object is mounted. Nothing can be renamed or linked between two that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mounted {
    /// Device, which differs also between the subvolumes of one filesystem.
    dev: u64,
    /// The mount, of which one filesystem can have several.
    mount: u64,
}

/// Where the object is mounted that `fd` is.
pub fn mounted(fd: BorrowedFd<'_>) -> Result<Mounted> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    let mut raw = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `fd` is open, the path ends with NUL, and `raw` has room for one statx.
    retry(|| unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_MNT_ID, raw.as_mut_ptr()) })?;
    // SAFETY: it was zeroed, which is valid for this struct of integers, and the call filled it.
    let raw = unsafe { raw.assume_init() };
    // Kernels before 5.8 tell no mount: then all have the same.
    let mount = if raw.stx_mask & libc::STATX_MNT_ID != 0 { raw.stx_mnt_id } else { 0 };
    Ok(Mounted { dev: libc::makedev(raw.stx_dev_major, raw.stx_dev_minor), mount })
}
