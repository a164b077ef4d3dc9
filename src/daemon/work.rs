//! The run that is at work, and the last one that has ended, for whoever asks; and the one place where
//! every run of a mount is counted and told in its log, whatever has begun it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use parking_lot::Mutex;

use super::runs::USAGE;
use crate::control::status::{Ended, Running};
use crate::control::wire::{Event, Response, Stop, Summary};
use crate::stats::{Outcome, Stats};
use crate::types::ids::Rank;

/// What is known of runs.
#[derive(Debug, Default)]
pub(super) struct Work {
    state: Mutex<State>,
    stats: OnceLock<Arc<Stats>>,
}

#[derive(Debug, Default)]
struct State {
    now: Option<(Running, Trigger, Instant)>,
    last: Option<Ended>,
}

/// What has begun a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// Somebody's command.
    Command,
    /// A command of a timer.
    Schedule,
    /// A tier that was too full.
    Watermark,
    /// Files that were used.
    Use,
}

impl Trigger {
    fn word(self) -> &'static str {
        match self {
            Trigger::Command => "command",
            Trigger::Schedule => "schedule",
            Trigger::Watermark => "watermark",
            Trigger::Use => "use",
        }
    }

    fn is_own(self) -> bool {
        matches!(self, Trigger::Watermark | Trigger::Use)
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}

impl Work {
    /// A run begins.
    pub(super) fn begin(&self, what: String, trigger: Trigger, dry_run: bool) {
        let running = Running {
            what,
            by_itself: trigger.is_own(),
            dry_run,
            started: now(),
            scanned: 0,
            planned: (0, 0),
            copied: 0,
            moved: (0, 0),
            failed: 0,
        };
        self.state.lock().now = Some((running, trigger, Instant::now()));
    }

    /// Something happened in it.
    pub(super) fn note(&self, event: &Event) {
        let mut state = self.state.lock();
        let Some((running, ..)) = &mut state.now else { return };
        count(running, event);
        let real = !running.dry_run;
        drop(state);
        if let Some(stats) = self.stats.get().filter(|_| real) {
            outcome(event).into_iter().for_each(|outcome| stats.moved(outcome));
        }
    }

    /// The run has come to this. A dry run leaves nothing to be remembered, and promotions are made every few
    /// seconds: remembered, they would hide what has become of the night's run.
    pub(super) fn end(&self, last: &Response) {
        let mut state = self.state.lock();
        let Some((running, trigger, began)) = state.now.take() else { return };
        let dry_run = running.dry_run;
        let ended = ended(running, began.elapsed(), last);
        let (well, what) = (ended.well, ended.what.clone());
        // A command line with a mistake in it was no run, nor a recall that could not be had: somebody wished for
        // it at that moment, and was told.
        let is_wish = what.starts_with("recall");
        let is_slip =
            trigger == Trigger::Command && matches!(last, Response::Error(problem) if problem.code == USAGE || is_wish);
        let counts = !dry_run && !is_slip;
        if counts && trigger != Trigger::Use {
            state.last = Some(ended);
        }
        drop(state);
        if is_slip {
            return;
        }
        tell(&what, trigger, dry_run, last);
        if let Some(stats) = self.stats.get().filter(|_| counts) {
            skips(last).into_iter().for_each(|(why, count)| stats.skipped(why, count));
            stats.ran(trigger.word(), !well, trigger == Trigger::Use);
        }
    }

    /// From here on, runs are counted there.
    pub(super) fn count_in(&self, stats: &Arc<Stats>) {
        // A mount has one and it is set once.
        let _already_set = self.stats.set(Arc::clone(stats));
    }

    /// A file was promoted because this program has used it.
    pub(super) fn recalled(&self, program: Option<&str>, bytes: u64) {
        if let (Some(program), Some(stats)) = (program, self.stats.get()) {
            stats.recalled(program, bytes);
        }
    }

    /// Nothing is at work any more, whatever became of it.
    pub(super) fn clear(&self) {
        self.state.lock().now = None;
    }

    /// The run at work, and the last one.
    pub(super) fn told(&self) -> (Option<Running>, Option<Ended>) {
        let state = self.state.lock();
        (state.now.as_ref().map(|(running, ..)| running.clone()), state.last.clone())
    }
}

/// What an event means for the counts.
fn outcome(event: &Event) -> Option<Outcome> {
    match event {
        Event::Moved { from, to, bytes, .. } => {
            Some(Outcome::Moved { from: Rank(*from), to: Rank(*to), bytes: *bytes })
        }
        Event::Failed { .. } => Some(Outcome::Failed),
        Event::Scanned { .. } | Event::Planned { .. } | Event::Copied { .. } | Event::Skipped { .. } => None,
    }
}

