//! How a tier is, for whoever tells an administrator.

use std::fmt;
use std::time::SystemTime;

use super::errno::Errno;
use super::ids::Ranks;

/// Whether a tier serves, and if not, why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Condition {
    /// It answers.
    #[default]
    Serving,
    /// It was not there when the mount began.
    Missing,
    /// Its filesystem fails: the disk is gone, detached or shut down.
    Failed,
    /// It does not answer: a server or a disk hangs.
    Silent,
}

impl Condition {
    /// All, in the order of their declaration.
    pub const ALL: [Condition; 4] = [Condition::Serving, Condition::Missing, Condition::Failed, Condition::Silent];

    /// One word for programs: `serving`, `missing`, `failed`, `silent`.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Serving => "serving",
            Condition::Missing => "missing",
            Condition::Failed => "failed",
            Condition::Silent => "silent",
        }
    }

    /// What [`Condition::word`] gives; `None` for anything else.
    pub fn parse(word: &str) -> Option<Condition> {
        Condition::ALL.into_iter().find(|condition| condition.word() == word)
    }

    /// Whether files on the tier can be reached.
    pub fn is_serving(self) -> bool {
        self == Condition::Serving
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Condition::Serving => "serving",
            Condition::Missing => "missing since the mount began",
            Condition::Failed => "gone: its filesystem fails",
            Condition::Silent => "not answering",
        })
    }
}

/// The state of one tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What it is.
    pub condition: Condition,
    /// Since when it is so.
    pub since: SystemTime,
    /// What was found, in words for an administrator; empty while it serves.
    pub reason: String,
    /// How often it has gone since the mount began.
    pub times_gone: u64,
}

/// Files whose move an error of a tier has stopped halfway: they can be read, and not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// How many; each counts once, whatever names it has.
    pub files: u64,
    /// Since when the first of them is held.
    pub since: SystemTime,
    /// The tier that gave the error; both tiers of the move where it is not known which.
    pub tiers: Ranks,
    /// The error.
    pub errno: Errno,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_reads_back() {
        for condition in Condition::ALL {
            assert_eq!(Condition::parse(condition.word()), Some(condition));
            assert_eq!(condition.is_serving(), condition == Condition::default());
        }
        assert_eq!(Condition::parse("fine"), None);
    }
}
