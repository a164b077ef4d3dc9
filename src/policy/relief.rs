//! Which files leave a tier that is too full, chosen while they are seen one by one: no more are
//! kept at a time than it takes, however many the tier has.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use crate::policy::watermark::BLOCK;
use crate::policy::{AgeBy, Order, Policy, Verdict, Watermarks};
use crate::types::attr::{Body, Time};
use crate::types::facts::Facts;
use crate::types::ids::Rank;

impl Policy {
    /// Where a file may go to make room: where a rule or pin takes it down anyway, else where
    /// [`Policy::watermark_target`] says. `None` if it stays.
    pub fn relief_target(&self, marks: &Watermarks, facts: &Facts, now: Time, tiers: u8) -> Option<Rank> {
        match self.decide(facts, now, tiers).verdict {
            Verdict::Move(to) if to > facts.rank && facts.rank == marks.tier => Some(to),
            Verdict::Move(_) | Verdict::Stay(_) => self.watermark_target(marks, facts, now, tiers),
        }
    }
}

/// A file that may go, and where to.
#[derive(Debug)]
struct Candidate {
    facts: Facts,
    to: Rank,
    /// As the watermarks say: the same for all candidates.
    order: (Order, AgeBy),
}

impl Candidate {
    /// Bytes that become free.
    fn taken(&self) -> u64 {
        self.facts.stat.blocks.saturating_mul(BLOCK)
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        let (order, by) = self.order;
        order.compare(&self.facts, &other.facts, by)
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// Gathers the first files to go until enough becomes free.
#[derive(Debug)]
pub struct Relief<'a> {
    policy: &'a Policy,
    marks: &'a Watermarks,
    /// Bytes that are to become free.
    bytes: u64,
    now: Time,
    tiers: u8,
    /// Those with one name, the last to go on top; without it, not enough would become free.
    alone: BinaryHeap<Candidate>,
    freed: u64,
    /// Those with several, which go together: `None` if one of them stays.
    linked: BTreeMap<Body, Option<Vec<Candidate>>>,
}

impl<'a> Relief<'a> {
    /// For the tier of `marks`, of which `bytes` are to become free.
    pub fn new(policy: &'a Policy, marks: &'a Watermarks, bytes: u64, now: Time, tiers: u8) -> Relief<'a> {
        let (alone, linked) = (BinaryHeap::new(), BTreeMap::new());
        Relief { policy, marks, bytes, now, tiers, alone, freed: 0, linked }
    }

