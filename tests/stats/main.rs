//! What a mount counts, as `tierfs stats`, its log and its metrics tell it.

#[path = "../common/mod.rs"]
mod common;

mod metrics;
mod runs;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use common::fs::{exists, get, put};
use common::mount::{Setup, TestMount};
use common::user::User;
use common::wait;

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests name their files in UTF-8")
}

fn lines(command: &mut Command) -> Vec<Value> {
    let out = wait::output(command);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let told = String::from_utf8(out.stdout).expect("UTF-8");
    told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn stats(mount: &TestMount) -> Value {
    lines(&mut mount.tierfs_with(&["stats", "--json", text(&mount.root())])).remove(0)
}

/// Requests of one operation on one tier; none for those that asked no tier.
fn of<'a>(stats: &'a Value, op: &str, tier: Option<&str>) -> Option<&'a Value> {
    let all = stats["requests"].as_array().expect("a list");
    all.iter().find(|one| one["op"] == op && one["tier"].as_str() == tier)
}

fn count(stats: &Value, op: &str, tier: Option<&str>) -> u64 {
    of(stats, op, tier).map_or(0, |one| one["count"].as_u64().expect("a number"))
}

/// Each tier has its own files, and every byte comes through tierfs.
fn two_tiers() -> Setup {
    Setup::new().option("nopassthrough").seed(|tiers| {
        for name in ["a", "b", "c"] {
            put(tiers[0].join(format!("fast/{name}")), vec![b'f'; 4096]);
        }
        put(tiers[1].join("slow/d"), vec![b's'; 4096]);
    })
}

#[test]
fn what_was_done_is_counted_and_tiers_are_told_apart() {
    let Some(mount) = two_tiers().mount() else { return };
    for name in ["fast/a", "fast/b", "fast/c", "slow/d"] {
        assert_eq!(get(mount.path(name)).len(), 4096);
    }
    for name in ["x", "y"] {
        let mut file = std::fs::File::create_new(mount.path(name)).expect("create");
        file.write_all(&[1; 1000]).expect("write");
    }
    std::fs::create_dir(mount.path("new")).expect("mkdir");
    std::fs::rename(mount.path("x"), mount.path("new/x")).expect("rename");
    std::fs::remove_file(mount.path("y")).expect("unlink");
    assert!(std::fs::remove_dir(mount.path("new")).is_err(), "it is not empty");
    assert!(!exists(mount.path("absent")));
    // The kernel tells of a close later.
    let told = wait::until("all is counted", || {
        let told = stats(&mount);
        // What is open is counted a moment before the requests.
        (count(&told, "release", None) == 6 && told["open_files"] == 0).then_some(told)
    });
    for (op, tier, expected) in [
        ("open", "primary", 3),
        ("open", "secondary", 1),
        ("read", "primary", 3),
        ("read", "secondary", 1),
        ("create", "primary", 2),
        ("write", "primary", 2),
        ("mkdir", "primary", 1),
        ("unlink", "primary", 1),
    ] {
        let all: u64 = [Some("primary"), Some("secondary"), None].map(|tier| count(&told, op, tier)).iter().sum();
        // A name that is made or goes is looked for on every tier that has its directory.
        let slowest = count(&told, op, Some("secondary"));
        let found = count(&told, op, Some(tier));
        let is_change = matches!(op, "create" | "mkdir" | "unlink");
        assert!(if is_change { all == expected } else { found == expected }, "{op} {tier}: {found}, {slowest}: {told}");
    }
    assert_eq!(of(&told, "read", Some("secondary")).expect("reads")["bytes"], 4096);
    assert_eq!(of(&told, "write", Some("primary")).expect("writes")["bytes"], 2000);
    let rmdir = told["requests"].as_array().expect("a list").iter().find(|one| one["op"] == "rmdir");
    assert_eq!(rmdir.expect("rmdir")["errors"], 1);
    assert!(count(&told, "lookup", Some("secondary")) > 0, "a name that is nowhere was looked for everywhere");
    assert!(of(&told, "open", Some("primary")).expect("opens")["p99_ns"].as_u64() > Some(0));
    assert_eq!(told["since_mount"], true);
    let held = std::fs::File::open(mount.path("slow/d")).expect("open");
    let told = stats(&mount);
    assert_eq!((&told["open_files"], &told["passthrough_files"]), (&1.into(), &0.into()));
    drop(held);
    let hot = told["hot_directories"].as_array().expect("a list");
    let fast = hot.iter().find(|one| one["name"] == "/fast").expect("a directory in which files were opened");
    assert_eq!((&fast["opens"], &fast["slow"]), (&3.into(), &0.into()));
    let slow = hot.iter().find(|one| one["name"] == "/slow").expect("its slower sister");
    assert!(slow["slow"].as_u64() >= Some(2), "{slow}");
    assert!(!told["hot_programs"].as_array().expect("a list").is_empty());
}

/// Each block tells what has happened since the one before; a reader that goes away ends it.
#[test]
fn blocks_follow_one_another_until_nobody_reads() {
    let Some(mount) = two_tiers().mount() else { return };
    let root = mount.root();
    let blocks = lines(&mut mount.tierfs_with(&["stats", "--json", "-i", "0.1", "-n", "3", text(&root)]));
    assert_eq!(blocks.len(), 3);
    assert_eq!((&blocks[0]["since_mount"], &blocks[2]["since_mount"]), (&true.into(), &false.into()));
    let mut command = mount.tierfs_with(&["stats", "-i", "0.1", text(&root)]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("tierfs starts");
    let mut first = [0; 64];
    let mut out = child.stdout.take().expect("its output");
    assert!(out.read(&mut first).expect("a block") > 0);
    drop(out);
    assert!(wait::until("it ends", || child.try_wait().expect("wait")).success());
}

#[test]
fn what_is_no_mount_is_refused_with_one_line() {
    let Some(mount) = two_tiers().mount() else { return };
    let root = mount.root();
    for (words, code, says) in [
        (&["stats", text(mount.home())][..], 1, "is not in a mounted tierfs"),
        (&["stats", text(&mount.tier(0, ""))], 1, "is a tier, not a mount"),
        (&["stats", "/absent"], 1, "No such file"),
        (&["stats", "-i", "0", text(&root)], 2, "write seconds"),
        (&["stats", "-n", "0", text(&root)], 2, "COUNT"),
    ] {
        let out = wait::output(&mut mount.tierfs_with(words));
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{words:?} {err}");
        assert!(err.contains(says) && err.lines().count() == 1, "{says}: {err}");
    }
}

#[test]
fn an_ordinary_user_sees_the_numbers_of_his_own_mount() {
    let Some([user, other]) = User::two() else { return };
    let Some(mount) = Setup::new().by(&user).mount() else { return };
    user.run(|| put(mount.path("a"), "a"));
    let told = lines(mount.tierfs().args(["stats", "--json", text(&mount.root())])).remove(0);
    assert_eq!(count(&told, "create", Some("primary")) + count(&told, "create", Some("secondary")), 1);
    let mut command = other.command(mount.home().join("tierfs"));
    let out = wait::output(command.arg("stats").arg(mount.root()));
    assert!(!out.status.success(), "it is not his");
}
