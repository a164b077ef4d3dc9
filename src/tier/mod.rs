//! One level of storage. A tier holds files under a root and knows nothing of other tiers.
//!
//! The union speaks to a tier in directories and names, never in path strings: a [`Dir`] is one
//! directory that was opened once, and every call names at most one component below it. A tier
//! never follows a symbolic link, so nobody who can write into it can lead the union out of it.
//!
//! Promises every tier keeps: a call that returns `Ok` has taken effect; absence of a name is
//! `Ok(None)` from [`Dir::stat`] and ENOENT elsewhere; `rename` and `create` are atomic.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use crate::types::attr::{Kind, SetAttr, Space, Stat};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::lease::Excludes;
use crate::types::name::Name;

pub mod acl;
pub mod directory;
pub mod durable;
pub mod encrypted;
pub mod guarded;
pub mod marker;
pub mod place;
mod read_only;
pub mod reverse;
pub mod shielded;
pub mod small;
pub mod source;

#[cfg(test)]
pub(crate) use read_only::unchangeable_file;

/// One level of storage.
pub trait Tier: std::fmt::Debug + Send + Sync {
    /// The root directory.
    fn root(&self) -> Arc<dyn Dir>;

    /// Whether it can be reached at all: every call is EIO otherwise.
    fn is_there(&self) -> bool {
        true
    }

    /// Space and inodes.
    fn space(&self) -> Result<Space>;

    /// How many bytes of contents find room in so many free bytes; on an encrypted tier fewer.
    fn holds(&self, free: u64) -> u64 {
        free
    }

    /// Whether bodies that tierfs stamped with the number of an older body may be here, so that
    /// [`Dir::stat`] alone does not tell a directory's number.
    fn has_stamps(&self) -> bool;

    /// Records, durably, that there are stamps from now on. Comes before the first stamp.
    fn announce_stamps(&self) -> Result<()>;

    /// Whether files may have left the tier for another with their numbers, so that a listing alone
    /// does not tell a number here any more.
    fn has_given(&self) -> bool;

    /// Records, durably, that files leave the tier with their numbers from now on. Comes before
    /// the first that does. A body made later never gets a number that was given away.
    fn announce_given(&self) -> Result<()>;

    /// Whether what is written may be held back until a file is closed, so that only the close tells of a full disk
    /// or a quota: on a server (NFS, SMB) or in a program (FUSE). True also while the tier is away.
    fn holds_back(&self) -> bool {
        false
    }

    /// Makes what is written to the tier from here on durable when asked; `None` where each file and each directory
    /// must be made durable by itself, since the storage cannot be believed when it is asked for all.
    fn syncing(&self) -> Result<Option<Box<dyn Syncing>>>;

    /// Whether reading a file here sets its access time, at least once a day.
    fn keeps_access_times(&self) -> bool;

    /// Where the tier is on the local machine, if it is.
    fn path(&self) -> Option<&std::path::Path>;

    /// Where on the local machine what these names lead to is, from the root down: on an encrypted tier the
    /// names there are others.
    ///
    /// # Errors
    /// ENODATA for a tier that is elsewhere; what opening the directories on the way says.
    fn real_path(&self, names: &[Name]) -> Result<std::path::PathBuf> {
        let mut path = self.path().ok_or(Errno::ENODATA)?.to_path_buf();
        let mut above: Option<(Arc<dyn Dir>, &Name)> = None;
        for name in names {
            let dir = match above {
                Some((dir, name)) => dir.open_dir(name)?,
                None => self.root(),
            };
            path.push(std::ffi::OsString::from_vec(dir.stored_name(name)?));
            above = Some((dir, name));
        }
        Ok(path)
    }

    /// What another program's change of `stored`, a name in the storage's directory `dir`, concerns.
    fn outside(&self, _dir: std::os::fd::BorrowedFd<'_>, stored: &[u8]) -> Outside {
        Outside::of(stored)
    }

    /// The number of the body that an opened directory is; `None` where the tier is no directory
    /// of the local machine. It need not be inside the tier.
    fn body_of(&self, dir: std::os::fd::BorrowedFd<'_>) -> Result<Option<crate::types::attr::Body>>;
}

/// What a change beside the mount concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outside {
    /// The entry of this name.
    Name(Box<Name>),
    /// Any entry of the directory: which cannot be told.
    Any,
    /// No entry.
    Nothing,
}

impl Outside {
    /// The entry of this name; none where no entry can have it.
    fn of(name: &[u8]) -> Outside {
        Name::new(name).map_or(Outside::Nothing, |name| Outside::Name(Box::new(name)))
    }
}

/// Makes a tier durable as a whole: one call for thousands of files. Only tiers have it whose filesystem is known
/// to do what it says it has done.
pub trait Syncing: std::fmt::Debug + Send + Sync {
    /// Everything written to the tier's filesystem before this call is durable after it.
    ///
    /// # Errors
    /// EIO and what else the storage says, also of a write that failed in the background since this
    /// value was made.
    fn sync(&self) -> Result<()>;
}

