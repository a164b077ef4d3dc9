//! What a run prints: lines, JSON, a report, a progress bar, and the exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::whole::Whole;
use crate::cli::{complain, print_json, print_line};
use crate::control::convert;
use crate::control::wire::{Closed, Event, Stop, Summary, Text};
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::types::units;

/// How the user wants it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// One JSON object for each event and one at the end.
    pub json: bool,
    /// Nothing where nothing moved and nothing failed.
    pub quiet: bool,
    /// A line for each file.
    pub each: bool,
    /// Nothing moving is worth a code of its own.
    pub error_on_no_move: bool,
    /// What is told would happen, and does not.
    pub dry_run: bool,
}

/// What is printed while a run goes on, and at its end.
#[derive(Debug)]
pub struct Output {
    manner: Manner,
    bar: Option<ProgressBar>,
    report: Option<Report>,
    ways: BTreeSet<(u8, u8)>,
    moved: u64,
    planned: u64,
    /// The first failure to write what was asked for.
    broken: Option<Failure>,
}

/// A CSV file that is being written.
#[derive(Debug)]
struct Report {
    path: PathBuf,
    writer: csv::Writer<Whole>,
    /// Whether it tells of any file.
    is_told: bool,
}

impl Output {
    /// As the user wants it, with a CSV report where he wants one.
    ///
    /// # Errors
    /// Where the report cannot be made.
    pub fn new(manner: Manner, report: Option<&Path>) -> Result<Output, Failure> {
        let report = report.map(|path| {
            let mut report = Report {
                path: path.to_path_buf(),
                writer: csv::Writer::from_writer(Whole::begin(path)?),
                is_told: false,
            };
            report.add(["path", "from", "to", "bytes", "age", "result", "reason"])?;
            Ok::<_, Failure>(report)
        });
        let wanted = !manner.json && !manner.quiet && std::io::stderr().is_terminal();
        Ok(Output {
            manner,
            bar: wanted.then(bar),
            report: report.transpose()?,
            ways: BTreeSet::new(),
            moved: 0,
            planned: 0,
            broken: None,
        })
    }

    /// One event.
    pub fn tell(&mut self, event: &Event) {
        match event {
            Event::Moved { from, to, .. } => {
                self.ways.insert((*from, *to));
                self.moved += 1;
            }
            Event::Planned { files, .. } => self.planned = *files,
            Event::Scanned { .. } | Event::Copied { .. } | Event::Skipped { .. } | Event::Failed { .. } => {}
        }
        self.advance(event);
        if let Some(report) = &mut self.report
            && let Some(row) = row(event, self.manner.dry_run)
        {
            report.is_told = true;
            if let Err(failure) = report.add(row) {
                self.broken.get_or_insert(failure);
            }
        }
        let printed = if self.manner.json {
            as_json(event).map(|object| print_json(&object))
        } else {
            line(event).map(|(line, failure)| self.print(&line, failure))
        };
        if let Some(Err(failure)) = printed {
            self.broken.get_or_insert(failure);
        }
    }

    fn print(&self, line: &[u8], failure: bool) -> Result<(), Failure> {
        let put = || match (failure, self.manner.each) {
            (true, _) => {
                complain(line);
                Ok(())
            }
            (false, true) => print_line(line),
            (false, false) => Ok(()),
        };
        match &self.bar {
            Some(bar) if failure || self.manner.each => bar.suspend(put),
            _ => put(),
        }
    }

    fn advance(&self, event: &Event) {
        let Some(bar) = &self.bar else { return };
        match event {
            Event::Scanned { files, .. } => bar.set_message(format!("{} files looked at", thousands(*files))),
            Event::Planned { bytes, .. } => {
                bar.set_length(*bytes);
                bar.set_message(self.files());
            }
            Event::Copied { bytes } => bar.inc(*bytes),
            Event::Moved { .. } => bar.set_message(self.files()),
            Event::Skipped { .. } | Event::Failed { .. } => {}
        }
    }

    fn files(&self) -> String {
        format!("{} of {} files", thousands(self.moved), thousands(self.planned))
    }

    /// The end of a run that could not be made, or not to its end. A report of a run that never began
    /// is none, and leaves an older one in place.
    pub fn give_up(mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(report) = self.report.take().filter(|report| report.is_told) {
            // Why the run ended is told already.
            let _ = report.done();
        }
    }

    /// The end.
    ///
    /// # Errors
    /// Where something was wrong as a whole, and where what was asked for could not be written.
    pub fn finish(mut self, summary: &Summary) -> Outcome {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(Err(failure)) = self.report.take().map(Report::done) {
            self.broken.get_or_insert(failure);
        }
        if self.manner.json {
            print_json(&summary_json(summary, self.manner.dry_run))?;
        } else if !self.manner.quiet || summary.moved > 0 || summary.failed > 0 {
            print_line(summary_line(summary, &self.ways, self.manner.dry_run).as_bytes())?;
        }
        match self.broken {
            Some(failure) => Err(failure),
            None => exit(summary, self.manner.error_on_no_move),
        }
    }
}

