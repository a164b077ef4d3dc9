//! When a mount moves files by itself: how often it looks at a tier, when it begins, when it rests.
//!
//! Times are since an arbitrary start and never go back; the hour is passed in as wall-clock time.

use std::time::Duration;

use crate::policy::watermark::Usage;
use crate::policy::window::LocalTime;
use crate::policy::{Limits, Policy, Watermarks};

/// Between two looks at a tier: sooner if it fills up fast.
const LOOK_MIN: Duration = Duration::from_secs(1);
const LOOK_MAX: Duration = Duration::from_secs(5);

/// After a run that could move nothing, the first time and at most: each vain run doubles it.
const REST_MIN: Duration = Duration::from_secs(60);
const REST_MAX: Duration = Duration::from_secs(3600);

/// After a run that one of the policy's limits has ended. Limits are for one run, and one that
/// follows at once would be the same run.
const REST_LIMIT: Duration = Duration::from_secs(3600);

impl Policy {
    /// Under what limits a run may begin at `at`; `None` outside of the window. The end of the window
    /// ends the run.
    pub fn allowance(&self, at: LocalTime) -> Option<Limits> {
        let Some(window) = &self.window else { return Some(self.limits) };
        Some(self.limits.within(window.until_end(at)?))
    }
}

impl Limits {
    /// The same for a run that ends with its window, of which so much is left.
    pub fn within(self, left: Duration) -> Limits {
        Limits { duration: Some(self.duration.map_or(left, |limit| limit.min(left))), ..self }
    }
}

/// How long a filesystem may take to tell that removed files have become free space.
const SETTLING_MAX: Duration = Duration::from_secs(60);

/// What a look at a tier comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// There is nothing to do now.
    Rest,
    /// So many bytes must go.
    Free(u64),
    /// Files have left it, yet it is about as full as it was: more would leave it in vain. It rests.
    Unfreed,
}

/// How a run has ended that was to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Files have moved that took so many bytes on the tier, or none but others are to be tried.
    On(u64),
    /// Nothing moved, and the next run would find the same.
    InVain,
    /// A limit of the policy, or the end of its window.
    Limit,
    /// It gave way to a command.
    GaveWay,
}

/// What is known of a tier with watermarks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pressure {
    /// It was above high and is not at low yet.
    relieving: bool,
    /// Nothing is done before this.
    resting_until: Duration,
    /// How long the last rest was for want of files to move; zero if the last run was not in vain.
    rest: Duration,
    /// When it was looked at and how much was in use.
    seen: Option<(Duration, u64)>,
    settling: Option<Settling>,
    /// When to look again.
    next: Duration,
}

/// Bytes have left a tier, and it is not seen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settling {
    /// In use before.
    used: u64,
    moved: u64,
    /// It is waited for until then.
    until: Duration,
}

impl Pressure {
    /// When to look at the tier again.
    pub fn next_look(&self) -> Duration {
        self.next.max(self.resting_until)
    }

    /// Whether files are leaving it.
    pub fn is_relieving(&self) -> bool {
        self.relieving
    }

    /// The tier cannot be looked at before then.
    pub fn postpone(&mut self, until: Duration) {
        self.next = until;
    }

    /// Takes note of how full the tier is.
    pub fn look(&mut self, marks: &Watermarks, usage: Usage, now: Duration) -> Look {
        let rise = self.seen.map(|(then, used)| (now.saturating_sub(then), usage.used.saturating_sub(used)));
        self.seen = Some((now, usage.used));
        self.next = now.saturating_add(interval(marks.room(usage), rise));
        if now < self.resting_until {
            return Look::Rest;
        }
        if let Some(settling) = self.settling {
            let freed = settling.used.saturating_sub(usage.used);
            if freed < settling.moved / 2 && now < settling.until {
                return Look::Rest;
            }
            self.settling = None;
            if freed >= settling.moved / 10 {
                self.rest = Duration::ZERO;
            } else if self.ended(Ended::InVain, now) {
                return Look::Unfreed;
            }
        }
        let excess = usage.excess(marks.low);
        self.relieving = excess > 0 && (self.relieving || marks.excess(usage).is_some());
        if self.relieving && now >= self.resting_until { Look::Free(excess) } else { Look::Rest }
    }

