//! What went from one tier and is used on another: in which order the disks must have it.

use std::sync::Arc;

use super::race_tests::{Bench, down, go, name, request, union_of};
use super::spy_tests::{Call, Spy};
use super::*;
use crate::tier::Rename;
use crate::types::caller::Caller;
use crate::types::errno::Result as Outcome;
use crate::types::ids::{Fh, Ino};
use crate::union::create::Create;
use crate::union::{Access, Found, Union};

/// More than a run syncs one by one.
const MANY_DIRS: usize = 20;

fn me() -> Caller {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    Caller { uid, gid, umask: 0, pid: 0 }
}

fn dir(union: &Union, path: &str) -> Ino {
    path.split('/').filter(|part| !part.is_empty()).fold(Ino::ROOT, |at, part| {
        let Found::Object(attr) = union.lookup(at, &name(part)).unwrap() else { panic!("{part} is absent") };
        attr.ino
    })
}

fn create(union: &Union, parent: Ino, file: &str) -> Outcome<()> {
    let how = Create { mode: 0o644, access: Access::Write, exclusive: false };
    let (attr, opened) = union.create(parent, &name(file), &how, &me(), None)?;
    union.release(attr.ino, opened.fh);
    Ok(())
}

fn unlink(union: &Union, file: &str) {
    union.unlink(Ino::ROOT, &name(file)).unwrap();
}

fn rename(union: &Union, old: (Ino, &str), new: (Ino, &str)) -> Outcome<()> {
    union.rename((old.0, &name(old.1)), (new.0, &name(new.1)), Rename::Replace)
}

/// Saves as editors do: `x` is new on the primary, and its former copy has gone from the secondary.
fn save(union: &Union) {
    rename(union, (Ino::ROOT, "x.tmp"), (Ino::ROOT, "x")).unwrap();
}

/// The calls of `act` that change names or make them durable, each with its rank.
fn calls(spy: &Spy, act: impl FnOnce()) -> Vec<String> {
    spy.log.lock().clear();
    act();
    let shown = |(op, rank, name): &Call| match *op {
        "fsync" => Some(format!("sync {rank}")),
        "create" | "unlink" | "rmdir" | "link" => Some(format!("{op} {rank} {name}")),
        "rename from" => Some(format!("rename {rank} {name}")),
        _ => None,
    };
    spy.log().iter().filter_map(shown).collect()
}

#[test]
fn a_file_made_anew_on_another_tier_waits_until_the_former_is_gone_for_good() {
    let bench = Bench::new(&[(0, "x", "v1")]);
    unlink(bench.union, "x");
    bench.spy.before("create", 0, "x", || Err(Errno::ENOSPC));
    let made = calls(&bench.spy, || create(bench.union, Ino::ROOT, "x").unwrap());
    assert_eq!(made, ["create 0 x", "sync 0", "create 1 x"]);
}

#[test]
fn what_a_save_replaced_on_a_slower_tier_is_gone_before_the_new_file_goes() {
    for (gone, expected) in [("rm", "unlink 0 x"), ("mv", "rename 0 x")] {
        let bench = Bench::new(&[(1, "x", "v1"), (0, "x.tmp", "v2")]);
        save(bench.union);
        let done = calls(&bench.spy, || match gone {
            "rm" => unlink(bench.union, "x"),
            _ => rename(bench.union, (Ino::ROOT, "x"), (Ino::ROOT, "z")).unwrap(),
        });
        assert_eq!(done, ["sync 1", expected]);
    }
}

#[test]
fn a_file_removed_and_made_anew_and_removed_does_not_come_back_as_it_was_first() {
    let bench = Bench::new(&[(1, "x", "v1")]);
    unlink(bench.union, "x");
    let made = calls(&bench.spy, || create(bench.union, Ino::ROOT, "x").unwrap());
    assert_eq!(made, ["sync 1", "create 0 x"]);
    assert_eq!(calls(&bench.spy, || unlink(bench.union, "x")), ["unlink 0 x"], "it is known that the first is gone");
}

#[test]
fn what_was_renamed_away_has_its_new_name_before_another_file_has_the_old() {
    let bench = Bench::new(&[(1, "x", "v1"), (0, "d/k", ""), (1, "d/x", "v1"), (1, "e/k", "")]);
    rename(bench.union, (Ino::ROOT, "x"), (Ino::ROOT, "y")).unwrap();
    let made = calls(&bench.spy, || create(bench.union, Ino::ROOT, "x").unwrap());
    assert_eq!(made, ["sync 1", "create 0 x"]);
    let (d, e) = (dir(bench.union, "d"), dir(bench.union, "e"));
    rename(bench.union, (d, "x"), (e, "y")).unwrap();
    let made = calls(&bench.spy, || create(bench.union, d, "x").unwrap());
    assert_eq!(made, ["sync 1", "sync 1", "create 0 x"], "both directories");
}

