//! What lies in the directories of tierfs's own: leftovers, lost contents, manifests.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Checked, Finding, What};
use crate::migrate::manifest::{self, Entry, Line};
use crate::migrate::{Digest, OWN_DIRS};
use crate::tier::Dir;
use crate::types::attr::Time;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::{Name, PRIVATE_DIR};
use crate::types::path::UnionPath;

/// Where recovery puts contents without a name.
const LOST: &str = "lost";

/// What the newest run that moved a file wrote of it, by path.
#[derive(Debug, Default)]
pub struct Expected {
    files: HashMap<UnionPath, Written>,
    runs: Vec<String>,
}

#[derive(Debug)]
struct Written {
    size: u64,
    mtime: Time,
    digest: Digest,
    /// Index of the run.
    run: usize,
}

impl Expected {
    /// The hash that a file of this size and time must have, and the run that says so.
    pub(super) fn of(&self, path: &UnionPath, size: u64, mtime: Time) -> Option<(&Digest, &str)> {
        let written = self.files.get(path).filter(|written| (written.size, written.mtime) == (size, mtime))?;
        Some((&written.digest, self.runs.get(written.run)?))
    }

    fn add(&mut self, run: usize, entry: Entry) {
        let written = Written { size: entry.bytes, mtime: entry.mtime, digest: entry.digest, run };
        self.files.insert(entry.path, written);
    }
}

fn finding(what: What) -> Finding {
    Finding { path: UnionPath::root(), what }
}

fn unreadable(rank: Rank, errno: Errno, during: &'static str) -> Finding {
    finding(What::Unreadable { rank, errno, during })
}

/// What lies in the directories in which something lies only while names change or files move.
pub(super) fn leftovers(tiers: &[Checked]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for tier in tiers {
        for own in OWN_DIRS {
            match names(tier, own) {
                Ok(names) => findings
                    .extend(names.into_iter().map(|name| finding(What::Leftover { rank: tier.rank, own, name }))),
                Err(errno) => findings.push(unreadable(tier.rank, errno, "reading .tierfs")),
            }
        }
    }
    findings
}

/// What recovery could not give a name.
pub(super) fn lost(tiers: &[Checked]) -> Vec<Finding> {
    let each = tiers.iter().flat_map(|tier| match names(tier, LOST) {
        Ok(names) => names.into_iter().map(|name| finding(What::Lost { rank: tier.rank, name })).collect(),
        Err(errno) => vec![unreadable(tier.rank, errno, "reading .tierfs/lost")],
    });
    each.collect()
}

fn names(tier: &Checked, own: &str) -> Result<Vec<String>> {
    let mut dir: Arc<dyn Dir> = tier.tier.root();
    for part in [PRIVATE_DIR, own] {
        dir = match dir.open_dir(&Name::new(part.as_bytes())?) {
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            other => other?,
        };
    }
    let mut names = Vec::new();
    dir.survey(&mut |entry| {
        names.push(String::from_utf8_lossy(entry.name).into_owned());
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

/// Reads all manifests: what is wrong with them and, if `keep`, what they say of each file.
pub(super) fn manifests(primary: &dyn Dir, keep: bool) -> (Expected, Vec<Finding>) {
    let mut expected = Expected::default();
    let mut findings = Vec::new();
    let runs = match manifest::runs(primary) {
        Ok(runs) => runs,
        Err(Errno::ENOENT) => Vec::new(),
        Err(errno) => {
            findings.push(unreadable(Rank::PRIMARY, errno, "reading .tierfs/runs"));
            Vec::new()
        }
    };
    for (at, run) in runs.iter().enumerate() {
        let (mut number, mut bad) = (0, None);
        let read = manifest::read_each(primary, run, &mut |line| {
            number += 1;
            let is_right = line.as_ref().is_some_and(|line| matches!(line, Line::Begin { .. }) == (number == 1));
            match line.as_ref().and_then(Entry::of) {
                Some(entry) if keep => expected.add(at, entry),
                Some(_) => {}
                None if matches!(line, Some(Line::File { .. })) => bad = bad.or(Some(number)),
                None => {}
            }
            if !is_right {
                bad = bad.or(Some(number));
            }
        });
        let wrong = match (read, bad) {
            (Err(errno), _) => Some(Err(errno)),
            (Ok(_), Some(line)) => Some(Ok(line)),
            (Ok(_), None) => None,
        };
        findings.extend(wrong.map(|wrong| finding(What::Manifest(run.clone(), wrong))));
    }
    expected.runs = runs;
    (expected, findings)
}
