//! Damaged contents: EIO for exactly what is damaged, and never bytes that nobody has written.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::cipher::{BLOCK, HEADER, blocks, expected, flip, real, tierfs, told, union};
use crate::common::fs::put;
use crate::common::mount::{Setup, TestMount};
use crate::common::trees;
use crate::common::volume::Flavour;

/// Three blocks and a short one.
const SIZE: usize = 3 * 4096 + 100;

/// Files that are planted through the mount, damaged without it, and looked at through it again.
struct Damaged {
    setup: Setup,
    real: BTreeMap<String, PathBuf>,
}

impl Damaged {
    /// Every file has the contents of its own number.
    fn plant(flavour: Flavour, files: &[String], size: usize) -> Option<Damaged> {
        let mount = union(flavour).mount()?;
        for (at, name) in files.iter().enumerate() {
            put(mount.path(name), trees::bytes(at, size));
        }
        let real = files.iter().map(|name| (name.clone(), real(&mount, 0, name))).collect();
        Some(Damaged { setup: mount.unmount(), real })
    }

    fn open(&self, name: &str) -> std::fs::File {
        let path = &self.real[name];
        std::fs::File::options().read(true).write(true).open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    }

    fn mount(self) -> Option<(TestMount, BTreeMap<String, PathBuf>)> {
        Some((self.setup.mount()?, self.real))
    }
}

/// The blocks that must be errors, all others as they were written.
#[track_caller]
fn damaged_only(mount: &TestMount, name: &str, at: usize, size: usize, bad: &[usize]) {
    let mut wanted = expected(at, size);
    bad.iter().for_each(|block| wanted[*block] = None);
    let found = blocks(&mount.path(name));
    let shape = |blocks: &[Option<Vec<u8>>]| blocks.iter().map(Option::is_some).collect::<Vec<_>>();
    assert!(found == wanted, "{name}: readable are {:?}, must be {:?}", shape(&found), shape(&wanted));
}

/// The log and `check --read-data` both name what is damaged.
#[track_caller]
fn told_of(mount: TestMount, damaged: &[(&str, &Path)]) {
    for (name, real) in damaged {
        let base = real.file_name().and_then(|name| name.to_str()).expect("text");
        crate::common::wait::until(&format!("{name} ({base}) is in the log"), || {
            let log = mount.log();
            (log.contains(base) || log.contains(name)).then_some(())
        });
    }
    let setup = mount.unmount();
    let union = setup.union();
    let output = tierfs(&setup, &["check", "--read-data", union.to_str().expect("text")]);
    let words = told(&output);
    assert!(!output.status.success(), "check finds nothing: {words}");
    for (name, _) in damaged {
        assert!(words.contains(name), "check does not name {name}:\n{words}");
    }
}

/// Where a bit is flipped, in bytes of ciphertext, and the blocks that it spoils.
fn spots(overhead: u64) -> Vec<(&'static str, u64, Vec<usize>)> {
    let block = 4096 + overhead;
    let nonce = overhead - 16;
    vec![
        ("version", 1, vec![0, 1, 2, 3]),
        ("id-first", 2, vec![0, 1, 2, 3]),
        ("id-last", 17, vec![0, 1, 2, 3]),
        ("nonce-0", HEADER, vec![0]),
        ("nonce-1", HEADER + block + nonce - 1, vec![1]),
        ("first-byte-1", HEADER + block + nonce, vec![1]),
        ("middle-2", HEADER + 2 * block + 2000, vec![2]),
        ("last-byte-2", HEADER + 3 * block - 17, vec![2]),
        ("tag-2", HEADER + 3 * block - 1, vec![2]),
        ("nonce-3", HEADER + 3 * block, vec![3]),
        ("tag-3", HEADER + 3 * block + overhead + 99, vec![3]),
    ]
}

