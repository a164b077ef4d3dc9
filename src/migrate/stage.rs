//! Staging: the whole copy of one file, in the target's private directory, where nobody sees it.
//!
//! While it is copied the source is claimed against writers. A program that wants to write it gives
//! the claim a knock, the copy is given up at the next chunk, and the program goes on. A claim that
//! stood from before the first byte to after the last, with the same attributes at both ends, proves
//! that no byte changed between: not by a descriptor, not by a mapping made before. Whoever writes
//! after the claim has ended must open the file first, and moves its times.

use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::time::Duration;

use super::claims::Claims;
use super::contents::{self, CHUNK};
use super::digest::Digest;
use super::pace::Pace;
use super::plan::Item;
use super::preflight::{self, Refusal};
use super::{Skip, Verify};
use crate::policy::since;
use crate::tier::{Dir, File, Open, SetXattr, acl};
use crate::types::attr::{SetAttr, SetTime, Stat, Time};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::lease::Excludes;
use crate::types::name::Name;
use crate::union::Union;
use crate::union::moving::{Staged, Subject};

/// A copy, and what proves it.
#[derive(Debug)]
pub(super) struct Copied {
    pub staged: Staged,
    /// Open until the copy is proved. When programs see it nothing of ours may be in their way: a file
    /// that is open for writing cannot be run or leased.
    file: Option<Box<dyn File>>,
    pub digest: Digest,
}

impl Copied {
    fn file(&self) -> Result<&dyn File> {
        self.file.as_deref().ok_or(Errno::EBADF)
    }

    /// Makes the copy durable by itself.
    pub(super) fn sync(&self) -> Result<()> {
        self.file()?.fsync(false)
    }

    /// It is durable and proved.
    pub(super) fn close(&mut self) {
        self.file = None;
    }
}

/// Where a copy is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub source: &'a dyn Dir,
    pub name: &'a Name,
    pub staging: &'a dyn Dir,
}

/// Flags that a copy gets where its filesystem takes them: to be compressed, synchronous, not dumped, no
/// access times, not compressed, data journalled.
const CARRIED: [u32; 6] = [0x04, 0x08, 0x40, 0x80, 0x400, 0x4000];

/// No copy on write. It is taken by an empty file only.
const NO_COW: u32 = 0x80_0000;

/// Permissions that a new file can be given at once.
const PERMISSIONS: u32 = 0o777;

/// `S_IWUSR` of `inode(7)`. Without it an ordinary user can set no attribute of his own file.
const OWNER_WRITES: u32 = 0o200;

/// A time stamp is as fine as the tick of the kernel's clock, 10 ms at most, and on some filesystems
/// one or two seconds. A file that changed so lately could change again and keep its times.
const TICK: Duration = Duration::from_millis(20);
const COARSE_TICK: Duration = Duration::from_millis(2100);

/// Copies the file that `item` planned and `subject` found.
pub(super) fn stage(
    union: &Union,
    item: &Item,
    subject: &Subject<'_>,
    place: Place<'_>,
    buffer: &mut [u8],
    (pace, claims): (&Pace, &Claims),
) -> std::result::Result<Copied, Refusal> {
    preflight::check(item, subject)?;
    let (source, flags) = preflight::claim(place.source, place.name, Excludes::Writers)?;
    let source: Arc<dyn File> = source.into();
    let _looked_after = claims.look_after(&source);
    wait_for_tick(&subject.stat);
    let name = crate::tier::small::unique_name().map_err(|errno| Refusal::Failed(errno, "naming a copy"))?;
    let file = place
        .staging
        .create(&name, subject.stat.mode & PERMISSIONS | OWNER_WRITES, Open::ReadWriteQuiet, &Caller::DAEMON)
        .map_err(|errno| of_target(errno, "creating a copy"))?;
    let ends = Ends { source: source.as_ref(), flags, target: file.as_ref() };
    let made = fill(union, subject, ends, &name, buffer, pace);
    let (staged, digest) = match made {
        Ok(made) => made,
        Err(refusal) => {
            discard(place.staging, &name);
            return Err(refusal);
        }
    };
    Ok(Copied { staged, file: Some(file), digest })
}

/// Removes a copy that is not needed.
pub(super) fn discard(staging: &dyn Dir, name: &Name) {
    if let Err(errno) = staging.unlink(name)
        && errno != Errno::ENOENT
    {
        tracing::warn!(%name, "a copy stays behind in .tierfs/staging until the next start: {errno}");
    }
}

