//! Whatever is changed in the ciphertext: an error for what it concerns, the rest as before, and never wrong
//! plaintext.

use std::ops::ControlFlow;
use std::path::Path;

use super::{Dice, Home, bytes, contents, listed, long, name, variants};
use crate::tier::{File, Open, Tier};
use crate::types::attr::SetAttr;
use crate::types::errno::Errno;

fn change(path: &Path, act: impl FnOnce(&mut Vec<u8>)) {
    let mut stored = std::fs::read(path).unwrap();
    act(&mut stored);
    std::fs::write(path, stored).unwrap();
}

/// Which blocks of a file can be read, each by itself.
fn readable(file: &dyn File, data: &[u8]) -> Vec<bool> {
    let blocks = data.chunks(4096).zip(0u64..);
    blocks
        .map(|(block, number)| {
            let mut buffer = vec![0; 4096];
            match file.read_at(&mut buffer, number * 4096) {
                Ok(len) => {
                    assert!(buffer[..len] == *block, "wrong plaintext in block {number}");
                    true
                }
                Err(errno) => {
                    assert_eq!(errno, Errno::EIO);
                    false
                }
            }
        })
        .collect()
}

#[test]
fn a_flipped_bit_is_eio_for_its_block_alone() {
    for (variant, features) in variants() {
        let home = Home::new(features);
        let (one, data) = (name("file"), bytes(5 * 4096 + 10));
        home.make(&one, &data);
        let whole = std::fs::read(home.stored(&one)).unwrap();
        let mut dice = Dice(1);
        for _ in 0..150 {
            let at = usize::try_from(dice.roll(whole.len() as u64)).unwrap();
            change(&home.stored(&one), |stored| {
                stored.clone_from(&whole);
                stored[at] ^= 1 << dice.roll(8);
            });
            let file = home.afresh().root().open(&one, Open::Read).unwrap();
            let overhead = home.volume.content().layout().overhead;
            let hit = at.checked_sub(18).map(|at| at / (4096 + overhead));
            let wanted: Vec<bool> = (0..6).map(|block| hit.is_some_and(|hit| hit != block)).collect();
            assert_eq!(readable(file.as_ref(), &data), wanted, "{variant}, byte {at}");
            let mut buffer = vec![0; 30_000];
            assert_eq!(file.read_at(&mut buffer, 0), Err(Errno::EIO), "a read that meets damage tells no end");
        }
    }
}

#[test]
fn swapped_blocks_cut_files_and_foreign_headers_are_eio() {
    let home = Home::gcm();
    let (one, data) = (name("file"), bytes(3 * 4096));
    home.make(&one, &data);
    home.make(&name("other"), &data);
    let (path, other) = (home.stored(&one), std::fs::read(home.stored(&name("other"))).unwrap());
    let whole = std::fs::read(&path).unwrap();
    let look = |act: &dyn Fn(&mut Vec<u8>)| {
        change(&path, |stored| {
            stored.clone_from(&whole);
            act(stored);
        });
        readable(home.afresh().root().open(&one, Open::Read).unwrap().as_ref(), &data)
    };
    let block = |number: usize| 18 + number * 4128..18 + (number + 1) * 4128;
    assert_eq!(look(&|stored| stored.copy_within(block(0), block(1).start)), [true, false, true], "a copied block");
    assert_eq!(
        look(&|stored| stored[block(2)].copy_from_slice(&other[block(2)])),
        [true, true, false],
        "another's block"
    );
    assert_eq!(look(&|stored| stored[..18].copy_from_slice(&other[..18])), [false; 3], "another's header");
    assert_eq!(look(&|stored| stored.truncate(18 + 2 * 4128 + 2000)), [true, true, false], "cut in a block");
    assert_eq!(look(&|stored| stored.truncate(18 + 2 * 4128 + 20)), [true, true, false], "cut in a nonce");
    assert_eq!(look(&|stored| stored[block(1)][..16].fill(0)), [true, false, true], "a nonce of zeros");
    assert_eq!(home.root().stat(Some(&one)).unwrap().unwrap().size, 3 * 4096);
    change(&path, |stored| stored.truncate(18 + 2 * 4128 + 20));
    assert_eq!(home.root().stat(Some(&one)).unwrap().unwrap().size, 2 * 4096 + 1, "a torn end counts as a byte");
}

