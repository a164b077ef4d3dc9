//! All counts of one mount.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::counters::{self, Counters};
use super::op::Op;
use super::sketch::{Recent, Uses};
use super::snapshot::{Hot, Moves, Recalls, Runs, Snapshot};
use crate::types::errno::Errno;
use crate::types::ids::{Ino, Rank};

/// Of requests other than opens, one of so many is looked at.
const SAMPLE: u64 = 64;

/// Directories and programs that are remembered in each window.
const DIRECTORIES_MAX: usize = 256;
const PROGRAMS_MAX: usize = 64;

/// How many of each are told.
const HOT_MAX: usize = 20;

/// Of the lists of what is used most.
const WINDOW: Duration = Duration::from_secs(60);

/// Programs whose recalls are counted by name; the others' are counted as `other`.
const RECALLERS_MAX: usize = 32;

/// The name for programs beyond that.
const OTHERS: &str = "other";

/// All counts of one mount. Counting never waits.
#[derive(Debug)]
pub struct Stats {
    started: Instant,
    counters: Counters,
    hot: Mutex<HotLists>,
    moved: Mutex<Moved>,
}

#[derive(Debug)]
struct HotLists {
    directories: Recent<Ino>,
    programs: Recent<String>,
}

#[derive(Debug, Default)]
struct Moved {
    moves: BTreeMap<(u8, u8), (u64, u64)>,
    failures: u64,
    skips: BTreeMap<String, u64>,
    runs: BTreeMap<&'static str, Runs>,
    last_success: Option<u64>,
    recalls: BTreeMap<String, (u64, u64)>,
}

/// A request that is looked at for the lists of what is used most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled(Uses);

/// What became of a file that was to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has moved.
    Moved {
        /// From this tier.
        from: Rank,
        /// To this one.
        to: Rank,
        /// Its size.
        bytes: u64,
    },
    /// It could not be moved.
    Failed,
}

thread_local! {
    /// Requests until one is looked at.
    static UNTIL: Cell<u64> = const { Cell::new(0) };
}

impl Stats {
    /// For so many tiers and about so many threads that serve requests.
    pub fn new(tiers: usize, threads: usize) -> Stats {
        let now = Instant::now();
        let hot = HotLists {
            directories: Recent::new(DIRECTORIES_MAX, WINDOW, now),
            programs: Recent::new(PROGRAMS_MAX, WINDOW, now),
        };
        Stats { started: now, counters: Counters::new(tiers, threads), hot: Mutex::new(hot), moved: Mutex::default() }
    }

    /// Counts a request that began at `began` on this thread and came to `result`: the bytes it has
    /// moved, or an error. Whether it is to be looked at for the lists of what is used most.
    #[inline]
    pub fn served(&self, op: Op, began: Instant, result: Result<u64, Errno>) -> Option<Sampled> {
        let tier = counters::touched();
        self.counters.add(op, tier, began.elapsed(), result);
        let slow = tier.is_some_and(|rank| rank > Rank::PRIMARY);
        let weight = if matches!(op, Op::Open | Op::Create) { 1 } else { sampled()? };
        let opens = u64::from(weight == 1);
        Some(Sampled(Uses { requests: weight, opens, slow: if slow { weight } else { 0 } }))
    }

    /// Enters a request that is looked at. Where another thread is at it, it is left out.
    pub fn enter(&self, sampled: Sampled, directory: Option<Ino>, program: Option<&String>) {
        let Some(mut hot) = self.hot.try_lock() else { return };
        let now = Instant::now();
        directory.iter().for_each(|ino| hot.directories.add(ino, sampled.0, now));
        program.iter().for_each(|name| hot.programs.add(name, sampled.0, now));
    }

    /// Counts what became of a file that was to move.
    pub fn moved(&self, outcome: Outcome) {
        let mut moved = self.moved.lock();
        match outcome {
            Outcome::Moved { from, to, bytes } => {
                let sum = moved.moves.entry((from.0, to.0)).or_default();
                *sum = (sum.0.saturating_add(1), sum.1.saturating_add(bytes));
            }
            Outcome::Failed => moved.failures += 1,
        }
    }

    /// So many files of a run that has ended stayed, for this reason.
    pub fn skipped(&self, why: String, count: u64) {
        let skips = &mut self.moved.lock().skips;
        let sum = skips.entry(why).or_default();
        *sum = sum.saturating_add(count);
    }

    /// A file has been promoted because this program has used it.
    pub fn recalled(&self, program: &str, bytes: u64) {
        let recalls = &mut self.moved.lock().recalls;
        let known = recalls.contains_key(program) || recalls.len() < RECALLERS_MAX;
        let sum = recalls.entry(if known { program } else { OTHERS }.to_owned()).or_default();
        *sum = (sum.0.saturating_add(1), sum.1.saturating_add(bytes));
    }

