//! Which file belongs where, decided without I/O and without a clock.
//!
//! A policy is a list of rules; the first that matches a file decides about it, and a file that
//! no rule matches stays. A pin comes before every rule, then what the policy excludes.
//!
//! This file holds the values. `evaluate.rs` decides about one file, `watermark.rs` about a tier
//! that is too full, `relief.rs` picks its files, `schedule.rs` says when; `uses.rs` counts reads;
//! `reasons.rs` puts into words why something is not so;
//! `schema.rs` and `load.rs` read the YAML form, which `policies/README.md`
//! explains.

use std::time::Duration;

use crate::types::attr::Time;
use crate::types::facts::Facts;
use crate::types::glob::{Globs, Pattern};
use crate::types::ids::{Rank, Ranks};

use window::Window;

pub mod evaluate;
pub mod load;
pub mod reasons;
pub mod relief;
pub mod schedule;
pub mod schema;
pub mod uses;
pub mod watermark;
pub mod window;
mod words;

#[cfg(test)]
mod shipped_tests;

/// What an age is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgeBy {
    /// The later of last access and last change of the contents.
    #[default]
    Newest,
    /// Last access.
    Atime,
    /// Last change of the contents.
    Mtime,
}

/// What is done with a file that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To the next slower tier, or to the given one if that is slower than where the file is.
    Demote(Option<Rank>),
    /// To the next faster tier, or to the given one if that is faster than where the file is.
    Promote(Option<Rank>),
    /// To this tier, and nowhere else, as a pin on the file would.
    Pin(Rank),
    /// Stays where it is.
    Keep,
}

/// What a decision comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It moves to this tier.
    Move(Rank),
    /// It stays.
    Stay(Stay),
}

/// Why a file stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// It is pinned to the tier it is on, by a pin of its own, of a directory above, or by a rule.
    /// Also for a pin to a tier that this union does not have.
    Pinned,
    /// The policy excludes its path.
    Excluded,
    /// The rule says keep.
    Kept,
    /// It is already where the rule wants it or beyond, or there is no tier further in that
    /// direction, or the union does not have the tier that the rule names.
    Placed,
    /// No rule matches. The duration is how long until one would if nothing changes, where age is
    /// the only thing that is missing.
    NoRule(Option<Duration>),
}

/// A verdict and how it came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Index of the rule that matched.
    pub rule: Option<usize>,
    /// What happens.
    pub verdict: Verdict,
    /// The age that was compared: as the rule that matched counts it, or the one that would match
    /// first, else as the policy does. Zero for times in the future.
    pub age: Duration,
}

/// How long ago `time` was at `now`; zero if it is yet to come.
pub fn since(time: Time, now: Time) -> Duration {
    let nanos = |t: Time| i128::from(t.sec) * 1_000_000_000 + i128::from(t.nsec);
    let gone = u64::try_from((nanos(now) - nanos(time)).max(0)).unwrap_or(u64::MAX);
    Duration::from_nanos(gone)
}

/// The age of a file.
pub fn age(facts: &Facts, by: AgeBy, now: Time) -> Duration {
    let from = match by {
        AgeBy::Newest => facts.stat.atime.max(facts.stat.mtime),
        AgeBy::Atime => facts.stat.atime,
        AgeBy::Mtime => facts.stat.mtime,
    };
    since(from, now)
}

/// Conditions, all of which must hold, and what is done then.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What `explain` calls it.
    pub name: String,
    /// The path must match one; `None` for every path.
    pub globs: Option<Globs>,
    /// The path must match none.
    pub not: Globs,
    /// The age must be this or more.
    pub older_than: Option<Duration>,
    /// The age must be less.
    pub younger_than: Option<Duration>,
    /// What the age is counted from.
    pub age_by: AgeBy,
    /// The size in bytes must be this or more.
    pub min_size: u64,
    /// The size in bytes must be this or less.
    pub max_size: Option<u64>,
    /// The owner must be one of these; empty for everyone.
    pub uids: Vec<u32>,
    /// The group must be one of these; empty for every group.
    pub gids: Vec<u32>,
    /// The file must be on one of these tiers; `None` for every tier.
    pub tiers: Option<Ranks>,
    /// What is done.
    pub action: Action,
}

