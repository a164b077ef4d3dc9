//! The words for what is found, and for what can be done about it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Compared, Contents, Finding, Newer, What};
use crate::tier::place::Place;
use crate::types::ids::{Rank, Ranks};
use crate::types::name::PRIVATE_DIR;
use crate::types::path::UnionPath;
use crate::types::shown;

/// A finding in one line, without its path: what it is, and what a repair does.
#[derive(Debug)]
pub struct Words<'a> {
    /// The finding.
    pub finding: &'a Finding,
    /// The tiers, for the commands that are proposed.
    pub roots: &'a [(Rank, Place)],
}

/// A short name of the kind, for programs.
pub fn kind(what: &What) -> &'static str {
    match what {
        What::Shadowed { .. } => "shadowed",
        What::Types { .. } => "types",
        What::CaseFold(_) => "case",
        What::Attributes { .. } => "attributes",
        What::Leftover { .. } => "leftover",
        What::Lost { .. } => "lost",
        What::Marker(_) => "marker",
        What::ForeignStamp(_) | What::UntoldStamp(_) => "stamp",
        What::SameNumber(..) => "number",
        What::Pin(..) => "pin",
        What::Manifest(..) => "manifest",
        What::Unreadable { .. } => "unreadable",
        What::Nameless { .. } => "nameless",
        What::Rotten { .. } => "rotten",
    }
}

