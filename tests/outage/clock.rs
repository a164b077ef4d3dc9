//! What the threads of a round tell each other: when a tier lost its power, and how things stand.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

/// Of one round.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Odd while a tier fails: what is acknowledged meanwhile does not count, since a filesystem that is being
    /// shut down may say that a lost change is durable (xfs does).
    losses: AtomicU64,
    /// Odd from before a tier goes until all are back.
    outages: AtomicU64,
    stop: AtomicBool,
    letting_go: AtomicBool,
    /// Files that writers keep open.
    pub(crate) held: AtomicUsize,
}

/// A moment between two losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(u64);

/// A moment between two outages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calm(u64);

impl Clock {
    pub(crate) fn now(&self) -> Moment {
        Moment(self.losses.load(Ordering::SeqCst))
    }

    /// Whether nothing has failed since `began`, and nothing failed just then.
    pub(crate) fn is_still(&self, began: Moment) -> bool {
        began.0.is_multiple_of(2) && self.now() == began
    }

    /// Before and after each loss.
    pub(crate) fn loss(&self) {
        self.losses.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn calm(&self) -> Calm {
        Calm(self.outages.load(Ordering::SeqCst))
    }

    /// Whether all tiers were there since.
    pub(crate) fn is_calm_since(&self, began: Calm) -> bool {
        began.0.is_multiple_of(2) && self.calm() == began
    }

    /// Before and after each outage.
    pub(crate) fn outage(&self) {
        self.outages.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Writers close what they keep open, or may keep it again.
    pub(crate) fn let_go(&self, close: bool) {
        self.letting_go.store(close, Ordering::SeqCst);
    }

    pub(crate) fn is_letting_go(&self) -> bool {
        self.letting_go.load(Ordering::SeqCst)
    }
}

/// Stops the writers also when the test panics: else it would wait for them for ever.
#[derive(Debug)]
pub(crate) struct Stopping<'a>(pub(crate) &'a Clock);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What one thread does and has done, for whoever waits for it or wants to know.
#[derive(Debug)]
pub(crate) struct Doing(Mutex<VecDeque<(SystemTime, String)>>);

/// So much of what was done is remembered.
const REMEMBERED: usize = 5000;

impl Doing {
    pub(crate) fn new() -> Doing {
        Doing(Mutex::default())
    }

    pub(crate) fn tell(&self, what: String) {
        let mut doing = self.0.lock().expect("lock");
        doing.truncate(REMEMBERED);
        doing.push_front((SystemTime::now(), what));
    }

    pub(crate) fn told(&self) -> String {
        let doing = self.0.lock().expect("lock");
        doing.front().map_or("nothing".into(), |(since, what)| {
            let since = since.elapsed().unwrap_or_default();
            format!("{what} for {} s", since.as_secs())
        })
    }

    /// What was done with whatever has this name, oldest first.
    pub(crate) fn history(&self, name: &str) -> Vec<String> {
        let doing = self.0.lock().expect("lock");
        let mine = doing.iter().filter(|(_, what)| what.contains(name)).take(40);
        let mut lines: Vec<String> = mine
            .map(|(when, what)| {
                let when = when.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                format!("{}.{:03} {what}", when.as_secs() % 86_400, when.subsec_millis())
            })
            .collect();
        lines.reverse();
        lines
    }
}
