//! The plain tier: a directory of the local machine, files as they are.
//!
//! A directory is held by an `O_PATH` descriptor and reached only through it, so renames above it
//! or links swapped in beside it change nothing of what the union touches.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::sys::at::{self, Flags, RenameFlag};
use crate::sys::stat::Statx;
use crate::sys::{creds, dirents, io, stat, xattr};
use crate::tier::{Dir, File, Listed, Open, Rename, SetXattr, Tier};
use crate::types::attr::{Body, SetAttr, Space, Stat};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// A plain tier.
pub struct DirectoryTier {
    root: Arc<DirectoryDir>,
    path: PathBuf,
    stamps: AtomicBool,
    /// Makes the marker say that there are stamps.
    announce: Box<Announce>,
}

/// Records in a tier's marker that it holds stamped bodies from now on.
pub type Announce = dyn Fn() -> Result<()> + Send + Sync;

impl std::fmt::Debug for DirectoryTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectoryTier").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DirectoryTier {
    /// Over an opened root. `seed` comes from the tier's id, `stamps` from its marker.
    ///
    /// # Errors
    /// What `statx(2)` says of the root.
    pub fn new(
        root: &OwnedFd,
        path: PathBuf,
        seed: u64,
        stamps: bool,
        announce: Box<Announce>,
    ) -> Result<DirectoryTier> {
        let root_dev = stat::statx(root.as_fd(), None)?.dev;
        let bodies = Arc::new(Bodies { seed, root_dev, others: RwLock::default() });
        // Reading needs the list right; holding the root as O_PATH pins it just as well.
        let held = at::open(root.as_fd(), c".", Flags::HOLD_DIR, 0)?;
        let root = Arc::new(DirectoryDir { fd: held, bodies });
        Ok(DirectoryTier { root, path, stamps: AtomicBool::new(stamps), announce })
    }
}

impl Tier for DirectoryTier {
    fn root(&self) -> Arc<dyn Dir> {
        Arc::clone(&self.root) as Arc<dyn Dir>
    }

    fn space(&self) -> Result<Space> {
        stat::statfs(self.root.fd.as_fd())
    }

    fn has_stamps(&self) -> bool {
        self.stamps.load(Ordering::Acquire)
    }

