//! What the commands say and which files they take: limits, order, dry runs, undo, explanations.

use std::ffi::OsStr;

use serde_json::Value;

use crate::common::fs::{exists, get, put, set_times};
use crate::common::mount::{Setup, TestMount};
use crate::kit::{Ran, files, migrate, recall, tierfs};

/// Seconds since 1970 of a day long past.
const LONG_AGO: i64 = 1_000_000_000;

/// Ten files of 1 to 10 KiB; `f0` the oldest, `f9` the youngest, of which each is a day apart.
fn ten() -> Option<TestMount> {
    let setup = Setup::new().seed(|tiers| {
        for at in 0..10 {
            let path = tiers[0].join(format!("d{}/f{at}", at % 2));
            put(&path, "x".repeat(1024 * (at + 1)));
            let moment = LONG_AGO + i64::try_from(at).expect("small") * 86_400;
            set_times(&path, moment, moment);
        }
    });
    setup.mount()
}

fn moved(ran: &Ran) -> Vec<String> {
    let events = ran.json().into_iter().filter(|event| event["event"] == "moved");
    events.map(|event| event["path"].as_str().expect("a path").to_owned()).collect()
}

fn words(mount: &TestMount, words: &[&str]) -> Ran {
    let root = mount.root();
    tierfs(mount, words.iter().map(OsStr::new).chain([root.as_os_str()]))
}

/// A dry run tells what the real run does, in the same order, and does nothing.
#[test]
fn a_dry_run_tells_the_real_run() {
    for order in ["tree", "oldest", "largest", "smallest"] {
        let Some(mount) = ten() else { return };
        let said = migrate(&mount, &["--dry-run", "--order", order]).ends(0);
        assert_eq!(files(&mount.roots()[0]).len(), 10, "a dry run moves");
        let done = migrate(&mount, &["--order", order]).ends(0);
        let events = |ran: &Ran| -> Vec<Value> {
            let mut events: Vec<Value> = ran.json().into_iter().filter(|event| event["event"] != "summary").collect();
            // The age grows from one run to the next.
            events.iter_mut().for_each(|event| drop(event.as_object_mut().expect("an object").remove("age_secs")));
            events
        };
        assert_eq!(events(&said), events(&done), "{order}");
        assert_eq!((said.count("moved"), said.count("bytes")), (done.count("moved"), done.count("bytes")));
        let first = match order {
            "oldest" | "smallest" | "tree" => "d0/f0",
            _ => "d1/f9",
        };
        assert_eq!(moved(&done)[0], first, "{order}");
    }
}

/// `--limit` and `--max-transfer` stop with 8 and take the first files of the order.
#[test]
fn limits_stop_with_8() {
    for (limit, wanted) in [
        (["--limit", "3"], &["d0/f0", "d1/f1", "d0/f2"][..]),
        (["--max-transfer", "4K"], &["d0/f0", "d1/f1"]),
        (["--max-duration", "0"], &[]),
    ] {
        let Some(mount) = ten() else { return };
        let ran = migrate(&mount, &[limit[0], limit[1], "--order", "oldest"]).ends(8);
        assert_eq!(moved(&ran), wanted, "{limit:?}");
        assert_eq!(ran.summary()["stopped"], "limit");
        assert_eq!(files(&mount.roots()[1]).len(), wanted.len());
    }
}

/// Only what is large enough, old enough and not excluded.
#[test]
fn criteria_choose() {
    let Some(mount) = ten() else { return };
    let young = mount.path("young");
    put(&young, "y".repeat(20_000));
    let root = mount.root();
    let base = ["migrate", "--older-than", "1y", "--json", "--min-size", "5K", "--exclude", "d1", "--exclude", "*6"];
    let ran = tierfs(&mount, base.iter().map(OsStr::new).chain([root.as_os_str()])).ends(0);
    assert_eq!(moved(&ran), ["d0/f4", "d0/f8"]);
    assert!(exists(mount.tier(0, "young")) && exists(mount.tier(0, "d0/f6")) && exists(mount.tier(0, "d1/f5")));
}

