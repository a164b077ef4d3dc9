//! Renames over several tiers, planned and made.

use super::*;
use crate::types::attr::{Kind, Time};

fn stat(kind: Kind, body: u64) -> Stat {
    let zero = Time::default();
    Stat {
        body: Body(body),
        generation: 0,
        mode: kind.mode(),
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        blksize: 0,
        atime: zero,
        mtime: zero,
        ctime: zero,
    }
}

fn file(rank: u8, shadowed: &[u8]) -> Copies {
    of_bodies(0, rank, shadowed)
}

/// Another file than [`file`] on each tier.
fn other(rank: u8, shadowed: &[u8]) -> Copies {
    of_bodies(100, rank, shadowed)
}

fn of_bodies(first: u64, rank: u8, shadowed: &[u8]) -> Copies {
    let body = |rank: u8| stat(Kind::File, first + u64::from(rank));
    Copies {
        visible: Resolution::File(Rank(rank), body(rank)),
        shadowed: shadowed.iter().map(|r| (Rank(*r), body(*r))).collect(),
    }
}

fn dir(ranks: &[u8]) -> Copies {
    let dirs = ranks.iter().map(|r| (Rank(*r), stat(Kind::Dir, u64::from(*r)))).collect();
    Copies { visible: Resolution::Dir(dirs), shadowed: Vec::new() }
}

fn absent() -> Copies {
    Copies { visible: Resolution::Absent, shadowed: Vec::new() }
}

fn acts(plan: &Plan) -> Vec<(u8, Act)> {
    plan.steps.iter().map(|s| (s.rank.0, s.act)).collect()
}

#[test]
fn an_old_version_never_comes_back() {
    let planned = plan(&file(1, &[2, 3]), &other(0, &[1, 2]), Rename::Replace).unwrap();
    let expected = [
        (3, Act::Unlink(Side::Old)),
        (2, Act::Unlink(Side::Old)),
        (2, Act::Unlink(Side::New)),
        (1, Act::Forth),
        (0, Act::Unlink(Side::New)),
    ];
    assert_eq!(acts(&planned), expected);
    assert!(planned.journal);
    // The visible target goes only when the new version is there to take its place.
    let planned = plan(&file(0, &[]), &file(1, &[2]), Rename::Replace).unwrap();
    assert_eq!(acts(&planned), [(2, Act::Unlink(Side::New)), (0, Act::Forth), (1, Act::Unlink(Side::New))]);
}

#[test]
fn one_tier_needs_no_journal() {
    for (old, new) in
        [(file(0, &[]), absent()), (file(0, &[]), file(0, &[])), (dir(&[1]), dir(&[1])), (dir(&[0]), absent())]
    {
        let planned = plan(&old, &new, Rename::Replace).unwrap();
        assert_eq!(planned.steps.len(), 1);
        assert!(!planned.journal);
    }
}

#[test]
fn a_merged_directory_moves_on_every_tier() {
    let planned = plan(&dir(&[0, 1]), &dir(&[1, 2]), Rename::Replace).unwrap();
    assert_eq!(acts(&planned), [(0, Act::Forth), (1, Act::Forth), (2, Act::Rmdir(Side::New))]);
    assert!(planned.journal);
}

#[test]
fn exchange_crosses_tiers() {
    let planned = plan(&file(0, &[1]), &file(1, &[]), Rename::Exchange).unwrap();
    assert_eq!(acts(&planned), [(1, Act::Unlink(Side::Old)), (0, Act::Forth), (1, Act::Back)]);
    assert!(planned.journal);
    let planned = plan(&dir(&[0, 1]), &file(1, &[]), Rename::Exchange).unwrap();
    assert_eq!(acts(&planned), [(0, Act::Forth), (1, Act::Exchange)]);
}

#[test]
fn types_decide_the_error() {
    let table = [
        (absent(), file(0, &[]), Rename::Replace, Errno::ENOENT),
        (file(0, &[]), dir(&[1]), Rename::Replace, Errno::EISDIR),
        (dir(&[1]), file(0, &[]), Rename::Replace, Errno::ENOTDIR),
        (file(0, &[]), file(1, &[]), Rename::NoReplace, Errno::EEXIST),
        (file(0, &[]), absent(), Rename::Exchange, Errno::ENOENT),
    ];
    for (old, new, how, errno) in table {
        assert_eq!(plan(&old, &new, how), Err(errno));
    }
}
