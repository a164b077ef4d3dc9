//! Small files of tierfs's own in a tier: records and manifests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Dir, File, Open, Rename, acl};
use crate::types::attr::{SetAttr, SetTime, Time};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// What the name of a file begins with that is not whole yet.
pub const DRAFT: &[u8] = b"draft-";

/// What the name of a record begins with that is a copy of one ([`is_copied`]), and is kept aside.
pub const COPIED: &[u8] = b"copied-";

/// Before the mark at the end of a name ([`write_marked`]): eight hexadecimal digits follow.
const MARK: &str = ".b";

/// A name no other has in the private directories of a tier, also after a crash.
///
/// # Errors
/// None that can occur: the name is short.
pub fn unique_name() -> Result<Name> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static PID: OnceLock<u32> = OnceLock::new();
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let text =
        format!("{}-{}-{}", since.as_nanos(), PID.get_or_init(std::process::id), NEXT.fetch_add(1, Ordering::Relaxed));
    Name::new(text.as_bytes())
}

/// Makes a new file of these bytes, readable by its owner only. After a crash at any point it is
/// there whole or not at all; on success it is on the disk.
///
/// # Errors
/// EEXIST; ENOSPC; what the tier says. There is no file of the name then.
pub fn write(dir: &dyn Dir, name: &Name, bytes: &[u8]) -> Result<()> {
    let draft = Name::new(&[DRAFT, name.as_bytes()].concat())?;
    let file = dir.create(&draft, 0o600, Open::ReadWrite, &Caller::DAEMON)?;
    publish(dir, file.as_ref(), &draft, name, bytes)
}

/// As [`write`], of a file that a later start must tell from a copy of itself: one that has come back with a backup,
/// say. For that a mark is appended to `name`, which is on return what the file is called or, after an error,
/// would have been called. The mark is made of the time at which the file was made: nobody can set that, so a copy
/// has another, and it is on the disk with the file. Where the filesystem tells none there is no mark.
///
/// # Errors
/// As [`write`].
pub fn write_marked(dir: &dyn Dir, name: &mut Name, bytes: &[u8]) -> Result<()> {
    let draft = Name::new(&[DRAFT, name.as_bytes()].concat())?;
    let file = dir.create(&draft, 0o600, Open::ReadWrite, &Caller::DAEMON)?;
    // Without it the file is as good as ever.
    let born = file.stat().map_or(0, |stat| stat.generation);
    if born != 0 {
        *name = Name::new(&[name.as_bytes(), format!("{MARK}{born:08x}").as_bytes()].concat())?;
    }
    publish(dir, file.as_ref(), &draft, name, bytes)
}

/// Whether a file has the mark of another, of which it is a copy then. One without a mark (of an earlier version,
/// or of a filesystem that tells no birth times) is none. A copy that brings the birth times along (an image of
/// the disk, a snapshot of the volume) cannot be told.
///
/// # Errors
/// What the tier says.
pub fn is_copied(dir: &dyn Dir, name: &Name) -> Result<bool> {
    let Some(marked) = mark(name.as_bytes()) else { return Ok(false) };
    let born = dir.stat(Some(name))?.map_or(0, |stat| stat.generation);
    Ok(born != 0 && born != marked)
}

fn mark(name: &[u8]) -> Option<u32> {
    let (_, digits) = std::str::from_utf8(name).ok()?.rsplit_once(MARK)?;
    u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8)
}

/// Calls a copy of a record what it is, in its directory. Where that cannot be it keeps its name: it is known again.
pub fn set_aside(dir: &dyn Dir, name: &Name) -> Name {
    let kept = Name::new(&[COPIED, name.as_bytes()].concat());
    let moved = kept.and_then(|kept| {
        dir.rename(name, dir, &kept, Rename::NoReplace)?;
        dir.fsync().map(|()| kept)
    });
    moved.unwrap_or_else(|errno| {
        tracing::debug!(%name, "a copy of a record keeps its name: {errno}");
        name.clone()
    })
}

fn publish(dir: &dyn Dir, file: &dyn File, draft: &Name, name: &Name, bytes: &[u8]) -> Result<()> {
    let written =
        file.write_at(bytes, 0).and_then(|len| if len < bytes.len() { Err(Errno::ENOSPC) } else { file.fsync(false) });
    let published = written.and_then(|()| dir.rename(draft, dir, name, Rename::NoReplace)).and_then(|()| dir.fsync());
    if let Err(errno) = published {
        // A file of that name that was there before is another's.
        let ours = if errno == Errno::EEXIST { &[draft][..] } else { &[draft, name] };
        for left in ours {
            match dir.unlink(left) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(why) => tracing::debug!(%left, "a draft stays behind: {why}"),
            }
        }
        return Err(errno);
    }
    Ok(())
}

/// Makes the directory `name` with exactly `mode`, durably, and opens it. One that is there meanwhile is
/// taken.
///
/// # Errors
/// ENOTDIR; what the tier says.
pub fn make_dir(dir: &dyn Dir, name: &Name, mode: u32) -> Result<Arc<dyn Dir>> {
    match dir.mkdir(name, mode, &Caller::DAEMON) {
        Ok(()) => {
            let made = dir.open_dir(name)?;
            acl::strip(made.as_ref(), &|_| false)?;
            // The umask may have taken bits away.
            made.set_attr(None, &SetAttr { mode: Some(mode), ..SetAttr::default() })?;
            dir.fsync()?;
            Ok(made)
        }
        Err(Errno::EEXIST) => dir.open_dir(name),
        Err(other) => Err(other),
    }
}

