//! The commands of the migrator on real mounts: what they print, how they exit, who may call them.

#[path = "../common/mod.rs"]
mod common;

mod explain;
mod names;
mod pins;
mod refused;
mod runs;
mod window;

use std::process::{Command, Output};

use common::wait;

/// How a command ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Asserts the exit code and gives what it printed, line by line.
    fn ended(&self, code: i32) -> Vec<&str> {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self.out.lines().collect()
    }

    /// Asserts that it failed with `code` and one line that holds `says`.
    fn refused(&self, code: i32, says: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert_eq!(self.err.lines().count(), 1, "one line: {}", self.err);
        assert!(self.err.starts_with("tierfs: ") && self.err.contains(says), "{says:?} is not in: {}", self.err);
    }
}

fn ran(command: &mut Command) -> Ran {
    Ran::of(&wait::output(command))
}

/// A summary without how long it took.
fn timeless(summary: &str) -> String {
    let (before, after) = summary.split_once(" in ").expect("a summary");
    let rest = after.split_once(';').map_or("", |(_, rest)| rest);
    format!("{before};{rest}")
}
