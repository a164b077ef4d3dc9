//! `tierfs doctor` and `tierfs collect-info` on real mounts, with troubles planted one by one: each is
//! told, and nothing is told where there is none. As root and as an ordinary user.

#[path = "../common/mod.rs"]
mod common;

mod collect;
mod planted;
mod quiet;
mod unanswered;

use std::ffi::OsStr;
use std::process::Command;

use common::mount::TestMount;
use serde_json::Value;

/// What doctor has said.
struct Said {
    code: Option<i32>,
    list: Vec<Value>,
}

impl Said {
    /// Runs `tierfs doctor --json` with these words.
    ///
    /// It waits a few seconds for each answer: what a busy machine holds up for longer is asked again.
    fn by(command: &mut Command, words: &[&OsStr]) -> Said {
        command.args(["doctor", "--json"]).args(words);
        let late = |said: &Said| said.list.iter().any(|value| value.to_string().contains("does not answer"));
        (0..5).map(|_| Said::run(command)).find(|said| !late(said)).unwrap_or_else(|| Said::run(command))
    }

    /// The same where something is not to answer.
    fn once(command: &mut Command, words: &[&OsStr]) -> Said {
        Said::run(command.args(["doctor", "--json"]).args(words))
    }

    fn run(command: &mut Command) -> Said {
        let output = common::wait::output(command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{told}"));
        Said { code: output.status.code(), list: value.as_array().expect("an array").clone() }
    }

    /// About a mount.
    fn of(mount: &TestMount) -> Said {
        Said::by(&mut mount.tierfs(), &[mount.root().as_os_str()])
    }

    /// The level and the words of what a check has found, if it was more than fine.
    fn told(&self, check: &str) -> Option<(&str, &str)> {
        let mut of_check = self.list.iter().filter(|value| value["check"] == check && value["level"] != "fine");
        of_check.next().map(|value| (value["level"].as_str().expect("text"), value["found"].as_str().expect("text")))
    }

    /// All that was told and must be mended.
    fn troubles(&self) -> Vec<&Value> {
        self.list.iter().filter(|value| ["warning", "trouble"].iter().any(|level| value["level"] == *level)).collect()
    }
}
