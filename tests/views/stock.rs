//! Byte for byte the view of `gocryptfs -reverse`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::common::fs::{put, stat};
use crate::common::trees::{self, plant, walk};
use crate::kit::Ground;

/// What both views must have in common: all but the times of what only the view has. A file with several
/// names has other numbers in ours, so its contents are left out.
fn picture(root: &Path) -> BTreeMap<PathBuf, String> {
    walk(root).into_iter().map(|path| (path.clone(), seen(&root.join(&path)))).collect()
}

fn seen(path: &Path) -> String {
    let found = stat(path);
    let kind = found.file_type();
    let mut words = format!("{:o} {}:{}", found.mode(), found.uid(), found.gid());
    let name = path.file_name().expect("a name").as_encoded_bytes();
    let in_both = name != b"gocryptfs.diriv" && !name.ends_with(b".name");
    if in_both {
        words.push_str(&format!(" {}.{:09} links {}", found.mtime(), found.mtime_nsec(), found.nlink()));
    }
    if !kind.is_dir() {
        words.push_str(&format!(" {} bytes", found.size()));
    }
    if kind.is_symlink() {
        words.push_str(&format!(" -> {:?}", std::fs::read_link(path).expect("readlink")));
    }
    if kind.is_file() && (found.nlink() == 1 || !in_both) {
        let content = std::fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_eq!(content.len() as u64, found.size(), "{path:?}");
        words.push_str(&format!(" {}", blake3::hash(&content).to_hex()));
    }
    words
}

#[track_caller]
fn same_as_stock(flags: &[&str]) {
    let Some(ground) = Ground::new() else { return };
    plant(&ground.source());
    put(ground.source().join("large"), trees::bytes(5, 700_001));
    ground.init(flags);
    let (ours, stock) = (ground.view("ours"), ground.stock("stock"));
    let (expected, found) = (picture(stock.root()), picture(ours.root()));
    if let Some(words) = trees::differences(&expected, &found) {
        panic!("{flags:?}: {words}");
    }
    assert!(found.len() > 60, "{}", found.len());
    ours.unmount();
}

#[test]
fn a_view_is_that_of_the_stock_program() {
    same_as_stock(&[]);
}

#[test]
fn a_view_with_deterministic_names_is_that_of_the_stock_program() {
    same_as_stock(&["-deterministic-names"]);
}

#[test]
fn a_view_with_plain_names_is_that_of_the_stock_program() {
    same_as_stock(&["-plaintextnames"]);
}

#[test]
fn a_view_with_short_and_padded_names_is_that_of_the_stock_program() {
    same_as_stock(&["-longnamemax", "100"]);
    same_as_stock(&["-raw64=false"]);
}
