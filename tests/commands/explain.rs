//! `explain`: what it says is what the next run does.

use std::process::Command;

use crate::common::fs::{exists, open, put, set_times};
use crate::common::loopfs::{LoopFs, run};
use crate::common::mount::{Setup, TestMount};
use crate::{Ran, ran};

fn old(setup: &Setup, rank: usize, name: &str, bytes: usize) {
    let path = setup.tier(rank).join(name);
    put(&path, "x".repeat(bytes));
    set_times(path, 1_000_000_000, 1_000_000_000);
}

fn explain(mount: &TestMount, words: &[&str], name: &str) -> Ran {
    let path = mount.path(name);
    ran(&mut mount.tierfs_with(&[&["explain"], words, &[path.to_str().expect("UTF-8")]].concat()))
}

/// The lines that begin with `what`.
#[track_caller]
fn lines(ran: &Ran, what: &str) -> String {
    let lines = ran.ended(0).into_iter().filter_map(|line| line.trim_start().strip_prefix(what));
    lines.map(str::trim).collect::<Vec<_>>().join("\n")
}

const YEAR: [&str; 2] = ["--older-than", "1y"];

fn migrated(mount: &TestMount) -> String {
    let root = mount.root();
    ran(&mut mount.tierfs_with(&["migrate", "-v", "--older-than", "1y", root.to_str().expect("UTF-8")])).out
}

/// Immutable, taken, in use, too large for the room: the run skips it, and so it is said before.
#[test]
fn regression_what_the_run_skips_does_not_move_with_the_next_run() {
    let Some(fast) = LoopFs::new("ext4", 64) else { return };
    let Some(slow) = LoopFs::new("tmpfs", 4) else { return };
    let setup = Setup::new().roots(&[fast.path().join("tier"), slow.path().join("tier")]);
    for (name, bytes) in [("fixed", 1), ("taken", 1), ("open", 1), ("idle", 1), ("large", 8 << 20)] {
        old(&setup, 0, name, bytes);
    }
    old(&setup, 1, "taken", 2);
    run(Command::new("chattr").arg("+i").arg(setup.tier(0).join("fixed")));
    let Some(mount) = setup.mount() else { return };
    let held = open(mount.path("open"), rustix::fs::OFlags::RDONLY, 0).expect("open");
    let blocked = "would move to secondary, but stays: ";
    for (name, why) in [
        ("fixed", "it is immutable"),
        ("taken", "its name, or that of a directory above it, is taken"),
        ("open", "a program has it open"),
        ("large", "secondary has no room for it"),
    ] {
        let next = lines(&explain(&mount, &YEAR, name), "next");
        assert!(next.strip_prefix(blocked).is_some_and(|rest| rest.starts_with(why)), "{name}: {next}");
    }
    let idle = explain(&mount, &YEAR, "idle");
    assert_eq!(lines(&idle, "next"), "moves to secondary with the next run");
    assert!(!idle.out.contains("could not be looked into"), "root is told nothing of it: {}", idle.out);
    let said = migrated(&mount);
    run(Command::new("chattr").arg("-i").arg(mount.tier(0, "fixed")));
    let stayed = ["fixed", "taken", "open", "large"].iter().all(|name| exists(mount.tier(0, name)));
    assert!(stayed, "{said}");
    drop(held);
}

/// The options of `migrate` are understood, and each rule says why it does not match.
#[test]
fn regression_explain_takes_the_criteria_of_migrate() {
    let setup = Setup::new();
    old(&setup, 0, "d/f", 1000);
    let Some(mount) = setup.mount() else { return };
    let with = |more: &[&str]| explain(&mount, &[&YEAR[..], more].concat(), "d/f");
    assert_eq!(
        lines(&with(&["--min-size", "1M"]), "rule"),
        "--older-than 365d does not match: it is smaller than 1MiB"
    );
    assert_eq!(lines(&with(&["--exclude", "d"]), "rule"), "none is asked: --exclude matches its path");
    assert!(lines(&with(&["--age-by", "mtime", "--to", "secondary"]), "next").starts_with("moves to secondary"));
    with(&["--to", "tier3"]).refused(78, "tier3");
    let policy = mount.home().join("p.yaml");
    put(
        &policy,
        "version: 1\nrules:\n  - {name: pdf, match: '*.pdf', action: demote}\n  - {name: new, younger_than: 7d, action: keep}\n",
    );
    let by = explain(&mount, &["--policy", policy.to_str().expect("UTF-8")], "d/f");
    let rules = lines(&by, "rule");
    assert!(rules.contains("`pdf`") && rules.contains("no pattern under `match`"), "{rules}");
    assert!(rules.contains("`new`") && rules.contains("it is not younger than 7d"), "{rules}");
    let path = mount.path("d");
    ran(&mut mount.tierfs_with(&["pin", path.to_str().expect("UTF-8")])).ended(0);
    assert_eq!(lines(&with(&[]), "rule"), "none is asked: the pin comes first");
}

/// A policy that names a tier which the mount has not is refused, as the mount refuses it.
#[test]
fn regression_a_policy_for_other_tiers_is_refused() {
    let setup = Setup::new();
    old(&setup, 0, "f", 1);
    let home = setup.home().to_path_buf();
    let write = |text: &str| put(home.join("policy.yaml"), format!("version: 1\n{text}\n"));
    write("watermarks: [{tier: primary, high: 100%, low: 1%}]");
    put(home.join("config.yaml"), "version: 1\npolicy: policy.yaml\n");
    let Some(mount) = setup.option(&format!("config={}", home.join("config.yaml").display())).mount() else { return };
    let told = explain(&mount, &[], "f");
    assert!(lines(&told, "watermark").starts_with("above 100% in use, files leave primary until 1%"), "{}", told.out);
    assert!(lines(&told, "next").contains("the watermark may take it to secondary"), "{}", told.out);
    write("rules: [{match: f, action: pin, to: tier2}]");
    explain(&mount, &[], "f").refused(78, "names the tier `tier2`");
}
