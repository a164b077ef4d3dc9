//! The view over directories, without a mount.

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;
use crate::crypt::names::{CONF_NAME, DIRIV_NAME, REVERSE_CONF};
use crate::crypt::{DirIv, Features, FileId, MasterKey, Stored, derive};
use crate::sys::durable;
use crate::sys::secret::Secret;
use crate::tier::directory::{DirectoryTier, Known};
use crate::tier::source::{RootAttr, SourceTier, seed_of};
use crate::tier::{File, Open};
use crate::types::glob::Pattern;
use crate::types::rules::Verdict;
use crate::types::view::OnChange;

/// A directory of plaintext and its view.
struct Fixture {
    home: tempfile::TempDir,
    volume: Arc<Volume>,
    tier: ReverseTier,
}

fn directory(path: &Path, seed: u64) -> Arc<dyn Tier> {
    let root = durable::open_root(path).unwrap();
    let known = Known { seed, ..Known::default() };
    Arc::new(DirectoryTier::new(&root, path.to_path_buf(), known, Box::new(|_| Err(Errno::EROFS))).unwrap())
}

fn settings(volume: &Arc<Volume>, on_change: OnChange, excluded: &[&str], conf: ConfFile) -> Settings {
    let rule = |text: &&str| (Verdict::Exclude, Pattern::new(text).unwrap());
    let rules = Rules::new(excluded.iter().map(rule)).unwrap();
    Settings { volume: Arc::clone(volume), rules, on_change, conf }
}

impl Fixture {
    fn with(on_change: OnChange, excluded: &[&str]) -> Fixture {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(REVERSE_CONF), "{}").unwrap();
        let key = MasterKey::from_secret(Secret::from_slice(&[7; 32])).unwrap();
        let volume = Arc::new(Volume::new(&key, Features::new(Cipher::Siv)).unwrap());
        let inner = directory(home.path(), 0);
        let conf = ConfFile { dir: inner.root(), name: Name::new(REVERSE_CONF.as_bytes()).unwrap(), inside: true };
        let tier = ReverseTier::new(inner, settings(&volume, on_change, excluded, conf)).unwrap();
        Fixture { home, volume, tier }
    }

    fn new() -> Fixture {
        Fixture::with(OnChange::Fail, &[])
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.home.path().join(name), bytes).unwrap();
    }

    /// What `plain` in the root is called in the view.
    fn entry(&self, plain: &str) -> Name {
        self.entry_in(&derive::dir_iv(b""), plain)
    }

    fn entry_in(&self, iv: &DirIv, plain: &str) -> Name {
        Name::new(self.volume.names().encode(iv, plain.as_bytes()).unwrap().entry()).unwrap()
    }

    fn open(&self, plain: &str) -> Box<dyn File> {
        self.tier.root().open(&self.entry(plain), Open::Read).unwrap()
    }

    fn names(&self) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        self.tier.root().list(&mut |listed| names.push(listed.name.to_vec())).unwrap();
        names.sort();
        names
    }

    /// The plaintext of a whole file of ciphertext.
    fn decrypted(&self, cipher: &[u8]) -> Vec<u8> {
        let id = FileId::parse(&cipher[..18]).unwrap();
        let mut plain = vec![0; cipher.len()];
        let len = self.volume.content().open(&id, 0, &cipher[18..], &mut plain).unwrap();
        plain.truncate(len);
        plain
    }
}

