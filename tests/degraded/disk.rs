//! Disks that fail, vanish and come back.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use rustix::io::Errno;

use crate::common::fs::{errno, get, names, put};
use crate::common::loopfs::LoopFs;
use crate::common::mount::{Setup, TestMount};
use crate::common::need;
use crate::common::user::User;
use crate::gone::{check_away, everything, until_back, until_gone, until_same};

/// A directory that a program stands in.
const HELD: rustix::fs::OFlags = rustix::fs::OFlags::PATH.union(rustix::fs::OFlags::CLOEXEC);

/// A union whose secondary is a filesystem of its own.
fn union_on(disk: &LoopFs, user: Option<&User>) -> Option<TestMount> {
    let setup = Setup::new().plain();
    let roots = [setup.tier(0).to_owned(), disk.path().join("tier")];
    let setup = setup.roots(&roots).seed(|tiers| {
        put(tiers[0].join("dir/fast"), "fast");
        put(tiers[1].join("dir/slow"), "slow");
        put(tiers[1].join("dir/deep/er/slow"), "deeper");
        put(tiers[1].join("slow"), "slow at the top");
        put(tiers[0].join("only fast/file"), "x");
    });
    let Some(user) = user else {
        disk.sync();
        return setup.mount();
    };
    for tier in [setup.tier(0), setup.tier(1)] {
        let all = Command::new("chown").args(["-R", &user.name]).arg(tier).status();
        assert!(all.expect("chown").success());
    }
    disk.sync();
    setup.by(user).mount()
}

/// Does something as whoever mounted.
fn as_user<T: Send>(user: Option<&User>, act: impl FnOnce() -> T + Send) -> T {
    match user {
        Some(user) => user.run(act),
        None => act(),
    }
}

fn fails_and_comes_back(disk: &LoopFs, mount: TestMount, user: Option<&User>) {
    let (before, unsynced) = as_user(user, || {
        let mut slow = std::fs::File::options().append(true).open(mount.path("dir/slow")).expect("open");
        slow.write_all(b", and synced").expect("write");
        slow.sync_all().expect("fsync");
        let unsynced = std::fs::File::options().append(true).open(mount.path("slow")).expect("open");
        (everything(&mount.root()), unsynced)
    });
    assert!(disk.cut_power());
    as_user(user, || {
        until_gone(&mount, "dir/deep/er/slow");
        check_away(&mount, "dir", "fast", "slow");
        assert_eq!(errno(std::fs::read(mount.path("dir/deep/er/slow"))), Errno::IO);
        assert_eq!(get(mount.path("only fast/file")), "x");
        assert!((&unsynced).write_all(b"lost").and_then(|()| unsynced.sync_all()).is_err());
        drop(unsynced);
    });
    // Nothing of tierfs keeps the dead filesystem: it can be unmounted and mounted anew.
    disk.restart();
    as_user(user, || {
        until_back(&mount);
        until_same(&mount, &before);
        put(mount.path("dir/deep/er/new"), "as ever");
        assert_eq!(names(mount.path("dir")), ["deep", "fast", "slow"]);
    });
    mount.until_said("its filesystem fails");
    let log = mount.log();
    assert_eq!(log.matches("its filesystem fails").count(), 1, "{log}");
    mount.unmount();
}

#[test]
fn an_ext4_disk_that_fails_is_given_up_and_taken_in_again() {
    let Some([_python]) = need::programs([need::PYTHON]) else { return };
    let Some(disk) = LoopFs::new("ext4", 64) else { return };
    let Some(mount) = union_on(&disk, None) else { return };
    fails_and_comes_back(&disk, mount, None);
}

#[test]
fn an_xfs_disk_that_fails_is_given_up_and_taken_in_again_by_an_ordinary_user() {
    let (Some([_python]), Some([user, _])) = (need::programs([need::PYTHON]), User::two()) else { return };
    let Some(disk) = LoopFs::new("xfs", 320) else { return };
    let Some(mount) = union_on(&disk, Some(&user)) else { return };
    fails_and_comes_back(&disk, mount, Some(&user));
}

