//! What a mount tells of itself: the answer to [`Command::Status`](super::wire::Command::Status), a part of
//! what goes over the socket as in [`super::wire`].
//!
//! Times are seconds since 1970, sizes bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire::{Closed, Text};

/// A mount.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Where it was mounted.
    pub mountpoint: Text,
    /// Major and minor number of the device, by which it is found in the mount table wherever it appears there;
    /// none where the kernel did not tell.
    pub device: Option<(u32, u32)>,
    /// Since when it serves.
    pub since: u64,
    /// The process that serves it.
    pub pid: u32,
    /// Of the program that serves it.
    pub program: String,
    /// Its configuration file.
    pub config: Option<Text>,
    /// Whether nothing can be changed, as it was mounted.
    pub read_only: bool,
    /// Fastest first.
    pub tiers: Vec<TierStatus>,
    /// The policy file that its configuration names.
    pub policy: Option<Text>,
    /// Why that file as it is now is not in force, if so.
    pub refused: Option<String>,
    /// The run at work.
    pub running: Option<Running>,
    /// The last run since it serves, whether or not anything moved; promotions left out.
    pub last: Option<Ended>,
    /// The last run that is written down, promotions left out; one of before the mount, too.
    pub written: Option<Written>,
    /// Files that cannot be changed since a move of them was stopped halfway; none if there are none.
    pub held: Option<Held>,
    /// What it does by itself, and when.
    pub next: Next,
}

/// Files whose move an error of a tier has stopped halfway: they can be read, and not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// How many.
    pub files: u64,
    /// Since when the first of them is.
    pub since: u64,
    /// The tier that gave the error; both tiers of the move where it is not known which.
    pub ranks: Vec<u8>,
    /// The error, in words.
    pub why: String,
}

/// A tier of a mount.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierStatus {
    /// 0 for the primary.
    pub rank: u8,
    /// Its root directory.
    pub path: Text,
    /// The type of its filesystem as the mount table has it; none where that is not known.
    pub filesystem: Option<String>,
    /// Whether it holds ciphertext.
    pub encrypted: bool,
    /// Whether it serves.
    pub state: TierState,
    /// Since when it is so, as far as that is known.
    pub since: Option<u64>,
    /// What was found, in words; empty while it serves.
    pub why: String,
    /// How often it has gone since the mount began.
    pub times_gone: u64,
    /// How changes beside the mount are seen.
    pub watch: Watching,
    /// New files go elsewhere below so much free space.
    pub min_free: MinFree,
    /// How full it is; none where it does not tell.
    pub space: Option<TierSpace>,
    /// What lies in its directories of tierfs's own; none where it does not tell.
    pub own: Option<Own>,
}

/// Whether a tier serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TierState {
    /// It does.
    Serving,
    /// It was not there when the mount began.
    Missing,
    /// Its filesystem fails: the disk is gone, detached or shut down.
    Failed,
    /// It does not answer: a server or a disk hangs.
    Silent,
}

/// How changes beside the mount are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Watching {
    /// At once, all of them.
    Whole,
    /// At once, in the directories that are in use.
    ByDirectory,
    /// After this time at most, because nothing tells of them.
    After(Duration),
    /// Never: the configuration says that there are none.
    Never,
}

/// Free space that a tier keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MinFree {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the filesystem.
    Percent(u8),
}

/// How full a tier is, as `df` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierSpace {
    /// In use.
    pub used: u64,
    /// Used or free.
    pub total: u64,
    /// Free for ordinary users.
    pub free: u64,
    /// Whether less is free than the tier keeps, so that new files go elsewhere.
    pub low: bool,
    /// Inodes, and how many of them are free; none on a filesystem that makes them as it needs them.
    pub inodes: Option<(u64, u64)>,
}

/// What lies in a tier's directories of tierfs's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// Records of moves. While a run is at work one may be there.
    pub moves: u64,
    /// Records of renames.
    pub renames: u64,
    /// When the oldest of both was written.
    pub oldest: Option<u64>,
    /// Contents that recovery could not give a name.
    pub lost: u64,
}

/// A run at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// What was asked for, in a few words, such as `migrate`.
    pub what: String,
    /// Whether the mount began it by itself.
    pub by_itself: bool,
    /// Whether it only tells what it would do.
    pub dry_run: bool,
    /// When it began.
    pub started: u64,
    /// Files looked at so far.
    pub scanned: u64,
    /// Files and bytes that are to move; 0 until that is known.
    pub planned: (u64, u64),
    /// Bytes copied so far.
    pub copied: u64,
    /// Files and bytes that have moved.
    pub moved: (u64, u64),
    /// Files that could not be moved.
    pub failed: u64,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// As in [`Running`].
    pub what: String,
    /// As in [`Running`].
    pub by_itself: bool,
    /// When it began.
    pub started: u64,
    /// How long it took.
    pub took: Duration,
    /// Files and bytes that have moved.
    pub moved: (u64, u64),
    /// Files that could not be moved.
    pub failed: u64,
    /// Why it ended before its plan, in words; none if it did not.
    pub stopped: Option<String>,
    /// Whether it was made and nothing went wrong. A limit, the window and the user are nothing wrong.
    pub well: bool,
}

/// A run as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// Its name.
    pub run: String,
    /// When it began.
    pub started: u64,
    /// What was asked for, in a few words.
    pub what: String,
    /// What it came to; none where its last line is missing, because it is at work or was cut short.
    pub end: Option<WrittenEnd>,
}

/// The last line of a run that is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenEnd {
    /// Whether all that was planned was dealt with.
    pub done: bool,
    /// Files and bytes that have moved.
    pub moved: (u64, u64),
    /// Files that could not be moved.
    pub failed: u64,
    /// How long it took.
    pub took: Duration,
}

/// What a mount does by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// Tiers that give files away when they are too full.
    pub watermarks: Vec<Mark>,
    /// Which files that are used it brings to a faster tier, in words; none for none.
    pub promotes: Option<String>,
    /// The hours in which runs may work, as they are written; none for always.
    pub window: Option<String>,
    /// When those begin, if it is none of them now.
    pub closed: Option<Closed>,
}

/// The watermarks of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Which tier.
    pub rank: u8,
    /// Hundredths in use above which files leave it.
    pub high: u8,
    /// Hundredths in use at which that ends.
    pub low: u8,
}
