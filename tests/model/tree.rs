//! Whole trees: what a directory holds, and what several tiers hold together.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::common::fs::user_xattrs;
use crate::ops::{describe, digest_file};

/// Path to everything that can be compared about it.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

/// An object of the reference directory, also when its number is used again later.
pub(crate) type Object = (u64, Option<SystemTime>);

/// Everything below `root`.
pub(crate) fn tree(root: &Path) -> Tree {
    merged(&[root.to_path_buf()])
}

/// What tiers show together: for each path the copy on the lowest rank; a directory is merged
/// with those below it until a non-directory of its name ends that.
pub(crate) fn merged(tiers: &[PathBuf]) -> Tree {
    let mut all = Tree::new();
    walk(tiers, Path::new(""), &mut |path, place| {
        all.insert(path.to_path_buf(), line(place));
    });
    all
}

/// Calls `each` with every path of the merged tree and the place of its visible copy, parents
/// first.
pub(crate) fn walk(tiers: &[PathBuf], below: &Path, each: &mut dyn FnMut(&Path, &Path)) {
    let mut names = BTreeSet::<OsString>::new();
    for tier in tiers {
        names.extend(crate::common::fs::names(tier.join(below)));
    }
    for name in names {
        let path = below.join(name);
        let copies: Vec<(PathBuf, bool)> = tiers
            .iter()
            .filter_map(|tier| {
                let shown = tier.join(&path).symlink_metadata().ok()?;
                Some((tier.clone(), shown.is_dir()))
            })
            .collect();
        let Some((fastest, _)) = copies.first() else { continue };
        each(&path, &fastest.join(&path));
        let folders: Vec<PathBuf> =
            copies.into_iter().take_while(|(_, folder)| *folder).map(|(tier, _)| tier).collect();
        if !folders.is_empty() {
            walk(&folders, &path, each);
        }
    }
}

fn line(place: &Path) -> String {
    let Ok(shown) = place.symlink_metadata() else { return "vanished".to_owned() };
    let content = if shown.is_file() {
        digest_file(place).unwrap_or_else(|error| error.to_string())
    } else if shown.is_symlink() {
        format!("{:?}", std::fs::read_link(place).map_err(|error| error.raw_os_error()))
    } else {
        String::new()
    };
    let xattrs = if shown.is_symlink() || shown.file_type().is_fifo() {
        String::new()
    } else {
        format!("{:?}", user_xattrs(place))
    };
    format!("{} {content} {xattrs}", describe(&shown))
}

/// The objects of a tree: path to number and birth time.
pub(crate) fn objects(root: &Path) -> BTreeMap<PathBuf, Object> {
    let mut all = BTreeMap::new();
    walk(&[root.to_path_buf()], Path::new(""), &mut |path, place| {
        if let Ok(shown) = place.symlink_metadata() {
            all.insert(path.to_path_buf(), (shown.ino(), shown.created().ok()));
        }
    });
    all
}

/// The first few differences between two trees.
pub(crate) fn differences(mount: &Tree, reference: &Tree) -> Option<String> {
    let paths: BTreeSet<&PathBuf> = mount.keys().chain(reference.keys()).collect();
    let lines = paths.into_iter().filter(|path| mount.get(*path) != reference.get(*path));
    let lines: Vec<String> = lines
        .take(6)
        .map(|path| {
            let (seen, expected) = (mount.get(path), reference.get(path));
            format!("{path:?}:\n    seen     {seen:?}\n    expected {expected:?}")
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
