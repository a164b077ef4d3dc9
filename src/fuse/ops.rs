//! One short method for each request.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use super::convert;
use super::reply::{attributes, backing, caller, empty, guard, key, named, sized};
use super::session::Adapter;
use crate::sys::creds;
use crate::types::attr::{Kind, SetAttr};
use crate::types::errno::Errno;
use crate::types::ids::{Fh, Ino};
use crate::union::Found;
use crate::union::create::Create;
use crate::union::passthrough::Registrar;

/// `ioctl(2)` requests that are passed on (`linux/fs.h`).
const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;

/// `O_EXCL`, `O_APPEND` of `asm-generic/fcntl.h`.
const O_EXCL: i32 = 0o200;
const O_APPEND: i32 = 0o2000;

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        self.negotiate(config);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let parent = convert::ino(parent);
        let result = guard(|| match name.as_bytes() {
            // The kernel resolves file handles so (`Documentation/filesystems/nfs/exporting.rst`).
            b"." => self.union().lookup_known(parent),
            b".." => self.union().lookup_parent(parent),
            _ => self.union().lookup(parent, &named(name)?),
        });
        match result {
            Ok(Found::Object(attr)) => self.entry(reply, Ok(attr)),
            // Number 0 lets the kernel remember that the name is absent.
            Ok(Found::Absent(ttl)) => reply.entry(&ttl, &convert::bare_attr(Ino(0), Kind::File), Generation(0)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let _cannot_fail = guard(|| {
            self.union().forget(convert::ino(ino), nlookup);
            Ok(())
        });
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let ino = convert::ino(ino);
        attributes(
            reply,
            guard(|| match fh {
                Some(fh) => self.union().getattr_open(ino, Fh(fh.0)),
                None => self.union().getattr(ino),
            }),
        );
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(convert::set_time), mtime.map(convert::set_time));
        let change = SetAttr { mode, uid, gid, size, atime, mtime };
        attributes(reply, guard(|| self.union().setattr(convert::ino(ino), fh.map(|fh| Fh(fh.0)), &change)));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match guard(|| self.union().readlink(convert::ino(ino))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        let by = caller(req, umask);
        let rdev = convert::device_decode(rdev);
        self.entry(reply, guard(|| self.union().mknod(convert::ino(parent), &named(name)?, mode, rdev, &by)));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let by = caller(req, umask);
        self.entry(reply, guard(|| self.union().mkdir(convert::ino(parent), &named(name)?, mode, &by)));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, guard(|| self.union().unlink(convert::ino(parent), &named(name)?)));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, guard(|| self.union().rmdir(convert::ino(parent), &named(name)?)));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        let by = caller(req, 0);
        let made = guard(|| self.union().symlink(convert::ino(parent), &named(link_name)?, target.as_os_str(), &by));
        self.entry(reply, made);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let decoded = guard(|| Ok((named(name)?, named(newname)?, convert::rename(flags)?)));
        let (parent, newparent) = (convert::ino(parent), convert::ino(newparent));
        self.serve(self.union().is_swapping(), move |on| {
            let rename = |(old, new, how)| on.union().rename((parent, &old), (newparent, &new), how);
            empty(reply, guard(|| decoded.and_then(rename)));
        });
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (ino, parent, name) = (convert::ino(ino), convert::ino(newparent), named(newname));
        self.serve(self.union().is_settling(ino), move |on| {
            on.entry(reply, guard(|| on.union().link(ino, parent, &name?)));
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (ino, access, pid) = (convert::ino(ino), convert::access(flags), req.pid());
        self.serve(access.writes() && self.union().is_settling(ino), move |on| {
            let with = on.passthrough.then_some(&reply as &dyn Registrar);
            match guard(|| on.union().open(ino, access, pid, with)) {
                Ok(opened) => match backing(&opened) {
                    Some(id) => reply.opened_passthrough(FileHandle(opened.fh.0), FopenFlags::empty(), id),
                    None => reply.opened(FileHandle(opened.fh.0), on.kept_of(&opened)),
                },
                Err(errno) => reply.error(convert::errno(errno)),
            }
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let by = caller(req, umask);
        let access = convert::access(OpenFlags(flags));
        let how = Create { mode, access, exclusive: flags & O_EXCL != 0 };
        let with = self.passthrough.then_some(&reply as &dyn Registrar);
        match guard(|| self.union().create(convert::ino(parent), &named(name)?, &how, &by, with)) {
            Ok((attr, opened)) => {
                let (file, generation) = (convert::attr(&attr), Generation(u64::from(attr.generation)));
                // One time for both name and attributes.
                let (ttl, fh) = (&attr.name_ttl, FileHandle(opened.fh.0));
                match backing(&opened) {
                    Some(id) => reply.created_passthrough(ttl, &file, generation, fh, FopenFlags::empty(), id),
                    None => reply.created(ttl, &file, generation, fh, self.kept_of(&opened)),
                }
            }
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; size as usize];
        match guard(|| self.union().read(Fh(fh.0), offset, &mut buffer)) {
            Ok(len) => reply.data(&buffer[..len]),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match guard(|| self.union().write(Fh(fh.0), offset, data, flags.0 & O_APPEND != 0)) {
            Ok(len) => reply.written(u32::try_from(len).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    /// Nothing is held back until close: after this answer the kernel no longer asks.
    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let result = guard(|| {
            self.union().release(convert::ino(ino), Fh(fh.0));
            Ok(())
        });
        empty(reply, result);
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let (ino, fh) = (convert::ino(ino), Fh(fh.0));
        self.serve(self.union().is_settling(ino), move |on| {
            empty(reply, guard(|| on.union().fsync(ino, fh, datasync)))
        });
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match guard(|| self.union().opendir(convert::ino(ino))) {
            Ok(fh) => {
                let cached = if self.behaviour.keep_cache { FopenFlags::FOPEN_CACHE_DIR } else { FopenFlags::empty() };
                reply.opened(FileHandle(fh.0), cached | self.kept());
            }
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let result = guard(|| {
            self.union().fill(convert::ino(ino), Fh(fh.0), offset, |next, entry| {
                let kind = convert::kind(entry.kind.unwrap_or(Kind::File));
                Ok(reply.add(INodeNo(entry.ino.0), next, kind, OsStr::from_bytes(entry.name)))
            })
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn readdirplus(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let (ino, fh) = (convert::ino(ino), Fh(fh.0));
        let mut first = true;
        let result = guard(|| {
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
                }
                Ok(full)
            })
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn releasedir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        let result = guard(|| {
            self.union().release(convert::ino(ino), Fh(fh.0));
            Ok(())
        });
        empty(reply, result);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        empty(reply, guard(|| self.union().fsync_dir(convert::ino(ino), Fh(fh.0))));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match guard(|| self.union().statfs()) {
            Ok(s) => reply.statfs(s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.bsize, s.namelen, s.frsize),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let by = caller(req, 0);
        let groups = || creds::groups(by.pid);
        let result = guard(|| self.union().setxattr(convert::ino(ino), &key(name)?, value, flags, &by, &groups));
        empty(reply, result);
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        sized(reply, size, guard(|| self.union().getxattr(convert::ino(ino), &key(name)?)));
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        sized(reply, size, guard(|| self.union().listxattr(convert::ino(ino))));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, guard(|| self.union().removexattr(convert::ino(ino), &key(name)?, &caller(req, 0))));
    }

    fn ioctl(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let ino = convert::ino(ino);
        let result = guard(|| match cmd {
            FS_IOC_GETFLAGS => Ok(self.union().flags(ino)?.to_ne_bytes().to_vec()),
            FS_IOC_SETFLAGS => {
                let flags = in_data.first_chunk().ok_or(Errno::EINVAL)?;
                self.union().set_flags(ino, u32::from_ne_bytes(*flags)).map(|()| Vec::new())
            }
            FS_IOC_FSGETXATTR => Ok(self.union().fsxattr(ino)?.to_vec()),
            _ => Err(Errno::ENOTTY),
        });
        match result {
            Ok(mut data) => {
                // A long is asked for where an int is meant (`ioctl_iflags(2)`).
                data.resize(out_size as usize, 0);
                reply.ioctl(0, &data);
            }
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        empty(reply, guard(|| self.union().fallocate(convert::ino(ino), Fh(fh.0), mode, offset, length)));
    }

    fn lseek(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let result = guard(|| {
            let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            self.union().seek(convert::ino(ino), Fh(fh.0), offset, whence)
        });
        match result {
            Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let from = (convert::ino(ino_in), Fh(fh_in.0), offset_in);
        let to = (convert::ino(ino_out), Fh(fh_out.0), offset_out);
        // The answer has 32 bits.
        let len = len.min(1 << 30);
        match guard(|| self.union().copy_range(from, to, len)) {
            Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }
}
