//! What two trees would hide from each other as tiers of one union: the report before adopting.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use crate::types::ids::Rank;
use crate::types::name::PRIVATE_DIR;

/// One thing an administrator should know before the trees become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The path in the union.
    pub path: PathBuf,
    /// What is the matter with it.
    pub what: Matter,
}

/// What can be the matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matter {
    /// On several tiers, and not a directory on all: the copy on the first is seen.
    Shadowed {
        /// The tier whose copy is seen.
        visible: Rank,
        /// The tiers whose copies are hidden.
        hidden: Vec<Rank>,
        /// How the copies compare.
        compared: Compared,
    },
    /// Names in one directory that differ only in upper and lower case: one to Windows programs.
    CaseFold(Vec<OsString>),
    /// A directory that cannot be read.
    Unreadable(Rank, String),
}

/// How the copies of one path compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Size and modification time are equal.
    Alike,
    /// A hidden copy was changed after the visible one.
    HiddenIsNewer,
    /// They differ otherwise.
    Differ,
    /// They are not of one type.
    Types,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.what {
            Matter::Shadowed { visible, hidden, compared } => {
                let hidden: Vec<String> = hidden.iter().map(Rank::to_string).collect();
                let compared = match compared {
                    Compared::Alike => "same size and time",
                    Compared::HiddenIsNewer => "the hidden copy is NEWER",
                    Compared::Differ => "size or time differ",
                    Compared::Types => "a directory and a file: everything below is hidden",
                };
                let hidden = hidden.join(", ");
                write!(f, "{path}: the copy on {visible} hides that on {hidden} ({compared})")
            }
            Matter::CaseFold(names) => {
                let names: Vec<String> = names.iter().map(|name| name.display().to_string()).collect();
                write!(f, "{path}: differ only in case: {}", names.join(", "))
            }
            Matter::Unreadable(rank, why) => write!(f, "{path}: not looked into on {rank}: {why}"),
        }
    }
}

/// Looks through the trees below `roots`, fastest first, and passes on each conflict; returns how
/// many there are. Follows no link.
pub fn find(roots: &[&Path], mut each: impl FnMut(&Conflict)) -> u64 {
    let mut count = 0;
    let mut tell = |path: &Path, what| {
        count += 1;
        each(&Conflict { path: path.to_path_buf(), what });
    };
    let all = (0..).map(Rank).take(roots.len()).collect();
    let mut left: Vec<(PathBuf, Vec<Rank>)> = vec![(PathBuf::new(), all)];
    while let Some((dir, ranks)) = left.pop() {
        let mut names: BTreeMap<OsString, Vec<(Rank, Metadata)>> = BTreeMap::new();
        for rank in ranks {
            if let Err(error) = list(roots[rank.index()], &dir, rank, &mut names) {
                tell(&dir, Matter::Unreadable(rank, error.to_string()));
            }
        }
        for (name, copies) in &names {
            let path = dir.join(name);
            if let Some(what) = shadowed(copies) {
                tell(&path, what);
            }
            // A file above hides every directory of its name below it.
            let dirs = copies.iter().take_while(|(_, metadata)| metadata.is_dir());
            let dirs: Vec<Rank> = dirs.map(|(rank, _)| *rank).collect();
            if !dirs.is_empty() {
                left.push((path, dirs));
            }
        }
        case_folded(names.keys()).into_iter().for_each(|names| tell(&dir, Matter::CaseFold(names)));
    }
    count
}

fn list(
    root: &Path,
    dir: &Path,
    rank: Rank,
    names: &mut BTreeMap<OsString, Vec<(Rank, Metadata)>>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(dir))? {
        let entry = entry?;
        let name = entry.file_name();
        if dir.as_os_str().is_empty() && name == PRIVATE_DIR {
            continue;
        }
        // A name that vanished meanwhile is in conflict with nothing.
        if let Ok(metadata) = entry.metadata() {
            names.entry(name).or_default().push((rank, metadata));
        }
    }
    Ok(())
}

fn shadowed(copies: &[(Rank, Metadata)]) -> Option<Matter> {
    let ((visible, seen), rest) = copies.split_first()?;
    let hidden = rest.iter().filter(|(_, other)| !(seen.is_dir() && other.is_dir()));
    let hidden: Vec<&(Rank, Metadata)> = hidden.collect();
    if hidden.is_empty() {
        return None;
    }
    let compared = if hidden.iter().any(|(_, other)| other.file_type() != seen.file_type()) {
        Compared::Types
    } else {
        let time = |metadata: &Metadata| metadata.modified().ok();
        let alike = |other: &Metadata| other.len() == seen.len() && time(other) == time(seen);
        if hidden.iter().all(|(_, other)| alike(other)) {
            Compared::Alike
        } else if hidden.iter().any(|(_, other)| time(other) > time(seen)) {
            Compared::HiddenIsNewer
        } else {
            Compared::Differ
        }
    };
    let hidden = hidden.into_iter().map(|(rank, _)| *rank).collect();
    Some(Matter::Shadowed { visible: *visible, hidden, compared })
}

fn case_folded<'a>(names: impl Iterator<Item = &'a OsString>) -> Vec<Vec<OsString>> {
    let mut folded: BTreeMap<String, Vec<OsString>> = BTreeMap::new();
    for name in names {
        if let Some(text) = OsStr::to_str(name) {
            folded.entry(text.to_lowercase()).or_default().push(name.clone());
        }
    }
    folded.into_values().filter(|names| names.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn file(root: &Path, path: &str, bytes: &str, age: u64) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age)).unwrap();
    }

    #[test]
    fn everything_that_hides_something_is_told() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for root in [a.path(), b.path()] {
            file(root, "dir/alike", "x", 9);
            file(root, ".tierfs/marker", "private", 0);
            fs::create_dir_all(root.join("merged/empty")).unwrap();
        }
        file(a.path(), "dir/newer", "old", 9);
        file(b.path(), "dir/newer", "new", 1);
        file(a.path(), "dir/differ", "1", 1);
        file(b.path(), "dir/differ", "22", 9);
        file(a.path(), "kind", "a file", 1);
        file(b.path(), "kind/below", "never seen", 1);
        file(a.path(), "dir/Case", "", 1);
        file(b.path(), "dir/case", "", 1);
        file(b.path(), "alone", "", 1);
        let mut told = Vec::new();
        let count = find(&[a.path(), b.path()], |conflict| told.push(conflict.to_string()));
        told.sort();
        let start = "the copy on primary hides that on secondary";
        let expected = [
            "dir/alike: ? (same size and time)",
            "dir/differ: ? (size or time differ)",
            "dir/newer: ? (the hidden copy is NEWER)",
            "dir: differ only in case: Case, case",
            "kind: ? (a directory and a file: everything below is hidden)",
        ];
        assert_eq!(told, expected.map(|line| line.replace('?', start)));
        assert_eq!(count, 5);
    }
}
