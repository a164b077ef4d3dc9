//! The mounts of a filesystem, in every mount namespace that a process is in.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;

use super::mountinfo::{self, Mount};
use super::retry;
use crate::types::errno::{Errno, Result};

/// Types whose server may hang, and with it whoever walks a path through them. `fuse` may be
/// this process itself.
const SERVED: [&str; 10] = ["fuse", "nfs", "cifs", "smb", "9p", "ceph", "afs", "autofs", "lustre", "virtiofs"];

/// Whether the filesystem of `mount` is some program's or machine's answer.
fn is_served(mount: &Mount) -> bool {
    SERVED.iter().any(|kind| mount.kind.as_bytes().starts_with(kind.as_bytes()))
}

/// A mount namespace, known by a process that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(PathBuf);

impl Namespace {
    /// The one that this process is in.
    pub fn own() -> Namespace {
        Namespace(PathBuf::from("/proc/self"))
    }

    /// Every mount namespace that a process visible in `/proc` is in, the own one first.
    pub fn all() -> Vec<Namespace> {
        let own = Namespace::own();
        let number = |process: &PathBuf| fs::metadata(process.join("ns/mnt")).map(|meta| meta.ino()).ok();
        let mut known: HashSet<u64> = number(&own.0).into_iter().collect();
        let mut all = vec![own];
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            if entry.file_name().as_bytes().iter().all(u8::is_ascii_digit)
                && let Some(ino) = number(&entry.path())
                && known.insert(ino)
            {
                all.push(Namespace(entry.path()));
            }
        }
        all
    }

    /// The mounts that the process can reach.
    ///
    /// # Errors
    /// ENOENT or ESRCH when the process is gone.
    pub fn mounts(&self) -> Result<Vec<Mount>> {
        fs::read(self.0.join("mountinfo")).map(|text| mountinfo::parse(&text)).map_err(|e| Errno::of(&e))
    }

    /// Opens (O_PATH) the roots of those `mounts` whose `device` is `wanted`. Left out: a mount
    /// that another one hides, and one below a FUSE or network mount, which might hang the caller.
    pub fn open<'a>(&self, mounts: &'a [Mount], wanted: impl Fn((u32, u32)) -> bool) -> Vec<(&'a Mount, OwnedFd)> {
        let by_id: HashMap<u64, &Mount> = mounts.iter().map(|mount| (mount.id, mount)).collect();
        let wanted = mounts.iter().filter(|mount| wanted(mount.device) && is_safe(mount, &by_id));
        wanted.filter_map(|mount| Some((mount, self.open_one(mount)?))).collect()
    }

    fn open_one(&self, mount: &Mount) -> Option<OwnedFd> {
        let mut path = self.0.join("root").into_os_string();
        path.push(&mount.point);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = open(path.as_os_str(), flags, Mode::empty()).ok()?;
        (mount_id(fd.as_fd()) == Ok(mount.id)).then_some(fd)
    }
}

/// Whether the way to `mount` crosses no served filesystem; nor is it one.
fn is_safe(mount: &Mount, by_id: &HashMap<u64, &Mount>) -> bool {
    let mut at = Some(mount);
    // The table may have changed while it was read: no more steps than it has lines.
    for _ in 0..=by_id.len() {
        match at {
            None => return true,
            Some(mount) if is_served(mount) => return false,
            Some(mount) => at = by_id.get(&mount.parent).filter(|parent| parent.id != mount.id).copied(),
        }
    }
    false
}

/// The number of the mount that `fd` (O_PATH will do) was opened through.
///
/// # Errors
/// EOPNOTSUPP before Linux 5.8.
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<u64> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    let mut raw = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `fd` is open, the name ends with NUL, and `raw` has room for one statx.
    retry(|| unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_MNT_ID, raw.as_mut_ptr()) })?;
    // SAFETY: it was zeroed, which is valid for this struct of integers, and the call filled it.
    let raw = unsafe { raw.assume_init() };
    if raw.stx_mask & libc::STATX_MNT_ID == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(raw.stx_mnt_id)
}

/// The device, as mountinfo has it, of the filesystem that `fd` is on. Not what `stat(2)` tells on
/// btrfs.
///
/// # Errors
/// ENOENT when `fd` was opened through a mount of another mount namespace.
pub fn device_of(fd: BorrowedFd<'_>) -> Result<(u32, u32)> {
    let id = mount_id(fd)?;
    let mounts = mountinfo::read()?;
    mounts.iter().find(|mount| mount.id == id).map(|mount| mount.device).ok_or(Errno::ENOENT)
}

/// Tells, through `poll(2)` with POLLPRI, when a mount of the own namespace came or went.
#[derive(Debug)]
pub struct Alarm(File);

impl Alarm {
    /// What happens after this call is told.
    pub fn new() -> Result<Alarm> {
        File::open("/proc/self/mountinfo").map(Alarm).map_err(|e| Errno::of(&e))
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
#[path = "namespaces_tests.rs"]
mod tests;
