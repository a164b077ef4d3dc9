//! How long requests take, counted in buckets of powers of two.

use serde::{Deserialize, Serialize};

/// How many buckets there are.
pub const BUCKETS: usize = 30;

/// Bits of the largest number of the first bucket, in nanoseconds.
const FIRST_BITS: u32 = 8;

/// The bucket for a time in nanoseconds: bucket `n` holds what is at most [`bound`]`(n)`, the last
/// everything longer, too.
pub fn bucket(ns: u64) -> usize {
    let bits = u64::BITS - ns.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(FIRST_BITS) as usize).min(BUCKETS - 1)
}

/// The longest time of a bucket, in nanoseconds: 256 ns for the first, and twice that of the one before.
pub fn bound(bucket: usize) -> u64 {
    1 << (FIRST_BITS as usize + bucket.min(BUCKETS - 1))
}

/// Counts by bucket, and the sum of all times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// By bucket; the empty ones at the end are left out.
    pub counts: Vec<u64>,
    /// The sum in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// From the counts of all buckets.
    pub fn new(counts: &[u64], sum_ns: u64) -> Histogram {
        let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        Histogram { counts: counts[..used].to_vec(), sum_ns }
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The mean in nanoseconds; 0 if nothing was counted.
    pub fn mean(&self) -> u64 {
        self.sum_ns.checked_div(self.count()).unwrap_or(0)
    }

    /// Both together.
    pub fn merge(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, more) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*more);
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// What was counted since `before` was taken.
    pub fn since(&self, before: &Histogram) -> Histogram {
        let earlier = before.counts.iter().copied().chain(std::iter::repeat(0));
        let counts: Vec<u64> = self.counts.iter().zip(earlier).map(|(now, then)| now.saturating_sub(then)).collect();
        Histogram::new(&counts, self.sum_ns.saturating_sub(before.sum_ns))
    }

    /// The time in nanoseconds that `part` of all did not exceed (0.5 for the median), as exact as the
    /// buckets are: within a bucket, times are taken for evenly spread. `None` if nothing was counted.
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = part.clamp(0.0, 1.0) * count as f64;
        let mut below = 0.0;
        for (at, in_bucket) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let in_bucket = *in_bucket as f64;
            if below + in_bucket >= wanted {
                let from = if at == 0 { 0 } else { bound(at - 1) };
                let share = ((wanted - below) / in_bucket).clamp(0.0, 1.0);
                return Some(from + ((bound(at) - from) as f64 * share) as u64);
            }
            below += in_bucket;
        }
        self.counts.len().checked_sub(1).map(bound)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[u64]) -> Histogram {
        let mut counts = [0; BUCKETS];
        for time in times {
            counts[bucket(*time)] += 1;
        }
        Histogram::new(&counts, times.iter().sum())
    }

    #[test]
    fn a_bucket_ends_with_its_bound() {
        assert_eq!((bucket(0), bucket(1), bucket(256), bucket(257)), (0, 0, 0, 1));
        for at in 0..BUCKETS - 1 {
            assert_eq!(bucket(bound(at)), at);
            assert_eq!(bucket(bound(at) + 1), at + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bound(BUCKETS - 1), 137_438_953_472, "more than two minutes");
    }

    #[test]
    fn the_median_and_the_tail_are_told_apart() {
        let mut times = vec![1000; 98];
        times.extend([50_000_000, 50_000_000]);
        let histogram = of(&times);
        let median = histogram.quantile(0.5).unwrap();
        assert!((512..=1024).contains(&median), "{median}");
        let tail = histogram.quantile(0.99).unwrap();
        assert!((33_554_432..=67_108_864).contains(&tail), "{tail}");
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(histogram.mean(), (98 * 1000 + 100_000_000) / 100);
    }

    proptest! {
        #[test]
        fn a_quantile_lies_in_the_bucket_of_its_time(mut times in prop::collection::vec(0u64..1 << 40, 1..50), part in 0.01f64..1.0) {
            let found = of(&times).quantile(part).unwrap();
            times.sort_unstable();
            let at = ((part * times.len() as f64).ceil() as usize).clamp(1, times.len()) - 1;
            let exact = bucket(times[at]);
            // The edge of a bucket may be told as the end of the one before.
            prop_assert!(bucket(found) == exact || bucket(found) + 1 == exact, "{found} for {}", times[at]);
        }

        #[test]
        fn what_came_since_is_what_was_merged(before in prop::collection::vec(0u64..1 << 40, 0..20), after in prop::collection::vec(0u64..1 << 40, 0..20)) {
            let (before, after) = (of(&before), of(&after));
            let mut both = before.clone();
            both.merge(&after);
            prop_assert_eq!(both.since(&before), after);
        }
    }
}
