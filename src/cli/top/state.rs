//! What is shown, as a value: changed by answers of the mount and by keys, drawn by `draw.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::control::status::Status;
use crate::stats::Snapshot;

/// Intervals that are remembered: at least as many as a terminal has columns.
const HISTORY_MAX: usize = 1024;

/// What the body shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    /// Requests by operation and tier.
    Requests,
    /// The hottest directories and programs.
    Hot,
    /// Moves between tiers, by whom, and the runs.
    Moves,
}

impl Pane {
    pub(super) const ALL: [Pane; 3] = [Pane::Requests, Pane::Hot, Pane::Moves];

    pub(super) fn title(self) -> &'static str {
        match self {
            Pane::Requests => "requests",
            Pane::Hot => "directories, programs",
            Pane::Moves => "moves, runs",
        }
    }

    fn step(self, by: usize) -> Pane {
        Pane::ALL[(self as usize + by) % Pane::ALL.len()]
    }
}

/// What requests are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Rate,
    Tail,
    Bytes,
    Name,
}

impl Sort {
    pub(super) fn title(self) -> &'static str {
        match self {
            Sort::Rate => "requests/s",
            Sort::Tail => "p99",
            Sort::Bytes => "bytes/s",
            Sort::Name => "name",
        }
    }

    fn next(self) -> Sort {
        match self {
            Sort::Rate => Sort::Tail,
            Sort::Tail => Sort::Bytes,
            Sort::Bytes => Sort::Name,
            Sort::Name => Sort::Rate,
        }
    }
}

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Able {
    pub colours: bool,
    /// More than ASCII.
    pub unicode: bool,
}

impl Able {
    /// By what the environment says, which `of` gives.
    pub(super) fn from(of: &dyn Fn(&str) -> Option<String>) -> Able {
        let said = |key: &str| of(key).filter(|text| !text.is_empty());
        let term = said("TERM").unwrap_or_default();
        let plain = term.is_empty() || term == "dumb" || term.starts_with("vt") || term.ends_with("-m");
        // The first of these that is set decides (`locale(7)`).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|key| said(key)).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        Able {
            colours: !plain && said("NO_COLOR").is_none(),
            unicode: term != "linux" && (locale.contains("utf-8") || locale.contains("utf8")),
        }
    }
}

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Letter(char),
    Left,
    Right,
    Up,
    Down,
    PageUp,
    PageDown,
    Escape,
}

/// An answer of the mount, or why there is none.
#[derive(Debug)]
pub(super) enum News {
    Counts(Box<Snapshot>),
    Status(Box<Status>),
    /// It does not answer; it may again.
    Silent,
    /// It has ended, or cannot be understood: the screen ends with this line.
    Gone(String),
}

/// What is shown.
#[derive(Debug)]
pub(super) struct View {
    /// Where the mount is.
    pub point: String,
    pub able: Able,
    pub interval: Duration,
    /// What has happened in the last interval.
    pub rates: Option<Snapshot>,
    /// Since the mount.
    pub all: Option<Snapshot>,
    pub status: Option<Status>,
    /// Requests a second, the latest last.
    pub history: VecDeque<u64>,
    pub pane: Pane,
    pub sort: Sort,
    /// Lines of the body that are above the screen.
    pub scroll: usize,
    pub paused: bool,
    pub help: bool,
    /// Questions in a row that were not answered.
    pub unanswered: u32,
}

impl View {
    pub(super) fn new(point: String, able: Able, interval: Duration) -> View {
        View {
            point,
            able,
            interval,
            rates: None,
            all: None,
            status: None,
            history: VecDeque::new(),
            pane: Pane::Requests,
            sort: Sort::Rate,
            scroll: 0,
            paused: false,
            help: false,
            unanswered: 0,
        }
    }

    /// Takes an answer in; the line with which the screen ends, if it does. While paused, only whether the
    /// mount is there counts.
    pub(super) fn take(&mut self, news: News) -> Option<String> {
        match news {
            News::Gone(line) => return Some(line),
            News::Silent => self.unanswered = self.unanswered.saturating_add(1),
            News::Status(status) => {
                self.unanswered = 0;
                if !self.paused {
                    self.status = Some(*status);
                }
            }
            News::Counts(now) => {
                self.unanswered = 0;
                if !self.paused {
                    self.count(*now);
                }
            }
        }
        None
    }

