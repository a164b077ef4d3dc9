//! Hours of the week in which a run may work, by the clock on the wall.

use std::fmt;
use std::time::Duration;

use crate::config::suggest;

const MINUTES_OF_DAY: u16 = 24 * 60;
const SECONDS_OF_DAY: u32 = 24 * 60 * 60;
const SECONDS_OF_WEEK: u32 = 7 * SECONDS_OF_DAY;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say all")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Weekday {
    /// All, in order.
    pub const ALL: [Weekday; 7] =
        [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];

    const WORDS: [&'static str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    fn read(text: &str) -> Result<Weekday, String> {
        let found = Weekday::WORDS.iter().position(|word| *word == text);
        found.map(|at| Weekday::ALL[at]).ok_or_else(|| {
            let hint = suggest::hint(text, Weekday::WORDS);
            format!("`{text}` is not one of {}{hint}", suggest::either(&Weekday::WORDS))
        })
    }
}

/// A moment of the week in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Which day.
    pub day: Weekday,
    /// Seconds since its midnight, 0 to 86,399. A leap second counts as the one before.
    pub second: u32,
}

impl LocalTime {
    fn second_of_week(self) -> u32 {
        self.day as u32 * SECONDS_OF_DAY + self.second.min(SECONDS_OF_DAY - 1)
    }

    fn after(self, wait: Duration) -> LocalTime {
        let wait = u32::try_from(wait.as_secs() % u64::from(SECONDS_OF_WEEK)).unwrap_or(0);
        let second = (self.second_of_week() + wait) % SECONDS_OF_WEEK;
        LocalTime { day: Weekday::ALL[(second / SECONDS_OF_DAY) as usize], second: second % SECONDS_OF_DAY }
    }
}

/// To the minute, as windows are written: `mon 20:00`.
impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.second / 60;
        write!(f, "{} {:02}:{:02}", Weekday::WORDS[self.day as usize], minutes / 60, minutes % 60)
    }
}

/// One range of hours on some days. It belongs to the day on which it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The days on which it starts, in order, each once; never empty.
    days: Vec<Weekday>,
    /// Minutes since midnight.
    start: u16,
    /// Minutes since midnight, up to 24 × 60; at or before `start` for the next day.
    end: u16,
}

impl Span {
    /// Reads `20:00-06:00`, or `mon-fri 20:00-06:00`, or `sat,sun 00:00-24:00`.
    ///
    /// # Errors
    /// One line that says what to write instead.
    pub fn new(text: &str) -> Result<Span, String> {
        let (days, hours) = match text.trim().rsplit_once(' ') {
            Some((days, hours)) => (read_days(days)?, hours),
            None => (Weekday::ALL.to_vec(), text.trim()),
        };
        let form = || format!("`{text}` is not a window: write for example 20:00-06:00 or mon-fri 20:00-06:00");
        let (start, end) = hours.split_once('-').ok_or_else(form)?;
        let start = read_minute(start).filter(|start| *start < MINUTES_OF_DAY).ok_or_else(form)?;
        let end = read_minute(end).ok_or_else(form)?;
        if start == end {
            return Err(format!("`{text}` is empty: write 00:00-24:00 for the whole day"));
        }
        Ok(Span { days, start, end })
    }

    /// As [`Span::new`] reads it.
    pub fn text(&self) -> String {
        let hours = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let words: Vec<&str> = self.days.iter().map(|day| Weekday::WORDS[*day as usize]).collect();
        let range = format!("{}-{}", hours(self.start), hours(self.end));
        if self.days.len() == Weekday::ALL.len() { range } else { format!("{} {range}", words.join(",")) }
    }

    /// Seconds from its start to its end.
    fn length(&self) -> u32 {
        let minutes =
            if self.end > self.start { self.end - self.start } else { MINUTES_OF_DAY - self.start + self.end };
        u32::from(minutes) * 60
    }

