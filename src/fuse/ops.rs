//! One short method for each request.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use super::convert;
use super::counted::ask;
use super::reply::{attributes, backing, caller, empty, guard, key, named, sized};
use super::session::Adapter;
use crate::stats::Op;
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

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (ask, parent) = ask(Op::Lookup, req, parent);
        let look = || match name.as_bytes() {
            // The kernel resolves file handles so (`Documentation/filesystems/nfs/exporting.rst`).
            b"." => self.union().lookup_known(parent),
            b".." => self.union().lookup_parent(parent),
            _ => self.union().lookup(parent, &named(name)?),
        };
        match self.count_given(ask, look, |found| self.not_found(found)) {
            Ok(Found::Object(attr)) => self.entry(reply, Ok(attr)),
            // Number 0 lets the kernel remember that the name is absent.
            Ok(Found::Absent(ttl)) => reply.entry(&ttl, &convert::bare_attr(Ino(0), Kind::File), Generation(0)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn forget(&self, req: &Request, ino: INodeNo, nlookup: u64) {
        let (ask, ino) = ask(Op::Forget, req, ino);
        let _cannot_fail = self.count(ask, || {
            self.union().forget(ino, nlookup);
            Ok(())
        });
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let (ask, ino) = ask(Op::Getattr, req, ino);
        attributes(
            reply,
            self.count(ask, || match fh {
                Some(fh) => self.union().getattr_open(ino, Fh(fh.0)),
                None => self.union().getattr(ino),
            }),
        );
    }

    fn setattr(
        &self,
        req: &Request,
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
        let (ask, ino) = ask(Op::Setattr, req, ino);
        let (atime, mtime) = (atime.map(convert::set_time), mtime.map(convert::set_time));
        let change = SetAttr { mode, uid, gid, size, atime, mtime };
        attributes(reply, self.count(ask, || self.union().setattr(ino, fh.map(|fh| Fh(fh.0)), &change)));
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let (ask, ino) = ask(Op::Readlink, req, ino);
        match self.count(ask, || self.union().readlink(ino)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        let (ask, parent) = ask(Op::Mknod, req, parent);
        let by = caller(req, umask);
        let rdev = convert::device_decode(rdev);
        self.entry(reply, self.count(ask, || self.union().mknod(parent, &named(name)?, mode, rdev, &by)));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (ask, parent) = ask(Op::Mkdir, req, parent);
        let by = caller(req, umask);
        self.entry(reply, self.count(ask, || self.union().mkdir(parent, &named(name)?, mode, &by)));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (ask, parent) = ask(Op::Unlink, req, parent);
        empty(reply, self.count(ask, || self.union().unlink(parent, &named(name)?)));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (ask, parent) = ask(Op::Rmdir, req, parent);
        empty(reply, self.count(ask, || self.union().rmdir(parent, &named(name)?)));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (ask, parent) = ask(Op::Symlink, req, parent);
        let by = caller(req, 0);
        let made = self.count(ask, || self.union().symlink(parent, &named(link_name)?, target.as_os_str(), &by));
        self.entry(reply, made);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (ask, parent) = ask(Op::Rename, req, parent);
        let decoded = guard(|| Ok((named(name)?, named(newname)?, convert::rename(flags)?)));
        let newparent = convert::ino(newparent);
        self.serve(self.union().is_swapping(), move |on| {
            let rename = |(old, new, how)| on.union().rename((parent, &old), (newparent, &new), how);
            empty(reply, on.count(ask, || decoded.and_then(rename)));
        });
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (ask, ino) = ask(Op::Link, req, ino);
        let (parent, name) = (convert::ino(newparent), named(newname));
        self.serve(self.union().is_settling(ino), move |on| {
            on.entry(reply, on.count(ask, || on.union().link(ino, parent, &name?)));
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let ((ask, ino), access, pid) = (ask(Op::Open, req, ino), convert::access(flags), req.pid());
        self.serve(self.union().may_open_wait(ino, access), move |on| {
            let with = on.passes_through().then_some(&reply as &dyn Registrar);
            let late = |opened| on.not_opened(ino, &opened);
            match on.count_given(ask, || on.union().open(ino, access, pid, with), late) {
                Ok(opened) => match backing(&opened) {
                    Some(id) => reply.opened_passthrough(FileHandle(opened.fh.0), FopenFlags::empty(), id),
                    None => reply.opened(FileHandle(opened.fh.0), on.kept_of_file(access)),
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
        let (ask, parent) = ask(Op::Create, req, parent);
        let by = caller(req, umask);
        let access = convert::access(OpenFlags(flags));
        let how = Create { mode, access, exclusive: flags & O_EXCL != 0 };
        let with = self.passes_through().then_some(&reply as &dyn Registrar);
        match self.count(ask, || self.union().create(parent, &named(name)?, &how, &by, with)) {
            Ok((attr, opened)) => {
                let (file, generation) = (convert::attr(&attr), Generation(u64::from(attr.generation)));
                // One time for both name and attributes.
                let (ttl, fh) = (&attr.name_ttl, FileHandle(opened.fh.0));
                match backing(&opened) {
                    Some(id) => reply.created_passthrough(ttl, &file, generation, fh, FopenFlags::empty(), id),
                    None => reply.created(ttl, &file, generation, fh, self.kept_of_file(access)),
                }
            }
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (ask, _) = ask(Op::Read, req, ino);
        let mut buffer = vec![0; size as usize];
        match self.count_bytes(ask, || self.union().read(Fh(fh.0), offset, &mut buffer)) {
            Ok(len) => reply.data(&buffer[..len]),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (ask, _) = ask(Op::Write, req, ino);
        match self.count_bytes(ask, || self.union().write(Fh(fh.0), offset, data, flags.0 & O_APPEND != 0)) {
            Ok(len) => reply.written(u32::try_from(len).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        let (ask, _) = ask(Op::Flush, req, ino);
        self.closing(ask, Fh(fh.0), reply);
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let (ask, ino) = ask(Op::Release, req, ino);
        let result = self.count(ask, || {
            self.union().release(ino, Fh(fh.0));
            Ok(())
        });
        empty(reply, result);
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let (ask, ino) = ask(Op::Fsync, req, ino);
        let fh = Fh(fh.0);
        self.serve(self.union().is_settling(ino), move |on| {
            empty(reply, on.count(ask, || on.union().fsync(ino, fh, datasync)))
        });
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let (ask, ino) = ask(Op::Opendir, req, ino);
        match self.count_given(ask, || self.union().opendir(ino), |fh| self.union().release(ino, fh)) {
            Ok(fh) => {
                // Of a listing that is not whole the kernel would keep the beginning, and join it to the rest of a later one.
                let whole = !self.union().is_degraded();
                let cached =
                    if self.behaviour.keep_cache && whole { FopenFlags::FOPEN_CACHE_DIR } else { FopenFlags::empty() };
                reply.opened(FileHandle(fh.0), cached | self.kept());
            }
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let (ask, ino) = ask(Op::Readdir, req, ino);
        let result = self.count(ask, || {
            self.union().fill(ino, Fh(fh.0), offset, |next, entry| {
                let kind = convert::kind(entry.kind.unwrap_or(Kind::File));
                Ok(reply.add(INodeNo(entry.ino.0), next, kind, OsStr::from_bytes(entry.name)))
            })
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn readdirplus(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let (ask, ino) = ask(Op::Readdir, req, ino);
        match self.count_given(ask, || self.list(ino, Fh(fh.0), offset, &mut reply), |found| self.not_listed(found)) {
            Ok(_) => reply.ok(),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn releasedir(&self, req: &Request, ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        let (ask, ino) = ask(Op::Releasedir, req, ino);
        let result = self.count(ask, || {
            self.union().release(ino, Fh(fh.0));
            Ok(())
        });
        empty(reply, result);
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let (ask, ino) = ask(Op::Fsyncdir, req, ino);
        empty(reply, self.count(ask, || self.union().fsync_dir(ino, Fh(fh.0))));
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let (ask, _) = ask(Op::Statfs, req, ino);
        match self.count(ask, || self.union().statfs()) {
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
        let (ask, ino) = ask(Op::Setxattr, req, ino);
        let by = caller(req, 0);
        let groups = || creds::groups(by.pid);
        let result = self.count(ask, || self.union().setxattr(ino, &key(name)?, value, flags, &by, &groups));
        empty(reply, result);
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (ask, ino) = ask(Op::Getxattr, req, ino);
        sized(reply, size, self.count(ask, || self.union().getxattr(ino, &key(name)?)));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let (ask, ino) = ask(Op::Listxattr, req, ino);
        sized(reply, size, self.count(ask, || self.union().listxattr(ino)));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (ask, ino) = ask(Op::Removexattr, req, ino);
        empty(reply, self.count(ask, || self.union().removexattr(ino, &key(name)?, &caller(req, 0))));
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let (ask, ino) = ask(Op::Ioctl, req, ino);
        let result = self.count(ask, || match cmd {
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
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (ask, ino) = ask(Op::Fallocate, req, ino);
        empty(reply, self.count(ask, || self.union().fallocate(ino, Fh(fh.0), mode, offset, length)));
    }

    fn lseek(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (ask, ino) = ask(Op::Lseek, req, ino);
        let result = self.count(ask, || {
            let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            self.union().seek(ino, Fh(fh.0), offset, whence)
        });
        match result {
            Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }

    fn copy_file_range(
        &self,
        req: &Request,
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
        let (ask, ino_in) = ask(Op::CopyFileRange, req, ino_in);
        let from = (ino_in, Fh(fh_in.0), offset_in);
        let to = (convert::ino(ino_out), Fh(fh_out.0), offset_out);
        // The answer has 32 bits.
        let len = len.min(1 << 30);
        match self.count_bytes(ask, || self.union().copy_range(from, to, len)) {
            Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(convert::errno(errno)),
        }
    }
}
