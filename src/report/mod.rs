//! How old the files are and what each threshold would free, from the facts of a scan.
//!
//! Facts go into a [`Gather`], which becomes a [`Report`]; the renderings ([`text`], [`html`],
//! [`data`]) are pure functions of a report and its [`Labels`]. A body with several names counts
//! once, under the first of its names in the order of their bytes, so that two reports of the same
//! tree are the same.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::time::Duration;

use crate::types::attr::{Body, Space};
use crate::types::facts::{Facts, Seen};
use crate::types::ids::Rank;
use crate::types::path::UnionPath;

mod curve;
pub mod data;
pub mod html;
pub mod text;
mod words;

/// What to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Ages, rising and not zero: a file belongs between two of them.
    pub thresholds: Vec<Duration>,
    /// Directories are told apart by so many names from the root.
    pub depth: usize,
    /// Tiers of the union.
    pub tiers: usize,
}

/// What the files are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Age and tier.
    Age,
    /// Directory.
    Dir,
    /// Owner.
    Owner,
    /// Ending of the name.
    Type,
}

/// What can be counted of some files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Bodies.
    pub files: u64,
    /// Bytes of contents.
    pub bytes: u64,
    /// Bytes of space taken on the tier: less than `bytes` for files with holes.
    pub allocated: u64,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.allocated += other.allocated;
    }
}

impl<'a> std::iter::Sum<&'a Sums> for Sums {
    fn sum<I: Iterator<Item = &'a Sums>>(all: I) -> Sums {
        let mut sum = Sums::default();
        all.for_each(|one| sum += *one);
        sum
    }
}

/// Files that have something in common, by age: one more than there are thresholds, youngest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// On all tiers.
    pub ages: Vec<Sums>,
    /// Those on the primary that could leave it.
    pub movable: Vec<Sums>,
}

impl Group {
    fn new(buckets: usize) -> Group {
        Group { ages: vec![Sums::default(); buckets], movable: vec![Sums::default(); buckets] }
    }

    fn add(&mut self, other: &Group) {
        self.ages.iter_mut().zip(&other.ages).for_each(|(sum, more)| *sum += *more);
        self.movable.iter_mut().zip(&other.movable).for_each(|(sum, more)| *sum += *more);
    }

    /// All files.
    pub fn total(&self) -> Sums {
        self.ages.iter().sum()
    }

    /// What would leave the primary with a threshold: the files that are as old or older.
    pub fn freed(&self, threshold: usize) -> Sums {
        self.movable.iter().skip(threshold + 1).sum()
    }
}

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was counted.
    pub spec: Spec,
    /// All files.
    pub all: Group,
    /// Each tier's files by age.
    pub tiers: Vec<Vec<Sums>>,
    /// By directory, `depth` names deep; the root is empty. Largest first.
    pub dirs: Vec<(UnionPath, Group)>,
    /// By the ending of the name in small letters, empty where there is none. Largest first.
    pub types: Vec<(String, Group)>,
    /// By owner. Largest first.
    pub owners: Vec<(u32, Group)>,
    /// What could leave the primary by finer ages: what lies above each of [`Report::edges`].
    pub curve: Vec<u64>,
    /// Files on the primary that are pinned to it.
    pub pinned: Sums,
    /// Files on the primary that have names outside of what was counted, so they stay.
    pub linked_outside: Sums,
}

impl Report {
    /// The ages of [`Report::curve`], from a day to twenty years, each a tenth above the last.
    pub fn edges() -> Vec<Duration> {
        let mut age = 86_400.0;
        let mut edges = Vec::new();
        while age < 20.0 * 366.0 * 86_400.0 {
            edges.push(Duration::from_secs_f64(age));
            age *= 1.1;
        }
        edges
    }

    /// All files of a tier.
    pub fn tier(&self, rank: Rank) -> Sums {
        self.tiers.get(rank.index()).map(|ages| ages.iter().sum()).unwrap_or_default()
    }

    /// Whether there is no file at all.
    pub fn is_empty(&self) -> bool {
        self.all.total().files == 0
    }
}

/// What a report is about, in the words of its reader.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// What was looked at: a mount point, or the tiers.
    pub subject: String,
    /// When.
    pub made: String,
    /// What ages are counted from.
    pub age_by: String,
    /// Name, place and space of each tier.
    pub tiers: Vec<TierLabel>,
    /// Names of owners that are known.
    pub owners: HashMap<u32, String>,
    /// How many directories and files could not be read.
    pub unread: u64,
}

/// One tier for the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierLabel {
    /// `primary`, `secondary`, …
    pub name: String,
    /// Its root.
    pub path: String,
    /// The space of its filesystem.
    pub space: Option<Space>,
}

