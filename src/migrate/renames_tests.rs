//! Renames over two tiers of which a call fails. What a record that stays may do to names that are used again is seen
//! only at the next start.

use std::sync::Arc;

use super::race_tests::{Bench, look};
use super::spy_tests::Spy;
use super::*;
use crate::tier::Rename;
use crate::types::attr::SetAttr;
use crate::types::caller::Caller;
use crate::types::errno::Result as Outcome;
use crate::types::ids::Ino;
use crate::types::name::Name;
use crate::union::{Access, Union};

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
    let b = look(bench.union, Ino::ROOT, "b").unwrap().ino;
    assert!(bench.union.open(b, Access::Write, 1, None).is_ok(), "nothing is to take its place");
    assert_eq!(records(&bench), 1, "so that can wait");
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

/// What was written to the file that stayed visible went with it when the next start finished the rename.
#[test]
fn regression_a_file_that_half_a_rename_is_to_replace_is_not_written() {
    let bench = Bench::new(&[(1, "a", "of a"), (0, "b", "of b"), (0, "c", "of c")]);
    let spy = Arc::clone(&bench.spy);
    bench.spy.before("unlink", 0, "b", move || {
        // Every way back but the last.
        (0..3).for_each(|_| spy.before("rename from", 1, "b", || Err(Errno::EIO)));
        Err(Errno::EIO)
    });
    assert_eq!(rename(bench.union, "a", "b"), Err(Errno::EIO));
    let [b, c] = ["b", "c"].map(|name| look(bench.union, Ino::ROOT, name).unwrap().ino);
    assert_eq!((records(&bench), bench.read(1, "b").as_deref()), (1, Some("of a")), "the case that is tested");
    let write = |ino| bench.union.open(ino, Access::Write, 1, None).map(|opened| opened.fh);
    let cut = SetAttr { size: Some(0), ..SetAttr::default() };
    assert_eq!(write(b), Err(Errno::EIO), "the tier still refuses");
    assert_eq!(bench.union.setattr(b, None, &cut).map(|_| ()), Err(Errno::EIO));
    assert!(bench.union.open(b, Access::Read, 1, None).is_ok());
    assert!(write(c).is_ok(), "no other file is kept from being written");
    assert!(write(b).is_ok(), "it is taken back first");
    assert_eq!((records(&bench), bench.read(1, "a").as_deref()), (0, Some("of a")));
    std::fs::write(bench.on(0, "b"), "written").unwrap();
    let _union = bench.next_start();
    assert_eq!(bench.read(0, "b").as_deref(), Some("written"));
}

