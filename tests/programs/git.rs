//! git: many small files, renames, hashes of everything, and an index full of inode numbers and times.

use std::fmt::Write;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::fs::put;
use crate::common::need;
use crate::moving::{all_down, all_up, ends_clean, on_disks, run, while_moving};

fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    // Neither the machine's nor the user's settings.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
    for key in ["user.name=somebody", "user.email=somebody@localhost", "safe.directory=*", "gc.auto=0"] {
        command.args(["-c", key]);
    }
    command.arg("-C").arg(folder);
    command
}

fn does(folder: &Path, words: &[&str]) -> String {
    run(git(folder).args(words))
}

/// A repository with some thousand objects, made in one go.
fn make_source(at: &Path) {
    std::fs::create_dir(at).expect("mkdir");
    does(at, &["init", "-q", "--bare", "-b", "main"]);
    let mut stream = String::new();
    for commit in 0..120 {
        let _ = write!(
            stream,
            "commit refs/heads/main\ncommitter somebody <s@localhost> {} +0000\n",
            1_600_000_000 + commit
        );
        let _ = writeln!(stream, "data 2\nc{}", commit % 10);
        for file in 0..5 {
            let text = format!("line {commit} {file}\n").repeat(1 + commit % 40);
            let path = format!("src/part{}/file{}", (commit + file) % 12, (commit * 7 + file) % 60);
            let _ = write!(stream, "M 100644 inline {path}\ndata {}\n{text}\n", text.len());
        }
    }
    let mut child = git(at).args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().expect("git runs");
    child.stdin.take().expect("piped").write_all(stream.as_bytes()).expect("the stream");
    assert!(child.wait().expect("wait").success());
}

/// Commits, packs, prunes and proves a clone.
fn work(clone: &Path, round: usize) {
    for commit in 0..3 {
        for file in 0..6 {
            put(clone.join(format!("new/{file}/{commit}")), format!("{round} {commit} {file}\n").repeat(200 * file));
        }
        put(clone.join("src/part1/changed"), format!("{round} {commit}"));
        does(clone, &["add", "-A"]);
        does(clone, &["commit", "-q", "-m", "more"]);
        assert_eq!(does(clone, &["status", "--porcelain"]), "");
    }
    does(clone, &["gc", "-q", "--prune=now"]);
    does(clone, &["fsck", "--full", "--strict"]);
    does(clone, &["checkout", "-q", "HEAD~60"]);
    does(clone, &["checkout", "-q", "-"]);
    assert_eq!(does(clone, &["status", "--porcelain"]), "");
}

/// `diff-files` compares what `stat` says with the index and reads nothing.
#[track_caller]
fn index_holds(clone: &Path, when: &str) {
    assert_eq!(does(clone, &["diff-files"]), "", "{when}");
    let index = std::fs::read(clone.join(".git/index")).expect("the index");
    assert_eq!(does(clone, &["update-index", "--refresh"]), "", "{when}");
    assert_eq!(does(clone, &["status", "--porcelain"]), "", "{when}");
    assert!(
        std::fs::read(clone.join(".git/index")).expect("the index") == index,
        "{when}: git has refreshed its index"
    );
}

#[test]
fn git_clones_commits_packs_and_proves_and_sees_no_file_changed() {
    if need::programs(["git"]).is_none() {
        return;
    }
    let Some((_tiers, mount)) = on_disks(512, &[]) else { return };
    let source = mount.home().join("source");
    make_source(&source);
    let url = format!("file://{}", source.display());
    while_moving(&mount, |moves| {
        moves.rounds(2, 20, |round| {
            let name = format!("clone{round}");
            does(&mount.root(), &["clone", "-q", &url, &name]);
            work(&mount.path(&name), round);
        });
    });
    let clone = mount.path("clone0");
    all_up(&mount);
    // Files as young as the index are read to be sure; from the second look on they are not.
    does(&clone, &["read-tree", "HEAD"]);
    does(&clone, &["update-index", "--refresh"]);
    let head = does(&clone, &["rev-parse", "HEAD"]);
    index_holds(&clone, "before the moves");
    for when in ["down", "up"] {
        if when == "down" {
            all_down(&mount)
        } else {
            all_up(&mount)
        }
        index_holds(&clone, when);
        does(&clone, &["fsck", "--full", "--strict"]);
    }
    let mount = mount.remount();
    index_holds(&clone, "after a remount");
    assert_eq!(does(&clone, &["rev-parse", "HEAD"]), head);
    ends_clean(mount);
}