/// The path of a tier that is not there.
pub const MISSING: &str = "missing";

impl TierLabel {
    /// Whether nothing of it was counted, because it is not there.
    pub fn is_missing(&self) -> bool {
        self.path == MISSING && self.space.is_none()
    }

    /// Bytes used, and bytes that ordinary users can use in all, as df(1) counts them.
    pub fn used_of(&self) -> Option<(u64, u64)> {
        let space = self.space?;
        let unit = u64::from(space.frsize);
        let used = space.blocks.saturating_sub(space.bfree) * unit;
        Some((used, used + space.bavail * unit)).filter(|(_, all)| *all > 0)
    }
}

impl Labels {
    /// The name of an owner.
    pub fn owner(&self, uid: u32) -> String {
        self.owners.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    /// Whether the first two tiers are on one filesystem, so that moving frees nothing.
    pub fn one_filesystem(&self) -> bool {
        let id = |rank: usize| self.tiers.get(rank).and_then(|tier| tier.space).map(|space| space.filesystem);
        id(0).is_some() && id(0) == id(1)
    }
}

/// What a reader must know to take the numbers for what they are.
fn notes(report: &Report, labels: &Labels) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |sums: Sums, why: (&str, &str)| {
        if sums.files > 0 {
            let (files, size) = (words::count(sums.files), words::size(sums.allocated));
            notes.push(match sums.files {
                1 => format!("1 file ({size}) stays on the primary: {}.", why.0),
                _ => format!("{files} files ({size}) stay on the primary: {}.", why.1),
            });
        }
    };
    note(report.pinned, ("it is pinned to it", "they are pinned to it"));
    note(report.linked_outside, ("it has further hard links elsewhere", "they have further hard links elsewhere"));
    for tier in labels.tiers.iter().filter(|tier| tier.is_missing()) {
        notes.push(format!("The {} is missing: what is only there is not counted.", tier.name));
    }
    if labels.one_filesystem() {
        notes.push("Primary and secondary are on one filesystem: moving files between them frees nothing.".into());
    }
    if labels.unread > 0 {
        let unread = words::count(labels.unread);
        notes.push(format!("{unread} directories or files could not be read: the true numbers are larger."));
    }
    notes
}

/// Groups under the values of a key.
#[derive(Debug)]
struct Keyed<K> {
    index: HashMap<K, usize>,
    groups: Vec<Group>,
}

impl<K: std::hash::Hash + Eq> Keyed<K> {
    fn new() -> Keyed<K> {
        Keyed { index: HashMap::new(), groups: Vec::new() }
    }

    fn at(&mut self, key: K, buckets: usize) -> usize {
        let next = self.groups.len();
        let at = *self.index.entry(key).or_insert(next);
        if at == next {
            self.groups.push(Group::new(buckets));
        }
        at
    }

    /// With the keys as `show` makes them, the largest first, equal ones by key.
    fn sorted<S: Ord>(self, show: impl Fn(K) -> S) -> Vec<(S, Group)> {
        let mut groups: Vec<Option<Group>> = self.groups.into_iter().map(Some).collect();
        let taken = self.index.into_iter().filter_map(|(key, at)| Some((show(key), groups.get_mut(at)?.take()?)));
        let mut all: Vec<(S, Group)> = taken.collect();
        let weight = |group: &Group| (group.total().allocated, group.total().bytes, group.total().files);
        all.sort_by(|(key, group), (key2, group2)| weight(group2).cmp(&weight(group)).then_with(|| key.cmp(key2)));
        all
    }
}

/// Longest ending of a name that is taken for a type.
const TYPE_LEN_MAX: usize = 10;

/// A type, filled up with zeros.
type TypeKey = [u8; TYPE_LEN_MAX];

/// A body with several names, until all of them are known.
#[derive(Debug)]
struct Linked {
    facts: Facts,
    age: Duration,
    names: u32,
}

/// Counts facts.
#[derive(Debug)]
pub struct Gather {
    spec: Spec,
    edges: Vec<Duration>,
    all: Group,
    tiers: Vec<Vec<Sums>>,
    dirs: Keyed<UnionPath>,
    /// The directory of the last file and its group: most files follow one of the same.
    last_dir: Option<(UnionPath, usize)>,
    types: Keyed<TypeKey>,
    owners: Keyed<u32>,
    /// What is movable and not younger than the edge of the same place.
    steps: Vec<u64>,
    pinned: Sums,
    linked_outside: Sums,
    linked: HashMap<(Rank, Body), Linked>,
}

