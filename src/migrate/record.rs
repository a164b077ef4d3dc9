//! The record of a batch that is being swapped, from which [`super::recover`] finishes or undoes it.
//!
//! A record is one file in `.tierfs/moves/` of the primary, text, names in hexadecimal:
//!
//! ```text
//! tierfs-move 1
//! move 0 1                           from and to
//! file STAGED BODY COPY SIZE MODE UID GID SECONDS NANOSECONDS DIGEST
//! name 646f6373/61                   from the root of the union; one line for each hard link
//! end
//! ```
//!
//! STAGED is the name of the copy in the target's `.tierfs/staging` and, with the number of the
//! link appended, of the source in its tier's `.tierfs/trash`; BODY and COPY are the bodies of
//! source and copy; the rest are the attributes, the modification time and the hash that both have.
//!
//! Its own name ends with a mark by which a copy of it is known ([`Union::put_record`](crate::union::Union::put_record)).
//!
//! It is durable before the first name of the batch changes. When the batch is durable it gets a name that
//! says so, and goes when the sources are deleted.
//! One without `end`, or of another version, is told and stays, and with it everything in
//! trash and staging: all files can be reached then, some of them perhaps on two tiers.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::digest::Digest;
use super::times;
use crate::tier::{Dir, small};
use crate::types::attr::{Body, Stat, Time};
use crate::types::errno::{Errno, Result};
use crate::types::hex;
use crate::types::ids::Rank;
use crate::types::name::{Name, PRIVATE_DIR};
use crate::types::path::UnionPath;

/// Where records are, in `.tierfs` of the primary.
pub(super) const DIRECTORY: &str = "moves";
/// Where copies are made, in `.tierfs` of each tier.
pub(super) const STAGING: &str = "staging";
/// Where sources wait for their end, in `.tierfs` of each tier.
pub(super) const TRASH: &str = "trash";

/// What the name of a record begins with whose batch has moved: only its sources are still to be deleted.
pub(super) const DONE: &[u8] = b"done-";

/// The directories of tierfs's own in which something lies only while names change or files move.
pub const OWN_DIRS: [&str; 4] = [STAGING, TRASH, DIRECTORY, "renames"];

const TITLE: &str = "tierfs-move 1";

/// A larger file is no record: a batch has at most a few thousand names.
pub(super) const LEN_MAX: usize = 1 << 26;

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The tier the files leave.
    pub(super) from: Rank,
    /// The tier they go to.
    pub(super) to: Rank,
    /// The files.
    pub(super) files: Vec<Moving>,
}

/// One file of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moving {
    /// The name of the copy in staging.
    pub(super) staged: Name,
    /// The source's body.
    pub(super) body: Body,
    /// The copy's body.
    pub(super) copy: Body,
    /// What both have in common.
    pub(super) version: Version,
    /// Of what was copied.
    pub(super) digest: Digest,
    /// Every name of the file.
    pub(super) names: Vec<UnionPath>,
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    /// Bytes.
    pub(super) size: u64,
    /// Type and permissions.
    pub(super) mode: u32,
    /// Owner.
    pub(super) uid: u32,
    /// Group.
    pub(super) gid: u32,
    /// Last change of the contents.
    pub(super) mtime: Time,
}

impl Version {
    /// Of a body.
    pub(super) fn of(stat: &Stat) -> Version {
        Version { size: stat.size, mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime }
    }
}

/// The paths of all files that are on their way between two tiers now, or were when a run broke off,
/// as the records on the primary say. What is not among them has no copy that is about to be seen or
/// about to go.
///
/// # Errors
/// EINVAL for a record that cannot be read; what the primary says.
pub fn moving(primary: &dyn Dir) -> Result<HashSet<UnionPath>> {
    let mut dir = primary.open_dir(&Name::new(PRIVATE_DIR.as_bytes())?);
    if let Ok(private) = &dir {
        dir = private.open_dir(&Name::new(DIRECTORY.as_bytes())?);
    }
    let dir = match dir {
        Err(Errno::ENOENT) => return Ok(HashSet::new()),
        other => other?,
    };
    let mut names = Vec::new();
    dir.survey(&mut |entry| {
        let is_record =
            ![small::DRAFT, small::COPIED, times::PREFIX, DONE].iter().any(|prefix| entry.name.starts_with(prefix));
        names.extend(Name::new(entry.name).ok().filter(|_| is_record));
        ControlFlow::Continue(())
    })?;
    let mut paths = HashSet::new();
    for name in names {
        let raw = match small::read_quietly(dir.as_ref(), &name, LEN_MAX) {
            // Its batch has come to rest meanwhile.
            Err(Errno::ENOENT) => continue,
            other => other?,
        };
        let record = raw.and_then(|raw| Record::parse(std::str::from_utf8(&raw).ok()?)).ok_or(Errno::EINVAL)?;
        paths.extend(record.files.into_iter().flat_map(|file| file.names));
    }
    Ok(paths)
}

