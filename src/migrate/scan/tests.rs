//! Scans of real directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::sys::xattr;

fn tree(files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    dir
}

/// For many small files.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn paths(words: &[&str]) -> Vec<UnionPath> {
    words.iter().map(|word| UnionPath::new(word.as_bytes()).unwrap()).collect()
}

/// All that a scan hands over.
#[derive(Default)]
struct Told {
    facts: BTreeMap<String, Facts>,
    failed: Vec<(String, Errno)>,
    totals: Totals,
}

impl Told {
    fn names(&self) -> Vec<&str> {
        self.facts.keys().map(String::as_str).collect()
    }
}

fn scan_all(dir: &TempDir, starts: &[&str], threads: usize, take: Take) -> Told {
    let tier = open_to_read(&Place::plain(dir.path().into()), Rank(1)).unwrap();
    let progress = Progress::default();
    let options = Options { threads, pins: true, progress: &progress };
    let mut told = Told::default();
    let mut each = |scanned| {
        match scanned {
            Scanned::Batch(batch) => {
                assert_eq!(batch.facts().count(), batch.len());
                for facts in batch.facts() {
                    assert_eq!(facts.path.split().unwrap().0, batch.dir);
                    let twice = told.facts.insert(facts.path.to_string(), facts);
                    assert_eq!(twice, None, "told twice");
                }
            }
            Scanned::Failed { path, errno, .. } => told.failed.push((path.to_string(), errno)),
        }
        Go::On
    };
    told.totals = scan(&*tier, Rank(1), &paths(starts), &options, &|_| take, &mut each).unwrap();
    assert_eq!(progress.seen(), (told.totals.files, told.totals.bytes));
    told
}

#[test]
fn every_file_is_told_once_and_the_rest_is_counted() {
    let dir = tree(&["a", "d/b", "d/e/f/c", "d/.tierfs/mine", ".tierfs/marker"]);
    symlink("d", dir.path().join("to-dir")).unwrap();
    symlink("a", dir.path().join("d/to-file")).unwrap();
    fs::hard_link(dir.path().join("a"), dir.path().join("d/e/a2")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    for threads in [1, 2, 8] {
        let told = scan_all(&dir, &[""], threads, Take::Keep);
        assert_eq!(told.names(), ["a", "d/.tierfs/mine", "d/b", "d/e/a2", "d/e/f/c"]);
        assert_eq!(told.failed, []);
        let bytes = "a".len() * 2 + "d/b".len() + "d/e/f/c".len() + "d/.tierfs/mine".len();
        let expected = Totals { files: 5, bytes: bytes as u64, dirs: 6, others: 2, failed: 0 };
        assert_eq!(told.totals, expected);
        let (one, two) = (&told.facts["a"].stat, &told.facts["d/e/a2"].stat);
        assert_eq!((one.body, one.nlink), (two.body, 2));
        assert_ne!(one.body, told.facts["d/b"].stat.body);
        let real = fs::metadata(dir.path().join("d/b")).unwrap();
        let seen = &told.facts["d/b"].stat;
        assert_eq!((seen.mtime.sec, i64::from(seen.mtime.nsec)), (real.mtime(), real.mtime_nsec()));
        assert_eq!((seen.blocks, seen.uid, seen.mode), (real.blocks(), real.uid(), real.mode()));
    }
    let counted = scan_all(&dir, &[""], 2, Take::Count);
    assert_eq!((counted.names().len(), counted.totals.files), (0, 5));
}

#[test]
fn only_the_starts_are_walked_each_once() {
    let dir = tree(&["a/1", "a/b/2", "ab/3", "c/4", ".tierfs/5"]);
    symlink("c", dir.path().join("link")).unwrap();
    let names = |starts: &[&str]| {
        let told = scan_all(&dir, starts, 2, Take::Keep);
        assert_eq!(told.failed, []);
        told.names().iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["a", "a/b", "a"]), ["a/1", "a/b/2"]);
    assert_eq!(names(&["a/b", "ab", "absent", "absent/x", "c/4/x"]), ["a/b/2", "ab/3"]);
    assert_eq!(names(&["c/4", "a/1"]), ["a/1", "c/4"]);
    assert_eq!(names(&["", "c/4"]).len(), 4);
    assert_eq!(names(&["link", "link/4", ".tierfs", ".tierfs/5"]), [""; 0]);
    assert_eq!(names(&[]), [""; 0]);
}