/// Files that stayed, by reason. They are counted when the run has ended: not each is an event of its own.
fn skips(last: &Response) -> BTreeMap<String, u64> {
    match last {
        Response::Done(summary) => summary.skipped.clone(),
        _ => BTreeMap::new(),
    }
}

/// Writes the one line of a run into the log. One that had nothing to do is not worth a line.
fn tell(what: &str, trigger: Trigger, dry_run: bool, last: &Response) {
    let trigger = trigger.word();
    let done = match last {
        Response::Done(done) => done,
        Response::Error(problem) => return tracing::warn!(what, trigger, "a run could not be made: {}", problem.line),
        _ => return,
    };
    let Summary { run, moved, bytes, taken: freed, failed, stopped, .. } = done;
    let skipped: Vec<String> = done.skipped.iter().map(|(why, count)| format!("{count} {why}")).collect();
    let (skipped, took) = (skipped.join(", "), done.took.as_secs_f64());
    let stop = stopped.map_or_else(|| "no".to_owned(), words);
    if dry_run || (*moved, *failed) == (0, 0) && !stopped.is_some_and(is_wrong) {
        tracing::debug!(
            run,
            what,
            trigger,
            dry_run,
            moved,
            bytes,
            freed,
            skipped,
            failed,
            took,
            stopped = stop,
            "run ended"
        );
    } else if *failed > 0 || stopped.is_some_and(is_wrong) {
        tracing::warn!(run, what, trigger, moved, bytes, freed, skipped, failed, took, stopped = stop, "run ended");
    } else {
        tracing::info!(run, what, trigger, moved, bytes, freed, skipped, failed, took, stopped = stop, "run ended");
    }
}

/// A limit, the window and the user are nothing wrong.
fn is_wrong(stop: Stop) -> bool {
    matches!(stop, Stop::Full(_) | Stop::Errors | Stop::Failed(_))
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
            ((*moved, *bytes), *failed, stopped.map(words), !stopped.is_some_and(is_wrong) && *failed == 0)
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
        work.begin("migrate".into(), Trigger::Command, false);
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
    fn what_a_run_does_is_counted_and_what_a_dry_run_would_do_is_not() {
        let (work, stats) = (Work::default(), Arc::new(Stats::new(2, 1)));
        work.count_in(&stats);
        for (dry_run, trigger) in [(true, Trigger::Command), (false, Trigger::Schedule)] {
            work.begin("migrate".into(), trigger, dry_run);
            work.note(&moved(3));
            let skipped = [("in use".to_owned(), 4)].into();
            work.end(&Response::Done(Summary { moved: 1, skipped, ..Summary::default() }));
        }
        work.recalled(Some("cat"), 3);
        let told = stats.snapshot(&|_| None);
        assert_eq!((told.moves[0].files, told.moves[0].bytes, told.move_skips["in use"]), (1, 3, 4));
        assert_eq!(told.runs.keys().collect::<Vec<_>>(), ["schedule"]);
        assert_eq!(told.recalls[0].program, "cat");
    }

    #[test]
    fn a_command_line_with_a_mistake_was_no_run() {
        let work = Work::default();
        let told = |trigger, code| {
            work.begin("migrate".into(), trigger, false);
            work.end(&Response::Error(Problem { code, line: "no".into() }));
            work.told().1.map(|last| last.well)
        };
        assert_eq!(told(Trigger::Command, USAGE), None);
        assert_eq!(told(Trigger::Schedule, USAGE), Some(false), "the timer has the same mistake every night");
        work.clear();
        let before = work.told().1;
        work.begin("recall to primary".into(), Trigger::Command, false);
        work.end(&Response::Error(Problem { code: 1, line: "a tier is missing".into() }));
        assert_eq!(work.told().1, before, "a recall that could not be had");
        work.clear();
        assert_eq!(told(Trigger::Command, 1), Some(false));
    }

    #[test]
    fn a_limit_is_nothing_wrong_and_a_full_tier_is() {
        let told = |last: Response| {
            let work = Work::default();
            work.begin("migrate".into(), Trigger::Watermark, false);
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
        for (trigger, dry_run) in [(Trigger::Command, true), (Trigger::Use, false)] {
            let work = Work::default();
            work.begin("migrate".into(), trigger, dry_run);
            work.end(&Response::Done(Summary::default()));
            assert_eq!(work.told(), (None, None));
        }
    }
}
