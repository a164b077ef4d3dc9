//! The run that is at work, and the last one that has ended, for whoever asks.

use std::time::{Duration, Instant, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::control::status::{Ended, Running};
use crate::control::wire::{Event, Response, Stop, Summary};
use crate::types::ids::Rank;

/// As `migrate` calls a run that promotes what is used.
const PROMOTE: &str = "promote";

/// What is known of runs.
#[derive(Debug, Default)]
pub(super) struct Work(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    now: Option<(Running, Instant)>,
    last: Option<Ended>,
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}

impl Work {
    /// A run begins.
    pub(super) fn begin(&self, what: String, by_itself: bool, dry_run: bool) {
        let running = Running {
            what,
            by_itself,
            dry_run,
            started: now(),
            scanned: 0,
            planned: (0, 0),
            copied: 0,
            moved: (0, 0),
            failed: 0,
        };
        self.0.lock().now = Some((running, Instant::now()));
    }

    /// Something happened in it.
    pub(super) fn note(&self, event: &Event) {
        if let Some((running, _)) = &mut self.0.lock().now {
            count(running, event);
        }
    }

    /// The run has come to this. A dry run leaves nothing to be remembered, and promotions are made every few
    /// seconds: remembered, they would hide what has become of the night's run.
    pub(super) fn end(&self, last: &Response) {
        let mut state = self.0.lock();
        let Some((running, began)) = state.now.take() else { return };
        if !running.dry_run && running.what != PROMOTE {
            state.last = Some(ended(running, began.elapsed(), last));
        }
    }

    /// Nothing is at work any more, whatever became of it.
    pub(super) fn clear(&self) {
        self.0.lock().now = None;
    }

    /// The run at work, and the last one.
    pub(super) fn told(&self) -> (Option<Running>, Option<Ended>) {
        let state = self.0.lock();
        (state.now.as_ref().map(|(running, _)| running.clone()), state.last.clone())
    }
}

fn count(running: &mut Running, event: &Event) {
    match event {
        Event::Scanned { files, .. } => running.scanned = *files,
        Event::Planned { files, bytes } => running.planned = (*files, *bytes),
        Event::Copied { bytes } => running.copied += bytes,
        Event::Moved { bytes, .. } => running.moved = (running.moved.0 + 1, running.moved.1 + bytes),
        Event::Failed { .. } => running.failed += 1,
        Event::Skipped { .. } => {}
    }
}

fn ended(running: Running, took: Duration, last: &Response) -> Ended {
    let Running { what, by_itself, started, moved, failed, .. } = running;
    let (moved, failed, stopped, well) = match last {
        Response::Done(Summary { moved, bytes, failed, stopped, .. }) => {
            let wrong = matches!(stopped, Some(Stop::Full(_) | Stop::Errors | Stop::Failed(_)));
            ((*moved, *bytes), *failed, stopped.map(words), !wrong && *failed == 0)
        }
        Response::Error(problem) => (moved, failed, Some(problem.line.clone()), false),
        _ => (moved, failed, Some("it failed inside tierfs: look into the log".to_owned()), false),
    };
    Ended { what, by_itself, started, took, moved, failed, stopped, well }
}

fn words(stop: Stop) -> String {
    match stop {
        Stop::Limit => "stopped at a limit".into(),
        Stop::Window => "the window of the policy is closed".into(),
        Stop::Interrupted => "interrupted".into(),
        Stop::Full(rank) => format!("the {} is full", Rank(rank)),
        Stop::Errors => "stopped after too many errors".into(),
        Stop::Failed(rank) => format!("the {} fails", Rank(rank)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::{Problem, Text};

    fn moved(bytes: u64) -> Event {
        Event::Moved { path: Text::Plain("a".into()), from: 0, to: 1, bytes, age: Duration::ZERO }
    }

    #[test]
    fn a_run_is_told_while_it_works_and_after_it() {
        let work = Work::default();
        work.begin("migrate".into(), false, false);
        for event in [Event::Scanned { files: 9, bytes: 90 }, Event::Planned { files: 2, bytes: 8 }, moved(3)] {
            work.note(&event);
        }
        let (now, last) = work.told();
        let now = now.unwrap();
        assert_eq!((now.scanned, now.planned, now.moved, last), (9, (2, 8), (1, 3), None));
        work.end(&Response::Done(Summary { moved: 2, bytes: 8, failed: 1, ..Summary::default() }));
        let (now, last) = work.told();
        let last = last.unwrap();
        assert_eq!((now, last.moved, last.failed, last.well), (None, (2, 8), 1, false));
    }

    #[test]
    fn a_limit_is_nothing_wrong_and_a_full_tier_is() {
        let told = |last: Response| {
            let work = Work::default();
            work.begin("migrate".into(), true, false);
            work.end(&last);
            let last = work.told().1.unwrap();
            (last.well, last.stopped)
        };
        let stopped = |stop| Response::Done(Summary { stopped: Some(stop), ..Summary::default() });
        assert_eq!(told(stopped(Stop::Limit)), (true, Some("stopped at a limit".into())));
        assert_eq!(told(stopped(Stop::Full(1))), (false, Some("the secondary is full".into())));
        let error = Response::Error(Problem { code: 1, line: "no".into() });
        assert_eq!(told(error), (false, Some("no".into())));
    }

    #[test]
    fn a_dry_run_and_promotions_are_no_last_run() {
        assert_eq!(crate::migrate::What::Promote(Box::default()).to_string(), PROMOTE);
        for (what, dry_run) in [("migrate", true), (PROMOTE, false)] {
            let work = Work::default();
            work.begin(what.into(), false, dry_run);
            work.end(&Response::Done(Summary::default()));
            assert_eq!(work.told(), (None, None));
        }
    }
}