/// Once the tier of the record was lost, nothing kept the file of another tier from being written.
#[test]
fn regression_a_file_that_a_lost_record_is_to_replace_is_not_written() {
    let bench = Bench::over(3, &[(2, "a", "of a"), (1, "b", "of b"), (1, "c", "of c")]);
    let spy = Arc::clone(&bench.spy);
    bench.spy.before("unlink", 1, "b", move || {
        spy.before("rename from", 2, "b", || Err(Errno::EIO));
        Err(Errno::EIO)
    });
    assert_eq!(rename(bench.union, "a", "b"), Err(Errno::EIO));
    assert_eq!((records(&bench), bench.read(2, "b").as_deref()), (1, Some("of a")), "the case that is tested");
    let [b, c] = ["b", "c"].map(|name| look(bench.union, Ino::ROOT, name).unwrap().ino);
    drop(bench.union.lose(Rank::PRIMARY, crate::types::health::Condition::Failed, "pulled", false));
    let write = |ino| bench.union.open(ino, Access::Write, 1, None).map(|_| ());
    assert_eq!([write(b), write(b), write(c)], [Err(Errno::EIO), Err(Errno::EIO), Ok(())]);
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

/// Both are names of one body on the slower tier, where a rename does nothing (`rename(2)`): the old name stayed.
#[test]
fn a_rename_over_another_name_of_the_same_body_that_is_hidden_takes_the_old_name_away() {
    for fails in [None, Some(("unlink", 1, "old")), Some(("unlink", 0, "new"))] {
        let bench = Bench::new(&[(1, "old", "of old"), (0, "new", "of new")]);
        std::fs::hard_link(bench.on(1, "old"), bench.on(1, "new")).unwrap();
        if let Some((op, rank, name)) = fails {
            bench.spy.before(op, rank, name, || Err(Errno::EIO));
        }
        let done = rename(bench.union, "old", "new");
        assert_eq!(done.is_ok(), fails.is_none());
        let seen = |union: &Union| ["old", "new"].map(|name| look(union, Ino::ROOT, name).is_some());
        assert_eq!(seen(bench.union), [fails.is_some(), true], "{fails:?}");
        let again = bench.next_start();
        assert_eq!(seen(&again), [fails.is_some(), true], "{fails:?}");
        let wanted = if fails == Some(("unlink", 0, "new")) { "of new" } else { "of old" };
        assert_eq!(bench.read(0, "new").or(bench.read(1, "new")).as_deref(), Some(wanted), "{fails:?}");
        assert_eq!(records(&bench), 0);
    }
}

/// It replaced what was made beside the mount after the look.
#[test]
fn a_rename_that_must_replace_nothing_replaces_nothing() {
    let bench = Bench::new(&[(0, "a", "of a")]);
    let path = bench.on(0, "b");
    bench.spy.before("rename from", 0, "a", move || {
        std::fs::write(path, "beside").unwrap();
        Ok(())
    });
    let done = bench.union.rename((Ino::ROOT, &name("a")), (Ino::ROOT, &name("b")), Rename::NoReplace);
    assert_eq!(done, Err(Errno::EEXIST));
    assert_eq!((bench.read(0, "a").as_deref(), bench.read(0, "b").as_deref()), (Some("of a"), Some("beside")));
}

/// Of a newer version, or damaged: it was removed, and with it all that tells of names that are half changed.
#[test]
fn a_record_that_cannot_be_read_stays() {
    let bench = Bench::new(&[(0, "a", "of a")]);
    let dir = bench.on(0, ".tierfs/renames");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("17"), "tierfs-rename 2\n").unwrap();
    for _ in 0..2 {
        let union = bench.next_start();
        assert_eq!(union.has_cut_renames(), Ok(false), "nothing can be finished");
        assert_eq!(std::fs::read_to_string(dir.join("unreadable-17")).unwrap(), "tierfs-rename 2\n");
    }
    assert_eq!(records(&bench), 1);
}

/// The note of a record that stayed kept its directory open: a dead primary could not be unmounted, and did not come
/// back.
#[test]
fn nothing_of_a_lost_primary_is_kept_open_for_a_record() {
    let bench = Bench::new(&[(1, "a", "of a"), (0, "b", "of b")]);
    let spy = Arc::clone(&bench.spy);
    bench.spy.before("unlink", 0, "b", move || {
        fail(&spy, "unlink", 0, 1);
        Ok(())
    });
    assert_eq!(rename(bench.union, "a", "b"), Ok(()));
    let dir = bench.on(0, ".tierfs/renames");
    let is_open = || {
        let mut open =
            std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        open.any(|path| path == dir)
    };
    assert!(is_open(), "the case that is tested");
    drop(bench.union.lose(Rank::PRIMARY, crate::types::health::Condition::Failed, "pulled", false));
    assert!(!is_open());
    assert_eq!(records(&bench), 1, "what the disk has of it is found when it is back");
}

/// The former `f` could not be made gone for good, so nothing was done; then the program wrote to `f` in place.
#[test]
fn a_rename_that_waits_in_vain_for_a_removal_leaves_no_record() {
    let bench = Bench::new(&[(1, "tmp", "of tmp"), (1, "f", "former")]);
    bench.union.unlink(Ino::ROOT, &name("f")).unwrap();
    std::fs::write(bench.on(0, "f"), "made beside the mount").unwrap();
    fail(&bench.spy, "fsync", 1, 2);
    assert_eq!(rename(bench.union, "tmp", "f"), Err(Errno::EIO));
    std::fs::write(bench.on(0, "f"), "written in place").unwrap();
    let _union = bench.next_start();
    assert_eq!(bench.read(0, "f").as_deref(), Some("written in place"));
    assert_eq!((bench.read(1, "tmp").as_deref(), records(&bench)), (Some("of tmp"), 0));
}
