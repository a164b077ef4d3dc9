//! Keeps tiers below their high watermarks.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::background::{Background, Ran};
use crate::daemon::runs;
use crate::migrate::{Event, Relieve, Stop, Summary, What};
use crate::policy::schedule::{Ended, Look, Pressure};
use crate::policy::watermark::Usage;
use crate::policy::{Policy, Watermarks};
use crate::types::attr::Space;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::union::Union;

/// Runs in a row that move nothing though each tries other files.
const FRUITLESS_MAX: u32 = 3;

/// Files that are left out since they could not be moved.
const EXCEPT_MAX: usize = 100_000;

/// A tier that cannot be looked at is looked at again after this.
const BLIND_NAP: Duration = Duration::from_secs(60);

/// Nothing to wait for.
const NEVER: Duration = Duration::from_secs(3600);

/// The tiers with watermarks.
#[derive(Debug, Default)]
pub(super) struct Rooms(BTreeMap<Rank, Room>);

#[derive(Debug, Default)]
struct Room {
    pressure: Pressure,
    /// Files that could not be moved since it began to give files.
    except: HashSet<UnionPath>,
    fruitless: u32,
    /// Why it is not looked after, to be told once.
    useless: bool,
}

impl Rooms {
    /// Looks at the tiers that are due, and makes room on one that is too full. How long until there
    /// may be more to do.
    pub(super) fn go(&mut self, background: &Background, policy: &Policy, now: Duration) -> Duration {
        let mut next = NEVER;
        for marks in &policy.watermarks {
            let room = self.0.entry(marks.tier).or_default();
            if room.pressure.next_look() <= now {
                room.look(background, policy, marks, now);
            }
            next = next.min(room.pressure.next_look().saturating_sub(now));
        }
        next
    }
}

impl Room {
    fn look(&mut self, background: &Background, policy: &Policy, marks: &Watermarks, now: Duration) {
        let tier = marks.tier;
        let usage = match usable(&background.union, tier) {
            Ok(Some(space)) => Usage::of(&space),
            Ok(None) => {
                self.pressure.postpone(now + BLIND_NAP);
                if !std::mem::replace(&mut self.useless, true) {
                    tracing::warn!(%tier, "the watermarks do nothing: the next slower tier is on the same filesystem");
                }
                return;
            }
            Err(errno) => {
                self.pressure.postpone(now + BLIND_NAP);
                return tracing::warn!(%tier, "how full the tier is cannot be told: {errno}");
            }
        };
        let began = self.pressure.is_relieving();
        match self.pressure.look(marks, usage, now) {
            Look::Free(bytes) => {
                if !began {
                    self.except.clear();
                    tracing::info!(%tier, bytes, "above {}% in use: files leave it until {}%", marks.high, marks.low);
                }
                let began = std::time::Instant::now();
                let ended = self.relieve(background, policy, marks, bytes);
                let now = now + began.elapsed();
                if self.pressure.ended(ended, now) {
                    tracing::warn!(%tier, "above {}% in use, and no file may or can leave it: see `tierfs explain FILE`, the rules, `never_younger_than` and the room on the slower tier", marks.high);
                }
                // At once, before others fill what became free: else it would seem that nothing did.
                if let Ok(Some(space)) = usable(&background.union, tier) {
                    let _goes_on_with_the_next_look = self.pressure.look(marks, Usage::of(&space), now);
                }
            }
            Look::Unfreed => {
                tracing::warn!(%tier, "files have left it, but it is as full as before: no more leave it for a while (do snapshots hold the space, or do programs fill it as fast?)");
            }
            Look::Rest => {}
        }
    }

    fn relieve(&mut self, background: &Background, policy: &Policy, marks: &Watermarks, bytes: u64) -> Ended {
        let (policy_of_run, except) = (policy.clone(), self.except.clone());
        let what = What::Relieve(Box::new(Relieve { policy: policy_of_run, tier: marks.tier, bytes, except }));
        let known = self.except.len();
        let except = &mut self.except;
        let ran = background.run(what, Vec::new(), policy, &mut |event| {
            if let Event::Skipped { path, .. } | Event::Failed { path, .. } = event
                && except.len() < EXCEPT_MAX
            {
                except.insert(path.clone());
            }
        });
        let tries_others = self.except.len() > known;
        match ran {
            Ran::NotNow => Ended::GaveWay,
            Ran::Done(summary) => self.ended(&summary, tries_others),
            Ran::Broken => self.give_up(),
            Ran::Not(error) => {
                tracing::warn!(tier = %marks.tier, "no room can be made: {}", runs::failed(error).line);
                Ended::InVain
            }
        }
    }