/// Reads to the end, so many bytes at a time.
fn all(file: &dyn File, step: usize) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        let mut buffer = vec![0xee; step];
        let len = file.read_at(&mut buffer, read.len() as u64)?;
        read.extend_from_slice(&buffer[..len]);
        if len == 0 {
            return Ok(read);
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

#[test]
fn reads_of_any_size_give_the_same_bytes() {
    let view = Fixture::new();
    for len in [0, 1, 4095, 4096, 4097, 12_288, 20_000] {
        view.put("f", &bytes(len));
        let file = view.open("f");
        let whole = all(file.as_ref(), 1 << 20).unwrap();
        assert_eq!(whole.len() as u64, file.stat().unwrap().size, "{len}");
        for step in [1, 17, 18, 19, 4096, 4128, 5000] {
            if step > 16 || len < 5000 {
                assert_eq!(all(file.as_ref(), step).unwrap(), whole, "{len} bytes by {step}");
            }
        }
        if len > 0 {
            assert_eq!(view.decrypted(&whole), bytes(len));
        }
    }
}

#[test]
fn a_second_view_gives_the_same_bytes() {
    let view = Fixture::new();
    view.put("f", &bytes(10_000));
    let first = all(view.open("f").as_ref(), 4096).unwrap();
    let conf = ConfFile { dir: directory(view.home.path(), 9).root(), name: view.entry("x"), inside: false };
    let again = settings(&view.volume, OnChange::Serve, &[], conf);
    let again = ReverseTier::new(directory(view.home.path(), 9), again).unwrap();
    let file = again.root().open(&view.entry("f"), Open::Read).unwrap();
    assert_eq!(all(file.as_ref(), 1 << 20).unwrap(), first);
}

#[test]
fn all_names_of_a_file_have_the_same_bytes_in_any_order() {
    let view = Fixture::new();
    view.put("a", &bytes(5000));
    let alone = all(view.open("a").as_ref(), 9999).unwrap();
    std::fs::hard_link(view.home.path().join("a"), view.home.path().join("b")).unwrap();
    let (b, a) = (all(view.open("b").as_ref(), 9999).unwrap(), all(view.open("a").as_ref(), 9999).unwrap());
    assert_eq!(a, b);
    assert_ne!(a, alone, "a file with one name takes its numbers from that");
    assert_eq!(view.decrypted(&a), bytes(5000));
    let stat = |name: &str| view.tier.root().stat(Some(&view.entry(name))).unwrap().unwrap();
    assert_eq!((stat("a").body, stat("a").nlink), (stat("b").body, 2));
}

#[test]
fn a_file_that_changes_is_an_error_and_not_a_mixture() {
    let view = Fixture::new();
    view.put("f", &bytes(20_000));
    let file = view.open("f");
    let mut buffer = vec![0; 5000];
    assert_eq!(file.read_at(&mut buffer, 0), Ok(5000));
    let source = std::fs::File::options().write(true).open(view.home.path().join("f")).unwrap();
    source.write_all_at(b"x", 19_999).unwrap();
    assert_eq!(file.read_at(&mut buffer, 5000), Err(Errno::EIO));
    assert_eq!(file.read_at(&mut buffer, 0), Err(Errno::EIO), "also what has not changed itself");
    let file = view.open("f");
    source.set_len(100).unwrap();
    assert_eq!(file.read_at(&mut buffer, 0), Err(Errno::EIO));
    let after = view.open("f");
    assert_eq!(view.decrypted(&all(after.as_ref(), 64).unwrap()), bytes(100));
}

#[test]
fn a_change_in_the_same_tick_of_the_clock_is_seen() {
    let view = Fixture::new();
    for round in 0..20_u8 {
        view.put("f", &bytes(5000));
        let file = view.open("f");
        view.put("f", &[round; 5000]);
        assert_eq!(file.read_at(&mut [0; 100], 0), Err(Errno::EIO), "round {round}");
    }
}

#[test]
fn a_changing_file_is_served_up_to_its_size_and_each_block_is_whole() {
    let view = Fixture::with(OnChange::Serve, &[]);
    view.put("f", &[1; 10_000]);
    let file = view.open("f");
    let mut start = vec![0; 5000];
    assert_eq!(file.read_at(&mut start, 0), Ok(5000));
    view.put("f", &[2; 30_000]);
    let mut cipher = start.clone();
    let rest = all_from(file.as_ref(), 5000, 3000);
    cipher.extend(rest);
    assert_eq!(cipher.len() as u64, file.stat().unwrap().size);
    let plain = view.decrypted(&cipher);
    assert_eq!(plain.len(), 10_000);
    assert!(plain[..8192].iter().all(|byte| *byte == 1), "the block that was cut is still the old one");
    assert!(plain[8192..].iter().all(|byte| *byte == 2));
    // One that shrinks ends early, with a whole block.
    view.put("f", &[1; 10_000]);
    let file = view.open("f");
    let mut cipher = vec![0; 5000];
    assert_eq!(file.read_at(&mut cipher, 0), Ok(5000));
    view.put("f", &[2; 100]);
    cipher.extend(all_from(file.as_ref(), 5000, 3000));
    assert_eq!(view.decrypted(&cipher), vec![1; 8192]);
}

fn all_from(file: &dyn File, from: u64, step: usize) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        let mut buffer = vec![0; step];
        let len = file.read_at(&mut buffer, from + read.len() as u64).unwrap();
        if len == 0 {
            return read;
        }
        read.extend_from_slice(&buffer[..len]);
    }
}

