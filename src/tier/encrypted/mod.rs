//! A tier that holds ciphertext in the format of gocryptfs, over a tier that keeps it.
//!
//! Every directory, file and link of the volume is one of the same type in the tier below, so owners, modes,
//! times, hard links, locks and leases are those of the ciphertext. What differs is here: names (`names`, `iv`,
//! `listing`), contents and sizes (`file`, `blocks`, `resize`, `holes`), links' targets and extended
//! attributes (`xattrs`).
//!
//! Order of locks: `Shared::long`, then `Shared::emptying`, then the lock of a body.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};

use crate::crypt::volume::Volume;
use crate::tier::{Dir, Outside, Syncing, Tier};
use crate::types::attr::{Body, Kind, Space, Stat};
use crate::types::errno::Result;
use crate::types::name::NAME_MAX;

mod blocks;
mod dir;
mod directories;
mod file;
mod holes;
mod iv;
mod listing;
mod names;
mod outside;
mod rename;
mod resize;
mod room;
mod tell;
#[cfg(test)]
mod tests;
mod writing;
mod xattrs;

use dir::EncryptedDir;
use tell::Teller;

/// An encrypted tier.
pub struct EncryptedTier {
    inner: Arc<dyn Tier>,
    root: Arc<EncryptedDir>,
}

impl std::fmt::Debug for EncryptedTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptedTier").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl EncryptedTier {
    /// Over a tier whose root is the root of a volume; `label` is what messages call the tier.
    pub fn new(inner: Arc<dyn Tier>, volume: Arc<Volume>, label: PathBuf) -> EncryptedTier {
        let below = inner.root();
        let shared = Arc::new(Shared {
            volume,
            bodies: Bodies::default(),
            long: Mutex::default(),
            emptying: RwLock::default(),
            teller: Teller::new(label, Arc::clone(&below)),
        });
        let root = Arc::new(EncryptedDir { inner: below, shared, iv: OnceLock::new(), is_root: true });
        root.shared.teller.know(&root);
        EncryptedTier { inner, root }
    }
}

impl Tier for EncryptedTier {
    fn root(&self) -> Arc<dyn Dir> {
        Arc::clone(&self.root) as Arc<dyn Dir>
    }

    fn space(&self) -> Result<Space> {
        let space = self.inner.space()?;
        let names = self.root.shared.volume.names();
        let namelen = if names.is_plain() { space.namelen } else { u32::try_from(NAME_MAX).unwrap_or(space.namelen) };
        Ok(Space { namelen, ..space })
    }

    fn holds(&self, free: u64) -> u64 {
        self.root.shared.volume.content().layout().plain_size(free)
    }

    fn has_stamps(&self) -> bool {
        self.inner.has_stamps()
    }

    fn announce_stamps(&self) -> Result<()> {
        self.inner.announce_stamps()
    }

    fn has_given(&self) -> bool {
        self.inner.has_given()
    }

    fn announce_given(&self) -> Result<()> {
        self.inner.announce_given()
    }

    fn holds_back(&self) -> bool {
        self.inner.holds_back()
    }

    fn syncing(&self) -> Result<Option<Box<dyn Syncing>>> {
        self.inner.syncing()
    }

    fn keeps_access_times(&self) -> bool {
        self.inner.keeps_access_times()
    }

    fn path(&self) -> Option<&Path> {
        self.inner.path()
    }

    fn outside(&self, dir: BorrowedFd<'_>, stored: &[u8]) -> Outside {
        outside::outside(&self.root.shared.volume, dir, stored)
    }

    fn body_of(&self, dir: BorrowedFd<'_>) -> Result<Option<Body>> {
        self.inner.body_of(dir)
    }
}

/// What all directories and files of a tier share.
#[derive(Debug)]
struct Shared {
    volume: Arc<Volume>,
    bodies: Bodies,
    /// Held while a long name or its side file comes or goes: of the two none is ever seen alone for long.
    long: Mutex<()>,
    /// Read-locked while an entry is put into a directory, write-locked while a directory is without its IV
    /// on the way to its removal: nothing may come into it then.
    emptying: RwLock<()>,
    teller: Teller,
}

impl Shared {
    /// The attributes of plaintext whose ciphertext has these. `target_len` is the length in bytes of a
    /// link's target, where it is known.
    fn plain_stat(&self, stat: Stat, target_len: Option<u64>) -> Stat {
        let size = match stat.kind() {
            Kind::File => self.volume.content().layout().plain_size(stat.size),
            Kind::Symlink => target_len.unwrap_or_else(|| self.target_len(stat.size)),
            Kind::Dir | Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => stat.size,
        };
        Stat { size, ..stat }
    }

    /// The length in bytes of a link's target whose sealed form takes `stored` bytes, where that tells it
    /// (see [`Shared::hides_target_len`]): base64 without padding has one length for each number of bytes.
    fn target_len(&self, stored: u64) -> u64 {
        if self.volume.names().is_plain() || stored == 0 {
            return stored;
        }
        let sealed = stored / 4 * 3 + (stored % 4 * 3) / 4;
        sealed.saturating_sub(self.volume.content().layout().overhead as u64)
    }

    /// Whether the length of what is stored does not tell the length of a link's target: where base64 is padded.
    fn hides_target_len(&self) -> bool {
        !self.volume.names().is_plain() && !self.volume.features().raw64
    }
}

/// What is shared by everybody who has one body open.
#[derive(Debug, Default)]
struct Opened {
    /// Readers share it, writers have it alone: nobody sees half a block.
    lock: RwLock<()>,
    /// The file id when it was last looked at. It may have changed since: who opens blocks with it and fails
    /// reads the header again, and nothing is ever sealed with it.
    id: Mutex<Option<[u8; 16]>>,
}

/// The bodies that are open.
#[derive(Debug, Default)]
struct Bodies([Mutex<HashMap<Body, Weak<Opened>>>; SHARDS]);

const SHARDS: usize = 16;

impl Bodies {
    fn shard(&self, body: Body) -> &Mutex<HashMap<Body, Weak<Opened>>> {
        let index = usize::try_from(body.0 % SHARDS as u64).unwrap_or(0);
        &self.0[index]
    }

    fn open(&self, body: Body) -> Arc<Opened> {
        let mut open = self.shard(body).lock();
        if let Some(there) = open.get(&body).and_then(Weak::upgrade) {
            return there;
        }
        let new = Arc::new(Opened::default());
        open.insert(body, Arc::downgrade(&new));
        new
    }

    /// Gives back what [`Bodies::open`] gave.
    fn close(&self, body: Body, opened: Arc<Opened>) {
        let mut open = self.shard(body).lock();
        // Only under the lock of the shard do values come to be shared.
        if Arc::strong_count(&opened) == 1 {
            open.remove(&body);
        }
        drop(opened);
    }
}
