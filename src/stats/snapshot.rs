//! What was counted, as plain values: to be sent, joined and subtracted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::op::Op;

/// All counts of one mount at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Over how long it was counted: since the mount, or between two snapshots.
    pub over: Duration,
    /// By operation and tier, sorted by these; only what was asked for at all.
    pub requests: Vec<Requests>,
    /// Files that have changed their tier.
    pub moves: Vec<Moves>,
    /// Files that could not be moved.
    pub move_failures: u64,
    /// Files that were to move and stayed, by reason in words.
    pub move_skips: BTreeMap<String, u64>,
    /// Runs of the migrator, by what has begun them (`command`, `watermark`, `use`).
    pub runs: BTreeMap<String, Runs>,
    /// When a run last ended without a failure, in seconds since 1970; promotions of used files left out.
    pub last_success: Option<u64>,
    /// Files promoted since programs used them, by program; most bytes first, the rest left out.
    pub recalls: Vec<Recalls>,
    /// Directories used most in the last minute or two, most used first.
    pub hot_directories: Vec<Hot>,
    /// Programs that have used the mount most in the last minute or two, most busy first.
    pub hot_programs: Vec<Hot>,
    /// How long the two lists above look back.
    pub hot_over: Duration,
    /// What is there now.
    pub gauges: Gauges,
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// What was asked for.
    pub op: Op,
    /// The slowest tier that was asked for it, 0 the primary; none where the answer was known.
    pub tier: Option<u8>,
    /// Answers that were an error number, but for those that say that there is no such name or attribute.
    pub errors: u64,
    /// Of these, those that say that storage or tierfs has failed, as EIO does.
    pub faults: u64,
    /// Bytes read, written or copied.
    pub bytes: u64,
    /// How many, and how long they took until the answer was known.
    pub latency: Histogram,
}

/// Files moved from one tier to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moves {
    /// From this tier, 0 the primary.
    pub from: u8,
    /// To this one.
    pub to: u8,
    /// How many.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

/// Runs of the migrator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    /// How many have ended.
    pub ended: u64,
    /// Of these, those that could not be made or in which files failed.
    pub failed: u64,
}

/// Files that a program has brought back by using them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recalls {
    /// Its name, of at most 15 bytes.
    pub program: String,
    /// How many.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

/// Something that is used much. All opens are counted and, of other requests, one of 64 for all; so the
/// numbers are estimates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hot {
    /// A path from the root of the union, or the name of a program.
    pub name: String,
    /// Requests, about.
    pub requests: u64,
    /// Of these, opens.
    pub opens: u64,
    /// Of the requests, those that a tier slower than the primary was asked for.
    pub slow: u64,
}

/// What is there at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gauges {
    /// Open handles of files.
    pub open_files: u64,
    /// Of these, those whose data goes past tierfs: their reads and writes are not in the counts.
    pub passthrough_files: u64,
    /// Inodes that the kernel knows.
    pub inodes: u64,
}

impl Requests {
    /// None yet.
    pub fn none(op: Op, tier: Option<u8>) -> Requests {
        Requests { op, tier, errors: 0, faults: 0, bytes: 0, latency: Histogram::default() }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.latency.count()
    }

    /// Both together; operation and tier stay.
    pub fn merge(&mut self, other: &Requests) {
        self.errors = self.errors.saturating_add(other.errors);
        self.faults = self.faults.saturating_add(other.faults);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.latency.merge(&other.latency);
    }

    fn since(&self, before: &Requests) -> Requests {
        Requests {
            errors: self.errors.saturating_sub(before.errors),
            faults: self.faults.saturating_sub(before.faults),
            bytes: self.bytes.saturating_sub(before.bytes),
            latency: self.latency.since(&before.latency),
            ..self.clone()
        }
    }
}

impl Snapshot {
    /// Of one operation on one tier.
    pub fn of(&self, op: Op, tier: Option<u8>) -> Option<&Requests> {
        self.requests.iter().find(|requests| (requests.op, requests.tier) == (op, tier))
    }

