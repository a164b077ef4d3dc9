//! Which files are meant: by a policy, or by what the command line says. The same for `migrate` and for
//! `explain`, which tells what the former does.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::exit::{Exit, Failure};
use crate::cli::run;
use crate::control::wire::{self, Criteria, What};
use crate::types::ids::Rank;
use crate::types::units;

/// The options.
#[derive(Debug, Args)]
pub struct CriteriaArgs {
    /// Move files of at least this age: 1y, 90d, 6mo, 12h
    #[arg(long, value_name = "AGE", value_parser = units::parse_duration, conflicts_with = "policy")]
    pub older_than: Option<Duration>,
    /// What the age is counted from: the newer of mtime and atime, or one of them [default: newest]
    #[arg(long, value_name = "TIME", value_enum)]
    age_by: Option<AgeWord>,
    /// Decide by this policy
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The tier they go to [default: secondary]
    #[arg(long, value_name = "TIER", value_parser = rank)]
    to: Option<Rank>,
    /// Leave smaller files: 8K, 1MiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    min_size: Option<u64>,
    /// Leave what matches, such as '*.tmp' or 'home/*/.cache'; can be given again
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AgeWord {
    Newest,
    Mtime,
    Atime,
}

/// A tier by its word.
pub fn rank(word: &str) -> Result<Rank, String> {
    Rank::parse(word).ok_or_else(|| format!("`{word}` is no tier: write primary, secondary, tier2 ..."))
}

impl CriteriaArgs {
    /// The first option that says something about --older-than where that is not given. `requires` of
    /// clap does not see it beside --policy, which conflicts with what is required.
    fn misplaced(&self) -> Option<&'static str> {
        let given = [
            (self.age_by.is_some(), "--age-by"),
            (self.to.is_some(), "--to"),
            (self.min_size.is_some(), "--min-size"),
            (!self.exclude.is_empty(), "--exclude"),
        ];
        let without = self.older_than.is_none();
        given.into_iter().find_map(|(given, option)| (given && without).then_some(option))
    }

    /// The same for a run.
    ///
    /// # Errors
    /// Where the policy file cannot be read.
    pub fn what(&self) -> Result<What, Failure> {
        if let Some(option) = self.misplaced() {
            let line = format!("{option} belongs to --older-than: a policy says that itself, in its file");
            return Err(Failure::new(Exit::Usage, line));
        }
        if let Some(file) = &self.policy {
            return run::policy_file(file);
        }
        Ok(match self.older_than {
            None => What::Configured,
            Some(age) => What::Criteria(Criteria {
                older_than: Some(age),
                age_by: self.age_by.unwrap_or(AgeWord::Newest).value(),
                min_size: self.min_size.unwrap_or(0),
                exclude: self.exclude.clone(),
                to: self.to.map(|rank| rank.0),
            }),
        })
    }
}

impl AgeWord {
    fn value(self) -> wire::AgeBy {
        match self {
            AgeWord::Newest => wire::AgeBy::Newest,
            AgeWord::Mtime => wire::AgeBy::Mtime,
            AgeWord::Atime => wire::AgeBy::Atime,
        }
    }
}
