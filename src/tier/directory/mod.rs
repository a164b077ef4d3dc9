//! The plain tier: a directory of the local machine, files as they are.
//!
//! A directory is held by an `O_PATH` descriptor and reached only through it, so renames above it
//! or links swapped in beside it change nothing of what the union touches.

use std::any::Any;
use std::ffi::{CStr, CString, OsStr};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::sys::at::{self, Flags, RenameFlag};
use crate::sys::{creds, dirents, io, stat, xattr};
use crate::tier::{Dir, File, Listed, Open, Rename, SetXattr, Surveyed, Syncing, Tier};
use crate::types::attr::{Body, SetAttr, Space, Stat, Time};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

pub mod bodies;
mod file;
mod survey;

use bodies::{Bodies, GIVEN_AHEAD, NEVER, nanos, now, time_of};
use file::DirectoryFile;

/// A plain tier.
pub struct DirectoryTier {
    root: Arc<DirectoryDir>,
    path: PathBuf,
    /// Whether its mount is one without `noatime`.
    access_times: bool,
    stamps: AtomicBool,
    giving: Mutex<()>,
    /// Makes the marker say so.
    announce: Box<Announce>,
}

/// Records something in a tier's marker, durably.
pub type Announce = dyn Fn(News) -> Result<()> + Send + Sync;

/// What a tier's marker must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// There may be stamped bodies from now on.
    Stamps,
    /// Bodies may leave with their numbers from this moment on.
    Given(Time),
}

/// What is known of a tier from its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// Makes its numbers different from other tiers'.
    pub seed: u64,
    /// Whether there may be stamped bodies.
    pub stamps: bool,
    /// Since when bodies may have left with their numbers.
    pub given: Option<Time>,
}

impl std::fmt::Debug for DirectoryTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectoryTier").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DirectoryTier {
    /// Over an opened root.
    ///
    /// # Errors
    /// What `statx(2)` says of the root.
    pub fn new(root: &OwnedFd, path: PathBuf, known: Known, announce: Box<Announce>) -> Result<DirectoryTier> {
        let root_dev = stat::statx(root.as_fd(), None)?.dev;
        if known.given.is_some_and(|given| now() < nanos(given)) {
            tracing::warn!(tier = %path.display(), "the clock is behind the time at which files first left this tier: new files may get the inode numbers of moved ones. Set the clock");
        }
        let given = AtomicI64::new(known.given.map_or(NEVER, nanos));
        let bodies = Arc::new(Bodies { seed: known.seed, root_dev, given, others: RwLock::default() });
        let stamps = known.stamps;
        let access_times = stat::keeps_access_times(root.as_fd())?;
        // Reading needs the list right; holding the root as O_PATH pins it just as well.
        let held = at::open(root.as_fd(), c".", Flags::HOLD_DIR, 0)?;
        let root = Arc::new(DirectoryDir { fd: held, bodies });
        Ok(DirectoryTier {
            root,
            path,
            access_times,
            stamps: AtomicBool::new(stamps),
            giving: Mutex::default(),
            announce,
        })
    }
}

impl Tier for DirectoryTier {
    fn root(&self) -> Arc<dyn Dir> {
        Arc::clone(&self.root) as Arc<dyn Dir>
    }

    fn space(&self) -> Result<Space> {
        stat::statfs(self.root.fd.as_fd())
    }

    fn keeps_access_times(&self) -> bool {
        self.access_times
    }

    fn has_stamps(&self) -> bool {
        self.stamps.load(Ordering::Acquire)
    }

