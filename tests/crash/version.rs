//! Versions of a file, and which of them may be found after a cut.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use crate::common::fs as short;

pub(crate) const BLOCK: usize = 4096;

/// One whole version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// What each block is filled with.
    pub(crate) blocks: Vec<u32>,
    pub(crate) mode: u32,
    pub(crate) mark: Option<Vec<u8>>,
}

/// What may be under a path.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// The last is the newest; `None` is absence.
    pub(crate) possible: Vec<Option<Version>>,
    /// The one that the last finished step left.
    pub(crate) done: usize,
    /// Made durable by an fsync of the file, or of its directory.
    pub(crate) file_pending: bool,
    pub(crate) name_pending: bool,
}

impl State {
    pub(crate) fn sure(version: Option<Version>) -> State {
        State { possible: vec![version], done: 0, file_pending: false, name_pending: false }
    }

    pub(crate) fn last(&self) -> Option<&Version> {
        self.possible.last().and_then(Option::as_ref)
    }

    /// Whether this may be what is found. What was being written may be zeros yet.
    pub(crate) fn allows(&self, from: usize, now: Option<&Version>) -> bool {
        self.possible[from..].iter().any(|may| match (may, now) {
            (Some(may), Some(now)) => {
                let (sure, mut blank) = (self.possible[from].as_ref(), now.clone());
                for (at, tag) in blank.blocks.iter_mut().enumerate() {
                    let written = may.blocks.get(at);
                    if *tag == 0 && written != sure.and_then(|sure| sure.blocks.get(at)) {
                        *tag = written.copied().unwrap_or(0);
                    }
                }
                *may == blank
            }
            (may, now) => may.as_ref() == now,
        })
    }

    pub(crate) fn settle(&mut self) {
        self.possible.drain(..self.possible.len() - 1);
        (self.done, self.file_pending, self.name_pending) = (0, false, false);
    }
}

pub(crate) fn fill(file: &File, blocks: &[u32]) -> io::Result<()> {
    blocks.iter().enumerate().try_for_each(|(at, tag)| file.write_all_at(&block(*tag), (at * BLOCK) as u64))
}

pub(crate) fn block(tag: u32) -> Vec<u8> {
    tag.to_le_bytes().iter().copied().cycle().take(BLOCK).collect()
}

/// The tag of a block that cannot be read.
const TORN: u32 = u32::MAX;

/// The contents, block by block; those that cannot be read have the tag [`TORN`] if that may be.
fn read(path: &Path, torn: bool) -> io::Result<Vec<Vec<u8>>> {
    let file = File::open(path)?;
    let size = usize::try_from(file.metadata()?.len()).expect("a small file");
    let mut blocks = Vec::new();
    for start in (0..size).step_by(BLOCK) {
        let mut bytes = vec![0; BLOCK.min(size - start)];
        match file.read_exact_at(&mut bytes, start as u64) {
            Ok(()) => blocks.push(bytes),
            Err(error) if torn && error.raw_os_error() == Some(5) => blocks.push(block(TORN)),
            Err(error) => return Err(error),
        }
    }
    Ok(blocks)
}

/// A torn block is one that was being written since the last version that is sure; it is written anew, as a
/// program does that recovers.
pub(crate) fn healed(path: &Path, state: &State, from: usize, now: Option<Version>) -> Result<Option<Version>, String> {
    let Some(mut now) = now else { return Ok(None) };
    if !now.blocks.contains(&TORN) {
        return Ok(Some(now));
    }
    let sure = state.possible[from].as_ref();
    for at in (0..now.blocks.len()).filter(|at| now.blocks[*at] == TORN).collect::<Vec<_>>() {
        let before = sure.and_then(|sure| sure.blocks.get(at));
        let written = |may: &&Version| may.blocks.get(at).is_some() && may.blocks.get(at) != before;
        let Some(may) = state.possible[from..].iter().flatten().rfind(written) else {
            return Err(format!("{path:?}: block {at} cannot be read and was not being written: {state:?}"));
        };
        now.blocks[at] = may.blocks[at];
    }
    let file = File::options().write(true).open(path).map_err(|error| format!("{path:?}: {error}"))?;
    fill(&file, &now.blocks).and_then(|()| file.sync_all()).map_err(|error| format!("{path:?}: {error}"))?;
    Ok(Some(now))
}

/// What is under a path now; an error if it is no whole version of anything. `torn`: a block may be
/// unreadable.
pub(crate) fn find(path: &Path, torn: bool) -> Result<Option<Version>, String> {
    if !short::exists(path) {
        return Ok(None);
    }
    let read = read(path, torn).map_err(|error| format!("{path:?}: {error}"))?;
    let mut blocks = Vec::new();
    for (at, chunk) in read.into_iter().enumerate() {
        let tag = chunk.first_chunk::<4>().map(|raw| u32::from_le_bytes(*raw)).unwrap_or_default();
        if chunk != block(tag) {
            return Err(format!("{path:?}: block {at} is mixed or cut"));
        }
        blocks.push(tag);
    }
    let mark = short::xattr(path, "user.mark").ok();
    Ok(Some(Version { blocks, mode: short::stat(path).permissions().mode() & 0o7777, mark }))
}
