//! Stopping a program at one of its system calls, or having one fail, by strace.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// Calls that change something, or prove something. Kills come before the call is made.
pub(crate) const CHANGING: &[&str] = &[
    "renameat2",
    "linkat",
    "unlinkat",
    "fsync",
    "fdatasync",
    "syncfs",
    "openat",
    "write",
    "pwrite64",
    "setxattr",
    "fsetxattr",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "utimensat",
    "mkdirat",
    "ftruncate",
    "fallocate",
    "sync_file_range",
];

/// Calls of which a failure has other consequences than of those.
pub(crate) const ASKING: &[&str] =
    &["statx", "fstatfs", "fgetxattr", "getxattr", "flistxattr", "pread64", "lseek", "getdents64", "fcntl"];

/// One call of one thread: the name and which one, counted from one.
pub(crate) type At = (String, usize);

/// `strace` with its arguments, before the program's own.
fn strace(arguments: &[String], log: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(log).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The same command under strace.
pub(crate) fn under(command: &Command, arguments: &[String], log: &Path) -> Command {
    let mut strace = strace(arguments, log);
    strace.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        let value: OsString = value.unwrap_or_default().to_owned();
        strace.env(key, value);
    }
    strace
}

/// The arguments that kill at a call.
pub(crate) fn kill(at: &At) -> Vec<String> {
    let (call, when) = at;
    vec!["-e".into(), format!("trace={call}"), "-e".into(), format!("inject={call}:signal=SIGKILL:when={when}")]
}

/// The arguments that have a call fail; all later ones too if `on`.
pub(crate) fn fail(at: &At, errno: &str, on: bool) -> Vec<String> {
    let (call, when) = at;
    let plus = if on { "+" } else { "" };
    vec!["-e".into(), format!("trace={call}"), "-e".into(), format!("inject={call}:error={errno}:when={when}{plus}")]
}

/// Which calls a command makes: for each name, the most that one thread makes.
pub(crate) fn census(command: &Command, calls: &[&str], log: &Path) -> (BTreeMap<String, usize>, ExitStatus) {
    let arguments = ["-e".to_owned(), format!("trace={}", calls.join(","))];
    let output = under(command, &arguments, log).output().expect("strace runs");
    (count(log), output.status)
}

/// Counts what a log of strace tells.
pub(crate) fn count(log: &Path) -> BTreeMap<String, usize> {
    let mut of_thread: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in String::from_utf8_lossy(&std::fs::read(log).expect("log of strace")).lines() {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(rest)) = (words.next(), words.next()) else { continue };
        if let Some((call, _)) = rest.split_once('(') {
            // strace has no names for the newest calls, and cannot stop at one without.
            if call.starts_with("syscall_") {
                continue;
            }
            *of_thread.entry((thread.to_owned(), call.to_owned())).or_default() += 1;
        }
    }
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for ((_, call), made) in of_thread {
        let now = most.entry(call).or_default();
        *now = made.max(*now);
    }
    most
}

/// Whether strace reports that the program was killed as it was told.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9) || status.code() == Some(137)
}
