//! Waiting for something that happens by itself: always with a deadline, never a fixed pause.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything that should happen "at once" may take on a loaded machine. Only what fails takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Asks `look` again and again until it answers or `PATIENCE` is over.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    match within(PATIENCE, &mut look) {
        Some(answer) => answer,
        None => panic!("waited {} s in vain: {what}", PATIENCE.as_secs()),
    }
}

/// Asks `look` again and again until it answers or `limit` is over.
pub(crate) fn within<T>(limit: Duration, look: impl FnMut() -> Option<T>) -> Option<T> {
    within_steps(limit, Duration::from_millis(4), look)
}

/// The same where a look is dear: with that `pause` between two.
pub(crate) fn within_steps<T>(limit: Duration, pause: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = look() {
            return Some(answer);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(pause);
    }
}

/// Waits until a daemon that serves has written all that it had to say before this: a thread of its own, called `log`,
/// does that, and sleeps only while nothing waits to be written.
///
/// That thread has its name only once it has run, so one that is not seen is waited for. Words that must be there are
/// better waited for themselves (`TestMount::until_said`).
pub(crate) fn all_said(daemon: u32) {
    // One that never stops talking is read as it is.
    let _written = within(Duration::from_secs(20), || {
        let tasks = std::fs::read_dir(format!("/proc/{daemon}/task")).into_iter().flatten().flatten();
        let stats: Vec<String> =
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok()).collect();
        let has_ended = stats.iter().all(|stat| stat.contains(") Z "));
        let mut logs = stats.iter().filter(|stat| stat.contains(" (log) ")).peekable();
        let has_written = logs.peek().is_some() && logs.all(|stat| stat.contains(" (log) S "));
        (has_ended || has_written).then_some(())
    });
}

/// Raises a flag when dropped, by a panic, too: threads that go on until then would otherwise keep their scope for ever.
pub(crate) struct AtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits a while until no other process can write to a file below `dirs`, for as long as it may take a child of another
/// test to run its program: until then it has copies of what this process had open. So may a FUSE server that has not
/// handled a release. Such a file counts as in use.
pub(crate) fn let_go(dirs: &[impl AsRef<Path>]) {
    let _held_by_the_test = within(Duration::from_secs(5), || (!is_written(dirs)).then_some(()));
}

/// Whether another process has a file below `dirs` open for writing.
fn is_written(dirs: &[impl AsRef<Path>]) -> bool {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let others = processes.filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) && name != *own
    });
    let fds = others.flat_map(|entry| std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten());
    let mut below = fds
        .map(|fd| fd.path())
        .filter(|fd| std::fs::read_link(fd).is_ok_and(|file| dirs.iter().any(|dir| file.starts_with(dir.as_ref()))));
    below.any(|fd| {
        let info = fd.to_string_lossy().replace("/fd/", "/fdinfo/");
        let info = std::fs::read_to_string(info).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default().trim();
        u32::from_str_radix(flags, 8).is_ok_and(|flags| flags & 3 != 0)
    })
}

/// Runs a command that must end by itself soon; one that does not is killed, and the test fails.
pub(crate) fn output(command: &mut Command) -> Output {
    output_within(PATIENCE, command)
}

/// The same for a command that may take longer.
pub(crate) fn output_within(limit: Duration, command: &mut Command) -> Output {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // Read meanwhile: who writes more than a pipe holds would wait for ever.
    let (stdout, stderr) = (reading(child.stdout.take()), reading(child.stderr.take()));
    let ended = within(limit, || child.try_wait().expect("wait"));
    let Some(status) = ended else {
        child.kill().expect("kill");
        child.wait().expect("wait");
        panic!("did not end: {command:?}");
    };
    let [stdout, stderr] = [stdout, stderr].map(|reader| reader.join().expect("a reader"));
    Output { status, stdout, stderr }
}

/// All that comes out of a pipe, to its end.
fn reading(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _killed = pipe.map(|mut pipe| pipe.read_to_end(&mut all));
        all
    })
}
