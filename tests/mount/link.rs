//! Hard links: one object under several names.

use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, ino, put, stat};
use crate::common::loopfs::LoopFs;
use crate::common::mount::Setup;

/// All names share number, link count and contents, whichever was asked for first.
#[test]
fn all_names_are_one_object() {
    let setup = Setup::new().seed(|tiers| {
        for (rank, tier) in tiers.iter().enumerate() {
            put(tier.join(format!("dir{rank}/one")), "x");
            let two = tier.join(format!("dir{rank}/two"));
            std::fs::hard_link(tier.join(format!("dir{rank}/one")), two).expect("link");
        }
    });
    let Some(mount) = setup.mount() else { return };
    for rank in 0..2 {
        let path = |name: &str| mount.path(format!("dir{rank}/{name}"));
        assert_eq!(ino(path("one")), ino(path("two")));
        assert_eq!(stat(path("one")).nlink(), 2);
        std::fs::hard_link(path("one"), path("three")).expect("link");
        for name in ["one", "two", "three"] {
            assert_eq!(stat(path(name)).nlink(), 3, "{name}");
            assert_eq!(ino(path(name)), ino(path("one")), "{name}");
        }
        std::fs::write(path("three"), "written by one name").expect("write");
        assert_eq!(get(path("one")), "written by one name");
        assert_eq!(stat(path("two")).len(), 19);
        std::fs::remove_file(path("one")).expect("unlink");
        assert_eq!(stat(path("two")).nlink(), 2);
        assert_eq!(stat(path("two")).ctime(), stat(path("three")).ctime());
    }
    let mount = mount.remount();
    assert_eq!(ino(mount.path("dir1/two")), ino(mount.path("dir1/three")));
}

/// A new name goes to the tier of the file, below cloned ancestors: never EXDEV.
#[test]
fn a_link_into_a_directory_of_another_tier_works() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[1].join("slow/file"), "x");
        put(tiers[0].join("fast/deep/other"), "y");
    });
    let Some(mount) = setup.mount() else { return };
    std::fs::hard_link(mount.path("slow/file"), mount.path("fast/deep/name")).expect("link");
    std::fs::hard_link(mount.path("fast/deep/other"), mount.path("slow/name")).expect("link");
    assert!(exists(mount.tier(1, "fast/deep/name")));
    assert!(exists(mount.tier(0, "slow/name")));
    assert_eq!(ino(mount.path("slow/file")), ino(mount.path("fast/deep/name")));
    assert_eq!(stat(mount.path("fast/deep/other")).nlink(), 2);
}

/// Links to symbolic links and special files; the errors that POSIX names.
#[test]
fn links_of_other_kinds_and_refusals() {
    let setup = Setup::new().seed(|tiers| {
        std::os::unix::fs::symlink("target", tiers[1].join("link")).expect("symlink");
        put(tiers[1].join("taken"), "x");
        std::fs::create_dir(tiers[1].join("dir")).expect("mkdir");
    });
    let Some(mount) = setup.mount() else { return };
    std::fs::hard_link(mount.path("link"), mount.path("link2")).expect("link");
    assert_eq!(std::fs::read_link(mount.path("link2")).expect("readlink").as_os_str(), "target");
    assert_eq!(stat(mount.path("link")).nlink(), 2);
    assert_eq!(errno(std::fs::hard_link(mount.path("link"), mount.path("taken"))), Errno::EXIST);
    assert_eq!(errno(std::fs::hard_link(mount.path("dir"), mount.path("dir2"))), Errno::PERM);
    assert_eq!(errno(std::fs::hard_link(mount.path("no"), mount.path("new"))), Errno::NOENT);
}

/// Unlinking a name whose file has another name: a shadowed copy goes, the other names stay.
#[test]
fn unlinking_one_name_leaves_the_others() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("one"), "fast");
        std::fs::hard_link(tiers[0].join("one"), tiers[0].join("two")).expect("link");
        put(tiers[1].join("one"), "shadowed");
    });
    let Some(mount) = setup.mount() else { return };
    std::fs::remove_file(mount.path("one")).expect("unlink");
    assert!(!exists(mount.path("one")));
    assert_eq!(get(mount.path("two")), "fast");
    assert_eq!(stat(mount.path("two")).nlink(), 1);
}

/// A file has as many names as its tier's filesystem allows, then EMLINK.
#[test]
fn the_limit_of_links_is_the_tiers() {
    let Some(below) = LoopFs::new("ext4", 64) else { return };
    let roots = [below.path().join("fast"), below.path().join("slow")];
    // ext4 allows 65,000 names.
    let setup = Setup::new().roots(&roots).seed(|tiers| {
        let file = tiers[1].join("file");
        put(&file, "x");
        (1..64_998).for_each(|name| std::fs::hard_link(&file, tiers[1].join(format!("{name}"))).expect("link"));
    });
    let Some(mount) = setup.mount() else { return };
    for name in ["one more", "the last"] {
        std::fs::hard_link(mount.path("file"), mount.path(name)).expect("link");
    }
    assert_eq!(stat(mount.path("the last")).nlink(), 65_000);
    assert_eq!(errno(std::fs::hard_link(mount.path("file"), mount.path("over"))), Errno::MLINK);
    assert!(!exists(mount.path("over")));
}
