//! Runs, mounts and commands that meet: one run at a time, orderly ends, and requests that go on.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::fs::{exists, get, put};
use crate::common::mount::{Setup, TestMount, spec};
use crate::common::user::User;
use crate::common::wait;
use crate::kit::{Ran, alone, files, migrate, nothing_left_behind, pattern, recall, tierfs};

const BIG: usize = 64 << 20;

/// A run that takes long: a big file at a small rate.
fn slow_run(mount: &TestMount) -> Child {
    let mut command = mount.tierfs();
    command.args(["migrate", "--older-than", "0", "--json", "--bwlimit", "1M"]).arg(mount.root());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tierfs runs");
    let staging = mount.tier(1, ".tierfs/staging");
    wait::until("the copy begins", || {
        let mut copies = std::fs::read_dir(&staging).ok()?;
        copies.any(|copy| copy.is_ok_and(|copy| copy.metadata().is_ok_and(|copy| copy.len() >= 1 << 20))).then_some(())
    });
    child
}

fn end(child: Child) -> Ran {
    Ran::of(&child.wait_with_output().expect("tierfs ends"))
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).expect("kill");
}

fn mount_of_one_big() -> Option<TestMount> {
    Setup::new()
        .seed(|tiers| {
            put(tiers[0].join("big"), pattern(1, 0, BIG));
            put(tiers[0].join("small"), "small");
        })
        .mount()
}

#[track_caller]
fn unhurt(mount: TestMount) {
    assert!(std::fs::read(mount.path("big")).expect("read") == pattern(1, 0, BIG), "other contents");
    assert_eq!(get(mount.path("small")), "small");
    let mount = mount.remount();
    migrate(&mount, &[]).ends(0);
    assert!(std::fs::read(mount.path("big")).expect("read") == pattern(1, 0, BIG), "other contents");
    assert_eq!(files(&mount.roots()[0]).len(), 0);
    let roots = mount.roots().to_vec();
    let _kept = mount.unmount();
    nothing_left_behind(&roots);
}

/// A second run is told to wait, with 75; so is a recall; Ctrl-C ends the first in order, with 130.
#[test]
fn one_run_at_a_time_and_an_orderly_end() {
    let Some(mount) = mount_of_one_big() else { return };
    let first = slow_run(&mount);
    let second =
        Ran::of(&mount.tierfs().args(["migrate", "--older-than", "0"]).arg(mount.root()).output().expect("runs"));
    assert_eq!(second.code, Some(75), "{second:?}");
    assert_eq!(recall(&mount, "small").code, Some(75));
    signal(&first, Signal::SIGINT);
    let first = end(first);
    assert_eq!((first.code, first.summary()["stopped"].as_str()), (Some(130), Some("interrupted")), "{first:?}");
    unhurt(mount);
}

/// A command that is killed ends its run, and the next can begin.
#[test]
fn a_killed_command_ends_its_run() {
    let Some(mount) = mount_of_one_big() else { return };
    let first = slow_run(&mount);
    signal(&first, Signal::SIGKILL);
    end(first);
    wait::until("the next run may begin", || {
        let words = ["migrate", "--older-than", "0", "--dry-run", "--json"].map(OsStr::new);
        let ran = tierfs(&mount, words.into_iter().chain([mount.root().as_os_str()]));
        (ran.code == Some(0)).then_some(())
    });
    assert!(exists(mount.tier(0, "big")));
    unhurt(mount);
}

/// A daemon that is killed leaves the sources where they were; the next mount clears up.
#[test]
fn a_killed_daemon_loses_nothing() {
    let Some(mut mount) = mount_of_one_big() else { return };
    let first = slow_run(&mount);
    mount.kill();
    let first = end(first);
    assert!(first.code != Some(0), "{first:?}");
    assert!(!first.err.is_empty(), "{first:?}");
    crate::common::mount::unmount_for_sure(&mount.root());
    let setup = mount.forsake();
    let mount = setup.try_mount().expect("mounts again");
    unhurt(mount);
}

/// An unmount ends a run that is at work.
#[test]
fn an_unmount_ends_the_run() {
    let Some(mount) = mount_of_one_big() else { return };
    let first = slow_run(&mount);
    let setup = mount.unmount();
    let first = end(first);
    assert!(first.code != Some(0), "{first:?}");
    let mount = setup.try_mount().expect("mounts again");
    unhurt(mount);
}

/// The tiers' names find the mount that is over them.
#[test]
fn tiers_find_their_mount() {
    let Some(mount) = mount_of_one_big() else { return };
    let tiers = spec(mount.roots());
    let words = ["migrate", "--older-than", "0", "--json"].map(OsStr::new);
    let ran = tierfs(&mount, words.into_iter().chain([tiers.as_os_str()])).ends(0);
    assert_eq!(ran.count("moved"), 2);
    // The kernel was told: what programs see is right at once.
    assert_eq!(get(mount.path("small")), "small");
    unhurt(mount);
}

