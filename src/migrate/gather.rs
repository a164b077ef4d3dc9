//! From a request to a plan: which tiers are scanned, and which of their files move.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::engine::Teller;
use super::manifest::{self, Entry};
use super::plan::{Draft, Plan, plain_age};
use super::scan::{Options, Progress, Scanned, Take, scan};
use super::stage::now;
use super::{Error, Event, Go, Order, Relieve, Request, Summary, What};
use crate::policy::relief::Relief;
use crate::policy::watermark::Usage;
use crate::policy::{Action, Policy, Verdict, Watermarks};
use crate::types::attr::{Body, Time};
use crate::types::errno::Errno;
use crate::types::facts::{Facts, Seen};
use crate::types::ids::{Rank, Ranks};
use crate::types::path::{Trees, UnionPath};
use crate::union::Union;

/// Threads that read directories.
const THREADS: usize = 4;

/// Between two tellings of how far the scan is, in files.
const TOLD_EACH: u64 = 10_000;

/// The same in time: who is told also says whether to go on.
const TOLD_AFTER: Duration = Duration::from_secs(1);

pub(super) type Planned = std::result::Result<Plan, Error>;

/// The plan for a request. Counts what is scanned, and what cannot be, in `summary`.
pub(super) fn gather(union: &Union, request: &Request, teller: &Teller<'_>, summary: &mut Summary) -> Planned {
    let tiers = u8::try_from(union.tiers()).unwrap_or(u8::MAX);
    let starts = if request.paths.is_empty() { vec![UnionPath::root()] } else { request.paths.clone() };
    // What was used a moment ago may be gone by now.
    if !matches!(request.what, What::Promote(_)) {
        check_starts(union, request)?;
    }
    let mut scanning = Scanning { union, starts, teller, summary, now: now(), tiers };
    let mut plan = match &request.what {
        What::Policy(policy) => scanning.by_policy(policy, request)?,
        What::To(rank) if rank.0 >= tiers => return Err(Error::NotFound(format!("there is no {rank}"))),
        What::To(rank) => scanning.to(*rank, request.order)?,
        What::Undo(run) => scanning.undo(run, request.order)?,
        What::Relieve(relieve) => scanning.relieve(relieve)?,
        What::Promote(policy) => scanning.promotions(policy, &request.paths)?,
    };
    plan.limit(request.limits.files, request.limits.bytes);
    Ok(plan)
}

/// A path that is nowhere was mistyped: a run that moves nothing would hide that.
fn check_starts(union: &Union, request: &Request) -> std::result::Result<(), Error> {
    for path in &request.paths {
        let Some((dir, name)) = path.split() else { continue };
        let there = union.walk(&dir).and_then(|dir| union.has(&dir, &name));
        match there {
            Ok(true) => {}
            Ok(false) | Err(Errno::ENOENT | Errno::ENOTDIR) => {
                return Err(Error::NotFound(format!("{path}: no such file or directory")));
            }
            Err(errno) => return Err(Error::Path(path.clone(), errno)),
        }
    }
    Ok(())
}

pub(super) struct Scanning<'a> {
    pub(super) union: &'a Union,
    pub(super) starts: Vec<UnionPath>,
    pub(super) teller: &'a Teller<'a>,
    pub(super) summary: &'a mut Summary,
    pub(super) now: Time,
    pub(super) tiers: u8,
}