/// It was opened once, so it was kept reachable while its name was about to go, and for ever where the disk failed
/// just then: `mount` found the dead filesystem again.
#[test]
fn a_file_that_could_not_be_removed_does_not_keep_a_dead_disk() {
    let Some(disk) = LoopFs::new("ext4", 64) else { return };
    let Some(mount) = union_on(&disk, None) else { return };
    assert_eq!(get(mount.path("dir/slow")), "slow");
    assert_eq!(get(mount.path("dir/deep/er/slow")), "deeper");
    assert!(disk.cut_power());
    assert!(std::fs::remove_file(mount.path("dir/slow")).is_err());
    assert!(std::fs::rename(mount.path("slow"), mount.path("dir/deep/er/slow")).is_err());
    until_gone(&mount, "slow");
    disk.restart();
    until_back(&mount);
    assert_eq!(get(mount.path("dir/deep/er/slow")), "deeper");
    mount.unmount();
}

/// Directories that a program stands in, and those that were first seen while a tier was away, show all
/// that is in them once it is back.
#[test]
fn directories_known_from_before_and_from_meanwhile_are_whole_afterwards() {
    let Some(disk) = LoopFs::new("ext4", 64) else { return };
    let Some(mount) = union_on(&disk, None) else { return };
    std::fs::create_dir(mount.tier(0, "only fast/later")).expect("mkdir");
    std::fs::create_dir_all(mount.tier(1, "only fast/later")).expect("mkdir");
    put(mount.tier(1, "only fast/later/slow"), "seen later");
    disk.sync();
    let known = rustix::fs::open(mount.path("dir"), HELD, rustix::fs::Mode::empty()).expect("open");
    let number = std::fs::metadata(mount.path("dir")).expect("stat").ino();
    assert!(disk.cut_power());
    until_gone(&mount, "dir/slow");
    assert_eq!(std::fs::metadata(mount.path("dir")).expect("stat").ino(), number, "the number stays");
    let later = rustix::fs::open(mount.path("only fast/later"), HELD, rustix::fs::Mode::empty());
    let later = later.expect("it is on the primary, too");
    let missing = rustix::fs::statat(&later, "slow", rustix::fs::AtFlags::empty());
    assert_eq!(missing.map(|_| ()), Err(Errno::IO));
    disk.restart();
    until_back(&mount);
    for (dir, path) in [(&known, "slow"), (&later, "slow")] {
        let there = rustix::fs::statat(dir, path, rustix::fs::AtFlags::empty());
        assert!(there.is_ok(), "{path}: {there:?}: {}", mount.log());
    }
    assert_eq!(names(mount.path("only fast/later")), ["slow"]);
    assert_eq!(std::fs::metadata(mount.path("dir")).expect("stat").ino(), number);
    drop((known, later));
    mount.unmount();
}

/// What is at the path of a missing tier is taken in only if it is that tier.
#[test]
fn a_tier_that_was_missing_at_the_start_is_taken_in_when_it_comes_and_no_other_is() {
    let setup = Setup::new().plain().option("on_missing=degraded").seed(|tiers| {
        put(tiers[0].join("dir/fast"), "fast");
        put(tiers[1].join("dir/slow"), "slow");
    });
    let Some(mount) = setup.mount() else { return };
    let mut before = everything(&mount.root());
    let setup = mount.unmount();
    let (tier, away) = (setup.tier(1).to_path_buf(), setup.home().join("away"));
    std::fs::rename(&tier, &away).expect("the disk goes");
    std::fs::create_dir(&tier).expect("its empty mount point stays");
    let Some(mount) = setup.mount() else { return };
    check_away(&mount, "dir", "fast", "slow");
    put(tier.join(".tierfs/marker"), get(away.join(".tierfs/marker")).replace("tiers: 2", "tiers: 3"));
    crate::common::wait::until("the wrong disk is told", || mount.log().contains("still away").then_some(()));
    check_away(&mount, "dir", "fast", "slow");
    std::fs::remove_dir_all(&tier).expect("the wrong disk goes");
    // The right one, but within another tier: each of its files would be there twice.
    let within = mount.tier(0, "within");
    std::fs::rename(&away, &within).expect("mv");
    std::os::unix::fs::symlink(&within, &tier).expect("ln -s");
    crate::common::wait::until("that is told", || mount.log().contains("lies inside the tier").then_some(()));
    check_away(&mount, "dir", "fast", "slow");
    std::fs::remove_file(&tier).expect("rm");
    std::fs::rename(&within, &tier).expect("the disk comes back");
    until_back(&mount);
    // It was first seen while the tier was away, and is the same directory to whoever stands in it.
    let number = std::fs::metadata(mount.path("dir")).expect("stat").ino();
    before.entry("dir".into()).and_modify(|dir| dir.0 = number);
    until_same(&mount, &before);
    mount.unmount();
}

