//! One run: tiers are filled, mounted and driven beside a plain directory; differences end it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::common::fs::{set_xattr, user_xattrs};
use crate::common::loopfs::LoopFs;
use crate::common::mount::{Setup, TestMount};
use crate::ops::{Op, World, draw_path, paths};
use crate::rng::Rng;
use crate::tree::{Object, differences, merged, objects, tree, walk};

/// How often the whole trees are compared.
const COMPARE_EVERY: usize = 12;

/// What a run does: tiers, what is put into each before the mount, what is done after.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) tiers: usize,
    pub(crate) options: &'static [&'static str],
    pub(crate) seeds: Vec<(usize, Op)>,
    pub(crate) ops: Vec<Op>,
}

impl Case {
    /// Draws a run of `length` operations.
    pub(crate) fn draw(seed: u64, length: usize) -> Case {
        let mut rng = Rng::new(seed);
        let tiers = 2 + rng.below(2);
        let options: [&[&str]; 3] = [&[], &["nopassthrough"], &["out_of_band=never"]];
        let seeds = draw_seeds(&mut rng, tiers);
        let ops = (0..length).map(|_| Op::draw(&mut rng)).collect();
        Case { tiers, options: options[seed as usize % 3], seeds, ops }
    }
}

/// Overlapping contents: shadowed files, merged directories, directories on one tier only, hard
/// links. A path has one kind on all tiers, so that nothing is hidden by another kind.
fn draw_seeds(rng: &mut Rng, tiers: usize) -> Vec<(usize, Op)> {
    let kinds: BTreeMap<&str, usize> = paths().iter().map(|path| (*path, rng.below(8))).collect();
    let folder = |path: &str| kinds[path] < 4;
    let parents = |path: &'static str| path.match_indices('/').map(move |(end, _)| &path[..end]).collect::<Vec<_>>();
    let mut seeds = Vec::new();
    let mut linked = BTreeSet::new();
    for _ in 0..60 {
        let (path, tier) = (draw_path(rng), rng.below(tiers));
        if !parents(path).iter().all(|parent| folder(parent)) || linked.contains(path) {
            continue;
        }
        seeds.extend(parents(path).iter().map(|parent| (tier, Op::Mkdir(parent, 0o755))));
        let mode = [0o755, 0o700, 0o2775, 0o640][rng.below(4)];
        let time = 500_000 + rng.below(100_000) as u32;
        let size = 10 + rng.below(3000) as u16;
        match kinds[path] {
            0..4 => seeds.push((tier, Op::Mkdir(path, mode))),
            4 | 5 => {
                seeds.push((tier, Op::Write(path, 0, size, 200 + tier as u8)));
                seeds.push((tier, Op::Chmod(path, mode & 0o777)));
                seeds.push((tier, Op::Times(path, time)));
            }
            6 if seeds.iter().all(|(_, op)| !matches!(op, Op::Write(name, ..) if *name == path)) => {
                let name = [path, "links"].join("-").leak();
                seeds.push((tier, Op::Write(path, 0, size, 100)));
                seeds.push((tier, Op::Link(path, name)));
                linked.insert(path);
            }
            6 => {}
            _ => seeds.push((tier, Op::Symlink("a", path))),
        }
        if rng.below(4) == 0 {
            seeds.push((tier, Op::SetXattr(path, tier as u8)));
        }
    }
    seeds
}

/// The filesystems a series of runs happens on: one for each tier, one for the reference.
#[derive(Debug)]
pub(crate) struct Field {
    below: Vec<LoopFs>,
    runs: std::cell::Cell<usize>,
}

impl Field {
    /// Reports a skip and returns `None` where filesystems cannot be mounted.
    pub(crate) fn new() -> Option<Field> {
        let below: Option<Vec<LoopFs>> = (0..4).map(|_| LoopFs::new("tmpfs", 256)).collect();
        Some(Field { below: below?, runs: std::cell::Cell::new(0) })
    }

    /// Does the whole run; an error says what differed, and after which operation.
    pub(crate) fn run(&self, case: &Case) -> Result<(), String> {
        let number = self.runs.replace(self.runs.get() + 1);
        let home = |which: usize| self.below[which].path().join(format!("run{number}"));
        let roots: Vec<PathBuf> = (0..case.tiers).map(home).collect();
        let plain = home(3);
        std::fs::create_dir(&plain).expect("reference");
        let setup = case.options.iter().fold(Setup::new(), |setup, option| setup.option(option));
        let setup = setup.roots(&roots).seed(|tiers| {
            for (tier, op) in &case.seeds {
                let _ = World::new(tiers[*tier].clone()).apply(*op);
            }
            copy_merged(tiers, &plain);
        });
        let Some(mount) = setup.mount() else { return Ok(()) };
        let outcome = Run::new(mount, plain.clone()).all(&case.ops);
        for folder in roots.iter().chain([&plain]) {
            std::fs::remove_dir_all(folder).expect("clean up");
        }
        outcome
    }
}