    fn count(&mut self, now: Snapshot) {
        if let Some(before) = &self.all {
            let since = now.since(before);
            self.history.push_back(rounded(since.per_second(since.count())));
            if self.history.len() > HISTORY_MAX {
                self.history.pop_front();
            }
            self.rates = Some(since);
        }
        self.all = Some(now);
    }

    /// What a key does; whether the screen ends.
    pub(super) fn press(&mut self, key: Key) -> bool {
        // Any key but those that end everything closes the help.
        if std::mem::take(&mut self.help) && key != Key::Letter('q') {
            return false;
        }
        match key {
            Key::Letter('q') => return true,
            Key::Letter('s') => self.sort = self.sort.next(),
            Key::Letter('p' | ' ') => self.paused = !self.paused,
            Key::Letter('?' | 'h') => self.help = true,
            Key::Letter(digit @ '1'..='3') => self.show(Pane::ALL[digit as usize - '1' as usize]),
            Key::Right | Key::Letter('\t') => self.show(self.pane.step(1)),
            Key::Left => self.show(self.pane.step(Pane::ALL.len() - 1)),
            Key::Up => self.scroll = self.scroll.saturating_sub(1),
            Key::Down => self.scroll = self.scroll.saturating_add(1),
            Key::PageUp => self.scroll = self.scroll.saturating_sub(10),
            Key::PageDown => self.scroll = self.scroll.saturating_add(10),
            Key::Letter(_) | Key::Escape => {}
        }
        false
    }

    fn show(&mut self, pane: Pane) {
        self.pane = pane;
        self.scroll = 0;
    }
}

/// To the nearest whole number, and never 0 for what is more.
fn rounded(rate: f64) -> u64 {
    if rate > 0.0 && rate < 1.0 { 1 } else { rate.round() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::histogram::Histogram;
    use crate::stats::op::Op;
    use crate::stats::snapshot::Requests;

    fn counts(seconds: u64, lookups: u64) -> News {
        let requests = Requests { latency: Histogram::new(&[lookups], 1), ..Requests::none(Op::Lookup, Some(0)) };
        let over = Duration::from_secs(seconds);
        News::Counts(Box::new(Snapshot { over, requests: vec![requests], ..Snapshot::default() }))
    }

    fn view() -> View {
        View::new("/m".into(), Able { colours: false, unicode: false }, Duration::from_secs(1))
    }

    #[test]
    fn rates_are_between_two_answers() {
        let mut view = view();
        assert_eq!(view.take(counts(10, 100)), None);
        assert!(view.rates.is_none());
        view.take(counts(12, 120));
        view.take(counts(14, 121));
        assert_eq!(view.history, [10, 1]);
        view.press(Key::Letter('p'));
        view.take(counts(16, 999));
        assert_eq!(view.history.len(), 2, "paused");
        view.take(News::Silent);
        assert_eq!(view.unanswered, 1);
        assert_eq!(view.take(News::Gone("it has ended".into())), Some("it has ended".into()));
    }

    #[test]
    fn keys_do_what_the_help_says() {
        let mut view = view();
        view.press(Key::Right);
        assert_eq!(view.pane, Pane::Hot);
        view.press(Key::Left);
        view.press(Key::Left);
        assert_eq!(view.pane, Pane::Moves);
        view.press(Key::Letter('1'));
        view.press(Key::Down);
        view.press(Key::Letter('s'));
        assert_eq!((view.pane, view.scroll, view.sort), (Pane::Requests, 1, Sort::Tail));
        view.press(Key::Letter('?'));
        assert!(view.help);
        assert!(!view.press(Key::Letter('s')));
        assert!(!view.help);
        assert_eq!(view.sort, Sort::Tail, "the key has closed the help");
        assert!(view.press(Key::Letter('q')));
    }

    #[test]
    fn the_environment_says_what_a_terminal_can() {
        let able = |set: &[(&str, &str)]| {
            let able = Able::from(&|key| set.iter().find(|(other, _)| *other == key).map(|(_, text)| (*text).into()));
            (able.colours, able.unicode)
        };
        assert_eq!(able(&[("TERM", "xterm-256color"), ("LANG", "de_DE.UTF-8")]), (true, true));
        assert_eq!(able(&[("TERM", "screen"), ("NO_COLOR", "1"), ("LANG", "C.utf8")]), (false, true));
        assert_eq!(able(&[("TERM", "xterm"), ("NO_COLOR", ""), ("LC_ALL", "C"), ("LANG", "C.UTF-8")]), (true, false));
        assert_eq!(able(&[("TERM", "dumb")]), (false, false));
        assert_eq!(able(&[]), (false, false));
    }
}
