//! Renames: on the tier that holds the source, leaving no stale copy under either name.

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, ino, names, put, rename, stat};
use crate::common::mount::Setup;
use crate::common::setting::only_plain;
use crate::common::wait::AtEnd;

/// The file stays on its tier; missing ancestors of the new name are cloned there.
#[test]
fn a_file_is_renamed_on_the_tier_that_holds_it() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[1].join("old/file"), "slow");
        put(tiers[0].join("new/deep/other"), "");
    });
    let Some(mount) = setup.mount() else { return };
    let number = ino(mount.path("old/file"));
    std::fs::rename(mount.path("old/file"), mount.path("new/deep/file")).expect("rename");
    assert_eq!(get(mount.tier(1, "new/deep/file")), "slow");
    assert!(!exists(mount.tier(0, "new/deep/file")));
    assert!(!exists(mount.path("old/file")));
    assert_eq!(get(mount.path("new/deep/file")), "slow");
    assert_eq!(ino(mount.path("new/deep/file")), number);
}

/// Shadowed copies of the old name go, so that the old name is gone.
#[test]
fn shadowed_copies_of_the_old_name_do_not_come_back() {
    let setup = Setup::new().tiers(3).seed(|tiers| {
        for (rank, tier) in tiers.iter().enumerate() {
            put(tier.join("old"), format!("copy {rank}"));
        }
    });
    let Some(mount) = setup.mount() else { return };
    std::fs::rename(mount.path("old"), mount.path("new")).expect("rename");
    assert_eq!(names(mount.root()), ["new"]);
    assert_eq!(get(mount.path("new")), "copy 0");
    for rank in 0..3 {
        assert!(!exists(mount.tier(rank, "old")), "tier {rank}");
    }
}

/// A copy of the new name on a faster tier would hide the renamed file: it goes.
#[test]
fn a_faster_copy_of_the_new_name_goes() {
    let setup = Setup::new().tiers(3).seed(|tiers| {
        put(tiers[1].join("source"), "renamed");
        for (rank, tier) in tiers.iter().enumerate() {
            put(tier.join("target"), format!("replaced {rank}"));
        }
    });
    let Some(mount) = setup.mount() else { return };
    std::fs::rename(mount.path("source"), mount.path("target")).expect("rename");
    assert_eq!(get(mount.path("target")), "renamed");
    std::fs::remove_file(mount.path("target")).expect("unlink");
    assert!(names(mount.root()).is_empty());
    for rank in 0..3 {
        assert!(names(mount.roots()[rank].clone()).is_empty(), "tier {rank}");
    }
}

/// RENAME_NOREPLACE sees names on every tier.
#[test]
fn noreplace_sees_every_tier() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("fast"), "fast");
        put(tiers[1].join("slow"), "slow");
    });
    let Some(mount) = setup.mount() else { return };
    let no = RenameFlags::NOREPLACE;
    assert_eq!(errno(rename(mount.path("fast"), mount.path("slow"), no)), Errno::EXIST);
    assert_eq!(errno(rename(mount.path("slow"), mount.path("fast"), no)), Errno::EXIST);
    rename(mount.path("slow"), mount.path("free"), no).expect("rename");
    assert_eq!(get(mount.tier(1, "free")), "slow");
}

/// RENAME_EXCHANGE changes places, whatever tiers and kinds the two are.
#[test]
fn exchange_works_across_tiers() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("a/fast"), "fast");
        put(tiers[1].join("b/slow"), "slow");
        put(tiers[0].join("dir/x"), "x");
        put(tiers[1].join("dir/y"), "y");
        put(tiers[1].join("a/fast"), "shadowed");
    });
    let Some(mount) = setup.mount() else { return };
    let swap = RenameFlags::EXCHANGE;
    let (fast, slow) = (ino(mount.path("a/fast")), ino(mount.path("b/slow")));
    rename(mount.path("a/fast"), mount.path("b/slow"), swap).expect("exchange of files");
    assert_eq!(get(mount.path("a/fast")), "slow");
    assert_eq!(get(mount.path("b/slow")), "fast");
    assert_eq!((ino(mount.path("b/slow")), ino(mount.path("a/fast"))), (fast, slow));
    rename(mount.path("dir"), mount.path("a/fast"), swap).expect("a directory and a file");
    assert_eq!(get(mount.path("dir")), "slow");
    assert_eq!(names(mount.path("a/fast")), ["x", "y"]);
    assert_eq!(errno(rename(mount.path("dir"), mount.path("absent"), swap)), Errno::NOENT);
    let mount = mount.remount();
    assert_eq!(get(mount.path("dir")), "slow");
    assert_eq!(names(mount.path("a/fast")), ["x", "y"]);
    assert_eq!(get(mount.path("b/slow")), "fast");
}

/// A merged directory moves on every tier that holds it.
#[test]
fn a_merged_directory_moves_as_a_whole() {
    let setup = Setup::new().tiers(3).seed(|tiers| {
        for (rank, tier) in tiers.iter().enumerate() {
            put(tier.join(format!("old/sub/file{rank}")), "x");
        }
        put(tiers[2].join("other/place/y"), "");
    });
    let Some(mount) = setup.mount() else { return };
    let number = ino(mount.path("old"));
    std::fs::rename(mount.path("old"), mount.path("other/place/new")).expect("rename");
    assert!(!exists(mount.path("old")));
    let moved = mount.path("other/place/new");
    assert_eq!(names(moved.join("sub")), ["file0", "file1", "file2"]);
    assert_eq!(ino(&moved), number);
    for rank in 0..3 {
        assert!(!exists(mount.tier(rank, "old")), "tier {rank}");
    }
    let mount = mount.remount();
    assert_eq!(names(mount.path("other/place/new/sub")), ["file0", "file1", "file2"]);
    assert_eq!(ino(mount.path("other/place/new")), number);
}

