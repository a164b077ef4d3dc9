//! fanotify with file handles: which directory and name changed, anywhere on a filesystem.
//!
//! The kernel names a directory by (filesystem id, file handle), never by a path, so a rename
//! between an event and its reading cannot lead to another directory. nix has no records of this
//! kind; [`Events`] reads them from bytes and refuses what does not fit instead of trusting it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno as Raw;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;

use super::at::proc_path;
use crate::types::errno::{Errno, Result};

/// The longest file handle there is (`MAX_HANDLE_SZ`, `linux/exportfs.h`), in bytes.
pub const HANDLE_MAX: usize = 128;

/// `struct fanotify_event_metadata`: length, version, reserved, header length, mask, fd, pid.
const METADATA_LEN: usize = 24;

/// `struct fanotify_event_info_header`: type, padding, length.
const INFO_LEN: usize = 4;

/// Before the handle's bytes in a record: header, filesystem id, handle length, handle type.
const HANDLE_AT: usize = INFO_LEN + 8 + 8;

/// What an event says happened; several may be set at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask(pub u64);

impl Mask {
    /// A name came, went or moved.
    pub const ENTRY: Mask = Mask(libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO);
    /// Owner, mode, times, link count or extended attributes changed.
    pub const ATTRIBUTES: Mask = Mask(libc::FAN_ATTRIB);
    /// Contents were written or cut.
    pub const WRITE: Mask = Mask(libc::FAN_MODIFY);
    /// A file that was open for writing was closed.
    pub const CLOSE_WRITE: Mask = Mask(libc::FAN_CLOSE_WRITE);
    /// The queue was full: events are missing.
    pub const OVERFLOW: Mask = Mask(libc::FAN_Q_OVERFLOW);
    /// The object is a directory. In a mark: events about directories are wanted too.
    pub const DIRECTORY: Mask = Mask(libc::FAN_ONDIR);

    /// Either's bits.
    pub const fn or(self, other: Mask) -> Mask {
        Mask(self.0 | other.0)
    }

    /// Whether any bit of `other` is set.
    pub const fn has(self, other: Mask) -> bool {
        self.0 & other.0 != 0
    }
}

/// A group of marks and the queue of their events.
#[derive(Debug)]
pub struct Group(OwnedFd);

impl Group {
    /// A group without marks, whose queue has no limit and whose reads do not block.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN, EINVAL before Linux 5.9, ENOSYS without fanotify.
    pub fn new() -> Result<Group> {
        let flags = libc::FAN_CLASS_NOTIF
            | libc::FAN_REPORT_DFID_NAME
            | libc::FAN_UNLIMITED_QUEUE
            | libc::FAN_UNLIMITED_MARKS
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK;
        // SAFETY: no pointer is passed; the result is checked before use.
        let fd = Raw::result(unsafe { libc::fanotify_init(flags, 0) }).map_err(errno)?;
        // SAFETY: the kernel has just made this descriptor and nobody else knows it.
        Ok(Group(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Reports `mask` from the whole filesystem that `at` (O_PATH will do) is on, whoever causes
    /// it and through which mount. Adds to earlier masks; an event that several marks ask for is
    /// reported once.
    ///
    /// # Errors
    /// EXDEV on a btrfs subvolume other than the top, EOPNOTSUPP and ENODEV on filesystems
    /// without file handles or without an id.
    pub fn mark_filesystem(&self, at: BorrowedFd<'_>, mask: Mask) -> Result<()> {
        self.mark(libc::FAN_MARK_FILESYSTEM, at, mask)
    }

    /// Reports no `mask` from what is done through open files of the mount of `at`, although the
    /// filesystem is marked.
    ///
    /// # Errors
    /// EINVAL before Linux 6.0.
    pub fn ignore_mount(&self, at: BorrowedFd<'_>, mask: Mask) -> Result<()> {
        self.mark(libc::FAN_MARK_MOUNT | libc::FAN_MARK_IGNORE_SURV, at, mask)
    }

    fn mark(&self, flags: u32, at: BorrowedFd<'_>, mask: Mask) -> Result<()> {
        let path = proc_path(at, None)?;
        let flags = libc::FAN_MARK_ADD | flags;
        // SAFETY: the descriptors are open and the path, which leads to `at`, ends with NUL.
        let done =
            unsafe { libc::fanotify_mark(self.0.as_raw_fd(), flags, mask.0, libc::AT_FDCWD, path.as_ptr().cast()) };
        Raw::result(done).map(drop).map_err(errno)
    }

    /// Whole events as bytes for [`Events`]; 0 when the queue is empty.
    ///
    /// # Errors
    /// EINVAL when `buffer` is too small for the next event; 512 bytes are always enough.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match nix::unistd::read(&self.0, buffer) {
                Err(Raw::EAGAIN) => return Ok(0),
                Err(Raw::EINTR) => {}
                other => return other.map_err(errno),
            }
        }
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A filesystem's id as `statfs(2)` and events tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FsId(pub u64);

/// The kernel's name for an object within a filesystem, borrowed from an event or a [`HandleBuf`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle<'a> {
    /// How the filesystem reads `bytes`.
    pub kind: i32,
    /// At most [`HANDLE_MAX`].
    pub bytes: &'a [u8],
}

/// An owned [`Handle`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HandleBuf {
    kind: i32,
    bytes: Box<[u8]>,
}

