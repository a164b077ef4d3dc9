//! Where messages go: standard error in the foreground, the journal under systemd, the system log
//! in the background. The one file that names the subscriber.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// A filter as tracing-subscriber's `EnvFilter` reads it; overrides `-v`.
const VARIABLE: &str = "TIERFS_LOG";

/// Where the system log listens.
const SYSLOG: &str = "/dev/log";

/// Facility `daemon` of `syslog(3)`.
const FACILITY: u8 = 3 << 3;

/// Whether standard error is gone.
static DETACHED: AtomicBool = AtomicBool::new(false);

/// Messages that wait for a reader of standard error. What comes beyond that is dropped and counted.
const WAITING_MAX: usize = 1024;

/// How long the end of the process waits for a reader that takes nothing.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How often the end of the process looks whether something was taken.
const LOOK: Duration = Duration::from_millis(10);

/// What writes to standard error, once requests are served.
static WRITER: OnceLock<Waiting> = OnceLock::new();

/// Starts logging. `verbosity` counts the `-v`: 1 shows what happens, 2 why, 3 everything.
///
/// # Errors
/// One line if `TIERFS_LOG` is no filter.
pub fn start(verbosity: u8) -> Result<(), String> {
    let level = ["info", "info", "debug", "trace"][usize::from(verbosity.min(3))];
    let asked = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = match &asked {
        Some(text) => EnvFilter::try_new(text)
            .map_err(|error| format!("{VARIABLE}={text}: {error}: write for example info, or tierfs=debug"))?,
        // A reply that comes after its request was given up, as at every unmount in use, is no fault.
        None => EnvFilter::new(format!("warn,fuser::reply=off,tierfs={level}")),
    };
    let output = Output {
        journal: is_journal(),
        dated: io::stderr().is_terminal() && verbosity > 0,
        quiet: verbosity == 0 && asked.is_none(),
    };
    let plain = Plain { dated: output.dated };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    // A second start, as in tests, keeps the first one's output.
    let _ = builder.event_format(plain).with_writer(output).try_init();
    Ok(())
}

/// From now on there is no standard error: messages go to the system log.
pub fn detach() {
    DETACHED.store(true, Ordering::Relaxed);
}

/// From now on nobody waits for whoever reads standard error, which may be a program that waits for this very
/// filesystem: a thread of its own writes there.
pub fn queue() {
    let (waiting, jobs) = Waiting::new(WAITING_MAX);
    let taken = Arc::clone(&waiting.taken);
    let started = std::thread::Builder::new().name("log".into()).spawn(move || write_all(&jobs, &taken, io::stderr));
    match started {
        Ok(_) => drop(WRITER.set(waiting)),
        Err(error) => tracing::warn!("messages may have to wait for their reader: no thread could be started: {error}"),
    }
}

/// Waits until all messages so far are written, or nobody has read any for some seconds. For the end of the process.
pub fn flush() {
    if let Some(waiting) = WRITER.get() {
        let _read_by_somebody = waiting.flush(LAST_WORDS);
    }
}

/// Messages on their way to standard error.
#[derive(Debug)]
struct Waiting {
    queue: SyncSender<Job>,
    /// How many found no room since the last that did.
    dropped: AtomicU64,
    /// How many jobs the writer has done.
    taken: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Job {
    /// How many messages were dropped before this one.
    dropped: u64,
    then: Then,
}

#[derive(Debug)]
enum Then {
    Write(Vec<u8>),
    Tell(std::sync::mpsc::Sender<()>),
}

impl Waiting {
    /// A queue for so many messages, and its other end.
    fn new(room: usize) -> (Waiting, Receiver<Job>) {
        let (queue, jobs) = sync_channel(room);
        (Waiting { queue, dropped: AtomicU64::new(0), taken: Arc::default() }, jobs)
    }

    /// Never waits.
    fn put(&self, line: Vec<u8>) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.queue.try_send(Job { dropped, then: Then::Write(line) })
        {
            self.dropped.fetch_add(job.dropped + 1, Ordering::Relaxed);
        }
    }

