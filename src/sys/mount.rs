//! Mounting and unmounting, with `mount(2)` where that is allowed and `fusermount3` where not.
//!
//! Nothing here asks a mounted filesystem a question before it knows that it is alive: a dead or
//! hanging one would answer with an error or never.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::Mode;
use nix::sys::statvfs::FsFlags;
use nix::unistd::{getgid, getuid};

use crate::sys::{fusermount, mountinfo};
use crate::types::errno::Errno;

const DEVICE: &str = "/dev/fuse";

/// The type as `/proc/mounts` shows it; the kernel takes what follows the dot for the subtype.
const KIND: &str = "fuse.tierfs";

/// How a FUSE filesystem is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuseMount {
    /// What `df` and `/proc/mounts` show as the source.
    pub source: OsString,
    /// Every user may use the mount.
    pub allow_other: bool,
    /// The kernel checks permissions.
    pub default_permissions: bool,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Set-user-id bits work.
    pub suid: bool,
    /// Device nodes work.
    pub dev: bool,
    /// Programs can be run.
    pub exec: bool,
    /// The most bytes the kernel asks for in one read.
    pub max_read_bytes: Option<u32>,
}

impl Default for FuseMount {
    fn default() -> FuseMount {
        FuseMount {
            source: "tierfs".into(),
            allow_other: false,
            default_permissions: true,
            read_only: false,
            suid: false,
            dev: false,
            exec: true,
            max_read_bytes: None,
        }
    }
}

/// Why something could not be mounted or unmounted. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountError {
    /// There is no directory to mount on.
    NoMountpoint(PathBuf, Errno),
    /// It is not a directory.
    NotADirectory(PathBuf),
    /// A filesystem whose program has ended is still mounted there.
    Stale(PathBuf),
    /// A tierfs is mounted there already.
    AlreadyMounted(PathBuf),
    /// No tierfs is mounted there.
    NotMounted(PathBuf),
    /// Another user has mounted it.
    NotYours(PathBuf),
    /// Files or directories are in use.
    Busy(PathBuf),
    /// The kernel offers no FUSE.
    NoDevice(Errno),
    /// `fusermount3` is not installed.
    NoFusermount,
    /// `fusermount3` refused, with its words.
    Refused(String),
    /// A system call failed.
    Os {
        /// Which.
        what: &'static str,
        /// How.
        errno: Errno,
    },
}

impl MountError {
    /// Whether trying later, or letting go of what is there, can help.
    pub fn is_busy(&self) -> bool {
        matches!(self, MountError::Busy(_) | MountError::AlreadyMounted(_))
    }
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MountError::NoMountpoint(path, Errno::ENOENT) => {
                let path = path.display();
                write!(f, "the mount point {path} does not exist: make it with mkdir -p {path}")
            }
            MountError::NoMountpoint(path, errno) => {
                write!(f, "the mount point {} cannot be reached: {errno}", path.display())
            }
            MountError::NotADirectory(path) => {
                write!(f, "the mount point {} is not a directory", path.display())
            }
            MountError::Stale(path) => {
                let path = path.display();
                write!(
                    f,
                    "{path} is a dead mount whose program has ended: run `tierfs umount {path}`, \
                     then try again"
                )
            }
            MountError::AlreadyMounted(path) => {
                write!(f, "a tierfs is already mounted on {}", path.display())
            }
            MountError::NotMounted(path) => {
                write!(f, "no tierfs is mounted on {}", path.display())
            }
            MountError::NotYours(path) => {
                let path = path.display();
                write!(f, "{path} was mounted by another user: run this as that user, or as root")
            }
            MountError::Busy(path) => {
                let path = path.display();
                write!(
                    f,
                    "{path} is in use: see who with `fuser -vm {path}`, or let it go when unused \
                     with --lazy"
                )
            }
            MountError::NoDevice(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => write!(
                f,
                "{DEVICE} is not there: load the module with `modprobe fuse`, or give the \
                 container the device"
            ),
            MountError::NoDevice(Errno::EACCES) => write!(
                f,
                "{DEVICE} may not be opened by this user: as root, run `chmod 666 {DEVICE}`, or \
                 mount as root"
            ),
            MountError::NoDevice(errno) => write!(f, "{DEVICE} cannot be opened: {errno}"),
            MountError::NoFusermount => write!(
                f,
                "fusermount3 is not installed, and mounting without it needs root: install the \
                 package fuse3"
            ),
            MountError::Refused(said) => f.write_str(said),
            MountError::Os { what, errno } => write!(f, "{what}: {errno}"),
        }
    }
}

impl std::error::Error for MountError {}