#[test]
fn a_directory_made_anew_on_another_tier_does_not_get_the_former_one_back() {
    let bench = Bench::new(&[(1, "d/f", "")]);
    bench.union.unlink(dir(bench.union, "d"), &name("f")).unwrap();
    bench.union.rmdir(Ino::ROOT, &name("d")).unwrap();
    let made = calls(&bench.spy, || {
        bench.union.mkdir(Ino::ROOT, &name("d"), 0o755, &me()).unwrap();
    });
    assert_eq!(made, ["sync 1"]);
    assert!(bench.on(0, "d").exists());
}

#[test]
fn a_link_waits_for_the_file_that_had_its_name() {
    let bench = Bench::new(&[(1, "x", "v1"), (0, "f", "")]);
    unlink(bench.union, "x");
    let file = dir(bench.union, "f");
    let made = calls(&bench.spy, || {
        bench.union.link(file, Ino::ROOT, &name("x")).unwrap();
    });
    assert_eq!(made, ["sync 1"]);
}

#[test]
fn a_name_that_stays_on_its_tier_costs_no_sync() {
    let bench = Bench::new(&[(0, "d/x", ""), (1, "d/other", ""), (0, "e/k", "")]);
    let union = bench.union;
    let (d, e) = (dir(union, "d"), dir(union, "e"));
    let done = calls(&bench.spy, || {
        for _ in 0..3 {
            union.unlink(d, &name("x")).unwrap();
            create(union, d, "tmp").unwrap();
            rename(union, (d, "tmp"), (d, "x")).unwrap();
            rename(union, (d, "x"), (e, "x")).unwrap();
            rename(union, (e, "x"), (d, "x")).unwrap();
            union.mkdir(d, &name("below"), 0o755, &me()).unwrap();
            union.rmdir(d, &name("below")).unwrap();
        }
    });
    assert!(!done.iter().any(|call| call.starts_with("sync")), "{done:?}");
}

#[test]
fn what_the_program_has_synced_itself_is_not_synced_again() {
    let bench = Bench::new(&[(1, "x", "v1")]);
    unlink(bench.union, "x");
    bench.union.fsync_dir(Ino::ROOT, Fh(u64::MAX)).unwrap();
    assert_eq!(calls(&bench.spy, || create(bench.union, Ino::ROOT, "x").unwrap()), ["create 0 x"]);
}

#[test]
fn a_name_is_not_used_on_another_tier_while_its_removal_cannot_be_made_durable() {
    let bench = Bench::new(&[(1, "x", "v1")]);
    unlink(bench.union, "x");
    bench.spy.before("fsync", 1, "", || Err(Errno::EIO));
    assert_eq!(create(bench.union, Ino::ROOT, "x"), Err(Errno::EIO));
    assert!(!bench.on(0, "x").exists());
    let made = calls(&bench.spy, || create(bench.union, Ino::ROOT, "x").unwrap());
    assert_eq!(made, ["sync 1", "create 0 x"], "it is tried again");
}

/// A run syncs both tiers as a whole when its files are in many directories.
#[test]
fn what_a_run_has_made_durable_costs_no_sync_afterwards() {
    let paths: Vec<String> = (0..MANY_DIRS).map(|at| format!("d{at}/x")).collect();
    let files: Vec<(usize, &str, &str)> = paths.iter().map(|path| (0, path.as_str(), "v1")).collect();
    let bench = Bench::new(&files);
    assert_eq!(go(bench.union, &down()).moved, files.len() as u64);
    let d = dir(bench.union, "d0");
    assert_eq!(calls(&bench.spy, || bench.union.unlink(d, &name("x")).unwrap()), ["unlink 1 x"]);
}

/// The faster of three tiers would bring the first contents back, to hide what was saved later and moved to the slowest.
#[test]
fn a_file_moves_past_a_tier_only_when_its_former_copy_is_gone_from_there() {
    let tiers: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    for (rank, file) in [(1, "x"), (0, "x.tmp")] {
        std::fs::write(tiers[rank].path().join(file), file).unwrap();
    }
    let spy = Arc::new(Spy::default());
    let union = union_of(&tiers, &spy);
    save(&union);
    let done = calls(&spy, || assert_eq!(go(&union, &request(What::To(Rank(2)))).moved, 1));
    let at = |call: &str| done.iter().position(|done| done == call).unwrap();
    assert!(at("sync 1") < at("rename 0 x"), "{done:?}");
    assert!(tiers[2].path().join("x").exists());
}
