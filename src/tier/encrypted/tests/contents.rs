//! Contents: sizes, holes, appending, many at once.

use std::sync::Arc;

use super::{Home, bytes, caller, contents, listed, long, name, variants};
use crate::tier::{File, Open, Tier};
use crate::types::attr::SetAttr;
use crate::types::errno::Errno;

const SIZES: [usize; 9] = [0, 1, 4095, 4096, 4097, 8192, 8193, 300_000, 2_000_001];

#[test]
fn what_is_written_is_read_back_by_anybody_with_the_key() {
    for (variant, features) in variants() {
        let home = Home::new(features);
        for size in SIZES {
            let (file, data) = (name(format!("f{size}")), bytes(size));
            home.make(&file, &data);
            let root = home.afresh().root();
            assert!(contents(root.as_ref(), &file).unwrap() == data, "{variant}, {size} bytes");
            assert_eq!(root.stat(Some(&file)).unwrap().unwrap().size, size as u64, "{variant}");
            let stored = std::fs::read(home.stored(&file)).unwrap();
            assert!(
                size < 100 || !stored.windows(32).any(|part| part == &data[..32]),
                "{variant}: plaintext is stored"
            );
        }
    }
}

#[test]
fn every_piece_of_a_file_reads_the_same() {
    let home = Home::gcm();
    let data = bytes(700_000);
    let file = home.make(&name("file"), &data);
    for offset in [0, 1, 17, 4095, 4096, 4097, 262_143, 262_144, 262_145, 524_288, 699_999, 700_000, 800_000] {
        for len in [1, 4096, 4097, 262_144, 262_145, 600_000] {
            let mut buffer = vec![0; len];
            let got = file.read_at(&mut buffer, offset as u64).unwrap();
            let wanted = data.get(offset..).unwrap_or_default();
            assert!(buffer[..got] == wanted[..wanted.len().min(len)], "{len} bytes at {offset}");
        }
    }
}

#[test]
fn a_hole_takes_no_room_and_reads_as_zeros() {
    let home = Home::gcm();
    let file = home.make(&name("file"), b"begin");
    file.write_at(b"end", 10_000_000).unwrap();
    assert!(file.stat().unwrap().blocks < 200);
    let mut buffer = vec![1; 5000];
    file.read_at(&mut buffer, 0).unwrap();
    assert!(buffer.starts_with(b"begin\0") && buffer[5..].iter().all(|byte| *byte == 0));
    file.read_at(&mut buffer, 9_996_000).unwrap();
    assert!(buffer[..4000].iter().all(|byte| *byte == 0) && buffer[4000..].starts_with(b"end"));
    let (data, hole) = (3, 4);
    let first_hole = file.seek(0, hole).unwrap();
    assert!((4096..=8192).contains(&first_hole), "{first_hole}");
    let next = file.seek(first_hole, data).unwrap();
    assert!(next > 9_900_000 && next <= 10_000_000, "{next}");
    assert_eq!(file.seek(next, hole), Ok(10_000_003));
    assert_eq!(file.seek(10_000_003, data), Err(Errno::ENXIO));
}

#[test]
fn punching_keeps_what_is_beside_the_hole() {
    let home = Home::gcm();
    let mut data = bytes(100_000);
    let file = home.make(&name("file"), &data);
    for (offset, length) in [(5000, 50_000), (4096, 4096), (99_000, 9000), (10, 20), (8190, 5)] {
        file.allocate(3, offset, length).unwrap();
        let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(offset + length).unwrap().min(100_000));
        data[from..to].fill(0);
        assert!(contents(home.afresh().root().as_ref(), &name("file")).unwrap() == data, "{length} at {offset}");
    }
    assert_eq!(file.allocate(8, 0, 4096), Err(Errno::EOPNOTSUPP), "collapsing");
    assert_eq!(file.allocate(1, 0, 0), Err(Errno::EINVAL));
}

#[test]
fn a_new_file_after_truncation_has_a_new_id() {
    let home = Home::gcm();
    let (one, id) = (name("file"), |home: &Home| std::fs::read(home.stored(&name("file"))).unwrap()[2..18].to_vec());
    let file = home.make(&one, b"first");
    let reader = home.root().open(&one, Open::Read).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(reader.read_at(&mut buffer, 0), Ok(5));
    let before = id(&home);
    file.set_attr(&SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
    assert_eq!(std::fs::read(home.stored(&one)).unwrap().len(), 0);
    assert_eq!(reader.read_at(&mut buffer, 0), Ok(0));
    file.append(b"second").unwrap();
    assert!(id(&home) != before);
    assert_eq!(reader.read_at(&mut buffer, 0), Ok(6));
}

#[test]
fn nobody_sees_half_a_write_and_no_append_is_lost() {
    let home = Home::gcm();
    let one = name("file");
    home.make(&one, &[0; 10_000]);
    let root = home.root();
    std::thread::scope(|scope| {
        for letter in 1..=4u8 {
            let root = Arc::clone(&root);
            let one = &one;
            scope.spawn(move || {
                let file = root.open(one, Open::ReadWrite).unwrap();
                for _ in 0..200 {
                    file.write_at(&[letter; 10_000], 0).unwrap();
                    file.append(&[letter; 100]).unwrap();
                    let mut buffer = vec![0; 10_000];
                    assert_eq!(file.read_at(&mut buffer, 0), Ok(10_000));
                    assert!(buffer.iter().all(|byte| *byte == buffer[0]), "a mixture of two writes");
                }
            });
        }
    });
    let all = contents(home.afresh().root().as_ref(), &one).unwrap();
    assert_eq!(all.len(), 10_000 + 4 * 200 * 100);
    assert!(all[10_000..].chunks(100).all(|record| record.iter().all(|byte| *byte == record[0])));
    assert!(home.tier.root.shared.bodies.0.iter().all(|shard| shard.lock().is_empty()), "bodies are let go of");
}

#[test]
fn a_file_that_is_only_written_to_can_be_written_within_a_block() {
    let home = Home::gcm();
    let one = name("file");
    home.make(&one, &bytes(5000));
    let file = home.root().open(&one, Open::Write).unwrap();
    file.write_at(b"xyz", 4095).unwrap();
    let mut wanted = bytes(5000);
    wanted[4095..4098].copy_from_slice(b"xyz");
    assert!(contents(home.root().as_ref(), &one).unwrap() == wanted);
    let held = home.root().open(&one, Open::Hold).unwrap();
    let again: Box<dyn File> = held.reopen(Open::Write).unwrap();
    again.append(b"!").unwrap();
    assert_eq!(held.stat().unwrap().size, 5001);
    assert_eq!(file.write_at(b"x", u64::MAX - 3), Err(Errno::EFBIG));
    // Also by an owner who may not read it.
    drop(home.root().create(&name("other"), 0o200, Open::Write, &caller()).unwrap());
    let held = home.root().open(&name("other"), Open::Hold).unwrap();
    for file in [held.reopen(Open::Write), home.root().open(&name("other"), Open::Write)] {
        assert_eq!(file.unwrap().write_at(b"x", 3), Ok(1));
        assert_eq!(held.stat().unwrap().mode & 0o7777, 0o200);
    }
}

#[test]
fn listing_shows_what_was_made() {
    for (variant, features) in variants() {
        let home = Home::new(features);
        home.make(&long('x'), b"1");
        home.make(&name("short"), b"2");
        let sizes = home.root().stat(Some(&long('x'))).unwrap().unwrap().size;
        assert_eq!(
            (listed(home.afresh().root().as_ref()), sizes),
            (vec!["short".into(), "x".repeat(200)], 1),
            "{variant}"
        );
    }
}
