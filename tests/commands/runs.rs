//! `migrate`, `recall` and `history`.

use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::fs::{exists, get, open, put, set_times};
use crate::common::mount::{Setup, TestMount};
use crate::common::{need, wait};
use crate::{Ran, ran, timeless};

/// Long before any age that the tests name.
const LONG_AGO: i64 = 1_000_000_000;

fn old(path: impl AsRef<Path>, content: &str) {
    put(&path, content);
    set_times(path, LONG_AGO, LONG_AGO);
}

/// Old files `a`, `b/c` and a young one, all on the primary.
fn aged() -> Setup {
    Setup::new().seed(|tiers| {
        old(tiers[0].join("a"), "aa");
        old(tiers[0].join("b/c"), "cccc");
        put(tiers[0].join("young"), "y");
    })
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests name their files in UTF-8")
}

/// A dry run prints the lines that the run prints, changes nothing, and its summary says what would be.
#[test]
fn a_dry_run_tells_what_the_run_does() {
    let Some(mount) = aged().mount() else { return };
    let root = mount.root();
    let dry = ran(&mut mount.tierfs_with(&["migrate", "-n", "--older-than", "1y", text(&root)]));
    assert!(exists(mount.tier(0, "a")) && !exists(mount.tier(1, "a")));
    let real = ran(&mut mount.tierfs_with(&["migrate", "-v", "--older-than", "1y", text(&root)]));
    let (dry, real) = (dry.ended(0), real.ended(0));
    let (mut dry_lines, mut real_lines) = (dry[..2].to_vec(), real[..2].to_vec());
    dry_lines.sort_unstable();
    real_lines.sort_unstable();
    assert_eq!(dry_lines, real_lines);
    assert!(real_lines[0].starts_with("a: primary -> secondary (2B, "), "{real_lines:?}");
    assert_eq!(dry[2], "would move 2 files, 6B, from primary to secondary");
    assert_eq!(timeless(real[2]), "moved 2 files, 6B, from primary to secondary;");
    assert!(exists(mount.tier(1, "a")) && !exists(mount.tier(0, "a")) && exists(mount.tier(0, "young")));
    assert_eq!(get(mount.path("b/c")), "cccc");
    // Nothing is left to do: silence with -q, and a code only where it is wanted.
    let again = ran(&mut mount.tierfs_with(&["migrate", "-q", "--older-than", "1y", text(&root)]));
    assert_eq!(again.ended(0), [""; 0]);
    let again =
        ran(&mut mount.tierfs_with(&["migrate", "-q", "--error-on-no-move", "--older-than", "1y", text(&root)]));
    assert_eq!(again.ended(4), [""; 0]);
}

/// JSON, the report, the history and the way back; a path in the mount restricts the run.
#[test]
fn what_was_moved_is_told_and_taken_back() {
    let Some(mount) = aged().mount() else { return };
    let report = mount.home().join("report.csv");
    let b = mount.path("b");
    let moved =
        ran(&mut mount.tierfs_with(&["migrate", "--json", "--older-than", "1y", "--report", text(&report), text(&b)]));
    let lines: Vec<serde_json::Value> =
        moved.ended(0).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["event"], &lines[0]["path"], &lines[0]["to"]),
        (&"moved".into(), &"b/c".into(), &"secondary".into())
    );
    assert_eq!((&lines[1]["event"], &lines[1]["moved"], &lines[1]["bytes"]), (&"summary".into(), &1.into(), &4.into()));
    let report = get(report);
    let rows: Vec<&str> = report.lines().collect();
    assert_eq!(rows[0], "path,from,to,bytes,age,result,reason");
    assert!(rows[1].starts_with("b/c,primary,secondary,4,") && rows[1].ends_with(",moved,"), "{}", rows[1]);
    let run = lines[1]["run"].as_str().expect("a name");
    let root = mount.root();
    let history = ran(&mut mount.tierfs_with(&["history", text(&root)]));
    assert!(history.ended(0)[0].starts_with(run), "{}", history.out);
    let history = ran(&mut mount.tierfs_with(&["history", run, text(&root)]));
    assert_eq!(history.ended(0), ["b/c: primary -> secondary (4B)"]);
    let undone = ran(&mut mount.tierfs_with(&["recall", "--run", run, text(&root)]));
    assert_eq!(timeless(undone.ended(0)[0]), "moved 1 file, 4B, from secondary to primary;");
    assert!(exists(mount.tier(0, "b/c")) && !exists(mount.tier(1, "b/c")));
    ran(&mut mount.tierfs_with(&["recall", "--run", "20000101T000000-ffff", text(&root)]))
        .refused(1, "20000101T000000-ffff");
    // Excluded, limited, and named relative to the mount.
    let excluded = ["migrate", "--older-than", "1y", "--exclude", "b", "--exclude", "a", text(&root)];
    assert!(ran(&mut mount.tierfs_with(&excluded)).ended(0)[0].starts_with("moved nothing"));
    let limited =
        ran(&mut mount.tierfs_with(&["migrate", "--older-than", "1y", "--limit", "1", text(&root), "a", "b"]));
    assert!(limited.ended(8)[0].ends_with("stopped at a limit"), "{}", limited.out);
    ran(&mut mount.tierfs_with(&["migrate", "--older-than", "1y", "--to", "primary", text(&root)])).ended(0);
    let history = ran(&mut mount.tierfs_with(&["history", text(&root)]));
    let lines = history.ended(0);
    let ends: Vec<&str> = lines.iter().filter_map(|line| Some(line.rsplit_once("  ")?.1)).collect();
    let undo = format!("undo {run}");
    assert_eq!(ends, ["migrate", &undo, "migrate; stopped before its end", "migrate to primary"], "{lines:?}");
}

