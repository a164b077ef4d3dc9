//! What goes over the control socket, field for field. Fields that are not known are refused.
//!
//! Ranks are numbers, 0 the primary; sizes are bytes; ages and times are seconds and nanoseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::status::Status;
use crate::stats::Snapshot;

/// The version of the format, in every line. One more with every change of what can be in a line.
pub const VERSION: u32 = 4;

/// Read first: what any version of the format has.
#[derive(Debug, Deserialize)]
pub struct Versioned {
    /// As in [`VERSION`].
    pub version: u32,
}

/// The one line from the command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandLine {
    /// [`VERSION`].
    pub version: u32,
    /// What is wanted.
    pub command: Command,
}

/// A line from the mount.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseLine {
    /// [`VERSION`].
    pub version: u32,
    /// What is told.
    pub response: Response,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Move files.
    Run(Run),
    /// Tell about the mount.
    Info,
    /// Tell what was counted since the mount.
    Stats,
    /// Tell how the mount and its tiers are.
    Status,
    /// Tell what would keep one file from moving.
    Probe(Probe),
    /// Mend what a check has found.
    Repair(Repair),
}

/// Which file is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// From the root of the union.
    pub path: Text,
    /// The tier that it would go to; none to ask only how full the tiers are.
    pub to: Option<u8>,
}

/// What is to be mended, each proved again before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// One after another.
    pub items: Vec<Mend>,
}

/// One thing that can be mended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mend {
    /// A hidden copy that is equal to the visible one goes.
    Duplicate {
        /// From the root of the union.
        path: Text,
        /// The tier of the hidden copy.
        rank: u8,
    },
    /// The slower copies of a directory get owner, mode and attributes of the fastest.
    Directory {
        /// From the root of the union.
        path: Text,
    },
    /// What no record speaks of goes from trash and staging.
    Leftovers,
}

/// A run of the migrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Which files, where to.
    pub what: What,
    /// Only these paths, from the root of the union, and what is below them; none for everything.
    pub paths: Vec<Text>,
    /// When to stop.
    pub limits: Limits,
    /// In which order; none for the policy's.
    pub order: Option<Order>,
    /// How a copy is proved; none for the policy's.
    pub verify: Option<Verify>,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Work outside of the policy's window, too.
    pub ignore_window: bool,
    /// Whether a timer has begun it.
    pub scheduled: bool,
}

/// How the files are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// By the policy that the mount's configuration names.
    Configured,
    /// By this policy.
    Policy {
        /// The file it is from, for messages.
        origin: Text,
        /// Its text.
        text: String,
    },
    /// By what the command line says.
    Criteria(Criteria),
    /// Everything at and below the paths, to this tier.
    To(u8),
    /// Back to where the named run took it from.
    Undo(String),
}

/// A policy of one rule: what is older than so long goes down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criteria {
    /// The least age; none for files of any age.
    pub older_than: Option<Duration>,
    /// What the age is counted from.
    pub age_by: AgeBy,
    /// The least size.
    pub min_size: u64,
    /// Globs of paths that stay.
    pub exclude: Vec<String>,
    /// The tier it goes to; none for the next slower one.
    pub to: Option<u8>,
}

/// What an age is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgeBy {
    /// The later of the two others.
    Newest,
    /// Last change of the contents.
    Mtime,
    /// Last access.
    Atime,
}

/// When a run stops of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most files.
    pub files: Option<u64>,
    /// Most bytes.
    pub bytes: Option<u64>,
    /// Longest time.
    pub duration: Option<Duration>,
    /// Bytes copied in a second.
    pub bytes_per_sec: Option<u64>,
    /// Hundredths of the tier the files leave that are to be free.
    pub until_free_percent: Option<u8>,
}

/// The order of moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Directory by directory.
    Tree,
    /// The oldest first.
    Oldest,
    /// The largest first.
    Largest,
    /// The smallest first.
    Smallest,
}

