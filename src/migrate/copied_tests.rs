//! Records that came back with a backup of the primary: they are about files of another day.

use std::fs;

use super::race_tests::{Bench, down, go};
use super::*;

/// Moves `f` down until its source is to go, in which moment the process dies.
fn dies(bench: &Bench) {
    bench.spy.before("rename from", 0, "f", || panic!("planted by the test"));
    assert_eq!(go(bench.union, &down()).stopped, Some(Stop::Errors));
}

/// Puts a copy in place of the record in a directory, as a restored backup has it; its name. None where the
/// filesystem does not tell a copy.
fn copied(records: &std::path::Path) -> Option<String> {
    let paths = fs::read_dir(records).unwrap().map(|entry| entry.unwrap().path());
    let mut records = paths.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with("times-"));
    let record = records.next().expect("the case that is tested");
    assert_eq!(records.next(), None, "one record");
    let name = record.file_name().unwrap().to_str().unwrap().to_owned();
    if !name.contains(".b") {
        eprintln!("skipped: the temporary directory tells no birth times");
        return None;
    }
    let born = |path: &std::path::Path| path.metadata().unwrap().created().unwrap();
    let copy = record.with_extension("copy");
    // The clock of a filesystem goes in ticks.
    while !copy.exists() || born(&copy) == born(&record) {
        let _first = fs::remove_file(&copy);
        fs::copy(&record, &copy).unwrap();
    }
    fs::rename(copy, record).unwrap();
    Some(name)
}

/// A file whose only copy is on the slower tier left the tree for `.tierfs/lost`, and what lay in the trash was deleted.
#[test]
fn a_record_that_came_back_with_a_backup_is_not_believed() {
    let bench = Bench::new(&[(0, "f", "text")]);
    dies(&bench);
    let records = bench.on(0, ".tierfs/moves");
    let Some(copy) = copied(&records) else { return };
    fs::remove_file(bench.on(0, "f")).unwrap();
    let trash = bench.on(0, ".tierfs/trash/1");
    fs::write(&trash, "restored").unwrap();
    for _ in 0..2 {
        let union = bench.next_start();
        assert_eq!(bench.read(1, "f").as_deref(), Some("text"), "it is not in lost");
        assert_eq!(cut_short(&union), Ok(Cut::Nothing), "a tier that went can come back");
        assert_eq!(clear_leftovers(&union), Err((Rank::PRIMARY, Errno::EBUSY)));
        assert!(trash.exists() && records.join(format!("copied-{copy}")).exists());
    }
    fs::remove_file(records.join(format!("copied-{copy}"))).unwrap();
    bench.next_start();
    assert!(!trash.exists(), "the copy has gone, so all is as ever");
}

/// Its mark is one that the next start knows, also when the batch has moved.
#[test]
fn an_original_record_is_believed() {
    let bench = Bench::new(&[(0, "f", "text")]);
    dies(&bench);
    fs::remove_file(bench.on(1, "f")).unwrap();
    bench.next_start();
    assert_eq!(fs::read_dir(bench.on(0, ".tierfs/moves")).unwrap().count(), 0);
    assert_eq!(bench.read(0, "f").as_deref(), Some("text"));
}

/// It was rolled forward on the tier that was not restored, whose files are still those it names: a name that
/// came since was replaced.
#[test]
fn a_record_of_a_rename_that_came_back_with_a_backup_is_not_believed() {
    let bench = Bench::new(&[(1, "a", "of a"), (0, "b", "of b")]);
    bench.spy.before("rename from", 1, "a", || panic!("planted by the test"));
    bench.dies_in_rename();
    let dir = bench.on(0, ".tierfs/renames");
    let Some(copy) = copied(&dir) else { return };
    for _ in 0..2 {
        let union = bench.next_start();
        assert_eq!(union.has_cut_renames(), Ok(false), "nothing can be finished");
        assert_eq!((bench.read(0, "b").as_deref(), bench.read(1, "a").as_deref()), (Some("of b"), Some("of a")));
        assert!(dir.join(format!("copied-{copy}")).exists());
    }
}
