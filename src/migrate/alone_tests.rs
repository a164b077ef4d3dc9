//! Tiers that cannot be synced as a whole: every copy and every directory is made durable by itself.

use std::sync::Arc;

use super::race_tests::{Bench, down, go, union_of, up};
use super::spy_tests::{Call, Spy};
use super::*;

/// More than are made durable one by one where it can be done for all at once.
const MANY: usize = 12;

fn of(rank: u8, op: &'static str, name: &str) -> impl Fn(&Call) -> bool {
    let name = name.to_owned();
    move |call| call.0 == op && call.1 == rank && (call.2 == name || name == "*")
}

fn count(log: &[Call], is: impl Fn(&Call) -> bool) -> usize {
    log.iter().filter(|call| is(call)).count()
}

fn first(log: &[Call], is: impl Fn(&Call) -> bool) -> usize {
    log.iter().position(is).expect("the call is made")
}

fn last(log: &[Call], is: impl Fn(&Call) -> bool) -> usize {
    log.iter().rposition(is).expect("the call is made")
}

fn bench(rank: usize) -> Bench {
    let paths: Vec<String> = (0..MANY).map(|at| format!("d{at}/f")).collect();
    let files: Vec<(usize, &str, &str)> = paths.iter().map(|path| (rank, path.as_str(), "text")).collect();
    Bench::alone(&files)
}

/// The copies had no bytes after a power cut, and the sources were gone.
#[test]
fn each_copy_and_directory_is_made_durable_before_a_source_goes() {
    for (from, to, request) in [(0u8, 1u8, down()), (1, 0, up())] {
        let bench = bench(usize::from(from));
        assert_eq!(go(bench.union, &request).moved, MANY as u64);
        let log = bench.spy.log();
        let (published, taken) = (of(to, "rename to", "f"), of(from, "rename from", "f"));
        let (made, named) = (first(&log, &published), last(&log, &published));
        let (gone, all_gone) = (first(&log, &taken), last(&log, &taken));
        assert!(named < gone, "the case that is tested");
        let names = log.windows(2).filter(|pair| pair[0].0 == "rename from" && published(&pair[1]));
        let staged: Vec<&str> = names.map(|pair| pair[0].2.as_str()).collect();
        assert_eq!(staged.len(), MANY, "the case that is tested");
        let durable = |copy: &&str| count(&log[..made], of(to, "file fsync", copy)) == 1;
        assert!(staged.iter().all(durable), "copies to {to}: {staged:?}");
        let cloned: Vec<usize> = (0..MANY).map(|at| last(&log, of(to, "rename to", &format!("d{at}")))).collect();
        assert!(cloned.iter().all(|at| *at < made), "the case that is tested");
        // Each when it is made, and the directory above when it has its name; and the copies' own directory.
        assert!(count(&log[..made], of(to, "fsync", "")) > 2 * MANY, "clones on {to}");
        assert!(count(&log[named..gone], of(to, "fsync", "")) > MANY, "names on {to}");
        assert!(count(&log[all_gone..], of(from, "fsync", "")) > MANY, "names on {from}");
    }
}

/// The process dies when all sources are in the trash.
#[test]
fn a_start_makes_durable_what_it_finds_before_it_forgets_the_move() {
    let bench = bench(0);
    let spy = Arc::clone(&bench.spy);
    // The directories of the sources are made durable when the last of them has left its name.
    (1..MANY).for_each(|_| bench.spy.before("rename from", 0, "f", || Ok(())));
    bench.spy.before("rename from", 0, "f", move || {
        spy.before("fsync", 0, "", || Err(Errno::EIO));
        Ok(())
    });
    go(bench.union, &down());
    let records = || std::fs::read_dir(bench.on(0, ".tierfs/moves")).unwrap().count();
    assert!(records() > 0, "the case that is tested");
    let spy = Arc::new(Spy::alone());
    recover(&union_of(&bench.tiers, &spy)).unwrap();
    assert_eq!(records(), 0);
    let log = spy.log();
    let forgotten = first(&log, |call| call.0 == "unlink" && call.1 == 0);
    assert_eq!(count(&log[..forgotten], of(1, "file fsync", "f")), MANY, "copies");
    for rank in [0, 1] {
        assert!(count(&log[..forgotten], of(rank, "fsync", "")) > MANY, "names on {rank}");
    }
    assert!((0..MANY).all(|at| bench.read(1, &format!("d{at}/f")).as_deref() == Some("text")));
}

/// A record of a rename is found: what it names is made durable before anything is done by it.
#[test]
fn a_start_makes_durable_what_a_rename_has_left_before_it_removes_anything() {
    let bench = Bench::alone(&[(1, "a", "of a"), (0, "b", "of b")]);
    bench.spy.before("unlink", 0, "b", || panic!("the process dies here"));
    bench.dies_in_rename();
    let spy = Arc::new(Spy::alone());
    recover(&union_of(&bench.tiers, &spy)).unwrap();
    assert_eq!((bench.read(1, "b").as_deref(), bench.read(0, "b")), (Some("of a"), None));
    let log = spy.log();
    let gone = first(&log, of(0, "unlink", "b"));
    assert_eq!(count(&log[..gone], of(1, "file fsync", "b")), 1, "contents: {log:?}");
    assert!(count(&log[..gone], of(1, "fsync", "")) > 0, "names: {log:?}");
}