/// What a name, a directory or an open file of a tier has in common.
///
/// Methods of [`Dir`] take `Option<&Name>`: `None` is the directory itself.
pub trait Dir: std::fmt::Debug + Send + Sync + std::any::Any {
    /// Attributes; `None` where the name is absent.
    fn stat(&self, name: Option<&Name>) -> Result<Option<Stat>>;

    /// Opens a directory below. ENOTDIR for anything else, also for a link to a directory.
    fn open_dir(&self, name: &Name) -> Result<Arc<dyn Dir>>;

    /// Opens a file for what `how` says, without blocking on a fifo or following a link (ELOOP).
    fn open(&self, name: &Name, how: Open) -> Result<Box<dyn File>>;

    /// Creates a regular file that must not be there, open for reading and writing as `how` says.
    fn create(&self, name: &Name, mode: u32, how: Open, by: &Caller) -> Result<Box<dyn File>>;

    /// Makes a directory.
    fn mkdir(&self, name: &Name, mode: u32, by: &Caller) -> Result<()>;

    /// Makes a node of the type in `mode`.
    fn mknod(&self, name: &Name, mode: u32, rdev: u64, by: &Caller) -> Result<()>;

    /// Makes a symbolic link.
    fn symlink(&self, name: &Name, target: &std::ffi::OsStr, by: &Caller) -> Result<()>;

    /// The target of a symbolic link.
    fn readlink(&self, name: &Name) -> Result<Vec<u8>>;

    /// A second name in `to`, which belongs to the same tier.
    fn link(&self, name: &Name, to: &dyn Dir, new: &Name) -> Result<()>;

    /// Removes a non-directory.
    fn unlink(&self, name: &Name) -> Result<()>;

    /// Removes an empty directory.
    fn rmdir(&self, name: &Name) -> Result<()>;

    /// Renames into `to`, which belongs to the same tier.
    fn rename(&self, name: &Name, to: &dyn Dir, new: &Name, how: Rename) -> Result<()>;

    /// All entries but `.` and `..`, in the order of the storage, each passed to `each`.
    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> Result<()>;