    /// What has happened between `before` and this: counts are subtracted, and what is there now stays.
    pub fn since(&self, before: &Snapshot) -> Snapshot {
        let requests = self.requests.iter().filter_map(|now| {
            let since = before.of(now.op, now.tier).map_or_else(|| now.clone(), |then| now.since(then));
            (since.count() > 0).then_some(since)
        });
        let moves = self.moves.iter().filter_map(|now| {
            let then = before.moves.iter().find(|then| (then.from, then.to) == (now.from, now.to));
            let (files, bytes) = then.map_or((0, 0), |then| (then.files, then.bytes));
            let since =
                Moves { files: now.files.saturating_sub(files), bytes: now.bytes.saturating_sub(bytes), ..now.clone() };
            (since.files > 0).then_some(since)
        });
        let runs = self.runs.iter().filter_map(|(trigger, now)| {
            let then = before.runs.get(trigger).cloned().unwrap_or_default();
            let since =
                Runs { ended: now.ended.saturating_sub(then.ended), failed: now.failed.saturating_sub(then.failed) };
            (since.ended > 0).then(|| (trigger.clone(), since))
        });
        let recalls = self.recalls.iter().filter_map(|now| {
            let then = before.recalls.iter().find(|then| then.program == now.program);
            let (files, bytes) = then.map_or((0, 0), |then| (then.files, then.bytes));
            let since = Recalls {
                program: now.program.clone(),
                files: now.files.saturating_sub(files),
                bytes: now.bytes.saturating_sub(bytes),
            };
            (since.files > 0).then_some(since)
        });
        let skips = self.move_skips.iter().filter_map(|(why, now)| {
            let since = now.saturating_sub(before.move_skips.get(why).copied().unwrap_or(0));
            (since > 0).then(|| (why.clone(), since))
        });
        Snapshot {
            over: self.over.saturating_sub(before.over),
            requests: requests.collect(),
            moves: moves.collect(),
            move_failures: self.move_failures.saturating_sub(before.move_failures),
            move_skips: skips.collect(),
            runs: runs.collect(),
            recalls: recalls.collect(),
            last_success: self.last_success,
            hot_directories: self.hot_directories.clone(),
            hot_programs: self.hot_programs.clone(),
            hot_over: self.hot_over,
            gauges: self.gauges.clone(),
        }
    }

    /// All requests of all operations on one tier (none for those that asked no tier).
    pub fn on_tier(&self, tier: Option<u8>) -> Histogram {
        let mut all = Histogram::default();
        self.requests.iter().filter(|requests| requests.tier == tier).for_each(|one| all.merge(&one.latency));
        all
    }

    /// How many requests there were.
    pub fn count(&self) -> u64 {
        self.requests.iter().map(Requests::count).sum()
    }

    /// `count` of something, in a second of the time that this covers.
    pub fn per_second(&self, count: u64) -> f64 {
        let seconds = self.over.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(op: Op, tier: Option<u8>, counts: &[u64]) -> Requests {
        Requests { latency: Histogram::new(counts, 10), ..Requests::none(op, tier) }
    }

    #[test]
    fn what_did_not_happen_since_is_left_out() {
        let before = Snapshot {
            over: Duration::from_secs(10),
            requests: vec![requests(Op::Lookup, Some(0), &[1, 2]), requests(Op::Open, Some(1), &[3])],
            moves: vec![Moves { from: 0, to: 1, files: 2, bytes: 20 }],
            ..Snapshot::default()
        };
        let after = Snapshot {
            over: Duration::from_secs(12),
            requests: vec![
                requests(Op::Lookup, Some(0), &[1, 6]),
                requests(Op::Lookup, Some(1), &[0, 5]),
                requests(Op::Open, Some(1), &[3]),
            ],
            moves: vec![Moves { from: 0, to: 1, files: 2, bytes: 20 }, Moves { from: 1, to: 0, files: 1, bytes: 7 }],
            ..Snapshot::default()
        };
        let since = after.since(&before);
        assert_eq!(since.over, Duration::from_secs(2));
        let told: Vec<_> = since.requests.iter().map(|one| (one.op, one.tier, one.count())).collect();
        assert_eq!(told, [(Op::Lookup, Some(0), 4), (Op::Lookup, Some(1), 5)]);
        assert_eq!(since.moves, [Moves { from: 1, to: 0, files: 1, bytes: 7 }]);
        assert!((since.per_second(since.count()) - 4.5).abs() < 1e-9);
    }
}