/// `-q` is silent where nothing is to be done and says one line where something was; `--json` is JSON.
#[test]
fn quiet_and_json() {
    let Some(mount) = ten() else { return };
    let none = words(&mount, &["migrate", "-q", "--older-than", "1000y"]).ends(0);
    assert_eq!((none.out.as_str(), none.err.as_str()), ("", ""));
    words(&mount, &["migrate", "-q", "--older-than", "1000y", "--error-on-no-move"]).ends(4);
    let some = words(&mount, &["migrate", "-q", "--older-than", "1y"]).ends(0);
    assert!(some.out.lines().count() == 1 && some.out.starts_with("moved 10 files"), "{some:?}");
    let back = recall(&mount, "").ends(0);
    assert!(back.json().iter().all(|line| line["event"].is_string()));
    assert_eq!(back.json().len(), 11);
}

/// A run can be taken back by its name: only what it moved, and only what is still as it left it.
#[test]
fn a_run_is_taken_back() {
    let Some(mount) = ten() else { return };
    let first = migrate(&mount, &["--limit", "4", "--order", "oldest"]).ends(8);
    let second = migrate(&mount, &[]).ends(0);
    assert_eq!((first.count("moved"), second.count("moved")), (4, 6));
    put(mount.path("d0/f0"), "changed since");
    std::fs::rename(mount.path("d1/f1"), mount.path("d1/renamed")).expect("rename");
    let history = words(&mount, &["history"]).ends(0);
    let name = first.summary()["run"].as_str().expect("a name").to_owned();
    assert!(history.out.contains(&name), "{history:?}");
    let undone = words(&mount, &["recall", "--json", "--run", &name]).ends(0);
    assert_eq!(moved(&undone), ["d0/f2", "d1/f3"], "{undone:?}");
    assert_eq!(files(&mount.roots()[0]).len(), 2);
    assert_eq!(get(mount.path("d0/f0")), "changed since");
    let unknown = words(&mount, &["recall", "--run", "20000101T000000-0000"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("tierfs history"), "{unknown:?}");
}

/// `explain` tells what the next run does.
#[test]
fn explain_foretells() {
    let Some(mount) = ten() else { return };
    let explain = |path: &str| {
        let path = mount.path(path);
        let words = ["explain", "--older-than", "1y"].map(OsStr::new);
        tierfs(&mount, words.into_iter().chain([path.as_os_str()])).ends(0).out
    };
    put(mount.path("young"), "y");
    assert!(explain("d0/f0").contains("moves to secondary"), "{}", explain("d0/f0"));
    assert!(explain("young").contains("too young"), "{}", explain("young"));
    let _held = std::fs::File::open(mount.path("d0/f2")).expect("open");
    assert!(explain("d0/f2").contains("in use"), "{}", explain("d0/f2"));
    let path = mount.path("d0/f4");
    tierfs(&mount, [OsStr::new("pin"), path.as_os_str()]).ends(0);
    assert!(explain("d0/f4").contains("pinned to primary"), "{}", explain("d0/f4"));
    words(&mount, &["migrate", "--older-than", "1y"]).ends(0);
    let stayed = ["young", "d0/f2", "d0/f4"].map(|path| exists(mount.tier(0, path)));
    assert_eq!((stayed, exists(mount.tier(0, "d0/f0"))), ([true; 3], false));
}

/// `--until-free` moves the oldest until so much is free, and nothing where it is free already.
#[test]
fn until_so_much_is_free() {
    let Some((_tiers, setup)) = crate::kit::on(["tmpfs", "ext4"], 32) else { return };
    for at in 0..20 {
        let path = setup.tier(0).join(format!("f{at:02}"));
        put(&path, vec![7; 1 << 20]);
        set_times(&path, LONG_AGO + at, LONG_AGO + at);
    }
    let Some(mount) = setup.mount() else { return };
    assert_eq!(migrate(&mount, &["--until-free", "20%"]).ends(0).count("moved"), 0);
    let ran = migrate(&mount, &["--until-free", "60%"]).ends(0);
    let names = moved(&ran);
    assert!((6..=9).contains(&names.len()), "{names:?}");
    let wanted: Vec<String> = (0..names.len()).map(|at| format!("f{at:02}")).collect();
    assert_eq!(names, wanted, "the oldest first");
}