#[test]
fn a_flipped_bit_spoils_only_its_block() {
    for (flag, overhead) in [(&[][..], 32), (&["-xchacha"][..], 40), (&["-aessiv"][..], 32)] {
        let spots = spots(overhead);
        let mut files: Vec<String> = spots.iter().map(|(name, ..)| format!("dir/{name}")).collect();
        files.push("dir/whole".to_owned());
        let Some(damaged) = Damaged::plant(Flavour { name: "one", flags: flag }, &files, SIZE) else { return };
        spots.iter().for_each(|(name, at, _)| flip(&damaged.real[&format!("dir/{name}")], *at));
        let Some((mount, real)) = damaged.mount() else { return };
        assert_eq!(crate::common::fs::names(mount.path("dir")).len(), files.len());
        for (at, (name, _, bad)) in spots.iter().enumerate() {
            damaged_only(&mount, &format!("dir/{name}"), at, SIZE, bad);
        }
        damaged_only(&mount, "dir/whole", spots.len(), SIZE, &[]);
        let named: Vec<(&str, &Path)> =
            spots.iter().map(|(name, ..)| (*name, real[&format!("dir/{name}")].as_path())).collect();
        told_of(mount, &named);
    }
}

fn swap(a: &std::fs::File, at: u64, b: &std::fs::File, to: u64) {
    let (mut first, mut second) = (vec![0; BLOCK as usize], vec![0; BLOCK as usize]);
    a.read_exact_at(&mut first, at).expect("read");
    b.read_exact_at(&mut second, to).expect("read");
    a.write_all_at(&second, at).expect("write");
    b.write_all_at(&first, to).expect("write");
}

#[test]
fn swapped_blocks_are_errors_and_the_rest_is_readable() {
    let files = ["within", "one", "two", "whole"].map(str::to_owned);
    let Some(damaged) = Damaged::plant(Flavour::DEFAULT, &files, SIZE) else { return };
    let within = damaged.open("within");
    swap(&within, HEADER, &within, HEADER + 2 * BLOCK);
    // The same place in another file: only the file's id tells.
    swap(&damaged.open("one"), HEADER + BLOCK, &damaged.open("two"), HEADER + BLOCK);
    let Some((mount, real)) = damaged.mount() else { return };
    damaged_only(&mount, "within", 0, SIZE, &[0, 2]);
    damaged_only(&mount, "one", 1, SIZE, &[1]);
    damaged_only(&mount, "two", 2, SIZE, &[1]);
    damaged_only(&mount, "whole", 3, SIZE, &[]);
    told_of(mount, &[("within", &real["within"]), ("one", &real["one"]), ("two", &real["two"])]);
}

#[test]
fn foreign_headers_are_errors() {
    let files = ["another", "zero", "old", "donor"].map(str::to_owned);
    let Some(damaged) = Damaged::plant(Flavour::DEFAULT, &files, SIZE) else { return };
    let mut header = [0; HEADER as usize];
    damaged.open("donor").read_exact_at(&mut header, 0).expect("read");
    damaged.open("another").write_all_at(&header, 0).expect("write");
    damaged.open("zero").write_all_at(&[0; HEADER as usize], 0).expect("write");
    damaged.open("old").write_all_at(&[0, 1], 0).expect("write");
    let Some((mount, real)) = damaged.mount() else { return };
    for (at, name) in files.iter().enumerate().take(3) {
        damaged_only(&mount, name, at, SIZE, &[0, 1, 2, 3]);
    }
    damaged_only(&mount, "donor", 3, SIZE, &[]);
    told_of(mount, &[("another", &real["another"]), ("zero", &real["zero"]), ("old", &real["old"])]);
}

