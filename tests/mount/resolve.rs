//! Which copy of a path is seen, and with which attributes.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, ino, names, put, set_times, stat};
use crate::common::mount::Setup;

/// The visible copy is the one on the lowest rank that holds the path.
#[test]
fn the_fastest_copy_is_the_visible_one() {
    let setup = Setup::new().tiers(3).seed(|tiers| {
        put(tiers[0].join("both"), "fast");
        put(tiers[1].join("both"), "slow and longer");
        put(tiers[2].join("both"), "slowest");
        put(tiers[1].join("second"), "only on the second");
        put(tiers[2].join("second"), "hidden");
        put(tiers[2].join("third"), "only on the third");
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(get(mount.path("both")), "fast");
    assert_eq!(stat(mount.path("both")).len(), 4);
    assert_eq!(get(mount.path("second")), "only on the second");
    assert_eq!(get(mount.path("third")), "only on the third");
    assert_eq!(errno(std::fs::read(mount.path("absent"))), Errno::NOENT);
    assert_eq!(errno(std::fs::read(mount.path("both/below"))), Errno::NOTDIR);
}

/// One tier is the same filesystem without shadowing.
#[test]
fn one_tier_passes_a_directory_through() {
    let setup = Setup::new().tiers(1).seed(|tiers| put(tiers[0].join("a/b"), "x"));
    let Some(mount) = setup.mount() else { return };
    put(mount.path("a/c"), "y");
    assert_eq!(names(mount.path("a")), ["b", "c"]);
    assert_eq!(get(mount.tier(0, "a/c")), "y");
}

/// Eight tiers are the most a mount takes.
#[test]
fn eight_tiers_are_merged() {
    let setup = Setup::new().tiers(8).seed(|tiers| {
        for (rank, tier) in tiers.iter().enumerate() {
            put(tier.join("dir").join(format!("file{rank}")), format!("{rank}"));
            put(tier.join("all"), format!("{rank}"));
        }
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(names(mount.path("dir")).len(), 8);
    assert_eq!(get(mount.path("dir/file7")), "7");
    assert_eq!(get(mount.path("all")), "0");
}

/// A non-directory hides everything of its name on slower tiers, a directory's tree also.
#[test]
fn a_file_shadows_a_directory_of_its_name() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("name"), "a file");
        put(tiers[1].join("name/below"), "hidden");
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(get(mount.path("name")), "a file");
    assert_eq!(errno(std::fs::read(mount.path("name/below"))), Errno::NOTDIR);
}

/// A directory that is the visible copy is merged only with directories.
#[test]
fn a_directory_shadows_a_file_of_its_name() {
    let setup = Setup::new().tiers(3).seed(|tiers| {
        put(tiers[0].join("name/fast"), "");
        put(tiers[1].join("name"), "hidden file");
    });
    let Some(mount) = setup.mount() else { return };
    assert!(stat(mount.path("name")).is_dir());
    assert_eq!(names(mount.path("name")), ["fast"]);
    put(mount.path("name/new"), "x");
    assert_eq!(get(mount.tier(1, "name")), "hidden file");
}

/// A file between two directories of one name ends the merge: what lies below it is hidden.
#[test]
fn a_file_between_two_directories_hides_the_slower_one() {
    let setup = Setup::new().tiers(3).seed(|tiers| {
        put(tiers[0].join("name/fast"), "");
        put(tiers[1].join("name"), "hidden file");
        put(tiers[2].join("name/slow"), "");
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(names(mount.path("name")), ["fast"]);
    assert_eq!(errno(std::fs::read(mount.path("name/slow"))), Errno::NOENT);
}

/// A merged directory shows the fastest copy's owner and mode, the newest times, one link.
#[test]
fn a_merged_directory_has_the_attributes_of_its_fastest_copy() {
    let setup = Setup::new().seed(|tiers| {
        for tier in tiers {
            std::fs::create_dir(tier.join("dir")).expect("mkdir");
        }
        let mode = std::fs::Permissions::from_mode(0o750);
        std::fs::set_permissions(tiers[0].join("dir"), mode).expect("chmod");
        set_times(tiers[0].join("dir"), 1_000_000, 1_000_000);
        set_times(tiers[1].join("dir"), 1_000_000, 2_000_000);
    });
    let Some(mount) = setup.mount() else { return };
    let shown = stat(mount.path("dir"));
    assert_eq!(shown.mode() & 0o7777, 0o750);
    assert_eq!(shown.mtime(), 2_000_000);
    assert_eq!(shown.nlink(), 1);
}

/// `du` counts what the visible copy occupies.
#[test]
fn blocks_are_those_of_the_visible_copy() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[1].join("file"), vec![7; 300_000]);
        put(tiers[0].join("short"), "x");
    });
    let Some(mount) = setup.mount() else { return };
    for (rank, name) in [(1, "file"), (0, "short")] {
        assert_eq!(stat(mount.path(name)).blocks(), stat(mount.tier(rank, name)).blocks());
    }
    put(mount.path("new"), vec![9; 100_000]);
    let file = std::fs::File::open(mount.path("new")).expect("open");
    file.sync_all().expect("fsync");
    assert_eq!(stat(mount.path("new")).blocks(), stat(mount.tier(0, "new")).blocks());
}