#[test]
fn a_huge_directory_comes_in_parts() {
    let dir = in_memory();
    let count = 10_000;
    for number in 0..count {
        fs::write(dir.path().join(format!("f{number}")), "").unwrap();
    }
    assert_eq!(scan_all(&dir, &[""], 2, Take::Keep).facts.len(), count);
}

#[test]
fn a_consumer_that_stops_ends_the_scan() {
    let dir = in_memory();
    for number in 0..500 {
        let below = dir.path().join(format!("d{number}"));
        fs::create_dir(&below).unwrap();
        (0..30).for_each(|file| fs::write(below.join(file.to_string()), "").unwrap());
    }
    let tier = open_to_read(&Place::plain(dir.path().into()), Rank(0)).unwrap();
    let progress = Progress::default();
    let options = Options { threads: 4, pins: false, progress: &progress };
    let mut calls = 0;
    let mut each = |_| {
        calls += 1;
        if calls == 3 { Go::Stop } else { Go::On }
    };
    scan(&*tier, Rank(0), &paths(&[""]), &options, &|_| Take::Keep, &mut each).unwrap();
    assert_eq!(calls, 3);
    assert!(progress.is_stopped());
    let totals = scan(&*tier, Rank(0), &paths(&[""]), &options, &|_| Take::Keep, &mut |_| Go::On).unwrap();
    assert_eq!(totals, Totals::default(), "it was stopped before");
}

/// Sets a pin; `false` where the filesystem has no such attributes.
fn pin(dir: &TempDir, path: &str, word: &str) -> bool {
    let root = crate::sys::durable::open_root(dir.path()).unwrap();
    let name = std::ffi::CString::new(path).unwrap();
    let name = Some(name.as_c_str()).filter(|name| !name.is_empty());
    match xattr::set(std::os::fd::AsFd::as_fd(&root), name, crate::types::pin::KEY, word.as_bytes(), 0) {
        Err(Errno::EOPNOTSUPP) => false,
        other => other.map(|()| true).unwrap(),
    }
}

#[test]
fn the_nearest_pin_holds() {
    let dir = tree(&["none", "own", "p/1", "p/q/2", "p/q/own", "p/r/3", "odd/4", "odd-file"]);
    if !pin(&dir, "p", "primary") {
        return eprintln!("skipped: no extended attributes here");
    }
    pin(&dir, "own", "tier2");
    pin(&dir, "p/q", "1");
    pin(&dir, "p/q/own", "primary\n");
    pin(&dir, "odd", "forever");
    pin(&dir, "odd-file", "\u{e9}");
    let told = scan_all(&dir, &[""], 2, Take::KeepWithPin);
    let pins: Vec<_> = told.facts.values().map(|facts| facts.pin.map(|rank| rank.0)).collect();
    let expected = [
        ("none", None),
        // What cannot be understood keeps a file on its tier, which is the secondary here.
        ("odd-file", Some(1)),
        ("odd/4", Some(1)),
        ("own", Some(2)),
        ("p/1", Some(0)),
        ("p/q/2", Some(1)),
        ("p/q/own", Some(0)),
        ("p/r/3", Some(0)),
    ];
    assert_eq!(told.names().into_iter().zip(pins).collect::<Vec<_>>(), expected);
    let mut failed = told.failed.clone();
    failed.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(failed, [("odd".to_owned(), Errno::EINVAL), ("odd-file".to_owned(), Errno::EINVAL)]);
    // A start inherits from what is above it; without the look at files only directories count.
    let told = scan_all(&dir, &["p/q/own", "p/r"], 2, Take::Keep);
    let pins: Vec<_> = told.facts.values().map(|facts| facts.pin).collect();
    assert_eq!(pins, [Some(Rank(1)), Some(Rank(0))]);
}

#[test]
fn no_access_time_changes() {
    let dir = tree(&["d/file"]);
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let all = ["", "d", "d/file"].map(|path| dir.path().join(path));
    for path in &all {
        let times = fs::FileTimes::new().set_accessed(then).set_modified(then + Duration::from_secs(5));
        fs::File::open(path).unwrap().set_times(times).unwrap();
    }
    assert_eq!(scan_all(&dir, &[""], 2, Take::KeepWithPin).facts.len(), 1);
    for path in &all {
        assert_eq!(fs::metadata(path).unwrap().accessed().unwrap(), then, "{}", path.display());
    }
}