/// A cut at the end of a block is a shorter file, which the format cannot tell from one; any other cut
/// is one damaged block at the end.
#[test]
fn a_file_cut_anywhere_keeps_what_is_before_the_cut() {
    let size = 2 * 4096 + 100;
    let whole = HEADER + 2 * BLOCK + 132;
    let mut cuts =
        vec![0, 1, 17, 18, 19, 18 + 31, 18 + 32, 18 + 33, 18 + 1000, whole - 1, whole - 99, whole - 100, whole - 131];
    for block in 1..3 {
        let end = HEADER + block * BLOCK;
        cuts.extend([end - 1, end, end + 1, end + 16, end + 32, end + 33]);
    }
    cuts.sort_unstable();
    cuts.dedup();
    let files: Vec<String> = cuts.iter().map(|cut| format!("cut-{cut}")).collect();
    let Some(damaged) = Damaged::plant(Flavour::DEFAULT, &files, size) else { return };
    for (name, cut) in files.iter().zip(&cuts) {
        damaged.open(name).set_len(*cut).expect("cut");
    }
    let Some((mount, _)) = damaged.mount() else { return };
    let mut torn = 0;
    for (at, (name, cut)) in files.iter().zip(&cuts).enumerate() {
        let sure = cut.saturating_sub(HEADER) / BLOCK;
        let in_header = (1..HEADER).contains(cut);
        let is_torn = in_header || (*cut > HEADER && !(cut - HEADER).is_multiple_of(BLOCK));
        let found = blocks(&mount.path(name));
        let mut wanted: Vec<Option<Vec<u8>>> = expected(at, size)[..sure as usize].to_vec();
        if is_torn {
            wanted.push(None);
            torn += 1;
        }
        assert!(found == wanted, "{name}: {} blocks, must be {}", found.len(), wanted.len());
    }
    assert!(torn > 12, "only {torn} cuts were inside of a block");
    mount.unmount();
}

/// What the format says of zeros: a whole block of them is a hole, less than a block is damage.
#[test]
fn zeroed_ciphertext_is_a_hole_or_an_error() {
    let files = ["hole", "short", "grown"].map(str::to_owned);
    let Some(damaged) = Damaged::plant(Flavour::DEFAULT, &files, SIZE) else { return };
    damaged.open("hole").write_all_at(&vec![0; BLOCK as usize], HEADER + BLOCK).expect("write");
    damaged.open("short").write_all_at(&[0; 132], HEADER + 3 * BLOCK).expect("write");
    damaged.open("grown").set_len(HEADER + 4 * BLOCK + 50).expect("grow");
    let Some((mount, _)) = damaged.mount() else { return };
    let mut wanted = expected(0, SIZE);
    wanted[1] = Some(vec![0; 4096]);
    assert!(blocks(&mount.path("hole")) == wanted, "hole");
    damaged_only(&mount, "short", 1, SIZE, &[3]);
    let grown = blocks(&mount.path("grown"));
    assert!(grown[..3] == expected(2, SIZE)[..3], "grown");
    assert_eq!(grown[3..], [None, None], "grown");
    mount.unmount();
}

/// Writing over a damaged block heals it; writing into it does not invent what is missing.
#[test]
fn a_damaged_block_is_healed_by_a_whole_one() {
    let files = ["healed", "partly"].map(str::to_owned);
    let Some(damaged) = Damaged::plant(Flavour::DEFAULT, &files, SIZE) else { return };
    files.iter().for_each(|name| flip(&damaged.real[name], HEADER + BLOCK + 500));
    let Some((mount, _)) = damaged.mount() else { return };
    let open = |name: &str| std::fs::File::options().read(true).write(true).open(mount.path(name)).expect("open");
    open("healed").write_all_at(&[7; 4096], 4096).expect("write over");
    let mut wanted = expected(0, SIZE);
    wanted[1] = Some(vec![7; 4096]);
    assert!(blocks(&mount.path("healed")) == wanted);
    let error = open("partly").write_all_at(b"x", 5000).and_then(|()| open("partly").sync_all());
    assert_eq!(error.expect_err("must fail").raw_os_error(), Some(5));
    damaged_only(&mount, "partly", 1, SIZE, &[1]);
    mount.unmount();
}
