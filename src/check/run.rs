//! A whole check, from the markers to the last look.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::entry::Look;
use super::numbers::Numbers;
use super::own::{self, Expected};
use super::{Checked, Finding, What, again, marker, walk};
use crate::migrate;
use crate::migrate::scan::Progress;
use crate::tier::place::Place;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank};
use crate::types::path::UnionPath;

/// How far a check goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Names, sizes and times, of trees that need not be tiers yet.
    Names,
    /// Everything but the contents of files that hide nothing.
    Metadata,
    /// Every byte.
    Data,
}

/// How to check.
pub struct Options<'a> {
    /// How far.
    pub depth: Depth,
    /// Threads that read.
    pub threads: usize,
    /// Counts what is read, and ends the check.
    pub progress: &'a Progress,
    /// Whether a mount or another command may change the tiers meanwhile.
    pub in_use: bool,
    /// Whether something is at work just now that may keep things in `.tierfs`.
    pub at_work: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("depth", &self.depth).field("in_use", &self.in_use).finish_non_exhaustive()
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Regular files, each copy counted.
    pub files: u64,
    /// Bytes that were read of them to prove them.
    pub bytes: u64,
}

/// What a check comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// By path.
    pub findings: Vec<Finding>,
    /// What was looked at.
    pub totals: Totals,
    /// What lies in the directories of tierfs's own was not judged, because something is at work.
    pub own_unjudged: bool,
}

/// What a rename leaves in `.tierfs` must be gone after this time, or nobody works on it.
const OWN_PATIENCE: Duration = Duration::from_secs(5);

/// Checks the tiers with these roots, fastest first, at and below `starts`.
///
/// # Errors
/// EINTR if it was stopped; where no thread can be started.
pub fn run(roots: &[(Rank, Place)], starts: &[UnionPath], options: &Options<'_>) -> Result<Outcome> {
    let (tiers, mut findings) = marker::open(roots, options.depth != Depth::Names);
    let Some(tiers) = tiers else { return Ok(Outcome { findings, ..Outcome::default() }) };
    let mut outcome = Outcome::default();
    let mut expected = Expected::default();
    let before = (options.depth != Depth::Names).then(|| own::leftovers(&tiers));
    let at_work = options.depth != Depth::Names && (options.at_work)();
    if options.depth != Depth::Names {
        findings.extend(own::lost(&tiers));
        let primary = tiers.iter().find(|tier| tier.rank == Rank::PRIMARY);
        let read = primary.map(|tier| own::manifests(tier.tier.root().as_ref(), options.depth == Depth::Data));
        if let Some((kept, wrong)) = read {
            expected = kept;
            findings.extend(wrong);
        }
    }
    let check = Check { roots, starts, options, expected };
    findings.extend(check.tree(&tiers)?);
    if let Some(before) = before {
        outcome.own_unjudged = at_work || (options.at_work)();
        if !outcome.own_unjudged {
            findings.extend(check.leftovers(&tiers, before));
        }
    }
    if options.progress.is_stopped() {
        return Err(Errno::EINTR);
    }
    findings.sort_by_cached_key(|finding| (finding.path.clone(), super::kind(&finding.what)));
    let (files, bytes) = options.progress.seen();
    Ok(Outcome { findings, totals: Totals { files, bytes }, ..outcome })
}

struct Check<'a> {
    roots: &'a [(Rank, Place)],
    starts: &'a [UnionPath],
    options: &'a Options<'a>,
    expected: Expected,
}

impl Check<'_> {
    fn look<'l>(&'l self, tiers: &'l [Checked], numbers: &'l Numbers, progress: &'l Progress) -> Look<'l> {
        Look {
            tiers,
            count: self.roots.len(),
            attributes: self.options.depth != Depth::Names,
            compare: self.options.depth != Depth::Names && !self.options.in_use,
            in_use: self.options.in_use,
            data: (self.options.depth == Depth::Data).then_some(&self.expected),
            numbers,
            progress,
        }
    }

    fn tree(&self, tiers: &[Checked]) -> Result<Vec<Finding>> {
        let numbers = Numbers::all();
        let found = self.walk(tiers, &self.look(tiers, &numbers, self.options.progress), self.starts)?;
        if self.options.depth == Depth::Names || self.options.progress.is_stopped() {
            return Ok(found);
        }
        let primary = tiers.iter().find(|tier| tier.rank == Rank::PRIMARY);
        // A record that cannot be read is told as a leftover.
        let moving = primary.map(|tier| migrate::moving(tier.tier.root().as_ref()).unwrap_or_default());
        let moving = moving.unwrap_or_default();
        let shared = numbers.shared();
        if !self.options.in_use && shared.is_empty() {
            return Ok(again::at_rest(found, &moving));
        }
        // What the markers say may be new since the walk began.
        let (fresh, _) = marker::open(self.roots, true);
        let fresh = fresh.unwrap_or_default();
        let (none, uncounted) = (Numbers::paths(HashSet::new()), Progress::default());
        let again = Look { compare: false, ..self.look(&fresh, &none, &uncounted) };
        let mut kept = again::confirmed(found, &again, &moving);
        if !shared.is_empty() {
            kept.extend(self.shared(&fresh, shared, &uncounted)?);
        }
        Ok(kept)
    }

    fn walk(&self, tiers: &[Checked], look: &Look<'_>, starts: &[UnionPath]) -> Result<Vec<Finding>> {
        let visit =
            |merged: &walk::Merged, part: walk::Part<'_>, found: &mut Vec<Finding>| look.visit(merged, part, found);
        walk::walk(tiers, starts, self.options.threads, self.options.progress, &visit)
    }

    /// The paths of objects that share a number.
    fn shared(&self, tiers: &[Checked], of: HashSet<Ino>, uncounted: &Progress) -> Result<Vec<Finding>> {
        let numbers = Numbers::paths(of);
        let look = Look { compare: false, data: None, ..self.look(tiers, &numbers, uncounted) };
        self.walk(tiers, &look, self.starts)?;
        Ok(numbers.findings())
    }

    /// Those of `before` that are still there when whoever works on them must have come to an end.
    fn leftovers(&self, tiers: &[Checked], before: Vec<Finding>) -> Vec<Finding> {
        let start = Instant::now();
        let mut left = before;
        loop {
            let now = own::leftovers(tiers);
            left.retain(|finding| now.contains(finding) || matches!(finding.what, What::Unreadable { .. }));
            let over = start.elapsed() >= OWN_PATIENCE || self.options.progress.is_stopped();
            if left.is_empty() || !self.options.in_use || over {
                return left;
            }
            std::thread::sleep(OWN_PATIENCE / 50);
        }
    }
}
