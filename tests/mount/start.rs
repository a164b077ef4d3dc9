//! When a mount must refuse to start, in which words; tiers that are missing; dead mounts.

use std::path::Path;
use std::process::Command;

use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, names, put};
use crate::common::loopfs::{LoopFs, run};
use crate::common::mount::{Refused, Setup, is_mounted, program, unmount_for_sure};
use crate::common::{need, wait};

/// Bad configuration.
const CODE_CONFIG: i32 = 78;

/// Mounting must fail; the words are one line that holds each of `parts`.
#[track_caller]
fn refused(setup: Setup, parts: &[&str]) -> Box<Refused> {
    match setup.try_mount() {
        Ok(_) => panic!("the mount must be refused"),
        Err(refused) => {
            let words = refused.message.trim();
            assert_eq!(words.lines().count(), 1, "one line: {words}");
            for part in parts {
                assert!(words.contains(part), "no {part:?} in: {words}");
            }
            assert!(!words.contains("panicked"), "{words}");
            assert!(refused.code.is_some_and(|code| code > 0 && code < 100), "{refused:?}");
            assert!(!is_mounted(&refused.setup.mountpoint()));
            refused
        }
    }
}

/// A mount point in a tier, a tier in a tier, one directory twice: directly, by a symbolic link,
/// by a bind mount.
#[test]
fn overlaps_are_refused() {
    if !need::root() {
        return;
    }
    let setup = Setup::new();
    let home = setup.home().to_path_buf();
    let tier = |name: &str| {
        let path = home.join(name);
        std::fs::create_dir_all(&path).expect("mkdir");
        path
    };
    let (one, inner) = (tier("one"), tier("one/inner"));
    let other = tier("other");
    std::os::unix::fs::symlink(&inner, home.join("link")).expect("symlink");
    let bind = tier("bind");
    run(Command::new("mount").arg("--bind").arg(&inner).arg(&bind));
    let outcome = std::panic::catch_unwind(|| {
        for roots in [
            [one.clone(), inner.clone()],
            [inner.clone(), one.clone()],
            [one.clone(), one.clone()],
            [one.clone(), home.join("link")],
            [one.clone(), bind.clone()],
            [inner.clone(), bind.clone()],
            [home.clone(), other.clone()],
        ] {
            refused(Setup::new().roots(&roots), &[roots[1].to_str().expect("UTF-8")]);
        }
    });
    unmount_for_sure(&bind);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    let around = Setup::new();
    let roots = [around.home().to_path_buf(), other.clone()];
    refused(around.roots(&roots), &["mnt"]);
    assert!(!exists(one.join(".tierfs")), "a refused mount writes nothing");
}

/// Roots that are no usable directories.
#[test]
fn unusable_roots_are_refused() {
    if !need::root() {
        return;
    }
    let base = Setup::new();
    let file = base.home().join("a file");
    put(&file, "x");
    let gone = base.home().join("gone");
    for bad in [&file, &gone] {
        let mut command = Command::new(program());
        let spec = format!("{}:{}", base.tier(0).display(), bad.display());
        let output = wait::output(command.arg("mount").arg(spec).arg(base.mountpoint()).arg("-f"));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(words.contains(bad.to_str().expect("UTF-8")), "{words}");
        assert_eq!(words.trim().lines().count(), 1, "{words}");
    }
    std::fs::remove_dir(base.mountpoint()).expect("rmdir");
    refused(base, &["mnt"]);
}

/// Options that do not exist, or not so, are refused with their name before anything is touched.
#[test]
fn wrong_options_are_refused() {
    for (option, part) in [
        ("out_of_bound=watch", "out_of_bound"),
        ("out_of_band=perhaps", "perhaps"),
        ("min_free=many", "min_free"),
        ("statfs=tertiary", "tertiary"),
        ("threads=0", "threads"),
        ("ttl=soon", "ttl"),
    ] {
        let answer = refused(Setup::new().option(option), &[part]);
        assert!(matches!(answer.code, Some(2 | CODE_CONFIG)), "{option}: {answer:?}");
        assert!(!exists(answer.setup.tier(0).join(".tierfs")), "{option}");
    }
}

/// More tiers than eight.
#[test]
fn nine_tiers_are_refused() {
    refused(Setup::new().tiers(9), &["8"]);
}