    fn announce_stamps(&self) -> Result<()> {
        if !self.has_stamps() {
            (self.announce)(News::Stamps)?;
            self.stamps.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn has_given(&self) -> bool {
        self.root.bodies.given.load(Ordering::Acquire) != NEVER
    }

    fn announce_given(&self) -> Result<()> {
        let _once = self.giving.lock();
        if self.has_given() {
            return Ok(());
        }
        // A body made before the moment keeps its number, and one made after it must never have been
        // seen with another. So the moment lies ahead, and is in force before it comes.
        let mut ahead = GIVEN_AHEAD;
        let moment = loop {
            ahead = ahead.saturating_mul(4);
            let moment = now().saturating_add(ahead);
            (self.announce)(News::Given(time_of(moment)))?;
            if now() < moment {
                self.root.bodies.given.store(moment, Ordering::Release);
                break moment;
            }
        };
        // The filesystem's clock stands still for up to a tick.
        while now() <= moment.saturating_add(GIVEN_AHEAD) {
            std::thread::sleep(std::time::Duration::from_nanos(GIVEN_AHEAD.unsigned_abs()));
        }
        Ok(())
    }

    fn syncing(&self) -> Result<Option<Box<dyn Syncing>>> {
        let root = at::open(self.root.fd.as_fd(), c".", Flags::LIST, 0)?;
        Ok(if io::is_synced_as_a_whole(root.as_fd())? { Some(Box::new(WholeFilesystem(root))) } else { None })
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn real_path(&self, names: &[Name]) -> Result<PathBuf> {
        Ok(names.iter().fold(self.path.clone(), |path, name| path.join(OsStr::from_bytes(name.as_bytes()))))
    }

    fn body_of(&self, dir: BorrowedFd<'_>) -> Result<Option<Body>> {
        let raw = stat::statx(dir, None)?;
        Ok(Some(self.root.bodies.stat(&raw, || stat::statfs(dir).map(|s| s.filesystem)).body))
    }
}

/// The descriptor from whose opening on failures are told.
#[derive(Debug)]
struct WholeFilesystem(OwnedFd);

impl Syncing for WholeFilesystem {
    fn sync(&self) -> Result<()> {
        io::syncfs(self.0.as_fd())
    }
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
            Open::ReadWriteQuiet => Flags::READ_WRITE_QUIET,
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
        Ok(Some(self.stat_of(c_name(name), &raw)))
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
            Open::ReadWriteQuiet => Flags::READ_WRITE_QUIET,
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

    fn survey(&self, each: &mut dyn FnMut(Surveyed<'_>) -> ControlFlow<()>) -> Result<()> {
        self.survey_entries(each)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::attr::Time;

    /// A file made while the first move is being announced, however long that takes, has one number
    /// from its first look on.
    #[test]
    fn files_made_during_the_first_announcement_keep_their_number() {
        let home = tempfile::tempdir().unwrap();
        let root: OwnedFd = std::fs::File::open(home.path()).unwrap().into();
        let look = |known: Known, announce: Box<Announce>| {
            DirectoryTier::new(&root, home.path().to_path_buf(), known, announce).unwrap()
        };
        let name = |at: usize| Name::new(at.to_string().as_bytes()).unwrap();
        // Numbers are a function of what is known of the tier, so another view tells the same.
        let before = Arc::new(look(Known::default(), Box::new(|_| Ok(()))));
        let (path, view) = (home.path().to_path_buf(), Arc::clone(&before));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (seen_there, last) = (Arc::clone(&seen), Arc::new(Mutex::new(Time::default())));
        let last_there = Arc::clone(&last);
        let announce = move |news: News| {
            let News::Given(moment) = news else { return Ok(()) };
            let mut seen = seen_there.lock();
            // The first announcement takes too long.
            while seen.is_empty() && now() <= nanos(moment) + 2 * GIVEN_AHEAD {
                std::hint::spin_loop();
            }
            let at = seen.len();
            std::fs::write(path.join(at.to_string()), "").unwrap();
            seen.push(view.root().stat(Some(&name(at))).unwrap().unwrap().body);
            *last_there.lock() = moment;
            Ok(())
        };
        let tier = look(Known::default(), Box::new(announce));
        tier.announce_given().unwrap();
        let seen = seen.lock();
        assert!(seen.len() > 1, "the second announcement was in time");
        let after = look(Known { given: Some(*last.lock()), ..Known::default() }, Box::new(|_| Ok(())));
        for (at, body) in seen.iter().enumerate() {
            for view in [&tier, &after] {
                assert_eq!(view.root().stat(Some(&name(at))).unwrap().unwrap().body, *body, "file {at}");
            }
        }
    }
}