    /// A run has ended. Promotions of used files come all day: they do not tell that the migration works.
    pub fn ran(&self, trigger: &'static str, failed: bool, promotes: bool) {
        let mut moved = self.moved.lock();
        let runs = moved.runs.entry(trigger).or_default();
        runs.ended += 1;
        runs.failed += u64::from(failed);
        if !failed && !promotes {
            moved.last_success = SystemTime::UNIX_EPOCH.elapsed().ok().map(|since| since.as_secs());
        }
    }

    /// Everything counted so far. `path` is asked for the paths of directories, and may not know them;
    /// what is there at the moment is left for the caller to fill in.
    pub fn snapshot(&self, path: &dyn Fn(Ino) -> Option<String>) -> Snapshot {
        let now = Instant::now();
        let (directories, programs, hot_over) = {
            let mut hot = self.hot.lock();
            let (directories, over) = hot.directories.most_used(HOT_MAX, now);
            (directories, hot.programs.most_used(HOT_MAX, now).0, over)
        };
        let told =
            |(name, uses): (String, Uses)| Hot { name, requests: uses.requests, opens: uses.opens, slow: uses.slow };
        let directories = directories.into_iter().filter_map(|(ino, uses)| Some(told((path(ino)?, uses)))).collect();
        let moved = self.moved.lock();
        let moves = moved.moves.iter().map(|((from, to), (files, bytes))| Moves {
            from: *from,
            to: *to,
            files: *files,
            bytes: *bytes,
        });
        let recalls = moved.recalls.iter().map(|(program, (files, bytes))| Recalls {
            program: program.clone(),
            files: *files,
            bytes: *bytes,
        });
        let mut recalls: Vec<Recalls> = recalls.collect();
        recalls.sort_by_key(|recalls| std::cmp::Reverse(recalls.bytes));
        Snapshot {
            over: now.saturating_duration_since(self.started),
            requests: self.counters.read(),
            moves: moves.collect(),
            move_failures: moved.failures,
            move_skips: moved.skips.clone(),
            runs: moved.runs.iter().map(|(trigger, runs)| ((*trigger).to_owned(), runs.clone())).collect(),
            last_success: moved.last_success,
            recalls,
            hot_directories: directories,
            hot_programs: programs.into_iter().map(told).collect(),
            hot_over,
            gauges: super::snapshot::Gauges::default(),
        }
    }
}

/// Whether this request is one that is looked at, and for how many it stands.
fn sampled() -> Option<u64> {
    UNTIL.with(|until| match until.get() {
        0 => {
            until.set(SAMPLE - 1);
            Some(SAMPLE)
        }
        left => {
            until.set(left - 1);
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_directory_and_program_are_told_first() {
        let stats = Stats::new(2, 2);
        for at in 0..640u64 {
            counters::begin();
            counters::touch(Rank(u8::from(at % 2 == 0)));
            let op = if at % 4 == 0 { Op::Open } else { Op::Lookup };
            if let Some(sampled) = stats.served(op, Instant::now(), Ok(0)) {
                stats.enter(sampled, Some(Ino(at % 4 / 3)), Some(&"cat".to_owned()));
            }
        }
        let told = stats.snapshot(&|ino| Some(format!("/{ino}")));
        assert_eq!(told.count(), 640);
        assert_eq!(told.hot_programs.len(), 1);
        assert_eq!((told.hot_programs[0].opens, told.hot_programs[0].name.as_str()), (160, "cat"));
        let requests = told.hot_programs[0].requests;
        assert!((160 + 7 * 64..=160 + 8 * 64).contains(&requests), "{requests}");
        assert!(told.hot_directories[0].requests >= told.hot_directories.last().unwrap().requests);
    }

    #[test]
    fn programs_that_recall_are_bounded() {
        let stats = Stats::new(2, 2);
        for at in 0..1000u64 {
            stats.recalled(&format!("program {at}"), 10);
        }
        let told = stats.snapshot(&|_| None);
        assert_eq!(told.recalls.len(), RECALLERS_MAX + 1);
        assert_eq!(told.recalls.iter().map(|one| one.files).sum::<u64>(), 1000);
        assert_eq!(told.recalls[0].program, OTHERS);
    }

    #[test]
    fn only_a_run_without_failures_is_a_success() {
        let stats = Stats::new(2, 2);
        stats.ran("command", true, false);
        stats.ran("use", false, true);
        assert_eq!(stats.snapshot(&|_| None).last_success, None);
        stats.ran("command", false, false);
        let told = stats.snapshot(&|_| None);
        assert!(told.last_success.is_some());
        assert_eq!(told.runs["command"], Runs { ended: 2, failed: 1 });
    }
}