/// A file and its copy.
#[derive(Clone, Copy)]
struct Ends<'a> {
    source: &'a dyn File,
    /// The source's inode flags.
    flags: u32,
    target: &'a dyn File,
}

fn wait_for_tick(stat: &Stat) {
    let tick = if stat.ctime.nsec == 0 { COARSE_TICK } else { TICK };
    let since = since(stat.ctime, now());
    if let Some(rest) = tick.checked_sub(since) {
        std::thread::sleep(rest);
    }
}

pub(super) fn now() -> Time {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Time { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() }
}

fn fill(
    union: &Union,
    subject: &Subject<'_>,
    ends: Ends<'_>,
    name: &Name,
    buffer: &mut [u8],
    pace: &Pace,
) -> std::result::Result<(Staged, Digest), Refusal> {
    let (stat, Ends { source, target, .. }) = (&subject.stat, ends);
    let before = source.stat().map_err(|errno| Refusal::Failed(errno, "looking at the file"))?;
    if !before.is_version(stat) {
        return Err(Skip::Changed.into());
    }
    carry_flag(ends.flags & NO_COW, target)?;
    let mut unclaimed = false;
    let mut still_claimed = || {
        unclaimed = !source.is_claimed(Excludes::Writers)?;
        if unclaimed { Err(Errno::EAGAIN) } else { Ok(()) }
    };
    let copied = contents::copy(source, stat, target, buffer, &mut |bytes| {
        still_claimed()?;
        pace.copied(bytes, &mut still_claimed)
    });
    let digest = match copied {
        Err(_) if unclaimed => return Err(Skip::InUse.into()),
        Err(Errno::ESTALE) => return Err(Skip::Changed.into()),
        other => other.map_err(|errno| of_target(errno, "copying"))?,
    };
    let staged = dress(union, subject, ends, name)?;
    check_dressed(stat, target)?;
    let after = source.stat().map_err(|errno| Refusal::Failed(errno, "looking at the file"))?;
    let claimed = source.is_claimed(Excludes::Writers).map_err(|errno| Refusal::Failed(errno, "claiming the file"))?;
    if !claimed {
        return Err(Skip::InUse.into());
    }
    if !after.is_version(stat) {
        return Err(Skip::Changed.into());
    }
    Ok((staged, digest))
}

/// Owner, extended attributes with ACLs and capabilities, mode, times: in the order in which none
/// undoes another. What the new file has by itself is not set again: each change costs the target's
/// filesystem a transaction.
fn dress(union: &Union, subject: &Subject<'_>, ends: Ends<'_>, name: &Name) -> std::result::Result<Staged, Refusal> {
    let (stat, Ends { source, flags, target }) = (&subject.stat, ends);
    let new = target.stat().map_err(|errno| of_target(errno, "looking at a copy"))?;
    let foreign = (new.uid, new.gid) != (stat.uid, stat.gid);
    if foreign {
        let owner = SetAttr { uid: Some(stat.uid), gid: Some(stat.gid), ..SetAttr::default() };
        match target.set_attr(&owner) {
            Err(Errno::EPERM | Errno::EINVAL) => return Err(Skip::Owner.into()),
            other => other.map_err(|errno| of_target(errno, "setting the owner"))?,
        }
    }
    let staged = union.stamp_copy(subject, target, &new, name).map_err(|errno| of_xattr(errno, "stamping a copy"))?;
    let with_acl = copy_xattrs(union, source, target)?;
    let mode = (foreign || with_acl || new.mode != stat.mode).then_some(stat.mode);
    let (atime, mtime) = (Some(SetTime::At(stat.atime)), Some(SetTime::At(stat.mtime)));
    let rest = SetAttr { mode, atime, mtime, ..SetAttr::default() };
    target.set_attr(&rest).map_err(|errno| of_target(errno, "setting mode and times"))?;
    for flag in CARRIED {
        carry_flag(flags & flag, target)?;
    }
    Ok(staged)
}

/// Sets a flag, if there is one. It changes nothing of the contents; a target without it serves as well.
fn carry_flag(flag: u32, target: &dyn File) -> std::result::Result<(), Refusal> {
    if flag == 0 {
        return Ok(());
    }
    match target.flags().and_then(|own| target.set_flags(own | flag)) {
        Err(errno) if is_unsupported(errno) => Ok(()),
        other => other.map_err(|errno| of_target(errno, "setting inode flags")),
    }
}

/// Journalled data takes rights that an owner may lack (`CAP_SYS_RESOURCE`).
fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EPERM)
}

