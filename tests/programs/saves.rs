//! Documents saved as office programs save them, and readers who must always see a whole one.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::common::fs::exists;
use crate::common::mount::{Setup, TestMount};
use crate::moving::{Moves, ends_clean, on_disks, while_moving};

/// Saves of each document.
fn saves() -> usize {
    std::env::var("TIERFS_SAVES").ok().and_then(|text| text.parse().ok()).unwrap_or(32)
}

/// A document whose every part tells which version it is of: 8 bytes of number, again and again.
fn document(version: usize) -> Vec<u8> {
    let words = [1, 100, 9_000, 40_000][version % 4];
    (version as u64).to_le_bytes().repeat(words)
}

/// The version of a whole document.
fn version_of(bytes: &[u8], what: &Path) -> usize {
    let number: [u8; 8] = bytes.get(..8).and_then(|first| first.try_into().ok()).unwrap_or_else(|| {
        panic!("{}: a document of {} bytes", what.display(), bytes.len());
    });
    let version = u64::from_le_bytes(number) as usize;
    assert!(bytes == document(version), "{}: {} bytes, not all of version {version}", what.display(), bytes.len());
    version
}

fn save_new(path: &Path, version: usize, sync: bool) {
    let mut file = std::fs::File::create_new(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    for part in document(version).chunks(30_000) {
        file.write_all(part).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    }
    if sync {
        file.sync_all().unwrap_or_else(|error| panic!("{path:?}: {error}"));
    }
}

#[track_caller]
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap_or_else(|error| panic!("{from:?} -> {to:?}: {error}"));
}

fn beside(document: &Path, name: &str) -> PathBuf {
    document.with_file_name(name)
}

/// A lock file, a backup as a copy, a temporary file that is synced, and a rename over the document.
fn save_as_libreoffice(path: &Path, version: usize) {
    let (lock, new) = (beside(path, ".~lock.letter.odt#"), beside(path, "lu3871.tmp"));
    std::fs::write(&lock, "user,host,now;").expect("lock file");
    if exists(path) {
        std::fs::copy(path, beside(path, "letter.odt.bak")).expect("backup");
    }
    save_new(&new, version, true);
    rename(&new, path);
    std::fs::remove_file(&lock).expect("lock file goes");
}

/// The new document under a name of its own, the old one out of the way, the new one in its place.
fn save_as_msoffice(path: &Path, version: usize) {
    let (owner, new, old) = (beside(path, "~$letter.docx"), beside(path, "~WRD0001.tmp"), beside(path, "~WRL0002.tmp"));
    std::fs::write(&owner, "user").expect("owner file");
    save_new(&new, version, version.is_multiple_of(3));
    if exists(path) {
        rename(path, &old);
    }
    rename(&new, path);
    let _absent_at_first = std::fs::remove_file(&old);
    std::fs::remove_file(&owner).expect("owner file goes");
}

/// Like an editor: the old version is a hard link, the new one replaces the name.
fn save_as_editor(path: &Path, version: usize) {
    let (new, old) = (beside(path, ".letter.txt.swp"), beside(path, "letter.txt~"));
    save_new(&new, version, version.is_multiple_of(2));
    let _absent_at_first = std::fs::remove_file(&old);
    if exists(path) {
        std::fs::hard_link(path, &old).expect("backup link");
    }
    rename(&new, path);
}

/// How a program saves, the name it gives, and whether the name is there at every moment.
type Way = (fn(&Path, usize), &'static str, bool);

const WAYS: [Way; 3] = [
    (save_as_libreoffice, "letter.odt", true),
    (save_as_msoffice, "letter.docx", false),
    (save_as_editor, "letter.txt", true),
];

/// Opens and reads the document until the writer has ended: always whole, never an older one than
/// the one before.
fn read_on(path: &Path, always: bool, rest: impl Fn(), going_on: impl Fn() -> bool) {
    let mut last = 0;
    for read in 1.. {
        if !going_on() {
            break;
        }
        if read % 20 == 0 {
            rest();
        }
        let mut file = match std::fs::File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !always => continue,
            file => file.unwrap_or_else(|error| panic!("{path:?}: open: {error}")),
        };
        let size = file.metadata().unwrap_or_else(|error| panic!("{path:?}: fstat: {error}")).size();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{path:?}: read: {error}"));
        assert_eq!(size, bytes.len() as u64, "{path:?}");
        let version = version_of(&bytes, path);
        assert!(version >= last, "{path:?}: version {version} after {last}");
        last = version;
        match path.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound && !always => {}
            shown => drop(shown.unwrap_or_else(|error| panic!("{path:?}: stat: {error}"))),
        }
    }
}

/// Who writes has ended, well or not.
struct Done<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn save_and_read(mount: &TestMount, rounds: impl Fn(&mut dyn FnMut(usize)) + Sync, rest: impl Fn() + Sync) {
    let documents = WAYS.map(|(save, name, always)| (save, mount.path(name.replace('.', "-")).join(name), always));
    for (save, path, _) in &documents {
        std::fs::create_dir(path.parent().expect("in a folder")).expect("mkdir");
        save(path, 0);
    }
    std::thread::scope(|scope| {
        for (save, path, always) in &documents {
            let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            for _ in 0..2 {
                let done = done.clone();
                let rest = &rest;
                scope.spawn(move || read_on(path, *always, rest, || !done.load(std::sync::atomic::Ordering::Relaxed)));
            }
            let (rounds, rest) = (&rounds, &rest);
            scope.spawn(move || {
                let _done = Done(&done);
                let mut version = 0;
                rounds(&mut |_| {
                    version += 1;
                    save(path, version);
                    let found = std::fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
                    assert_eq!(version_of(&found, path), version, "{path:?}");
                    if version % 4 == 0 {
                        rest();
                    }
                });
            });
        }
    });
}

/// On plain directories, without a move: what replaces a file under its readers never fails them.
#[test]
fn a_reader_sees_a_whole_document_whatever_replaces_it() {
    for option in ["passthrough", "nopassthrough"] {
        let Some(mount) = Setup::new().option(option).mount() else { return };
        save_and_read(&mount, |save| (0..saves()).for_each(save), || {});
        ends_clean(mount);
    }
}

/// The same while the documents, their backups and all else move.
#[test]
fn a_reader_sees_a_whole_document_whatever_replaces_and_moves_it() {
    for option in ["passthrough", "nopassthrough"] {
        let Some((_tiers, mount)) = on_disks(512, &[option]) else { return };
        while_moving(&mount, |moves: &Moves| {
            save_and_read(&mount, |save| moves.rounds(saves(), 5, save), || moves.rest());
        });
        ends_clean(mount);
    }
}
