//! What will move, as a value: made from facts and a policy, told by a dry run, done by a run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Order, Skip};
use crate::policy::{AgeBy, age};
use crate::types::attr::{Body, Stat, Time};
use crate::types::facts::Facts;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;

/// One file that is to move, with all of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub from: Rank,
    pub to: Rank,
    pub names: Vec<Place>,
    pub body: Body,
    pub size: u64,
    /// Bytes it takes on its tier.
    pub taken: u64,
    pub age: Duration,
    mtime: Time,
    ctime: Time,
}

/// One name of it. The directory is shared by all files in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub dir: Arc<UnionPath>,
    pub name: Box<[u8]>,
}

impl Place {
    pub(super) fn path(&self) -> UnionPath {
        self.dir.join(&self.name)
    }
}

impl Item {
    /// A file with one of its names, as it is now.
    pub(super) fn new(facts: &Facts, to: Rank, place: Place, age: Duration) -> Item {
        let stat = &facts.stat;
        Item {
            from: facts.rank,
            to,
            names: vec![place],
            body: stat.body,
            size: stat.size,
            taken: stat.blocks.saturating_mul(512),
            age,
            mtime: stat.mtime,
            ctime: stat.ctime,
        }
    }

    /// Its first name.
    pub(super) fn path(&self) -> UnionPath {
        self.names.first().map(Place::path).unwrap_or_default()
    }

    /// Whether it has this size and was last changed at this time.
    pub(super) fn has(&self, bytes: u64, mtime: Time) -> bool {
        (self.size, self.mtime) == (bytes, mtime)
    }

    /// Whether the file is what it was when it was planned.
    pub(super) fn is_still(&self, stat: &Stat) -> bool {
        (self.body, self.size, self.mtime, self.ctime) == (stat.body, stat.size, stat.mtime, stat.ctime)
    }
}

/// Moves in order, and what was planned and cannot be.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub items: Vec<Item>,
    pub skips: Vec<(UnionPath, Skip)>,
    /// Whether a limit cut it.
    pub cut: bool,
}

/// Gathers facts about files that are to move, name by name.
#[derive(Debug, Default)]
pub(super) struct Draft {
    items: Vec<(Item, u32)>,
    /// Items with more than one name, by tier and body.
    linked: HashMap<(Rank, Body), usize>,
    dirs: HashMap<UnionPath, Arc<UnionPath>>,
    last: Option<Arc<UnionPath>>,
}

impl Draft {
    /// A name of a file that is to go to `to`. `age` is the one to show and to sort by.
    pub(super) fn add(&mut self, facts: &Facts, to: Rank, age: Duration) {
        let Some((dir, name)) = facts.path.split() else { return };
        let place = Place { dir: self.shared(dir), name: name.as_bytes().into() };
        let key = (facts.rank, facts.stat.body);
        if facts.stat.nlink > 1 {
            if let Some(at) = self.linked.get(&key) {
                let (item, _) = &mut self.items[*at];
                if item.to == to && !item.names.contains(&place) {
                    item.names.push(place);
                }
                return;
            }
            self.linked.insert(key, self.items.len());
        }
        self.items.push((Item::new(facts, to, place, age), facts.stat.nlink));
    }

    /// Bytes that leave `rank`.
    pub(super) fn leaving(&self, rank: Rank) -> u64 {
        self.items.iter().filter(|(item, _)| item.from == rank).map(|(item, _)| item.taken).sum()
    }

    fn shared(&mut self, dir: UnionPath) -> Arc<UnionPath> {
        if let Some(last) = self.last.as_ref().filter(|last| ***last == dir) {
            return Arc::clone(last);
        }
        let shared = self.dirs.entry(dir.clone()).or_insert_with(|| Arc::new(dir));
        self.last = Some(Arc::clone(shared));
        Arc::clone(shared)
    }

    /// The plan. A file with names that were not gathered does not move: the others would lose it.
    pub(super) fn finish(self, order: Order) -> Plan {
        let mut plan = Plan::default();
        for (mut item, links) in self.items {
            if item.names.len() < links as usize {
                let skips = item.names.iter().map(|place| (place.path(), Skip::LinksOutside));
                plan.skips.extend(skips);
            } else {
                item.names.sort_by(|a, b| (&a.dir, &a.name).cmp(&(&b.dir, &b.name)));
                plan.items.push(item);
            }
        }
        sort(&mut plan.items, order);
        plan.skips.sort();
        plan
    }
}

/// Directory by directory where nothing else is asked for: so files that lie together are read
/// together, and a batch has few directories to make durable.
fn sort(items: &mut [Item], order: Order) {
    let place = |item: &Item| item.names.first().map(|place| (Arc::clone(&place.dir), place.name.clone()));
    match order {
        Order::Tree => items.sort_by(|a, b| {
            let (a, b) = (a.names.first(), b.names.first());
            a.map(|place| (&place.dir, &place.name)).cmp(&b.map(|place| (&place.dir, &place.name)))
        }),
        Order::Oldest => items.sort_by_cached_key(|item| (std::cmp::Reverse(item.age), place(item))),
        Order::Largest => items.sort_by_cached_key(|item| (std::cmp::Reverse(item.size), place(item))),
        Order::Smallest => items.sort_by_cached_key(|item| (item.size, place(item))),
    }
}

