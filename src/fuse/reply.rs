//! What the requests share: the guard around each, and the answers.

use std::ffi::{CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fuser::{
    BackingId, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyXattr, Request,
};

use super::convert;
use super::counted::Ask;
use super::session::Adapter;
use crate::types::attr::Kind;
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Fh, Ino};
use crate::types::name::Name;
use crate::union::open::Opened;
use crate::union::passthrough::{Registrar, Token};
use crate::union::{Access, Attr, Found, Union};

/// Runs one request. A panic is a bug; it costs this request and not the thread that serves others.
pub(super) fn guard<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
        tracing::error!("a request failed inside tierfs: please report this");
        Err(Errno::EIO)
    })
}

pub(super) fn caller(req: &Request, umask: u32) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), umask, pid: req.pid() }
}

pub(super) fn key(raw: &OsStr) -> Result<CString> {
    CString::new(raw.as_bytes()).map_err(|_| Errno::EINVAL)
}

/// The kernel hands a name longer than any filesystem takes on; everything else it has checked.
pub(super) fn named(raw: &OsStr) -> Result<Name> {
    Name::try_from(raw)
}

impl Registrar for ReplyOpen {
    fn register(&self, file: BorrowedFd<'_>) -> Result<Token> {
        self.open_backing(file).map(|id| Box::new(id) as Token).map_err(|e| Errno::of(&e))
    }
}

impl Registrar for ReplyCreate {
    fn register(&self, file: BorrowedFd<'_>) -> Result<Token> {
        self.open_backing(file).map(|id| Box::new(id) as Token).map_err(|e| Errno::of(&e))
    }
}

pub(super) fn backing(opened: &Opened) -> Option<&BackingId> {
    opened.backing.as_ref()?.token().downcast_ref()
}

pub(super) fn empty(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

pub(super) fn attributes(reply: ReplyAttr, result: Result<Attr>) {
    match result {
        Ok(attr) => reply.attr(&attr.ttl, &convert::attr(&attr)),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

/// The answer of a request that asks for a value or, with size 0, for its length.
pub(super) fn sized(reply: ReplyXattr, size: u32, result: Result<Vec<u8>>) {
    match result {
        Ok(value) => match u32::try_from(value.len()) {
            Ok(len) if size == 0 => reply.size(len),
            Ok(len) if len <= size => reply.data(&value),
            Ok(_) | Err(_) => reply.error(fuser::Errno::ERANGE),
        },
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

impl Adapter {
    pub(super) fn union(&self) -> &Union {
        &self.union
    }

    pub(super) fn entry(&self, reply: ReplyEntry, result: Result<Attr>) {
        match result {
            Ok(attr) => reply.entry_with_ttls(
                &attr.ttl,
                &attr.name_ttl,
                &convert::attr(&attr),
                Generation(u64::from(attr.generation)),
            ),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    /// How the kernel may serve a file from its memory. The union has had outdated pages dropped: see
    /// [`crate::union::Union::on_outdated`].
    pub(super) fn kept_of_file(&self, access: Access) -> FopenFlags {
        let kept = if self.behaviour.uncached { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::FOPEN_KEEP_CACHE };
        // The close of a handle that writes nothing is not asked for.
        let heard = access.writes() || !self.union().hears_of_closes();
        if heard { kept } else { kept | FopenFlags::FOPEN_NOFLUSH }
    }

    /// The answer to FLUSH. Where nothing is held back until close it is ENOSYS, after which the kernel asks no more.
    pub(super) fn closing(&self, ask: Ask, fh: Fh, reply: ReplyEmpty) {
        if self.union().hears_of_closes() {
            empty(reply, self.count(ask, || self.union().flush(fh)));
        } else {
            reply.error(fuser::Errno::ENOSYS);
        }
    }

    pub(super) fn kept(&self) -> FopenFlags {
        if self.behaviour.keep_cache { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() }
    }

    /// Listings with the attributes of each entry, as much as fits. The kernel learns of the inodes that are
    /// returned: none where this fails.
    pub(super) fn list(&self, ino: Ino, fh: Fh, offset: u64, reply: &mut ReplyDirectoryPlus) -> Result<Vec<Ino>> {
        let (mut first, mut entered) = (true, Vec::new());
        self.union().fill(ino, fh, offset, |next, entry| {
            let name = OsStr::from_bytes(entry.name);
            let empty = std::mem::replace(&mut first, false);
            if matches!(entry.name, b"." | b"..") {
                let attr = convert::bare_attr(entry.ino, Kind::Dir);
                return Ok(reply.add(INodeNo(entry.ino.0), next, name, &Duration::ZERO, &attr, Generation(0)));
            }
            let attr = match self.union().lookup_listed(fh, entry) {
                Ok(Found::Object(attr)) => attr,
                // Removed since the snapshot was taken.
                Ok(Found::Absent(_)) => return Ok(false),
                Err(errno) => return if empty { Err(errno) } else { Ok(true) },
            };
            let (file, generation) = (convert::attr(&attr), Generation(u64::from(attr.generation)));
            // One time for both name and attributes: the shorter.
            let full = reply.add(file.ino, next, name, &attr.ttl.min(attr.name_ttl), &file, generation);
            if full {
                self.union().forget(attr.ino, 1);
            } else {
                entered.push(attr.ino);
            }
            Ok(full)
        })?;
        Ok(entered)
    }
}
