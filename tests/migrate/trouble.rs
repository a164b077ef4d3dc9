//! Targets that are full, read-only, poor in what they can hold, or gone: the run says so, nothing is
//! lost, the mount goes on, and the next run works.

use std::path::Path;
use std::process::Command;

use crate::common::fs::{exists, get, put, set_xattr};
use crate::common::loopfs::{LoopFs, run};
use crate::common::mount::{Setup, TestMount};
use crate::common::setting::only_plain;
use crate::common::{need, wait};
use crate::kit::{files, migrate, moved_by, nothing_left_behind, on, pattern, recall};

/// Files of 200 KiB each on the primary.
fn fill(setup: &Setup, count: u64) {
    for at in 0..count {
        put(setup.tier(0).join(format!("d{}/f{at}", at % 3)), pattern(at, 0, 200 << 10));
    }
}

/// Every file is whole, wherever it is, and can be written.
#[track_caller]
fn all_whole(mount: &TestMount, count: u64) {
    for at in 0..count {
        let path = mount.path(format!("d{}/f{at}", at % 3));
        let found = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert!(found == pattern(at, 0, 200 << 10), "{path:?} has other contents");
    }
    put(mount.path("alive"), "yes");
    assert_eq!(get(mount.path("alive")), "yes");
    std::fs::remove_file(mount.path("alive")).expect("unlink");
}

fn two(fast: &'static str, slow: LoopFs, fast_mib: u64) -> Option<(LoopFs, LoopFs, Setup)> {
    let first = LoopFs::new(fast, fast_mib)?;
    let mut setup = Setup::new().roots(&[first.path().join("tier"), slow.path().join("tier")]);
    setup.ready();
    Some((first, slow, setup))
}

/// A target too small for all: the run stops with code 1 and says which tier is full; what has moved is
/// whole, the rest stays, and with room again the next run moves it.
#[test]
fn a_full_target() {
    for kind in ["tmpfs", "ext4"] {
        let Some(slow) = LoopFs::new(kind, 8) else { return };
        let Some((_fast, slow, setup)) = two("ext4", slow, 256) else { return };
        fill(&setup, 60);
        let Some(mount) = setup.mount() else { return };
        let ran = migrate(&mount, &[]).ends(1);
        assert!(ran.err.contains("the secondary is full"), "{ran:?}");
        all_whole(&mount, 60);
        let left = files(&mount.roots()[0]).len();
        assert!(left > 0, "{left} left");
        let mount = mount.remount();
        all_whole(&mount, 60);
        let staging = mount.tier(1, ".tierfs/staging");
        assert!(!staging.exists() || crate::common::fs::names(staging).is_empty(), "a copy stays in staging");
        if kind == "tmpfs" {
            run(Command::new("mount").args(["-o", "remount,size=64m"]).arg(slow.path()));
            assert_eq!(moved_by(|| migrate(&mount, &[])), left as u64);
            all_whole(&mount, 60);
        }
    }
}

/// One file too large for the room that is left kept all others from moving, every night.
#[test]
fn a_file_too_large_for_the_room_keeps_no_other_from_moving() {
    let Some((_tiers, setup)) = on(["tmpfs", "tmpfs"], 64) else { return };
    put(setup.tier(0).join("a_large"), pattern(1, 0, 40 << 20));
    fill(&setup, 12);
    let Some(mount) = setup.option("min_free=32M").mount() else { return };
    let ran = migrate(&mount, &["--order", "largest"]).ends(1);
    assert!(ran.err.contains("the secondary is full"), "{ran:?}");
    assert_eq!(ran.count("moved"), 12, "{ran:?}");
    assert_eq!(files(&mount.roots()[0]), [Path::new("a_large")]);
    all_whole(&mount, 12);
}