impl Rule {
    /// A rule without a condition: it matches every file.
    pub fn every(name: &str, action: Action) -> Rule {
        Rule {
            name: name.to_owned(),
            globs: None,
            not: Globs::default(),
            older_than: None,
            younger_than: None,
            age_by: AgeBy::default(),
            min_size: 0,
            max_size: None,
            uids: Vec::new(),
            gids: Vec::new(),
            tiers: None,
            action,
        }
    }
}

/// A tier above `high` gives files to the next slower one until it is at `low`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Which tier.
    pub tier: Rank,
    /// Hundredths in use above which it begins.
    pub high: u8,
    /// Hundredths in use at which it ends; below `high`.
    pub low: u8,
    /// A file younger than this stays, however full the tier is.
    pub never_younger_than: Duration,
    /// What the age is counted from.
    pub age_by: AgeBy,
    /// Which files go first.
    pub order: Order,
}

/// When a file that is used moves to the next faster tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Promotion {
    /// Only by a rule or by hand.
    #[default]
    Never,
    /// When it has been written.
    Write,
    /// When it has been opened for reading so often within so long.
    Reads {
        /// Opens, at least one.
        count: u32,
        /// The time they are counted over.
        within: Duration,
    },
}

/// When a run stops of itself. A file that was begun is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Most files.
    pub files: Option<u64>,
    /// Most bytes.
    pub bytes: Option<u64>,
    /// Longest time.
    pub duration: Option<Duration>,
    /// Bytes copied in a second.
    pub bytes_per_sec: Option<u64>,
}

/// The order of moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As the scan finds them, directory by directory: the fastest.
    #[default]
    Tree,
    /// The oldest first.
    Oldest,
    /// The largest first.
    Largest,
    /// The smallest first.
    Smallest,
}

/// How a copy is proved before the source goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Read back and compared by hash.
    #[default]
    Hash,
    /// Its size alone.
    Size,
}

/// Failed files after which a run stops, where the policy does not say: so many are no longer
/// single bad files, and fewer would make one odd directory stop every night's run.
pub const ERRORS_MAX: u64 = 100;

/// Rules, first match wins, and how a run goes about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// In order.
    pub rules: Vec<Rule>,
    /// Never touched, nor what is below such a directory, unless pinned elsewhere.
    pub exclude: Globs,
    /// What ages are counted from where no rule says.
    pub age_by: AgeBy,
    /// Smallest size in bytes that a watermark takes. [`load`] has put it into the rules too.
    pub min_size: u64,
    /// At most one for each tier.
    pub watermarks: Vec<Watermarks>,
    /// Promotion of files that are used.
    pub promote: Promotion,
    /// Programs whose opens count neither for the age nor for promotion.
    pub ignore_processes: Vec<String>,
    /// When a run may work; `None` for always.
    pub window: Option<Window>,
    /// When a run stops.
    pub limits: Limits,
    /// How a copy is proved.
    pub verify: Verify,
    /// The order of moves.
    pub order: Order,
    /// Failed files after which a run stops; `None` for never.
    pub suspend_on_errors: Option<u64>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            rules: Vec::new(),
            exclude: Globs::default(),
            age_by: AgeBy::default(),
            min_size: 0,
            watermarks: Vec::new(),
            promote: Promotion::Never,
            ignore_processes: Vec::new(),
            window: None,
            limits: Limits::default(),
            verify: Verify::default(),
            order: Order::default(),
            suspend_on_errors: Some(ERRORS_MAX),
        }
    }
}

/// What the command line says in place of a policy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Criteria {
    /// Only files of this age or more.
    pub older_than: Option<Duration>,
    /// Only files of less than this age.
    pub younger_than: Option<Duration>,
    /// What the age is counted from.
    pub age_by: AgeBy,
    /// Only files of this many bytes or more.
    pub min_size: u64,
    /// Only files of this many bytes or less.
    pub max_size: Option<u64>,
    /// Only these paths; `None` for all.
    pub globs: Option<Globs>,
    /// None of these, nor what is below such a directory: made by [`Globs::with_below`].
    pub exclude: Globs,
    /// Where to. `None` takes the files of the primary to the next slower tier.
    pub to: Option<Rank>,
}