impl HandleBuf {
    /// Copies `handle`.
    pub fn new(handle: Handle<'_>) -> HandleBuf {
        HandleBuf { kind: handle.kind, bytes: handle.bytes.into() }
    }

    /// Lends it.
    pub fn borrow(&self) -> Handle<'_> {
        Handle { kind: self.kind, bytes: &self.bytes }
    }
}

/// Where an event happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The filesystem.
    pub fs: FsId,
    /// The directory.
    pub dir: Handle<'a>,
    /// The name in it; `None`: the directory itself.
    pub name: Option<&'a [u8]>,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// What happened.
    pub mask: Mask,
    /// The process that did it, as this process's PID namespace numbers it; 0 if it does not.
    pub pid: i32,
    /// Where; `None` for an overflow.
    pub place: Option<Place<'a>>,
}

/// The bytes are no sequence of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Events out of the bytes that [`Group::read`] filled. Ends after the first [`Malformed`].
#[derive(Debug)]
pub struct Events<'a>(&'a [u8]);

impl<'a> Events<'a> {
    /// Of `bytes`, which need no alignment.
    pub fn new(bytes: &'a [u8]) -> Events<'a> {
        Events(bytes)
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = std::result::Result<Event<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let parsed = split_event(self.0);
        self.0 = parsed.as_ref().map_or(&[], |(_, rest)| rest);
        Some(parsed.map(|(event, _)| event).ok_or(Malformed))
    }
}

fn split_event(bytes: &[u8]) -> Option<(Event<'_>, &[u8])> {
    let len = usize::try_from(u32::from_ne_bytes(field(bytes, 0)?)).ok()?;
    let version = *bytes.get(4)?;
    let header = usize::from(u16::from_ne_bytes(field(bytes, 6)?));
    if version != libc::FANOTIFY_METADATA_VERSION || header < METADATA_LEN || len < header {
        return None;
    }
    let (whole, rest) = bytes.split_at_checked(len)?;
    let mask = Mask(u64::from_ne_bytes(field(whole, 8)?));
    let pid = i32::from_ne_bytes(field(whole, 20)?);
    let place = find_place(whole.get(header..)?)?;
    Some((Event { mask, pid, place }, rest))
}

/// The first record that names a directory, `Some(None)` where there is none.
fn find_place(mut records: &[u8]) -> Option<Option<Place<'_>>> {
    while !records.is_empty() {
        let len = usize::from(u16::from_ne_bytes(field(records, 2)?));
        if len < INFO_LEN {
            return None;
        }
        let (record, rest) = records.split_at_checked(len)?;
        match record.first().copied()? {
            libc::FAN_EVENT_INFO_TYPE_DFID_NAME => return parse_place(record, true).map(Some),
            libc::FAN_EVENT_INFO_TYPE_DFID => return parse_place(record, false).map(Some),
            _ => records = rest,
        }
    }
    Some(None)
}

fn parse_place(record: &[u8], named: bool) -> Option<Place<'_>> {
    let fs = FsId(u64::from_ne_bytes(field(record, INFO_LEN)?));
    let len = usize::try_from(u32::from_ne_bytes(field(record, INFO_LEN + 8)?)).ok()?;
    let kind = i32::from_ne_bytes(field(record, INFO_LEN + 12)?);
    if len == 0 || len > HANDLE_MAX {
        return None;
    }
    let (bytes, tail) = record.get(HANDLE_AT..)?.split_at_checked(len)?;
    let dir = Handle { kind, bytes };
    if !named {
        return Some(Place { fs, dir, name: None });
    }
    let name = tail.get(..tail.iter().position(|b| *b == 0)?)?;
    let name = (name != b"." && !name.is_empty()).then_some(name);
    Some(Place { fs, dir, name })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct RawHandle {
    len: u32,
    kind: i32,
    bytes: [u8; HANDLE_MAX],
}