impl Report {
    fn add<T: AsRef<[u8]>>(&mut self, row: [T; 7]) -> Result<(), Failure> {
        self.writer.write_record(row).map_err(|error| Failure::error(format!("{}: {error}", self.path.display())))
    }

    fn done(self) -> Result<(), Failure> {
        match self.writer.into_inner() {
            Ok(whole) => whole.done(),
            Err(error) => Err(Failure::error(format!("{}: {}", self.path.display(), error.error()))),
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let template = "{msg}  {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// How a run of this outcome exits.
fn exit(summary: &Summary, error_on_no_move: bool) -> Outcome {
    match summary.stopped {
        Some(Stop::Interrupted) => return Ok(Exit::Interrupted),
        Some(Stop::Full(rank)) => {
            let line = format!("the {} is full: free space there, or give it a larger disk", Rank(rank));
            return Err(Failure::error(line));
        }
        Some(Stop::Errors) => return Err(Failure::error("stopped after too many errors: look at the disks")),
        Some(Stop::Failed(rank)) => {
            let line = format!("the {} fails: look at its disk, and whether it is mounted read-only", Rank(rank));
            return Err(Failure::error(line));
        }
        Some(Stop::Limit | Stop::Window) | None => {}
    }
    if summary.failed > 0 {
        Ok(Exit::Partial)
    } else if summary.stopped.is_some() {
        Ok(Exit::Limit)
    } else if summary.moved == 0 && error_on_no_move {
        Ok(Exit::Nothing)
    } else {
        Ok(Exit::Ok)
    }
}

/// `1234` as `1,234`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An age in the largest unit that leaves a whole number to read.
pub fn age(age: Duration) -> String {
    let secs = age.as_secs();
    match (secs / 86400, secs / 3600, secs / 60) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, minutes) => format!("{minutes}min"),
        (0, hours, _) => format!("{hours}h"),
        (days, ..) => format!("{}d", thousands(days)),
    }
}

fn path(text: &Text) -> Vec<u8> {
    convert::bytes(text).unwrap_or_default()
}

/// The line about a file, without its end, and whether it is about a failure.
fn line(event: &Event) -> Option<(Vec<u8>, bool)> {
    let (name, rest, failure) = match event {
        Event::Moved { path, from, to, bytes, age: old } => {
            let size = units::show_size(*bytes);
            let old = if old.is_zero() { String::new() } else { format!(", {} old", age(*old)) };
            (path, format!("{} -> {} ({size}{old})", Rank(*from), Rank(*to)), false)
        }
        Event::Skipped { path, why } => (path, format!("stays: {why}"), false),
        Event::Failed { path, errno, during } => {
            (path, format!("could not be moved: {during}: {}", Errno(*errno)), true)
        }
        Event::Scanned { .. } | Event::Planned { .. } | Event::Copied { .. } => return None,
    };
    Some(([path(name).as_slice(), b": ", rest.as_bytes()].concat(), failure))
}

fn named(event: &str, text: &Text) -> Value {
    let bytes = path(text);
    let mut object = json!({ "event": event, "path": String::from_utf8_lossy(&bytes) });
    if let Text::Coded(coded) = text {
        object["path_hex"] = json!(coded.hex);
    }
    object
}

fn as_json(event: &Event) -> Option<Value> {
    Some(match event {
        Event::Moved { path, from, to, bytes, age } => {
            let mut object = named("moved", path);
            object["from"] = json!(Rank(*from).to_string());
            object["to"] = json!(Rank(*to).to_string());
            object["bytes"] = json!(bytes);
            object["age_secs"] = json!(age.as_secs());
            object
        }
        Event::Skipped { path, why } => {
            let mut object = named("skipped", path);
            object["reason"] = json!(why);
            object
        }
        Event::Failed { path, errno, during } => {
            let mut object = named("failed", path);
            object["reason"] = json!(format!("{during}: {}", Errno(*errno)));
            object
        }
        Event::Scanned { .. } | Event::Planned { .. } | Event::Copied { .. } => return None,
    })
}

fn row(event: &Event, dry_run: bool) -> Option<[Vec<u8>; 7]> {
    let text = |text: String| text.into_bytes();
    let none = Vec::new;
    Some(match event {
        Event::Moved { path: name, from, to, bytes, age } => [
            path(name),
            text(Rank(*from).to_string()),
            text(Rank(*to).to_string()),
            text(bytes.to_string()),
            text(age.as_secs().to_string()),
            text(if dry_run { "would move" } else { "moved" }.into()),
            none(),
        ],
        Event::Skipped { path: name, why } => {
            [path(name), none(), none(), none(), none(), text("skipped".into()), text(why.clone())]
        }
        Event::Failed { path: name, errno, during } => {
            let reason = format!("{during}: {}", Errno(*errno));
            [path(name), none(), none(), none(), none(), text("failed".into()), text(reason)]
        }
        Event::Scanned { .. } | Event::Planned { .. } | Event::Copied { .. } => return None,
    })
}

fn summary_json(summary: &Summary, dry_run: bool) -> Value {
    let stopped = summary.stopped.map(|stop| match stop {
        Stop::Limit => "limit".to_owned(),
        Stop::Window => "window".to_owned(),
        Stop::Interrupted => "interrupted".to_owned(),
        Stop::Full(rank) => format!("{} full", Rank(rank)),
        Stop::Errors => "errors".to_owned(),
        Stop::Failed(rank) => format!("{} failed", Rank(rank)),
    });
    json!({
        "event": "summary",
        "dry_run": dry_run,
        "run": summary.run,
        "scanned": summary.scanned,
        "moved": summary.moved,
        "bytes": summary.bytes,
        "skipped": summary.skipped,
        "failed": summary.failed,
        "stopped": stopped,
        "closed": summary.closed.as_ref().map(|closed| json!({
            "window": closed.window,
            "policy": String::from_utf8_lossy(&path(&closed.origin)),
            "opens": closed.opens,
            "opens_in_secs": closed.wait.as_secs(),
        })),
        "took_ms": u64::try_from(summary.took.as_millis()).unwrap_or(u64::MAX),
    })
}

fn summary_line(summary: &Summary, ways: &BTreeSet<(u8, u8)>, dry_run: bool) -> String {
    let closed = summary.closed.as_deref().map(closed_window);
    if let (Some(Stop::Window), Some(closed)) = (summary.stopped, &closed) {
        return format!("moved nothing: {closed}; --ignore-window moves files all the same");
    }
    let verb = if dry_run { "would move" } else { "moved" };
    let mut line = match summary.moved {
        0 => format!("{verb} nothing"),
        1 => format!("{verb} 1 file, {}", units::show_size(summary.bytes)),
        many => format!("{verb} {} files, {}", thousands(many), units::show_size(summary.bytes)),
    };
    if let (Some((from, to)), 1) = (ways.first(), ways.len()) {
        line.push_str(&format!(", from {} to {}", Rank(*from), Rank(*to)));
    }
    // How long a dry run took says nothing of how long the move will.
    if !dry_run {
        line.push_str(&format!(" in {}", took(summary.took)));
    }
    if (summary.moved, summary.failed) == (0, 0) && summary.skipped.is_empty() && summary.stopped.is_none() {
        line.push_str(&match summary.scanned {
            0 => ": no file is there that could move".to_owned(),
            1 => ": the one file looked at has not to move".to_owned(),
            many => format!(": of {} files looked at, none has to move", thousands(many)),
        });
    }
    if !summary.skipped.is_empty() {
        line.push_str(&format!("; skipped {}", counted(&summary.skipped)));
    }
    if summary.failed > 0 {
        line.push_str(&format!("; {} failed", thousands(summary.failed)));
    }
    match summary.stopped {
        None | Some(Stop::Window) => {}
        Some(Stop::Limit) => line.push_str("; stopped at a limit"),
        Some(Stop::Interrupted) => line.push_str("; interrupted"),
        Some(Stop::Full(rank)) => line.push_str(&format!("; the {} is full", Rank(rank))),
        Some(Stop::Errors) => line.push_str("; stopped after too many errors"),
        Some(Stop::Failed(rank)) => line.push_str(&format!("; stopped because the {} fails", Rank(rank))),
    }
    closed.into_iter().for_each(|closed| line.push_str(&format!("; {closed}")));
    line
}

/// Which window keeps runs from moving anything, and when it opens.
fn closed_window(closed: &Closed) -> String {
    let origin = path(&closed.origin);
    let origin = String::from_utf8_lossy(&origin);
    format!("the window {} of {origin} is closed and opens {}, in {}", closed.window, closed.opens, age(closed.wait))
}

fn counted(skipped: &BTreeMap<String, u64>) -> String {
    let each = skipped.iter().map(|(why, count)| format!("{} {why}", thousands(*count)));
    each.collect::<Vec<_>>().join(", ")
}

/// A duration to read: tenths of a second below ten, seconds above.
pub fn took(took: Duration) -> String {
    if took < Duration::from_secs(10) {
        return format!("{:.1}s", took.as_secs_f64());
    }
    units::show_duration(Duration::from_secs(took.as_secs()))
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
