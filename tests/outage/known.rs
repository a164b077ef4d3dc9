//! What a writer knows of one name: which versions may be under it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::io::Errno;

use crate::clock::Moment;
use crate::common::fs as short;
use crate::version::{BLOCK, State, Version, block};

/// Of one path.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The last of the possible versions is the newest.
    pub(crate) state: State,
    /// When the change began that an fsync of the file, or of its directory, is to make durable.
    pub(crate) file_pending: Option<Moment>,
    pub(crate) name_pending: Option<Moment>,
    /// Something about it has failed: it is left alone until all tiers are back.
    pub(crate) frozen: bool,
    /// It is open, with a change that is not synced.
    pub(crate) held: bool,
}

impl Known {
    pub(crate) fn sure(version: Option<Version>) -> Known {
        Known { state: State::sure(version), file_pending: None, name_pending: None, frozen: false, held: false }
    }

    pub(crate) fn last(&self) -> Option<&Version> {
        self.state.last()
    }

    /// Whether only one version may be there.
    pub(crate) fn is_sure(&self) -> bool {
        self.state.possible.len() == 1 && !self.frozen
    }

    /// A program may go on with it.
    pub(crate) fn is_usable(&self) -> bool {
        !self.frozen && !self.held
    }

    /// What was done last is durable.
    pub(crate) fn settle(&mut self) {
        self.state.settle();
        (self.file_pending, self.name_pending) = (None, None);
    }

    pub(crate) fn allows(&self, now: Option<&Version>) -> bool {
        self.state.allows(0, now)
    }
}

/// Why a version could not be told.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// What the system said.
    Io(io::Error),
    /// It is no whole version of anything.
    Mixed(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}

/// What is under a path now.
pub(crate) fn look(path: &Path) -> Result<Option<Version>, Trouble> {
    use std::os::unix::fs::PermissionsExt;
    let mode = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?.permissions().mode() & 0o7777,
    };
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let mark = match short::xattr(path, "user.mark") {
        Ok(mark) => Some(mark),
        Err(Errno::NODATA) => None,
        Err(errno) => return Err(Trouble::Io(errno.into())),
    };
    let mut blocks = Vec::new();
    for (at, chunk) in bytes.chunks(BLOCK).enumerate() {
        let tag = chunk.first_chunk::<4>().map(|raw| u32::from_le_bytes(*raw)).unwrap_or_default();
        if chunk != block(tag) {
            return Err(Trouble::Mixed(format!(
                "{path:?}: block {at} is mixed or cut: begins with {tag}, {} bytes",
                chunk.len()
            )));
        }
        blocks.push(tag);
    }
    Ok(Some(Version { blocks, mode, mark }))
}