    /// A run for this tier has ended. Whether the administrator is to be told that it was in vain:
    /// once, until something moves again.
    pub fn ended(&mut self, how: Ended, now: Duration) -> bool {
        let first = self.rest.is_zero();
        let rest = match how {
            Ended::On(_) => Duration::ZERO,
            Ended::GaveWay => LOOK_MAX,
            Ended::Limit => REST_LIMIT,
            Ended::InVain => (self.rest * 2).clamp(REST_MIN, REST_MAX),
        };
        self.relieving &= how != Ended::InVain;
        self.resting_until = now.saturating_add(rest);
        match how {
            Ended::On(moved) => {
                let until = now.saturating_add(SETTLING_MAX);
                self.settling = self.seen.filter(|_| moved > 0).map(|(_, used)| Settling { used, moved, until });
                self.next = now;
            }
            Ended::InVain => self.rest = rest,
            Ended::Limit => self.rest = Duration::ZERO,
            Ended::GaveWay => {}
        }
        how == Ended::InVain && first
    }
}

/// Half the time in which the `room` that is left fills up at the present rate.
fn interval(room: u64, rise: Option<(Duration, u64)>) -> Duration {
    match rise {
        Some((gone, bytes)) if bytes > 0 => {
            let until_full = gone.as_secs_f64() * (room as f64 / bytes as f64);
            Duration::from_secs_f64((until_full / 2.0).clamp(LOOK_MIN.as_secs_f64(), LOOK_MAX.as_secs_f64()))
        }
        _ => LOOK_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::window::{Span, Weekday, Window};
    use crate::policy::{AgeBy, Order};
    use crate::types::ids::Rank;

    const MARKS: Watermarks = Watermarks {
        tier: Rank::PRIMARY,
        high: 80,
        low: 60,
        never_younger_than: Duration::ZERO,
        age_by: AgeBy::Newest,
        order: Order::Oldest,
    };

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn full(used: u64) -> Usage {
        Usage { used, total: 100 }
    }

    #[test]
    fn it_begins_above_high_and_ends_at_low() {
        let mut tier = Pressure::default();
        assert_eq!(tier.look(&MARKS, full(80), secs(0)), Look::Rest);
        assert_eq!(tier.look(&MARKS, full(81), secs(1)), Look::Free(21));
        tier.ended(Ended::On(11), secs(2));
        assert_eq!(tier.look(&MARKS, full(70), secs(3)), Look::Free(10), "between the two it goes on");
        assert_eq!(tier.look(&MARKS, full(60), secs(4)), Look::Rest);
        assert_eq!(tier.look(&MARKS, full(70), secs(5)), Look::Rest, "and does not begin again");
        assert_eq!(tier.look(&MARKS, full(90), secs(6)), Look::Free(30));
    }

    #[test]
    fn what_is_in_vain_is_told_once_and_tried_less_and_less() {
        let mut tier = Pressure::default();
        let (mut now, mut rests) = (secs(0), Vec::new());
        for round in 0..9 {
            assert_eq!(tier.look(&MARKS, full(90), now), Look::Free(30));
            assert_eq!(tier.ended(Ended::InVain, now), round == 0);
            assert_eq!(tier.clone().look(&MARKS, full(90), now + secs(59)), Look::Rest, "no tight loop");
            rests.push(tier.next_look().saturating_sub(now).as_secs());
            now = tier.next_look();
        }
        assert_eq!(rests, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
    }

    #[test]
    fn space_that_does_not_become_free_is_waited_for_and_then_given_up() {
        let mut tier = Pressure::default();
        assert_eq!(tier.look(&MARKS, full(90), secs(0)), Look::Free(30));
        tier.ended(Ended::On(30), secs(10));
        assert_eq!(tier.look(&MARKS, full(89), secs(11)), Look::Rest, "no more goes meanwhile");
        let mut late = tier.clone();
        assert_eq!(late.look(&MARKS, full(75), secs(30)), Look::Free(15), "half of it is seen");
        assert_eq!(tier.look(&MARKS, full(89), secs(70)), Look::Unfreed);
        assert_eq!(tier.look(&MARKS, full(89), secs(100)), Look::Rest);
        assert_eq!(tier.look(&MARKS, full(89), secs(130)), Look::Free(29), "then it is tried again");
        tier.ended(Ended::On(29), secs(131));
        assert_eq!(tier.look(&MARKS, full(89), secs(200)), Look::Rest, "and not told again");
        assert!(tier.next_look() >= secs(200 + 120));
    }

    #[test]
    fn regression_success_ends_the_growing_of_rests() {
        let mut tier = Pressure::default();
        let mut now = secs(0);
        for _ in 0..6 {
            assert_eq!(tier.look(&MARKS, full(90), now), Look::Free(30));
            tier.ended(Ended::InVain, now);
            now = tier.next_look();
        }
        assert_eq!(tier.look(&MARKS, full(90), now), Look::Free(30));
        tier.ended(Ended::On(30), now);
        assert_eq!(tier.look(&MARKS, full(60), now), Look::Rest, "it is seen that they have gone");
        assert_eq!(tier.look(&MARKS, full(90), now + secs(9)), Look::Free(30));
        assert!(tier.ended(Ended::InVain, now + secs(9)), "told anew");
        assert_eq!(tier.next_look(), now + secs(9) + REST_MIN);
    }

    #[test]
    fn a_limit_ends_it_for_an_hour_and_a_command_for_a_moment() {
        let mut tier = Pressure::default();
        assert_eq!(tier.look(&MARKS, full(90), secs(0)), Look::Free(30));
        assert!(!tier.ended(Ended::Limit, secs(0)));
        assert_eq!(tier.next_look(), REST_LIMIT);
        let mut tier = Pressure::default();
        assert_eq!(tier.look(&MARKS, full(90), secs(0)), Look::Free(30));
        assert!(!tier.ended(Ended::GaveWay, secs(0)));
        assert_eq!(tier.next_look(), LOOK_MAX);
        assert_eq!(tier.look(&MARKS, full(70), LOOK_MAX), Look::Free(10), "it goes on where it stopped");
    }

    #[test]
    fn a_tier_that_fills_up_fast_is_looked_at_sooner() {
        let next = |first: u64, second: u64| {
            let mut tier = Pressure::default();
            tier.look(&MARKS, full(first), secs(0));
            tier.look(&MARKS, full(second), secs(5));
            tier.next_look() - secs(5)
        };
        assert_eq!(next(10, 10), LOOK_MAX);
        assert_eq!(next(50, 10), LOOK_MAX, "files went");
        assert_eq!(next(0, 60), LOOK_MIN);
        assert_eq!(next(40, 60), secs(5).mul_f64(0.5));
        assert_eq!(next(60, 80), LOOK_MIN);
    }

    #[test]
    fn the_end_of_the_window_limits_a_run() {
        let window = |text: &str| Window::new(vec![Span::new(text).unwrap()]);
        let at = |hour: u32| LocalTime { day: Weekday::Tue, second: hour * 3600 };
        let mut policy = Policy::default();
        assert_eq!(policy.allowance(at(12)), Some(Limits::default()));
        policy.window = window("20:00-06:00");
        policy.limits.files = Some(3);
        assert_eq!(policy.allowance(at(12)), None);
        let limits = Limits { files: Some(3), duration: Some(secs(7200)), ..Limits::default() };
        assert_eq!(policy.allowance(at(4)), Some(limits));
        policy.limits.duration = Some(secs(60));
        assert_eq!(policy.allowance(at(4)), Some(policy.limits));
    }
}