impl Scanning<'_> {
    /// Passes the files of a tier on that `keep` takes.
    pub(super) fn scan(
        &mut self,
        rank: Rank,
        keep: &(dyn Fn(&Seen<'_>) -> Take + Sync),
        each: &mut dyn FnMut(Facts),
    ) -> std::result::Result<(), Error> {
        let tier = self.union.tier_of(rank).map_err(|errno| Error::Tier(rank, errno))?;
        let progress = Progress::default();
        let options = Options { threads: THREADS, pins: true, progress: &progress };
        let (teller, mut told, mut failed) = (self.teller, (0, Instant::now()), 0);
        let totals = scan(tier, rank, &self.starts, &options, keep, &mut |scanned| {
            match scanned {
                Scanned::Batch(batch) => batch.facts().for_each(&mut *each),
                Scanned::Failed { path, errno, during } => {
                    failed += 1;
                    teller.tell(Event::Failed { path, errno, during });
                }
            }
            let (files, bytes) = progress.seen();
            if files >= told.0 + TOLD_EACH || told.1.elapsed() >= TOLD_AFTER {
                told = (files, Instant::now());
                teller.tell(Event::Scanned { files, bytes });
            }
            if teller.pace.is_stopped() { Go::Stop } else { Go::On }
        });
        let totals = totals.map_err(|errno| Error::Tier(rank, errno))?;
        self.summary.scanned += totals.files;
        self.summary.failed += failed;
        Ok(())
    }

    fn by_policy(&mut self, policy: &Policy, request: &Request) -> Planned {
        let mut reliefs = self.reliefs(policy)?;
        let tiers = self.tiers;
        let mut draft = Draft::default();
        for rank in reliefs.keys().copied().fold(sources(policy, tiers), Ranks::with).iter() {
            self.leave(rank, policy, reliefs.remove(&rank), &mut draft)?;
        }
        let order = if request.until_free_percent.is_some() { Order::Oldest } else { request.order };
        let mut plan = draft.finish(order);
        if let Some(percent) = request.until_free_percent {
            for rank in (0..tiers).map(Rank) {
                plan.until_left(rank, self.missing(rank, percent)?);
            }
        }
        Ok(plan)
    }

    /// Bytes that must leave a tier until so many hundredths of it are free.
    fn missing(&self, rank: Rank, percent: u8) -> std::result::Result<u64, Error> {
        let space = self.union.tier_of(rank).and_then(|tier| tier.space()).map_err(|errno| Error::Tier(rank, errno))?;
        let unit = u128::from(space.frsize.max(1));
        let wanted = u128::from(space.blocks) * unit * u128::from(percent) / 100;
        let free = u128::from(space.bavail) * unit;
        Ok(u64::try_from(wanted.saturating_sub(free)).unwrap_or(u64::MAX))
    }

    /// For the tiers that are above their high watermark.
    fn reliefs<'p>(&self, policy: &'p Policy) -> std::result::Result<BTreeMap<Rank, Relief<'p>>, Error> {
        let mut reliefs = BTreeMap::new();
        for rank in policy.watermarks.iter().map(|marks| marks.tier) {
            let space = self.union.tier_of(rank).and_then(|tier| tier.space());
            let usage = Usage::of(&space.map_err(|errno| Error::Tier(rank, errno))?);
            if let Some((marks, bytes)) = policy.exceeded(rank, usage) {
                reliefs.insert(rank, Relief::new(policy, marks, bytes, self.now, self.tiers));
            }
        }
        Ok(reliefs)
    }

    /// Adds what leaves a tier: what a rule moves and, where that is too little, what makes room.
    fn leave(
        &mut self,
        rank: Rank,
        policy: &Policy,
        mut relief: Option<Relief<'_>>,
        draft: &mut Draft,
    ) -> std::result::Result<(), Error> {
        let (now, tiers) = (self.now, self.tiers);
        let marks = relief.as_ref().map(Relief::marks);
        let target = |facts: &Facts| match policy.decide(facts, now, tiers) {
            decision if matches!(decision.verdict, Verdict::Move(_)) => Some(decision),
            _ => None,
        };
        // A pin of its own can only matter where the file would move, or stays for the pin of a
        // directory above it: for all others it would cost a system call each.
        let keep = |seen: &Seen<'_>| {
            let facts = seen.facts();
            let relieves = marks.is_some_and(|marks| may_relieve(policy, marks, &facts, now, tiers));
            let may_move = seen.pin.is_some() || target(&facts).is_some() || relieves;
            if may_move { Take::KeepWithPin } else { Take::Count }
        };
        self.scan(rank, &keep, &mut |facts| {
            let decision = target(&facts);
            if let Some(Verdict::Move(to)) = decision.map(|decision| decision.verdict) {
                draft.add(&facts, to, decision.map(|decision| decision.age).unwrap_or_default());
            }
            if let Some(relief) = &mut relief {
                relief.see(facts, decision.is_some());
            }
        })?;
        let Some((mut relief, marks)) = relief.zip(marks) else { return Ok(()) };
        relief.becomes_free(draft.leaving(rank));
        for (facts, to) in relief.finish() {
            draft.add(&facts, to, crate::policy::age(&facts, marks.age_by, now));
        }
        Ok(())
    }

    /// Enough of a tier that is too full.
    fn relieve(&mut self, relieve: &Relieve) -> Planned {
        let (policy, now, tiers) = (&relieve.policy, self.now, self.tiers);
        let marks = policy.watermarks.iter().find(|marks| marks.tier == relieve.tier);
        let marks = marks.ok_or_else(|| Error::NotFound(format!("the {} has no watermarks", relieve.tier)))?;
        let mut relief = Relief::new(policy, marks, relieve.bytes, now, tiers);
        let keep = |seen: &Seen<'_>| {
            if may_relieve(policy, marks, &seen.facts(), now, tiers) { Take::KeepWithPin } else { Take::Count }
        };
        self.scan(relieve.tier, &keep, &mut |facts| {
            let stays = relieve.except.contains(&facts.path);
            relief.see(facts, stays);
        })?;
        let mut draft = Draft::default();
        for (facts, to) in relief.finish() {
            draft.add(&facts, to, crate::policy::age(&facts, marks.age_by, now));
        }
        Ok(draft.finish(marks.order))
    }

    /// Everything at and below the starts to one tier.
    fn to(&mut self, to: Rank, order: Order) -> Planned {
        let mut draft = Draft::default();
        let now = self.now;
        for rank in (0..self.tiers).map(Rank).filter(|rank| *rank != to) {
            self.scan(rank, &|_| Take::Keep, &mut |facts| draft.add(&facts, to, plain_age(&facts, now)))?;
        }
        Ok(draft.finish(order))
    }

    /// What a run has moved, where it still lies as it left it.
    fn undo(&mut self, run: &str, order: Order) -> Planned {
        let primary = |errno| Error::Tier(Rank::PRIMARY, errno);
        let root = self.union.tier_of(Rank::PRIMARY).map_err(primary)?.root();
        let wanted: Trees = self.starts.iter().cloned().collect();
        let (mut draft, mut bodies) = (Draft::default(), HashSet::new());
        let found = manifest::read_each(root.as_ref(), run, &mut |line| {
            let entry = line.as_ref().and_then(Entry::of).filter(|entry| wanted.have(&entry.path));
            if let Some(entry) = entry.filter(|_| !self.teller.pace.is_stopped()) {
                self.take_back(entry, &mut draft, &mut bodies);
            }
        });
        if !found.map_err(primary)? {
            return Err(Error::NotFound(format!("there is no run {run}: see `tierfs history`")));
        }
        Ok(draft.finish(order))
    }

    /// One file of a run. `bodies` are those that were there before: a file can have moved twice.
    fn take_back(&mut self, entry: Entry, draft: &mut Draft, bodies: &mut HashSet<Body>) {
        self.summary.scanned += 1;
        let Some((dir, name)) = entry.path.split() else { return };
        let found = self.union.walk(&dir).and_then(|dir| self.union.subject(&dir, &name));
        match found {
            Ok(Some(subject)) if subject.rank == entry.to && subject.stat.mtime == entry.mtime => {
                if bodies.insert(subject.stat.body) || subject.stat.nlink > 1 {
                    let facts = Facts { path: entry.path, rank: entry.to, stat: subject.stat, pin: None };
                    draft.add(&facts, entry.from, plain_age(&facts, self.now));
                }
            }
            // Moved on, changed or removed since: there is nothing to take back.
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE) => {}
            Err(errno) => {
                self.summary.failed += 1;
                self.teller.tell(Event::Failed { path: entry.path, errno, during: "looking at the file" });
            }
        }
    }
}