    fn announce_stamps(&self) -> Result<()> {
        if !self.has_stamps() {
            (self.announce)()?;
            self.stamps.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn body_of(&self, dir: BorrowedFd<'_>) -> Result<Option<Body>> {
        let raw = stat::statx(dir, None)?;
        Ok(Some(self.root.bodies.stat(&raw, || stat::statfs(dir).map(|s| s.filesystem)).body))
    }
}

/// Makes the number of a body.
#[derive(Debug)]
struct Bodies {
    seed: u64,
    root_dev: u64,
    /// Stable ids of filesystems mounted inside the tier, and of btrfs subvolumes.
    others: RwLock<HashMap<u64, u64>>,
}

impl Bodies {
    fn filesystem(&self, dev: u64, at: impl FnOnce() -> Result<u64>) -> u64 {
        if dev == self.root_dev {
            return 0;
        }
        if let Some(id) = self.others.read().get(&dev) {
            return *id;
        }
        // The device number is a poor second: it may change at the next boot.
        let id = at().unwrap_or(dev);
        self.others.write().insert(dev, id);
        id
    }

    fn body(&self, filesystem: u64, ino: u64) -> Body {
        Body(mix(mix(self.seed ^ filesystem) ^ ino))
    }

    fn stat(&self, raw: &Statx, fsid: impl FnOnce() -> Result<u64>) -> Stat {
        let birth = raw.btime.unwrap_or_default();
        let birth = mix(birth.sec.cast_unsigned() ^ mix(u64::from(birth.nsec)));
        Stat {
            body: self.body(self.filesystem(raw.dev, fsid), raw.ino),
            generation: u32::try_from(birth & 0x7fff_ffff).unwrap_or(0),
            mode: raw.mode,
            nlink: raw.nlink,
            uid: raw.uid,
            gid: raw.gid,
            rdev: raw.rdev,
            size: raw.size,
            blocks: raw.blocks,
            blksize: raw.blksize,
            atime: raw.atime,
            mtime: raw.mtime,
            ctime: raw.ctime,
        }
    }
}

/// A bijection that spreads every bit over all: the finaliser of MurmurHash3, by Austin Appleby,
/// after an odd increment so that zero does not map to itself. Never change it: inode numbers of
/// every mount come from it.
#[must_use]
pub fn mix(word: u64) -> u64 {
    let mut x = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

#[derive(Debug)]
struct DirectoryDir {
    fd: OwnedFd,
    bodies: Arc<Bodies>,
}

impl DirectoryDir {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn file(&self, fd: OwnedFd) -> Box<dyn File> {
        Box::new(DirectoryFile { fd, bodies: Arc::clone(&self.bodies) })
    }
}

fn c_name(name: Option<&Name>) -> Option<&CStr> {
    name.map(Name::as_c_str)
}

fn c_target(target: &OsStr) -> Result<CString> {
    CString::new(target.as_bytes()).map_err(|_| Errno::EINVAL)
}

/// The other directory of a link or rename, which belongs to the same kind of tier.
fn same_kind(to: &dyn Dir) -> Result<&DirectoryDir> {
    to.as_any().downcast_ref().ok_or(Errno::EXDEV)
}

impl Open {
    fn flags(self) -> Flags {
        match self {
            Open::Hold => Flags::HOLD,
            Open::Read => Flags::READ,
            Open::ReadQuiet => Flags::READ_QUIET,
            Open::Write => Flags::WRITE,
            Open::ReadWrite => Flags::READ_WRITE,
        }
    }
}

impl Dir for DirectoryDir {
    fn stat(&self, name: Option<&Name>) -> Result<Option<Stat>> {
        let raw = match stat::statx(self.fd(), c_name(name)) {
            Ok(raw) => raw,
            Err(Errno::ENOENT) if name.is_some() => return Ok(None),
            Err(other) => return Err(other),
        };
        Ok(Some(self.bodies.stat(&raw, || match name {
            None => stat::statfs(self.fd()).map(|s| s.filesystem),
            Some(name) => {
                let held = at::open(self.fd(), name.as_c_str(), Flags::HOLD, 0)?;
                stat::statfs(held.as_fd()).map(|s| s.filesystem)
            }
        })))
    }

    fn open_dir(&self, name: &Name) -> Result<Arc<dyn Dir>> {
        let fd = at::open(self.fd(), name.as_c_str(), Flags::HOLD_DIR, 0)?;
        Ok(Arc::new(DirectoryDir { fd, bodies: Arc::clone(&self.bodies) }))
    }

    fn open(&self, name: &Name, how: Open) -> Result<Box<dyn File>> {
        let fd = match at::open(self.fd(), name.as_c_str(), how.flags(), 0) {
            // Only the owner may read without touching the access time.
            Err(Errno::EPERM) if how == Open::ReadQuiet => at::open(self.fd(), name.as_c_str(), Flags::READ, 0)?,
            other => other?,
        };
        Ok(self.file(fd))
    }

    fn create(&self, name: &Name, mode: u32, how: Open, by: &Caller) -> Result<Box<dyn File>> {
        let flags = match how {
            Open::Hold | Open::Read | Open::ReadQuiet => Flags::READ,
            Open::Write | Open::ReadWrite => Flags::READ_WRITE,
        };
        let make = || at::open(self.fd(), name.as_c_str(), flags.create_new(), mode & 0o7777);
        let fd = creds::as_caller(by, || if mode & SET_GID != 0 { creds::with_fsetid(make) } else { make() })?;
        Ok(self.file(fd))
    }

    fn mkdir(&self, name: &Name, mode: u32, by: &Caller) -> Result<()> {
        creds::as_caller(by, || at::mkdir(self.fd(), name.as_c_str(), mode & 0o7777))
    }

    fn mknod(&self, name: &Name, mode: u32, rdev: u64, by: &Caller) -> Result<()> {
        let make = || at::mknod(self.fd(), name.as_c_str(), mode, rdev);
        creds::as_caller(by, || if mode & SET_GID != 0 { creds::with_fsetid(make) } else { make() })
    }

    fn symlink(&self, name: &Name, target: &OsStr, by: &Caller) -> Result<()> {
        let target = c_target(target)?;
        creds::as_caller(by, || at::symlink(self.fd(), name.as_c_str(), &target))
    }

    fn readlink(&self, name: &Name) -> Result<Vec<u8>> {
        at::readlink(self.fd(), name.as_c_str())
    }

    fn link(&self, name: &Name, to: &dyn Dir, new: &Name) -> Result<()> {
        at::link(self.fd(), name.as_c_str(), same_kind(to)?.fd(), new.as_c_str())
    }

    fn unlink(&self, name: &Name) -> Result<()> {
        at::unlink(self.fd(), name.as_c_str())
    }

    fn rmdir(&self, name: &Name) -> Result<()> {
        at::rmdir(self.fd(), name.as_c_str())
    }

    fn rename(&self, name: &Name, to: &dyn Dir, new: &Name, how: Rename) -> Result<()> {
        let flag = match how {
            Rename::Replace => RenameFlag::Replace,
            Rename::NoReplace => RenameFlag::NoReplace,
            Rename::Exchange => RenameFlag::Exchange,
        };
        at::rename(self.fd(), name.as_c_str(), same_kind(to)?.fd(), new.as_c_str(), flag)
    }

    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> Result<()> {
        let fd = at::open(self.fd(), c".", Flags::LIST, 0)?;
        let filesystem = match stat::statx(fd.as_fd(), None)?.dev {
            dev if dev == self.bodies.root_dev => 0,
            dev => self.bodies.filesystem(dev, || stat::statfs(fd.as_fd()).map(|s| s.filesystem)),
        };
        dirents::list(fd.as_fd(), &mut |name, kind, ino| {
            each(Listed { name, kind, body: self.bodies.body(filesystem, ino) });
        })
    }

    fn set_attr(&self, name: Option<&Name>, change: &SetAttr) -> Result<()> {
        set_attr(self.fd(), c_name(name), change)
    }

    fn get_xattr(&self, name: Option<&Name>, key: &CStr) -> Result<Vec<u8>> {
        xattr::get(self.fd(), c_name(name), key)
    }

    fn set_xattr(&self, name: Option<&Name>, key: &CStr, value: &[u8], how: SetXattr) -> Result<()> {
        set_xattr(self.fd(), c_name(name), key, value, how)
    }

    fn list_xattr(&self, name: Option<&Name>) -> Result<Vec<u8>> {
        xattr::list(self.fd(), c_name(name))
    }

    fn remove_xattr(&self, name: Option<&Name>, key: &CStr) -> Result<()> {
        xattr::remove(self.fd(), c_name(name), key)
    }

    fn fsync(&self) -> Result<()> {
        let fd = at::open(self.fd(), c".", Flags::LIST, 0)?;
        io::fsync(fd.as_fd(), false)
    }

    fn descriptor(&self) -> Result<OwnedFd> {
        at::open(self.fd(), c".", Flags::LIST, 0)
    }

    fn held(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd())
    }

    fn as_file(&self) -> Result<Box<dyn File>> {
        Ok(self.file(self.descriptor()?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `S_ISGID` of `inode(7)`.
const SET_GID: u32 = 0o2000;

fn set_xattr(fd: BorrowedFd<'_>, name: Option<&CStr>, key: &CStr, value: &[u8], how: SetXattr) -> Result<()> {
    let act = || xattr::set(fd, name, key, value, how.flags);
    if how.keep_set_gid { creds::with_fsetid(act) } else { act() }
}

/// Owner first, since a change of owner clears set-id bits; then the mode; times last, since the
/// others touch none.
fn set_attr(fd: BorrowedFd<'_>, name: Option<&CStr>, change: &SetAttr) -> Result<()> {
    if change.uid.is_some() || change.gid.is_some() {
        stat::chown(fd, name, change.uid, change.gid)?;
    }
    if let Some(mode) = change.mode {
        let act = || stat::chmod(fd, name, mode & 0o7777);
        if mode & SET_GID != 0 { creds::with_fsetid(act)? } else { act()? }
    }
    if change.atime.is_some() || change.mtime.is_some() {
        stat::set_times(fd, name, change.atime, change.mtime)?;
    }
    Ok(())
}

#[derive(Debug)]
struct DirectoryFile {
    fd: OwnedFd,
    bodies: Arc<Bodies>,
}

impl File for DirectoryFile {
    fn stat(&self) -> Result<Stat> {
        let raw = stat::statx(self.fd.as_fd(), None)?;
        Ok(self.bodies.stat(&raw, || stat::statfs(self.fd.as_fd()).map(|s| s.filesystem)))
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        if let Some(size) = change.size {
            io::truncate(self.fd.as_fd(), size)?;
        }
        set_attr(self.fd.as_fd(), None, change)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        io::read_at(self.fd.as_fd(), buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        io::write_at(self.fd.as_fd(), data, offset)
    }

    fn append(&self, data: &[u8]) -> Result<usize> {
        io::append(self.fd.as_fd(), data)
    }

    fn fsync(&self, data_only: bool) -> Result<()> {
        io::fsync(self.fd.as_fd(), data_only)
    }

    fn allocate(&self, mode: i32, offset: u64, length: u64) -> Result<()> {
        io::allocate(self.fd.as_fd(), mode, offset, length)
    }

    fn seek(&self, offset: u64, whence: i32) -> Result<u64> {
        io::seek(self.fd.as_fd(), offset, whence)
    }

    fn get_xattr(&self, key: &CStr) -> Result<Vec<u8>> {
        xattr::get(self.fd.as_fd(), None, key)
    }

    fn set_xattr(&self, key: &CStr, value: &[u8], how: SetXattr) -> Result<()> {
        set_xattr(self.fd.as_fd(), None, key, value, how)
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        xattr::list(self.fd.as_fd(), None)
    }

    fn remove_xattr(&self, key: &CStr) -> Result<()> {
        xattr::remove(self.fd.as_fd(), None, key)
    }

    fn backing(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn link_to(&self, to: &dyn Dir, new: &Name) -> Result<()> {
        at::link_held(self.fd.as_fd(), same_kind(to)?.fd(), new.as_c_str())
    }

    fn copy_to(&self, offset: u64, to: &dyn File, to_offset: u64, length: u64) -> Result<usize> {
        let to = to.backing().ok_or(Errno::EXDEV)?;
        io::copy_range(self.fd.as_fd(), offset, to, to_offset, usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn reopen(&self, how: Open) -> Result<Box<dyn File>> {
        let fd = match at::reopen(self.fd.as_fd(), how.flags()) {
            Err(Errno::EPERM) if how == Open::ReadQuiet => at::reopen(self.fd.as_fd(), Flags::READ)?,
            other => other?,
        };
        Ok(Box::new(DirectoryFile { fd, bodies: Arc::clone(&self.bodies) }))
    }

    fn is_written(&self) -> Result<bool> {
        io::is_written(self.fd.as_fd())
    }

    fn flags(&self) -> Result<u32> {
        io::get_flags(self.fd.as_fd())
    }

    fn set_flags(&self, flags: u32) -> Result<()> {
        io::set_flags(self.fd.as_fd(), flags)
    }

    fn fsxattr(&self) -> Result<[u8; 28]> {
        io::get_fsxattr(self.fd.as_fd())
    }
}
