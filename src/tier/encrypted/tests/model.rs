//! Random operations on an encrypted tier and on a plain one: whatever the one answers, so does the other.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::{Dice, Home, bytes, caller, name, plain_tier, variants};
use crate::tier::{Dir, File, Open, Rename, Tier};
use crate::types::attr::{Kind, SetAttr, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;

const NAMES: usize = 5;

fn a_name(dice: &mut Dice) -> Name {
    match dice.roll(NAMES as u64) {
        0 => name("a"),
        1 => name("b"),
        2 => name("l".repeat(190)),
        3 => name("m".repeat(255)),
        _ => name("ü c"),
    }
}

fn a_rename(dice: &mut Dice) -> Rename {
    match dice.roll(4) {
        0 => Rename::NoReplace,
        1 => Rename::Exchange,
        _ => Rename::Replace,
    }
}

/// The directory in which to work: the root or one below.
fn place(root: &Arc<dyn Dir>, below: Option<&Name>) -> Result<Arc<dyn Dir>> {
    below.map_or(Ok(Arc::clone(root)), |below| root.open_dir(below))
}

fn told(stat: Result<Option<Stat>>) -> String {
    let tell = |stat: Stat| match stat.kind() {
        Kind::Dir => format!("{:o}", stat.mode),
        _ => format!("{:o} {} {}", stat.mode, stat.size, stat.nlink),
    };
    format!("{:?}", stat.map(|stat| stat.map(tell)))
}

/// Errors of a kind that POSIX leaves open.
fn same<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(Errno::EEXIST) => format!("{:?}", Err::<T, _>(Errno::ENOTEMPTY)),
        other => format!("{other:?}"),
    }
}

/// One operation on names; what it answers, in words.
fn step(root: &Arc<dyn Dir>, seed: u64) -> String {
    let dice = &mut Dice(seed);
    let below = (dice.roll(2) == 0).then(|| a_name(dice));
    let other = (dice.roll(2) == 0).then(|| a_name(dice));
    let (one, two, what) = (a_name(dice), a_name(dice), dice.roll(14));
    let dir = match place(root, below.as_ref()) {
        Ok(dir) => dir,
        Err(errno) => return format!("no place: {errno:?}"),
    };
    let to = || place(root, other.as_ref());
    match what {
        0 | 1 => same(dir.create(&one, 0o640, Open::ReadWrite, &caller()).map(|file| {
            let data = bytes(usize::try_from(dice.roll(9000)).unwrap());
            file.write_at(&data, dice.roll(5000)).unwrap()
        })),
        2 | 3 => same(dir.mkdir(&one, 0o750, &caller())),
        4 => same(dir.unlink(&one)),
        5 => same(dir.rmdir(&one)),
        6..=8 => same(to().and_then(|to| dir.rename(&one, to.as_ref(), &two, a_rename(dice)))),
        9 => same(to().and_then(|to| dir.link(&one, to.as_ref(), &two))),
        10 => {
            let target = "t".repeat(usize::try_from(dice.roll(300)).unwrap() + 1);
            same(dir.symlink(&one, OsStr::from_bytes(target.as_bytes()), &caller()))
        }
        11 => same(dir.readlink(&one)),
        12 => same(dir.mknod(&one, Kind::Fifo.mode() | 0o600, 0, &caller())),
        _ => told(dir.stat(Some(&one))),
    }
}

