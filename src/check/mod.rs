//! Whether the tiers of a union fit together: finds what hides, differs, is left over or is damaged.
//!
//! A check reads the tiers side by side, directory by directory, and changes nothing, not even an
//! access time where it may do so. [`repair`] goes about the few findings that can be mended without
//! a risk, through the union.
//!
//! A union in use changes meanwhile. What a walk finds is therefore looked at once more at its end
//! ([`again`]), and what the migrator is moving just now is left out.

use std::path::PathBuf;
use std::sync::Arc;

use crate::tier::Tier;
use crate::types::attr::{Body, Stat, Time};
use crate::types::errno::Errno;
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::path::UnionPath;

mod again;
mod ciphertext;
mod compare;
mod entry;
mod marker;
mod numbers;
mod own;
mod read;
pub mod repair;
mod run;
mod walk;
mod words;

#[cfg(test)]
mod tests;

pub use compare::{Compared, Contents, Newer};
pub use own::Expected;
pub use run::{Depth, Options, Outcome, Totals, run};
pub use words::{Words, kind};

/// One tier of a check.
#[derive(Debug)]
pub struct Checked {
    /// Its place.
    pub rank: Rank,
    /// Its root, for messages.
    pub path: PathBuf,
    /// The tier, opened to be read.
    pub tier: Arc<dyn Tier>,
    /// Whether its marker was read, so that the numbers of its bodies are those that the mount gives.
    pub is_known: bool,
    /// Whether it holds ciphertext, so that also what is in links and attributes can be damaged.
    pub is_encrypted: bool,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where it is in the union; the root for what concerns a tier as a whole.
    pub path: UnionPath,
    /// What it is.
    pub what: What,
}

/// What can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A copy that another hides; neither is a directory.
    Shadowed {
        /// The tier and the copy that are seen.
        visible: (Rank, Copy),
        /// The tier and the copy that are hidden.
        hidden: (Rank, Copy),
        /// How the two compare.
        compared: Compared,
    },
    /// A directory on one tier and something else on another.
    Types {
        /// The tier whose copy is seen.
        visible: Rank,
        /// Whether that is the directory.
        visible_is_dir: bool,
        /// The other.
        hidden: Rank,
    },
    /// Names in one directory, on different tiers, that differ only in upper and lower case.
    CaseFold(Vec<(Vec<u8>, Ranks)>),
    /// The copies of a directory differ in what they should have in common.
    Attributes {
        /// The fastest, whose attributes are seen.
        visible: Rank,
        /// The other.
        other: Rank,
        /// In what they differ: `mode`, `owner`, or names of extended attributes.
        differs: Vec<String>,
        /// What the other has of these, as it can be set again.
        has: String,
    },
    /// Something in a directory of tierfs's own that no work has cleared away.
    Leftover {
        /// The tier.
        rank: Rank,
        /// The directory: one of [`crate::migrate::OWN_DIRS`].
        own: &'static str,
        /// The name in it.
        name: String,
    },
    /// Contents that recovery could not give a name.
    Lost {
        /// The tier.
        rank: Rank,
        /// The name in `.tierfs/lost`.
        name: String,
    },
    /// The markers do not make one union, for this reason.
    Marker(String),
    /// A body with the stamp of another.
    ForeignStamp(Rank),
    /// A body with a stamp on a tier whose marker says that there is none.
    UntoldStamp(Rank),
    /// The same inode number as another object of the union.
    SameNumber(Ino, UnionPath),
    /// A pin to a tier that is not there, or (`None`) that cannot be understood.
    Pin(Rank, Option<Rank>),
    /// A manifest with a line that cannot be read, counted from 1, or that cannot be read at all.
    Manifest(String, Result<u64, Errno>),
    /// Something that a tier does not give.
    Unreadable {
        /// The tier.
        rank: Rank,
        /// Why.
        errno: Errno,
        /// What was being done.
        during: &'static str,
    },
    /// Something on an encrypted tier that has no name there: damaged, forged or foreign.
    Nameless {
        /// The tier.
        rank: Rank,
        /// Its name in the storage, in the directory of the finding.
        stored: Vec<u8>,
        /// Why it has none.
        why: String,
    },
    /// Contents that are not those a run has written, though size and time are.
    Rotten {
        /// The tier.
        rank: Rank,
        /// The run that wrote them.
        run: String,
    },
}

/// What tells one version of a copy from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// The body.
    pub body: Body,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the contents.
    pub mtime: Time,
    /// Last change.
    pub ctime: Time,
}

impl Copy {
    fn of(stat: &Stat) -> Copy {
        Copy { body: stat.body, size: stat.size, mtime: stat.mtime, ctime: stat.ctime }
    }
}

/// What can be mended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mend {
    /// The hidden copy on this tier goes, if it is equal to the visible one.
    Duplicate(UnionPath, Rank),
    /// The slower copies of the directory get what the fastest has.
    Directory(UnionPath),
    /// What no record speaks of goes from trash and staging.
    Leftovers,
}

impl Finding {
    /// What would mend it, if anything may.
    pub fn mend(&self) -> Option<Mend> {
        match &self.what {
            What::Shadowed { hidden, compared, .. } if compared.is_equal() => {
                Some(Mend::Duplicate(self.path.clone(), hidden.0))
            }
            What::Attributes { .. } => Some(Mend::Directory(self.path.clone())),
            What::Leftover { own: "staging" | "trash", .. } => Some(Mend::Leftovers),
            What::Shadowed { .. }
            | What::Types { .. }
            | What::CaseFold(_)
            | What::Leftover { .. }
            | What::Lost { .. }
            | What::Marker(_)
            | What::ForeignStamp(_)
            | What::UntoldStamp(_)
            | What::SameNumber(..)
            | What::Pin(..)
            | What::Manifest(..)
            | What::Unreadable { .. }
            | What::Nameless { .. }
            | What::Rotten { .. } => None,
        }
    }
}