impl Plan {
    /// Keeps the first moves that stay within these limits. A file that does not fit into what is left of
    /// the bytes waits for the next run, and those behind it still go; one that fits into no run is a skip,
    /// so that it is told by name.
    pub(super) fn limit(&mut self, files: Option<u64>, bytes: Option<u64>) {
        let (mut count, mut sum) = (0u64, 0u64);
        let planned = self.items.len();
        let skips = &mut self.skips;
        self.items.retain(|item| {
            if files.is_some_and(|most| count >= most) {
                return false;
            }
            if bytes.is_some_and(|most| item.size > most) {
                skips.push((item.path(), Skip::OverLimit));
                return false;
            }
            let with = sum.saturating_add(item.size);
            let fits = bytes.is_none_or(|most| with <= most);
            if fits {
                (count, sum) = (count + 1, with);
            }
            fits
        });
        self.cut |= self.items.len() < planned;
    }

    /// Keeps the first moves from `rank` until `bytes` have left it.
    pub(super) fn until_left(&mut self, rank: Rank, bytes: u64) {
        let mut left = 0u64;
        self.items.retain(|item| {
            if item.from != rank {
                return true;
            }
            let wanted = left < bytes;
            if wanted {
                left = left.saturating_add(item.taken);
            }
            wanted
        });
    }

    /// Files and bytes.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.items.len() as u64, self.items.iter().map(|item| item.size).sum())
    }
}

/// The age to show where no rule gives one.
pub(super) fn plain_age(facts: &Facts, now: Time) -> Duration {
    age(facts, AgeBy::Newest, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(path: &str, body: u64, nlink: u32, size: u64) -> Facts {
        let time = Time { sec: 1, nsec: 2 };
        let stat = Stat {
            body: Body(body),
            generation: 0,
            mode: 0o100_644,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            size,
            blocks: size.div_ceil(512),
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
        };
        Facts { path: UnionPath::new(path.as_bytes()).unwrap(), rank: Rank(0), stat, pin: None }
    }

    fn plan(files: &[Facts], order: Order) -> Plan {
        let mut draft = Draft::default();
        for (at, file) in files.iter().enumerate() {
            draft.add(file, Rank(1), Duration::from_secs(at as u64));
        }
        draft.finish(order)
    }

    fn paths(plan: &Plan) -> Vec<String> {
        plan.items.iter().map(|item| item.path().to_string()).collect()
    }

    #[test]
    fn a_file_moves_with_all_its_names_or_not() {
        let files = [facts("b/x", 7, 2, 10), facts("a/y", 7, 2, 10), facts("a/z", 8, 3, 10), facts("a/w", 8, 3, 10)];
        let plan = plan(&files, Order::Tree);
        assert_eq!(paths(&plan), ["a/y"]);
        assert_eq!(plan.items[0].names.len(), 2);
        let skipped: Vec<_> = plan.skips.iter().map(|(path, why)| (path.to_string(), *why)).collect();
        assert_eq!(skipped, [("a/w".to_string(), Skip::LinksOutside), ("a/z".to_string(), Skip::LinksOutside)]);
    }

    #[test]
    fn the_order_is_as_asked() {
        let files = [facts("b", 1, 1, 5), facts("a/c", 2, 1, 9), facts("a", 3, 1, 7)];
        assert_eq!(paths(&plan(&files, Order::Tree)), ["a", "b", "a/c"]);
        assert_eq!(paths(&plan(&files, Order::Oldest)), ["a", "a/c", "b"]);
        assert_eq!(paths(&plan(&files, Order::Largest)), ["a/c", "a", "b"]);
        assert_eq!(paths(&plan(&files, Order::Smallest)), ["b", "a", "a/c"]);
    }

    #[test]
    fn limits_cut_the_plan() {
        let files = [facts("a", 1, 1, 512), facts("b", 2, 1, 1024), facts("c", 3, 1, 512)];
        let cut = |files_max, bytes_max| {
            let mut plan = plan(&files, Order::Tree);
            plan.limit(files_max, bytes_max);
            (paths(&plan).join(" "), plan.cut)
        };
        assert_eq!(cut(None, None), ("a b c".into(), false));
        assert_eq!(cut(Some(2), None), ("a b".into(), true));
        assert_eq!(cut(None, Some(1536)), ("a b".into(), true));
        assert_eq!(cut(None, Some(1535)), ("a c".into(), true));
        let mut plan = plan(&files, Order::Tree);
        plan.until_left(Rank(0), 600);
        assert_eq!(paths(&plan), ["a", "b"]);
        plan.until_left(Rank(1), 0);
        assert_eq!(paths(&plan), ["a", "b"]);
    }
    #[test]
    fn regression_a_file_over_the_limit_keeps_none_behind_it_and_is_named() {
        let files = [facts("a", 1, 1, 5000), facts("b", 2, 1, 600), facts("c", 3, 1, 600), facts("d", 4, 1, 300)];
        let mut plan = plan(&files, Order::Tree);
        plan.limit(None, Some(1000));
        assert_eq!((paths(&plan).join(" "), plan.cut), ("b d".into(), true), "c goes in the next run");
        assert_eq!(plan.skips, [(UnionPath::new(b"a").unwrap(), Skip::OverLimit)]);
        let mut none = super::tests::plan(&files, Order::Tree);
        none.limit(Some(0), Some(1000));
        assert_eq!((none.items.len(), none.skips.len(), none.cut), (0, 0, true));
    }
}
