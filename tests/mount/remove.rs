//! Unlink and rmdir: what is deleted does not come back from a slower tier.

use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, names, put};
use crate::common::mount::Setup;

/// All copies go.
#[test]
fn unlink_removes_every_copy() {
    let setup = Setup::new().tiers(3).seed(|tiers| {
        for tier in tiers {
            put(tier.join("file"), "x");
        }
        put(tiers[2].join("slowest"), "x");
    });
    let Some(mount) = setup.mount() else { return };
    std::fs::remove_file(mount.path("file")).expect("unlink");
    std::fs::remove_file(mount.path("slowest")).expect("unlink");
    assert!(!exists(mount.path("file")));
    for rank in 0..3 {
        assert!(names(&mount.roots()[rank]).is_empty(), "tier {rank}");
    }
    let mount = mount.remount();
    assert!(names(mount.root()).is_empty());
}

/// The errors that POSIX names.
#[test]
fn impossible_removals_are_refused() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[1].join("file"), "x");
        put(tiers[1].join("dir/x"), "");
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(errno(std::fs::remove_file(mount.path("dir"))), Errno::ISDIR);
    assert_eq!(errno(std::fs::remove_dir(mount.path("file"))), Errno::NOTDIR);
    assert_eq!(errno(std::fs::remove_file(mount.path("no"))), Errno::NOENT);
    assert_eq!(errno(std::fs::remove_dir(mount.path("no"))), Errno::NOENT);
}

/// A directory that is empty on the fast tier only is not empty.
#[test]
fn rmdir_sees_entries_on_every_tier() {
    let setup = Setup::new().seed(|tiers| {
        for tier in tiers {
            std::fs::create_dir_all(tier.join("dir")).expect("mkdir");
        }
        put(tiers[1].join("dir/entry"), "kept");
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(errno(std::fs::remove_dir(mount.path("dir"))), Errno::NOTEMPTY);
    assert_eq!(get(mount.path("dir/entry")), "kept");
    std::fs::remove_file(mount.path("dir/entry")).expect("unlink");
    std::fs::remove_dir(mount.path("dir")).expect("rmdir");
    assert!(!exists(mount.path("dir")));
    assert!(!exists(mount.tier(0, "dir")) && !exists(mount.tier(1, "dir")));
}

/// A directory that was shadowed by a file does not come back when the file goes.
#[test]
fn what_a_file_shadowed_does_not_appear_when_it_goes() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("name"), "a file");
        put(tiers[1].join("name"), "a shadowed file");
    });
    let Some(mount) = setup.mount() else { return };
    std::fs::remove_file(mount.path("name")).expect("unlink");
    assert!(!exists(mount.path("name")));
    std::fs::create_dir(mount.path("name")).expect("mkdir");
    assert!(names(mount.path("name")).is_empty());
}

/// A name can be reused for another kind at once.
#[test]
fn a_name_is_free_after_removal() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[1].join("name/x"), "");
    });
    let Some(mount) = setup.mount() else { return };
    std::fs::remove_dir_all(mount.path("name")).expect("rm -r");
    put(mount.path("name"), "now a file");
    assert_eq!(get(mount.path("name")), "now a file");
    std::fs::remove_file(mount.path("name")).expect("unlink");
    std::fs::create_dir(mount.path("name")).expect("mkdir");
    assert!(names(mount.path("name")).is_empty());
}
