//! Dry runs against real ones.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use super::tests::{Tree, everything_down, go};
use super::*;
use crate::sys::io;
use crate::types::ids::Ino;
use crate::types::name::Name;
use crate::union::open::Access;
use crate::union::{Found, Union};

/// `chattr +i` while it lives; `None` where the filesystem or the user's rights do not allow it.
struct Immutable(PathBuf);

impl Immutable {
    fn new(path: PathBuf) -> Option<Immutable> {
        let file = File::open(&path).unwrap();
        let flags = io::get_flags(file.as_fd()).ok()?;
        io::set_flags(file.as_fd(), flags | 0x10).ok().map(|()| Immutable(path))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let file = File::open(&self.0).unwrap();
        let flags = io::get_flags(file.as_fd()).unwrap();
        io::set_flags(file.as_fd(), flags & !0x10).unwrap();
    }
}

/// What is told of files, without ages, which grow.
fn told(union: &Union, request: &Request) -> (Summary, Vec<Event>) {
    let (summary, events) = go(union, request);
    let files = events.into_iter().filter_map(|event| match event {
        Event::Moved { path, from, to, bytes, .. } => Some(Event::Moved { path, from, to, bytes, age: Duration::ZERO }),
        Event::Skipped { .. } | Event::Failed { .. } => Some(event),
        Event::Scanned { .. } | Event::Planned { .. } | Event::Copied { .. } => None,
    });
    let mut files: Vec<Event> = files.collect();
    files.sort_by_key(|event| format!("{event:?}"));
    (summary, files)
}

fn dry(request: Request) -> Request {
    Request { dry_run: true, ..request }
}

#[test]
fn regression_a_dry_run_skips_what_the_real_one_skips() {
    let tree = Tree::new();
    for name in ["idle", "read", "written", "fixed", "taken", "linked", "under/f", "d/idle"] {
        tree.write(0, name, "x");
    }
    tree.write(1, "taken", "hidden");
    tree.write(1, "under", "no directory");
    tree.write(1, "other", "in the way of a link");
    std::fs::hard_link(tree.on(0, "linked"), tree.on(0, "other")).unwrap();
    let fixed = Immutable::new(tree.on(0, "fixed"));
    let reader = File::open(tree.on(0, "read")).unwrap();
    let writer = OpenOptions::new().append(true).open(tree.on(0, "written")).unwrap();
    let union = tree.union();
    let (said, dry_events) = told(&union, &dry(everything_down()));
    assert!(tree.on(0, "idle").exists() && !tree.on(1, "idle").exists() && !tree.on(1, "d").exists());
    let (done, real_events) = told(&union, &everything_down());
    assert_eq!(dry_events, real_events);
    assert_eq!((said.moved, said.bytes, &said.skipped), (done.moved, done.bytes, &done.skipped));
    let movable = if fixed.is_some() { 2 } else { 3 };
    let skipped = |why| done.skipped.get(&why).copied().unwrap_or(0);
    assert_eq!((done.moved, skipped(Skip::InUse), skipped(Skip::Occupied)), (movable, 2, 3), "{real_events:?}");
    assert_eq!(skipped(Skip::Immutable), u64::from(fixed.is_some()));
    drop((reader, writer));
}

#[test]
fn regression_a_dry_run_skips_what_is_open_through_the_mount() {
    let tree = Tree::new();
    tree.write(0, "open", "x");
    tree.write(0, "idle", "x");
    let union = tree.union();
    let Found::Object(attr) = union.lookup(Ino::ROOT, &Name::new(b"open").unwrap()).unwrap() else { panic!("absent") };
    union.open(attr.ino, Access::Read, 0, None).unwrap();
    let (said, _) = told(&union, &dry(everything_down()));
    let (done, _) = told(&union, &everything_down());
    assert_eq!((said.moved, said.skipped.get(&Skip::InUse)), (1, Some(&1)));
    assert_eq!((done.moved, done.skipped.get(&Skip::InUse)), (1, Some(&1)));
}

#[test]
fn a_dry_run_leaves_no_claim_and_no_trace() {
    let tree = Tree::new();
    for at in 0..200 {
        tree.write(0, &format!("d{}/f{at}", at % 7), "x");
    }
    let stat = |at: usize| {
        let found = std::fs::metadata(tree.on(0, &format!("d{}/f{at}", at % 7))).unwrap();
        (found.accessed().unwrap(), found.modified().unwrap())
    };
    let before: Vec<_> = (0..200).map(stat).collect();
    let union = tree.union();
    for _ in 0..2 {
        let (said, _) = told(&union, &dry(everything_down()));
        assert_eq!((said.moved, said.skipped.len(), said.failed), (200, 0, 0));
    }
    assert_eq!((0..200).map(stat).collect::<Vec<_>>(), before);
    assert!(!tree.on(1, ".tierfs/staging").exists() && !tree.on(1, "d0").exists());
    OpenOptions::new().write(true).open(tree.on(0, "d0/f0")).unwrap();
}

#[test]
fn regression_a_target_without_attributes_is_known_before() {
    use super::race_tests::{Bench, down, go};
    for request in [dry(down()), down()] {
        let bench = Bench::new(&[(0, "f", "text")]);
        // Each that is asked for.
        (0..8).for_each(|_| bench.spy.before("get_xattr", 1, "", || Err(Errno::EOPNOTSUPP)));
        let summary = go(bench.union, &request);
        assert_eq!((summary.moved, summary.skipped.get(&Skip::Xattr)), (0, Some(&1)), "{summary:?}");
    }
}
