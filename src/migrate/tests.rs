//! The engine over plain directories, without a mount.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::policy::Criteria;
use crate::tier::directory::{DirectoryTier, Known};
use crate::types::attr::Time;
use crate::types::ids::Ino;
use crate::types::name::Name;
use crate::union::{Found, MinFree, Settings, Slot, SpaceOf, Union};

pub(super) struct Tree {
    tiers: Vec<tempfile::TempDir>,
    given: Option<Time>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        let tiers: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
        tiers.iter().for_each(|dir| std::fs::DirBuilder::new().mode(0o700).create(dir.path().join(".tierfs")).unwrap());
        Tree { tiers, given: Some(Time::default()) }
    }

    pub(super) fn on(&self, rank: usize, path: &str) -> std::path::PathBuf {
        self.tiers[rank].path().join(path)
    }

    pub(super) fn write(&self, rank: usize, path: &str, text: &str) {
        let path = self.on(rank, path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn union(&self) -> Union {
        let slots = self.tiers.iter().zip(1u64..).map(|(dir, seed)| {
            let root = crate::sys::durable::open_root(dir.path()).unwrap();
            let known = Known { seed, stamps: true, given: self.given };
            let tier = DirectoryTier::new(&root, dir.path().to_path_buf(), known, Box::new(|_| Ok(()))).unwrap();
            Slot { tier: Some(Arc::new(tier)), min_free: MinFree::Bytes(0) }
        });
        let settings = Settings {
            ttl: Duration::ZERO,
            file_ttl: std::time::Duration::MAX,
            space_of: SpaceOf::Sum,
            spill: true,
            read_only: false,
            remember: 0,
            offline_from: None,
            dirs_max: 64,
            root: nix::unistd::geteuid().is_root(),
        };
        Union::new(slots.collect(), settings).unwrap()
    }
}

pub(super) fn request(what: What) -> Request {
    Request {
        what,
        paths: Vec::new(),
        limits: Limits::default(),
        until_free_percent: None,
        order: Order::Tree,
        verify: Verify::Hash,
        errors_max: None,
        dry_run: false,
    }
}

pub(super) fn everything_down() -> Request {
    request(What::Policy(Box::new(Policy::from_criteria(Criteria::default()))))
}

pub(super) fn go(union: &Union, request: &Request) -> (Summary, Vec<Event>) {
    let mut events = Vec::new();
    let mut tell = |event| {
        events.push(event);
        Go::On
    };
    let summary = run(union, request, &mut tell).unwrap();
    (summary, events)
}

fn attr(union: &Union, path: &str) -> crate::union::Attr {
    let mut at = Ino::ROOT;
    let mut found = None;
    for part in path.split('/') {
        let Found::Object(attr) = union.lookup(at, &Name::new(part.as_bytes()).unwrap()).unwrap() else {
            panic!("{part} of {path} is absent")
        };
        at = attr.ino;
        found = Some(attr);
    }
    found.unwrap()
}

fn names_in(path: &Path) -> Vec<String> {
    let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn private_is_empty(tree: &Tree) {
    for rank in 0..2 {
        for own in ["staging", "trash", "moves"] {
            let dir = tree.on(rank, ".tierfs").join(own);
            if dir.exists() {
                assert_eq!(names_in(&dir), [] as [&str; 0], "{own} on {rank}");
            }
        }
    }
}

#[test]
fn a_tree_goes_down_and_comes_back_unchanged() {
    let tree = Tree::new();
    tree.write(0, "a/b/one", "1");
    tree.write(0, "a/two", "22");
    tree.write(0, "three", "");
    tree.write(1, "a/four", "4");
    std::fs::set_permissions(tree.on(0, "a/two"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    let union = tree.union();
    let paths = ["a/b/one", "a/two", "three", "a/four", "a", "a/b"];
    let before: Vec<_> = paths.iter().map(|path| attr(&union, path)).collect();
    let (summary, events) = go(&union, &everything_down());
    assert_eq!((summary.moved, summary.failed, summary.skipped.len()), (3, 0, 0), "{events:?}");
    assert_eq!(summary.bytes, 3);
    for path in &paths[..3] {
        assert!(!tree.on(0, path).exists(), "{path} is still on the primary");
    }
    assert_eq!(std::fs::metadata(tree.on(1, "a/two")).unwrap().mode() & 0o7777, 0o4751);
    private_is_empty(&tree);
    let same = |union: &Union, round: &str| {
        for (path, was) in paths.iter().zip(&before) {
            let now = attr(union, path);
            assert_eq!(now.ino, was.ino, "{path} {round}");
            let (a, b) = (now.stat, was.stat);
            assert_eq!((a.mode, a.uid, a.gid, a.size), (b.mode, b.uid, b.gid, b.size), "{path} {round}");
            assert_eq!(a.mtime, b.mtime, "{path} {round}");
            if !a.is_dir() {
                assert_eq!((a.nlink, a.atime, a.ctime), (b.nlink, b.atime, b.ctime), "{path} {round}");
                assert_eq!(union.getattr(now.ino).unwrap().stat.ctime, b.ctime, "{path} {round}");
            }
        }
    };
    same(&union, "below");
    same(&tree.union(), "below, mounted anew");
    let (summary, events) = go(&union, &request(What::Undo(summary.run)));
    assert_eq!((summary.moved, summary.failed), (3, 0), "{events:?}");
    assert!(tree.on(0, "a/b/one").exists() && !tree.on(1, "a/b/one").exists());
    private_is_empty(&tree);
    same(&union, "back");
    same(&tree.union(), "back, mounted anew");
    // Reading moves the access time, so it comes last.
    assert_eq!(std::fs::read_to_string(tree.on(0, "a/two")).unwrap(), "22");
}

#[test]
fn hard_links_move_together() {
    let tree = Tree::new();
    tree.write(0, "a/x", "linked");
    std::fs::create_dir(tree.on(0, "b")).unwrap();
    std::fs::hard_link(tree.on(0, "a/x"), tree.on(0, "b/y")).unwrap();
    let union = tree.union();
    let (one, other) = (attr(&union, "a/x"), attr(&union, "b/y"));
    assert_eq!((one.ino, one.stat.nlink), (other.ino, 2));
    let only_a = Request { paths: vec![UnionPath::new(b"a").unwrap()], ..everything_down() };
    let (summary, _) = go(&union, &only_a);
    assert_eq!((summary.moved, summary.skipped.get(&Skip::LinksOutside)), (0, Some(&1)));
    for (what, rank) in [(everything_down(), 1), (request(What::To(Rank::PRIMARY)), 0)] {
        let (summary, events) = go(&union, &what);
        assert_eq!((summary.moved, summary.failed), (1, 0), "{events:?}");
        let (a, b) = (tree.on(rank, "a/x"), tree.on(rank, "b/y"));
        assert_eq!(std::fs::metadata(a).unwrap().ino(), std::fs::metadata(b).unwrap().ino());
        assert!(!tree.on(1 - rank, "a/x").exists() && !tree.on(1 - rank, "b/y").exists());
        for path in ["a/x", "b/y"] {
            let now = attr(&union, path);
            assert_eq!((now.ino, now.stat.nlink, now.stat.ctime), (one.ino, 2, one.stat.ctime), "{path}");
        }
        private_is_empty(&tree);
    }
}

#[test]
fn a_file_in_use_stays() {
    let tree = Tree::new();
    tree.write(0, "read", "r");
    tree.write(0, "written", "w");
    tree.write(0, "idle", "i");
    let union = tree.union();
    let _reader = std::fs::File::open(tree.on(0, "read")).unwrap();
    let _writer = std::fs::OpenOptions::new().write(true).open(tree.on(0, "written")).unwrap();
    let (summary, events) = go(&union, &everything_down());
    assert_eq!((summary.moved, summary.skipped.get(&Skip::InUse)), (1, Some(&2)), "{events:?}");
    assert!(tree.on(0, "read").exists() && tree.on(0, "written").exists() && tree.on(1, "idle").exists());
    assert!(!tree.on(1, "read").exists() && !tree.on(1, "written").exists());
    private_is_empty(&tree);
}

#[test]
fn a_copy_below_stays_hidden_and_its_cover_stays() {
    let tree = Tree::new();
    tree.write(0, "f", "new");
    tree.write(1, "f", "old");
    let union = tree.union();
    let (summary, _) = go(&union, &everything_down());
    assert_eq!((summary.moved, summary.skipped.get(&Skip::Occupied)), (0, Some(&1)));
    assert_eq!(std::fs::read_to_string(tree.on(0, "f")).unwrap(), "new");
    assert_eq!(std::fs::read_to_string(tree.on(1, "f")).unwrap(), "old");
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::FileExt;
    let tree = Tree::new();
    let file = std::fs::File::create(tree.on(0, "f")).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"in the middle", (20 << 20) + 5).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let union = tree.union();
    let (summary, events) = go(&union, &everything_down());
    assert_eq!((summary.moved, summary.failed), (1, 0), "{events:?}");
    assert_eq!(summary.bytes, 64 << 20);
    assert!((1..1 << 20).contains(&summary.taken), "{}", summary.taken);
    let below = std::fs::metadata(tree.on(1, "f")).unwrap();
    assert_eq!(below.len(), 64 << 20);
    assert!(below.blocks() * 512 < 1 << 20, "{} blocks", below.blocks());
    let mut bytes = [0; 13];
    std::fs::File::open(tree.on(1, "f")).unwrap().read_exact_at(&mut bytes, (20 << 20) + 5).unwrap();
    assert_eq!(&bytes, b"in the middle");
}

#[test]
fn a_dry_run_tells_what_the_real_one_does() {
    let tree = Tree::new();
    for n in 0..20 {
        tree.write(0, &format!("d{}/f{n}", n % 3), &"x".repeat(n));
    }
    let union = tree.union();
    let told = |events: &[Event]| -> Vec<Event> {
        events.iter().filter(|event| matches!(event, Event::Moved { .. } | Event::Skipped { .. })).cloned().collect()
    };
    let (dry, events) = go(&union, &Request { dry_run: true, ..everything_down() });
    assert!(tree.on(0, "d0/f0").exists());
    let (real, real_events) = go(&union, &everything_down());
    let age_less = |event: Event| match event {
        Event::Moved { path, from, to, bytes, .. } => Event::Moved { path, from, to, bytes, age: Duration::ZERO },
        other => other,
    };
    let strip = |events: &[Event]| told(events).into_iter().map(age_less).collect::<Vec<_>>();
    assert_eq!(strip(&events), strip(&real_events));
    assert_eq!((dry.moved, dry.bytes, dry.skipped), (real.moved, real.bytes, real.skipped));
}

fn path(text: &str) -> UnionPath {
    UnionPath::new(text.as_bytes()).unwrap()
}

#[test]
fn a_full_tier_gives_its_oldest_until_enough_is_free() {
    use crate::policy::{AgeBy, Watermarks};
    let tree = Tree::new();
    for (name, age) in [("old", 9), ("older", 99), ("new", 1), ("skipped", 999)] {
        tree.write(0, name, &"x".repeat(100_000));
        let time = std::time::SystemTime::now() - Duration::from_secs(age * 86_400);
        let times = std::fs::FileTimes::new().set_accessed(time).set_modified(time);
        std::fs::File::options().append(true).open(tree.on(0, name)).unwrap().set_times(times).unwrap();
    }
    let union = tree.union();
    let marks = Watermarks {
        tier: Rank::PRIMARY,
        high: 2,
        low: 1,
        never_younger_than: Duration::from_secs(86_400 * 5),
        age_by: AgeBy::Newest,
        order: Order::Oldest,
    };
    let policy = Policy { watermarks: vec![marks], ..Policy::default() };
    let relieve = |bytes| {
        let except = [path("skipped")].into();
        request(What::Relieve(Box::new(Relieve { policy: policy.clone(), tier: Rank::PRIMARY, bytes, except })))
    };
    let (summary, events) = go(&union, &relieve(50_000));
    assert_eq!((summary.moved, summary.failed), (1, 0), "{events:?}");
    assert!(tree.on(1, "older").exists());
    let (summary, _) = go(&union, &relieve(u64::MAX));
    assert_eq!(summary.moved, 1);
    assert!(tree.on(1, "old").exists() && tree.on(0, "new").exists() && tree.on(0, "skipped").exists());
}

#[test]
fn used_files_go_up_unless_something_holds_them() {
    use crate::policy::Promotion;
    let tree = Tree::new();
    for name in ["a/used", "a/other", "pinned"] {
        tree.write(1, name, "x");
    }
    tree.write(0, "here", "x");
    let (root, name) = (crate::sys::durable::open_root(tree.tiers[1].path()).unwrap(), c"pinned");
    crate::sys::xattr::set(std::os::fd::AsFd::as_fd(&root), Some(name), crate::types::pin::KEY, b"secondary", 0)
        .unwrap();
    let union = tree.union();
    let policy = Policy { promote: Promotion::Write, ..Policy::default() };
    let files = ["a/used", "pinned", "here", "gone/away", "a"].map(path).to_vec();
    let (summary, events) = go(&union, &Request { paths: files, ..request(What::Promote(Box::new(policy))) });
    assert_eq!((summary.moved, summary.failed), (1, 0), "{events:?}");
    assert!(tree.on(0, "a/used").exists() && tree.on(1, "a/other").exists() && !tree.on(0, "a/other").exists());
}

#[test]
fn regression_one_that_is_gone_is_told_no_more_of_what_stays() {
    let tree = Tree::new();
    std::fs::create_dir(tree.on(0, "b")).unwrap();
    for n in 0..20 {
        tree.write(0, &format!("a/{n}"), "x");
        std::fs::hard_link(tree.on(0, &format!("a/{n}")), tree.on(0, &format!("b/{n}"))).unwrap();
    }
    let mut skipped = 0;
    let mut tell = |event| {
        skipped += usize::from(matches!(event, Event::Skipped { .. }));
        if skipped > 0 { Go::Stop } else { Go::On }
    };
    let only_a = Request { paths: vec![path("a")], ..everything_down() };
    let summary = run(&tree.union(), &only_a, &mut tell).unwrap();
    assert_eq!((skipped, summary.stopped), (1, Some(Stop::Interrupted)));
}

#[test]
fn regression_a_run_is_taken_back_only_at_the_paths_that_are_named() {
    let tree = Tree::new();
    for name in ["a/one", "a/two", "ab", "b/one"] {
        tree.write(0, name, "x");
    }
    let union = tree.union();
    let (down, _) = go(&union, &everything_down());
    assert_eq!(down.moved, 4);
    let back = Request { paths: vec![path("a"), path("b/one")], ..request(What::Undo(down.run.clone())) };
    let (summary, events) = go(&union, &back);
    assert_eq!(summary.moved, 3, "{events:?}");
    assert!(tree.on(0, "a/two").exists() && tree.on(0, "b/one").exists() && tree.on(1, "ab").exists());
    let (summary, _) = go(&union, &request(What::Undo(down.run)));
    assert_eq!(summary.moved, 1);
}

#[test]
fn regression_a_run_in_which_nothing_moves_leaves_no_manifest() {
    let tree = Tree::new();
    tree.write(0, "f", "x");
    let _reader = std::fs::File::open(tree.on(0, "f")).unwrap();
    let (summary, _) = go(&tree.union(), &everything_down());
    assert_eq!((summary.moved, summary.run.as_str()), (0, ""));
    assert_eq!(names_in(&tree.on(0, ".tierfs/runs")), [] as [&str; 0]);
}

#[test]
fn regression_promotions_of_a_day_are_one_run_and_can_be_undone() {
    use crate::policy::Promotion;
    let tree = Tree::new();
    tree.write(1, "a", "x");
    tree.write(1, "b", "x");
    let union = tree.union();
    let promote = |file| {
        let policy = Policy { promote: Promotion::Write, ..Policy::default() };
        let what = What::Promote(Box::new(policy));
        go(&union, &Request { paths: vec![path(file)], ..request(what) }).0
    };
    let first = promote("a");
    // Up, down and up again: it is twice in the manifest.
    go(&union, &Request { paths: vec![path("a")], ..everything_down() });
    let again = promote("a");
    let last = promote("b");
    assert_eq!((first.moved, again.moved, last.moved), (1, 1, 1));
    // The day may have ended in between.
    let runs: std::collections::BTreeSet<_> = [&first, &again, &last].map(|summary| summary.run.clone()).into();
    assert!(runs.len() < 3, "{runs:?}");
    let primary = union.tier_of(Rank::PRIMARY).unwrap().root();
    let lines = manifest::read(primary.as_ref(), &last.run).unwrap().unwrap();
    assert_eq!(lines.iter().filter(|line| matches!(line, manifest::Line::Begin { .. })).count(), 1);
    if runs.len() == 1 {
        assert!(matches!(lines.last(), Some(manifest::Line::End { moved: 3, bytes: 3, .. })), "{lines:?}");
    }
    let back: u64 = runs.into_iter().map(|run| go(&union, &request(What::Undo(run))).0.moved).sum();
    assert_eq!(back, 2);
    private_is_empty(&tree);
}

#[test]
fn regression_a_file_is_written_down_before_it_is_told() {
    let tree = Tree::new();
    tree.write(0, "f", "x");
    let mut told = Vec::new();
    let mut tell = |event| {
        if let Event::Moved { .. } = event {
            let runs = tree.on(0, ".tierfs/runs");
            told.extend(names_in(&runs).iter().map(|run| std::fs::read_to_string(runs.join(run)).unwrap()));
        }
        Go::On
    };
    run(&tree.union(), &everything_down(), &mut tell).unwrap();
    assert!(told.len() == 1 && told[0].contains(r#""path":"f""#), "{told:?}");
}

#[test]
fn regression_rules_and_watermarks_are_served_by_one_scan() {
    use crate::policy::{Action, AgeBy, Rule, Watermarks};
    use crate::types::glob::{Globs, Pattern};
    let tree = Tree::new();
    for name in ["ruled", "kept", "free", "linked"] {
        tree.write(0, name, "x");
    }
    std::fs::hard_link(tree.on(0, "linked"), tree.on(0, "ruled too")).unwrap();
    let of = |name: &str, action| Rule {
        globs: Some(Globs::new(vec![Pattern::new(name).unwrap()]).unwrap()),
        ..Rule::every(name, action)
    };
    let marks = Watermarks {
        tier: Rank::PRIMARY,
        high: 0,
        low: 0,
        never_younger_than: Duration::ZERO,
        age_by: AgeBy::Newest,
        order: Order::Oldest,
    };
    let rules = vec![of("ruled*", Action::Demote(None)), of("kept", Action::Keep)];
    let policy = Policy { rules, watermarks: vec![marks], ..Policy::default() };
    let (summary, events) = go(&tree.union(), &request(What::Policy(Box::new(policy))));
    assert_eq!((summary.scanned, summary.moved), (5, 2), "{events:?}");
    assert_eq!(summary.skipped.get(&Skip::LinksOutside), Some(&1), "a rule takes one of its names only");
    assert!(tree.on(1, "ruled").exists() && tree.on(1, "free").exists() && tree.on(0, "kept").exists());
}