/// Without a mount the command moves by itself; meanwhile no mount and no other command begins.
#[test]
fn alone_it_keeps_others_out() {
    let Some(mount) = mount_of_one_big() else { return };
    let setup = mount.unmount();
    let tiers = spec(&[setup.tier(0).to_path_buf(), setup.tier(1).to_path_buf()]);
    let mut command = setup.tierfs();
    command.args(["migrate", "--older-than", "0", "--json", "--bwlimit", "1M"]).arg(&tiers);
    let first = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tierfs runs");
    let staging = setup.tier(1).join(".tierfs/staging");
    wait::until("the copy begins", || std::fs::read_dir(&staging).ok()?.next().map(|_| ()));
    let second = alone(&setup, ["migrate", "--older-than", "0"].map(OsStr::new).into_iter().chain([tiers.as_os_str()]));
    assert_eq!(second.code, Some(75), "{second:?}");
    let refused = setup.try_mount().expect_err("a mount begins under a run");
    assert_eq!(refused.code, Some(75), "{refused:?}");
    let setup = refused.setup;
    signal(&first, Signal::SIGTERM);
    assert_eq!(end(first).code, Some(130));
    let words = ["migrate", "--older-than", "0", "--json"].map(OsStr::new);
    assert_eq!(alone(&setup, words.into_iter().chain([tiers.as_os_str()])).ends(0).count("moved"), 2);
    let mount = setup.try_mount().expect("mounts again");
    unhurt(mount);
}

/// While a big file is copied others are read and written, and a program that opens it to write has it
/// at once: the copy is given up, the file stays, and what was written is there.
#[test]
fn a_big_copy_gives_way() {
    let Some([user, _]) = User::two() else { return };
    for by in [None, Some(&user)] {
        let mut setup = Setup::new();
        if let Some(user) = by {
            setup = setup.by(user);
        }
        let plant = || put(setup.tier(0).join("big"), pattern(1, 0, BIG));
        by.map_or_else(plant, |user| user.run(plant));
        let Some(mount) = setup.mount() else { return };
        let copy = slow_run(&mount);
        let work = || {
            for at in 0..50 {
                put(mount.path(format!("other{at}")), "x");
                assert_eq!(get(mount.path(format!("other{at}"))), "x");
            }
            let file = File::options().write(true).open(mount.path("big")).expect("open");
            file.write_all_at(b"new", 5).expect("write");
        };
        by.map_or_else(work, |user| user.run(work));
        // Far sooner than the copy could have ended at its rate.
        let ran = end(copy);
        let events = ran.json();
        let big = events.iter().find(|event| event["path"] == "big").unwrap_or_else(|| panic!("{ran:?}"));
        assert_eq!((big["event"].as_str(), big["reason"].as_str()), (Some("skipped"), Some("in use")), "{ran:?}");
        let wanted = [&pattern(1, 0, 5)[..], b"new", &pattern(1, 8, BIG - 8)].concat();
        assert!(std::fs::read(mount.tier(0, "big")).expect("read") == wanted, "other contents");
    }
}

/// Who lists a directory across a run gets each name once, also where the kernel has kept only the
/// beginning of the listing from before.
#[test]
fn a_listing_across_a_run_is_whole() {
    const FILES: usize = 3000;
    let setup = Setup::new().seed(|tiers| {
        for at in 0..FILES {
            let path = tiers[0].join(format!("d/a-name-that-takes-some-room-{at}"));
            put(&path, "x");
            if at % 2 == 0 {
                crate::common::fs::set_times(&path, 1_000_000_000, 1_000_000_000);
            }
        }
    });
    let Some(mount) = setup.mount() else { return };
    let folder = mount.path("d");
    assert_eq!(crate::common::fs::names(&folder).len(), FILES);
    let mut entries = std::fs::read_dir(&folder).expect("opendir");
    let mut seen: Vec<_> = entries.by_ref().take(1).map(|entry| entry.expect("an entry").file_name()).collect();
    let words = ["migrate", "--older-than", "1y", "--json"].map(OsStr::new);
    let ran = tierfs(&mount, words.into_iter().chain([mount.root().as_os_str()])).ends(0);
    assert_eq!(ran.count("moved"), FILES as u64 / 2);
    let kept = File::open(&folder).expect("open");
    rustix::fs::fadvise(&kept, 0, None, rustix::fs::Advice::DontNeed).expect("fadvise");
    seen.extend(entries.map(|entry| entry.expect("an entry").file_name()));
    let told = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((told, seen.len()), (FILES, FILES), "entries told, and different ones");
}