#[test]
fn what_is_excluded_is_not_there_and_virtual_files_are() {
    let view = Fixture::with(OnChange::Fail, &["*.conf", "*.diriv", "*.name", "cache"]);
    let long = "l".repeat(200);
    for name in ["a", "b.conf", long.as_str()] {
        view.put(name, b"x");
    }
    std::fs::create_dir(view.home.path().join("cache")).unwrap();
    view.put("cache/x", b"x");
    let shown = view.names();
    let Stored::Long { entry, full } = view.volume.names().encode(&derive::dir_iv(b""), long.as_bytes()).unwrap()
    else {
        panic!("a long name");
    };
    let side = [entry.as_slice(), b".name"].concat();
    let a = view.entry("a");
    let mut expected = vec![a.as_bytes().to_vec(), CONF_NAME.into(), DIRIV_NAME.into(), entry, side.clone()];
    expected.sort();
    assert_eq!(shown, expected);
    let root = view.tier.root();
    for hidden in ["b.conf", "cache", REVERSE_CONF] {
        assert_eq!(root.stat(Some(&view.entry(hidden))), Ok(None), "{hidden}");
    }
    assert_eq!(root.open_dir(&view.entry("cache")).unwrap_err(), Errno::ENOENT);
    assert_eq!(root.open(&view.entry("b.conf"), Open::Read).unwrap_err(), Errno::ENOENT);
    let side = root.open(&Name::new(&side).unwrap(), Open::Read).unwrap();
    assert_eq!(all(side.as_ref(), 50).unwrap(), full);
}

#[test]
fn a_long_name_is_found_when_it_comes_and_gone_when_it_goes() {
    let view = Fixture::new();
    let long = "l".repeat(255);
    let entry = view.entry(&long);
    let root = view.tier.root();
    for _ in 0..3 {
        assert_eq!(root.stat(Some(&entry)), Ok(None));
        view.put(&long, b"abc");
        assert_eq!(root.stat(Some(&entry)).unwrap().unwrap().size, 18 + 32 + 3);
        std::fs::remove_file(view.home.path().join(&long)).unwrap();
    }
}

#[test]
fn what_never_changes_has_a_time_and_a_number_that_never_do() {
    let view = Fixture::new();
    let diriv = Name::new(DIRIV_NAME.as_bytes()).unwrap();
    let before = view.tier.root().stat(Some(&diriv)).unwrap().unwrap();
    view.put("new", b"x");
    assert_eq!(view.tier.root().stat(Some(&diriv)).unwrap().unwrap(), before);
    assert_eq!((before.size, before.mode & 0o7777), (16, 0o444));
}