/// Sets the times of a directory back to what they were before tierfs's own work in it, for whoever may: names
/// are changed by all who can write in a directory, and its times set by its owner (`utimensat(2)`).
///
/// # Errors
/// What the tier says, but for EPERM and EACCES.
pub fn set_times_back(dir: &dyn Dir, atime: Time, mtime: Time) -> Result<()> {
    let (atime, mtime) = (Some(SetTime::At(atime)), Some(SetTime::At(mtime)));
    match dir.set_attr(None, &SetAttr { atime, mtime, ..SetAttr::default() }) {
        Err(errno @ (Errno::EPERM | Errno::EACCES)) => {
            tracing::debug!("a directory shows the time of a move: {errno}");
            Ok(())
        }
        other => other,
    }
}

/// Puts `bytes` in place of the file `name`, with exactly `mode`. On success they are on the disk; after a
/// crash at any point the file is the old one or the new one, whole. `scratch` is a name beside it that no
/// other writer uses.
///
/// # Errors
/// What the first failing call says; the old file is then still there.
pub fn replace(dir: &dyn Dir, name: &Name, scratch: &Name, bytes: &[u8], mode: u32) -> Result<()> {
    match dir.unlink(scratch) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(other) => return Err(other),
    }
    let file = dir.create(scratch, mode, Open::ReadWrite, &Caller::DAEMON)?;
    file.set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })?;
    if file.write_at(bytes, 0)? < bytes.len() {
        return Err(Errno::ENOSPC);
    }
    file.fsync(false)?;
    dir.rename(scratch, dir, name, Rename::Replace)?;
    dir.fsync()
}

/// The bytes of a regular file; `None` if there are more than `len_max`.
///
/// # Errors
/// What the tier says.
pub fn read(dir: &dyn Dir, name: &Name, len_max: usize) -> Result<Option<Vec<u8>>> {
    bytes(dir.open(name, Open::Read)?.as_ref(), len_max)
}

/// As [`read`], without a trace in the access time where that can be.
///
/// # Errors
/// As [`read`].
pub fn read_quietly(dir: &dyn Dir, name: &Name, len_max: usize) -> Result<Option<Vec<u8>>> {
    bytes(dir.open(name, Open::ReadQuiet)?.as_ref(), len_max)
}

/// The bytes of an open regular file; `None` if there are more than `len_max`.
///
/// # Errors
/// What the tier says.
pub fn bytes(file: &dyn File, len_max: usize) -> Result<Option<Vec<u8>>> {
    let len = usize::try_from(file.stat()?.size).unwrap_or(usize::MAX);
    if len > len_max {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    let got = file.read_at(&mut bytes, 0)?;
    bytes.truncate(got);
    Ok(Some(bytes))
}

/// The names in a directory, sorted: unique names come in the order in which they were made.
///
/// # Errors
/// What the tier says.
pub fn names(dir: &dyn Dir) -> Result<Vec<Name>> {
    let mut names = Vec::new();
    dir.list(&mut |found| names.extend(Name::new(found.name)))?;
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tier::place::{Place, Root};

    #[test]
    fn only_a_whole_mark_is_one() {
        assert_eq!(mark(b"17-2-0.b0000001f"), Some(0x1f));
        assert_eq!(mark(b"done-17-2-0.b7fffffff"), Some(0x7fff_ffff));
        for other in
            [&b"17-2-0"[..], b"17-2-0.b", b"17-2-0.b1f", b"17-2-0.b0000001f0", b"17.b0000001g", b"\xff.b0000001f"]
        {
            assert_eq!(mark(other), None, "{other:?}");
        }
    }

    /// A record of an earlier version, or of a filesystem that tells no birth times.
    #[test]
    fn a_file_without_a_mark_is_no_copy() {
        let home = tempfile::tempdir().unwrap();
        let opened = Root::open(&Place::plain(home.path().into())).unwrap();
        let (root, old) = (opened.dir(), Name::new(b"17-2-0").unwrap());
        write(root, &old, b"text").unwrap();
        assert_eq!(is_copied(root, &old), Ok(false));
        let mut new = Name::new(b"17-2-1").unwrap();
        write_marked(root, &mut new, b"text").unwrap();
        assert_eq!(is_copied(root, &new), Ok(false));
        assert_eq!(is_copied(root, &Name::new(b"gone.b00000001").unwrap()), Ok(false));
        assert_eq!(names(root).unwrap(), [old, new]);
    }

    #[test]
    fn a_file_is_replaced_whole_whatever_a_crash_has_left() {
        let home = tempfile::tempdir().unwrap();
        let opened = Root::open(&Place::plain(home.path().into())).unwrap();
        let root = opened.dir();
        let (name, scratch) = (Name::new(b"f").unwrap(), Name::new(b"f.tmp").unwrap());
        std::fs::write(home.path().join("f.tmp"), "left by a crash").unwrap();
        for (bytes, mode) in [(b"one", 0o644), (b"two", 0o640)] {
            replace(root, &name, &scratch, bytes, mode).unwrap();
            assert_eq!(read(root, &name, 3).unwrap().as_deref(), Some(&bytes[..]));
            assert_eq!(read(root, &name, 2).unwrap(), None);
            let found = std::fs::metadata(home.path().join("f")).unwrap().permissions().mode();
            assert_eq!(found & 0o7777, mode);
            assert!(!home.path().join("f.tmp").exists());
        }
    }
}
