//! A union whose tiers go and come back while it is in use.

use super::*;
use crate::types::health::Condition;
use crate::union::{Found, Union};

fn lose(union: &Union, rank: u8) {
    drop(union.lose(Rank(rank), Condition::Failed, "pulled", false));
}

#[test]
fn a_directory_keeps_its_number_when_a_tier_is_back_that_holds_it_too() {
    let tree = tree(&["0/d/a", "1/d/b"]);
    lose(&tree.union, 1);
    let away = tree.find("d").ino;
    assert_eq!(tree.union.lookup(away, &name("b")), Err(Errno::EIO));
    tree.union.regain(Rank(1)).unwrap();
    assert_eq!(tree.find("d").ino, away);
    assert_eq!(tree.find("d/b").stat.size, 5);
    assert_eq!(tree.find("d/a").stat.size, 5);
    // And what is made beside the mount later is found, too.
    std::fs::remove_dir_all(tree.on(1).join("d")).unwrap();
    assert_eq!(tree.find("d").ino, away);
    assert_eq!(tree.union.dir(away).unwrap().ranks(), Ranks(0b01));
}

#[test]
fn what_is_known_of_a_tier_that_is_away_still_holds() {
    let tiers: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    tiers.iter().for_each(|tier| std::fs::create_dir(tier.path().join("d")).unwrap());
    let tree = over(tiers);
    let d = tree.find("d").ino;
    lose(&tree.union, 1);
    assert_eq!(tree.find("d").ino, d);
    assert_eq!(tree.union.inodes.dir(d).unwrap().1, Ranks(0b111));
    let opened = tree.union.opendir(d).unwrap();
    assert_eq!(tree.union.fsync_dir(d, opened), Err(Errno::EIO));
}

#[test]
fn a_clone_made_while_a_directory_is_looked_for_is_not_forgotten() {
    let tree = tree(&["1/d/s"]);
    let d = tree.find("d").ino;
    let before = tree.union.inodes.clones();
    tree.create(d, "new").unwrap();
    tree.union.inodes.settle(d, Ranks(0b10), before, &|| true);
    assert_eq!(tree.union.inodes.dir(d).unwrap().1, Ranks(0b11));
    assert!(matches!(tree.union.lookup(d, &name("new")), Ok(Found::Object(_))));
}

#[test]
fn room_is_told_without_a_tier_that_is_away() {
    let tree = tree(&["0/a", "1/b"]);
    lose(&tree.union, 1);
    assert!(tree.union.statfs().unwrap().blocks > 0);
}

/// Whoever reads a directory of which a part is away sees the rest, and then an error.
#[test]
fn a_file_is_looked_for_no_further_while_its_tier_is_away() {
    let tree = tree(&["1/a"]);
    let a = tree.find("a").ino;
    lose(&tree.union, 1);
    assert_eq!(tree.union.getattr(a).unwrap_err(), Errno::EIO);
    tree.union.regain(Rank(1)).unwrap();
    assert_eq!(tree.union.getattr(a).unwrap().ino, a);
}