    /// Seconds that are left of it at a second of the week; zero outside of it.
    fn left(&self, second: u32) -> u32 {
        let start_of = |day: &Weekday| *day as u32 * SECONDS_OF_DAY + u32::from(self.start) * 60;
        let gone = self.days.iter().map(|day| (second + SECONDS_OF_WEEK - start_of(day)) % SECONDS_OF_WEEK);
        gone.map(|gone| self.length().saturating_sub(gone)).max().unwrap_or(0)
    }

    /// Seconds until it next starts.
    fn until_start(&self, second: u32) -> u32 {
        let start_of = |day: &Weekday| *day as u32 * SECONDS_OF_DAY + u32::from(self.start) * 60;
        let until = self.days.iter().map(|day| (start_of(day) + SECONDS_OF_WEEK - second) % SECONDS_OF_WEEK);
        until.min().unwrap_or(0)
    }
}

fn read_days(text: &str) -> Result<Vec<Weekday>, String> {
    let mut days = Vec::new();
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (Weekday::read(first)? as usize, Weekday::read(last)? as usize);
        let count = (last + 7 - first) % 7 + 1;
        days.extend((0..count).map(|step| Weekday::ALL[(first + step) % 7]));
    }
    days.sort_unstable();
    days.dedup();
    Ok(days)
}

/// Minutes since midnight from `HH:MM`, at most 24:00.
fn read_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |part: &str| part.len() <= 2 && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || minute.len() != 2 || !digits(minute) {
        return None;
    }
    let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
    Some(hour * 60 + minute).filter(|all| minute < 60 && *all <= MINUTES_OF_DAY)
}

/// A window outside of its hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// As it is written.
    pub window: String,
    /// When it opens.
    pub opens: LocalTime,
    /// How long until then.
    pub wait: Duration,
}

/// The hours of the week in which a run may work.
///
/// It counts by the clock on the wall, so on a day on which the clock is set the answers can be
/// wrong by that hour: ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window(Vec<Span>);

impl Window {
    /// `None` without a span: then every hour is good.
    pub fn new(spans: Vec<Span>) -> Option<Window> {
        if spans.is_empty() { None } else { Some(Window(spans)) }
    }

    /// As it is written, one span after another.
    pub fn text(&self) -> String {
        self.0.iter().map(Span::text).collect::<Vec<_>>().join(", ")
    }

    /// When it opens, and after how long; `None` within it.
    pub fn closed(&self, at: LocalTime) -> Option<Closed> {
        let wait = self.until_start(at);
        (!wait.is_zero()).then(|| Closed { window: self.text(), opens: at.after(wait), wait })
    }

    /// Whether a run may work at `at`.
    pub fn contains(&self, at: LocalTime) -> bool {
        self.until_end(at).is_some()
    }

    /// How long a run may still work, over spans that touch; `None` outside of the window, a week
    /// for one without an end.
    pub fn until_end(&self, at: LocalTime) -> Option<Duration> {
        let start = at.second_of_week();
        let mut gone = 0;
        loop {
            let second = (start + gone) % SECONDS_OF_WEEK;
            let left = self.0.iter().map(|span| span.left(second)).max().unwrap_or(0);
            gone += left;
            if left == 0 || gone >= SECONDS_OF_WEEK {
                break;
            }
        }
        let left = Duration::from_secs(u64::from(gone.min(SECONDS_OF_WEEK)));
        (gone > 0).then_some(left)
    }

    /// How long until a run may work; zero within the window.
    pub fn until_start(&self, at: LocalTime) -> Duration {
        if self.contains(at) {
            return Duration::ZERO;
        }
        let second = at.second_of_week();
        let until = self.0.iter().map(|span| span.until_start(second)).min().unwrap_or(0);
        Duration::from_secs(u64::from(until))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(spans: &[&str]) -> Window {
        Window::new(spans.iter().map(|text| Span::new(text).unwrap()).collect()).unwrap()
    }

    fn at(day: Weekday, hour: u32, minute: u32) -> LocalTime {
        LocalTime { day, second: (hour * 60 + minute) * 60 }
    }

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3600)
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_starts() {
        let nights = window(&["mon-fri 20:00-06:00"]);
        assert_eq!(nights.until_end(at(Weekday::Fri, 20, 0)), Some(hours(10)));
        assert_eq!(nights.until_end(at(Weekday::Sat, 5, 0)), Some(hours(1)));
        assert_eq!(nights.until_end(at(Weekday::Sat, 6, 0)), None);
        assert_eq!(nights.until_start(at(Weekday::Sat, 6, 0)), hours(48 + 14));
        assert!(!nights.contains(at(Weekday::Mon, 5, 0)));
        assert_eq!(nights.until_start(at(Weekday::Mon, 5, 0)), hours(15));
    }