/// A path is what a shell completes, or begins at what was named with the union, or at the top.
#[test]
fn paths_are_found_from_where_the_user_is() {
    let setup = Setup::new().seed(|tiers| {
        for name in ["a/b/f", "a/old2/f", "c/f", "d"] {
            old(tiers[0].join(name), "x");
        }
    });
    let Some(mount) = setup.mount() else { return };
    let (root, home) = (mount.root(), mount.home().to_path_buf());
    let spec = crate::common::mount::spec(mount.roots());
    let spec = spec.to_str().expect("UTF-8");
    for (from, union, paths, moved) in [
        (&home, "mnt/a", &["a/b"][..], &["a/b/f"][..]),
        (&home, "mnt/a", &["b"], &["a/b/f"]),
        (&home, "mnt/a", &["./b", "c"], &["a/b/f", "c/f"]),
        (&home, "mnt/a", &["mnt/c"], &["c/f"]),
        (&home, "mnt/a", &[text(&mount.path("d"))], &["d"]),
        (&home, "mnt/a", &[], &["a/b/f", "a/old2/f"]),
        (&mount.path("a"), ".", &["old2"], &["a/old2/f"]),
        (&mount.path("a"), text(&root), &["../c"], &["c/f"]),
        (&mount.path("a"), "b", &["c"], &["c/f"]),
        (&home, spec, &["a/b"], &["a/b/f"]),
    ] {
        let mut command = mount.tierfs_with(&["migrate", "-n", "--older-than", "1y", union]);
        let dry = ran(command.args(paths).current_dir(from));
        let lines = dry.ended(0);
        let mut names: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        names.sort_unstable();
        assert_eq!(names, moved, "{union} {paths:?}: {lines:?}");
    }
    for words in [&["check"][..], &["migrate", "--older-than", "1y"]] {
        for union in [text(&root), spec] {
            let mut command = mount.tierfs_with(words);
            ran(command.args([union, "nosuch"])).refused(1, "nosuch: there is no such file");
        }
    }
    let setup = mount.unmount();
    let mut alone = std::process::Command::new(crate::common::mount::program());
    alone.args(["check", spec, "nosuch"]).env("TIERFS_RUNTIME_DIR", setup.runtime_dir());
    ran(&mut alone).refused(1, "nosuch: there is no such file");
}

