//! `tierfs top`.
//!
//! Threads ask the mount and send what it answers; `state.rs` keeps what is shown, `draw.rs` draws that, and
//! `screen.rs` has the terminal.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use clap::Args;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::{print, status};
use crate::control::client::{self, NoAnswer};
use crate::control::wire::{Command, Response};
use state::{Able, News, View};

mod draw;
mod screen;
mod state;
mod words;

/// How long the mount may take to answer: it waits two seconds for a tier that hangs.
const PATIENCE: Duration = Duration::from_secs(4);

/// The size of what is printed without a terminal.
const PLAIN: (u16, u16) = (100, 40);

/// Shows live what a mount does: requests a second and how long they take, by operation and tier; the hottest
/// directories and programs; how full the tiers are; moves and runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tierfs top                    of the only mount there is
  tierfs top /srv/docs -i 5     new numbers every 5 seconds
  tierfs top /srv/docs | cat    one picture of one interval, as text

Keys: q quit, s sort, p pause, 1 2 3 or arrows for panes and lines, ? help. Colours are left out
where NO_COLOR is set. For programs see tierfs stats --json.

Exit codes:
  0 ended by a key, or printed   1 error, or the mount has ended   2 wrong usage   130 interrupted")]
pub struct Top {
    /// A mount point, a path below it, or a name in /etc/tierfs; may be left out where there is only one mount
    #[arg(value_name = "MOUNT")]
    mount: Option<OsString>,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds, from 0.1 to 3600".to_owned())
}

impl Top {
    /// Shows.
    ///
    /// # Errors
    /// Where there is no such mount, and one line where it ends.
    pub fn run(self) -> Outcome {
        let (point, socket) = status::serving(self.mount.as_deref())?;
        let able = Able::from(&|key| std::env::var(key).ok());
        let mut view = View::new(point.display().to_string(), able, self.interval);
        let (tell, news) = mpsc::channel();
        for what in [Command::Status, Command::Stats] {
            let asking = Asking { socket: socket.clone(), point: point.clone(), interval: self.interval };
            let tell = tell.clone();
            let thread = std::thread::Builder::new().name("ask".into()).spawn(move || asking.go_on(&what, &tell));
            thread.map_err(Failure::error)?;
        }
        drop(tell);
        if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
            return screen::show(view, &news);
        }
        let until = Instant::now() + self.interval + 2 * PATIENCE;
        gather(&mut view, &news, until)?;
        let text = screen::plain(&view, PLAIN.0, PLAIN.1)?;
        print(text.rsplit_once("\nq quit").map_or(text.as_str(), |(shown, _)| shown).trim_end())?;
        print("\n")?;
        Ok(Exit::Ok)
    }
}

/// Waits until there is something to show, at most until then.
fn gather(view: &mut View, news: &Receiver<News>, until: Instant) -> Result<(), Failure> {
    while view.rates.is_none() || view.status.is_none() {
        let rest = until.saturating_duration_since(Instant::now());
        let come =
            news.recv_timeout(rest).map_err(|_| Failure::error("the mount does not answer: see tierfs status"))?;
        if let Some(line) = view.take(come) {
            return Err(Failure::error(line));
        }
    }
    Ok(())
}

struct Asking {
    socket: PathBuf,
    point: PathBuf,
    interval: Duration,
}

impl Asking {
    /// Asks again and again, until nobody is told any more. The thread ends with the process.
    fn go_on(&self, what: &Command, tell: &Sender<News>) {
        loop {
            let began = Instant::now();
            if tell.send(ask(&self.socket, &self.point, what.clone())).is_err() {
                return;
            }
            std::thread::sleep(self.interval.saturating_sub(began.elapsed()));
        }
    }
}

fn ask(socket: &Path, point: &Path, what: Command) -> News {
    let ended = |why: &str| News::Gone(format!("{}: {why}", point.display()));
    match client::ask_once(socket, what, PATIENCE) {
        Ok((_, Response::Stats(counts))) => News::Counts(counts),
        Ok((_, Response::Status(status))) => News::Status(status),
        Ok((_, Response::Error(problem))) if problem.code == Exit::Busy as u8 => News::Silent,
        Ok((_, Response::Error(problem))) => ended(&problem.line),
        Ok(_) => ended("the mount answers something else"),
        Err(NoAnswer::Silent) => News::Silent,
        Err(NoAnswer::Absent) => ended("the mount has ended"),
        Err(NoAnswer::Denied) => ended("only root and the user who mounted may ask: run this with sudo"),
        Err(NoAnswer::Unreadable(line)) => ended(&line),
    }
}
