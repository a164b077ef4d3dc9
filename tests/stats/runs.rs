//! Runs: one line each in the log, and their counts.

use crate::common::fs::{exists, put, set_times};
use crate::common::mount::{Setup, TestMount};
use crate::common::wait;
use crate::{stats, text};

/// Long before any age that the tests name.
const LONG_AGO: i64 = 1_000_000_000;

fn migrate(mount: &TestMount, words: &[&str]) {
    let root = mount.root();
    let words = [&["migrate", "-q", "--older-than", "1y"], words, &[text(&root)]].concat();
    let out = wait::output(&mut mount.tierfs_with(&words));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn run_lines(mount: &TestMount) -> Vec<String> {
    mount.log().lines().filter(|line| line.contains("run ended")).map(str::to_owned).collect()
}

/// The same, once there are so many.
fn until_lines(mount: &TestMount, many: usize) -> Vec<String> {
    wait::until(&format!("{many} runs are in the log"), || {
        let lines = run_lines(mount);
        (lines.len() >= many).then_some(lines)
    })
}

#[test]
fn a_run_is_one_line_of_fields_and_one_without_work_is_none() {
    let Some(mount) = Setup::new()
        .verbose()
        .seed(|tiers| {
            for name in ["a", "b"] {
                put(tiers[0].join(name), vec![b'x'; 5000]);
                set_times(tiers[0].join(name), LONG_AGO, LONG_AGO);
            }
        })
        .mount()
    else {
        return;
    };
    let held = std::fs::File::open(mount.path("b")).expect("open");
    migrate(&mount, &["-n"]);
    assert_eq!(run_lines(&mount), [""; 0], "a dry run leaves no line");
    migrate(&mount, &[]);
    assert!(exists(mount.tier(1, "a")) && exists(mount.tier(0, "b")));
    let lines = until_lines(&mount, 1);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    for field in [
        "run=\"2",
        "what=\"migrate\"",
        "trigger=\"command\"",
        "moved=1",
        "bytes=5000",
        "freed=",
        "skipped=\"1 in use\"",
        "failed=0",
        "took=",
        "stopped=\"no\"",
    ] {
        assert!(line.contains(field), "{field}: {line}");
    }
    migrate(&mount, &[]);
    assert_eq!(run_lines(&mount).len(), 1, "nothing was to do, and the log stays quiet");
    drop(held);
    let mut scheduled = mount.tierfs_with(&["migrate", "-q", "--older-than", "1y", text(&mount.root())]);
    wait::until("the file is free again", || {
        assert!(wait::output(scheduled.env("TRIGGER_UNIT", "x.timer")).status.success());
        exists(mount.tier(1, "b")).then_some(())
    });
    let lines = until_lines(&mount, 2);
    assert!(lines[1].contains("trigger=\"schedule\""), "{lines:?}");
    let told = stats(&mount);
    assert_eq!(told["moves"], serde_json::json!([{"from": "primary", "to": "secondary", "files": 2, "bytes": 10000}]));
    assert!(told["skipped"]["in use"].as_u64() >= Some(2), "{told}");
    assert_eq!(told["runs"]["command"], serde_json::json!({"ended": 2, "failed": 0}));
    assert!(told["last_success"].as_u64() > Some(1_700_000_000));
}

#[test]
fn a_program_that_brings_a_file_back_is_named() {
    let seed = |tiers: &[std::path::PathBuf]| put(tiers[1].join("d/slow"), "slow");
    let Some(mount) = Setup::new().verbose().option("on_write=promote").seed(seed).mount() else { return };
    let mut shell = std::process::Command::new("sh");
    let script = format!("printf more >>'{}'", text(&mount.path("d/slow")));
    assert!(wait::output(shell.args(["-c", &script])).status.success());
    wait::until("it is promoted", || exists(mount.tier(0, "d/slow")).then_some(()));
    // A first run may find it in use still.
    let told = wait::until("that is counted", || {
        let told = stats(&mount);
        (told["runs"]["use"]["ended"].as_u64() >= Some(1) && told["recalls"][0]["files"] == 1).then_some(told)
    });
    assert_eq!((&told["recalls"][0]["program"], &told["recalls"][0]["bytes"]), (&program_of_sh().into(), &8.into()));
    wait::until("the log tells", || run_lines(&mount).first().cloned().filter(|line| line.contains("trigger=\"use\"")));
}

/// `sh` is a link to another name, and the kernel takes the name that was called.
fn program_of_sh() -> String {
    let out = std::process::Command::new("sh").args(["-c", "cat /proc/$$/comm"]).output().expect("sh");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}
