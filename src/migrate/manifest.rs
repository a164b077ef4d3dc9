//! What a run has moved, for `history` and for undoing it: `.tierfs/runs/RUN.jsonl` on the primary.
//!
//! A line of JSON each: first what the run is, then each file, last what it came to. The last line
//! is missing after a crash, and the line before it may be cut; what counts is where the files are.
//! Files and last lines of further runs may follow; then the very last stands for all of them.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use crate::tier::{Dir, File, Open};
use crate::types::attr::Time;
use crate::types::errno::{Errno, Result};
use crate::types::hex;
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::types::path::UnionPath;

/// Where manifests are, in `.tierfs` of the primary.
pub const DIRECTORY: &str = "runs";

/// What the name of a manifest ends with.
pub const SUFFIX: &str = ".jsonl";

/// What the name of a day's promotions ends with, which share one manifest.
pub const PROMOTIONS: &str = "-promotions";

/// A first or last line is no longer than this.
const END_LEN_MAX: usize = 4096;

/// A longer line is none of ours: a path has at most some thousand bytes.
const LINE_LEN_MAX: usize = 1 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Line {
    /// The first.
    Begin {
        /// Of the format.
        version: u32,
        /// The name of the run.
        run: String,
        /// Seconds since 1970.
        started: u64,
        /// What was asked for, in a few words.
        command: String,
    },
    /// A file that has moved.
    File {
        /// Where it is in the union; lossy where it is no text.
        path: String,
        /// The same in hexadecimal, where it is no text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path_hex: Option<String>,
        /// Rank it left.
        from: u8,
        /// Rank it went to.
        to: u8,
        /// Its size.
        bytes: u64,
        /// Seconds and nanoseconds since 1970.
        mtime: (i64, u32),
        /// As [`Digest`] writes it.
        hash: String,
    },
    /// The last.
    End {
        /// Whether all that was planned was dealt with.
        done: bool,
        /// Files.
        moved: u64,
        /// Their bytes.
        bytes: u64,
        /// Files that stayed though planned.
        skipped: u64,
        /// Files that failed.
        failed: u64,
        /// Milliseconds.
        took_ms: u64,
    },
}

/// A file that has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is in the union.
    pub path: UnionPath,
    /// The tier it left.
    pub from: Rank,
    /// The tier it went to.
    pub to: Rank,
    /// Its size.
    pub bytes: u64,
    /// Last change of its contents.
    pub mtime: Time,
    /// The hash of its contents.
    pub digest: Digest,
}

impl Entry {
    pub(super) fn line(&self) -> Line {
        let text = std::str::from_utf8(self.path.as_bytes());
        Line::File {
            path: self.path.to_string(),
            path_hex: text.is_err().then(|| hex::write(self.path.as_bytes())),
            from: self.from.0,
            to: self.to.0,
            bytes: self.bytes,
            mtime: (self.mtime.sec, self.mtime.nsec),
            hash: self.digest.to_string(),
        }
    }

    /// The file that a line is about.
    pub fn of(line: &Line) -> Option<Entry> {
        let Line::File { path, path_hex, from, to, bytes, mtime, hash } = line else { return None };
        let raw = match path_hex {
            None => path.as_bytes().to_vec(),
            Some(digits) => hex::read(digits)?,
        };
        Some(Entry {
            path: UnionPath::new(&raw).ok()?,
            from: Rank(*from),
            to: Rank(*to),
            bytes: *bytes,
            mtime: Time { sec: mtime.0, nsec: mtime.1 },
            digest: Digest::parse(hash)?,
        })
    }
}

pub(super) fn manifest_name(run: &str) -> Result<Name> {
    Name::new(format!("{run}{SUFFIX}").as_bytes())
}

/// The names of all runs, oldest first.
///
/// # Errors
/// What the primary says.
pub fn runs(primary: &dyn Dir) -> Result<Vec<String>> {
    open(primary)?.map_or(Ok(Vec::new()), |dir| runs_in(dir.as_ref()))
}

pub(super) fn runs_in(dir: &dyn Dir) -> Result<Vec<String>> {
    let mut runs = Vec::new();
    dir.survey(&mut |entry| {
        let name = std::str::from_utf8(entry.name).ok();
        runs.extend(name.and_then(|name| name.strip_suffix(SUFFIX)).map(String::from));
        ControlFlow::Continue(())
    })?;
    runs.sort_unstable();
    Ok(runs)
}

fn open(primary: &dyn Dir) -> Result<Option<Arc<dyn Dir>>> {
    let mut dir = primary.open_dir(&Name::new(crate::types::name::PRIVATE_DIR.as_bytes())?)?;
    dir = match dir.open_dir(&Name::new(DIRECTORY.as_bytes())?) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    Ok(Some(dir))
}

/// Every line of a run that can be read; `None` if there is no such run.
///
/// # Errors
/// What the primary says.
pub fn read(primary: &dyn Dir, run: &str) -> Result<Option<Vec<Line>>> {
    let mut lines = Vec::new();
    let found = read_each(primary, run, &mut |line| lines.extend(line))?;
    Ok(found.then_some(lines))
}

/// Passes on every whole line of a run, `None` for one that cannot be understood, and says whether
/// there is such a run. What a crash left of the last line is passed over.
///
/// # Errors
/// What the primary says.
pub fn read_each(primary: &dyn Dir, run: &str, each: &mut dyn FnMut(Option<Line>)) -> Result<bool> {
    let (Some(dir), Ok(name)) = (open(primary)?, manifest_name(run)) else { return Ok(false) };
    let file = match dir.open(&name, Open::ReadQuiet) {
        Err(Errno::ENOENT) => return Ok(false),
        other => other?,
    };
    let (mut rest, mut at) = (Vec::new(), 0);
    let mut buffer = vec![0; LINE_LEN_MAX];
    loop {
        let got = file.read_at(&mut buffer, at)?;
        at += got as u64;
        rest.extend_from_slice(&buffer[..got]);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let texts = rest[..whole].split(|byte| *byte == b'\n').filter(|text| !text.is_empty());
        texts.for_each(|text| each(serde_json::from_slice(text).ok()));
        rest.drain(..whole);
        if rest.len() > LINE_LEN_MAX {
            each(None);
            return Ok(true);
        }
        if got < buffer.len() {
            return Ok(true);
        }
    }
}

/// The last line of a manifest; `None` if it is not whole.
pub(super) fn last_line(file: &dyn File) -> Result<Option<Line>> {
    let start = file.stat()?.size.saturating_sub(END_LEN_MAX as u64);
    let mut end = [0; END_LEN_MAX];
    let got = file.read_at(&mut end, start)?;
    let last = end[..got].strip_suffix(b"\n").and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next());
    Ok(last.and_then(|line| serde_json::from_slice(line).ok()))
}

/// The first line of a run and its last one, however long what is between them is; the last is `None` while
/// the run is at work, and of one that was cut short.
///
/// # Errors
/// What the primary says.
pub fn ends(primary: &dyn Dir, run: &str) -> Result<(Option<Line>, Option<Line>)> {
    let (Some(dir), Ok(name)) = (open(primary)?, manifest_name(run)) else { return Ok((None, None)) };
    let file = dir.open(&name, Open::ReadQuiet)?;
    let mut start = [0; END_LEN_MAX];
    let got = file.read_at(&mut start, 0)?;
    let first = start[..got].split(|byte| *byte == b'\n').next().and_then(|line| serde_json::from_slice(line).ok());
    let last = last_line(file.as_ref())?.filter(|line| matches!(line, Line::End { .. }));
    Ok((first, last))
}