    /// All entries but `.` and `..`, with the attributes of the regular files, until `each` breaks
    /// off. It leaves no trace in the directory's access time where the caller may do so, and
    /// leaves out what vanishes meanwhile. An entry that fails is passed with its error; the
    /// error of the whole is that of the directory.
    fn survey(&self, each: &mut dyn FnMut(Surveyed<'_>) -> ControlFlow<()>) -> Result<()>;

    /// Changes attributes (all but the size).
    fn set_attr(&self, name: Option<&Name>, change: &SetAttr) -> Result<()>;

    /// One extended attribute. ENODATA if there is none of that name.
    fn get_xattr(&self, name: Option<&Name>, key: &std::ffi::CStr) -> Result<Vec<u8>>;

    /// Sets an extended attribute.
    fn set_xattr(&self, name: Option<&Name>, key: &std::ffi::CStr, value: &[u8], how: SetXattr) -> Result<()>;

    /// Names of the extended attributes, each ended by a NUL.
    fn list_xattr(&self, name: Option<&Name>) -> Result<Vec<u8>>;

    /// Removes an extended attribute.
    fn remove_xattr(&self, name: Option<&Name>, key: &std::ffi::CStr) -> Result<()>;

    /// Makes entries and attributes of this directory durable.
    fn fsync(&self) -> Result<()>;

    /// The directory open for reading, where it is one of the local machine.
    fn descriptor(&self) -> Result<OwnedFd>;

    /// The descriptor that holds the directory, where it is one of the local machine.
    fn held(&self) -> Option<std::os::fd::BorrowedFd<'_>>;

    /// The directory as a file, for its inode flags.
    fn as_file(&self) -> Result<Box<dyn File>>;

    /// What `name` is called in the storage, be it there or not. Only an encrypted tier has other names there.
    ///
    /// # Errors
    /// ENAMETOOLONG for what the storage cannot name; what reading the directory says.
    fn stored_name(&self, name: &Name) -> Result<Vec<u8>> {
        Ok(name.as_bytes().to_vec())
    }

    /// Passes on what the storage holds here that should be an entry and is none, with the reason: on an
    /// encrypted tier names that are damaged, forged or foreign. [`Dir::list`] leaves them out.
    ///
    /// # Errors
    /// What reading the directory says.
    fn list_damaged(&self, _each: &mut dyn FnMut(&[u8], String)) -> Result<()> {
        Ok(())
    }

    /// For the tier's own downcast in `link` and `rename`.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// An open file, or a file held without being open ([`Open::Hold`]).
pub trait File: std::fmt::Debug + Send + Sync {
    /// Attributes.
    fn stat(&self) -> Result<Stat>;

    /// Changes attributes; the size only on a file open for writing.
    fn set_attr(&self, change: &SetAttr) -> Result<()>;

    /// Reads at `offset` (bytes); fewer bytes only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes all of `data` at `offset` (bytes).
    /// The count is short only where an error struck after some bytes.
    fn write_at(&self, data: &[u8], offset: u64) -> Result<usize>;

    /// Writes all of `data` at the end, atomically against other appenders.
    fn append(&self, data: &[u8]) -> Result<usize>;

    /// Has what was written reach the storage's own server, if it is held back from it ([`Tier::holds_back`]).
    ///
    /// # Errors
    /// What `close(2)` would say: EIO, ENOSPC, EDQUOT of what was written before.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Makes contents (and, unless `data_only`, attributes) durable.
    fn fsync(&self, data_only: bool) -> Result<()>;

    /// Has the contents reach the disk no later than what is done to names in the tier afterwards.
    ///
    /// # Errors
    /// As [`File::fsync`].
    fn settle(&self) -> Result<()> {
        self.fsync(true)
    }

    /// `fallocate(2)`.
    fn allocate(&self, mode: i32, offset: u64, length: u64) -> Result<()>;

    /// `lseek(2)` with SEEK_DATA or SEEK_HOLE.
    fn seek(&self, offset: u64, whence: i32) -> Result<u64>;

    /// One extended attribute.
    fn get_xattr(&self, key: &std::ffi::CStr) -> Result<Vec<u8>>;

    /// Sets an extended attribute.
    fn set_xattr(&self, key: &std::ffi::CStr, value: &[u8], how: SetXattr) -> Result<()>;

    /// Names of the extended attributes.
    fn list_xattr(&self) -> Result<Vec<u8>>;

    /// Removes an extended attribute.
    fn remove_xattr(&self, key: &std::ffi::CStr) -> Result<()>;

    /// The descriptor through which the kernel may serve the data itself: plain tiers only.
    fn backing(&self) -> Option<std::os::fd::BorrowedFd<'_>>;

    /// A name for this file in `to`, which belongs to the same tier. ENOENT if no name is left.
    fn link_to(&self, to: &dyn Dir, new: &Name) -> Result<()>;

    /// Copies up to `length` bytes into `to` without bringing them here; EXDEV where that cannot be.
    fn copy_to(&self, offset: u64, to: &dyn File, to_offset: u64, length: u64) -> Result<usize>;

    /// The same file opened for something else, whatever its name has become.
    fn reopen(&self, how: Open) -> Result<Box<dyn File>>;

    /// Whether anybody has this file, which is open for reading only, open for writing or mapped
    /// so, through the mount or beside it. `true` where the storage cannot tell.
    fn is_written(&self) -> Result<bool>;

    /// Claims this file, which is open for reading only, against those that `excludes` says;
    /// `false` if one of them has it open already. The claim ends with this value.
    ///
    /// # Errors
    /// EINVAL where the storage has no such thing; EACCES for another user's file.
    fn claim(&self, excludes: Excludes) -> Result<bool>;

    /// Whether the claim stands and nobody waits for its end.
    fn is_claimed(&self, excludes: Excludes) -> Result<bool>;

    /// Ends the claim: whoever waits for that goes on.
    fn unclaim(&self) -> Result<()>;

    /// Has the next reads come from the storage and not from memory, where that can be asked for.
    fn drop_cache(&self);

    /// Has the first `length` bytes read from the storage soon: a hint.
    fn read_ahead(&self, length: u64);

    /// Has a range written to the storage soon: a hint.
    fn start_writing(&self, offset: u64, length: u64);

    /// The inode flags of `chattr(1)`; ENOTTY where the storage has none.
    fn flags(&self) -> Result<u32>;

    /// Sets the inode flags.
    fn set_flags(&self, flags: u32) -> Result<()>;

    /// `struct fsxattr` of `linux/fs.h`.
    fn fsxattr(&self) -> Result<[u8; 28]>;
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Only to refer to it: attributes, passthrough. Works for every type of file.
    Hold,
    /// Reading.
    Read,
    /// Reading, without a trace in the access time where the caller may do so.
    ReadQuiet,
    /// Writing.
    Write,
    /// Both.
    ReadWrite,
    /// Both, without a trace in the access time where the caller may do so.
    ReadWriteQuiet,
}

/// What a rename does with a target that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// It goes.
    Replace,
    /// EEXIST.
    NoReplace,
    /// The two change places.
    Exchange,
}

/// One entry of a directory.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its type, where the storage tells it without a look at the inode.
    pub kind: Option<crate::types::attr::Kind>,
    /// Which body it is.
    pub body: crate::types::attr::Body,
}

/// One entry of a directory that is surveyed.
#[derive(Debug, Clone, Copy)]
pub struct Surveyed<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// What it is.
    pub what: Result<Found>,
}

/// What a survey finds under a name.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    /// A regular file.
    File(Stat),
    /// Anything else; its attributes are not read.
    Other(Kind),
}

/// How an extended attribute is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetXattr {
    /// `XATTR_CREATE`, `XATTR_REPLACE` of `setxattr(2)`.
    pub flags: i32,
    /// An access ACL changes the mode; the caller may keep the set-group-id bit in it.
    pub keep_set_gid: bool,
}

/// The names in a list of extended attributes.
pub fn split_keys(list: &[u8]) -> Vec<std::ffi::CString> {
    list.split_inclusive(|b| *b == 0)
        .filter_map(|key| std::ffi::CString::from_vec_with_nul(key.to_vec()).ok())
        .collect()
}
