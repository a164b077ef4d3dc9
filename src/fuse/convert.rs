//! Values at the edge: fuser's on one side, the union's on the other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, OpenAccMode, OpenFlags, RenameFlags, TimeOrNow};

use crate::tier::Rename;
use crate::types::attr::{Kind, SetTime, Time};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Ino;
use crate::union::{Access, Attr};

pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.0)
}

pub(super) fn ino(ino: INodeNo) -> Ino {
    Ino(ino.0)
}

pub(super) fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
    }
}

fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.sec.unsigned_abs());
    let fraction = Duration::from_nanos(u64::from(time.nsec));
    let base = if time.sec < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base.and_then(|base| base.checked_add(fraction)).unwrap_or(UNIX_EPOCH)
}

/// fuser 0.18 takes the fraction of a time before 1970 away instead of adding it; here the whole
/// seconds and the fraction are what the kernel sent.
fn time(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Time { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            Time { sec: -i64::try_from(before.as_secs()).unwrap_or(i64::MAX), nsec: before.subsec_nanos() }
        }
    }
}

pub(super) fn set_time(time_or_now: TimeOrNow) -> SetTime {
    match time_or_now {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(at) => SetTime::At(time(at)),
    }
}

pub(super) fn access(flags: OpenFlags) -> Access {
    match flags.acc_mode() {
        OpenAccMode::O_RDONLY => Access::Read,
        OpenAccMode::O_WRONLY => Access::Write,
        OpenAccMode::O_RDWR => Access::ReadWrite,
    }
}

/// EINVAL for whiteouts and for what is not known.
pub(super) fn rename(flags: RenameFlags) -> Result<Rename> {
    match flags {
        RenameFlags::RENAME_NOREPLACE => Ok(Rename::NoReplace),
        RenameFlags::RENAME_EXCHANGE => Ok(Rename::Exchange),
        none if none.is_empty() => Ok(Rename::Replace),
        _ => Err(Errno::EINVAL),
    }
}

/// A device number as the kernel sends it (`new_encode_dev`, `linux/kdev_t.h`): 12 bits major
/// between 8 low and 12 high bits minor.
pub(super) fn device_decode(rdev: u32) -> u64 {
    let (major, minor) = (u64::from(rdev >> 8 & 0xfff), u64::from(rdev & 0xff | rdev >> 12 & 0xf_ff00));
    (major & 0xffff_f000) << 32 | (major & 0xfff) << 8 | (minor & 0xffff_ff00) << 12 | minor & 0xff
}

/// The reverse, from a number as `makedev(3)` packs it.
fn device_encode(dev: u64) -> u32 {
    let major = dev >> 8 & 0xfff | dev >> 32 & 0xffff_f000;
    let minor = dev & 0xff | dev >> 12 & 0xffff_ff00;
    u32::try_from(minor & 0xff | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12).unwrap_or(0)
}

pub(super) fn attr(attr: &Attr) -> FileAttr {
    let stat = &attr.stat;
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.atime),
        mtime: system_time(stat.mtime),
        ctime: system_time(stat.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(stat.kind()),
        perm: u16::try_from(stat.mode & 0o7777).unwrap_or(0),
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: device_encode(stat.rdev),
        blksize: stat.blksize,
        flags: 0,
    }
}

/// An entry that says a name is absent, or one of which only number and type matter.
pub(super) fn bare_attr(ino: Ino, of: Kind) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino.0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: kind(of),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 512,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_fraction() {
        let kernel = Time { sec: -2, nsec: 800_000_000 };
        // What fuser 0.18 makes of it on the way in.
        let arrived = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(time(arrived), kernel);
        // 1.2 seconds before the epoch on the way out.
        assert_eq!(system_time(kernel), UNIX_EPOCH - Duration::new(1, 200_000_000));
        let later = Time { sec: 5, nsec: 1 };
        assert_eq!(time(system_time(later)), later);
    }

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [(0u64, 0u64), (8, 1), (7, 300), (0xfff, 0xf_ffff)] {
            let dev = (major & 0xfff) << 8 | (minor & 0xffff_ff00) << 12 | minor & 0xff;
            assert_eq!(device_decode(device_encode(dev)), dev, "{major}:{minor}");
        }
    }
}