/// tierfs's own directory is not part of the tree, under any operation.
#[test]
fn the_marker_directory_is_invisible() {
    let Some(mount) = Setup::new().mount() else { return };
    assert!(exists(mount.tier(0, ".tierfs")), "the first mount writes markers");
    assert!(exists(mount.tier(1, ".tierfs")));
    assert!(!exists(mount.path(".tierfs")));
    let all: Vec<_> = std::fs::read_dir(mount.root()).expect("ls").collect();
    assert!(all.is_empty(), "{all:?}");
    put(mount.path("file"), "x");
    assert!(std::fs::create_dir(mount.path(".tierfs")).is_err());
    assert!(std::fs::write(mount.path(".tierfs"), "x").is_err());
    assert!(std::fs::rename(mount.path("file"), mount.path(".tierfs")).is_err());
    assert!(std::fs::rename(mount.path(".tierfs"), mount.path("other")).is_err());
    assert!(std::fs::remove_dir(mount.path(".tierfs")).is_err());
    put(mount.path("dir/.tierfs"), "only the top is reserved");
    assert_eq!(names(mount.root()), ["dir", "file"]);
}

/// A number stays with its object: across lookups, across remounts, different for each object.
#[test]
fn inode_numbers_are_stable_and_distinct() {
    let setup = Setup::new().seed(|tiers| {
        for (rank, tier) in tiers.iter().enumerate() {
            for file in 0..50 {
                put(tier.join(format!("dir{rank}/{file}")), "x");
            }
            put(tier.join("merged/file"), "x");
        }
    });
    let Some(mount) = setup.mount() else { return };
    put(mount.path("dir1/new"), "a new file in a cloned directory");
    let paths = || {
        let files = (0..2).flat_map(|rank| (0..50).map(move |file| format!("dir{rank}/{file}")));
        files.chain(["dir0", "dir1", "merged", "merged/file", "dir1/new"].map(str::to_owned))
    };
    let before: Vec<u64> = paths().map(|path| ino(mount.path(path))).collect();
    let distinct: std::collections::BTreeSet<u64> = before.iter().copied().collect();
    assert_eq!(distinct.len(), before.len());
    let mount = mount.remount();
    let after: Vec<u64> = paths().map(|path| ino(mount.path(path))).collect();
    assert_eq!(before, after);
}

/// Cloning a directory to the primary gives the same directory a second body, not a new number.
#[test]
fn a_cloned_directory_keeps_its_number() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("a/b/old"), "x"));
    let Some(mount) = setup.mount() else { return };
    let before = [ino(mount.path("a")), ino(mount.path("a/b"))];
    put(mount.path("a/b/new"), "x");
    assert!(exists(mount.tier(0, "a/b/new")));
    assert_eq!(before, [ino(mount.path("a")), ino(mount.path("a/b"))]);
    let mount = mount.remount();
    assert_eq!(before, [ino(mount.path("a")), ino(mount.path("a/b"))]);
}

/// The number that readdir tells is the number that stat tells.
#[test]
fn readdir_and_stat_agree_on_numbers() {
    use std::os::unix::fs::DirEntryExt;
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("dir/fast"), "x");
        put(tiers[1].join("dir/slow"), "x");
        put(tiers[1].join("dir/sub/file"), "x");
    });
    let Some(mount) = setup.mount() else { return };
    for entry in std::fs::read_dir(mount.path("dir")).expect("ls") {
        let entry = entry.expect("entry");
        assert_eq!(entry.ino(), ino(entry.path()), "{:?}", entry.path());
    }
}

/// An absent name that was asked for appears at once when it is made through the mount.
#[test]
fn an_absent_name_appears_when_made() {
    let Some(mount) = Setup::new().mount() else { return };
    for round in 0..50 {
        let path = mount.path(format!("file{round}"));
        assert!(!exists(&path));
        put(&path, "x");
        assert!(exists(&path));
        std::fs::remove_file(&path).expect("unlink");
        assert!(!exists(&path));
        std::fs::create_dir(&path).expect("mkdir");
        assert!(stat(&path).is_dir());
    }
}

/// A symbolic link is shown as it is stored and resolved in the mount.
#[test]
fn symbolic_links_lead_within_the_mount() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("target"), "fast");
        put(tiers[1].join("target"), "slow");
        std::os::unix::fs::symlink("target", tiers[1].join("link")).expect("symlink");
        std::os::unix::fs::symlink("nowhere", tiers[1].join("dangling")).expect("symlink");
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(get(mount.path("link")), "fast");
    let target = std::fs::read_link(mount.path("link")).expect("readlink");
    assert_eq!(target.as_os_str(), "target");
    assert_eq!(stat(mount.path("link")).len(), 6);
    assert!(exists(mount.path("dangling")));
    assert_eq!(errno(std::fs::read(mount.path("dangling"))), Errno::NOENT);
}