/// The target directory must be empty on all tiers, not only on the fastest.
#[test]
fn a_target_with_entries_on_another_tier_is_not_empty() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("source/x"), "");
        std::fs::create_dir(tiers[0].join("target")).expect("mkdir");
        put(tiers[1].join("target/entry"), "");
        std::fs::create_dir(tiers[0].join("empty")).expect("mkdir");
        std::fs::create_dir(tiers[1].join("empty")).expect("mkdir");
    });
    let Some(mount) = setup.mount() else { return };
    let source = mount.path("source");
    assert_eq!(errno(std::fs::rename(&source, mount.path("target"))), Errno::NOTEMPTY);
    assert!(exists(mount.path("source/x")) && exists(mount.path("target/entry")));
    std::fs::rename(&source, mount.path("empty")).expect("onto an empty directory");
    assert_eq!(names(mount.path("empty")), ["x"]);
    assert!(!exists(&source));
}

/// The errors that POSIX names.
#[test]
fn impossible_renames_are_refused() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("dir/x"), "");
        put(tiers[1].join("dir/sub/y"), "");
        put(tiers[1].join("file"), "");
    });
    let Some(mount) = setup.mount() else { return };
    let path = |name: &str| mount.path(name);
    assert_eq!(errno(std::fs::rename(path("dir"), path("dir/sub/in"))), Errno::INVAL);
    assert_eq!(errno(std::fs::rename(path("dir"), path("file"))), Errno::NOTDIR);
    assert_eq!(errno(std::fs::rename(path("file"), path("dir"))), Errno::ISDIR);
    assert_eq!(errno(std::fs::rename(path("absent"), path("new"))), Errno::NOENT);
    assert_eq!(errno(std::fs::rename(path("file"), path("no/new"))), Errno::NOENT);
    assert_eq!(errno(std::fs::rename(path("dir/sub"), path("dir"))), Errno::NOTEMPTY);
    std::fs::rename(path("file"), path("file")).expect("onto itself");
    assert_eq!(names(mount.root()), ["dir", "file"]);
}

/// Renaming one name of a file onto another of its names does nothing, as POSIX wants.
#[test]
fn a_rename_between_two_names_of_one_file_does_nothing() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[1].join("one"), "x");
        std::fs::hard_link(tiers[1].join("one"), tiers[1].join("two")).expect("link");
    });
    let Some(mount) = setup.mount() else { return };
    std::fs::rename(mount.path("one"), mount.path("two")).expect("rename");
    assert_eq!(names(mount.root()), ["one", "two"]);
}

/// How office programs save: write a new file, rename it over the old one, which lives on the
/// slower tier.
#[test]
fn a_save_by_rename_replaces_a_file_of_the_slower_tier() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("docs/report"), "first"));
    let Some(mount) = setup.mount() else { return };
    for round in 0..5 {
        let text = format!("version {round}");
        put(mount.path("docs/report.tmp"), &text);
        std::fs::rename(mount.path("docs/report.tmp"), mount.path("docs/report")).expect("save");
        assert_eq!(get(mount.path("docs/report")), text);
        assert_eq!(stat(mount.path("docs/report")).len(), text.len() as u64);
        assert_eq!(names(mount.path("docs")), ["report"]);
    }
    assert!(!exists(mount.tier(1, "docs/report")), "the old version is gone");
    let mount = mount.remount();
    assert_eq!(get(mount.path("docs/report")), "version 4");
}

/// While a name is replaced again and again, a reader sees some whole version, never none.
#[test]
fn a_reader_beside_renames_always_finds_a_whole_file() {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("name"), "0".repeat(5000));
        put(tiers[1].join("name"), "never");
    });
    let Some(mount) = setup.mount() else { return };
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    let seen = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        let end = AtEnd(&done);
        let reader = scope.spawn(|| {
            while !done.load(order) {
                let text = get(mount.path("name"));
                assert_eq!(text.len(), 5000, "{:.20}", text);
                assert!(text.bytes().all(|byte| byte == text.as_bytes()[0]));
                seen.fetch_add(1, order);
            }
        });
        // On a busy machine the reader may come late.
        for round in (0..).take_while(|round| *round < 500u32 || seen.load(order) == 0 && !reader.is_finished()) {
            put(mount.path("tmp"), format!("{}", round % 10).repeat(5000));
            std::fs::rename(mount.path("tmp"), mount.path("name")).expect("rename");
        }
        drop(end);
        reader.join().expect("the reader finds whole files only");
    });
}

/// A step that a tier refuses leaves both names as they were, now and after the next start.
#[test]
fn regression_a_refused_rename_costs_nothing_later() {
    if only_plain("the stock program, through which tests reach such tiers, sets no inode flags") {
        return;
    }
    let setup = Setup::new().seed(|tiers| {
        put(tiers[1].join("source"), "from the slower tier");
        put(tiers[0].join("target"), "kept");
    });
    let Some(mount) = setup.mount() else { return };
    let flag = |sign: &str| {
        let done = std::process::Command::new("chattr").arg(sign).arg(mount.tier(0, "target")).status();
        done.is_ok_and(|status| status.success())
    };
    if !flag("+i") {
        return crate::common::need::skip("chattr +i does not work on this filesystem");
    }
    let refused = std::fs::rename(mount.path("source"), mount.path("target"));
    assert!(flag("-i"));
    assert_eq!(errno(refused), Errno::PERM);
    assert_eq!(get(mount.path("source")), "from the slower tier");
    put(mount.path("target"), "written after");
    let mount = mount.remount();
    assert_eq!(get(mount.path("source")), "from the slower tier");
    assert_eq!(get(mount.path("target")), "written after");
}