/// Makes `plain` the tree that the tiers show together, with hard links.
fn copy_merged(tiers: &[PathBuf], plain: &Path) {
    let mut bodies = BTreeMap::<(u64, u64), PathBuf>::new();
    walk(tiers, Path::new(""), &mut |path, place| {
        let shown = place.symlink_metadata().expect("seeded");
        let to = plain.join(path);
        let first = bodies.entry((shown.dev(), shown.ino())).or_insert_with(|| to.clone());
        if !shown.is_dir() && *first != to {
            std::fs::hard_link(first, &to).expect("link");
        } else if shown.is_symlink() {
            let target = std::fs::read_link(place).expect("readlink");
            std::os::unix::fs::symlink(target, &to).expect("symlink");
        } else {
            copy_one(place, &to, &shown);
        }
    });
}

fn copy_one(place: &Path, to: &Path, shown: &std::fs::Metadata) {
    assert!(!shown.file_type().is_fifo(), "seeds hold no fifos");
    if shown.is_dir() {
        std::fs::create_dir(to).expect("mkdir");
    } else {
        std::fs::write(to, std::fs::read(place).expect("read")).expect("write");
    }
    for (key, value) in user_xattrs(place) {
        set_xattr(to, &key, &value);
    }
    let mode = PermissionsExt::from_mode(shown.mode() & 0o7777);
    std::fs::set_permissions(to, mode).expect("chmod");
    if shown.is_file() {
        let file = std::fs::File::open(to).expect("open");
        file.set_modified(shown.modified().expect("mtime")).expect("utimens");
    }
}

/// A run under way.
struct Run {
    /// Descriptors are closed before the mount goes: fields are dropped in this order.
    seen: World,
    plain: World,
    mount: Option<TestMount>,
    /// The number under which each object of the reference was seen in the mount.
    numbers: BTreeMap<Object, u64>,
}

impl Run {
    fn new(mount: TestMount, plain: PathBuf) -> Run {
        let seen = World::new(mount.root());
        Run { mount: Some(mount), seen, plain: World::new(plain), numbers: BTreeMap::new() }
    }

    fn all(mut self, ops: &[Op]) -> Result<(), String> {
        self.compare().map_err(|words| format!("before the first operation: {words}"))?;
        for (place, op) in ops.iter().enumerate() {
            let words = |words| format!("operation {place}, {op:?}: {words}");
            self.step(*op).map_err(words)?;
            if place % COMPARE_EVERY == COMPARE_EVERY - 1 {
                self.compare().map_err(words)?;
            }
        }
        self.compare().map_err(|words| format!("at the end: {words}"))?;
        self.remount();
        self.compare().map_err(|words| format!("after the last remount: {words}"))?;
        self.end()
    }

    fn step(&mut self, op: Op) -> Result<(), String> {
        let (seen, expected) = (self.seen.apply(op), self.plain.apply(op));
        if seen != expected {
            return Err(format!("the mount answers {seen:?}, a plain directory {expected:?}"));
        }
        if op == Op::Remount {
            self.remount();
        }
        Ok(())
    }

    fn remount(&mut self) {
        self.seen.close();
        self.plain.close();
        self.mount = self.mount.take().map(TestMount::remount);
        if let Some(mount) = &self.mount {
            self.seen.root = mount.root();
        }
    }

    /// Compares the whole trees, and the numbers of all objects with those seen before.
    fn compare(&mut self) -> Result<(), String> {
        let (seen, expected) = (tree(&self.seen.root), tree(&self.plain.root));
        if let Some(words) = differences(&seen, &expected) {
            return Err(words);
        }
        let (seen, expected) = (objects(&self.seen.root), objects(&self.plain.root));
        let mut living = BTreeMap::new();
        for (path, object) in expected {
            let Some((number, _)) = seen.get(&path) else { continue };
            if self.numbers.get(&object).is_some_and(|before| before != number) {
                return Err(format!("{path:?} has changed its inode number"));
            }
            living.insert(object, *number);
        }
        let distinct: BTreeSet<u64> = living.values().copied().collect();
        if distinct.len() != living.len() {
            return Err("two objects have one inode number".to_owned());
        }
        self.numbers = living;
        Ok(())
    }

    /// Unmounts: what the tiers hold together is what the reference holds.
    fn end(mut self) -> Result<(), String> {
        self.seen.close();
        self.plain.close();
        let Some(mount) = self.mount.take() else { return Ok(()) };
        let roots = mount.roots().to_vec();
        // Encrypted tiers are shown as long as it lives.
        let _setup = mount.unmount();
        match differences(&merged(&roots), &tree(&self.plain.root)) {
            Some(words) => Err(format!("the tiers themselves: {words}")),
            None => Ok(()),
        }
    }
}