/// A tier whose marker is gone is a disk that is not mounted: the mount refuses to start.
#[test]
fn a_missing_tier_is_not_an_empty_tier() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("file"), "x"));
    let Some(mount) = setup.mount() else { return };
    let setup = mount.unmount();
    let (tier, away) = (setup.tier(1).to_path_buf(), setup.home().join("away"));
    std::fs::rename(&tier, &away).expect("the disk goes");
    std::fs::create_dir(&tier).expect("its empty mount point stays");
    let setup = refused(setup, &[tier.to_str().expect("UTF-8")]).setup;
    assert!(!exists(tier.join(".tierfs")), "nothing is written to what is not the tier");
    std::fs::remove_dir(&tier).expect("rmdir");
    std::fs::rename(&away, &tier).expect("the disk comes back");
    let Some(mount) = setup.mount() else { return };
    assert_eq!(get(mount.path("file")), "x");
}

/// Tiers in the wrong order are not what the markers say.
#[test]
fn exchanged_tiers_are_refused() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("file"), "x"));
    let Some(mount) = setup.mount() else { return };
    let setup = mount.unmount();
    let roots = [setup.tier(1).to_path_buf(), setup.tier(0).to_path_buf()];
    refused(setup.roots(&roots), &["order"]);
}

/// `on_missing=degraded` serves what is there; what it cannot know is EIO, never ENOENT, and
/// nothing is changed that would be wrong once the tier is back.
#[test]
fn a_degraded_mount_never_says_enoent() {
    let setup = Setup::new().option("on_missing=degraded").seed(|tiers| {
        put(tiers[0].join("dir/fast"), "fast");
        put(tiers[1].join("dir/slow"), "slow");
        put(tiers[1].join("slow"), "slow");
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(get(mount.path("dir/slow")), "slow");
    let setup = mount.unmount();
    let (tier, away) = (setup.tier(1).to_path_buf(), setup.home().join("away"));
    std::fs::rename(&tier, &away).expect("the disk goes");
    std::fs::create_dir(&tier).expect("its empty mount point stays");
    let Some(mount) = setup.mount() else { return };
    assert_eq!(get(mount.path("dir/fast")), "fast");
    assert_eq!(errno(std::fs::read(mount.path("dir/slow"))), Errno::IO);
    assert_eq!(errno(std::fs::metadata(mount.path("slow"))), Errno::IO);
    assert_eq!(errno(std::fs::metadata(mount.path("never was"))), Errno::IO);
    assert!(std::fs::File::create_new(mount.path("slow")).is_err(), "it may exist there");
    assert!(std::fs::remove_file(mount.path("dir/fast")).is_err(), "a shadowed copy may be there");
    assert!(std::fs::rename(mount.path("dir/fast"), mount.path("dir/slow")).is_err());
    assert!(std::fs::remove_dir_all(mount.path("dir")).is_err());
    assert_eq!(get(mount.path("dir/fast")), "fast");
    let setup = mount.unmount();
    assert!(names(&tier).is_empty(), "nothing is written to what is not the tier");
    std::fs::remove_dir_all(&tier).expect("rm");
    std::fs::rename(&away, &tier).expect("the disk comes back");
    let Some(mount) = setup.mount() else { return };
    assert_eq!(names(mount.path("dir")), ["fast", "slow"]);
}

/// After `kill -9` the mount point is dead; a new mount there works or says what to do.
#[test]
fn a_dead_mount_is_recognised() {
    let Some(mut mount) = Setup::new().mount() else { return };
    put(mount.path("file"), "written before the end");
    mount.kill();
    assert_eq!(errno(std::fs::read(mount.path("file"))), Errno::NOTCONN);
    let mut again = Command::new(program());
    let spec = crate::common::mount::spec(mount.roots());
    let output = again.arg("mount").arg(spec).arg(mount.root()).output().expect("tierfs runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        assert_eq!(get(mount.path("file")), "written before the end");
        let ended = Command::new(program()).arg("umount").arg(mount.root()).status();
        assert!(ended.expect("tierfs runs").success());
    } else {
        assert!(words.contains("umount"), "{words}");
    }
    unmount_for_sure(&mount.root());
    unmount_for_sure(&mount.root());
    assert_eq!(get(mount.tier(0, "file")), "written before the end");
}

/// In the background the command returns when the mount serves; `tierfs umount` ends it.
#[test]
fn the_background_mount_serves_when_the_command_returns() {
    if !need::fuse() {
        return;
    }
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("file"), "x"));
    let roots = [setup.tier(0).to_path_buf(), setup.tier(1).to_path_buf()];
    let point = setup.mountpoint();
    mount_in_background(&roots, &point);
    let seen = std::fs::read_to_string(point.join("file"));
    let daemon = daemon_of(&point);
    let ended = umount(&point);
    unmount_for_sure(&point);
    assert_eq!(seen.expect("read at once"), "x");
    assert!(ended.success());
    assert_eq!(daemon.len(), 1, "one process serves: {daemon:?}");
    wait::until("the daemon ends", || daemon_of(&point).is_empty().then_some(()));
}

