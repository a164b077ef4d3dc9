//! SQLite in several processes: locks on ranges, a mapped `-shm`, logs that come and go.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::need;
use crate::moving::{all_down, all_up, ends_clean, over, run, while_moving};

const WRITERS: usize = 2;
const ROWS: usize = 20;

fn sqlite(words: &[&str], base: &Path) -> Command {
    let mut command = Command::new(need::PYTHON);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/sqlite.py"));
    command.arg(words[0]).arg(base).args(&words[1..]);
    command
}

fn spawn(words: &[&str], base: &Path) -> Child {
    let mut command = sqlite(words, base);
    // What it says of a failure is told with it.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3 runs")
}

/// The acknowledged rows of a writer that has ended well.
fn acknowledged(child: Child) -> usize {
    let output = child.wait_with_output().expect("wait");
    assert!(output.status.success(), "a process failed: {output:?}");
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with("ok ")).count()
}

/// Some writers and readers at once; every row that was acknowledged is there afterwards.
fn write_and_read(base: &Path, journal: &str, round: usize) {
    let writers: Vec<Child> = (0..WRITERS)
        .map(|writer| {
            let (number, rows) = ((round * WRITERS + writer).to_string(), ROWS.to_string());
            spawn(&["write", journal, &number, &rows], base)
        })
        .collect();
    let readers = [spawn(&["read"], base), spawn(&["read"], base)];
    let done: Vec<usize> = writers.into_iter().map(acknowledged).collect();
    assert_eq!(done, vec![ROWS; WRITERS]);
    for reader in readers {
        // Its input ends here.
        let output = reader.wait_with_output().expect("wait");
        assert!(output.status.success(), "a reader failed: {output:?}");
    }
    all_rows(base, (round + 1) * WRITERS);
}

#[track_caller]
fn all_rows(base: &Path, writers: usize) {
    let wanted: String = (0..writers).map(|writer| format!("{writer} {ROWS} 0 {}\n", ROWS - 1)).collect();
    assert_eq!(run(&mut sqlite(&["check"], base)), wanted);
}

/// Killed in the middle of a change: what its log says is undone or done by the next who opens the
/// database, wherever the files are by then.
fn killed_and_moved(base: &Path, writers: usize, move_all: impl FnOnce()) {
    let mut child = spawn(&["hang"], base);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("its words");
    assert_eq!(line, "begun\n");
    child.kill().expect("kill");
    child.wait().expect("wait");
    move_all();
    all_rows(base, writers);
}

#[test]
fn sqlite_loses_no_row_and_shows_no_half_of_a_change() {
    if need::programs([need::PYTHON]).is_none() {
        return;
    }
    for (journal, option) in [("wal", "passthrough"), ("delete", "passthrough"), ("wal", "nopassthrough")] {
        let Some((_tiers, mount)) = over(["tmpfs", "ext4"], 256, &[option]) else { return };
        let base = mount.path("base/data.db");
        std::fs::create_dir(mount.path("base")).expect("mkdir");
        let rounds = while_moving(&mount, |moves| {
            let mut done = 0;
            moves.rounds(2, 2, |round| {
                write_and_read(&base, journal, round);
                done = round + 1;
                moves.rest();
            });
            done
        });
        killed_and_moved(&base, rounds * WRITERS, || all_down(&mount));
        killed_and_moved(&base, rounds * WRITERS, || all_up(&mount));
        ends_clean(mount);
    }
}
