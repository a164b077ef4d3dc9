//! Whether a master key is that of a volume: nothing in the configuration tells, the files do.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::crypt::layout::HEADER;
use crate::crypt::names::{CONF_NAME, DIRIV_NAME, LONG_PREFIX, REVERSE_CONF};
use crate::crypt::{Cipher, DirIv, Features, FileId, NameMode, Volume};
use crate::keys::file::SCRATCH_SUFFIX;

/// Entries that are looked at before giving up.
const ENTRIES_MAX: usize = 10_000;

/// Files and links that are tried: a single damaged one proves nothing.
const TRIED_MAX: usize = 100;

/// What the files of a volume say to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Some of them open.
    Opens,
    /// None of them opens.
    Refuses,
    /// There are none, or none that tells.
    Nothing,
}

#[derive(Default)]
struct Seen {
    opened: usize,
    refused: usize,
    names_opened: usize,
    names_refused: usize,
}

/// Tries `volume` on the files below `dir`. Those of a reverse view are plaintext, which tells nothing.
pub fn try_on(volume: &Volume, dir: &Path) -> Evidence {
    let siv = volume.features().cipher == Cipher::Siv;
    let no_iv = volume.names().has_dir_ivs() && dir.join(DIRIV_NAME).symlink_metadata().is_err();
    if dir.join(REVERSE_CONF).symlink_metadata().is_ok() || (siv && no_iv) {
        return Evidence::Nothing;
    }
    let mut seen = Seen::default();
    let mut entries = 0;
    let mut folders = VecDeque::from([dir.to_path_buf()]);
    while let Some(folder) = folders.pop_front() {
        let iv = dir_iv(volume, &folder);
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            entries += 1;
            if seen.opened > 0 || seen.refused >= TRIED_MAX || entries > ENTRIES_MAX {
                return verdict(&seen);
            }
            look(volume, iv, &entry, &mut seen, &mut folders);
        }
    }
    verdict(&seen)
}

/// What is wrong with how a volume is said to keep names, as the directory of ciphertext shows without a key.
pub fn vectors_misfit(features: &Features, dir: &Path) -> Option<&'static str> {
    let has_iv = dir.join(DIRIV_NAME).symlink_metadata().is_ok();
    match features.names {
        NameMode::Encrypted { dir_iv: true } if !has_iv => {
            Some("there is no gocryptfs.diriv: give --deterministic-names or --plaintext-names, as at `key init`")
        }
        NameMode::Plain | NameMode::Encrypted { dir_iv: false } if has_iv => {
            Some("there is a gocryptfs.diriv: leave out --deterministic-names and --plaintext-names")
        }
        NameMode::Plain | NameMode::Encrypted { .. } => None,
    }
}

/// The same, as the names show it to the key: contents open whatever is said of names.
pub fn names_misfit(volume: &Volume, dir: &Path) -> Option<&'static str> {
    let deterministic = volume.features().names == NameMode::Encrypted { dir_iv: false };
    (deterministic && !root_names_open(volume, dir))
        .then_some("its names do not decrypt: give --plaintext-names instead of --deterministic-names")
}

/// Whether some name in the root opens, or there is none.
fn root_names_open(volume: &Volume, dir: &Path) -> bool {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let own = |name: &[u8]| is_own(name) || name.starts_with(LONG_PREFIX.as_bytes());
    let opens = names
        .filter(|name| !own(name.as_bytes()))
        .map(|name| volume.names().decode(&DirIv::ZERO, name.as_bytes()).is_ok())
        .take(TRIED_MAX)
        .collect::<Vec<_>>();
    opens.is_empty() || opens.contains(&true)
}

fn verdict(seen: &Seen) -> Evidence {
    // A wrong key opens contents never, and about one name in 256.
    match (seen.opened > 0, seen.refused > 0) {
        (true, _) => Evidence::Opens,
        (false, true) => Evidence::Refuses,
        (false, false) if seen.names_refused > 0 => Evidence::Refuses,
        (false, false) if seen.names_opened > 0 => Evidence::Opens,
        (false, false) => Evidence::Nothing,
    }
}

fn dir_iv(volume: &Volume, folder: &Path) -> Option<DirIv> {
    if !volume.names().has_dir_ivs() {
        return Some(DirIv::ZERO);
    }
    DirIv::parse(&std::fs::read(folder.join(DIRIV_NAME)).ok()?).ok()
}

/// Whether it is a file of the volume itself, or what a crash has left of writing one.
fn is_own(name: &[u8]) -> bool {
    let bare = name.strip_suffix(SCRATCH_SUFFIX.as_bytes()).unwrap_or(name);
    bare == CONF_NAME.as_bytes() || bare == DIRIV_NAME.as_bytes()
}

fn look(
    volume: &Volume,
    iv: Option<DirIv>,
    entry: &std::fs::DirEntry,
    seen: &mut Seen,
    folders: &mut VecDeque<PathBuf>,
) {
    let (path, name) = (entry.path(), entry.file_name());
    let name = name.as_bytes();
    let own = is_own(name);
    let long = name.starts_with(LONG_PREFIX.as_bytes());
    let Ok(kind) = entry.file_type() else { return };
    if own || (long && name.ends_with(b".name")) {
        return;
    }
    if let Some(iv) = iv.filter(|_| !long && !volume.names().is_plain()) {
        match volume.names().decode(&iv, name) {
            Ok(_) => seen.names_opened += 1,
            Err(_) => seen.names_refused += 1,
        }
    }
    let opens = if kind.is_dir() {
        folders.push_back(path);
        None
    } else if kind.is_symlink() {
        opens_target(volume, &path)
    } else if kind.is_file() {
        opens_first_block(volume, &path)
    } else {
        None
    };
    match opens {
        Some(true) => seen.opened += 1,
        Some(false) => seen.refused += 1,
        None => {}
    }
}

/// `None` where there is nothing to try.
fn opens_target(volume: &Volume, path: &Path) -> Option<bool> {
    let text = std::fs::read_link(path).ok()?;
    if volume.names().is_plain() || text.as_os_str().is_empty() {
        return None;
    }
    let sealed = volume.names().decode_target(text.as_os_str().as_bytes());
    Some(sealed.and_then(|sealed| volume.content().open_value(&sealed)).is_ok())
}

fn opens_first_block(volume: &Volume, path: &Path) -> Option<bool> {
    let layout = volume.content().layout();
    let mut bytes = Vec::new();
    let most = layout.start(1);
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    let (header, block) = bytes.split_at_checked(HEADER)?;
    // An empty file, or a hole, which opens with every key.
    if block.iter().all(|byte| *byte == 0) {
        return None;
    }
    let Ok(id) = FileId::parse(header) else { return Some(false) };
    let mut out = vec![0; layout.opened_len(block.len())?];
    Some(volume.content().open(&id, 0, block, &mut out).is_ok())
}