/// `tierfs umount`, again while it is in use: a child of another test may have a copy of what was open here, or look at
/// all mounts of the machine.
fn umount(point: &Path) -> std::process::ExitStatus {
    wait::until("nobody uses the mount", || {
        let ended = Command::new(program()).arg("umount").arg(point).status().expect("tierfs runs");
        (ended.code() != Some(75)).then_some(ended)
    })
}

fn mount_in_background(roots: &[std::path::PathBuf], point: &Path) {
    let mut command = Command::new(program());
    command.arg("mount").arg(crate::common::mount::spec(roots)).arg(point);
    let null = std::process::Stdio::null;
    let status = command.stdin(null()).stdout(null()).stderr(null()).status().expect("tierfs runs");
    assert!(status.success());
}

/// `tierfs umount` returned while the daemon still held the tiers, so that unmounting a tier's disk right
/// after it said busy.
#[test]
fn a_disk_can_be_unmounted_as_soon_as_umount_returns() {
    if !need::fuse() {
        return;
    }
    let setup = Setup::new();
    for _ in 0..3 {
        let Some(disk) = LoopFs::new("ext4", 16) else { return };
        let roots = [setup.tier(0).to_path_buf(), disk.path().join("tier")];
        std::fs::create_dir(&roots[1]).expect("tier");
        let _absent = std::fs::remove_dir_all(roots[0].join(".tierfs"));
        let point = setup.mountpoint();
        mount_in_background(&roots, &point);
        put(point.join("file"), "x");
        let ended = umount(&point);
        let disk_ended = rustix::mount::unmount(disk.path(), rustix::mount::UnmountFlags::empty());
        unmount_for_sure(&point);
        assert!(ended.success());
        assert_eq!(disk_ended, Ok(()), "the disk is busy");
    }
}

/// The processes that were started for this mount point.
fn daemon_of(point: &Path) -> Vec<u32> {
    let wanted = point.to_str().expect("UTF-8");
    let processes = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let serving = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes())
    };
    numbers.filter(serving).collect()
}

/// A read-only mount changes nothing, and says EROFS.
#[test]
fn a_read_only_mount_changes_nothing() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("file"), "x"));
    let Some(first) = setup.mount() else { return };
    let Some(mount) = first.unmount().option("ro").mount() else { return };
    assert_eq!(get(mount.path("file")), "x");
    assert_eq!(errno(std::fs::write(mount.path("file"), "y")), Errno::ROFS);
    assert_eq!(errno(std::fs::create_dir(mount.path("dir"))), Errno::ROFS);
    assert_eq!(errno(std::fs::remove_file(mount.path("file"))), Errno::ROFS);
    assert_eq!(get(mount.tier(1, "file")), "x");
}

/// A tier that fails while mounted gives its error, and the other tier goes on.
#[test]
fn a_tier_that_vanishes_while_mounted_is_an_error_not_an_absence() {
    let Some(below) = LoopFs::new("ext4", 64) else { return };
    let setup = Setup::new();
    let roots = [setup.home().join("fast"), below.path().join("slow")];
    let setup = setup.roots(&roots).option("out_of_band=ttl").option("ttl=0s").seed(|tiers| {
        put(tiers[0].join("fast"), "fast");
        put(tiers[1].join("slow"), "slow");
        put(tiers[1].join("other"), "slow");
    });
    let Some(mount) = setup.mount() else { return };
    assert_eq!(get(mount.path("slow")), "slow");
    // What a broken disk does: the filesystem shuts itself down and every access is EIO.
    let Some([xfs_io]) = need::programs(["xfs_io"]) else { return };
    let shut = Command::new(xfs_io).args(["-x", "-c", "shutdown"]).arg(below.path()).output();
    if !shut.is_ok_and(|output| output.status.success()) {
        return need::skip("xfs_io cannot shut ext4 down here");
    }
    assert_eq!(get(mount.path("fast")), "fast");
    assert_eq!(errno(std::fs::read(mount.path("other"))), Errno::IO);
    assert!(std::fs::write(mount.path("slow"), "lost").is_err());
    assert!(std::fs::remove_file(mount.path("slow")).is_err());
    // Names may be changed until the loss is noticed, which is soon: contents always may.
    put(mount.path("fast"), "the faster tier goes on");
    assert_eq!(get(mount.tier(0, "fast")), "the faster tier goes on");
}
