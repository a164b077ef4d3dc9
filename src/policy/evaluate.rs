//! What a policy decides about one file.

use std::time::Duration;

use crate::policy::{Action, AgeBy, Decision, Policy, Promotion, Rule, Stay, Verdict, age};
use crate::types::attr::Time;
use crate::types::facts::Facts;
use crate::types::ids::Rank;

/// The first condition of a rule that a file does not fulfil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// It is on another tier.
    Tier,
    /// It belongs to another user or group.
    Owner,
    /// It is too small.
    TooSmall,
    /// It is too large.
    TooLarge,
    /// Its path does not match, or matches a pattern under `not`.
    Path,
    /// It is too old, and time will not mend that.
    TooOld,
    /// It is too young by so much, and nothing else is missing.
    TooYoung(Duration),
}

impl Rule {
    /// Why the rule does not match; `None` if it does.
    pub fn miss(&self, facts: &Facts, now: Time) -> Option<Miss> {
        let stat = &facts.stat;
        let is_one_of = |ids: &[u32], id: u32| ids.is_empty() || ids.contains(&id);
        if self.tiers.is_some_and(|tiers| !tiers.has(facts.rank)) {
            return Some(Miss::Tier);
        }
        if !is_one_of(&self.uids, stat.uid) || !is_one_of(&self.gids, stat.gid) {
            return Some(Miss::Owner);
        }
        if stat.size < self.min_size {
            return Some(Miss::TooSmall);
        }
        if self.max_size.is_some_and(|max| stat.size > max) {
            return Some(Miss::TooLarge);
        }
        if self.globs.as_ref().is_some_and(|globs| !globs.matches(&facts.path)) || self.not.matches(&facts.path) {
            return Some(Miss::Path);
        }
        self.miss_of_age(age(facts, self.age_by, now))
    }

    /// Comes last, so that a file that is only too young is known to fulfil the rest.
    fn miss_of_age(&self, age: Duration) -> Option<Miss> {
        if self.younger_than.is_some_and(|limit| age >= limit) {
            return Some(Miss::TooOld);
        }
        let left = self.older_than?.saturating_sub(age);
        (!left.is_zero()).then_some(Miss::TooYoung(left))
    }
}

impl Policy {
    /// What becomes of a file, at `now`, in a union of `tiers` tiers.
    pub fn decide(&self, facts: &Facts, now: Time, tiers: u8) -> Decision {
        let stays = |stay| Decision { rule: None, verdict: Verdict::Stay(stay), age: age(facts, self.age_by, now) };
        if let Some(pin) = facts.pin {
            return Decision { verdict: pinned(pin, facts.rank, tiers), ..stays(Stay::Pinned) };
        }
        if self.exclude.matches(&facts.path) {
            return stays(Stay::Excluded);
        }
        let mut soonest: Option<(Duration, AgeBy)> = None;
        for (index, rule) in self.rules.iter().enumerate() {
            match rule.miss(facts, now) {
                None => {
                    let verdict = verdict(rule.action, facts.rank, tiers);
                    return Decision { rule: Some(index), verdict, age: age(facts, rule.age_by, now) };
                }
                Some(Miss::TooYoung(left)) if soonest.is_none_or(|(least, _)| left < least) => {
                    soonest = Some((left, rule.age_by));
                }
                Some(_) => {}
            }
        }
        let by = soonest.map_or(self.age_by, |(_, by)| by);
        Decision { age: age(facts, by, now), ..stays(Stay::NoRule(soonest.map(|(left, _)| left))) }
    }

    /// Where a file goes that has been used so much that [`Policy::promote`] calls for it: the next
    /// faster tier, or where a pin or rule wants it if that is faster. `None` if it stays, because it
    /// is there already, a pin or rule holds it or wants it down, or [`Policy::promote`] is never.
    ///
    /// The times in `facts` must be those after the use.
    pub fn promotion_target(&self, facts: &Facts, now: Time, tiers: u8) -> Option<Rank> {
        if self.promote == Promotion::Never {
            return None;
        }
        let faster = Rank(facts.rank.0.checked_sub(1)?);
        match self.decide(facts, now, tiers).verdict {
            Verdict::Stay(Stay::NoRule(_)) => self.rests_on(facts, faster, now, tiers).then_some(faster),
            Verdict::Move(to) if to < facts.rank => Some(to),
            Verdict::Move(_) | Verdict::Stay(_) => None,
        }
    }

    /// Whether the file would stay on `rank` if it were there: what a rule takes back at once is
    /// not worth a move.
    pub(crate) fn rests_on(&self, facts: &Facts, rank: Rank, now: Time, tiers: u8) -> bool {
        let there = Facts { rank, ..facts.clone() };
        matches!(self.decide(&there, now, tiers).verdict, Verdict::Stay(_))
    }
}

