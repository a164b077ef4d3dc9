//! The encrypted tier over a directory of the machine, in every variant of the format.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::EncryptedTier;
use crate::crypt::{Cipher, Features, MasterKey, Volume};
use crate::sys::secret::Secret;
use crate::tier::directory::{DirectoryTier, Known};
use crate::tier::{Dir, File, Open, Tier};
use crate::types::caller::Caller;
use crate::types::name::Name;

mod beside;
mod contents;
mod damage;
mod entries;
mod model;
mod room;

/// A volume in a directory that goes with it.
struct Home {
    dir: tempfile::TempDir,
    tier: EncryptedTier,
    volume: Arc<Volume>,
}

fn caller() -> Caller {
    Caller { umask: 0o022, ..Caller::DAEMON }
}

fn name(text: impl AsRef<[u8]>) -> Name {
    Name::new(text.as_ref()).unwrap()
}

fn long(letter: char) -> Name {
    name(letter.to_string().repeat(200))
}

fn plain_tier(at: &Path) -> DirectoryTier {
    let root: OwnedFd = std::fs::File::open(at).unwrap().into();
    DirectoryTier::new(&root, at.to_path_buf(), Known::default(), Box::new(|_| Ok(()))).unwrap()
}

fn volume(features: Features) -> Arc<Volume> {
    let master = MasterKey::from_secret(Secret::from_slice(&[7; 32])).unwrap();
    Arc::new(Volume::new(&master, features).unwrap())
}

fn open_at(at: &Path, volume: &Arc<Volume>) -> EncryptedTier {
    EncryptedTier::new(Arc::new(plain_tier(at)), Arc::clone(volume), PathBuf::from("test"))
}

impl Home {
    fn new(features: Features) -> Home {
        Home::at(tempfile::tempdir().unwrap(), features)
    }

    fn at(dir: tempfile::TempDir, features: Features) -> Home {
        let volume = volume(features);
        let tier = open_at(dir.path(), &volume);
        Home { dir, tier, volume }
    }

    fn gcm() -> Home {
        Home::new(Features::new(Cipher::Gcm))
    }

    fn root(&self) -> Arc<dyn Dir> {
        self.tier.root()
    }

    /// The same volume as somebody sees it who has just opened it.
    fn afresh(&self) -> EncryptedTier {
        open_at(self.dir.path(), &self.volume)
    }

    /// Where the ciphertext of `name` in the root is.
    fn stored(&self, name: &Name) -> PathBuf {
        let stored = self.root().stored_name(name).unwrap();
        self.dir.path().join(std::ffi::OsStr::from_bytes(&stored))
    }

    fn make(&self, name: &Name, data: &[u8]) -> Box<dyn File> {
        let file = self.root().create(name, 0o644, Open::ReadWrite, &caller()).unwrap();
        assert_eq!(file.write_at(data, 0), Ok(data.len()));
        file
    }
}

/// Every cipher and every way of names.
fn variants() -> Vec<(&'static str, Features)> {
    let gcm = Features::new(Cipher::Gcm);
    vec![
        ("gcm", gcm),
        ("xchacha", Features::new(Cipher::XChaCha)),
        ("siv", Features::new(Cipher::Siv)),
        ("plain names", gcm.with_plain_names()),
        ("deterministic names", gcm.with_deterministic_names()),
        ("names of 62 bytes", Features { long_max: 62, ..gcm }),
        ("padded base64", Features { raw64: false, ..gcm }),
    ]
}

fn listed(dir: &dyn Dir) -> Vec<String> {
    let mut names = Vec::new();
    dir.list(&mut |found| names.push(String::from_utf8_lossy(found.name).into_owned())).unwrap();
    names.sort();
    names
}

fn contents(dir: &dyn Dir, name: &Name) -> crate::types::errno::Result<Vec<u8>> {
    let file = dir.open(name, Open::Read)?;
    let mut bytes = vec![0; usize::try_from(file.stat()?.size).unwrap() + 100];
    let len = file.read_at(&mut bytes, 0)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Bytes that differ from block to block.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at / 7 + at / 4096) % 251).unwrap()).collect()
}

/// A small generator of numbers, the same in every run (SplitMix64, by Sebastiano Vigna).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) % below
    }
}