    #[test]
    fn a_closed_window_says_when_it_opens() {
        let window = window(&["mon-fri 20:00-06:00", "sun 12:00-13:00"]);
        let closed = window.closed(at(Weekday::Sat, 11, 30)).unwrap();
        assert_eq!((closed.opens.to_string(), closed.wait), ("sun 12:00".into(), hours(24) + hours(1) / 2));
        assert_eq!(closed.window, "mon,tue,wed,thu,fri 20:00-06:00, sun 12:00-13:00");
        assert_eq!(window.closed(at(Weekday::Sun, 23, 0)).unwrap().opens.to_string(), "mon 20:00");
        assert_eq!(window.closed(at(Weekday::Sun, 12, 0)), None);
    }

    #[test]
    fn spans_that_touch_are_one() {
        let both = window(&["20:00-24:00", "00:00-06:00"]);
        assert_eq!(both.until_end(at(Weekday::Sun, 22, 0)), Some(hours(8)));
        let weekend = window(&["fri 18:00-24:00", "sat,sun 00:00-24:00"]);
        assert_eq!(weekend.until_end(at(Weekday::Fri, 18, 0)), Some(hours(54)));
        assert!(!weekend.contains(at(Weekday::Mon, 0, 0)));
        assert_eq!(window(&["00:00-24:00"]).until_end(at(Weekday::Wed, 3, 0)), Some(hours(168)));
    }

    #[test]
    fn what_is_no_window_is_refused_with_a_hint() {
        for (text, says) in [
            ("", "20:00-06:00"),
            ("20-06", "20:00-06:00"),
            ("25:00-06:00", "20:00-06:00"),
            ("24:00-06:00", "20:00-06:00"),
            ("20:00-24:01", "20:00-06:00"),
            ("20:60-21:00", "20:00-06:00"),
            ("20:00-20:00", "00:00-24:00"),
            ("mo-fr 20:00-06:00", "`mo` is not one of mon, tue"),
            ("monn 20:00-06:00", "did you mean `mon`?"),
        ] {
            let line = Span::new(text).unwrap_err();
            assert!(line.contains(says), "{text}: {line}");
        }
        let around = Span::new("sat-mon 1:00-2:00").unwrap();
        assert_eq!(around.text(), "mon,sat,sun 01:00-02:00");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9:, -]{0,24}|.{0,20}") {
            if let Ok(span) = Span::new(&text) {
                prop_assert_eq!(Span::new(&span.text()), Ok(span));
            }
        }

        #[test]
        fn the_end_is_the_first_second_outside(start in 0u16..1440, end in 0u16..1441, day in 0usize..7, second in 0u32..86400) {
            prop_assume!(start != end);
            let span = Span { days: vec![Weekday::ALL[day]], start, end };
            let window = Window(vec![span]);
            let now = LocalTime { day: Weekday::Tue, second };
            let after = |gone: Duration| {
                let second = (now.second_of_week() + u32::try_from(gone.as_secs()).unwrap()) % SECONDS_OF_WEEK;
                LocalTime { day: Weekday::ALL[(second / SECONDS_OF_DAY) as usize], second: second % SECONDS_OF_DAY }
            };
            match window.until_end(now) {
                Some(left) => {
                    prop_assert!(!window.contains(after(left)));
                    prop_assert!(window.contains(after(left - Duration::from_secs(1))));
                }
                None => prop_assert!(window.contains(after(window.until_start(now)))),
            }
        }
    }
}
