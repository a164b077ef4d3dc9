//! Changes that the stock program, or anybody, makes to the ciphertext beside the mount.

use std::os::unix::fs::MetadataExt;

use crate::cipher::real;
use crate::common::fs::{exists, get, names, put, stat};
use crate::common::mount::{Setup, TestMount};
use crate::common::trees::long;
use crate::common::wait::until;

/// Everything is in the kernel's caches before anything changes.
fn known() -> Option<TestMount> {
    let setup = Setup::new().option("out_of_band=watch").seed(|tiers| {
        put(tiers[0].join("dir/fast"), "fast");
        put(tiers[1].join("dir/slow"), "slow");
        put(tiers[1].join("dir").join(long('s', 200)), "long");
    });
    let mount = setup.mount()?;
    for path in ["dir/fast", "dir/slow"] {
        get(mount.path(path));
    }
    assert!(!exists(mount.path("dir/new")));
    assert_eq!(names(mount.path("dir")).len(), 3);
    Some(mount)
}

#[test]
fn what_the_stock_program_does_is_seen() {
    let Some(mount) = known() else { return };
    for (rank, name) in [(0, "new".to_owned()), (1, long('n', 222))] {
        put(mount.tier(rank, "dir").join(&name), "new");
        until("a new file", || exists(mount.path("dir").join(&name)).then_some(()));
        assert_eq!(get(mount.path("dir").join(&name)), "new");
        std::fs::rename(mount.tier(rank, "dir").join(&name), mount.tier(rank, "dir/moved")).expect("rename");
        until("the old name is gone", || (!exists(mount.path("dir").join(&name))).then_some(()));
        until("the new name is there", || exists(mount.path("dir/moved")).then_some(()));
        std::fs::remove_file(mount.tier(rank, "dir/moved")).expect("unlink");
        until("the file is gone", || (!exists(mount.path("dir/moved"))).then_some(()));
    }
    put(mount.tier(1, "dir/slow"), "slow, and longer");
    until("new contents", || (get(mount.path("dir/slow")) == "slow, and longer").then_some(()));
    until("the new size", || (stat(mount.path("dir/slow")).size() == 16).then_some(()));
    std::fs::rename(mount.tier(0, "dir/fast"), mount.tier(0, "dir").join(long('f', 199))).expect("rename");
    until("a long name", || exists(mount.path("dir").join(long('f', 199))).then_some(()));
    std::fs::remove_file(mount.tier(1, "dir").join(long('s', 200))).expect("unlink");
    until("the long name is gone", || (!exists(mount.path("dir").join(long('s', 200)))).then_some(()));
    until("the listing", || (names(mount.path("dir")).len() == 2).then_some(()));
    std::fs::create_dir(mount.tier(0, "made")).expect("mkdir");
    put(mount.tier(0, "made/file"), "in a new directory");
    until("a new directory", || exists(mount.path("made/file")).then_some(()));
    assert_eq!(get(mount.path("made/file")), "in a new directory");
}

#[test]
fn a_ciphertext_file_that_is_removed_is_gone() {
    let Some(mount) = known() else { return };
    std::fs::remove_file(real(&mount, 1, "dir/slow")).expect("rm");
    until("the file is gone", || (!exists(mount.path("dir/slow"))).then_some(()));
    let path = real(&mount, 1, &format!("dir/{}", long('s', 200)));
    std::fs::remove_file(format!("{}.name", path.display())).expect("rm");
    std::fs::remove_file(path).expect("rm");
    until("the long name is gone", || (!exists(mount.path("dir").join(long('s', 200)))).then_some(()));
    until("the listing", || (names(mount.path("dir")).len() == 1).then_some(()));
}