    /// The watermarks of the tier.
    pub fn marks(&self) -> &'a Watermarks {
        self.marks
    }

    /// So many bytes become free without it.
    pub fn becomes_free(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A name of a file on the tier. `stays` if it must not go, whatever the policy says. One that takes
    /// nothing there stays, too: it would move for nothing.
    pub fn see(&mut self, facts: Facts, stays: bool) {
        let stays = stays || facts.stat.blocks == 0;
        let target = if stays { None } else { self.policy.relief_target(self.marks, &facts, self.now, self.tiers) };
        let (body, links, order) = (facts.stat.body, facts.stat.nlink, (self.marks.order, self.marks.age_by));
        let candidate = target.map(|to| Candidate { facts, to, order });
        if links > 1 {
            let group = self.linked.entry(body).or_insert_with(|| Some(Vec::new()));
            match (candidate, group.as_mut()) {
                (Some(candidate), Some(names)) => names.push(candidate),
                (None, _) => *group = None,
                (Some(_), None) => {}
            }
        } else if let Some(candidate) = candidate {
            self.freed = self.freed.saturating_add(candidate.taken());
            self.alone.push(candidate);
            self.trim();
        }
    }

    /// Lets go of the last ones that are not needed.
    fn trim(&mut self) {
        while let Some(last) = self.alone.peek()
            && self.freed - last.taken() >= self.bytes
        {
            self.freed -= last.taken();
            self.alone.pop();
        }
    }

    /// The files that go, first to last, each with the tier it goes to. A file with names that were
    /// not seen the caller skips.
    pub fn finish(self) -> Vec<(Facts, Rank)> {
        let mut groups: Vec<Vec<Candidate>> = self.alone.into_iter().map(|only| vec![only]).collect();
        groups.extend(self.linked.into_values().flatten().filter(|names| !names.is_empty()));
        groups.sort_unstable_by(|a, b| a[0].cmp(&b[0]));
        let mut freed = 0u64;
        let needed = groups.into_iter().take_while(|names| {
            let wanted = freed < self.bytes;
            freed = freed.saturating_add(names[0].taken());
            wanted
        });
        needed.flatten().map(|candidate| (candidate.facts, candidate.to)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::evaluate::tests::{DAY, NOW, file};
    use crate::policy::{Action, Rule};
    use crate::types::path::UnionPath;

    const MARKS: Watermarks = Watermarks {
        tier: Rank::PRIMARY,
        high: 85,
        low: 70,
        never_younger_than: DAY,
        age_by: AgeBy::Newest,
        order: Order::Oldest,
    };

    fn names(policy: &Policy, bytes: u64, files: &[(Facts, bool)]) -> String {
        let mut relief = Relief::new(policy, &MARKS, bytes, NOW, 2);
        files.iter().for_each(|(facts, stays)| relief.see(facts.clone(), *stays));
        relief.finish().iter().map(|(facts, to)| format!("{}{}", facts.path, to.0)).collect()
    }

    #[test]
    fn what_a_rule_takes_down_goes_with_the_rest_and_what_must_stay_does_not() {
        let old = Rule { older_than: Some(DAY * 8), ..Rule::every("old", Action::Demote(None)) };
        let policy = Policy { rules: vec![old], ..Policy::default() };
        let pinned = Facts { pin: Some(Rank(0)), ..file("p", 50) };
        let files = [file("a", 5), file("b", 9), file("c", 7), file("d", 0), file("e", 60), pinned];
        let files = files.map(|facts| (facts.clone(), facts.path.to_string() == "e"));
        assert_eq!(names(&policy, 1 << 20, &files), "b1");
        assert_eq!(names(&policy, u64::MAX, &files), "b1c1a1");
        assert_eq!(names(&policy, 0, &files), "");
    }

    #[test]
    fn hard_links_go_together_or_not() {
        let linked = |path: &str, days| {
            let mut facts = file(path, days);
            (facts.stat.nlink, facts.stat.body) = (2, Body(7));
            facts
        };
        let files = [(linked("a", 9), false), (file("b", 7), false), (linked("c", 9), false)];
        assert_eq!(names(&Policy::default(), 1, &files), "a1c1");
        assert_eq!(names(&Policy::default(), (1 << 20) + 1, &files), "a1c1b1");
        let mut held = files.clone();
        held[2].1 = true;
        assert_eq!(names(&Policy::default(), u64::MAX, &held), "b1");
    }

    #[test]
    fn the_oldest_go_first_until_enough_is_free() {
        let files = [file("a", 5), file("b", 9), file("c", 7), file("d", 0)].map(|facts| (facts, false));
        let plan = |bytes| names(&Policy::default(), bytes, &files);
        assert_eq!(plan(0), "");
        assert_eq!(plan(1 << 20), "b1");
        assert_eq!(plan((1 << 20) + 1), "b1c1");
        assert_eq!(plan(u64::MAX), "b1c1a1", "d is too young");
        let policy = Policy::default();
        let mut alone = Relief::new(&policy, &MARKS, 1, NOW, 1);
        alone.see(file("a", 9), false);
        assert_eq!(alone.finish(), [], "there is no slower tier");
    }

    #[test]
    fn regression_what_takes_nothing_stays() {
        let mut empty = file("a", 9);
        empty.stat.blocks = 0;
        let files = [(empty, false), (file("b", 7), false)];
        assert_eq!(names(&Policy::default(), u64::MAX, &files), "b1");
    }

    #[test]
    fn what_becomes_free_anyway_need_not_go() {
        let policy = Policy::default();
        let mut relief = Relief::new(&policy, &MARKS, 2 << 20, NOW, 2);
        relief.see(file("a", 9), false);
        relief.see(file("b", 7), false);
        relief.becomes_free(1 << 20);
        assert_eq!(relief.finish().len(), 1);
    }

    /// The slow way, which keeps everything.
    fn slow(bytes: u64, files: &[Facts]) -> Vec<&UnionPath> {
        let policy = Policy::default();
        let goes = |facts: &&Facts| facts.stat.blocks > 0 && policy.relief_target(&MARKS, facts, NOW, 2).is_some();
        let mut all: Vec<&Facts> = files.iter().filter(goes).collect();
        all.sort_by(|a, b| MARKS.order.compare(a, b, MARKS.age_by));
        let mut freed = 0;
        let needed = all.into_iter().take_while(|facts| {
            let wanted = freed < bytes;
            freed += facts.stat.blocks * BLOCK;
            wanted
        });
        needed.map(|facts| &facts.path).collect()
    }

    proptest! {
        #[test]
        fn it_chooses_as_one_who_keeps_all(files in prop::collection::vec((0i64..20, 0u64..9, prop::bool::ANY), 0..30), bytes in 0u64..40_000) {
            let files: Vec<Facts> = files.into_iter().enumerate().map(|(at, (days, blocks, linked))| {
                let mut facts = file(&format!("f{at}"), days);
                facts.stat.blocks = blocks;
                facts.stat.body = Body(at as u64);
                facts.stat.nlink = if linked { 2 } else { 1 };
                facts
            }).collect();
            let policy = Policy::default();
            let mut relief = Relief::new(&policy, &MARKS, bytes, NOW, 2);
            files.iter().for_each(|facts| relief.see(facts.clone(), false));
            let chosen: Vec<_> = relief.finish().into_iter().map(|(facts, _)| facts.path).collect();
            prop_assert_eq!(chosen.iter().collect::<Vec<_>>(), slow(bytes, &files));
        }
    }
}