impl Gather {
    /// With nothing counted.
    pub fn new(spec: Spec) -> Gather {
        let buckets = spec.thresholds.len() + 1;
        let edges = Report::edges();
        Gather {
            all: Group::new(buckets),
            tiers: vec![vec![Sums::default(); buckets]; spec.tiers],
            dirs: Keyed::new(),
            last_dir: None,
            types: Keyed::new(),
            owners: Keyed::new(),
            steps: vec![0; edges.len() + 1],
            edges,
            pinned: Sums::default(),
            linked_outside: Sums::default(),
            linked: HashMap::new(),
            spec,
        }
    }

    /// Counts a file of that age.
    pub fn add(&mut self, seen: &Seen<'_>, age: Duration) {
        if seen.stat.nlink < 2 {
            return self.count(seen, age, false);
        }
        let key = (seen.rank, seen.stat.body);
        let linked = self.linked.entry(key).or_insert_with(|| Linked { facts: seen.facts(), age, names: 0 });
        linked.names += 1;
        let first = linked.facts.path.as_bytes();
        let before = seen.dir.join(seen.name);
        if before.as_bytes() < first {
            linked.facts.path = before;
        }
        // One name that is pinned keeps all: a body moves as one or not at all.
        linked.facts.pin = linked.facts.pin.or(seen.pin);
    }

    fn count(&mut self, seen: &Seen<'_>, age: Duration, outside: bool) {
        let bucket = self.spec.thresholds.partition_point(|threshold| *threshold <= age);
        let sums = Sums { files: 1, bytes: seen.stat.size, allocated: seen.stat.blocks.saturating_mul(512) };
        let movable = seen.rank == Rank::PRIMARY && seen.pin != Some(Rank::PRIMARY) && !outside;
        if seen.rank == Rank::PRIMARY && seen.pin == Some(Rank::PRIMARY) {
            self.pinned += sums;
        } else if seen.rank == Rank::PRIMARY && outside {
            self.linked_outside += sums;
        }
        if let Some(tier) = self.tiers.get_mut(seen.rank.index()) {
            tier[bucket] += sums;
        }
        if movable {
            self.steps[self.edges.partition_point(|edge| *edge <= age)] += sums.allocated;
        }
        let buckets = self.spec.thresholds.len() + 1;
        let dir = self.dir(seen.dir, buckets);
        let kind = self.types.at(type_of(seen.name), buckets);
        let owner = self.owners.at(seen.stat.uid, buckets);
        let groups =
            [&mut self.all, &mut self.dirs.groups[dir], &mut self.types.groups[kind], &mut self.owners.groups[owner]];
        for group in groups {
            group.ages[bucket] += sums;
            if movable {
                group.movable[bucket] += sums;
            }
        }
    }

    fn dir(&mut self, dir: &UnionPath, buckets: usize) -> usize {
        if let Some((last, at)) = &self.last_dir
            && last == dir
        {
            return *at;
        }
        let at = self.dirs.at(top(dir, self.spec.depth), buckets);
        self.last_dir = Some((dir.clone(), at));
        at
    }

    /// All that was counted.
    pub fn finish(mut self) -> Report {
        for (_, linked) in std::mem::take(&mut self.linked) {
            let Some((dir, name)) = linked.facts.path.split() else { continue };
            let Facts { rank, stat, pin, .. } = &linked.facts;
            let seen = Seen { dir: &dir, name: name.as_bytes(), rank: *rank, stat, pin: *pin };
            self.count(&seen, linked.age, linked.names < stat.nlink);
        }
        // Older than an edge is all that lies in the steps above it.
        let mut curve: Vec<u64> = self.steps.iter().skip(1).copied().collect();
        for at in (1..curve.len()).rev() {
            curve[at - 1] += curve[at];
        }
        Report {
            spec: self.spec,
            all: self.all,
            tiers: self.tiers,
            dirs: self.dirs.sorted(|dir| dir),
            types: self.types.sorted(|kind| kind.iter().filter(|byte| **byte != 0).map(|byte| *byte as char).collect()),
            owners: self.owners.sorted(|uid| uid),
            curve,
            pinned: self.pinned,
            linked_outside: self.linked_outside,
        }
    }
}

/// The first `depth` names of a directory.
fn top(dir: &UnionPath, depth: usize) -> UnionPath {
    dir.names().take(depth).fold(UnionPath::root(), |path, name| path.join(name.as_bytes()))
}

/// What follows the last dot, if that can be a type: letters and digits, after at least one byte.
fn type_of(name: &[u8]) -> TypeKey {
    let mut key = [0; TYPE_LEN_MAX];
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else { return key };
    let ending = &name[dot + 1..];
    let fits = dot > 0 && ending.len() <= TYPE_LEN_MAX && ending.iter().all(u8::is_ascii_alphanumeric);
    if fits {
        key.iter_mut().zip(ending).for_each(|(to, from)| *to = from.to_ascii_lowercase());
    }
    key
}

#[cfg(test)]
mod tests;
