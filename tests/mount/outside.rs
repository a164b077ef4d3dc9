//! Changes made beside the mount, in the tiers themselves, become visible through it.

use std::os::unix::fs::MetadataExt;

use crate::common::fs::{exists, get, names, put, stat};
use crate::common::mount::{Setup, TestMount};
use crate::common::wait::{AtEnd, until};

/// Each way in which such changes are noticed.
const WAYS: [&[&str]; 2] = [&["out_of_band=watch"], &["out_of_band=ttl", "ttl=100ms"]];

fn each_way(check: impl Fn(&TestMount)) {
    for options in WAYS {
        let setup = options.iter().fold(Setup::new(), |setup, option| setup.option(option));
        let setup = setup.seed(|tiers| {
            put(tiers[0].join("dir/fast"), "fast");
            put(tiers[1].join("dir/slow"), "slow");
            put(tiers[1].join("deep/er/est/file"), "deep");
        });
        let Some(mount) = setup.mount() else { return };
        eprintln!("{options:?}");
        // Everything is in the kernel's caches before anything changes.
        for path in ["dir/fast", "dir/slow", "deep/er/est/file"] {
            get(mount.path(path));
        }
        for path in ["dir/new", "deep/new", "new", "deep/er/est/new"] {
            assert!(!exists(mount.path(path)));
        }
        assert_eq!(names(mount.path("dir")).len(), 2);
        assert_eq!(names(mount.root()).len(), 2);
        check(&mount);
        mount.unmount();
    }
}

/// New files, in directories that were listed and names that were known to be absent.
#[test]
fn new_files_appear() {
    each_way(|mount| {
        for (rank, path) in [(0, "dir/new"), (1, "deep/new"), (1, "new"), (1, "deep/er/est/new")] {
            put(mount.tier(rank, path), "came from outside");
            until(path, || exists(mount.path(path)).then_some(()));
            assert_eq!(get(mount.path(path)), "came from outside");
        }
        until("the listing", || (names(mount.path("dir")).len() == 3).then_some(()));
        until("the root's listing", || (names(mount.root()).len() == 3).then_some(()));
    });
}

/// A new copy on the faster tier becomes the visible one; without it the slower one is back.
#[test]
fn a_new_faster_copy_takes_over_and_gives_back() {
    each_way(|mount| {
        std::fs::create_dir_all(mount.tier(0, "dir")).expect("mkdir");
        put(mount.tier(0, "dir/slow"), "a faster copy");
        until("the faster copy", || (get(mount.path("dir/slow")) == "a faster copy").then_some(()));
        std::fs::remove_file(mount.tier(0, "dir/slow")).expect("unlink");
        until("the slower copy", || {
            let seen = std::fs::read_to_string(mount.path("dir/slow"));
            seen.is_ok_and(|text| text == "slow").then_some(())
        });
    });
}

/// Files that go, are renamed, or are replaced by another kind.
#[test]
fn removals_and_renames_are_seen() {
    each_way(|mount| {
        std::fs::remove_file(mount.tier(0, "dir/fast")).expect("unlink");
        until("the removal", || (!exists(mount.path("dir/fast"))).then_some(()));
        std::fs::rename(mount.tier(1, "dir/slow"), mount.tier(1, "dir/moved")).expect("rename");
        until("the new name", || exists(mount.path("dir/moved")).then_some(()));
        until("the old name", || (!exists(mount.path("dir/slow"))).then_some(()));
        until("the listing", || (names(mount.path("dir")) == ["moved"]).then_some(()));
        std::fs::remove_file(mount.tier(1, "dir/moved")).expect("unlink");
        std::fs::create_dir(mount.tier(1, "dir/moved")).expect("mkdir");
        until("the other kind", || {
            let shown = mount.path("dir/moved").symlink_metadata();
            shown.is_ok_and(|shown| shown.is_dir()).then_some(())
        });
        std::fs::rename(mount.tier(1, "deep/er"), mount.tier(1, "deep/newer")).expect("rename");
        until("the moved directory", || exists(mount.path("deep/newer/est/file")).then_some(()));
        until("its old name", || (!exists(mount.path("deep/er"))).then_some(()));
        std::fs::remove_dir_all(mount.tier(1, "deep")).expect("rm -r");
        until("the removed tree", || (!exists(mount.path("deep"))).then_some(()));
    });
}

