//! Short words for what tests do with files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Writes a whole file, with its parents.
pub(crate) fn put(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).unwrap_or_else(|error| panic!("{parent:?}: {error}"));
    }
    std::fs::write(path, content).unwrap_or_else(|error| panic!("{path:?}: {error}"));
}

/// Reads a whole file as text.
pub(crate) fn get(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The sorted names in a directory, without the tier's own `.tierfs`.
pub(crate) fn names(path: impl AsRef<Path>) -> Vec<OsString> {
    let path = path.as_ref();
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut names: Vec<OsString> = entries
        .map(|entry| entry.unwrap_or_else(|error| panic!("{path:?}: {error}")).file_name())
        .filter(|name| name != ".tierfs")
        .collect();
    names.sort();
    names
}

/// Attributes of the path itself.
pub(crate) fn stat(path: impl AsRef<Path>) -> std::fs::Metadata {
    let path = path.as_ref();
    path.symlink_metadata().unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// The inode number.
pub(crate) fn ino(path: impl AsRef<Path>) -> u64 {
    stat(path).ino()
}

/// Whether the name is there, whatever it is.
pub(crate) fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().symlink_metadata().is_ok()
}

/// The error number of a call that must fail.
#[track_caller]
pub(crate) fn errno<T>(outcome: io::Result<T>) -> Errno {
    match outcome {
        Ok(_) => panic!("succeeded, but must fail"),
        Err(error) => Errno::from_io_error(&error).unwrap_or(Errno::IO),
    }
}

/// Sets an extended attribute of the path itself.
pub(crate) fn set_xattr(path: impl AsRef<Path>, key: &str, value: &[u8]) {
    let path = path.as_ref();
    rustix::fs::lsetxattr(path, key, value, XattrFlags::empty())
        .unwrap_or_else(|error| panic!("{path:?} {key}: {error}"));
}

/// An extended attribute of the path itself.
pub(crate) fn xattr(path: impl AsRef<Path>, key: &str) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 65536];
    let length = rustix::fs::lgetxattr(path.as_ref(), key, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// The names of the extended attributes of the path itself.
pub(crate) fn xattr_names(path: impl AsRef<Path>) -> BTreeSet<String> {
    let mut list = vec![0u8; 65536];
    let path = path.as_ref();
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// All extended attributes of the path itself that a user sets.
pub(crate) fn user_xattrs(path: impl AsRef<Path>) -> BTreeMap<String, Vec<u8>> {
    let path = path.as_ref();
    let names = xattr_names(path).into_iter().filter(|name| name.starts_with("user."));
    names.filter_map(|name| xattr(path, &name).ok().map(|value| (name, value))).collect()
}

/// Opens with any flags that the standard library does not name.
pub(crate) fn open(path: impl AsRef<Path>, flags: rustix::fs::OFlags, mode: u32) -> io::Result<std::fs::File> {
    let flags = flags | rustix::fs::OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::from_raw_mode(mode);
    Ok(std::fs::File::from(rustix::fs::open(path.as_ref(), flags, mode)?))
}

/// Sets times of the path itself, given in whole seconds.
pub(crate) fn set_times(path: impl AsRef<Path>, atime: i64, mtime: i64) {
    let moment = |tv_sec| rustix::fs::Timespec { tv_sec, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: moment(atime), last_modification: moment(mtime) };
    let path = path.as_ref();
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap_or_else(|error| panic!("{path:?}: {error}"));
}

/// Renames with flags.
pub(crate) fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>, flags: rustix::fs::RenameFlags) -> io::Result<()> {
    let here = rustix::fs::CWD;
    Ok(rustix::fs::renameat_with(here, from.as_ref(), here, to.as_ref(), flags)?)
}

/// A script, to be run. Made by another process, for the reason of [`copy_program`].
pub(crate) fn put_script(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt;
    let path = path.as_ref();
    let draft = path.with_extension("draft");
    put(&draft, text);
    // A program that runs it now goes on with the former.
    let _first = std::fs::remove_file(path);
    copy_program(&draft, path);
    std::fs::remove_file(&draft).unwrap_or_else(|error| panic!("{draft:?}: {error}"));
    let rights = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, rights).unwrap_or_else(|error| panic!("{path:?}: {error}"));
}

/// A copy of a program, to be run. Made by another process: while this one has it open for writing, a child
/// that another test starts has it open, too, and running it says ETXTBSY.
pub(crate) fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let status = Command::new("cp").arg(from.as_ref()).arg(to.as_ref()).status().expect("cp runs");
    assert!(status.success(), "cp: {status}");
}