impl Words<'_> {
    fn on(&self, rank: Rank) -> PathBuf {
        self.real(rank, &self.finding.path)
    }

    fn real(&self, rank: Rank, path: &UnionPath) -> PathBuf {
        let place = self.roots.iter().find(|(known, _)| *known == rank);
        place.map(|(_, place)| place.real_path(path)).unwrap_or_default()
    }

    /// Where an encrypted tier keeps it, whose paths nobody can guess.
    fn stored_as(&self, rank: Rank) -> String {
        let is_encrypted = |(known, place): &&(Rank, Place)| *known == rank && place.is_encrypted();
        match self.roots.iter().find(is_encrypted) {
            Some(_) => format!(" (stored as {})", told(&self.on(rank))),
            None => String::new(),
        }
    }

    fn own(&self, rank: Rank, own: &str, name: &str) -> PathBuf {
        let names = [PRIVATE_DIR, own, name];
        self.real(rank, &names.iter().fold(UnionPath::root(), |path, name| path.join(name.as_bytes())))
    }

    /// What it is, in one line that no name in it can end.
    pub fn matter(&self) -> String {
        match &self.finding.what {
            What::Shadowed { visible, hidden, compared } => shadowed(visible.0, hidden.0, compared),
            What::Types { visible, visible_is_dir: true, hidden } => {
                format!("a directory on {visible} hides what is no directory on {hidden}")
            }
            What::Types { visible, visible_is_dir: false, hidden } => {
                format!("a file on {visible} hides a directory on {hidden} with everything below it")
            }
            What::CaseFold(names) => {
                let each = names.iter().map(|(name, ranks)| format!("{} ({})", shown::escape(name), list(*ranks)));
                format!(
                    "names that differ only in case, one to Windows programs: {}",
                    each.collect::<Vec<_>>().join(", ")
                )
            }
            What::Attributes { visible, other, differs, has } => {
                format!(
                    "the directory on {other} differs from that on {visible}, which is shown, in {}; it has {}",
                    shown::escape(differs.join(", ").as_bytes()),
                    shown::escape(has.as_bytes())
                )
            }
            What::Leftover { rank, own: own @ ("moves" | "renames"), name } if name.starts_with("copied-") => {
                format!("a record that came with a copy or a backup of the tier: {}", told(&self.own(*rank, own, name)))
            }
            What::Leftover { rank, own: own @ ("moves" | "renames"), name } => {
                format!("work that was cut short, on record in {}", told(&self.own(*rank, own, name)))
            }
            What::Leftover { rank, own, name } => format!("left over: {}", told(&self.own(*rank, own, name))),
            What::Lost { rank, name } => {
                format!("contents whose name went while they moved: {}", told(&self.own(*rank, "lost", name)))
            }
            What::Marker(line) => shown::escape(line.as_bytes()),
            What::ForeignStamp(rank) => format!("on {rank}, with the inode number of another file, which is not shown"),
            What::UntoldStamp(rank) => {
                format!("on {rank}, with an inode number of its own that the marker there does not announce")
            }
            What::SameNumber(ino, other) => {
                format!("shows the same inode number, {}, as {}", ino.0, shown::escape(other.as_bytes()))
            }
            What::Pin(rank, Some(to)) => {
                format!("on {rank}, pinned to {to}, which this union does not have: it stays where it is")
            }
            What::Pin(rank, None) => format!("on {rank}, with a pin that names no tier: it stays where it is"),
            What::Manifest(run, Ok(line)) => format!("the manifest of run {run} cannot be read at line {line}"),
            What::Manifest(run, Err(errno)) => format!("the manifest of run {run} cannot be read: {errno}"),
            What::Unreadable { rank, errno, during } => {
                format!("cannot be read on {rank}: {during}: {errno}{}", self.stored_as(*rank))
            }
            What::Nameless { rank, stored, why } => {
                let path = self.on(*rank).join(OsStr::from_bytes(stored));
                format!("on {rank} there is {}, which is not shown: {why}", told(&path))
            }
            What::Rotten { rank, run } => {
                let stored = self.stored_as(*rank);
                format!("DAMAGED on {rank}: size and time are as run {run} wrote them, the contents are not{stored}")
            }
        }
    }

    /// What can be done, and whether `--repair` does it.
    pub fn advice(&self) -> String {
        match &self.finding.what {
            What::Shadowed { compared, .. } if compared.is_equal() => "--repair removes the hidden copy".into(),
            What::Shadowed { visible, hidden, .. } => {
                let (shown, behind) = (quoted(&self.on(visible.0)), quoted(&self.on(hidden.0)));
                format!(
                    "--repair leaves both; compare {shown} with {behind}, then delete one on its tier: rm -- {behind}"
                )
            }
            What::Types { hidden, .. } => {
                let path = quoted(&self.on(*hidden));
                format!("--repair leaves both; rename the hidden one on its tier: mv -T -- {path} {path}.hidden")
            }
            What::CaseFold(_) => "--repair leaves them; rename one".into(),
            What::Attributes { visible, other, .. } => format!("--repair makes that on {other} like that on {visible}"),
            What::Leftover { rank, own: own @ ("moves" | "renames"), name } if name.starts_with("copied-") => {
                let path = quoted(&self.own(*rank, own, name));
                format!(
                    "--repair leaves it; take from .tierfs/trash and .tierfs/staging what the mount does not have, then: rm -- {path}"
                )
            }
            What::Leftover { own: "moves" | "renames", .. } => {
                "--repair leaves it; the next mount finishes it: unmount and mount again".into()
            }
            What::Leftover { .. } => "--repair removes it".into(),
            What::Lost { rank, name } => {
                let path = quoted(&self.own(*rank, "lost", name));
                format!("--repair leaves it; if nobody misses it: rm -- {path}")
            }
            What::Marker(_) => "--repair changes no marker".into(),
            What::ForeignStamp(rank) => {
                let path = quoted(&self.on(*rank));
                format!(
                    "--repair leaves it, it does no harm; to be rid of it: setfattr -x trusted.tierfs.stamp -- {path}"
                )
            }
            What::UntoldStamp(_) => "--repair leaves it; was .tierfs/marker put back from a backup? Report this".into(),
            What::SameNumber(..) => {
                "--repair leaves both; give one a new body: cp -a FILE FILE.new && mv -T FILE.new FILE".into()
            }
            What::Pin(..) => "--repair leaves it; pin it elsewhere or take the pin away: tierfs unpin".into(),
            What::Manifest(..) => "--repair leaves it; that run can be neither undone nor proved in full".into(),
            What::Unreadable { .. } => "look at the disk (dmesg); restore it from a backup".into(),
            What::Nameless { .. } => {
                "--repair leaves it; if it is not tierfs's or gocryptfs's, move it elsewhere, else restore the \
                 directory from a backup"
                    .into()
            }
            What::Rotten { .. } => "--repair leaves it; restore it from a backup".into(),
        }
    }
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.matter(), self.advice())
    }
}

fn shadowed(visible: Rank, hidden: Rank, compared: &Compared) -> String {
    let Compared { contents, newer, differs } = compared;
    let newer = match newer {
        Newer::Visible => ", the visible one is newer",
        Newer::Hidden => ", the hidden one is NEWER",
        Newer::Neither => "",
    };
    let also = if differs.is_empty() { String::new() } else { format!(", different {}", differs.join(", ")) };
    let what = match contents {
        Contents::Same if differs.is_empty() => "an equal one",
        Contents::Same => "one with the same contents",
        Contents::Differ => "one with OTHER CONTENTS",
        Contents::Unread => "one that was not compared",
    };
    format!("the copy on {visible} hides {what} on {hidden}{newer}{also}")
}

fn list(ranks: Ranks) -> String {
    ranks.iter().map(|rank| rank.to_string()).collect::<Vec<_>>().join(", ")
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    shown::shell_word(path.as_os_str().as_bytes())
}

/// A path in a sentence.
fn told(path: &Path) -> String {
    shown::escape(path.as_os_str().as_bytes())
}