/// Returns whether an ACL was among them, which changes the mode.
fn copy_xattrs(union: &Union, source: &dyn File, target: &dyn File) -> std::result::Result<bool, Refusal> {
    let mut with_acl = false;
    let mut attributes =
        xattrs(union, source).map_err(|errno| Refusal::Failed(errno, "reading extended attributes"))?;
    // An ACL may take the right away to set the others.
    attributes.sort_by_key(|(key, _)| is_acl(key));
    for (key, value) in &attributes {
        target
            .set_xattr(key, value, SetXattr::default())
            .map_err(|errno| of_xattr(errno, "setting an extended attribute"))?;
        with_acl |= is_acl(key);
    }
    // What the copy has from the directory that it was made in lets in whom its source does not.
    if !attributes.iter().any(|(key, _)| key.as_c_str() == acl::ACCESS) {
        with_acl |= acl::strip_file(target).map_err(|errno| of_xattr(errno, "removing an ACL"))?;
    }
    Ok(with_acl)
}

fn is_acl(key: &CStr) -> bool {
    key.to_bytes().starts_with(b"system.")
}

/// The extended attributes that belong to a file and not to one of its bodies.
pub(super) fn xattrs(union: &Union, file: &dyn File) -> Result<Vec<(CString, Vec<u8>)>> {
    let list = match file.list_xattr() {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let keys = list.split_inclusive(|byte| *byte == 0).filter_map(|key| CStr::from_bytes_with_nul(key).ok());
    let mut found = Vec::new();
    for key in keys.filter(|key| !union.is_stamp(key)) {
        match file.get_xattr(key) {
            Err(Errno::ENODATA) => {}
            value => found.push((key.to_owned(), value?)),
        }
    }
    found.sort();
    Ok(found)
}

/// What was set must be what is there: some filesystems round times, some map owners.
fn check_dressed(stat: &Stat, target: &dyn File) -> std::result::Result<(), Refusal> {
    let now = target.stat().map_err(|errno| of_target(errno, "looking at a copy"))?;
    if now.size != stat.size {
        return Err(Refusal::Failed(Errno::EIO, "comparing sizes"));
    }
    if (now.uid, now.gid, now.mode) != (stat.uid, stat.gid, stat.mode) {
        return Err(Skip::Owner.into());
    }
    if (now.mtime, now.atime) != (stat.mtime, stat.atime) {
        return Err(Skip::Times.into());
    }
    Ok(())
}

fn of_target(errno: Errno, during: &'static str) -> Refusal {
    match errno {
        Errno::ENOSPC => Skip::NoSpace.into(),
        Errno::EDQUOT => Skip::Quota.into(),
        Errno::EFBIG => Skip::TooLarge.into(),
        other => Refusal::Failed(other, during),
    }
}

fn of_xattr(errno: Errno, during: &'static str) -> Refusal {
    match errno {
        Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES | Errno::E2BIG | Errno::ERANGE | Errno::EINVAL => {
            Skip::Xattr.into()
        }
        // On an encrypted tier names grow.
        Errno::ENAMETOOLONG => Skip::Xattr.into(),
        // ext4 says so of attributes that are larger than a block, however empty it is.
        Errno::ENOSPC => Skip::Xattr.into(),
        other => of_target(other, during),
    }
}

/// Has a copy read from the storage again, soon: many are asked for before the first is compared.
pub(super) fn prefetch(copied: &Copied) {
    if let Ok(file) = copied.file() {
        file.drop_cache();
        file.read_ahead(CHUNK as u64);
    }
}

/// Reads a finished copy back and compares it with what was read from the source.
pub(super) fn verify(
    copied: &Copied,
    size: u64,
    how: Verify,
    buffer: &mut [u8],
    pace: &Pace,
) -> std::result::Result<(), Refusal> {
    let file = copied.file().map_err(|errno| Refusal::Failed(errno, "looking at a copy"))?;
    if how == Verify::Hash {
        let hash = contents::hash(file, size, copied.digest.form(), buffer, &mut |_| pace.check());
        match hash {
            Ok(hash) if hash == copied.digest => return Ok(()),
            Ok(_) => return Err(Refusal::Failed(Errno::EIO, "comparing the copy with the file")),
            Err(errno) => return Err(Refusal::Failed(errno, "reading the copy back")),
        }
    }
    let found = file.stat().map_err(|errno| Refusal::Failed(errno, "looking at a copy"))?;
    if found.size == size { Ok(()) } else { Err(Refusal::Failed(Errno::EIO, "comparing sizes")) }
}