    /// Whether all so far was written before the writer had done nothing for as long as `patience`.
    fn flush(&self, patience: Duration) -> bool {
        let (written, is_written) = channel();
        let mut asked = Some(Job { dropped: self.dropped.swap(0, Ordering::Relaxed), then: Then::Tell(written) });
        let (mut taken, mut since) = (self.taken.load(Ordering::Relaxed), Instant::now());
        while since.elapsed() < patience {
            // A full queue gets its question when there is room.
            if let Some(job) = asked.take()
                && let Err(TrySendError::Full(job)) = self.queue.try_send(job)
            {
                asked = Some(job);
            }
            match is_written.recv_timeout(LOOK) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = self.taken.load(Ordering::Relaxed);
            if now != taken {
                (taken, since) = (now, Instant::now());
            }
        }
        self.dropped.fetch_add(asked.map_or(0, |job| job.dropped), Ordering::Relaxed);
        false
    }
}

/// Writes what comes, for as long as something can come, and counts it.
fn write_all<W: Write>(jobs: &Receiver<Job>, taken: &AtomicU64, to: impl Fn() -> W) {
    for Job { dropped, then } in jobs {
        if dropped > 0 {
            // Nobody is left to tell of a failure here.
            let _told = writeln!(to(), "tierfs: warning: {dropped} messages were dropped: nobody read them in time");
        }
        match then {
            Then::Write(line) => drop(to().write_all(&line)),
            Then::Tell(written) => drop(written.send(())),
        }
        taken.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether standard error is the journal (`JOURNAL_STREAM`, `systemd.exec(5)`). The variable alone
/// does not tell: it is inherited by programs whose standard error is something else.
fn is_journal() -> bool {
    let Ok(metadata) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    stream == format!("{}:{}", metadata.dev(), metadata.ino())
}

/// The priorities of `syslog(3)`.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[derive(Debug, Clone, Copy)]
struct Output {
    journal: bool,
    dated: bool,
    /// Nobody asked for more than warnings on the terminal.
    quiet: bool,
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { level: Level::ERROR, to: To::Stderr }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        let level = *meta.level();
        let to = if DETACHED.load(Ordering::Relaxed) {
            To::Syslog
        } else if self.journal {
            To::Journal
        } else if self.quiet && level > Level::WARN {
            To::Nowhere
        } else {
            To::Stderr
        };
        Line { level, to }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Stderr,
    Journal,
    Syslog,
    Nowhere,
}

/// Writes one message; the subscriber passes each whole.
#[derive(Debug)]
struct Line {
    level: Level,
    to: To,
}

impl Write for Line {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let priority = priority(self.level);
        let name = match self.level {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            _ => "",
        };
        let head = match self.to {
            To::Stderr => format!("tierfs: {name}"),
            To::Journal => format!("<{priority}>"),
            To::Syslog => format!("<{}>tierfs[{}]: ", FACILITY | priority, std::process::id()),
            To::Nowhere => return Ok(message.len()),
        };
        let mut line = head.into_bytes();
        line.extend_from_slice(message);
        match self.to {
            To::Syslog => send(line.trim_ascii_end()),
            To::Stderr | To::Journal | To::Nowhere => match WRITER.get() {
                Some(waiting) => waiting.put(line),
                None => io::stderr().write_all(&line)?,
            },
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A message that the system log does not take at once is dropped: a filesystem must not wait for it.
fn send(line: &[u8]) {
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(line, SYSLOG)
    });
    drop(sent);
}

/// `message key=value`, with the time before it on a terminal that shows more than warnings.
#[derive(Debug)]
struct Plain {
    dated: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.dated && !DETACHED.load(Ordering::Relaxed) {
            SystemTime.format_time(&mut writer)?;
            writer.write_char(' ')?;
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Debug, Clone, Default)]
    struct Read(Arc<Mutex<Vec<u8>>>);

    impl Write for Read {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A request that was refused waited for a journal that waited for the disk.
    #[test]
    fn a_message_waits_for_no_reader_and_what_was_dropped_is_told() {
        let (waiting, jobs) = Waiting::new(2);
        (0..5).for_each(|number| waiting.put(format!("{number}\n").into_bytes()));
        assert!(!waiting.flush(Duration::from_millis(20)), "nobody reads");
        // Somebody reads again.
        let read = Read::default();
        std::thread::scope(|scope| {
            let (to, taken) = (read.clone(), Arc::clone(&waiting.taken));
            scope.spawn(move || write_all(&jobs, &taken, || to.clone()));
            assert!(waiting.flush(Duration::from_secs(60)));
            waiting.put(b"last\n".to_vec());
            drop(waiting);
        });
        let told = "tierfs: warning: 3 messages were dropped: nobody read them in time\n";
        let wanted = format!("0\n1\n{told}last\n");
        assert_eq!(String::from_utf8(read.0.lock().unwrap().clone()).unwrap(), wanted);
    }
}
