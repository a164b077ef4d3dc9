//! Names of every kind, and paths of every length.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, names, put};
use crate::common::mount::Setup;
use crate::common::setting::only_plain;

/// Any bytes but NUL and slash.
#[test]
fn names_are_bytes() {
    let odd: Vec<&[u8]> = vec![
        b"\xff\xfe not UTF-8 \x80",
        b"new\nline",
        b"tab\t quote\" back\\slash",
        b" ",
        b"-rf",
        b"...",
        "Gr\u{fc}\u{df}e \u{1f4c1}".as_bytes(),
        b"\x01\x02\x7f",
    ];
    let setup = Setup::new().seed(|tiers| {
        for (place, name) in odd.iter().enumerate() {
            put(tiers[place % 2].join("seeded").join(OsStr::from_bytes(name)), name);
        }
    });
    let Some(mount) = setup.mount() else { return };
    let mut expected: Vec<OsString> = odd.iter().map(|name| OsString::from_vec(name.to_vec())).collect();
    expected.sort();
    assert_eq!(names(mount.path("seeded")), expected);
    for name in &odd {
        let name = OsStr::from_bytes(name);
        put(mount.path("made").join(name), name.as_bytes());
        assert_eq!(std::fs::read(mount.path("seeded").join(name)).expect("read"), name.as_bytes());
    }
    assert_eq!(names(mount.path("made")), expected);
    std::fs::remove_dir_all(mount.path("made")).expect("rm -r");
    std::fs::remove_dir_all(mount.path("seeded")).expect("rm -r");
    assert!(names(mount.root()).is_empty());
}

/// 255 bytes are a name, 256 are ENAMETOOLONG, for every operation that takes one.
#[test]
fn a_name_has_at_most_255_bytes() {
    let Some(mount) = Setup::new().mount() else { return };
    let longest = "n".repeat(255);
    put(mount.path(&longest), "x");
    put(mount.path("file"), "y");
    assert_eq!(names(mount.root()).len(), 2);
    std::fs::rename(mount.path(&longest), mount.path("m".repeat(255))).expect("rename");
    let over = mount.path("n".repeat(256));
    let file = mount.path("file");
    assert_eq!(errno(std::fs::write(&over, "x")), Errno::NAMETOOLONG);
    assert_eq!(errno(std::fs::read(&over)), Errno::NAMETOOLONG);
    assert_eq!(errno(std::fs::create_dir(&over)), Errno::NAMETOOLONG);
    assert_eq!(errno(std::fs::remove_file(&over)), Errno::NAMETOOLONG);
    assert_eq!(errno(std::fs::remove_dir(&over)), Errno::NAMETOOLONG);
    assert_eq!(errno(std::fs::rename(&file, &over)), Errno::NAMETOOLONG);
    assert_eq!(errno(std::fs::rename(&over, &file)), Errno::NAMETOOLONG);
    assert_eq!(errno(std::fs::hard_link(&file, &over)), Errno::NAMETOOLONG);
    assert_eq!(errno(std::os::unix::fs::symlink("x", &over)), Errno::NAMETOOLONG);
}

/// A tree deeper than PATH_MAX, made and walked step by step, also after a remount and when it
/// exists on the slower tier only.
#[test]
fn trees_deeper_than_path_max_work() {
    const DEPTH: usize = 60;
    let step = "a directory name of a hundred bytes ".repeat(3)[..100].to_owned();
    let descend = |root: &std::path::Path, make: bool| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut here = rustix::fs::open(root, flags, Mode::empty()).expect("open");
        for level in 0..DEPTH {
            if make {
                rustix::fs::mkdirat(&here, &step, Mode::from_raw_mode(0o755))
                    .unwrap_or_else(|error| panic!("mkdir at level {level}: {error}"));
            }
            here = rustix::fs::openat(&here, &step, flags, Mode::empty())
                .unwrap_or_else(|error| panic!("open at level {level}: {error}"));
        }
        here
    };
    let write = |at: &rustix::fd::OwnedFd, name: &str| {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o644));
        rustix::io::write(file.expect("create"), b"deep").expect("write");
    };
    let setup = Setup::new().seed(|tiers| write(&descend(&tiers[1], true), "slow"));
    let Some(mount) = setup.mount() else { return };
    let bottom = descend(&mount.root(), false);
    write(&bottom, "fast");
    rustix::fs::renameat(&bottom, "slow", &bottom, "renamed").expect("rename");
    drop(bottom);
    let mount = mount.remount();
    let bottom = descend(&mount.root(), false);
    for name in ["fast", "renamed"] {
        let shown = rustix::fs::statat(&bottom, name, AtFlags::empty()).expect("stat");
        assert_eq!(shown.st_size, 4, "{name}");
    }
    drop(bottom);
    std::fs::remove_dir_all(mount.path(&step)).expect("rm -r");
    assert!(names(mount.root()).is_empty());
    assert!(names(&mount.roots()[0]).is_empty() && names(&mount.roots()[1]).is_empty());
}

/// A symbolic link's target may be as long as the kernel allows.
#[test]
fn long_link_targets() {
    if only_plain("the format takes about 3,000 bytes, as tests/encrypted/metadata.rs says") {
        return;
    }
    let Some(mount) = Setup::new().mount() else { return };
    let target = "t".repeat(4095);
    std::os::unix::fs::symlink(&target, mount.path("link")).expect("symlink");
    let shown = std::fs::read_link(mount.path("link")).expect("readlink");
    assert_eq!(shown.as_os_str(), OsStr::new(&target));
}

/// Dots and slashes in paths mean what they mean elsewhere.
#[test]
fn dots_stay_within_the_mount() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("a/b/file"), "x"));
    let Some(mount) = setup.mount() else { return };
    assert_eq!(get(mount.path("a/./b/../b//file")), "x");
    assert!(!exists(mount.path("../t0/no")));
    assert_eq!(errno(std::fs::remove_dir(mount.path("a/."))), Errno::INVAL);
}
