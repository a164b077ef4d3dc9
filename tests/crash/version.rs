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

/// What is under a path now; an error if it is no whole version of anything.
pub(crate) fn find(path: &Path) -> Result<Option<Version>, String> {
    if !short::exists(path) {
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{path:?}: {error}"))?;
    let mut blocks = Vec::new();
    for (at, chunk) in bytes.chunks(BLOCK).enumerate() {
        let tag = chunk.first_chunk::<4>().map(|raw| u32::from_le_bytes(*raw)).unwrap_or_default();
        if chunk != block(tag) {
            return Err(format!("{path:?}: block {at} is mixed or cut"));
        }
        blocks.push(tag);
    }
    let mark = short::xattr(path, "user.mark").ok();
    Ok(Some(Version { blocks, mode: short::stat(path).permissions().mode() & 0o7777, mark }))
}