/// A file that a program has open stays and is counted; the policy of the configuration decides
/// where nothing else is said.
#[test]
fn files_in_use_stay_and_are_counted() {
    let Some(mount) = aged().mount() else { return };
    let file = open(mount.path("a"), rustix::fs::OFlags::RDONLY, 0).expect("open");
    let root = mount.root();
    let skipped = ran(&mut mount.tierfs_with(&["migrate", "-v", "--older-than", "1y", text(&root)]));
    let lines = skipped.ended(0);
    assert!(lines.contains(&"a: stays: in use"), "{lines:?}");
    assert!(lines[2].contains("; skipped 1 in use"), "{lines:?}");
    let explained = ran(&mut mount.tierfs_with(&["explain", "--older-than", "1y", text(&mount.path("a"))]));
    let own = format!("(process {})", std::process::id());
    assert!(explained.ended(0).iter().any(|line| line.contains("in use") && line.contains(&own)), "{}", explained.out);
    assert!(explained.out.contains("would move to secondary, but stays: a program has it open"), "{}", explained.out);
    drop(file);
    let all = ran(&mut mount.tierfs_with(&["recall", text(&mount.path("b/c")), text(&mount.path("a"))]));
    assert!(all.ended(0)[0].starts_with("moved 1 file"), "{}", all.out);
}

/// Without a mount the command moves by itself; a mount whose socket it cannot find keeps it out.
#[test]
fn a_command_alone_moves_and_gives_way_to_a_mount() {
    let Some(mount) = aged().mount() else { return };
    let [fast, slow] = [0, 1].map(|rank| mount.roots()[rank].clone());
    let spec = format!("{}:{}", fast.display(), slow.display());
    let config = mount.home().join("docs.yaml");
    let policy = "version: 1\nrules:\n  - {name: cold, older_than: 1y, action: demote}\n";
    put(mount.home().join("policy.yaml"), policy);
    let text_of = format!(
        "version: 1\nprimary: {{path: {}}}\nsecondary: {{path: {}}}\npolicy: policy.yaml\n",
        fast.display(),
        slow.display()
    );
    put(&config, text_of);
    // By the id of the union the running mount is found, and does it.
    let found = ran(&mut mount.tierfs_with(&["migrate", "--older-than", "1y", &spec, "b"]));
    assert!(found.ended(0)[0].starts_with("moved 1 file"), "{}", found.out);
    let elsewhere = mount.home().join("elsewhere");
    let mut lost = mount.tierfs_with(&["migrate", "--older-than", "1y", &spec]);
    ran(lost.env("TIERFS_RUNTIME_DIR", elsewhere)).refused(75, "another tierfs is at work on it");
    assert!(exists(mount.tier(0, "a")), "moved beside the mount");
    let setup = mount.unmount();
    assert_eq!(crate::common::fs::names(setup.runtime_dir()).len(), 0, "the socket is gone");
    let mut alone = std::process::Command::new(crate::common::mount::program());
    alone.args(["migrate", text(&config)]).env("TIERFS_RUNTIME_DIR", setup.runtime_dir());
    let alone = ran(&mut alone);
    assert!(alone.ended(0)[0].starts_with("moved 1 file, 2B, from primary to secondary"), "{}", alone.out);
    assert_eq!(get(slow.join("a")), "aa");
}

/// The report of the last run stays where a run is refused.
#[test]
fn a_refused_run_leaves_the_report_of_the_last() {
    let Some(mount) = aged().mount() else { return };
    let report = mount.home().join("report.csv");
    put(&report, "of the last run");
    let root = mount.root();
    let words = ["migrate", "--older-than", "1y", "--to", "tier5", "--report", text(&report), text(&root)];
    ran(&mut mount.tierfs_with(&words)).refused(78, "tier5");
    assert_eq!(get(&report), "of the last run");
    ran(&mut mount.tierfs_with(&["migrate", "--older-than", "1y", "--report", text(&report), text(&root)])).ended(0);
    assert_eq!(get(&report).lines().count(), 3);
    assert!(crate::common::fs::names(mount.home()).iter().all(|name| !name.to_string_lossy().ends_with(".part")));
}

/// A run that takes long: one big file at a mebibyte a second.
fn long_run(mount: &TestMount) -> Child {
    let root = mount.root();
    let mut command = mount.tierfs_with(&["migrate", "--older-than", "1y", "--bwlimit", "1MiB", text(&root)]);
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = piped.spawn().expect("spawn");
    let staging = mount.tier(1, ".tierfs/staging");
    let copying = || std::fs::read_dir(&staging).is_ok_and(|mut names| names.next().is_some());
    wait::until("the run is at work", || copying().then_some(()));
    child
}

fn big() -> Setup {
    Setup::new().seed(|tiers| old(tiers[0].join("big"), &"x".repeat(256 << 20)))
}

