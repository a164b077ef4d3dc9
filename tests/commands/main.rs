//! The commands of the migrator on real mounts: what they print, how they exit, who may call them.

#[path = "../common/mod.rs"]
mod common;

mod explain;
mod names;
mod pins;
mod refused;
mod runs;
mod window;

use std::process::Command;

use common::ran::Ran;
use common::wait;

impl Ran {
    /// Asserts the exit code and gives what it printed, line by line.
    fn ended(&self, code: i32) -> Vec<&str> {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self.out.lines().collect()
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