/// The kernel opens a file by one backing file at a time: a program that keeps one from before kept everybody else out.
#[test]
fn a_file_that_a_program_has_open_from_before_can_be_opened_anew() {
    let Some(disk) = LoopFs::new("ext4", 64) else { return };
    let Some(mount) = union_on(&disk, None) else { return };
    let number = std::fs::metadata(mount.path("slow")).expect("stat").ino();
    let kept = std::fs::File::options().append(true).open(mount.path("slow")).expect("open");
    (&kept).write_all(b", as ever").expect("write");
    kept.sync_all().expect("fsync");
    let (marker, aside) = (mount.tier(1, ".tierfs/marker"), mount.tier(1, ".tierfs/aside"));
    std::fs::rename(&marker, &aside).expect("it is not the tier any more");
    until_gone(&mount, "dir/deep/er/slow");
    std::fs::rename(&aside, &marker).expect("it is the tier again");
    until_back(&mount);
    let text = crate::common::wait::until("it can be opened", || std::fs::read_to_string(mount.path("slow")).ok());
    assert_eq!(text, "slow at the top, as ever");
    assert!((&kept).write_all(b"lost").and_then(|()| kept.sync_all()).is_err(), "what was open is dead");
    put(mount.path("slow"), "written");
    assert_eq!(get(mount.tier(1, "slow")), "written");
    drop(kept);
    assert_eq!(std::fs::metadata(mount.path("slow")).expect("stat").ino(), number);
    assert_eq!(get(mount.path("slow")), "written");
    mount.unmount();
}

/// What is mounted over a tier's directory, or unmounted lazily below the mount, takes nothing away.
#[test]
fn a_tier_that_is_only_unmounted_or_hidden_goes_on() {
    let Some(disk) = LoopFs::new("ext4", 64) else { return };
    let Some(mount) = union_on(&disk, None) else { return };
    let before = everything(&mount.root());
    let run = |command: &mut Command| assert!(command.status().expect("runs").success(), "{command:?}");
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(disk.path()));
    until_same(&mount, &before);
    put(mount.path("dir/new"), "new");
    run(Command::new("umount").arg(disk.path()));
    run(Command::new("umount").arg("-l").arg(disk.path()));
    put(mount.path("dir/deep/new"), "new");
    std::fs::remove_file(mount.path("dir/deep/new")).expect("rm");
    std::fs::remove_file(mount.path("dir/new")).expect("rm");
    assert_eq!(everything(&mount.root()).len(), before.len());
    mount.unmount();
}

/// Who may not enter a directory by an ACL may not while the disk is away that has it.
#[test]
fn an_acl_that_keeps_a_user_out_holds_while_the_disk_is_away_that_has_it() {
    let (Some([setfacl]), Some([kept_out, _])) = (need::programs(["setfacl"]), User::two()) else { return };
    let Some(disk) = LoopFs::new("ext4", 64) else { return };
    let setup = Setup::new().plain();
    let roots = [disk.path().join("tier"), setup.tier(1).to_owned()];
    let setup = setup.roots(&roots).seed(|tiers| {
        for dir in ["asked", "never asked"] {
            put(tiers[0].join(dir).join("fast"), "fast");
            put(tiers[1].join(dir).join("slow"), "slow");
            let rule = format!("u:{}:-", kept_out.uid);
            let set = Command::new(&setfacl).args(["-m", &rule]).arg(tiers[0].join(dir)).status();
            assert!(set.expect("setfacl").success());
        }
    });
    disk.sync();
    let Some(mount) = setup.mount() else { return };
    let refused = |dir: &str| {
        let read = kept_out.run(|| std::fs::read(mount.path(dir).join("slow")));
        assert!(read.is_err(), "{dir}: {:?}", read.map(|read| String::from_utf8_lossy(&read).into_owned()));
    };
    refused("asked");
    assert_eq!(get(mount.path("asked/slow")), "slow");
    assert_eq!(get(mount.path("never asked/slow")), "slow");
    assert!(disk.cut_power());
    until_gone(&mount, "asked/fast");
    refused("asked");
    refused("never asked");
    disk.restart();
    until_back(&mount);
    refused("asked");
    refused("never asked");
    assert_eq!(get(mount.path("asked/slow")), "slow");
    mount.unmount();
}
