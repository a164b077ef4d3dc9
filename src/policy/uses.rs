//! How often files are used, for `promote: {when: reads}`. Nothing is kept on disk: a mount begins
//! to count when it starts.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// Uses remembered at a time: some 32 MiB.
const USES_MAX: usize = 1 << 20;

/// Counts the uses of files over a time that goes with the clock.
#[derive(Debug)]
pub struct Uses<K> {
    count: usize,
    within: Duration,
    /// Times since an arbitrary start, oldest first; at most `count` of a file.
    seen: HashMap<K, VecDeque<Duration>>,
    /// Of all files.
    kept: usize,
}

impl<K: Eq + Hash + Copy> Uses<K> {
    /// Waits for `count` uses of a file `within` so long.
    pub fn new(count: u32, within: Duration) -> Uses<K> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).clamp(1, USES_MAX);
        Uses { count, within, seen: HashMap::new(), kept: 0 }
    }

    /// A file is used. Whether that makes it often enough; then it is counted from the start.
    pub fn add(&mut self, file: K, now: Duration) -> bool {
        if self.kept >= USES_MAX {
            self.make_room(now);
        }
        let since = now.saturating_sub(self.within);
        let times = self.seen.entry(file).or_default();
        let before = times.len();
        while times.front().is_some_and(|then| *then < since) {
            times.pop_front();
        }
        times.push_back(now);
        let enough = times.len() >= self.count;
        self.kept = self.kept + times.len() - before;
        if enough {
            self.forget(file);
        }
        enough
    }

    /// What was counted of a file is void.
    pub fn forget(&mut self, file: K) {
        self.kept -= self.seen.remove(&file).map_or(0, |times| times.len());
    }

    /// Forgets files whose uses do not count any more and, if that is not enough, all: a mount that
    /// uses so many files at a time has no favourites.
    fn make_room(&mut self, now: Duration) {
        let since = now.saturating_sub(self.within);
        self.seen.retain(|_, times| times.back().is_some_and(|then| *then >= since));
        self.kept = self.seen.values().map(VecDeque::len).sum();
        if self.kept > USES_MAX / 2 {
            self.seen.clear();
            self.kept = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_uses_within_the_time_count() {
        let mut uses = Uses::new(3, secs(10));
        assert!(!uses.add(1, secs(0)) && !uses.add(1, secs(5)) && !uses.add(2, secs(6)));
        assert!(!uses.add(1, secs(11)), "the first is too long ago");
        assert!(uses.add(1, secs(15)), "5, 11 and 15");
        assert!(!uses.add(1, secs(16)), "counted from the start");
        assert!(!uses.add(2, secs(16)) && uses.add(2, secs(16)));
        assert!(Uses::new(1, secs(1)).add(1, secs(0)));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut uses = Uses::new(2, secs(10));
        for file in 0..USES_MAX as u64 + 10 {
            assert!(!uses.add(file, secs(file / 100_000)));
        }
        assert!(uses.kept <= USES_MAX && uses.kept == uses.seen.values().map(VecDeque::len).sum::<usize>());
        uses.forget(USES_MAX as u64 + 9);
        assert_eq!(uses.kept, uses.seen.len());
    }
}
