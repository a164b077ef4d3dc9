//! `tierfs migrate`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::criteria::CriteriaArgs;
use crate::cli::exit::Outcome;
use crate::cli::output::{Manner, Output};
use crate::cli::{run, target};
use crate::control::wire::{self, Limits, Run};
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

A policy with a window moves files only within it: outside, nothing moves, and the exit code is 8; \
at its end the run stops as at --max-duration. --dry-run does not wait for the window. It asks of \
each file what a run asks before it copies: what is in use, immutable, in the way or without room \
is told. What only the copy shows, such as attributes that the tier cannot hold, is not.

Examples:
  tierfs migrate --older-than 1y --dry-run /srv/docs   what would move
  tierfs migrate --older-than 1y /srv/docs
  tierfs migrate -q --older-than 90d --max-duration 4h --bwlimit 40M docs.yaml
  tierfs migrate --older-than 30d --until-free 20% --order oldest /srv/docs
  tierfs migrate --json --policy docs.yaml /srv/docs projects/2019 | jq .path
In cron:
  0 3 * * *  root  /usr/bin/tierfs migrate -q --older-than 1y /srv/docs

Exit codes:
  0 done, also if nothing was to be done   1 error   2 wrong usage   3 some files failed
  4 nothing moved, with --error-on-no-move   8 stopped at a limit or outside of the window
  75 another run is at work   77 wrong passphrase   78 wrong configuration or policy   130 interrupted")]
pub struct Migrate {
    /// A mount point, a path in a mount, a configuration file, or PRIMARY:SECONDARY
    #[arg(value_name = "UNION")]
    union: Option<OsString>,
    /// Only these, and what is below them
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    criteria: CriteriaArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// In which order [default: tree, the fastest]
    #[arg(long, value_name = "ORDER", value_enum)]
    order: Option<OrderWord>,
    /// How a copy is proved before the source goes [default: hash]
    #[arg(long, value_name = "HOW", value_enum)]
    verify: Option<VerifyWord>,
    /// Move outside of the policy's window, too
    #[arg(long)]
    ignore_window: bool,
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
    #[arg(long, value_name = "SIZE", value_parser = units::parse_large)]
    max_transfer: Option<u64>,
    /// Begin no file after so long: 4h
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    max_duration: Option<Duration>,
    /// Copy at most so many bytes a second: 40MiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_rate)]
    bwlimit: Option<u64>,
    /// Demote only until so much of the primary is free: 20%
    #[arg(long, value_name = "SHARE", value_parser = percent)]
    until_free: Option<u8>,
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
        let what = self.criteria.what()?;
        let target = target::find(self.union.as_deref())?;
        let paths = target.paths(&self.paths)?;
        let run = Run {
            limits: self.limits.values(),
            order: self.order.map(OrderWord::value),
            verify: self.verify.map(VerifyWord::value),
            ignore_window: self.ignore_window,
            // `systemd.exec(5)`: set where a timer has started the unit.
            scheduled: std::env::var_os("TRIGGER_UNIT").is_some(),
            ..run::plain(what, &paths, self.dry_run)
        };
        let manner = Manner {
            json: self.json,
            quiet: self.quiet,
            each: self.verbose || (self.dry_run && !self.quiet),
            error_on_no_move: self.error_on_no_move,
            dry_run: self.dry_run,
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
