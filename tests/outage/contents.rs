//! Steps that make a file, map it, or change its attributes.

use std::fs::File;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::common::need;
use crate::version::{BLOCK, Version, fill};
use crate::writer::Writer;

/// Fills one block through a shared mapping and syncs it.
const MAP: &str = "
import mmap, sys
at, byte = int(sys.argv[2]), int(sys.argv[3])
with open(sys.argv[1], 'r+b') as file, mmap.mmap(file.fileno(), 0) as mapping:
    mapping[at:at + 4096] = bytes([byte]) * 4096
    mapping.flush()
";

impl Writer {
    /// Through a shared mapping.
    pub(crate) fn map(&mut self, path: &Path, mut version: Version) -> io::Result<()> {
        if version.blocks.is_empty() {
            return Ok(());
        }
        self.byte = self.byte % 255 + 1;
        let tag = u32::from_le_bytes([self.byte; 4]);
        let at = self.rng.below(version.blocks.len());
        version.blocks[at] = tag;
        self.doing.tell(format!("map {path:?}, block {at} as {}", self.byte));
        let began = self.clock.now();
        self.add(path, Some(version));
        let mut python = Command::new(need::PYTHON);
        let (first, byte) = ((at * BLOCK).to_string(), self.byte.to_string());
        python.args(["-I", "-S", "-c", MAP]).arg(self.at(path)).args([&first, &byte]);
        let output = python.stdin(Stdio::null()).output()?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            self.acknowledged(path, began);
            return Ok(());
        }
        self.freeze(path);
        if told.contains("No such file") {
            return Err(Errno::NOENT.into());
        }
        Err(Errno::IO.into())
    }

    /// Mode or attribute.
    pub(crate) fn dress(&mut self, path: &Path, mut version: Version) -> io::Result<()> {
        let tag = self.fresh();
        let mark = self.rng.below(2) == 0;
        if mark {
            version.mark = Some(tag.to_le_bytes().to_vec());
        } else {
            version.mode = 0o600 | (tag & 0o77);
        }
        self.doing.tell(format!("dress {path:?} with {} {tag}", if mark { "mark" } else { "mode" }));
        let began = self.clock.now();
        let there = self.at(path);
        self.add(path, Some(version.clone()));
        self.known(path).file_pending = Some(began);
        let done = if mark {
            rustix::fs::setxattr(&there, "user.mark", &tag.to_le_bytes(), XattrFlags::empty()).map_err(io::Error::from)
        } else {
            std::fs::set_permissions(&there, PermissionsExt::from_mode(version.mode))
        };
        self.tried(path, done)?;
        if self.eager() {
            let synced = self.sync_file(path);
            self.tried(path, synced)?;
        }
        Ok(())
    }

    /// A new file whose contents are durable; `None` if that is not sure.
    pub(crate) fn make(&mut self, path: &Path) -> io::Result<Option<Version>> {
        let blocks: Vec<u32> = (0..1 + self.rng.below(3)).map(|_| self.fresh()).collect();
        let empty = Version { blocks: Vec::new(), mode: 0o644, mark: None };
        let version = Version { blocks, ..empty.clone() };
        let began = self.clock.now();
        self.doing.tell(format!("make {path:?}"));
        let mut options = File::options();
        let there = self.at(path);
        let file = self
            .attempt(&[(path, Some(empty.clone()))], || options.write(true).create_new(true).mode(0o644).open(there))?;
        for length in 1..=version.blocks.len() {
            self.add(path, Some(Version { blocks: version.blocks[..length].to_vec(), ..empty.clone() }));
        }
        self.known(path).name_pending = Some(began);
        let written =
            file.set_permissions(PermissionsExt::from_mode(0o644)).and_then(|()| fill(&file, &version.blocks));
        self.tried(path, written)?;
        let synced = self.clock.now();
        let outcome = file.sync_all();
        self.tried(path, outcome)?;
        if !self.clock.is_still(synced) {
            self.freeze(path);
            return Ok(None);
        }
        Ok(Some(version))
    }
}
