//! Telling of damage: one line for each, with the path in plaintext and that of the ciphertext.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::dir::EncryptedDir;
use crate::sys::by_path;
use crate::tier::{Dir, File};
use crate::types::name::Name;

/// How long the same is not told again.
const QUIET: Duration = Duration::from_secs(600);

/// Most lines remembered.
const TOLD_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Teller {
    /// What the tier is called: where its root is.
    label: PathBuf,
    /// The root of the ciphertext.
    below: Arc<dyn Dir>,
    /// The root of the plaintext, once there is a tier.
    root: OnceLock<Weak<EncryptedDir>>,
    hasher: RandomState,
    told: Mutex<HashMap<u64, Instant>>,
}

impl Teller {
    pub(super) fn new(label: PathBuf, below: Arc<dyn Dir>) -> Teller {
        Teller { label, below, root: OnceLock::new(), hasher: RandomState::new(), told: Mutex::default() }
    }

    /// From here on paths can be told in plaintext.
    pub(super) fn know(&self, root: &Arc<EncryptedDir>) {
        drop(self.root.set(Arc::downgrade(root)));
    }

    /// Of a directory of ciphertext.
    pub(super) fn dir(&self, dir: &dyn Dir, words: &str) {
        self.tell(dir.held().and_then(by_path::of), words);
    }

    /// Of an entry by its name in the storage.
    pub(super) fn entry(&self, dir: &dyn Dir, stored: &[u8], words: &str) {
        let name = std::ffi::OsStr::from_bytes(stored);
        self.tell(dir.held().and_then(by_path::of).map(|path| path.join(name)), words);
    }

    /// Of an open file of ciphertext.
    pub(super) fn file(&self, file: &dyn File, words: &str) {
        self.tell(file.backing().and_then(by_path::of), words);
    }

    fn tell(&self, stored: Option<PathBuf>, words: &str) {
        if !self.is_news(stored.as_deref(), words) {
            return;
        }
        let tier = self.label.display();
        match stored {
            Some(stored) => {
                let real = self.real(&stored);
                match self.plain(&stored) {
                    Some(path) => tracing::warn!(%tier, "{}: {words} (stored as {})", path.display(), real.display()),
                    None => tracing::warn!(%tier, "{}: {words}", real.display()),
                }
            }
            None => tracing::warn!(%tier, "{words}"),
        }
    }

    /// Where the administrator finds it: the tier may be reached through a view of its mount that nobody else has,
    /// and paths are told as they are there.
    fn real(&self, stored: &Path) -> PathBuf {
        let top = self.below.held().and_then(by_path::of).filter(|_| self.label.is_absolute());
        let below = top.and_then(|top| stored.strip_prefix(top).ok().map(Path::to_path_buf));
        below.map_or_else(|| stored.to_path_buf(), |below| self.label.join(below))
    }

    pub(super) fn is_news(&self, stored: Option<&Path>, words: &str) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock();
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        let last = told.insert(self.hasher.hash_one((stored, words)), now);
        last.is_none_or(|last| now.duration_since(last) >= QUIET)
    }

    /// The path in plaintext, from the root of the tier, as far as its names are valid.
    pub(super) fn plain(&self, stored: &Path) -> Option<PathBuf> {
        let top = self.below.held().and_then(by_path::of)?;
        let mut dir: Arc<dyn Dir> = self.root.get()?.upgrade()?;
        let mut path = PathBuf::from("/");
        let mut below = stored.strip_prefix(&top).ok()?.components().peekable();
        while let Some(component) = below.next() {
            let name = component.as_os_str().as_bytes();
            let encrypted: &EncryptedDir = dir.as_any().downcast_ref()?;
            // A directory that has lost its IV has no names, and asking for them would lead here again.
            let known = encrypted.iv.get().copied().or_else(|| super::iv::peek(encrypted));
            let plain = known.and_then(|iv| encrypted.plain_name(&iv, name).ok().flatten());
            let Some(plain) = plain else {
                path.push(component);
                path.extend(below);
                return Some(path);
            };
            path.push(plain.as_os_str());
            if below.peek().is_some() {
                dir = open(dir.as_ref(), &plain)?;
            }
        }
        Some(path)
    }
}

fn open(dir: &dyn Dir, name: &Name) -> Option<Arc<dyn Dir>> {
    dir.open_dir(name).ok()
}