#[test]
fn a_header_alone_is_an_empty_file() {
    let home = Home::gcm();
    let one = name("file");
    let file = home.make(&one, b"x");
    change(&home.stored(&one), |stored| stored.truncate(18));
    assert_eq!(contents(home.root().as_ref(), &one), Ok(Vec::new()));
    assert_eq!(file.stat().unwrap().size, 0);
    file.write_at(b"anew", 4094).unwrap();
    assert!(contents(home.afresh().root().as_ref(), &one).unwrap().ends_with(b"\0\0anew"));
}

#[test]
fn a_torn_header_is_eio_until_the_file_is_emptied() {
    let home = Home::gcm();
    let one = name("file");
    let file = home.make(&one, b"x");
    for len in [1, 17] {
        change(&home.stored(&one), |stored| stored.truncate(len));
        assert_eq!(contents(home.root().as_ref(), &one), Err(Errno::EIO));
        assert_eq!(file.stat().unwrap().size, 1);
        assert_eq!(file.write_at(b"anew", 4094), Err(Errno::EIO));
        file.set_attr(&SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
        file.write_at(b"anew", 0).unwrap();
        assert_eq!(contents(home.afresh().root().as_ref(), &one).unwrap(), b"anew");
    }
}

#[test]
fn a_damaged_block_is_healed_by_writing_it_anew_as_a_whole() {
    let home = Home::gcm();
    let (one, mut data) = (name("file"), bytes(3 * 4096));
    let file = home.make(&one, &data);
    change(&home.stored(&one), |stored| stored[18 + 4128 + 100] ^= 1);
    assert_eq!(file.write_at(b"part", 5000), Err(Errno::EIO));
    assert_eq!(file.set_attr(&SetAttr { size: Some(5000), ..SetAttr::default() }), Err(Errno::EIO));
    assert_eq!(readable(file.as_ref(), &data), [true, false, true], "nothing was changed");
    data[4096..8192].fill(7);
    file.write_at(&[7; 4096], 4096).unwrap();
    assert_eq!(readable(file.as_ref(), &data), [true; 3]);
}

#[test]
fn another_who_writes_the_file_anew_is_not_confused_with_its_old_self() {
    let home = Home::gcm();
    let one = name("file");
    let file = home.make(&one, &bytes(9000));
    // As if through another program that has the key: another header under the same body.
    home.make(&name("other"), &bytes(20_000)[10_000..]);
    let anew = std::fs::read(home.stored(&name("other"))).unwrap();
    change(&home.stored(&one), |stored| stored.clone_from(&anew));
    assert!(readable(file.as_ref(), &bytes(20_000)[10_000..]).iter().all(|block| *block));
    change(&home.stored(&one), |stored| stored.clone_from(&anew));
    file.write_at(b"x", 5000).unwrap();
    let mut wanted = bytes(20_000)[10_000..].to_vec();
    wanted[5000] = b'x';
    assert!(contents(home.afresh().root().as_ref(), &one).unwrap() == wanted);
}

#[test]
fn a_damaged_name_hides_no_other() {
    for (variant, features) in variants().into_iter().filter(|(variant, _)| *variant != "plain names") {
        let home = Home::new(features);
        for letter in ['a', 'b', 'c'] {
            home.make(&name(letter.to_string()), b"");
            home.make(&long(letter), b"");
        }
        let stored = home.stored(&name("a"));
        std::fs::rename(&stored, stored.with_file_name("no_name")).unwrap();
        std::fs::write(stored.with_file_name("lost+found"), "").unwrap();
        let side = |letter| home.stored(&long(letter)).to_string_lossy().into_owned() + ".name";
        std::fs::remove_file(side('a')).unwrap();
        std::fs::copy(side('c'), stored.with_file_name("copy")).unwrap();
        std::fs::remove_file(side('b')).unwrap();
        std::fs::rename(stored.with_file_name("copy"), side('b')).unwrap();
        let root = home.afresh().root();
        assert_eq!(listed(root.as_ref()), ["b".into(), "c".into(), "c".repeat(200)], "{variant}");
        let (mut good, mut bad) = (0, 0);
        let mut look = |found: crate::tier::Surveyed<'_>| {
            match found.what {
                Ok(_) => good += 1,
                Err(errno) => {
                    assert_eq!(errno, Errno::EIO);
                    bad += 1;
                }
            }
            ControlFlow::Continue(())
        };
        root.survey(&mut look).unwrap();
        assert_eq!((good, bad), (3, 4), "{variant}: no_name, lost+found and two long ones");
        // Who knows a long name finds it all the same, and can take it away.
        root.unlink(&long('a')).unwrap();
        assert_eq!(root.stat(Some(&long('b'))).unwrap().unwrap().size, 0, "{variant}");
    }
}

