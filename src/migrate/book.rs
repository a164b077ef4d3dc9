//! Writes the manifest of a run ([`super::manifest`]), and keeps the number of manifests bounded.
//!
//! A run has a manifest of its own, which goes if nothing has moved. Promotions in the background are
//! made every few seconds and move little, so those of a day share one.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::What;
use super::manifest::{self, DIRECTORY, Entry, Line, PROMOTIONS, manifest_name};
use crate::tier::{Dir, File, Open};
use crate::types::attr::{SetAttr, Time};
use crate::types::caller::Caller;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::types::units::show_time;
use crate::union::Union;

/// Manifests kept: of a run each hour, those of six weeks. With an older one a run can no more be undone,
/// and `check --read-data` knows fewer hashes.
const RUNS_MAX: usize = 1000;

/// The same for the days on which files were promoted.
const DAYS_MAX: usize = 31;

/// Of a name, the letters that tell the day.
const DAY_LEN: usize = 8;

/// A manifest that is being written.
pub(super) struct Book {
    pub run: String,
    name: Name,
    file: Box<dyn File>,
    dir: Arc<dyn Dir>,
    /// The last line of the runs that it has already.
    before: Option<Line>,
}

impl Book {
    /// Begins one, under a name that tells the time and is no other's, or goes on with the day's.
    pub(super) fn open(union: &Union, what: &What) -> Result<Book> {
        let dir = union.own_dir(Rank::PRIMARY, DIRECTORY)?;
        let since = UNIX_EPOCH.elapsed().unwrap_or_default();
        let runs = manifest::runs_in(dir.as_ref())?;
        prune(dir.as_ref(), &runs);
        let of_day = matches!(what, What::Promote(_));
        let run = run_name(since, of_day);
        if let Some(last) = of_the_day(&runs, &run)
            && let Some(book) = Book::go_on(&dir, last)?
        {
            return Ok(book);
        }
        Book::begin(dir, run, since, what.to_string())
    }

    fn begin(dir: Arc<dyn Dir>, run: String, since: Duration, command: String) -> Result<Book> {
        let name = manifest_name(&run)?;
        let file = dir.create(&name, 0o600, Open::ReadWrite, &Caller::DAEMON)?;
        let book = Book { run: run.clone(), name, file, dir, before: None };
        match book.add(&[Line::Begin { version: 1, run, started: since.as_secs(), command }]) {
            Ok(()) => Ok(book),
            Err(errno) => {
                book.drop_empty();
                Err(errno)
            }
        }
    }

    /// The manifest of an earlier run to be continued; `None` if that was cut short.
    fn go_on(dir: &Arc<dyn Dir>, run: &str) -> Result<Option<Book>> {
        let name = manifest_name(run)?;
        let file = dir.open(&name, Open::ReadWrite)?;
        let before = manifest::last_line(file.as_ref())?.filter(|line| matches!(line, Line::End { .. }));
        let dir = Arc::clone(dir);
        Ok(before.map(|before| Book { run: run.to_owned(), name, file, dir, before: Some(before) }))
    }

    fn add(&self, lines: &[Line]) -> Result<()> {
        let mut text = String::new();
        for line in lines {
            text += &serde_json::to_string(line).map_err(|_| Errno::EINVAL)?;
            text.push('\n');
        }
        let size = self.file.stat()?.size;
        if self.file.append(text.as_bytes())? == text.len() {
            return Ok(());
        }
        // A part of a line would spoil the next one.
        self.file.set_attr(&SetAttr { size: Some(size), ..SetAttr::default() })?;
        Err(Errno::ENOSPC)
    }

    pub(super) fn files(&self, entries: &[Entry]) -> Result<()> {
        let lines: Vec<Line> = entries.iter().map(Entry::line).collect();
        self.add(&lines)
    }

    pub(super) fn end(&self, end: &Line) -> Result<()> {
        self.add(&[sum(self.before.as_ref(), end)])?;
        self.file.fsync(false)?;
        self.dir.fsync()
    }

    /// Nothing has moved: there is nothing to tell or to undo.
    pub(super) fn drop_empty(&self) {
        if self.before.is_none()
            && let Err(errno) = self.dir.unlink(&self.name)
        {
            tracing::debug!(run = self.run, "an empty manifest stays: {errno}");
        }
    }
}

