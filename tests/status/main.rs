//! What an administrator sees: `tierfs status` and `tierfs top`, on real mounts that serve, hang and are dead.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[path = "../common/mod.rs"]
mod common;

mod configured;
mod monitoring;
mod mounts;
mod top;

use std::process::Command;

use common::mount::TestMount;
use common::ran::Ran;
use common::wait;

impl Ran {
    /// Asserts the exit code and gives all that was printed.
    fn ended(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        &self.out
    }

    /// Asserts the exit code and that what was printed holds each of these.
    fn says(&self, code: i32, says: &[&str]) {
        let out = self.ended(code);
        for text in says {
            assert!(out.contains(text), "{text:?} is not in:\n{out}");
        }
    }

    /// The one JSON object that was printed.
    fn object(&self) -> serde_json::Value {
        let out = self.ended(0);
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(out).unwrap()
    }
}

fn ran(command: &mut Command) -> Ran {
    // Configurations of this machine are none of the tests'.
    for key in ["TIERFS_CONFIG_DIR", "TIERFS_FSTAB", "TIERFS_CRON"] {
        if !command.get_envs().any(|(set, _)| set == key) {
            command.env(key, "/nonexistent");
        }
    }
    Ran::of(&wait::output(command))
}

/// `tierfs status` of this mount alone, with more options. After two seconds it gives up what a busy machine holds up:
/// then it is asked again.
fn status(mount: &TestMount, more: &[&str]) -> Ran {
    wait::until("every tier answers", || {
        let ran = status_once(mount, more);
        let late = ["does not answer", "SILENT", "\"silent\""].iter().any(|word| ran.out.contains(word));
        (!late).then_some(ran)
    })
}

/// The same, asked once.
fn status_once(mount: &TestMount, more: &[&str]) -> Ran {
    let root = mount.root();
    let mut command = mount.tierfs_with(&["status", root.to_str().unwrap()]);
    ran(command.args(more))
}

/// Waits until the status of a mount is so.
fn eventually(mount: &TestMount, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    wait::until(what, || Some(status(mount, &["--json"]).object()).filter(&is_so))
}
