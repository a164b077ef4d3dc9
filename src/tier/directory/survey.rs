//! Names and attributes of a whole directory, with as few system calls as there can be.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use super::DirectoryDir;
use crate::sys::at::{self, Flags};
use crate::sys::dirents::{self, Entry};
use crate::sys::stat::{self, Statx};
use crate::tier::{Found, Surveyed};
use crate::types::attr::{Kind, Stat};
use crate::types::errno::{Errno, Result};

impl DirectoryDir {
    /// [`crate::tier::Dir::survey`]: one `statx(2)` for each regular file, none for anything else
    /// whose type the listing tells.
    pub(super) fn survey_entries(&self, each: &mut dyn FnMut(Surveyed<'_>) -> ControlFlow<()>) -> Result<()> {
        let fd = match at::open(self.fd(), c".", Flags::LIST_QUIET, 0) {
            // Only the owner may read without touching the access time.
            Err(Errno::EPERM) => at::open(self.fd(), c".", Flags::LIST, 0)?,
            other => other?,
        };
        dirents::list_by_inode(fd.as_fd(), &mut |entries| {
            entries.iter().all(|entry| {
                let what = match self.find(entry) {
                    Err(Errno::ENOENT) => return true,
                    other => other,
                };
                each(Surveyed { name: entry.name.to_bytes(), what }).is_continue()
            })
        })
    }

    fn find(&self, entry: &Entry<'_>) -> Result<Found> {
        if let Some(kind) = entry.kind.filter(|kind| *kind != Kind::File) {
            return Ok(Found::Other(kind));
        }
        let raw = stat::statx(self.fd(), Some(entry.name))?;
        // It may be something else by now.
        Ok(match Kind::of_mode(raw.mode) {
            Kind::File => Found::File(self.stat_of(Some(entry.name), &raw)),
            other => Found::Other(other),
        })
    }

    /// Joins what `statx(2)` said of a name, or of the directory itself, with the tier's identity.
    pub(super) fn stat_of(&self, name: Option<&CStr>, raw: &Statx) -> Stat {
        self.bodies.stat(raw, || {
            let held = name.map(|name| at::open(self.fd(), name, Flags::HOLD, 0)).transpose()?;
            stat::statfs(held.as_ref().map_or(self.fd(), AsFd::as_fd)).map(|space| space.filesystem)
        })
    }
}
