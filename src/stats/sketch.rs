//! What is used most, in little memory: the space-saving sketch of Metwally, Agrawal and El Abbadi.
//!
//! It keeps a fixed number of keys. A new key takes the place of the one with the least count and
//! inherits that count, so a count is at most too large by what was inherited, and no key that is used
//! more than the average is missing.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How often and in which ways something was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uses {
    /// Requests.
    pub requests: u64,
    /// Of these, opens.
    pub opens: u64,
    /// Of these, on a tier slower than the primary.
    pub slow: u64,
}

impl Uses {
    fn add(&mut self, more: Uses) {
        self.requests = self.requests.saturating_add(more.requests);
        self.opens = self.opens.saturating_add(more.opens);
        self.slow = self.slow.saturating_add(more.slow);
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    uses: Uses,
    /// What of the order of this key it owes to those whose place it has taken.
    inherited: u64,
}

impl Entry {
    fn order(&self) -> u64 {
        self.uses.requests.saturating_add(self.inherited)
    }
}

/// The keys used most.
#[derive(Debug)]
pub struct Sketch<K> {
    entries: HashMap<K, Entry>,
    most: usize,
}

impl<K: Hash + Eq + Clone> Sketch<K> {
    /// Of at most `most` keys.
    pub fn new(most: usize) -> Sketch<K> {
        Sketch { entries: HashMap::with_capacity(most.max(1)), most: most.max(1) }
    }

    /// Counts a use.
    pub fn add(&mut self, key: &K, uses: Uses) {
        if let Some(entry) = self.entries.get_mut(key) {
            return entry.uses.add(uses);
        }
        let mut inherited = 0;
        if self.entries.len() >= self.most {
            let least = self.entries.iter().min_by_key(|(_, entry)| entry.order());
            let Some((least, order)) = least.map(|(key, entry)| (key.clone(), entry.order())) else { return };
            self.entries.remove(&least);
            inherited = order;
        }
        self.entries.insert(key.clone(), Entry { uses, inherited });
    }

    /// What each key was certainly used; in no order.
    pub fn uses(&self) -> impl Iterator<Item = (&K, Uses)> {
        self.entries.iter().map(|(key, entry)| (key, entry.uses))
    }
}

/// The keys used most in a while: between one and two windows are looked back.
#[derive(Debug)]
pub struct Recent<K> {
    now: Sketch<K>,
    before: Sketch<K>,
    began: Instant,
    window: Duration,
    /// Whether there was a window before this one.
    turned: bool,
}

impl<K: Hash + Eq + Clone> Recent<K> {
    /// Of at most `most` keys in each window.
    pub fn new(most: usize, window: Duration, now: Instant) -> Recent<K> {
        Recent { now: Sketch::new(most), before: Sketch::new(most), began: now, window, turned: false }
    }

    /// Counts a use.
    pub fn add(&mut self, key: &K, uses: Uses, now: Instant) {
        self.turn(now);
        self.now.add(key, uses);
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed < self.window {
            return;
        }
        let fresh = Sketch::new(self.now.most);
        let last = std::mem::replace(&mut self.now, fresh);
        // Nothing happened for so long that the last window is no longer recent.
        let stale = passed >= self.window * 2;
        self.before = if stale { Sketch::new(last.most) } else { last };
        self.began = if stale { now } else { self.began + self.window };
        self.turned = true;
    }

    /// The `count` keys used most, and over how long.
    pub fn most_used(&mut self, count: usize, now: Instant) -> (Vec<(K, Uses)>, Duration) {
        self.turn(now);
        let mut all: HashMap<&K, Uses> = HashMap::new();
        for (key, uses) in self.before.uses().chain(self.now.uses()) {
            all.entry(key).or_default().add(uses);
        }
        let mut all: Vec<(K, Uses)> = all.into_iter().map(|(key, uses)| (key.clone(), uses)).collect();
        all.sort_unstable_by_key(|(_, uses)| std::cmp::Reverse((uses.requests, uses.opens, uses.slow)));
        all.truncate(count);
        let before = if self.turned { self.window } else { Duration::ZERO };
        (all, now.saturating_duration_since(self.began) + before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uses = Uses { requests: 1, opens: 1, slow: 0 };

    #[test]
    fn what_is_used_much_is_kept_among_many_others() {
        let mut sketch = Sketch::new(16);
        for at in 0..100_000u64 {
            sketch.add(&(1000 + at), ONE);
            if at % 10 < 2 {
                sketch.add(&(at % 10), ONE);
            }
        }
        assert_eq!(sketch.uses().count(), 16);
        for hot in 0..2 {
            let (_, uses) = sketch.uses().find(|(key, _)| **key == hot).unwrap();
            assert!(uses.requests > 9_900 && uses.requests <= 10_000, "{uses:?}");
        }
    }

    #[test]
    fn what_was_used_long_ago_is_forgotten() {
        let start = Instant::now();
        let window = Duration::from_secs(60);
        let mut recent = Recent::new(4, window, start);
        recent.add(&"a", ONE, start);
        let (used, over) = recent.most_used(9, start + Duration::from_secs(5));
        assert_eq!((used, over), (vec![("a", ONE)], Duration::from_secs(5)));
        recent.add(&"b", ONE, start + Duration::from_secs(61));
        recent.add(&"b", ONE, start + Duration::from_secs(62));
        let (used, over) = recent.most_used(9, start + Duration::from_secs(63));
        assert_eq!(used.iter().map(|(key, uses)| (*key, uses.requests)).collect::<Vec<_>>(), [("b", 2), ("a", 1)]);
        assert_eq!(over, Duration::from_secs(63));
        let (used, _) = recent.most_used(9, start + Duration::from_secs(121));
        assert_eq!(used.len(), 1);
        let (used, _) = recent.most_used(9, start + Duration::from_secs(600));
        assert!(used.is_empty());
    }
}