impl Policy {
    /// One rule from the command line. A tier `to` other than the primary takes files of faster
    /// tiers down to it, the primary takes files of all others up.
    pub fn from_criteria(criteria: Criteria) -> Policy {
        // Not `Demote(None)`: of three tiers, each night's run would take the same file one further.
        let action = match criteria.to {
            Some(Rank::PRIMARY) => Action::Promote(Some(Rank::PRIMARY)),
            Some(to) => Action::Demote(Some(to)),
            None => Action::Demote(Some(Rank(1))),
        };
        let rule = Rule {
            globs: criteria.globs,
            older_than: criteria.older_than,
            younger_than: criteria.younger_than,
            age_by: criteria.age_by,
            min_size: criteria.min_size,
            max_size: criteria.max_size,
            ..Rule::every("command line", action)
        };
        Policy {
            rules: vec![rule],
            exclude: criteria.exclude,
            age_by: criteria.age_by,
            min_size: criteria.min_size,
            ..Policy::default()
        }
    }

    /// The one tier that all rules move files to, if they name one and the same.
    pub fn only_target(&self) -> Option<Rank> {
        let target = |rule: &Rule| match rule.action {
            Action::Demote(to) | Action::Promote(to) => to,
            Action::Keep | Action::Pin(_) => None,
        };
        let first = self.rules.first().and_then(target)?;
        self.rules.iter().all(|rule| target(rule) == Some(first)).then_some(first)
    }

    /// Excludes more, such as what the command line names beside a policy file.
    ///
    /// # Errors
    /// As [`Globs::with_below`].
    pub fn also_exclude(&mut self, mut patterns: Vec<Pattern>) -> Result<(), String> {
        patterns.splice(0..0, self.exclude.patterns().iter().cloned());
        self.exclude = Globs::with_below(patterns)?;
        Ok(())
    }

    /// Whether the opens of a program count for nothing. `comm` is its name as the kernel tells it
    /// (`/proc/PID/comm`), which has at most 15 bytes.
    pub fn ignores(&self, comm: &[u8]) -> bool {
        Policy::is_among(&self.ignore_processes, comm)
    }

    /// The same for the list alone.
    pub fn is_among(ignore_processes: &[String], comm: &[u8]) -> bool {
        const COMM_LEN_MAX: usize = 15;
        ignore_processes.iter().any(|name| &name.as_bytes()[..name.len().min(COMM_LEN_MAX)] == comm)
    }

    /// Whether a union of `tiers` tiers has every tier that is named.
    ///
    /// # Errors
    /// One line that says where a tier is named that the union does not have.
    pub fn check_tiers(&self, tiers: u8) -> Result<(), String> {
        let absent = |rank: Rank| rank.0 >= tiers;
        let line = |place: &str, rank: Rank| {
            format!("{place} names the tier `{rank}`, but this mount has only {tiers}: take it out or name another")
        };
        for rule in &self.rules {
            let to = match rule.action {
                Action::Demote(to) | Action::Promote(to) => to,
                Action::Pin(to) => Some(to),
                Action::Keep => None,
            };
            let named = to.into_iter().chain(rule.tiers.into_iter().flat_map(|tiers| tiers.iter().collect::<Vec<_>>()));
            if let Some(rank) = named.into_iter().find(|rank| absent(*rank)) {
                return Err(line(&format!("the rule `{}`", rule.name), rank));
            }
        }
        match self.watermarks.iter().find(|marks| marks.tier.0.saturating_add(1) >= tiers) {
            Some(marks) if absent(marks.tier) => Err(line("`watermarks`", marks.tier)),
            Some(marks) => Err(format!(
                "`watermarks` names the tier `{}`, but no slower one is there to take its files: take it out",
                marks.tier
            )),
            None => Ok(()),
        }
    }
}