/// Size, contents and attributes of a file that another program changes.
#[test]
fn changes_of_files_are_seen() {
    each_way(|mount| {
        for (rank, path) in [(0, "dir/fast"), (1, "dir/slow")] {
            let through = std::fs::File::open(mount.path(path)).expect("open");
            std::fs::write(mount.tier(rank, path), "longer than it was before").expect("write");
            until("the new size", || (stat(mount.path(path)).len() == 25).then_some(()));
            until("the new size of the open file", || (through.metadata().expect("fstat").len() == 25).then_some(()));
            assert_eq!(get(mount.path(path)), "longer than it was before");
            std::fs::write(mount.tier(rank, path), "short").expect("write");
            until("the new contents", || (get(mount.path(path)) == "short").then_some(()));
            until("the new size", || (stat(mount.path(path)).len() == 5).then_some(()));
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o604);
            std::fs::set_permissions(mount.tier(rank, path), mode).expect("chmod");
            until("the mode", || (stat(mount.path(path)).mode() & 0o777 == 0o604).then_some(()));
            crate::common::fs::set_times(mount.tier(rank, path), 1000, 2000);
            until("the times", || (stat(mount.path(path)).mtime() == 2000).then_some(()));
        }
    });
}

/// A file that was saved by rename beside the mount, again and again.
#[test]
fn replaced_files_are_seen() {
    each_way(|mount| {
        for round in 0..10 {
            let text = format!("round {round}");
            put(mount.tier(1, "dir/tmp"), &text);
            std::fs::rename(mount.tier(1, "dir/tmp"), mount.tier(1, "dir/slow")).expect("rename");
            until("the replaced file", || {
                let seen = std::fs::read_to_string(mount.path("dir/slow"));
                seen.is_ok_and(|seen| seen == text).then_some(())
            });
            until("its size", || (stat(mount.path("dir/slow")).len() == text.len() as u64).then_some(()));
        }
    });
}

/// Two tiers change while programs read through the mount; at the end everything is right.
#[test]
fn a_storm_of_changes_leaves_nothing_stale() {
    each_way(|mount| {
        let done = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            let _end = AtEnd(&done);
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(order) {
                        for name in names(mount.path("dir")) {
                            let _ = std::fs::read(mount.path("dir").join(name));
                        }
                    }
                });
            }
            for round in 0..400 {
                let path = format!("dir/storm{}", round % 40);
                let tier = mount.tier(round % 2, &path);
                match round % 5 {
                    0 => drop(std::fs::remove_file(tier)),
                    1 => drop(std::fs::rename(tier, mount.tier(round % 2, "dir/renamed"))),
                    _ => std::fs::write(tier, "z".repeat(round)).expect("write"),
                }
            }
        });
        let expected = merged(mount);
        until("the end of the storm", || (seen(mount) == expected).then_some(()));
    });
}

/// What the directory must show: names and contents, the faster tier's first.
fn merged(mount: &TestMount) -> std::collections::BTreeMap<std::ffi::OsString, Vec<u8>> {
    let mut all = std::collections::BTreeMap::new();
    for rank in [1, 0] {
        for name in names(mount.tier(rank, "dir")) {
            all.insert(name.clone(), std::fs::read(mount.tier(rank, "dir").join(name)).expect("read"));
        }
    }
    all
}

fn seen(mount: &TestMount) -> std::collections::BTreeMap<std::ffi::OsString, Vec<u8>> {
    let folder = mount.path("dir");
    let listed = names(&folder).into_iter();
    let content = |name: &std::ffi::OsString| std::fs::read(folder.join(name)).unwrap_or_default();
    let sized = listed.filter(|name| {
        let path = folder.join(name);
        path.metadata().is_ok_and(|shown| shown.len() == content(name).len() as u64)
    });
    sized.map(|name| (name.clone(), content(&name))).collect()
}