/// By a pin to `pin`.
fn pinned(pin: Rank, rank: Rank, tiers: u8) -> Verdict {
    if pin == rank || pin.0 >= tiers { Verdict::Stay(Stay::Pinned) } else { Verdict::Move(pin) }
}

/// By a rule that matches.
fn verdict(action: Action, rank: Rank, tiers: u8) -> Verdict {
    let target = match action {
        Action::Keep => return Verdict::Stay(Stay::Kept),
        Action::Pin(to) => return pinned(to, rank, tiers),
        Action::Demote(to) => to.or(rank.0.checked_add(1).map(Rank)).filter(|to| *to > rank),
        Action::Promote(to) => to.or(rank.0.checked_sub(1).map(Rank)).filter(|to| *to < rank),
    };
    target.filter(|to| to.0 < tiers).map_or(Verdict::Stay(Stay::Placed), Verdict::Move)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Criteria, since};
    use crate::types::attr::{Body, Stat};
    use crate::types::glob::{Globs, Pattern};
    use crate::types::ids::Ranks;
    use crate::types::path::UnionPath;

    pub(crate) const DAY: Duration = Duration::from_secs(86_400);
    pub(crate) const NOW: Time = Time { sec: 1_800_000_000, nsec: 0 };
    const SECONDARY: Rank = Rank(1);

    /// A file of 1 MiB of root on the primary, last read and changed so many days ago.
    pub(crate) fn file(path: &str, days: i64) -> Facts {
        let time = Time { sec: NOW.sec - days * 86_400, nsec: 0 };
        Facts {
            path: UnionPath::new(path.as_bytes()).unwrap(),
            rank: Rank::PRIMARY,
            stat: Stat {
                body: Body(u64::from(path.len() as u32) << 32 | u64::from(path.bytes().map(u32::from).sum::<u32>())),
                generation: 0,
                mode: 0o100_644,
                nlink: 1,
                uid: 0,
                gid: 0,
                rdev: 0,
                size: 1 << 20,
                blocks: 2048,
                blksize: 4096,
                atime: time,
                mtime: time,
                ctime: time,
            },
            pin: None,
        }
    }

    fn globs(texts: &[&str]) -> Globs {
        Globs::new(texts.iter().map(|text| Pattern::new(text).unwrap()).collect()).unwrap()
    }

    fn old(name: &str, days: u32, action: Action) -> Rule {
        Rule { older_than: Some(DAY * days), ..Rule::every(name, action) }
    }

    fn policy(rules: Vec<Rule>) -> Policy {
        Policy { rules, ..Policy::default() }
    }

    fn on(rank: u8, facts: Facts) -> Facts {
        Facts { rank: Rank(rank), ..facts }
    }

    #[test]
    fn a_pin_comes_before_every_rule_and_every_exclusion() {
        let mut policy = policy(vec![old("old", 365, Action::Demote(None))]);
        policy.exclude = globs(&["**"]);
        let pinned = |pin: u8, rank: u8| on(rank, Facts { pin: Some(Rank(pin)), ..file("a", 1000) });
        assert_eq!(policy.decide(&pinned(0, 0), NOW, 2).verdict, Verdict::Stay(Stay::Pinned));
        assert_eq!(policy.decide(&pinned(0, 1), NOW, 2).verdict, Verdict::Move(Rank::PRIMARY));
        assert_eq!(policy.decide(&pinned(1, 0), NOW, 2).verdict, Verdict::Move(SECONDARY));
        assert_eq!(policy.decide(&pinned(5, 0), NOW, 2).verdict, Verdict::Stay(Stay::Pinned));
        assert_eq!(policy.decide(&file("a", 1000), NOW, 2).verdict, Verdict::Stay(Stay::Excluded));
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let keep = Rule { globs: Some(globs(&["keep/**"])), ..Rule::every("keep", Action::Keep) };
        let policy = policy(vec![keep, old("old", 365, Action::Demote(None)), old("older", 10, Action::Keep)]);
        let kept = policy.decide(&file("keep/a", 1000), NOW, 2);
        assert_eq!((kept.rule, kept.verdict), (Some(0), Verdict::Stay(Stay::Kept)));
        let moved = policy.decide(&file("a", 365), NOW, 2);
        assert_eq!((moved.rule, moved.verdict, moved.age), (Some(1), Verdict::Move(SECONDARY), DAY * 365));
        assert_eq!(policy.decide(&file("a", 364), NOW, 2).rule, Some(2));
    }

    #[test]
    fn no_file_goes_beyond_the_last_tier_or_the_wrong_way() {
        let verdict = |action, rank| policy(vec![old("x", 0, action)]).decide(&on(rank, file("a", 1)), NOW, 3).verdict;
        let placed = Verdict::Stay(Stay::Placed);
        assert_eq!(verdict(Action::Demote(None), 1), Verdict::Move(Rank(2)));
        assert_eq!(verdict(Action::Demote(None), 2), placed);
        assert_eq!(verdict(Action::Demote(Some(Rank(1))), 2), placed);
        assert_eq!(verdict(Action::Demote(Some(Rank(1))), 1), placed);
        assert_eq!(verdict(Action::Demote(Some(Rank(3))), 0), placed);
        assert_eq!(verdict(Action::Promote(None), 2), Verdict::Move(Rank(1)));
        assert_eq!(verdict(Action::Promote(None), 0), placed);
        assert_eq!(verdict(Action::Promote(Some(Rank(2))), 1), placed);
        assert_eq!(verdict(Action::Pin(Rank(0)), 2), Verdict::Move(Rank(0)));
        assert_eq!(verdict(Action::Pin(Rank(2)), 2), Verdict::Stay(Stay::Pinned));
        assert_eq!(verdict(Action::Pin(Rank(3)), 2), Verdict::Stay(Stay::Pinned));
    }

    #[test]
    fn it_tells_how_long_until_a_rule_matches_if_only_age_is_missing() {
        let mut small = old("small", 2, Action::Demote(None));
        small.max_size = Some(1);
        let by_mtime = Rule { age_by: AgeBy::Mtime, ..old("soon", 30, Action::Demote(None)) };
        let policy = policy(vec![small, old("late", 365, Action::Demote(None)), by_mtime]);
        let mut facts = file("a", 10);
        facts.stat.atime = NOW;
        let decision = policy.decide(&facts, NOW, 2);
        assert_eq!(decision.verdict, Verdict::Stay(Stay::NoRule(Some(DAY * 20))));
        assert_eq!(decision.age, DAY * 10, "the age of the rule that would match");
        let then = Time { sec: NOW.sec + 20 * 86_400, nsec: 0 };
        assert_eq!(policy.decide(&facts, then, 2).rule, Some(2));
        facts.stat.size = 0;
        facts.rank = SECONDARY;
        let other =
            Policy { rules: vec![Rule { tiers: Some(Ranks::only(Rank(0))), ..policy.rules[1].clone() }], ..policy };
        assert_eq!(other.decide(&facts, NOW, 2).verdict, Verdict::Stay(Stay::NoRule(None)));
    }

    #[test]
    fn every_condition_must_hold() {
        let rule = Rule {
            globs: Some(globs(&["d/**"])),
            not: globs(&["*.tmp"]),
            older_than: Some(DAY),
            younger_than: Some(DAY * 10),
            min_size: 100,
            max_size: Some(1 << 20),
            uids: vec![7, 0],
            gids: vec![0],
            tiers: Some(Ranks::only(Rank(0))),
            ..Rule::every("all", Action::Keep)
        };
        let facts = file("d/a", 1);
        let miss = |facts: &Facts| rule.miss(facts, NOW);
        let with = |change: fn(&mut Stat)| {
            let mut other = facts.clone();
            change(&mut other.stat);
            miss(&other)
        };
        assert_eq!(miss(&facts), None);
        assert_eq!(miss(&on(1, facts.clone())), Some(Miss::Tier));
        assert_eq!(with(|stat| stat.uid = 1), Some(Miss::Owner));
        assert_eq!(with(|stat| stat.gid = 1), Some(Miss::Owner));
        assert_eq!(with(|stat| stat.uid = 7), None);
        assert_eq!(with(|stat| stat.size = 99), Some(Miss::TooSmall));
        assert_eq!(with(|stat| stat.size = 100), None);
        assert_eq!(with(|stat| stat.size += 1), Some(Miss::TooLarge));
        assert_eq!(miss(&file("e/a", 1)), Some(Miss::Path));
        assert_eq!(miss(&file("d/a.tmp", 1)), Some(Miss::Path));
        assert_eq!(miss(&file("d/a", 10)), Some(Miss::TooOld));
        assert_eq!(miss(&file("d/a", 0)), Some(Miss::TooYoung(DAY)));
        assert_eq!(miss(&file("d/a", -5)), Some(Miss::TooYoung(DAY)), "a time in the future is age zero");
    }

    #[test]
    fn a_read_makes_a_file_young_unless_the_rule_counts_from_the_change() {
        let mut facts = file("a", 400);
        facts.stat.atime = Time { sec: NOW.sec - 86_400, nsec: 0 };
        let verdict =
            |by| policy(vec![Rule { age_by: by, ..old("x", 365, Action::Demote(None)) }]).decide(&facts, NOW, 2);
        assert_eq!(verdict(AgeBy::Newest).verdict, Verdict::Stay(Stay::NoRule(Some(DAY * 364))));
        assert_eq!(verdict(AgeBy::Atime).age, DAY);
        assert_eq!(verdict(AgeBy::Mtime).verdict, Verdict::Move(SECONDARY));
    }

    #[test]
    fn the_command_line_makes_one_rule() {
        let criteria = |to| Criteria { older_than: Some(DAY * 365), min_size: 1, to, ..Criteria::default() };
        let verdict = |to, facts: &Facts| Policy::from_criteria(criteria(to)).decide(facts, NOW, 3).verdict;
        let placed = Verdict::Stay(Stay::Placed);
        assert_eq!(verdict(None, &file("a", 400)), Verdict::Move(SECONDARY));
        assert_eq!(verdict(None, &on(1, file("a", 400))), placed, "a second run moves it no further");
        assert_eq!(verdict(Some(Rank(2)), &on(1, file("a", 400))), Verdict::Move(Rank(2)));
        assert_eq!(verdict(Some(Rank(1)), &on(2, file("a", 400))), placed);
        assert_eq!(verdict(Some(Rank(0)), &on(2, file("a", 400))), Verdict::Move(Rank(0)));
        assert_eq!(verdict(None, &file("a", 300)), Verdict::Stay(Stay::NoRule(Some(DAY * 65))));
        let exclude = Globs::with_below(vec![Pattern::new("a").unwrap()]).unwrap();
        let mut policy = Policy::from_criteria(Criteria { exclude, ..criteria(None) });
        let verdict = |policy: &Policy, path| policy.decide(&file(path, 400), NOW, 2).verdict;
        assert_eq!(verdict(&policy, "c/b"), Verdict::Move(SECONDARY));
        policy.also_exclude(vec![Pattern::new("c").unwrap()]).unwrap();
        for path in ["a/b", "c/b"] {
            assert_eq!(verdict(&policy, path), Verdict::Stay(Stay::Excluded), "{path}");
        }
    }

    #[test]
    fn a_file_is_not_promoted_where_a_rule_takes_it_back() {
        let target = |rules, facts: &Facts| {
            let policy = Policy { promote: Promotion::Write, ..policy(rules) };
            policy.promotion_target(facts, NOW, 2)
        };
        let facts = on(1, file("a", 400));
        assert_eq!(target(vec![], &facts), Some(Rank(0)));
        assert_eq!(target(vec![], &file("a", 0)), None);
        assert_eq!(Policy::default().promotion_target(&facts, NOW, 2), None);
        let demote = Rule { tiers: Some(Ranks::only(Rank(0))), ..old("old", 365, Action::Demote(None)) };
        assert_eq!(target(vec![demote.clone()], &facts), None);
        assert_eq!(target(vec![demote], &on(1, file("a", 0))), Some(Rank(0)));
        assert_eq!(target(vec![Rule::every("keep", Action::Keep)], &facts), None);
        assert_eq!(target(vec![], &Facts { pin: Some(Rank(1)), ..facts.clone() }), None);
        assert_eq!(target(vec![], &Facts { pin: Some(Rank(0)), ..facts.clone() }), Some(Rank(0)));
        assert_eq!(target(vec![Rule::every("up", Action::Promote(None))], &facts), Some(Rank(0)));
    }

    proptest! {
        #[test]
        fn a_decision_is_within_the_union_and_is_reached_at_once(
            (action, to) in (0u8..4, proptest::option::of(0u8..9)),
            (pin, rank, tiers) in (proptest::option::of(0u8..9), 0u8..8, 1u8..9),
            (older, days) in (0u32..20, -3i64..20),
        ) {
            prop_assume!(rank < tiers);
            let to_rank = to.map(Rank);
            let action = match action {
                0 => Action::Demote(to_rank),
                1 => Action::Promote(to_rank),
                2 => Action::Pin(to_rank.unwrap_or(Rank(0))),
                _ => Action::Keep,
            };
            let policy = policy(vec![old("x", older, action)]);
            let facts = Facts { pin: pin.map(Rank), ..on(rank, file("a", days)) };
            let decision = policy.decide(&facts, NOW, tiers);
            prop_assert_eq!(decision.age, since(facts.stat.mtime, NOW));
            match decision.verdict {
                Verdict::Move(target) => {
                    prop_assert!(target.0 < tiers && target != facts.rank);
                    let named = to.is_some() || pin.is_some();
                    prop_assert!(!named || policy.rests_on(&facts, target, NOW, tiers), "it would move again");
                }
                Verdict::Stay(Stay::NoRule(left)) => {
                    let left = left.unwrap();
                    let then = Time { sec: NOW.sec + days.min(0).abs() * 86_400 + i64::try_from(left.as_secs()).unwrap(), nsec: 0 };
                    prop_assert_eq!(policy.decide(&facts, then, tiers).rule, Some(0));
                }
                Verdict::Stay(_) => {}
            }
        }
    }
}
