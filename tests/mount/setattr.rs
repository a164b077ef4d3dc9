//! Modes, owners, times and sizes, on files and on merged directories.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::common::fs::{get, put, set_times, set_xattr, stat, user_xattrs};
use crate::common::mount::Setup;
use crate::common::need;

/// A change of a merged directory reaches every copy, so that none of them shows through later.
#[test]
fn a_change_of_a_merged_directory_reaches_every_copy() {
    if !need::root() {
        return;
    }
    let setup = Setup::new().tiers(3).seed(|tiers| {
        for tier in tiers {
            std::fs::create_dir(tier.join("dir")).expect("mkdir");
        }
    });
    let Some(mount) = setup.mount() else { return };
    let dir = mount.path("dir");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1751)).expect("chmod");
    chown(&dir, Some(5), Some(60)).expect("chown");
    set_xattr(&dir, "user.note", b"everywhere");
    set_times(&dir, 1_111_111, 2_222_222);
    for rank in 0..3 {
        let copy = stat(mount.tier(rank, "dir"));
        assert_eq!(copy.mode() & 0o7777, 0o1751, "tier {rank}");
        assert_eq!((copy.uid(), copy.gid()), (5, 60), "tier {rank}");
        assert_eq!((copy.mtime(), copy.mtime_nsec()), (2_222_222, 123_456_789), "tier {rank}");
        assert_eq!(user_xattrs(mount.tier(rank, "dir"))["user.note"], b"everywhere");
    }
    let shown = stat(&dir);
    assert_eq!((shown.mode() & 0o7777, shown.uid(), shown.mtime()), (0o1751, 5, 2_222_222));
}

/// A change of a file changes the visible copy where it lives.
#[test]
fn a_change_of_a_file_is_made_where_it_lives() {
    if !need::root() {
        return;
    }
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("file"), "0123456789"));
    let Some(mount) = setup.mount() else { return };
    let file = mount.path("file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4711)).expect("chmod");
    assert_eq!(stat(&file).mode() & 0o7777, 0o4711);
    chown(&file, Some(5), None).expect("chown");
    rustix::fs::chown(&file, None, Some(rustix::fs::Gid::from_raw(60))).expect("chgrp");
    assert_eq!((stat(&file).uid(), stat(&file).gid()), (5, 60));
    let handle = std::fs::File::options().write(true).open(&file).expect("open");
    handle.set_len(4).expect("truncate");
    assert_eq!(get(&file), "0123");
    handle.set_len(8).expect("extend");
    drop(handle);
    assert_eq!(get(&file), "0123\0\0\0\0");
    rustix::fs::open(&file, rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::TRUNC, 0.into())
        .expect("open to truncate");
    assert_eq!(stat(&file).len(), 0);
    assert!(!mount.tier(0, "file").exists(), "in place");
}

/// Times to the nanosecond, before 1970 and after 2038, each alone, and "now".
#[test]
fn times_are_exact() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("file"), "x"));
    let Some(mount) = setup.mount() else { return };
    let file = mount.path("file");
    let set = |atime: (i64, i64), mtime: (i64, i64)| {
        let spec = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
        let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
        rustix::fs::utimensat(rustix::fs::CWD, &file, &times, AtFlags::empty()).expect("utimens");
        let shown = stat(&file);
        ((shown.atime(), shown.atime_nsec()), (shown.mtime(), shown.mtime_nsec()))
    };
    for moment in [(0, 1), (1_700_000_000, 999_999_999), (-1, 5), (-100_000, 750_000_000)] {
        assert_eq!(set(moment, moment), (moment, moment));
        let below = stat(mount.tier(1, "file"));
        assert_eq!((below.mtime(), below.mtime_nsec()), moment);
    }
    let far = (5_000_000_000, 1);
    assert_eq!(set(far, far), (far, far));
    assert_eq!(set((7, 7), (0, UTIME_OMIT)), ((7, 7), far));
    assert_eq!(set((0, UTIME_OMIT), (8, 8)), ((7, 7), (8, 8)));
    let (atime, mtime) = set((0, UTIME_NOW), (0, UTIME_NOW));
    assert!(atime.0 > 1_700_000_000 && mtime.0 > 1_700_000_000);
}

/// A change shows at once in size and times, through the path and through open descriptors.
#[test]
fn writes_show_at_once_in_stat() {
    use std::io::Write;
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("slow"), "x"));
    let Some(mount) = setup.mount() else { return };
    put(mount.path("fast"), "x");
    for name in ["fast", "slow"] {
        let path = mount.path(name);
        set_times(&path, 1000, 1000);
        let mut file = std::fs::File::options().append(true).open(&path).expect("open");
        for round in 1..20u64 {
            file.write_all(&[b'y'; 100]).expect("write");
            assert_eq!(stat(&path).len(), 1 + 100 * round, "{name}");
            assert_eq!(file.metadata().expect("fstat").len(), 1 + 100 * round, "{name}");
            assert!(stat(&path).mtime() > 1000, "{name}");
        }
    }
}

/// A change of the mode shows in ctime.
#[test]
fn ctime_moves_with_every_change() {
    let Some(mount) = Setup::new().mount() else { return };
    put(mount.path("file"), "x");
    let ctime = || {
        let shown = stat(mount.path("file"));
        (shown.ctime(), shown.ctime_nsec())
    };
    let changes: [(&str, &dyn Fn()); 4] = [
        ("chmod", &|| {
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(mount.path("file"), mode).expect("chmod");
        }),
        ("setxattr", &|| set_xattr(mount.path("file"), "user.a", b"b")),
        ("link", &|| std::fs::hard_link(mount.path("file"), mount.path("two")).expect("link")),
        ("unlink", &|| std::fs::remove_file(mount.path("two")).expect("unlink")),
    ];
    for (name, change) in changes {
        let before = ctime();
        // The clock of the filesystem is coarse: repeat until it has ticked.
        crate::common::wait::until(name, || {
            change_twice(name, change, &mount.path("two"));
            (ctime() > before).then_some(())
        });
    }
}

/// Makes the change possible again, then makes it.
fn change_twice(name: &str, change: &dyn Fn(), second: &std::path::Path) {
    match name {
        "link" if second.exists() => std::fs::remove_file(second).expect("unlink"),
        "unlink" if !second.exists() => {
            std::fs::hard_link(second.with_file_name("file"), second).expect("link");
        }
        _ => {}
    }
    change();
}
