//! `tierfs migrate`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{Manner, Output};
use crate::cli::{run, target};
use crate::control::wire::{self, Criteria, Limits, Run, What};
use crate::types::ids::Rank;
use crate::types::units;

/// Moves cold files to a slower tier and, if the policy says so, others to a faster one. A mount that
/// is running does the move itself and stays in use meanwhile; without a mount this command does it.
/// Files that are open, changing or pinned stay, and are counted.
#[derive(Debug, Args)]
#[command(after_help = "\
UNION is a mount point or a path in one (then only what is below it moves), a configuration file \
(*.yaml), or PRIMARY:SECONDARY; without it the only mount there is. With PATHs only these move: each is \
absolute inside the mount point, or relative to the current directory if that leads into the mount, \
else to UNION if that is a directory in the mount, else to the mount point. Without --older-than and \
--policy the policy of the configuration decides.

Examples:
  tierfs migrate --older-than 1y --dry-run /srv/docs   what would move
  tierfs migrate --older-than 1y /srv/docs
  tierfs migrate -q --older-than 90d --max-duration 4h --bwlimit 40M docs.yaml
  tierfs migrate --older-than 30d --until-free 20% --order oldest /srv/docs
  tierfs migrate --json --policy docs.yaml /srv/docs projects/2019 | jq .path
In cron:
  0 3 * * *  root  /usr/local/bin/tierfs migrate -q --older-than 1y /srv/docs

Exit codes:
  0 done, also if nothing was to be done   1 error   2 wrong usage   3 some files failed
  4 nothing moved, with --error-on-no-move   8 stopped at a limit   75 another run is at work
  78 wrong configuration or policy   130 interrupted")]
pub struct Migrate {
    /// A mount point, a path in a mount, a configuration file, or PRIMARY:SECONDARY
    #[arg(value_name = "UNION")]
    union: Option<OsString>,
    /// Only these, and what is below them
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Move files of at least this age: 1y, 90d, 6mo, 12h
    #[arg(long, value_name = "AGE", value_parser = units::parse_duration, conflicts_with = "policy")]
    older_than: Option<Duration>,
    /// What the age is counted from: the newer of mtime and atime, or one of them [default: newest]
    #[arg(long, value_name = "TIME", value_enum)]
    age_by: Option<AgeWord>,
    /// Decide by this policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The tier they go to [default: secondary]
    #[arg(long, value_name = "TIER", value_parser = rank)]
    to: Option<Rank>,
    /// Leave smaller files: 8K, 1MiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    min_size: Option<u64>,
    /// Leave what matches, such as '*.tmp' or 'home/*/.cache'; can be given again
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// In which order [default: tree, the fastest]
    #[arg(long, value_name = "ORDER", value_enum)]
    order: Option<OrderWord>,
    /// How a copy is proved before the source goes [default: hash]
    #[arg(long, value_name = "HOW", value_enum)]
    verify: Option<VerifyWord>,
    /// Only tell what would move
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// One JSON object for each file and one at the end
    #[arg(long)]
    json: bool,
    /// Write what became of each file as CSV
    #[arg(long, value_name = "FILE.csv")]
    report: Option<PathBuf>,
    /// Print nothing where nothing moved and nothing failed
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Print a line for each file
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Exit with 4 if nothing moved
    #[arg(long)]
    error_on_no_move: bool,
}

/// When the run stops of itself.
#[derive(Debug, Args)]
struct LimitArgs {
    /// Move at most so many files
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Move at most so many bytes: 50GiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    max_transfer: Option<u64>,
    /// Begin no file after so long: 4h
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    max_duration: Option<Duration>,
    /// Copy at most so many bytes a second: 40MiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    bwlimit: Option<u64>,
    /// Demote only until so much of the primary is free: 20%
    #[arg(long, value_name = "SHARE", value_parser = percent)]
    until_free: Option<u8>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AgeWord {
    Newest,
    Mtime,
    Atime,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OrderWord {
    Tree,
    Oldest,
    Largest,
    Smallest,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VerifyWord {
    Hash,
    Size,
}

/// A tier by its word.
pub fn rank(word: &str) -> Result<Rank, String> {
    Rank::parse(word).ok_or_else(|| format!("`{word}` is no tier: write primary, secondary, tier2 ..."))
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.trim().strip_suffix('%').and_then(|number| number.parse::<u8>().ok());
    number
        .filter(|number| (1..=100).contains(number))
        .ok_or_else(|| format!("`{text}` is not a share: write a whole number from 1% to 100%"))
}

impl Migrate {
    /// Makes the run.
    ///
    /// # Errors
    /// Why it could not be made, or not to its end.
    pub fn run(self) -> Outcome {
        let what = self.what()?;
        let target = target::find(self.union.as_deref())?;
        let paths = target.paths(&self.paths)?;
        let run = Run {
            limits: self.limits.values(),
            order: self.order.map(OrderWord::value),
            verify: self.verify.map(VerifyWord::value),
            ..run::plain(what, &paths, self.dry_run)
        };
        let manner = Manner {
            json: self.json,
            quiet: self.quiet,
            each: self.verbose || (self.dry_run && !self.quiet),
            error_on_no_move: self.error_on_no_move,
        };
        let mut output = Output::new(manner, self.report.as_deref())?;
        match run::run(&target, run, &mut |event| output.tell(&event)) {
            Ok(summary) => output.finish(&summary),
            Err(failure) => {
                output.give_up();
                Err(failure)
            }
        }
    }

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

    fn what(&self) -> Result<What, Failure> {
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

impl LimitArgs {
    fn values(&self) -> Limits {
        Limits {
            files: self.limit,
            bytes: self.max_transfer,
            duration: self.max_duration,
            bytes_per_sec: self.bwlimit,
            until_free_percent: self.until_free,
        }
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

impl OrderWord {
    fn value(self) -> wire::Order {
        match self {
            OrderWord::Tree => wire::Order::Tree,
            OrderWord::Oldest => wire::Order::Oldest,
            OrderWord::Largest => wire::Order::Largest,
            OrderWord::Smallest => wire::Order::Smallest,
        }
    }
}

impl VerifyWord {
    fn value(self) -> wire::Verify {
        match self {
            VerifyWord::Hash => wire::Verify::Hash,
            VerifyWord::Size => wire::Verify::Size,
        }
    }
}
