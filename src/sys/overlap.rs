//! Tiers and mount point must not lie within one another.
//!
//! A mount point inside a tier would show the union inside itself, and one tier inside another
//! would show every file twice. Names do not tell: a symbolic link or a bind mount gives one
//! directory many. So three things are compared: the paths without links, the identity of every
//! directory on the way up, and the place inside the filesystem that the mount table tells.

use std::fmt;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::by_path;
use crate::sys::mountinfo::{self, Mount};
use crate::types::name::PRIVATE_DIR;

/// So many names of a directory are looked at for other tiers below it.
const ENTRIES_MAX: usize = 10_000;

/// Two directories that must not overlap but do. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    inner: String,
    outer: String,
    relation: Relation,
    rule: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Same,
    Inside,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overlap { inner, outer, relation, rule } = self;
        match relation {
            Relation::Same => write!(f, "{inner} and {outer} are the same directory"),
            Relation::Inside => write!(f, "{inner} lies inside {outer}"),
        }?;
        write!(f, ": {rule}")
    }
}

impl std::error::Error for Overlap {}

/// Checks every tier against every other and against the mount point. A directory that cannot be
/// opened is left out: there is nothing yet that it could overlap with.
///
/// # Errors
/// The first two that overlap.
pub fn check(tiers: &[&Path], mountpoint: &Path) -> Result<(), Overlap> {
    check_all(&named(tiers, Some(mountpoint)), TIERS_APART)
}

/// Checks every tier against every other, where the mount point is not known yet.
///
/// # Errors
/// The first two that overlap.
pub fn check_tiers(tiers: &[&Path]) -> Result<(), Overlap> {
    check_all(&named(tiers, None), TIERS_APART)
}

/// Checks what a view shows, each with the word for it, against its mount point: a view that shows itself
/// would wait for its own answers.
///
/// # Errors
/// The first that overlaps with the mount point. Among themselves they may overlap.
pub fn check_view(shown: &[(&str, &Path)], mountpoint: &Path) -> Result<(), Overlap> {
    shown.iter().try_for_each(|spot| check_all(&[*spot, (MOUNTPOINT, mountpoint)], VIEW_APART))
}

/// Where a tier is now, to be compared later. Nothing if it cannot be opened.
pub fn tier(path: &Path) -> Option<Spot> {
    Spot::look(TIER, path, &mountinfo::read().unwrap_or_default())
}

/// Where a mount point is before something is mounted there.
pub fn mountpoint(path: &Path) -> Option<Spot> {
    Spot::look(MOUNTPOINT, path, &mountinfo::read().unwrap_or_default())
}

/// Checks what has come against what was there before, which is not looked at again: it may not answer.
///
/// # Errors
/// The first that overlaps with it.
pub fn check_one<'a>(come: &Spot, mut others: impl Iterator<Item = &'a Spot>) -> Result<(), Overlap> {
    others.find_map(|other| other.overlap(come, TIERS_APART)).map_or(Ok(()), Err)
}

const TIER: &str = "the tier";
const MOUNTPOINT: &str = "the mount point";
const TIERS_APART: &str = "tiers and mount point must be apart";
const VIEW_APART: &str = "what a view shows and its mount point must be apart";

fn named<'a>(tiers: &[&'a Path], mountpoint: Option<&'a Path>) -> Vec<(&'static str, &'a Path)> {
    let named = tiers.iter().map(|path| (TIER, *path));
    named.chain(mountpoint.map(|path| (MOUNTPOINT, path))).collect()
}

/// A tier that is to be new, and a tier of another union around or just below it. The inner union would be the outer
/// one's files, markers and all, and be moved piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested {
    /// The new one.
    pub tier: PathBuf,
    /// The other one.
    pub other: PathBuf,
}