/// How a copy is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// By a hash of what is read back.
    Hash,
    /// By size.
    Size,
}

/// What the mount tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Response {
    /// Something happened; more is to come.
    Event(Event),
    /// The last line of a run.
    Done(Summary),
    /// The last line of [`Command::Info`].
    Info(Info),
    /// The last line of [`Command::Stats`].
    Stats(Box<Snapshot>),
    /// The last line of [`Command::Status`].
    Status(Box<Status>),
    /// The last line of [`Command::Probe`].
    Probed(Probed),
    /// The last line of [`Command::Repair`]: for each thing why it stays as it was, or none.
    Repaired(Vec<Option<String>>),
    /// The last line of what could not be done.
    Error(Problem),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// So much was seen so far.
    Scanned {
        /// Files.
        files: u64,
        /// Bytes.
        bytes: u64,
    },
    /// So much will move.
    Planned {
        /// Files.
        files: u64,
        /// Bytes.
        bytes: u64,
    },
    /// So many bytes more were copied.
    Copied {
        /// Bytes.
        bytes: u64,
    },
    /// A file has moved or, in a dry run, would.
    Moved {
        /// Which.
        path: Text,
        /// From this tier.
        from: u8,
        /// To this one.
        to: u8,
        /// Its size.
        bytes: u64,
        /// Its age.
        age: Duration,
    },
    /// A file stays though planned.
    Skipped {
        /// Which.
        path: Text,
        /// Why, in words.
        why: String,
    },
    /// A file could not be moved.
    Failed {
        /// Which.
        path: Text,
        /// The error number.
        errno: i32,
        /// What was being done.
        during: String,
    },
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The name of the run; empty if nothing moved.
    pub run: String,
    /// Files looked at.
    pub scanned: u64,
    /// Files moved.
    pub moved: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes that these took on the tiers they left, and have freed there.
    pub taken: u64,
    /// Files skipped, by reason in words.
    pub skipped: BTreeMap<String, u64>,
    /// Files failed.
    pub failed: u64,
    /// Why it ended early.
    pub stopped: Option<Stop>,
    /// The window of the policy, if it is closed: then nothing has moved.
    pub closed: Option<Box<Closed>>,
    /// How long it took.
    pub took: Duration,
}

/// A window outside of its hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// As it is written.
    pub window: String,
    /// The policy file that it is in.
    pub origin: Text,
    /// When it opens: day and hour.
    pub opens: String,
    /// How long until then.
    pub wait: Duration,
}

/// Why a run ended before its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// A limit.
    Limit,
    /// The window of the policy is closed.
    Window,
    /// The user, or the end of the mount.
    Interrupted,
    /// This tier is full.
    Full(u8),
    /// Too many errors.
    Errors,
    /// This tier fails.
    Failed(u8),
}

/// About a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// How many tiers it has.
    pub tiers: u8,
    /// The policy file that its configuration names.
    pub policy: Option<Text>,
    /// Why that file as it is now is not in force, if so: then the one that was read before is.
    pub refused: Option<String>,
    /// Whether a run is at work.
    pub running: bool,
}

/// What a run would find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probed {
    /// Of the file.
    pub outlook: Outlook,
    /// How full each tier is, fastest first; none where that cannot be told.
    pub usage: Vec<Option<Usage>>,
}

/// What would become of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outlook {
    /// Nothing is in the way.
    Clear,
    /// This is.
    Blocked(String),
    /// It cannot be told now, for this reason.
    Unknown(String),
}

/// How full a tier is, in bytes, as `df` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// In use.
    pub used: u64,
    /// Used or free.
    pub total: u64,
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// The exit code, from `docs/EXIT_CODES.md`.
    pub code: u8,
    /// One line that says what to do.
    pub line: String,
}

/// Bytes of a path: text where they are text, else hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// UTF-8.
    Plain(String),
    /// Anything else.
    Coded(Coded),
}

/// Bytes that are no text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coded {
    /// Two digits a byte.
    pub hex: String,
}
