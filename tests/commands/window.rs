//! `migrate` and the window of its policy.

use std::process::Command;

use crate::common::fs::{exists, put, set_times};
use crate::common::loopfs::run;
use crate::common::mount::{Setup, TestMount};
use crate::{Ran, ran};

/// A window that is not now: three days from today, by the clock of this machine.
fn closed() -> String {
    let today: usize = run(Command::new("date").arg("+%u")).trim().parse().expect("a number");
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    format!("{} 00:00-24:00", days[(today - 1 + 3) % 7])
}

/// An old file `a` on the primary, and a mount whose own policy takes it down within `window`.
fn mount(window: &str) -> Option<TestMount> {
    let setup = Setup::new().seed(|tiers| {
        put(tiers[0].join("a"), "aa");
        set_times(tiers[0].join("a"), 1_000_000_000, 1_000_000_000);
    });
    let home = setup.home().to_path_buf();
    let policy = format!("version: 1\nrules: [{{name: cold, older_than: 1y, action: demote}}]\nwindow: {window}\n");
    put(home.join("policy.yaml"), policy);
    put(home.join("config.yaml"), "version: 1\npolicy: policy.yaml\n");
    setup.option(&format!("config={}", home.join("config.yaml").display())).mount()
}

fn migrate(mount: &TestMount, words: &[&str]) -> Ran {
    let root = mount.root();
    let words = [&["migrate"], words, &[root.to_str().expect("UTF-8")]].concat();
    ran(&mut mount.tierfs_with(&words))
}

fn stays(mount: &TestMount) -> bool {
    exists(mount.tier(0, "a")) && !exists(mount.tier(1, "a"))
}

/// Outside of the window nothing moves, with the mount's own policy and with one that is named.
#[test]
fn regression_outside_of_the_window_nothing_moves() {
    let window = closed();
    let Some(mount) = mount(&window) else { return };
    let policy = mount.home().join("policy.yaml");
    let policy = policy.to_str().expect("UTF-8").to_owned();
    for by in [&[][..], &["--policy", &policy]] {
        let told = migrate(&mount, by);
        let lines = told.ended(8);
        assert_eq!((lines.len(), told.err.as_str()), (1, ""), "{lines:?}");
        let says = format!("moved nothing: the window {window} of {policy} is closed and opens ");
        assert!(lines[0].starts_with(&says) && lines[0].contains("--ignore-window"), "{lines:?}");
        let quiet = migrate(&mount, &[by, &["-q"]].concat());
        assert_eq!((quiet.ended(8), quiet.err.as_str()), (vec![], ""));
    }
    let told = migrate(&mount, &["--json"]);
    let summary: serde_json::Value = serde_json::from_str(told.ended(8)[0]).expect("JSON");
    assert_eq!((&summary["stopped"], &summary["closed"]["window"]), (&"window".into(), &window.as_str().into()));
    assert!(stays(&mount));
}

/// A dry run tells what would move and that the window is closed; `--ignore-window` moves.
#[test]
fn regression_a_closed_window_can_be_ignored() {
    let Some(mount) = mount(&closed()) else { return };
    let dry = migrate(&mount, &["-n"]);
    let lines = dry.ended(0);
    assert!(lines[0].starts_with("a: primary -> secondary"), "{lines:?}");
    assert!(lines[1].starts_with("would move 1 file, 2B") && lines[1].contains("is closed and opens "), "{lines:?}");
    assert!(stays(&mount));
    let age = migrate(&mount, &["--older-than", "100y"]);
    assert!(age.ended(0)[0].starts_with("moved nothing in "), "--older-than knows no window: {}", age.out);
    let moved = migrate(&mount, &["--ignore-window"]);
    assert!(moved.ended(0)[0].starts_with("moved 1 file, 2B"), "{}", moved.out);
    assert!(exists(mount.tier(1, "a")));
}

/// Within the window a run works as ever, also alone.
#[test]
fn an_open_window_lets_runs_in() {
    let Some(mount) = mount("00:00-24:00") else { return };
    let moved = migrate(&mount, &[]);
    assert!(moved.ended(0)[0].starts_with("moved 1 file, 2B"), "{}", moved.out);
    let policy = mount.home().join("closed.yaml");
    put(&policy, format!("version: 1\nwindow: {}\nrules: [{{match: '**', action: promote}}]\n", closed()));
    let spec = crate::common::mount::spec(mount.roots());
    let setup = mount.unmount();
    let mut alone = Command::new(crate::common::mount::program());
    alone.args(["migrate", "--policy"]).arg(&policy).arg(spec).env("TIERFS_RUNTIME_DIR", setup.runtime_dir());
    let told = ran(&mut alone);
    assert!(told.ended(8)[0].contains("is closed"), "{}", told.out);
    assert!(exists(setup.tier(1).join("a")));
}