/// What the runs of a day come to: the last line stands for all of them.
fn sum(before: Option<&Line>, now: &Line) -> Line {
    match (before, now) {
        (
            Some(Line::End { moved: m, bytes: b, skipped: s, failed: f, took_ms: t, .. }),
            Line::End { done, moved, bytes, skipped, failed, took_ms },
        ) => Line::End {
            done: *done,
            moved: moved.saturating_add(*m),
            bytes: bytes.saturating_add(*b),
            skipped: skipped.saturating_add(*s),
            failed: failed.saturating_add(*f),
            took_ms: took_ms.saturating_add(*t),
        },
        _ => now.clone(),
    }
}

/// Sorts by time, can be typed, and is not repeated: `20261121T091500-3fa2`. What follows the dash is
/// the part of the second, in steps of 15 microseconds.
fn run_name(since: Duration, of_day: bool) -> String {
    let started = Time { sec: i64::try_from(since.as_secs()).unwrap_or(0), nsec: 0 };
    let compact: String =
        show_time(started).replace(' ', "T").chars().filter(char::is_ascii_alphanumeric).take(15).collect();
    let part = (u64::from(since.subsec_nanos()) << 16) / 1_000_000_000;
    if of_day { compact + PROMOTIONS } else { format!("{compact}-{part:04x}") }
}

/// The last manifest of promotions of the day on which the run `name` begins, if it is one of these.
fn of_the_day<'a>(runs: &'a [String], name: &str) -> Option<&'a str> {
    let day = name.strip_suffix(PROMOTIONS)?.get(..DAY_LEN)?;
    runs.iter().rev().find(|run| run.starts_with(day) && run.ends_with(PROMOTIONS)).map(String::as_str)
}

/// Those of `runs`, which are sorted, that are too many.
fn surplus(runs: &[String]) -> Vec<&String> {
    let (days, others): (Vec<_>, Vec<_>) = runs.iter().partition(|run| run.ends_with(PROMOTIONS));
    let old = |runs: Vec<_>, most: usize| {
        let count = runs.len().saturating_sub(most);
        runs.into_iter().take(count)
    };
    old(days, DAYS_MAX).chain(old(others, RUNS_MAX)).collect()
}

/// What cannot be removed is tried again by the next run.
fn prune(dir: &dyn Dir, runs: &[String]) {
    for run in surplus(runs) {
        if let Err(errno) = manifest_name(run).and_then(|name| dir.unlink(&name)) {
            tracing::debug!(run, "an old manifest stays: {errno}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(moved: u64) -> Line {
        Line::End { done: true, moved, bytes: 2 * moved, skipped: 1, failed: 0, took_ms: 5 }
    }

    #[test]
    fn the_last_line_of_a_day_stands_for_all_its_runs() {
        let both = Line::End { done: true, moved: 7, bytes: 14, skipped: 2, failed: 0, took_ms: 10 };
        assert_eq!((sum(Some(&end(3)), &end(4)), sum(None, &end(4))), (both, end(4)));
    }

    #[test]
    fn regression_promotions_of_a_day_share_a_manifest() {
        let runs = ["20261123T080000-promotions", "20261124T080000-promotions", "20261124T090000-ab12"];
        let runs = runs.map(String::from);
        let name = |days: u64| run_name(Duration::from_secs(1_795_520_000 + days * 86_400), true);
        let today = (0..400).map(name).find(|name| name.starts_with("20261124")).unwrap();
        assert_eq!(of_the_day(&runs, &today), Some("20261124T080000-promotions"));
        assert_eq!(of_the_day(&runs, "20261125T080000-promotions"), None);
        assert_eq!(of_the_day(&runs, "20261124T100000-cd34"), None);
    }

    #[test]
    fn runs_of_one_second_are_named_in_their_order() {
        let name = |nanos| run_name(Duration::new(9, nanos), false);
        let names = [0, 20_000, 1_000_000, 500_000_000, 999_999_999].map(name);
        assert_eq!((names[0].as_str(), names[4].as_str()), ("19700101T000009-0000", "19700101T000009-ffff"));
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
    }

    #[test]
    fn regression_the_number_of_manifests_is_bounded() {
        let run = |number: usize| format!("20261124T{number:06}-ab12");
        let day = |number: usize| format!("2026{number:04}T000000{PROMOTIONS}");
        let mut runs: Vec<String> = (0..RUNS_MAX + 2).map(run).chain((0..DAYS_MAX + 1).map(day)).collect();
        runs.sort_unstable();
        let mut gone: Vec<&String> = surplus(&runs);
        gone.sort_unstable();
        assert_eq!(gone, [&day(0), &run(0), &run(1)]);
    }
}
