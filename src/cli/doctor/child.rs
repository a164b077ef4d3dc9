//! Questions that may never be answered, asked by a process of its own, which is given up after a while.
//!
//! A thread would not do: one that the kernel holds in a dead filesystem keeps its whole process, and
//! whoever reads what that prints, from ending.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::doctor::facts::Asked;
use crate::sys::process::Process;

/// How long a tier, a mount or a program may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// More than any answer needs.
const ANSWER_LEN_MAX: u64 = 4 << 20;

/// What a command prints, and whether it succeeded.
pub(crate) fn output(command: &mut Command, patience: Duration) -> Asked<(bool, Vec<u8>)> {
    let begun = Instant::now();
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match piped.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => return Asked::Refused("is not installed".into()),
        Err(error) => return Asked::Refused(error.to_string()),
    };
    let (send, answer) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = pipe.take(ANSWER_LEN_MAX).read_to_end(&mut bytes);
            // Whoever asked may have given up.
            let _ = send.send(read.map(|_| bytes));
        });
    }
    let read = answer.recv_timeout(patience);
    let left = patience.saturating_sub(begun.elapsed()).max(Duration::from_millis(100));
    let ended = i32::try_from(child.id()).ok().and_then(|pid| Process::hold(pid).ok());
    let ended = ended.is_some_and(|process| process.has_ended_within(left).unwrap_or(false));
    match (read, ended) {
        (Ok(Ok(bytes)), true) => match child.wait() {
            Ok(status) => Asked::Told((status.success(), bytes)),
            Err(error) => Asked::Refused(error.to_string()),
        },
        (Ok(Err(error)), _) => Asked::Refused(error.to_string()),
        _ => {
            // It is not waited for: it may be one that cannot end.
            let _ = child.kill();
            Asked::Silent
        }
    }
}

/// Has this program answer one question about something that may hang.
pub(crate) fn ask<T: DeserializeOwned>(question: &str, words: &[impl AsRef<OsStr>], patience: Duration) -> Asked<T> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["doctor", "--probe", question, "--"]).args(words).env_remove("TIERFS_LOG");
    match output(&mut command, patience) {
        Asked::Told((true, bytes)) => match serde_json::from_slice::<Result<T, String>>(&bytes) {
            Ok(Ok(answer)) => Asked::Told(answer),
            Ok(Err(why)) => Asked::Refused(why),
            Err(error) => Asked::Refused(format!("the answer cannot be read: {error}")),
        },
        Asked::Told((false, _)) => Asked::Refused("the question could not be asked".into()),
        Asked::Refused(why) => Asked::Refused(why),
        Asked::Silent => Asked::Silent,
    }
}

/// Where a program is that is called by its name.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let mut files = std::env::split_paths(&path).chain(system).map(|folder| folder.join(program));
    files.find(|file: &PathBuf| Path::is_file(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_answer_is_given_up() {
        let told = output(Command::new("sh").args(["-c", "echo a; exit 3"]), Duration::from_secs(60));
        assert_eq!(told, Asked::Told((false, b"a\n".to_vec())));
        let begun = Instant::now();
        assert_eq!(output(Command::new("sleep").arg("60"), Duration::from_millis(50)), Asked::Silent);
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert_eq!(output(&mut Command::new("/no/such/program"), PATIENCE), Asked::Refused("is not installed".into()));
    }
}
