//! Tiers that are full: an error for what did not fit, and nothing torn.

use std::io::Write;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use crate::cipher::{union, volume};
use crate::common::fs::{errno, exists, get, names, put, set_xattr};
use crate::common::loopfs::LoopFs;
use crate::common::mount::TestMount;
use crate::common::trees::{bytes, long};
use crate::common::volume::Flavour;
use crate::common::wait;

/// One small tier on a filesystem of its own.
fn small(kind: &'static str, size_mib: u64, options: &'static str) -> Option<(LoopFs, TestMount)> {
    let below = LoopFs::with(kind, size_mib, options)?;
    let setup = union(Flavour::DEFAULT).roots(&[below.path().join("tier"), below.path().join("slow")]);
    Some((below, setup.option("nospill").mount()?))
}

/// Fills the tier with one file, in pieces of `piece` bytes; what was acknowledged.
fn fill(mount: &TestMount, name: &str, piece: usize) -> usize {
    let mut file = std::fs::File::create(mount.path(name)).expect("create");
    let (all, mut done) = (bytes(5, 32 << 20), 0);
    loop {
        match file.write(&all[done..done + piece]) {
            Ok(count) => done += count,
            Err(error) => {
                assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC), "{error}");
                return done;
            }
        }
    }
}

#[test]
fn a_full_disk_tears_nothing() {
    for (kind, size, piece) in [("tmpfs", 8, 5000), ("ext4", 16, 100_000), ("tmpfs", 8, 1 << 20)] {
        let Some((_below, mount)) = small(kind, size, "noatime") else { return };
        put(mount.path("before"), bytes(1, 50_000));
        set_xattr(mount.path("before"), "user.mark", b"kept");
        let all = bytes(5, 32 << 20);
        let done = fill(&mount, "filler", piece);
        assert!(done > 1 << 20, "{kind}: only {done} bytes fit");
        let found = std::fs::read(mount.path("filler")).expect("read");
        assert!(found.len() >= done && found == all[..found.len()], "{kind}: {} of {done} bytes", found.len());
        // In place: what fits is written, what does not is as it was.
        let before = std::fs::File::options().read(true).write(true).open(mount.path("before")).expect("open");
        let mut wanted = bytes(1, 50_000);
        match before.write_all_at(&[7; 9000], 4000) {
            Ok(()) => wanted[4000..13_000].fill(7),
            Err(error) => assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC), "{kind}"),
        }
        drop(before);
        let now = std::fs::read(mount.path("before")).expect("every block is whole");
        assert_eq!(now.len(), wanted.len(), "{kind}");
        let torn = now.iter().zip(&wanted).position(|(now, wanted)| now != wanted && *now != 7);
        assert_eq!(torn, None, "{kind}");
        refused_names(&mount, kind);
        let mount = mount.remount();
        let found = std::fs::read(mount.path("filler")).expect("read");
        assert!(found.len() >= done && found == all[..found.len()], "{kind}: after a remount");
        std::fs::remove_file(mount.path("filler")).expect("unlink");
        // What was open a moment ago gives its room back when the kernel has forgotten it.
        wait::until("the room is free", || std::fs::write(mount.path("after"), bytes(8, 500_000)).ok());
        assert!(std::fs::read(mount.path("after")).expect("read") == bytes(8, 500_000), "{kind}");
        let setup = mount.unmount();
        volume(&setup, 0).is_clean(kind);
    }
}

/// Directories and long names are made whole or not at all.
fn refused_names(mount: &TestMount, kind: &str) {
    for at in 0..40 {
        let dir = mount.path(format!("dir{at}"));
        match std::fs::create_dir(&dir) {
            Ok(()) => assert_eq!(names(&dir), [""; 0], "{kind}"),
            Err(error) => {
                assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC), "{kind}: {error}");
                assert!(!exists(&dir), "{kind}: {dir:?}");
            }
        }
        let name = mount.path(format!("{}{at}", long('l', 200)));
        match std::fs::File::create(&name) {
            Ok(_) => assert_eq!(get(&name), "", "{kind}"),
            Err(error) => {
                assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC), "{kind}: {error}");
                assert!(!exists(&name), "{kind}: {name:?}");
            }
        }
    }
}

/// No inodes: the side files of directories and long names need some, too.
#[test]
fn a_tier_without_inodes_makes_whole_things_or_none() {
    let Some((_below, mount)) = small("tmpfs", 64, "nr_inodes=120") else { return };
    let (mut dirs, mut long_names) = (0, 0);
    for at in 0..100 {
        let dir = mount.path(format!("d{at}"));
        if std::fs::create_dir(&dir).is_ok() {
            dirs += 1;
        } else {
            assert!(!exists(&dir));
        }
        let name = mount.path(format!("{}{at}", long('l', 200)));
        if std::fs::write(&name, "long").is_ok() {
            long_names += 1;
        } else {
            assert!(!exists(&name));
        }
    }
    assert!((5..100).contains(&dirs) && (5..100).contains(&long_names), "{dirs} {long_names}");
    assert_eq!(errno(std::fs::create_dir(mount.path("no"))), Errno::NOSPC);
    assert_eq!(names(mount.root()).len(), dirs + long_names);
    let setup = mount.unmount();
    volume(&setup, 0).is_clean("without inodes");
}
