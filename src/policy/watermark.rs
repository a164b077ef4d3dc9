//! What a tier gives away when it is too full.

use std::cmp::Ordering;

use crate::policy::{AgeBy, Order, Policy, Stay, Verdict, Watermarks, age};
use crate::types::attr::{Space, Time};
use crate::types::facts::Facts;
use crate::types::ids::Rank;

/// Bytes of a block in `Stat::blocks` (`stat(2)`).
pub(super) const BLOCK: u64 = 512;

/// How full a tier is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// In use.
    pub used: u64,
    /// What ordinary users can have in all, used or free.
    pub total: u64,
}

impl Usage {
    /// As `df` counts: what is reserved for root is not part of the total.
    pub fn of(space: &Space) -> Usage {
        let bytes = |blocks: u64| blocks.saturating_mul(u64::from(space.frsize));
        let used = bytes(space.blocks.saturating_sub(space.bfree));
        Usage { used, total: used.saturating_add(bytes(space.bavail)) }
    }

    /// Hundredths in use, a begun one as a whole.
    pub fn percent(self) -> u8 {
        let percent = (u128::from(self.used) * 100).div_ceil(u128::from(self.total.max(1)));
        u8::try_from(percent).unwrap_or(u8::MAX)
    }

    /// Whether more than so many hundredths are used.
    fn is_above(self, percent: u8) -> bool {
        u128::from(self.used) * 100 > u128::from(self.total) * u128::from(percent)
    }

    /// Bytes that must go until at most so many hundredths are used.
    pub(super) fn excess(self, percent: u8) -> u64 {
        let may_stay = u128::from(self.total) * u128::from(percent) / 100;
        self.used.saturating_sub(u64::try_from(may_stay).unwrap_or(u64::MAX))
    }
}

impl Watermarks {
    /// Bytes that must go until `low` is reached; `None` while `usage` is not above `high`.
    pub fn excess(&self, usage: Usage) -> Option<u64> {
        usage.is_above(self.high).then(|| usage.excess(self.low))
    }

    /// Bytes that the tier can take before it is above `high`.
    pub fn room(&self, usage: Usage) -> u64 {
        let may_be_used = u128::from(usage.total) * u128::from(self.high) / 100;
        u64::try_from(may_be_used).unwrap_or(u64::MAX).saturating_sub(usage.used)
    }
}

impl Order {
    /// Which of two files goes first: `Less` for `a`. Equal ones go by their path; `Tree` goes by
    /// path alone.
    pub fn compare(self, a: &Facts, b: &Facts, by: AgeBy) -> Ordering {
        let time = |facts: &Facts| match by {
            AgeBy::Newest => facts.stat.atime.max(facts.stat.mtime),
            AgeBy::Atime => facts.stat.atime,
            AgeBy::Mtime => facts.stat.mtime,
        };
        let first = match self {
            Order::Tree => Ordering::Equal,
            Order::Oldest => time(a).cmp(&time(b)),
            Order::Largest => b.stat.size.cmp(&a.stat.size),
            Order::Smallest => a.stat.size.cmp(&b.stat.size),
        };
        first.then_with(|| a.path.cmp(&b.path))
    }
}

impl Policy {
    /// The watermarks of a tier that is above its high one, and how many bytes must go.
    pub fn exceeded(&self, tier: Rank, usage: Usage) -> Option<(&Watermarks, u64)> {
        let marks = self.watermarks.iter().find(|marks| marks.tier == tier)?;
        marks.excess(usage).map(|bytes| (marks, bytes))
    }

