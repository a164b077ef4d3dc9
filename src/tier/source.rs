//! Several directories as one tree: a root that only exists here, with one entry for each, under its
//! label.
//!
//! The labels are part of every path below, the places of the directories are not: they can move.

use std::ffi::CStr;
use std::sync::Arc;

use super::directory::bodies::mix;
use super::read_only::{unchangeable_dir, unchangeable_tier};
use super::{Dir, File, Listed, Open, Tier};
use crate::types::attr::{Body, Kind, Space, Stat, Time};
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

/// Directories under their labels, for reading only.
#[derive(Debug)]
pub struct SourceTier {
    root: Arc<Labels>,
}

/// Owner and times of the root, which nothing on the disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootAttr {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// All its times.
    pub time: Time,
}

#[derive(Debug)]
struct Labels {
    attr: RootAttr,
    entries: Vec<(Name, Arc<dyn Tier>)>,
}

impl SourceTier {
    /// Over `entries`, whose labels differ.
    pub fn new(entries: Vec<(Name, Arc<dyn Tier>)>, attr: RootAttr) -> SourceTier {
        SourceTier { root: Arc::new(Labels { attr, entries }) }
    }
}

impl Tier for SourceTier {
    fn root(&self) -> Arc<dyn Dir> {
        Arc::clone(&self.root) as Arc<dyn Dir>
    }

    /// The sum of the filesystems, each once.
    fn space(&self) -> Result<Space> {
        let mut total: Option<Space> = None;
        let mut counted = Vec::new();
        for (_, tier) in &self.root.entries {
            let space = tier.space()?;
            if counted.contains(&space.filesystem) {
                continue;
            }
            counted.push(space.filesystem);
            total = Some(total.map_or(space, |total| add(total, &space)));
        }
        total.ok_or(Errno::EIO)
    }

    unchangeable_tier!();
}

/// In blocks of the first.
fn add(mut total: Space, more: &Space) -> Space {
    let unit = u128::from(total.frsize.max(1));
    let scale = |blocks: u64| u64::try_from(u128::from(blocks) * u128::from(more.frsize) / unit).unwrap_or(u64::MAX);
    total.blocks = total.blocks.saturating_add(scale(more.blocks));
    total.bfree = total.bfree.saturating_add(scale(more.bfree));
    total.bavail = total.bavail.saturating_add(scale(more.bavail));
    total.files = total.files.saturating_add(more.files);
    total.ffree = total.ffree.saturating_add(more.ffree);
    total
}

impl Labels {
    fn find(&self, name: &Name) -> Option<&Arc<dyn Tier>> {
        self.entries.iter().find(|(label, _)| label == name).map(|(_, tier)| tier)
    }

    fn own(&self) -> Stat {
        let RootAttr { uid, gid, time } = self.attr;
        Stat {
            body: Body(mix(u64::from_be_bytes(*b"sources\0"))),
            generation: 1,
            mode: Kind::Dir.mode() | 0o555,
            nlink: 2,
            uid,
            gid,
            rdev: 0,
            size: 0,
            blocks: 0,
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }
}

impl Dir for Labels {
    fn stat(&self, name: Option<&Name>) -> Result<Option<Stat>> {
        match name {
            None => Ok(Some(self.own())),
            Some(name) => self.find(name).map_or(Ok(None), |tier| tier.root().stat(None)),
        }
    }

    fn open_dir(&self, name: &Name) -> Result<Arc<dyn Dir>> {
        self.find(name).map(|tier| tier.root()).ok_or(Errno::ENOENT)
    }

    fn open(&self, name: &Name, _how: Open) -> Result<Box<dyn File>> {
        Err(if self.find(name).is_some() { Errno::EISDIR } else { Errno::ENOENT })
    }

    fn readlink(&self, name: &Name) -> Result<Vec<u8>> {
        Err(if self.find(name).is_some() { Errno::EINVAL } else { Errno::ENOENT })
    }

    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> Result<()> {
        for (label, tier) in &self.entries {
            // One that fails is listed as well: a look at it tells its error, while a program that
            // mirrors the tree would take a missing name for a deletion.
            let body = tier.root().stat(None).ok().flatten().map_or(Body(seed_of(label)), |stat| stat.body);
            each(Listed { name: label.as_bytes(), kind: Some(Kind::Dir), body });
        }
        Ok(())
    }

    fn get_xattr(&self, name: Option<&Name>, key: &CStr) -> Result<Vec<u8>> {
        match name {
            None => Err(Errno::ENODATA),
            Some(name) => self.open_dir(name)?.get_xattr(None, key),
        }
    }

    fn list_xattr(&self, name: Option<&Name>) -> Result<Vec<u8>> {
        match name {
            None => Ok(Vec::new()),
            Some(name) => self.open_dir(name)?.list_xattr(None),
        }
    }

    unchangeable_dir!();
}

/// Makes the numbers in the directory of one label differ from those of the others.
pub fn seed_of(label: &Name) -> u64 {
    // Over the bytes and their number, so that zero bytes at the end count.
    let chunks = label.as_bytes().chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_be_bytes(word)
    });
    chunks.fold(mix(label.as_bytes().len() as u64), |seed, word| mix(seed ^ word))
}
