//! Renames over two tiers of which a call fails. What a record that stays may do to names that are used again is seen
//! only at the next start.

use std::sync::Arc;

use super::race_tests::{Bench, look};
use super::spy_tests::Spy;
use super::*;
use crate::tier::Rename;
use crate::types::caller::Caller;
use crate::types::errno::Result as Outcome;
use crate::types::ids::Ino;
use crate::types::name::Name;
use crate::union::Union;

const ME: Caller = Caller { uid: 0, gid: 0, umask: 0, pid: 0 };

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn rename(union: &Union, old: &str, new: &str) -> Outcome<()> {
    union.rename((Ino::ROOT, &name(old)), (Ino::ROOT, &name(new)), Rename::Replace)
}

fn mkdir(union: &Union, new: &str) -> Outcome<Ino> {
    union.mkdir(Ino::ROOT, &name(new), 0o755, &ME).map(|attr| attr.ino)
}

fn records(bench: &Bench) -> usize {
    std::fs::read_dir(bench.on(0, ".tierfs/renames")).map_or(0, Iterator::count)
}

/// Fails so many calls with any name from now on.
fn fail(spy: &Spy, op: &'static str, rank: u8, times: usize) {
    (0..times).for_each(|_| spy.before(op, rank, "*", || Err(Errno::EIO)));
}

/// The record stays once, and the file goes back to its former name.
#[test]
fn a_rename_whose_record_stays_is_not_made_again() {
    let bench = Bench::new(&[(1, "a", "of a"), (0, "b", "of b")]);
    let spy = Arc::clone(&bench.spy);
    bench.spy.before("unlink", 0, "b", move || {
        fail(&spy, "unlink", 0, 1);
        Ok(())
    });
    assert_eq!(rename(bench.union, "a", "b"), Ok(()), "it took place");
    assert_eq!(records(&bench), 1, "the case that is tested");
    assert_eq!(rename(bench.union, "b", "a"), Ok(()));
    assert_eq!(records(&bench), 0);
    std::fs::write(bench.on(1, "b"), "another").unwrap();
    let _union = bench.next_start();
    assert_eq!(bench.read(1, "a").as_deref(), Some("of a"));
    assert_eq!(bench.read(1, "b").as_deref(), Some("another"), "it is replaced by a file with another name");
}

/// It failed and was taken back; then both names were used.
#[test]
fn a_rename_that_failed_is_not_made_at_the_next_start() {
    let bench = Bench::new(&[(0, "d/f", "f"), (1, "d/g", "g")]);
    let spy = Arc::clone(&bench.spy);
    bench.spy.before("rename from", 1, "d", move || {
        fail(&spy, "unlink", 0, 1);
        Err(Errno::EIO)
    });
    assert_eq!(rename(bench.union, "d", "e"), Err(Errno::EIO));
    assert_eq!(records(&bench), 1, "the case that is tested");
    mkdir(bench.union, "e").unwrap();
    std::fs::write(bench.on(0, "e/x"), "x").unwrap();
    let _union = bench.next_start();
    let found = [(0, "d/f"), (1, "d/g"), (0, "e/x")].map(|(rank, path)| bench.read(rank, path).is_some());
    assert_eq!(found, [true; 3]);
}

/// Neither a step nor its way back: no name is made until the tier takes it back.
#[test]
fn half_a_rename_is_taken_back_before_a_name_is_made() {
    let bench = Bench::new(&[(0, "d/f", "f"), (1, "d/g", "g")]);
    let spy = Arc::clone(&bench.spy);
    bench.spy.before("rename from", 1, "d", move || {
        // The first way back, and the second.
        (0..2).for_each(|_| spy.before("rename from", 0, "e", || Err(Errno::EIO)));
        Err(Errno::EIO)
    });
    assert_eq!(rename(bench.union, "d", "e"), Err(Errno::EIO));
    assert!(bench.on(0, "e/f").exists() && bench.on(1, "d/g").exists(), "the case that is tested");
    assert_eq!(mkdir(bench.union, "e").map(|_| ()), Err(Errno::EIO), "the tier still refuses");
    assert_eq!(bench.union.unlink(Ino::ROOT, &name("none")), Err(Errno::ENOENT), "names can be removed");
    assert!(mkdir(bench.union, "other").is_ok());
    let found = [(0, "d/f"), (1, "d/g")].map(|(rank, path)| bench.read(rank, path).is_some());
    assert_eq!((found, records(&bench)), ([true; 2], 0));
    assert!(look(bench.union, Ino::ROOT, "e").is_none());
}

/// The record was on its disk when its tier said that it was not, and would not have it removed.
#[test]
fn a_rename_whose_record_was_refused_is_never_made() {
    let bench = Bench::new(&[(0, "d/f", "f"), (1, "d/g", "g")]);
    let spy = Arc::clone(&bench.spy);
    bench.spy.before("renamed from", 0, "*", move || {
        fail(&spy, "unlink", 0, 2);
        Err(Errno::EIO)
    });
    assert_eq!(rename(bench.union, "d", "e"), Err(Errno::EIO));
    assert_eq!(records(&bench), 1, "the case that is tested");
    mkdir(bench.union, "e").unwrap();
    std::fs::write(bench.on(0, "e/x"), "x").unwrap();
    let _union = bench.next_start();
    let found = [(0, "d/f"), (1, "d/g"), (0, "e/x")].map(|(rank, path)| bench.read(rank, path).is_some());
    assert_eq!(found, [true; 3]);
}

/// A server that answers late: the target was gone, and what was to replace it went back.
#[test]
fn a_step_that_is_done_and_reported_as_failed_costs_nothing() {
    let bench = Bench::new(&[(1, "a", "of a"), (0, "b", "of b"), (0, "d/f", "f"), (1, "d/g", "g")]);
    bench.spy.before("unlinked", 0, "b", || Err(Errno::EIO));
    assert_eq!(rename(bench.union, "a", "b"), Ok(()));
    assert_eq!((bench.read(1, "b").as_deref(), bench.read(0, "b")), (Some("of a"), None));
    bench.spy.before("renamed from", 1, "d", || Err(Errno::EIO));
    assert_eq!(rename(bench.union, "d", "e"), Ok(()));
    assert!(bench.on(0, "e/f").exists() && bench.on(1, "e/g").exists());
    assert_eq!(records(&bench), 0);
}