/// Whether a file must be looked at to make room. One name that stays keeps the others of its file.
fn may_relieve(policy: &Policy, marks: &Watermarks, facts: &Facts, now: Time, tiers: u8) -> bool {
    facts.stat.nlink > 1 || policy.relief_target(marks, facts, now, tiers).is_some()
}

/// Tiers from which a rule could move something: scanning others may wake a disk for nothing.
fn sources(policy: &Policy, tiers: u8) -> Ranks {
    let all = || (0..tiers).map(Rank);
    let leaves = |rank: Rank, action: Action| match action {
        Action::Demote(to) => to.map_or(rank.0 + 1 < tiers, |to| to > rank),
        Action::Promote(to) => to.map_or(rank.0 > 0, |to| to < rank),
        Action::Pin(to) => to != rank,
        Action::Keep => false,
    };
    let of_rules = policy.rules.iter().flat_map(|rule| {
        all().filter(|rank| leaves(*rank, rule.action) && rule.tiers.is_none_or(|tiers| tiers.has(*rank)))
    });
    of_rules.fold(Ranks::NONE, Ranks::with)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Criteria, Rule};

    #[test]
    fn only_tiers_that_files_may_leave_are_scanned() {
        let rule = |action| Policy { rules: vec![Rule::every("r", action)], ..Policy::default() };
        let ranks = |policy: &Policy| sources(policy, 3).iter().map(|rank| rank.0).collect::<Vec<_>>();
        assert_eq!(ranks(&Policy::from_criteria(Criteria::default())), [0]);
        assert_eq!(ranks(&rule(Action::Demote(None))), [0, 1]);
        assert_eq!(ranks(&rule(Action::Promote(None))), [1, 2]);
        assert_eq!(ranks(&rule(Action::Pin(Rank(1)))), [0, 2]);
        assert_eq!(ranks(&rule(Action::Keep)), [] as [u8; 0]);
        let mut only = rule(Action::Demote(None));
        only.rules[0].tiers = Some(Ranks::only(Rank(1)));
        assert_eq!(ranks(&only), [1]);
    }
}
