//! Listings: merged, each name once, with offsets that hold.

use std::collections::BTreeSet;
use std::ffi::OsString;

use rustix::fs::{Dir, OFlags};

use crate::common::fs::{exists, names, open, put};
use crate::common::loopfs::LoopFs;
use crate::common::mount::{Setup, TestMount};
use crate::common::setting::all_encrypted;
use crate::common::wait;

fn all(directory: &mut Dir) -> Vec<String> {
    let entries = directory.map(|entry| {
        let entry = entry.expect("entry");
        entry.file_name().to_string_lossy().into_owned()
    });
    entries.filter(|name| name != "." && name != "..").collect()
}

fn open_dir(mount: &TestMount, path: &str) -> Dir {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    Dir::new(open(mount.path(path), flags, 0).expect("opendir")).expect("opendir")
}

/// Names of all tiers, each once, with `.` and `..` once.
#[test]
fn a_merged_listing_names_everything_once() {
    let setup = Setup::new().tiers(3).seed(|tiers| {
        for (rank, tier) in tiers.iter().enumerate() {
            put(tier.join(format!("dir/own{rank}")), "");
            put(tier.join("dir/shared"), "");
            put(tier.join("dir/sub/x"), "");
        }
        put(tiers[0].join("dir/mixed"), "");
        put(tiers[1].join("dir/mixed/below"), "");
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(names(mount.path("dir")), ["mixed", "own0", "own1", "own2", "shared", "sub"]);
    let kinds = std::fs::read_dir(mount.path("dir")).expect("ls").map(|entry| {
        let entry = entry.expect("entry");
        (entry.file_name(), entry.file_type().expect("type").is_dir())
    });
    let folders: Vec<OsString> = kinds.filter_map(|(name, folder)| folder.then_some(name)).collect();
    assert_eq!(folders, ["sub"], "the faster tier's entry wins, with its type");
    let raw = open_dir(&mount, "dir");
    let dots = raw.filter_map(Result::ok).filter(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."));
    assert_eq!(dots.count(), 2);
}

/// An open directory is a snapshot until it is rewound.
#[test]
fn rewinddir_shows_what_came_since() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("dir/a"), "");
        put(tiers[1].join("dir/b"), "");
    });
    let Some(mount) = setup.mount() else { return };
    let mut directory = open_dir(&mount, "dir");
    assert_eq!(all(&mut directory).len(), 2);
    put(mount.path("dir/c"), "");
    std::fs::remove_file(mount.path("dir/b")).expect("unlink");
    directory.rewind();
    let mut listed = all(&mut directory);
    listed.sort();
    assert_eq!(listed, ["a", "c"]);
}

/// An offset that readdir gave leads back to the same place, also while names come and go.
#[test]
fn seekdir_returns_to_the_same_entry() {
    let setup = Setup::new().seed(|tiers| {
        for number in 0..3000 {
            put(tiers[number % 2].join(format!("dir/file{number:04}")), "");
        }
    });
    let Some(mount) = setup.mount() else { return };
    let mut directory = open_dir(&mount, "dir");
    let mut trail = Vec::new();
    while let Some(entry) = directory.read() {
        let entry = entry.expect("entry");
        trail.push((entry.file_name().to_owned(), entry.offset()));
    }
    assert_eq!(trail.len(), 3002);
    for number in (1..3000).step_by(7).take(300) {
        std::fs::remove_file(mount.path(format!("dir/file{number:04}"))).expect("unlink");
    }
    for place in [0, 1, 700, 1500, 2999, 3000] {
        directory.seek(trail[place].1).expect("seekdir");
        let next = directory.read().expect("one more").expect("entry");
        assert_eq!(next.file_name(), trail[place + 1].0.as_c_str(), "after place {place}");
    }
}

/// Deleting every name while reading them leaves nothing behind: what `rm -r` does.
#[test]
fn deleting_while_listing_misses_nothing() {
    let setup = Setup::new().seed(|tiers| {
        for number in 0..5000 {
            put(tiers[number % 2].join(format!("dir/file{number}")), "");
        }
    });
    let Some(mount) = setup.mount() else { return };
    std::fs::remove_dir_all(mount.path("dir")).expect("rm -r");
    assert!(!exists(mount.path("dir")));
    assert!(!exists(mount.tier(0, "dir")) && !exists(mount.tier(1, "dir")));
}

/// A hundred thousand entries, a third on both tiers, without quadratic cost.
#[test]
fn a_hundred_thousand_entries_are_listed_once_each() {
    let Some(memory) = LoopFs::new("tmpfs", 1024) else { return };
    let roots = [memory.path().join("fast"), memory.path().join("slow")];
    // The stock program takes minutes to fill encrypted tiers with as many.
    let count = if all_encrypted() { 10_000 } else { 100_000 };
    let setup = Setup::new().roots(&roots).seed(|tiers| {
        for tier in tiers {
            std::fs::create_dir(tier.join("big")).expect("mkdir");
        }
        for number in 0..count {
            let name = format!("big/a somewhat longer name of a document {number}.txt");
            for (rank, tier) in tiers.iter().enumerate() {
                if number % 3 == rank || number % 3 == 2 {
                    std::fs::File::create(tier.join(&name)).expect("create");
                }
            }
        }
    });
    let Some(mount) = setup.mount() else { return };
    let start = std::time::Instant::now();
    for _ in 0..2 {
        let listed = all(&mut open_dir(&mount, "big"));
        assert_eq!(listed.len(), count);
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>().len(), count);
    }
    let with_stat = std::fs::read_dir(mount.path("big")).expect("ls");
    let sizes = with_stat.map(|entry| entry.expect("entry").metadata().expect("stat").len());
    assert_eq!(sizes.count(), count);
    let took = start.elapsed();
    // Seconds on a machine that has nothing else to do, and an hour if each call went through all of them.
    assert!(took.as_secs() < 300, "three walks over {count} entries took {took:?}");
    put(mount.path("big/new"), "");
    assert_eq!(all(&mut open_dir(&mount, "big")).len(), count + 1);
}

/// Listing a directory that another process keeps changing never shows a name twice and never
/// misses one that is there all the time.
#[test]
fn a_listing_beside_changes_keeps_what_stays() {
    let setup = Setup::new().seed(|tiers| {
        for number in 0..400 {
            put(tiers[number % 2].join(format!("dir/stays{number}")), "");
        }
    });
    let Some(mount) = setup.mount() else { return };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = wait::AtEnd(&done);
        scope.spawn(|| {
            let order = std::sync::atomic::Ordering::Relaxed;
            for round in (0..).take_while(|_| !done.load(order)) {
                let path = mount.path(format!("dir/comes{}", round % 50));
                put(&path, "");
                std::fs::rename(&path, mount.path("dir/moved")).expect("rename");
                std::fs::remove_file(mount.path("dir/moved")).expect("unlink");
            }
        });
        for _ in 0..100 {
            let listed = all(&mut open_dir(&mount, "dir"));
            let unique: BTreeSet<&String> = listed.iter().collect();
            assert_eq!(unique.len(), listed.len());
            assert_eq!(listed.iter().filter(|name| name.starts_with("stays")).count(), 400);
        }
    });
}
