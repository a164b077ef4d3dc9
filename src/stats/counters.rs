//! The counters of requests. Every thread adds to a part of its own, so that none waits for another;
//! whoever reads adds the parts up.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::histogram::{BUCKETS, Histogram, bucket};
use super::op::Op;
use super::snapshot::Requests;
use crate::types::errno::Errno;
use crate::types::ids::Rank;

/// Most parts. More threads share them.
const PARTS_MAX: usize = 16;

/// Answers that say that storage, or tierfs, has failed, and not that a program asked for what cannot be.
const FAULTS: &[Errno] =
    &[Errno::EIO, Errno::ENODEV, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE, Errno::ETIMEDOUT, Errno::EUCLEAN];

/// What is counted for one operation on one tier. Alone in its cache lines.
#[derive(Debug)]
#[repr(align(64))]
struct Row {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    faults: AtomicU64,
}

impl Default for Row {
    fn default() -> Row {
        let zero = || AtomicU64::new(0);
        Row { buckets: std::array::from_fn(|_| zero()), sum_ns: zero(), bytes: zero(), errors: zero(), faults: zero() }
    }
}

/// Counts of requests by operation and tier.
#[derive(Debug)]
pub struct Counters {
    /// For each part one row for each operation and, within that, for no tier and each tier.
    parts: Box<[Box<[Row]>]>,
    tiers: usize,
}

thread_local! {
    static PART: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
    /// The slowest rank that the request of this thread has asked, and one; 0 for none.
    static TOUCHED: Cell<u8> = const { Cell::new(0) };
}

/// The request that this thread serves asks the tier on `rank`. The slowest tier of a request counts.
#[inline]
pub fn touch(rank: Rank) {
    TOUCHED.with(|touched| touched.set(touched.get().max(rank.0.saturating_add(1))));
}

/// A request begins on this thread: it has asked no tier yet.
#[inline]
pub fn begin() {
    TOUCHED.with(|touched| touched.set(0));
}

/// The slowest tier that the request of this thread has asked.
#[inline]
pub fn touched() -> Option<Rank> {
    TOUCHED.with(Cell::get).checked_sub(1).map(Rank)
}

impl Counters {
    /// For so many tiers and about so many threads.
    pub fn new(tiers: usize, threads: usize) -> Counters {
        let parts = threads.next_power_of_two().clamp(1, PARTS_MAX);
        let rows = || (0..Op::ALL.len() * (tiers + 1)).map(|_| Row::default()).collect();
        Counters { parts: (0..parts).map(|_| rows()).collect(), tiers }
    }

    /// Counts one request that took so long and came to `result`, the bytes it has moved or an error.
    #[inline]
    pub fn add(&self, op: Op, tier: Option<Rank>, took: Duration, result: Result<u64, Errno>) {
        let part = PART.with(|part| *part) & (self.parts.len() - 1);
        let tier = tier.map_or(0, |rank| rank.index() + 1).min(self.tiers);
        let Some(row) = self.parts[part].get(op.index() * (self.tiers + 1) + tier) else { return };
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        row.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        row.sum_ns.fetch_add(ns, Ordering::Relaxed);
        match result {
            Ok(0) => {}
            Ok(bytes) => drop(row.bytes.fetch_add(bytes, Ordering::Relaxed)),
            // Programs ask for what is not there all day: that is an answer like another.
            Err(Errno::ENOENT | Errno::ENODATA) => {}
            Err(errno) => {
                row.errors.fetch_add(1, Ordering::Relaxed);
                if FAULTS.contains(&errno) {
                    row.faults.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// What was counted so far, sorted by operation and tier; only what was asked for at all.
    pub fn read(&self) -> Vec<Requests> {
        let mut all = Vec::new();
        for op in Op::ALL {
            for tier in 0..=self.tiers {
                let mut requests = Requests::none(*op, u8::try_from(tier).ok().and_then(|tier| tier.checked_sub(1)));
                let rows = self.parts.iter().filter_map(|part| part.get(op.index() * (self.tiers + 1) + tier));
                rows.for_each(|row| requests.merge(&row.read(*op)));
                if requests.count() > 0 {
                    all.push(requests);
                }
            }
        }
        all
    }
}

impl Row {
    fn read(&self, op: Op) -> Requests {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts: [u64; BUCKETS] = std::array::from_fn(|at| get(&self.buckets[at]));
        Requests {
            errors: get(&self.errors),
            faults: get(&self.faults),
            bytes: get(&self.bytes),
            latency: Histogram::new(&counts, get(&self.sum_ns)),
            ..Requests::none(op, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_tier_that_was_asked_counts() {
        begin();
        assert_eq!(touched(), None);
        touch(Rank(2));
        touch(Rank(0));
        assert_eq!(touched(), Some(Rank(2)));
        begin();
        assert_eq!(touched(), None);
    }

    #[test]
    fn nothing_is_lost_among_many_threads() {
        let counters = Counters::new(2, 4);
        std::thread::scope(|scope| {
            for thread in 0..40u64 {
                let counters = &counters;
                scope.spawn(move || {
                    for at in 0..1000 {
                        let tier = (at % 2 == 0).then_some(Rank(1));
                        let result = if at % 10 == 0 { Err(Errno::EPERM) } else { Ok(thread) };
                        counters.add(Op::Read, tier, Duration::from_nanos(at), result);
                    }
                });
            }
        });
        let read = counters.read();
        let told: Vec<_> = read.iter().map(|one| (one.op, one.tier, one.count(), one.errors, one.faults)).collect();
        assert_eq!(told, [(Op::Read, None, 20_000, 0, 0), (Op::Read, Some(1), 20_000, 4000, 0)]);
        assert_eq!(read[0].bytes, (0..40).sum::<u64>() * 500);
        let sum: u64 = read.iter().map(|one| one.latency.sum_ns).sum();
        assert_eq!(sum, 40 * (0..1000).sum::<u64>());
    }

    #[test]
    fn a_failing_disk_is_told_from_a_question_for_what_is_not_there() {
        let counters = Counters::new(1, 1);
        for errno in [Errno::EIO, Errno::ENODATA, Errno::ENOTEMPTY, Errno::ENOSPC] {
            counters.add(Op::Unlink, Some(Rank(0)), Duration::ZERO, Err(errno));
        }
        let read = counters.read();
        assert_eq!((read[0].count(), read[0].errors, read[0].faults), (4, 3, 1));
    }
}