    fn ended(&mut self, summary: &Summary, tries_others: bool) -> Ended {
        self.fruitless = if summary.moved > 0 { 0 } else { self.fruitless + 1 };
        let hopeless = summary.moved == 0 && (!tries_others || self.fruitless >= FRUITLESS_MAX);
        match summary.stopped {
            Some(Stop::Interrupted) => Ended::GaveWay,
            // All that was chosen is over the limit; smaller files may not be.
            Some(Stop::Limit) if summary.moved == 0 && !hopeless => Ended::On(0),
            Some(Stop::Limit) => Ended::Limit,
            Some(Stop::Full(_) | Stop::Errors | Stop::Failed(_)) => self.give_up(),
            None if hopeless => self.give_up(),
            None => Ended::On(summary.taken),
        }
    }

    /// After the rest everything is tried again.
    fn give_up(&mut self) -> Ended {
        self.except.clear();
        self.fruitless = 0;
        Ended::InVain
    }
}

/// How full a tier is; `None` if what leaves it stays on the same filesystem, so that nothing is won.
fn usable(union: &Union, tier: Rank) -> Result<Option<Space>> {
    let space = union.tier_of(tier)?.space()?;
    let slower = Rank(tier.0.checked_add(1).ok_or(Errno::EINVAL)?);
    let below = union.tier_of(slower)?.space()?;
    // Not every filesystem has an id of its own; one that is in use changes between two looks.
    let alike = below.blocks == space.blocks && below.bfree.abs_diff(space.bfree) <= space.blocks / 100;
    Ok((below.filesystem != space.filesystem || !alike).then_some(space))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_what_sparse_files_free_is_what_they_took() {
        let summary = Summary { moved: 1, bytes: 1 << 40, taken: 4096, ..Summary::default() };
        assert_eq!(Room::default().ended(&summary, false), Ended::On(4096));
    }

    fn background(home: &std::path::Path) -> Background {
        Background {
            union: crate::daemon::control::tests::union(home),
            turns: std::sync::Arc::default(),
            signal: std::sync::Arc::default(),
            engine: |_, _, _| panic!("a mistake in the engine"),
        }
    }

    const MARKS: Watermarks = Watermarks {
        tier: Rank::PRIMARY,
        high: 80,
        low: 60,
        never_younger_than: Duration::ZERO,
        age_by: crate::policy::AgeBy::Newest,
        order: crate::policy::Order::Oldest,
    };

    #[test]
    fn regression_a_panic_costs_one_run_and_counts_as_in_vain() {
        let home = tempfile::tempdir().unwrap();
        let background = background(home.path());
        let ended = Room::default().relieve(&background, &Policy::default(), &MARKS, 1);
        assert_eq!(ended, Ended::InVain);
        assert!(background.turns.background().is_some(), "its turn is over");
    }

    #[test]
    fn regression_the_window_is_asked_before_each_run() {
        use crate::policy::window::{Span, Window};
        let home = tempfile::tempdir().unwrap();
        // Three days from now, however long the test takes.
        let day = (crate::daemon::hours::now().unwrap().day as usize + 3) % 7;
        let day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][day];
        let window = Window::new(vec![Span::new(&format!("{day} 00:00-24:00")).unwrap()]);
        let policy = Policy { window, ..Policy::default() };
        assert_eq!(Room::default().relieve(&background(home.path()), &policy, &MARKS, 1), Ended::GaveWay);
    }

    #[test]
    fn what_is_over_the_limit_leaves_the_others_their_turn() {
        let none = Summary { stopped: Some(Stop::Limit), ..Summary::default() };
        let some = Summary { moved: 1, ..none.clone() };
        let mut room = Room::default();
        assert_eq!((room.ended(&none, true), room.ended(&some, true)), (Ended::On(0), Ended::Limit));
        assert_eq!(room.ended(&none, false), Ended::Limit, "the same would be chosen again");
    }
}