/// A target that has room and no inodes.
#[test]
fn a_target_without_inodes() {
    let Some(slow) = LoopFs::new("tmpfs", 64) else { return };
    run(Command::new("mount").args(["-o", "remount,nr_inodes=40"]).arg(slow.path()));
    let Some((_fast, slow, setup)) = two("ext4", slow, 256) else { return };
    fill(&setup, 60);
    let Some(mount) = setup.mount() else { return };
    let ran = migrate(&mount, &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    all_whole(&mount, 60);
    let left = files(&mount.roots()[0]).len() as u64;
    assert!(left > 0);
    run(Command::new("mount").args(["-o", "remount,nr_inodes=1000"]).arg(slow.path()));
    assert_eq!(moved_by(|| migrate(&mount, &[])), left);
    all_whole(&mount, 60);
}

/// A quota of the target that is used up, as btrfs keeps it for a subvolume.
#[test]
fn a_target_with_a_quota() {
    if only_plain("the quota is that of the directory which the stock program covers") {
        return;
    }
    let Some(slow) = LoopFs::new("btrfs", 512) else { return };
    let Some([btrfs]) = need::programs(["btrfs"]) else { return };
    let volume = slow.path().join("tier");
    run(Command::new(&btrfs).args(["subvolume", "create"]).arg(&volume));
    run(Command::new(&btrfs).args(["quota", "enable"]).arg(slow.path()));
    // What is there is counted by a thread of the kernel; until then nothing is.
    run(Command::new(&btrfs).args(["quota", "rescan", "-w"]).arg(slow.path()));
    run(Command::new(&btrfs).args(["qgroup", "limit", "6m"]).arg(&volume));
    let Some((_fast, _slow, setup)) = two("ext4", slow, 256) else { return };
    fill(&setup, 60);
    let Some(mount) = setup.mount() else { return };
    let ran = migrate(&mount, &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    all_whole(&mount, 60);
    run(Command::new(&btrfs).args(["qgroup", "limit", "none"]).arg(&volume));
    moved_by(|| migrate(&mount, &[]));
    assert_eq!(files(&mount.roots()[0]).len(), 0);
    all_whole(&mount, 60);
}

/// A target that has become read-only.
#[test]
fn a_read_only_target() {
    let Some((tiers, setup)) = on(["ext4", "xfs"], 512) else { return };
    fill(&setup, 12);
    let Some(mount) = setup.mount() else { return };
    // The mount holds clones of its own: the filesystem itself must be turned.
    let turn = || Command::new("mount").args(["-o", "remount,ro"]).arg(tiers[1].path()).output().expect("mount");
    // For a moment the mount may have something open there to write.
    let turned = wait::within(wait::PATIENCE, || turn().status.success().then_some(()));
    if turned.is_none() {
        return need::skip("cannot turn a filesystem in use read-only");
    }
    let ran = migrate(&mount, &[]).ends(1);
    assert!(ran.err.contains("the secondary fails: look at its disk, and whether it is mounted read-only"), "{ran:?}");
    assert_eq!((ran.count("moved"), files(&mount.roots()[0]).len()), (0, 12), "{ran:?}");
    all_whole(&mount, 12);
    run(Command::new("mount").args(["-o", "remount,rw"]).arg(tiers[1].path()));
    assert_eq!(moved_by(|| migrate(&mount, &[])), 12);
    all_whole(&mount, 12);
}

/// A target whose disk fails in the middle: everything on it is EIO from there on.
#[test]
fn a_failing_target() {
    let Some([xfs_io]) = need::programs(["xfs_io"]) else { return };
    let Some((tiers, setup)) = on(["ext4", "xfs"], 512) else { return };
    fill(&setup, 12);
    let Some(mount) = setup.mount() else { return };
    run(Command::new(xfs_io).args(["-x", "-c", "shutdown"]).arg(tiers[1].path()));
    let ran = migrate(&mount, &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for at in 0..12 {
        assert_eq!(
            std::fs::read(mount.tier(0, format!("d{}/f{at}", at % 3))).expect("read"),
            pattern(at, 0, 200 << 10)
        );
    }
}

/// A target whose disk takes writes and loses them: what cannot be made durable does not count.
#[test]
fn a_target_that_cannot_be_made_durable() {
    let Some(small) = LoopFs::new("tmpfs", 24) else { return };
    let Some([mkfs, losetup]) = need::programs(["mkfs.ext4", "losetup"]) else { return };
    let image = small.path().join("image");
    std::fs::File::create(&image).and_then(|file| file.set_len(256 << 20)).expect("image");
    run(Command::new(mkfs).args(["-q", "-F", "-O", "^has_journal", "-E", "nodiscard"]).arg(&image));
    let device = run(Command::new(losetup).args(["-f", "--show"]).arg(&image)).trim().to_owned();
    let point = small.path().join("point");
    std::fs::create_dir(&point).expect("mkdir");
    run(Command::new("mount").args([device.as_str()]).arg(&point));
    let Some(fast) = LoopFs::new("ext4", 256) else { return };
    let mut setup = Setup::new().roots(&[fast.path().join("tier"), point.join("tier")]);
    setup.ready();
    for at in 0..20 {
        put(setup.tier(0).join(format!("f{at}")), pattern(at, 0, 4 << 20));
    }
    if let Some(mount) = setup.mount() {
        let ran = migrate(&mount, &[]);
        assert_eq!((ran.code, ran.count("moved")), (Some(1), 0), "{ran:?}");
        for at in 0..20 {
            assert!(std::fs::read(mount.tier(0, format!("f{at}"))).expect("read") == pattern(at, 0, 4 << 20), "{at}");
            assert!(std::fs::read(mount.path(format!("f{at}"))).expect("read") == pattern(at, 0, 4 << 20), "{at}");
        }
    }
    run(Command::new("umount").arg("-l").arg(&point));
    run(Command::new("losetup").args(["-d", device.as_str()]));
}

/// An attribute too large for the target's filesystem.
#[test]
fn a_target_with_small_attributes() {
    let Some((_tiers, setup)) = on(["xfs", "ext4"], 512) else { return };
    fill(&setup, 3);
    set_xattr(setup.tier(0).join("d1/f1"), "user.large", &pattern(1, 0, 50_000));
    let Some(mount) = setup.mount() else { return };
    let ran = migrate(&mount, &[]).ends(0);
    assert_eq!(ran.skipped().get("with attributes the other tier cannot hold"), Some(&1), "{ran:?}");
    assert_eq!(crate::common::fs::xattr(mount.path("d1/f1"), "user.large"), Ok(pattern(1, 0, 50_000)));
    all_whole(&mount, 3);
}

/// Times that the target's filesystem cannot hold: an ext4 of inodes of 128 bytes has whole seconds.
#[test]
fn a_target_with_coarse_times() {
    let Some([mkfs]) = need::programs(["mkfs.ext4"]) else { return };
    let Some((tiers, setup)) = on(["ext4", "tmpfs"], 256) else { return };
    let image = tiers[1].path().join("image");
    std::fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("image");
    run(Command::new(mkfs).args(["-q", "-F", "-I", "128"]).arg(&image));
    let point = tiers[1].path().join("point");
    std::fs::create_dir(&point).expect("mkdir");
    run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point));
    let setup = setup.roots(&[tiers[0].path().join("tier"), point.join("tier")]);
    fill(&setup, 3);
    if let Some(mount) = setup.mount() {
        let ran = migrate(&mount, &[]).ends(0);
        assert_eq!(ran.skipped().get("with times the other tier cannot hold"), Some(&3), "{ran:?}");
        all_whole(&mount, 3);
    }
    run(Command::new("umount").arg(&point));
}

/// A tier that is unmounted under the mount: nothing is lost, and once it is back everything goes on.
#[test]
fn a_tier_that_vanishes() {
    let Some((tiers, setup)) = on(["ext4", "xfs"], 512) else { return };
    fill(&setup, 12);
    let Some(mount) = setup.mount() else { return };
    rustix::mount::unmount(tiers[1].path(), rustix::mount::UnmountFlags::DETACH).expect("umount -l");
    // The mount still reaches the filesystem by its own clone, so the run may work; it must not lie.
    let ran = migrate(&mount, &[]);
    all_whole(&mount, 12);
    assert!(!exists(tiers[1].path().join("tier/d0")), "written below the mount point: {ran:?}");
    moved_by(|| recall(&mount, ""));
    all_whole(&mount, 12);
    assert_eq!(files(&mount.roots()[0]).len(), 12);
}

/// Below its `min_free` a target takes nothing.
#[test]
fn a_target_below_its_reserve() {
    let Some((_tiers, setup)) = on(["ext4", "tmpfs"], 64) else { return };
    fill(&setup, 12);
    let Some(mount) = setup.option("min_free=64M").mount() else { return };
    let ran = migrate(&mount, &[]).ends(1);
    assert!(ran.err.contains("the secondary is full"), "{ran:?}");
    assert_eq!(files(&mount.roots()[1]), [] as [&Path; 0]);
    all_whole(&mount, 12);
    let roots = mount.roots().to_vec();
    let _kept = mount.unmount();
    nothing_left_behind(&roots);
}

/// Fills a filesystem to the last byte, by a file that is returned.
fn brim(dir: &Path) -> std::path::PathBuf {
    use std::io::Write;
    let path = dir.join("filler");
    let mut file = std::fs::File::create(&path).expect("create");
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    path
}

/// The first run on a primary that was filled to the last byte after the mount had begun: what the mount
/// keeps for records lets the run go on.
#[test]
fn regression_a_primary_is_emptied_by_the_first_run_though_it_is_full() {
    for kind in ["tmpfs", "ext4", "xfs"] {
        let size_mib = if kind == "xfs" { 320 } else { 64 };
        let Some((_tiers, setup)) = on([kind, "ext4"], size_mib) else { return };
        fill(&setup, 30);
        let Some(mount) = setup.mount() else { return };
        brim(&mount.roots()[0]);
        let ran = migrate(&mount, &["--exclude", "filler"]).ends(0);
        assert_eq!(ran.count("moved"), 30, "{kind}: {ran:?}");
        assert_ne!(ran.summary()["run"], "", "{kind}: it can be undone");
        all_whole(&mount, 30);
        nothing_left_behind(mount.roots());
    }
}

/// A primary too small for anything to be kept on it: one line says what to do, and no file is reported.
#[test]
fn regression_a_full_primary_without_a_reserve_says_what_to_free() {
    let Some(slow) = LoopFs::new("ext4", 64) else { return };
    let Some((_fast, _slow, setup)) = two("tmpfs", slow, 12) else { return };
    fill(&setup, 30);
    let Some(mount) = setup.mount() else { return };
    let filler = brim(&mount.roots()[0]);
    let ran = migrate(&mount, &["--exclude", "filler"]).ends(1);
    assert!(ran.err.contains("free 2 MiB on it"), "{ran:?}");
    assert_eq!((ran.err.lines().count(), ran.out.matches("failed").count()), (1, 0), "{ran:?}");
    assert!(!exists(mount.tier(0, ".tierfs/runs")), "no empty manifest");
    let file = std::fs::File::options().write(true).open(&filler).expect("open");
    file.set_len(file.metadata().expect("stat").len() - (2 << 20)).expect("truncate");
    drop(file);
    let ran = migrate(&mount, &["--exclude", "filler"]).ends(0);
    assert_eq!(ran.count("moved"), 30, "{ran:?}");
    all_whole(&mount, 30);
}