impl fmt::Display for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tier, other) = (self.tier.display(), self.other.display());
        let hint = format!("(if {other} is none any more, remove its {PRIVATE_DIR})");
        if self.other.starts_with(&self.tier) {
            write!(f, "inside {tier} is {other}, a tier of another union: name that, or a directory without one {hint}")
        } else {
            write!(f, "{tier} lies inside {other}, a tier of another union: name a directory outside of it {hint}")
        }
    }
}

/// The first of these directories around or just below which another tier is. Deeper ones are not looked for.
pub fn nested(tiers: &[&Path]) -> Option<Nested> {
    let is_tier = |path: &Path| path.join(PRIVATE_DIR).join("marker").symlink_metadata().is_ok();
    tiers.iter().filter_map(|tier| fs::canonicalize(tier).ok()).find_map(|tier| {
        let around = tier.ancestors().skip(1).find(|above| is_tier(above)).map(Path::to_path_buf);
        let other = around.or_else(|| {
            let entries = fs::read_dir(&tier).into_iter().flatten().flatten().take(ENTRIES_MAX);
            let mut dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            dirs.find_map(|entry| Some(entry.path()).filter(|path| is_tier(path)))
        });
        other.map(|other| Nested { tier, other })
    })
}

fn check_all(named: &[(&str, &Path)], rule: &'static str) -> Result<(), Overlap> {
    let mounts = mountinfo::read().unwrap_or_default();
    let spots: Vec<Spot> = named.iter().filter_map(|(what, path)| Spot::look(what, path, &mounts)).collect();
    for (index, spot) in spots.iter().enumerate() {
        for other in &spots[..index] {
            if let Some(overlap) = other.overlap(spot, rule) {
                return Err(overlap);
            }
        }
    }
    Ok(())
}

/// Everything that tells where a directory is.
#[derive(Debug, Clone)]
pub struct Spot {
    label: String,
    path: PathBuf,
    /// Device and inode of the directory and of each one above it.
    upward: Vec<(u64, u64)>,
    /// The filesystem's device and the path inside it.
    place: Option<((u32, u32), PathBuf)>,
}

impl Spot {
    fn look(what: &str, given: &Path, mounts: &[Mount]) -> Option<Spot> {
        let path = fs::canonicalize(given).ok()?;
        let identity = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
        let upward = path.ancestors().map_while(identity).collect();
        let place = mount_id(&path).and_then(|id| mountinfo::place(mounts, id, &path));
        let label = if given == path {
            format!("{what} {}", given.display())
        } else {
            format!("{what} {} (which is {})", given.display(), path.display())
        };
        Some(Spot { label, path, upward, place })
    }

    fn overlap(&self, other: &Spot, rule: &'static str) -> Option<Overlap> {
        let told = |inner: &Spot, outer: &Spot, relation| {
            Some(Overlap { inner: inner.label.clone(), outer: outer.label.clone(), relation, rule })
        };
        match (self.is_within(other), other.is_within(self)) {
            (true, true) => told(self, other, Relation::Same),
            (true, false) => told(self, other, Relation::Inside),
            (false, true) => told(other, self, Relation::Inside),
            (false, false) => None,
        }
    }

    fn is_within(&self, outer: &Spot) -> bool {
        let by_path = self.path.starts_with(&outer.path);
        let by_identity = outer.upward.first().is_some_and(|top| self.upward.contains(top));
        let by_place = match (&self.place, &outer.place) {
            (Some((device, path)), Some((same, above))) => device == same && path.starts_with(above),
            _ => false,
        };
        by_path || by_identity || by_place
    }
}

