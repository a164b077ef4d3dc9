//! Small files of tierfs's own in a tier: records and manifests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Dir, File, Open, Rename, acl};
use crate::types::attr::SetAttr;
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// What the name of a file begins with that is not whole yet.
pub const DRAFT: &[u8] = b"draft-";

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
    let written =
        file.write_at(bytes, 0).and_then(|len| if len < bytes.len() { Err(Errno::ENOSPC) } else { file.fsync(false) });
    let published = written.and_then(|()| dir.rename(&draft, dir, name, Rename::NoReplace)).and_then(|()| dir.fsync());
    if let Err(errno) = published {
        // A file of that name that was there before is another's.
        let ours = if errno == Errno::EEXIST { &[&draft][..] } else { &[&draft, name] };
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