    /// Where a watermark may take a file: to the next slower tier. `None` if it stays, because a
    /// pin or rule holds it or would bring it back, it moves by a rule anyway, or it is too young or
    /// too small.
    pub fn watermark_target(&self, marks: &Watermarks, facts: &Facts, now: Time, tiers: u8) -> Option<Rank> {
        let slower = Rank(facts.rank.0.checked_add(1)?);
        let free = match self.decide(facts, now, tiers).verdict {
            // Whether a rule has placed it here and would bring it back is seen below.
            Verdict::Stay(Stay::NoRule(_) | Stay::Placed) => true,
            Verdict::Stay(Stay::Pinned | Stay::Excluded | Stay::Kept) | Verdict::Move(_) => false,
        };
        let goes = free
            && facts.rank == marks.tier
            && slower.0 < tiers
            && facts.stat.size >= self.min_size
            && age(facts, marks.age_by, now) >= marks.never_younger_than
            && self.rests_on(facts, slower, now, tiers);
        goes.then_some(slower)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::evaluate::tests::{DAY, NOW, file};
    use crate::policy::{Action, Rule};

    const MARKS: Watermarks = Watermarks {
        tier: Rank::PRIMARY,
        high: 85,
        low: 70,
        never_younger_than: DAY,
        age_by: AgeBy::Newest,
        order: Order::Oldest,
    };

    fn policy(rules: Vec<Rule>) -> Policy {
        Policy { rules, watermarks: vec![MARKS], ..Policy::default() }
    }

    #[test]
    fn it_begins_above_high_and_ends_at_low() {
        let excess = |used| MARKS.excess(Usage { used, total: 1000 });
        assert_eq!((excess(850), excess(851), excess(1000)), (None, Some(151), Some(300)));
        assert_eq!(MARKS.excess(Usage { used: 0, total: 0 }), None);
        assert_eq!(policy(vec![]).exceeded(Rank(1), Usage { used: 10, total: 10 }), None);
    }

    #[test]
    fn fullness_is_that_of_df() {
        let space = Space { frsize: 4096, blocks: 1000, bfree: 150, bavail: 100, ..Space::default() };
        assert_eq!(Usage::of(&space), Usage { used: 850 * 4096, total: 950 * 4096 });
    }

    #[test]
    fn what_a_pin_or_rule_holds_stays_however_full_the_tier_is() {
        let target = |rules, facts: &Facts| policy(rules).watermark_target(&MARKS, facts, NOW, 2);
        let old = file("a", 100);
        let rule = |action| vec![Rule::every("x", action)];
        assert_eq!(target(vec![], &old), Some(Rank(1)));
        assert_eq!(target(vec![], &Facts { pin: Some(Rank(0)), ..old.clone() }), None);
        assert_eq!(target(vec![], &Facts { rank: Rank(1), ..old.clone() }), None);
        assert_eq!(target(rule(Action::Keep), &old), None);
        assert_eq!(target(rule(Action::Pin(Rank(0))), &old), None);
        assert_eq!(target(rule(Action::Promote(None)), &old), None, "it would come back");
        assert_eq!(target(rule(Action::Demote(None)), &old), None, "the rule moves it");
        let back =
            Rule { tiers: Some(crate::types::ids::Ranks::only(Rank(1))), ..Rule::every("x", Action::Promote(None)) };
        assert_eq!(target(vec![back], &old), None, "it would come back");
    }

    #[test]
    fn only_files_of_that_tier_go() {
        let target = |rank, facts: &Facts| {
            let demoted = Rule::every("x", Action::Demote(Some(Rank(1))));
            let marks = Watermarks { tier: Rank(rank), ..MARKS };
            policy(vec![demoted]).watermark_target(&marks, facts, NOW, 3)
        };
        let on_secondary = Facts { rank: Rank(1), ..file("a", 100) };
        assert_eq!(target(0, &on_secondary), None);
        assert_eq!(target(1, &on_secondary), Some(Rank(2)), "the rule is content with it further down");
    }

    #[test]
    fn files_go_in_the_order_that_is_said() {
        let mut files = [file("b", 5), file("a", 5), file("c", 9)];
        files[2].stat.size = 1;
        files[0].stat.atime = NOW;
        let mut order = |order: Order, by| {
            files.sort_by(|a, b| order.compare(a, b, by));
            files.each_ref().map(|facts| facts.path.to_string()).join("")
        };
        assert_eq!(order(Order::Oldest, AgeBy::Newest), "cab");
        assert_eq!(order(Order::Oldest, AgeBy::Mtime), "cab");
        assert_eq!(order(Order::Largest, AgeBy::Newest), "abc");
        assert_eq!(order(Order::Smallest, AgeBy::Newest), "cab");
        assert_eq!(order(Order::Tree, AgeBy::Newest), "abc");
    }

    proptest! {
        #[test]
        fn what_goes_is_enough_and_no_more(used in any::<u64>(), total in any::<u64>(), high in 1u8..=100, low in 0u8..100) {
            prop_assume!(low < high);
            let marks = Watermarks { high, low, ..MARKS };
            let usage = Usage { used, total };
            if let Some(bytes) = marks.excess(usage) {
                prop_assert!(bytes > 0);
                let (enough, less) = (Usage { used: used - bytes, total }, Usage { used: used - bytes + 1, total });
                prop_assert!(!enough.is_above(low) && less.is_above(low));
            }
        }
    }
}