/// Of two runs without a mount the second is told of the first, and not of a mount.
#[test]
fn a_second_run_without_a_mount_is_told_who_is_at_work() {
    let Some(mount) = big().mount() else { return };
    let setup = mount.unmount();
    let spec = crate::common::mount::spec(&[setup.tier(0).to_path_buf(), setup.tier(1).to_path_buf()]);
    let alone = || {
        let mut command = setup.tierfs();
        command.args(["migrate", "--older-than", "1y", "--bwlimit", "1MiB"]).arg(&spec);
        command
    };
    let mut first = alone().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("spawn");
    let staging = setup.tier(1).join(".tierfs/staging");
    let copying = || std::fs::read_dir(&staging).is_ok_and(|mut names| names.next().is_some());
    wait::until("the run is at work", || copying().then_some(()));
    let second = ran(&mut alone());
    let history = ran(setup.tierfs().arg("history").arg(&spec));
    first.kill().expect("kill");
    first.wait().expect("wait");
    second.refused(75, "another tierfs is at work on it, a mount or a run");
    assert!(history.ended(0)[0].ends_with("; at work"), "{}", history.out);
    let history = ran(setup.tierfs().arg("history").arg(&spec));
    assert!(history.ended(0)[0].ends_with("; cut short"), "{}", history.out);
}

/// Ctrl-C ends a run with a summary and a code of its own; meanwhile another run is refused, and
/// questions are answered.
#[test]
fn a_run_is_ended_by_ctrl_c() {
    let Some(mount) = big().mount() else { return };
    let child = long_run(&mount);
    let root = mount.root();
    ran(&mut mount.tierfs_with(&["migrate", "--older-than", "1y", text(&root)])).refused(75, "another run is at work");
    ran(&mut mount.tierfs_with(&["explain", "--older-than", "1y", text(&mount.path("big"))])).ended(0);
    let history = ran(&mut mount.tierfs_with(&["history", text(&root)]));
    assert!(history.ended(0)[0].ends_with("  migrate; at work"), "{}", history.out);
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("kill");
    let ended = Ran::of(&child.wait_with_output().expect("wait"));
    assert!(ended.ended(130)[0].contains("; interrupted"), "{}{}", ended.out, ended.err);
    assert!(exists(mount.tier(0, "big")) && !exists(mount.tier(1, "big")), "not half moved");
}

/// A command that is killed takes its run with it, and the end of the mount ends a run.
#[test]
fn a_run_ends_with_its_command_and_with_the_mount() {
    let Some(mount) = big().mount() else { return };
    let mut child = long_run(&mount);
    child.kill().expect("kill");
    child.wait().expect("wait");
    let root = mount.root();
    wait::until("the next run is let in", || {
        let next = ran(&mut mount.tierfs_with(&["migrate", "-n", "--older-than", "1y", text(&root)]));
        (next.code == Some(0)).then_some(())
    });
    let child = long_run(&mount);
    let setup = mount.unmount();
    let ended = Ran::of(&child.wait_with_output().expect("wait"));
    assert_eq!(ended.code, Some(130), "{}{}", ended.out, ended.err);
    assert!(exists(setup.tier(0).join("big")) && !exists(setup.tier(1).join("big")), "not half moved");
}

/// Whether the tests are root decides whether some of them can be.
#[test]
fn an_ordinary_user_migrates_in_a_mount_of_his_own() {
    let Some([user, _]) = crate::common::user::User::two() else { return };
    if need::programs(["setpriv", "fusermount3"]).is_none() {
        return;
    }
    let setup = aged().by(&user);
    let runtime = setup.runtime_dir();
    for name in ["a", "b", "b/c", "young"] {
        std::os::unix::fs::chown(setup.tier(0).join(name), Some(user.uid), Some(user.gid)).expect("chown");
    }
    let Some(mount) = setup.mount() else { return };
    let mut command = user.command(mount.home().join("tierfs"));
    command.args(["migrate", "--older-than", "1y"]).arg(mount.root()).env("TIERFS_RUNTIME_DIR", &runtime);
    let moved = ran(&mut command);
    assert!(moved.ended(0)[0].starts_with("moved 2 files"), "{}", moved.out);
    assert!(exists(mount.tier(1, "b/c")));
}