#[test]
fn damaged_targets_are_eio() {
    let home = Home::gcm();
    home.root().symlink(&name("link"), std::ffi::OsStr::new("target"), &super::caller()).unwrap();
    let path = home.stored(&name("link"));
    let text = std::fs::read_link(&path).unwrap().to_string_lossy().into_owned();
    for forged in [
        text.replace(&text[5..6], if &text[5..6] == "A" { "B" } else { "A" }),
        "x".into(),
        text[1..].into(),
        "/etc/passwd".into(),
    ] {
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&forged, &path).unwrap();
        assert_eq!(home.root().readlink(&name("link")), Err(Errno::EIO), "{forged}");
        assert!(home.root().stat(Some(&name("link"))).unwrap().is_some());
    }
    home.root().unlink(&name("link")).unwrap();
}

/// Spoils something of what is at or below `at`.
fn spoil(at: &Path, dice: &mut Dice) {
    let mut entries: Vec<_> = std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let path = &entries[usize::try_from(dice.roll(entries.len() as u64)).unwrap()];
    let kind = std::fs::symlink_metadata(path).unwrap().file_type();
    if kind.is_dir() {
        return spoil(path, dice);
    }
    if kind.is_symlink() {
        let text = format!("{:x}", dice.roll(u64::MAX)).repeat(usize::try_from(dice.roll(9)).unwrap() + 1);
        std::fs::remove_file(path).unwrap();
        return std::os::unix::fs::symlink(text, path).unwrap();
    }
    let other = entries[usize::try_from(dice.roll(entries.len() as u64)).unwrap()].clone();
    let mut stored = std::fs::read(path).unwrap();
    let at = usize::try_from(dice.roll(stored.len() as u64 + 1)).unwrap();
    match dice.roll(6) {
        0 => stored.truncate(at),
        1 => stored.insert(at, 7),
        2 => stored.extend(bytes(at)),
        3 => stored.iter_mut().skip(at).take(5).for_each(|byte| *byte = byte.wrapping_add(1)),
        4 if std::fs::metadata(&other).is_ok_and(|other| other.is_file()) => stored = std::fs::read(other).unwrap(),
        _ => return std::fs::rename(path, path.with_file_name(format!("{:x}", dice.roll(1 << 60)))).unwrap(),
    }
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, stored).unwrap();
}

/// Looks at everything in a directory; whatever can be read must be `data`.
fn look_at_all(dir: &dyn crate::tier::Dir, data: &[u8]) {
    let mut names = Vec::new();
    let _listed = dir.list(&mut |found| names.push(found.name.to_vec()));
    let _surveyed = dir.survey(&mut |_| ControlFlow::Continue(()));
    for one in names.iter().map(name) {
        let _target = dir.readlink(&one);
        if let Ok(below) = dir.open_dir(&one) {
            look_at_all(below.as_ref(), data);
        }
        let Ok(Some(stat)) = dir.stat(Some(&one)) else { continue };
        let Ok(file) = dir.open(&one, Open::Read) else { continue };
        if stat.kind() == crate::types::attr::Kind::File {
            for number in 0..stat.size.div_ceil(4096) {
                let mut buffer = [0; 4096];
                if let Ok(len) = file.read_at(&mut buffer, number * 4096) {
                    let at = usize::try_from(number).unwrap() * 4096;
                    assert!(data.get(at..).is_some_and(|data| data.starts_with(&buffer[..len])), "wrong plaintext");
                }
            }
            let _keys = file.list_xattr();
        }
    }
}

#[test]
fn whatever_is_spoiled_there_is_no_wrong_plaintext() {
    for (_, features) in variants() {
        for seed in 0..25 {
            let home = Home::new(features);
            let data = bytes(9000);
            let root = home.root();
            root.mkdir(&name("dir"), 0o755, &super::caller()).unwrap();
            for dir in [&root, &root.open_dir(&name("dir")).unwrap()] {
                for one in [name("a"), long('b')] {
                    let file = dir.create(&one, 0o644, Open::ReadWrite, &super::caller()).unwrap();
                    file.write_at(&data, 0).unwrap();
                }
                dir.symlink(&name("c"), std::ffi::OsStr::new("target"), &super::caller()).unwrap();
            }
            let mut dice = Dice(seed);
            for _ in 0..8 {
                spoil(home.dir.path(), &mut dice);
                look_at_all(home.afresh().root().as_ref(), &data);
                look_at_all(root.as_ref(), &data);
            }
        }
    }
}