/// The mount point without symbolic links, once it is known that one can mount there.
///
/// # Errors
/// [`MountError::NoMountpoint`], `NotADirectory`, `Stale` and `AlreadyMounted`.
pub fn check_mountpoint(mountpoint: &Path) -> Result<PathBuf, MountError> {
    let mounts = mountinfo::read().unwrap_or_default();
    let metadata = fs::metadata(mountpoint).map_err(|error| match Errno::of(&error) {
        Errno::ENOTCONN => MountError::Stale(mountpoint.to_path_buf()),
        errno => MountError::NoMountpoint(mountpoint.to_path_buf(), errno),
    })?;
    if !metadata.is_dir() {
        return Err(MountError::NotADirectory(mountpoint.to_path_buf()));
    }
    let path = fs::canonicalize(mountpoint)
        .map_err(|error| MountError::NoMountpoint(mountpoint.to_path_buf(), Errno::of(&error)))?;
    match mountinfo::at(&mounts, &path) {
        Some(mount) if mount.is_tierfs() && is_dead(&path) => Err(MountError::Stale(path)),
        Some(mount) if mount.is_tierfs() => Err(MountError::AlreadyMounted(path)),
        _ => Ok(path),
    }
}

/// Mounts, and returns the descriptor of `/dev/fuse` through which the kernel sends requests.
/// Nothing answers them yet: until the caller serves, whoever touches the mount point waits.
///
/// # Errors
/// As [`MountError`] says.
pub fn mount_fuse(mountpoint: &Path, how: &FuseMount) -> Result<OwnedFd, MountError> {
    let mountpoint = check_mountpoint(mountpoint)?;
    match mount_directly(&mountpoint, how) {
        Err(MountError::Os { errno: Errno::EPERM, .. }) => fusermount::mount(&mountpoint, how),
        other => other,
    }
}

fn mount_directly(mountpoint: &Path, how: &FuseMount) -> Result<OwnedFd, MountError> {
    let device = open(DEVICE, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| MountError::NoDevice(errno.into()))?;
    let mut flags = MsFlags::empty();
    flags.set(MsFlags::MS_RDONLY, how.read_only);
    flags.set(MsFlags::MS_NOSUID, !how.suid);
    flags.set(MsFlags::MS_NODEV, !how.dev);
    flags.set(MsFlags::MS_NOEXEC, !how.exec);
    let data = data(device.as_raw_fd(), how);
    match nix::mount::mount(Some(how.source.as_os_str()), mountpoint, Some(KIND), flags, Some(data.as_str())) {
        Ok(()) => Ok(device),
        Err(nix::errno::Errno::ENODEV) => Err(MountError::NoDevice(Errno::ENODEV)),
        Err(errno) => Err(MountError::Os { what: "mount", errno: errno.into() }),
    }
}

fn data(device: i32, how: &FuseMount) -> String {
    let (uid, gid) = (getuid(), getgid());
    let mut text = format!("fd={device},rootmode=40000,user_id={uid},group_id={gid}");
    if how.default_permissions {
        text.push_str(",default_permissions");
    }
    if how.allow_other {
        text.push_str(",allow_other");
    }
    if let Some(bytes) = how.max_read_bytes {
        text.push_str(&format!(",max_read={bytes}"));
    }
    text
}

/// Unmounts the tierfs at `mountpoint`, dead or alive; with `lazy`, also one that is in use: it
/// vanishes at once and ends when the last user lets go. Never touches another filesystem.
///
/// # Errors
/// [`MountError::NotMounted`] and [`MountError::Busy`]; else as [`MountError`] says.
pub fn unmount(mountpoint: &Path, lazy: bool) -> Result<(), MountError> {
    let path = find(mountpoint)?;
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, lazy);
    match umount2(&path, flags) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EPERM) => fusermount::unmount(&path, lazy),
        Err(nix::errno::Errno::EBUSY) => Err(MountError::Busy(path)),
        Err(nix::errno::Errno::EINVAL) => Err(MountError::NotMounted(path)),
        Err(errno) => Err(MountError::Os { what: "umount", errno: errno.into() }),
    }
}

/// Whether the tierfs at `mountpoint` is one whose program has ended.
pub fn is_dead(mountpoint: &Path) -> bool {
    // The kernel keeps the attributes of a dead mount's root: only asking for its space tells.
    find(mountpoint).is_ok_and(|path| nix::sys::statfs::statfs(&path).err() == Some(nix::errno::Errno::ENOTCONN))
}

/// What can be changed while it is mounted: what the kernel enforces by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Enforced {
    /// Nothing can be changed.
    pub read_only: bool,
    /// Set-user-id bits work.
    pub suid: bool,
    /// Device nodes work.
    pub dev: bool,
    /// Programs can be run.
    pub exec: bool,
}