/// Opens (O_PATH) the directory that `handle` names on the filesystem of `mount`, which must not
/// be an O_PATH descriptor.
///
/// # Errors
/// ESTALE when the directory is gone, EPERM without CAP_DAC_READ_SEARCH, ENOTDIR.
pub fn open_dir_by_handle(mount: BorrowedFd<'_>, handle: Handle<'_>) -> Result<OwnedFd> {
    let mut raw = RawHandle { len: 0, kind: handle.kind, bytes: [0; HANDLE_MAX] };
    raw.bytes.get_mut(..handle.bytes.len()).ok_or(Errno::EINVAL)?.copy_from_slice(handle.bytes);
    raw.len = u32::try_from(handle.bytes.len()).map_err(|_| Errno::EINVAL)?;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: `raw` has the layout of `file_handle` and holds the `len` bytes it announces.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut raw).cast(), flags) };
    let fd = Raw::result(fd).map_err(errno)?;
    // SAFETY: the kernel has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The handle of an open directory.
///
/// # Errors
/// EOPNOTSUPP on filesystems without handles.
pub fn handle_of(dir: BorrowedFd<'_>) -> Result<HandleBuf> {
    let room = u32::try_from(HANDLE_MAX).map_err(|_| Errno::EINVAL)?;
    let mut raw = RawHandle { len: room, kind: 0, bytes: [0; HANDLE_MAX] };
    let mut mount_id = 0;
    // SAFETY: `raw` has the layout of `file_handle` with `len` bytes of room; the name is a C
    // string; both outlive the call.
    let done = unsafe {
        libc::name_to_handle_at(
            dir.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut raw).cast(),
            &raw mut mount_id,
            libc::AT_EMPTY_PATH,
        )
    };
    Raw::result(done).map_err(errno)?;
    let len = usize::try_from(raw.len).map_err(|_| Errno::EIO)?;
    let bytes = raw.bytes.get(..len).ok_or(Errno::EIO)?;
    Ok(HandleBuf::new(Handle { kind: raw.kind, bytes }))
}

/// The id and the type number (`f_type`) of the filesystem that `dir` is on.
pub fn filesystem_of(dir: BorrowedFd<'_>) -> Result<(FsId, i64)> {
    let stat = fstatfs(dir).map_err(errno)?;
    // SAFETY: `fsid_t` is two C ints, whose fields libc keeps private.
    let id: [i32; 2] = unsafe { std::mem::transmute(stat.filesystem_id()) };
    let [low, high] = id.map(i32::to_ne_bytes);
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&low);
    bytes[4..].copy_from_slice(&high);
    // Signed or not, by the C library.
    let kind = i64::from_ne_bytes(stat.filesystem_type().0.to_ne_bytes());
    Ok((FsId(u64::from_ne_bytes(bytes)), kind))
}

/// The same directory again, for the calls that refuse an O_PATH descriptor.
pub fn reopen_dir(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    openat(dir, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(errno)
}

/// Two ends: [`wait`] on the first ends once the second is closed.
pub fn stop_pair() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(errno)
}

/// Why [`wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The other end of `stop` is closed.
    Stop,
    /// `source` can be read.
    Ready,
    /// The time is over.
    Timeout,
}

/// Waits for `stop` and, if given, for `source`, and no longer than `limit` if given.
pub fn wait(stop: BorrowedFd<'_>, source: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> Result<Wake> {
    let limit = limit.map_or(PollTimeout::NONE, |d| PollTimeout::try_from(d).unwrap_or(PollTimeout::MAX));
    let mut fds = [PollFd::new(stop, PollFlags::POLLIN), PollFd::new(source.unwrap_or(stop), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, limit) {
            Err(Raw::EINTR) => {}
            Err(error) => return Err(errno(error)),
            Ok(0) => return Ok(Wake::Timeout),
            Ok(_) if fds[0].any().unwrap_or(true) => return Ok(Wake::Stop),
            Ok(_) => return Ok(Wake::Ready),
        }
    }
}

fn errno(raw: Raw) -> Errno {
    Errno(raw as i32)
}

/// Filesystems that others can change behind this kernel (`f_type`, `linux/magic.h`).
pub fn is_remote(kind: i64) -> bool {
    const REMOTE: [u32; 17] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x6573_5546, // FUSE
        0x0102_1997, // 9P
        0x00c3_6400, // Ceph
        0x5346_414f, // OpenAFS
        0x6b41_4653, // AFS
        0x7375_7245, // Coda
        0x0116_1970, // GFS2
        0x7461_636f, // OCFS2
        0x0bd0_0bd0, // Lustre
        0x4750_4653, // GPFS
        0x1983_0326, // BeeGFS
        0x786f_4256, // VirtualBox shared folder
        0xaad7_aaea, // PanFS
    ];
    u32::try_from(kind & 0xffff_ffff).is_ok_and(|kind| REMOTE.contains(&kind))
}

#[cfg(test)]
#[path = "fanotify_tests.rs"]
mod tests;