#[test]
fn labels_and_not_places_make_the_names() {
    let view = Fixture::new();
    let [one, other] = ["one", "other"].map(|name| {
        let path = view.home.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("f"), bytes(5000)).unwrap();
        path
    });
    let cipher = |path: &Path, label: &str| {
        let label_name = Name::new(label.as_bytes()).unwrap();
        let attr = RootAttr { uid: 0, gid: 0, time: Time::default() };
        let inner = SourceTier::new(vec![(label_name.clone(), directory(path, seed_of(&label_name)))], attr);
        let conf = ConfFile { dir: inner.root(), name: label_name, inside: false };
        let tier = ReverseTier::new(Arc::new(inner), settings(&view.volume, OnChange::Fail, &[], conf)).unwrap();
        let entry = view.entry(label);
        let dir = tier.root().open_dir(&entry).unwrap();
        let file = view.entry_in(&derive::dir_iv(entry.as_bytes()), "f");
        all(dir.open(&file, Open::Read).unwrap().as_ref(), 1 << 20).unwrap()
    };
    assert_eq!(cipher(&one, "home"), cipher(&other, "home"));
    assert_ne!(cipher(&one, "home"), cipher(&one, "root"));
}

#[test]
fn another_cipher_is_refused() {
    let view = Fixture::new();
    let key = MasterKey::from_secret(Secret::from_slice(&[7; 32])).unwrap();
    let volume = Arc::new(Volume::new(&key, Features::new(Cipher::Gcm)).unwrap());
    let conf = ConfFile { dir: view.tier.root(), name: view.entry("x"), inside: false };
    let made = ReverseTier::new(directory(view.home.path(), 0), settings(&volume, OnChange::Fail, &[], conf));
    assert_eq!(made.unwrap_err(), Errno::EINVAL);
}

#[test]
fn nothing_can_be_changed() {
    let view = Fixture::new();
    view.put("f", b"x");
    let (root, entry) = (view.tier.root(), view.entry("f"));
    assert_eq!(root.unlink(&entry), Err(Errno::EROFS));
    assert_eq!(root.open(&entry, Open::Write).map(drop), Err(Errno::EROFS));
    assert_eq!(root.open(&entry, Open::Hold).unwrap().reopen(Open::ReadWrite).map(drop), Err(Errno::EROFS));
}

#[test]
fn attributes_are_sealed_with_their_names_and_acls_pass() {
    let view = Fixture::new();
    view.put("f", b"x");
    let source = directory(view.home.path(), 0).root();
    let plain = Name::new(b"f").unwrap();
    match source.set_xattr(Some(&plain), c"user.key", b"value", crate::tier::SetXattr::default()) {
        Err(Errno::EOPNOTSUPP) => return eprintln!("skipped: no extended attributes here"),
        other => other.unwrap(),
    }
    source.set_xattr(Some(&plain), c"user.empty", b"", crate::tier::SetXattr::default()).unwrap();
    source.set_xattr(Some(&plain), c"user.tierfs.pin", b"primary", crate::tier::SetXattr::default()).unwrap();
    let held = view.tier.root().open(&view.entry("f"), Open::Hold).unwrap();
    let keys = crate::tier::split_keys(&held.list_xattr().unwrap());
    assert_eq!(keys.len(), 2, "tierfs's own stays");
    let mut found = Vec::new();
    for key in &keys {
        let name = view.volume.names().decode_xattr(key.to_bytes()).unwrap();
        let value = held.get_xattr(key).unwrap();
        assert_eq!(held.get_xattr(key).unwrap(), value, "the same each time");
        found.push((name, view.volume.content().open_value(&value).unwrap()));
    }
    found.sort();
    assert_eq!(found, [(b"user.empty".to_vec(), Vec::new()), (b"user.key".to_vec(), b"value".to_vec())]);
    for absent in [c"user.key", c"security.capability", c"user.gocryptfs.AAAA", c"system.posix_acl_access"] {
        assert_eq!(held.get_xattr(absent), Err(Errno::ENODATA), "{absent:?}");
    }
}