/// What the tierfs at `mountpoint` enforces now.
///
/// # Errors
/// As [`MountError`] says.
pub fn enforced(mountpoint: &Path) -> Result<Enforced, MountError> {
    let told = nix::sys::statvfs::statvfs(&find(mountpoint)?);
    let flags = told.map_err(|errno| MountError::Os { what: "statvfs", errno: errno.into() })?.flags();
    Ok(Enforced {
        read_only: flags.contains(FsFlags::ST_RDONLY),
        suid: !flags.contains(FsFlags::ST_NOSUID),
        dev: !flags.contains(FsFlags::ST_NODEV),
        exec: !flags.contains(FsFlags::ST_NOEXEC),
    })
}

/// Has the kernel enforce `how` from now on.
///
/// # Errors
/// [`MountError::Busy`] where files are open for writing and it is to become read-only; else as
/// [`MountError`] says.
pub fn remount(mountpoint: &Path, how: Enforced) -> Result<(), MountError> {
    let path = find(mountpoint)?;
    let mut flags = MsFlags::MS_REMOUNT;
    flags.set(MsFlags::MS_RDONLY, how.read_only);
    flags.set(MsFlags::MS_NOSUID, !how.suid);
    flags.set(MsFlags::MS_NODEV, !how.dev);
    flags.set(MsFlags::MS_NOEXEC, !how.exec);
    match nix::mount::mount(None::<&str>, &path, None::<&str>, flags, None::<&str>) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EBUSY) => Err(MountError::Busy(path)),
        Err(errno) => Err(MountError::Os { what: "remounting", errno: errno.into() }),
    }
}

/// Whether a tierfs, dead or alive, is what one sees at `mountpoint`.
pub fn is_mounted(mountpoint: &Path) -> bool {
    find(mountpoint).is_ok()
}

/// The path under which the mount table knows the tierfs at `mountpoint`.
fn find(mountpoint: &Path) -> Result<PathBuf, MountError> {
    let mounts = mountinfo::read().map_err(|errno| MountError::Os { what: "reading /proc/self/mountinfo", errno })?;
    let is_ours = |path: &PathBuf| mountinfo::at(&mounts, path).is_some_and(|m| m.is_tierfs());
    // Links in the last component are followed only if nothing is mounted there, because looking
    // at a dead or hanging mount would fail or wait.
    let whole = || fs::canonicalize(mountpoint).ok();
    let found = beside(mountpoint).filter(is_ours).or_else(|| whole().filter(is_ours));
    found.ok_or_else(|| MountError::NotMounted(mountpoint.to_path_buf()))
}

/// `path` with its parent made free of symbolic links and its last component left alone.
fn beside(path: &Path) -> Option<PathBuf> {
    let name: &OsStr = path.file_name()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = fs::canonicalize(parent.unwrap_or(Path::new("."))).ok()?;
    let mut joined = parent.into_os_string().into_vec();
    if joined != b"/" {
        joined.push(b'/');
    }
    joined.extend_from_slice(name.as_bytes());
    Some(OsString::from_vec(joined).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unmounts also when the test fails.
    struct Mounted(tempfile::TempDir);

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = unmount(self.0.path(), true);
        }
    }

    fn data_of(how: &FuseMount) -> String {
        data(5, how)
    }

    #[test]
    fn the_kernel_is_told_what_was_asked() {
        let plain = FuseMount { default_permissions: false, ..FuseMount::default() };
        let (uid, gid) = (getuid(), getgid());
        let start = format!("fd=5,rootmode=40000,user_id={uid},group_id={gid}");
        assert_eq!(data_of(&plain), start);
        let all = FuseMount { allow_other: true, max_read_bytes: Some(4096), ..FuseMount::default() };
        assert_eq!(data_of(&all), start + ",default_permissions,allow_other,max_read=4096");
    }

    #[test]
    fn what_is_no_mount_point_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent");
        let told = check_mountpoint(&absent).unwrap_err();
        assert_eq!(told, MountError::NoMountpoint(absent, Errno::ENOENT));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(check_mountpoint(&file), Err(MountError::NotADirectory(file)));
        let path = dir.path().to_path_buf();
        assert_eq!(unmount(&path, false), Err(MountError::NotMounted(path)));
    }

    #[test]
    fn a_dead_mount_is_recognised_and_can_be_cleared() {
        let dir = Mounted(tempfile::tempdir().unwrap());
        let path = dir.0.path();
        let how = FuseMount { source: "a, b".into(), read_only: true, ..FuseMount::default() };
        let device = match mount_fuse(path, &how) {
            Ok(device) => device,
            Err(error @ (MountError::NoDevice(_) | MountError::NoFusermount)) => {
                eprintln!("skipped: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(is_mounted(path));
        let mounts = mountinfo::read().unwrap();
        let canonical = beside(path).unwrap();
        assert_eq!(mountinfo::at(&mounts, &canonical).unwrap().source, "a, b");
        drop(device);
        assert_eq!(check_mountpoint(path), Err(MountError::Stale(path.to_path_buf())));
        assert!(is_dead(path));
        unmount(path, false).unwrap();
        assert!(!is_mounted(path));
    }
}