/// The number of the mount through which `path` is reached.
pub fn mount_id(path: &Path) -> Option<u64> {
    let file = by_path::hold(path).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Tree {
            let dir = tempfile::tempdir().unwrap();
            for name in ["a/sub/deep", "b", "m", "bound"] {
                fs::create_dir_all(dir.path().join(name)).unwrap();
            }
            std::os::unix::fs::symlink("a/sub", dir.path().join("link")).unwrap();
            Tree(dir)
        }

        fn told(&self, tiers: &[&str], mountpoint: &str) -> String {
            let tiers: Vec<PathBuf> = tiers.iter().map(|name| self.0.path().join(name)).collect();
            let tiers: Vec<&Path> = tiers.iter().map(PathBuf::as_path).collect();
            let told = check(&tiers, &self.0.path().join(mountpoint)).err();
            let told = told.map(|overlap| overlap.to_string()).unwrap_or_default();
            told.replace(&format!("{}/", self.0.path().display()), "")
        }
    }

    #[test]
    fn a_tier_around_another_or_within_one_is_found() {
        let home = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            fs::create_dir_all(home.path().join(name)).unwrap();
            home.path().canonicalize().unwrap().join(name)
        };
        let (docs, disk, inside) = (dir("fast/docs"), dir("fast"), dir("fast/docs/a/b"));
        let beside = dir("fast/other");
        assert_eq!(nested(&[&disk, &inside]), None);
        dir("fast/docs/.tierfs");
        fs::write(docs.join(".tierfs/marker"), "").unwrap();
        let found = nested(&[&beside, &disk]).unwrap();
        assert_eq!(found, Nested { tier: disk.clone(), other: docs.clone() });
        assert!(found.to_string().starts_with(&format!(
            "inside {} is {}, a tier of another",
            disk.display(),
            docs.display()
        )));
        let found = nested(&[&inside]).unwrap();
        assert!(found.to_string().starts_with(&format!("{} lies inside {}, a tier", inside.display(), docs.display())));
        assert_eq!(nested(&[&docs, &beside]), None, "its own marker is another matter");
    }

    #[test]
    fn directories_apart_are_fine() {
        let tree = Tree::new();
        assert_eq!(tree.told(&["a", "b"], "m"), "");
        assert_eq!(tree.told(&["a/sub", "b"], "a/absent"), "");
        fs::create_dir(tree.0.path().join("a/subway")).unwrap();
        assert_eq!(tree.told(&["a/sub", "a/subway"], "m"), "");
    }

    #[test]
    fn every_kind_of_overlap_is_told() {
        let tree = Tree::new();
        let rest = ": tiers and mount point must be apart";
        for (tiers, mountpoint, says) in [
            (&["a", "a"][..], "m", "the tier a and the tier a are the same directory"),
            (&["a", "a/sub"], "m", "the tier a/sub lies inside the tier a"),
            (&["a", "b"], "a/sub/deep", "the mount point a/sub/deep lies inside the tier a"),
            (&["a/sub", "b"], "a", "the tier a/sub lies inside the mount point a"),
            (&["a", "b"], "b", "the tier b and the mount point b are the same directory"),
            (&["a", "link"], "m", "the tier link (which is a/sub) lies inside the tier a"),
            (
                &["link", "b"],
                "a/sub",
                "the tier link (which is a/sub) and the mount point a/sub are the same directory",
            ),
        ] {
            assert_eq!(tree.told(tiers, mountpoint), format!("{says}{rest}"));
        }
    }

    #[test]
    fn bind_mounts_do_not_hide_an_overlap() {
        let tree = Tree::new();
        let bound = tree.0.path().join("bound");
        let bind = |from: &str| {
            let from = tree.0.path().join(from);
            mount(Some(&from), &bound, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        };
        if let Err(error) = bind("a/sub") {
            eprintln!("skipped: bind mounts need root: {error}");
            return;
        }
        let inside = tree.told(&["a", "bound"], "m");
        let same = tree.told(&["a/sub", "b"], "bound");
        let below = tree.told(&["a", "b"], "bound/deep");
        umount2(&bound, MntFlags::MNT_DETACH).unwrap();
        assert!(inside.starts_with("the tier bound lies inside the tier a:"), "{inside}");
        assert!(same.contains("are the same directory"), "{same}");
        assert!(below.starts_with("the mount point bound/deep lies inside the tier a:"), "{below}");
    }
}