/// Everything below `dir`, in words.
fn tree(dir: &dyn Dir, depth: usize, out: &mut String) {
    let mut names = Vec::new();
    dir.list(&mut |found| names.push((found.name.to_vec(), found.kind))).unwrap();
    names.sort_by(|one, two| one.0.cmp(&two.0));
    for (raw, kind) in names {
        let name = name(&raw);
        let stat = dir.stat(Some(&name)).unwrap().unwrap();
        assert!(kind.is_none_or(|kind| kind == stat.kind()));
        writeln!(out, "{depth} {name} {}", told(Ok(Some(stat)))).unwrap();
        match stat.kind() {
            Kind::Dir => tree(dir.open_dir(&name).unwrap().as_ref(), depth + 1, out),
            Kind::File => writeln!(out, "{:?}", super::contents(dir, &name).map(|data| data.len())).unwrap(),
            Kind::Symlink => writeln!(out, "{:?}", dir.readlink(&name).map(|target| target.len())).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn names_behave_as_on_a_plain_tier() {
    for (variant, features) in variants() {
        let (home, plain) = (Home::new(features), tempfile::tempdir().unwrap());
        let (ours, theirs) = (home.root(), plain_tier(plain.path()).root());
        for seed in 0..1500u64 {
            let (our, their) = (step(&ours, seed * 7919), step(&theirs, seed * 7919));
            assert_eq!(our, their, "{variant}, step {seed}");
            if seed % 150 == 149 {
                let (mut our, mut their) = (String::new(), String::new());
                tree(home.afresh().root().as_ref(), 0, &mut our);
                tree(theirs.as_ref(), 0, &mut their);
                assert_eq!(our, their, "{variant}, after step {seed}");
            }
        }
        // Nothing but entries and side files of these is left in the storage.
        let mut left = 0;
        count_side_files(home.dir.path(), &mut left);
        assert_eq!(left, 0, "{variant}: side files without an entry, or drafts");
    }
}

fn count_side_files(at: &std::path::Path, left: &mut usize) {
    for entry in std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap()) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            count_side_files(&path, left);
        }
        let stored = entry.file_name().to_string_lossy().into_owned();
        if let Some(long) = stored.strip_suffix(".name") {
            *left += usize::from(std::fs::symlink_metadata(path.with_file_name(long)).is_err());
        }
    }
}

/// One operation on contents; what it answers, in words.
fn change(file: &dyn File, seed: u64) -> String {
    let dice = &mut Dice(seed);
    let near = |dice: &mut Dice| match dice.roll(3) {
        0 => dice.roll(5) * 4096,
        1 => (dice.roll(5) * 4096 + 5).saturating_sub(dice.roll(10)),
        _ => dice.roll(20_000),
    };
    let (at, len) = (near(dice), near(dice));
    let size = usize::try_from(len).unwrap();
    match dice.roll(12) {
        0..=3 => format!("{:?}", file.write_at(&bytes(size + 13)[13..], at)),
        4 => format!("{:?}", file.append(&bytes(size))),
        5 | 6 => format!("{:?}", file.set_attr(&SetAttr { size: Some(at), ..SetAttr::default() })),
        // Into which room the kernel has not promised, in the storage nothing of the sort.
        7 => format!("{:?}", file.allocate(3, at, len.max(1))),
        8 => format!("{:?}", file.allocate(0, at, len.max(1))),
        9 => format!("{:?}", file.allocate(1, at, len.max(1))),
        _ => {
            let mut buffer = vec![1; size];
            let got = file.read_at(&mut buffer, at);
            format!("{got:?} {:?}", &buffer[..got.unwrap()])
        }
    }
}

#[test]
fn contents_behave_as_on_a_plain_tier() {
    for (variant, features) in variants() {
        let (home, plain) = (Home::new(features), tempfile::tempdir().unwrap());
        let (ours, theirs) = (home.root(), plain_tier(plain.path()).root());
        let one = name("file");
        let our = ours.create(&one, 0o600, Open::ReadWrite, &caller()).unwrap();
        let their = theirs.create(&one, 0o600, Open::ReadWrite, &caller()).unwrap();
        // A second handle, which knows nothing of what the first has seen.
        let second = ours.open(&one, Open::ReadWrite).unwrap();
        for seed in 0..1200u64 {
            let handle = if seed % 3 == 0 { &second } else { &our };
            let (got, wanted) = (change(handle.as_ref(), seed * 104_729), change(their.as_ref(), seed * 104_729));
            assert!(got == wanted, "{variant}, step {seed}: {:.60} instead of {:.60}", got, wanted);
            let stats = (our.stat().unwrap().size, their.stat().unwrap().size);
            assert_eq!(stats.0, stats.1, "{variant}, step {seed}");
            if seed % 10 == 0 {
                let all = super::contents(home.afresh().root().as_ref(), &one).unwrap();
                assert!(all == super::contents(theirs.as_ref(), &one).unwrap(), "{variant}, after step {seed}");
            }
        }
    }
}
