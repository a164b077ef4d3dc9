//! Failures that the campaign, or thinking about it, has found.

use std::process::Command;

use crate::bench::{Bench, Way};
use crate::common::loopfs::LoopFs;
use crate::common::mount::{self, Setup};
use crate::common::{need, wait};
use crate::rng::Rng;
use crate::strace;
use crate::tree;

/// A source that lies in the trash when its tier begins to fail was withdrawn and emptied away.
#[test]
fn a_source_taken_aside_survives_a_failing_tier() {
    let Some(mut bench) = Bench::new(7) else { return };
    bench.may_keep = true;
    let mut failed = 0;
    for when in (1..400).step_by(9) {
        bench.prepare(Way::Demote);
        let output = bench.run_under(Way::Demote, &strace::fail(&("fcntl".into(), when), "EIO", true));
        failed += usize::from(!output.status.success());
        assert_eq!(bench.check(), Vec::<String>::new(), "fcntl fails from call {when} on");
    }
    assert!(failed > 3, "only {failed} runs failed");
}

/// A source that could not be taken away after its promotion stayed for ever, hidden.
#[test]
fn a_promotion_that_fails_halfway_is_finished_at_the_next_start() {
    let Some(mut bench) = Bench::new(8) else { return };
    for when in [30, 36, 43, 50] {
        bench.prepare(Way::Promote);
        bench.run_under(Way::Promote, &strace::fail(&("renameat2".into(), when), "EIO", when == 30));
        assert_eq!(bench.check(), Vec::<String>::new(), "renameat2 {when}");
    }
}

/// A failing look for holes made the copy full of zeros.
#[test]
fn a_failing_look_for_holes_fills_none() {
    let Some(mut bench) = Bench::new(9) else { return };
    for way in [Way::Demote, Way::Promote] {
        for when in 1..5 {
            bench.prepare(way);
            bench.run_under(way, &strace::fail(&("lseek".into(), when), "EIO", false));
            assert_eq!(bench.check(), Vec::<String>::new(), "{} lseek {when}", way.word());
        }
    }
}

/// Recovery removed sources, durably, of copies whose names only the page cache had.
#[test]
fn power_fails_while_recovery_removes_sources() {
    if need::programs([need::PYTHON, "strace", "setfacl"]).is_none() {
        return;
    }
    let (Some(fast), Some(slow)) = (LoopFs::with("ext4", 96, "noatime"), LoopFs::with("ext4", 96, "noatime")) else {
        return;
    };
    let roots = [fast.path().join("tier"), slow.path().join("tier")];
    let mut rng = Rng::new(9);
    let setup = Setup::new().roots(&roots).option("suid").seed(|roots| tree::plant(&roots[1], &mut rng));
    std::fs::write(setup.home().join("up.yaml"), UP).expect("policy");
    let Some(mount) = setup.mount() else { return };
    let before = tree::picture(&mount.root());
    let setup = mount.unmount();
    let log = setup.home().join("strace");
    let run = |arguments: &[&str], call: &str, when| {
        let mut command = Command::new(mount::program());
        command.arg("migrate").args(arguments).arg(mount::spec(&roots));
        wait::output(&mut strace::under(&command, &strace::kill(&(call.into(), when)), &log)).status
    };
    let policy = setup.home().join("up.yaml");
    let policy = policy.to_str().expect("text");
    // The copies have their names and the target is about to be made durable.
    let published = || roots[0].join("a/one").exists();
    let cut = (1..30).any(|when| strace::was_killed(run(&["--policy", policy], "fsync", when)) && published());
    assert!(cut && roots[1].join("a/one").exists(), "the promotion was not cut");
    // Some sources have gone, the record has not.
    assert!(strace::was_killed(run(&["--older-than", "90y"], "unlinkat", 9)), "the recovery was not cut");
    assert!(!roots[1].join("a/one").exists() || !roots[1].join("a/f00").exists(), "no source has gone");
    for fs in [&fast, &slow] {
        assert!(fs.cut_power());
    }
    for fs in [&fast, &slow] {
        fs.restart();
    }
    let mount = setup.try_mount().expect("mounts");
    let found = tree::compare(&before, &tree::picture(&mount.root()));
    assert_eq!(found.wrong, Vec::<String>::new());
    assert_eq!(tree::leftovers(&roots), Vec::<String>::new());
}

const UP: &str = "version: 1\nrules:\n  - name: up\n    tier: secondary\n    match: '**'\n    action: promote\n";