pub(super) fn path_text(path: &UnionPath) -> String {
    path.names().map(|name| hex::write(name.as_bytes())).collect::<Vec<_>>().join("/")
}

pub(super) fn path_parse(text: &str) -> Option<UnionPath> {
    text.split('/').try_fold(UnionPath::root(), |path, part| {
        let name = Name::new(&hex::read(part)?).ok()?;
        Some(path.join(name.as_bytes()))
    })
}

impl Record {
    /// The text of the file.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{TITLE}\nmove {} {}\n", self.from.0, self.to.0);
        for file in &self.files {
            let Version { size, mode, uid, gid, mtime } = file.version;
            let (body, copy) = (file.body.0, file.copy.0);
            text += &format!("file {} {body:016x} {copy:016x} {size} {mode:o} {uid} {gid} ", file.staged);
            text += &format!("{} {} {}\n", mtime.sec, mtime.nsec, file.digest);
            for name in &file.names {
                text += &format!("name {}\n", path_text(name));
            }
        }
        text + "end\n"
    }

    /// Reads the text of the file; `None` if it is not whole.
    pub(super) fn parse(text: &str) -> Option<Record> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next()? != TITLE {
            return None;
        }
        let (from, to) = lines.next()?.strip_prefix("move ")?.split_once(' ')?;
        let mut record = Record { from: Rank(from.parse().ok()?), to: Rank(to.parse().ok()?), files: Vec::new() };
        loop {
            let line = lines.next()?;
            if line == "end" {
                let whole = lines.next().is_none() && record.files.iter().all(|file| !file.names.is_empty());
                return whole.then_some(record);
            }
            if let Some(rest) = line.strip_prefix("file ") {
                record.files.push(parse_file(rest)?);
            } else {
                let path = path_parse(line.strip_prefix("name ")?)?;
                record.files.last_mut()?.names.push(path);
            }
        }
    }
}

fn parse_file(text: &str) -> Option<Moving> {
    let mut fields = text.split(' ');
    let staged = Name::new(fields.next()?.as_bytes()).ok()?;
    let body = Body(u64::from_str_radix(fields.next()?, 16).ok()?);
    let copy = Body(u64::from_str_radix(fields.next()?, 16).ok()?);
    let version = Version {
        size: fields.next()?.parse().ok()?,
        mode: u32::from_str_radix(fields.next()?, 8).ok()?,
        uid: fields.next()?.parse().ok()?,
        gid: fields.next()?.parse().ok()?,
        mtime: Time { sec: fields.next()?.parse().ok()?, nsec: fields.next()?.parse().ok()? },
    };
    let digest = Digest::parse(fields.next()?)?;
    fields.next().is_none().then_some(Moving { staged, body, copy, version, digest, names: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let version = Version { size: 5, mode: 0o100_644, uid: 1, gid: 2, mtime: Time { sec: -3, nsec: 4 } };
        let path = |raw: &[u8]| UnionPath::new(raw).unwrap();
        let file = |name: &str, names: Vec<UnionPath>| Moving {
            staged: Name::new(name.as_bytes()).unwrap(),
            body: Body(7),
            copy: Body(u64::MAX),
            version,
            digest: Digest::parse(&format!("z3:{}", "5a".repeat(32))).unwrap(),
            names,
        };
        let files = vec![file("1-2-3", vec![path(b"a b/\xff\n"), path(b"c")]), file("1-2-4", vec![path(b"d/e")])];
        Record { from: Rank(0), to: Rank(1), files }
    }

    #[test]
    fn a_record_reads_back() {
        assert_eq!(Record::parse(&record().to_text()), Some(record()));
    }

    #[test]
    fn a_cut_or_foreign_record_is_none() {
        let text = record().to_text();
        for cut in 0..text.len() {
            assert_eq!(Record::parse(&text[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Record::parse(&text.replace("tierfs-move 1", "tierfs-move 2")), None);
        assert_eq!(Record::parse(&text.replace("name 63\n", "name 2e2e\n")), None);
        assert_eq!(Record::parse(&format!("{text}more\n")), None);
    }
}
