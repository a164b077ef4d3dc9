//! `tierfs check`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};

use crate::check::{self, Depth, Finding, Mend, Options, Words};
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::thousands;
use crate::cli::target::{Reach, Target};
use crate::cli::{complain, named, print_json, print_line, run, target};
use crate::config::MountConfig;
use crate::daemon::{self, repairs};
use crate::log;
use crate::migrate::scan::Progress;
use crate::sys::{limits, process};
use crate::tier::place::{Place, Root};
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::types::units;

/// Finds what does not fit between the tiers: copies that hide others, names that differ only in case,
/// directories that differ, leftovers of work that was cut short, markers, pins and manifests that are
/// wrong, files that cannot be read or are damaged. Changes nothing without --repair, not even access
/// times where it may do so. A mount stays in use meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "\
UNION is a mount point or a path in one (then only what is below it is checked), a configuration file \
(*.yaml), or PRIMARY:SECONDARY; without it the only mount there is. With PATHs only these are checked: \
each is absolute inside the mount point, or relative to the current directory if that leads into the \
mount, else to UNION if that is a directory in the mount, else to the mount point.

On an encrypted tier names that do not decrypt are told as well, and with --read-data targets of links \
and attributes are read too. That takes the key, by the configuration of the mount.

--repair lists everything first, and then mends only what can be mended without a risk: a hidden copy \
equal in contents and metadata to the visible one goes, slower copies of a directory get owner, mode \
and attributes of the fastest, what no record speaks of goes from .tierfs. Copies that differ stay.

Examples:
  tierfs check /srv/docs
  tierfs check --read-data /srv/docs     reads every file: bad disks, bit rot
  tierfs check --repair /srv/docs
  tierfs check --json /srv/docs | jq -r 'select(.kind == \"shadowed\") | .path'
In cron:
  0 4 1 * *  root  /usr/bin/tierfs check -q --read-data /srv/docs

Exit codes:
  0 nothing found, or all mended   1 could not check   2 wrong usage   3 problems found, or left
  75 --repair while a run is at work   77 wrong passphrase   78 wrong configuration, or a tier is missing
  130 interrupted")]
pub struct Check {
    /// A mount point, a path in a mount, a configuration file, or PRIMARY:SECONDARY
    #[arg(value_name = "UNION")]
    union: Option<OsString>,
    /// Only these, and what is below them
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Then mend what can be mended without a risk
    #[arg(long)]
    repair: bool,
    /// Read every file: tells those that cannot be read or are not what a run has written
    #[arg(long)]
    read_data: bool,
    /// One JSON object for each finding and one at the end
    #[arg(long)]
    json: bool,
    /// Nothing where nothing is found
    #[arg(short, long)]
    quiet: bool,
}

/// Also where there are fewer processors: a disk answers several questions sooner than one by one.
const THREADS_MIN: usize = 4;

/// Most threads; a check must leave something to the mount.
const THREADS_MAX: usize = 8;

/// Things that the mount is asked to mend at a time.
const MENDED_AT_A_TIME: usize = 256;

/// How often a terminal is told how far it is.
const TICK: Duration = Duration::from_millis(200);

/// A thing to mend, and why it was left: none if it was mended.
type Mended = Vec<(Mend, Option<String>)>;

impl Check {
    /// Checks, prints, and mends.
    ///
    /// # Errors
    /// Why it could not be checked.
    pub fn run(self) -> Outcome {
        process::catch_stop().map_err(|errno| Failure::error(format!("sigaction: {errno}")))?;
        // A deep tree holds directories of all tiers open at every level.
        limits::raise_descriptors();
        process::yield_to_others();
        let target = target::find(self.union.as_deref())?;
        let starts = match target.paths(&self.paths)? {
            none if none.is_empty() => vec![UnionPath::root()],
            some => some,
        };
        let roots = target.roots()?;
        all_there(&target, &roots)?;
        let checked = match self.check(&target, &roots, &starts) {
            Ok(checked) => checked,
            Err(Errno::EINTR) => return Ok(Exit::Interrupted),
            Err(errno) => return Err(Failure::error(format!("cannot check: {errno}"))),
        };
        for finding in &checked.findings {
            if self.json {
                print_json(&object(finding, &roots))?;
            } else {
                print_line(&line(finding, &roots))?;
            }
        }
        if checked.own_unjudged && !self.quiet {
            complain(b"a run is at work, so what lies in .tierfs was not judged");
        }
        let mut mends: Vec<Mend> = checked.findings.iter().filter_map(Finding::mend).collect();
        mends.sort_unstable();
        mends.dedup();
        let mended = if self.repair && !mends.is_empty() { self.mend(&target, mends)? } else { Vec::new() };
        let gone: BTreeSet<&Mend> = mended.iter().filter(|(_, why)| why.is_none()).map(|(item, _)| item).collect();
        let is_left = |finding: &&Finding| finding.mend().is_none_or(|wanted| !gone.contains(&wanted));
        let left = checked.findings.iter().filter(is_left).count();
        self.summary(&checked, left)?;
        if self.repair && process::should_stop() {
            return Ok(Exit::Interrupted);
        }
        Ok(if left == 0 { Exit::Ok } else { Exit::Partial })
    }

    fn check(&self, target: &Target, roots: &[(Rank, Place)], starts: &[UnionPath]) -> Result<check::Outcome, Errno> {
        let progress = Progress::default();
        let cpus = std::thread::available_parallelism().map_or(THREADS_MIN, usize::from);
        let at_work = || run::is_at_work(target, roots);
        let mounted = matches!(target.reach, Reach::Mounted { .. });
        let options = Options {
            depth: if self.read_data { Depth::Data } else { Depth::Metadata },
            threads: cpus.clamp(THREADS_MIN, THREADS_MAX),
            progress: &progress,
            in_use: mounted || at_work(),
            at_work: &at_work,
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.watch(&progress, &done));
            let outcome = check::run(roots, starts, &options);
            done.store(true, Ordering::Release);
            outcome
        })
    }

    /// Tells a terminal how far the check is, and ends it when the user wants so.
    fn watch(&self, progress: &Progress, done: &AtomicBool) {
        let wanted = !self.json && !self.quiet && std::io::stderr().is_terminal();
        let bar = wanted.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        while !done.load(Ordering::Acquire) {
            if process::should_stop() {
                progress.stop();
            }
            if let Some(bar) = &bar {
                let (files, bytes) = progress.seen();
                let read = if bytes > 0 { format!(", {} read", units::show_size(bytes)) } else { String::new() };
                bar.set_message(format!("{} files checked{read}", thousands(files)));
                bar.tick();
            }
            std::thread::park_timeout(TICK);
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    fn mend(&self, target: &Target, mends: Vec<Mend>) -> Result<Mended, Failure> {
        match &target.reach {
            Reach::Mounted { socket, .. } => {
                let mut mended = Vec::new();
                for some in mends.chunks(MENDED_AT_A_TIME) {
                    let stopped = || vec![Some("it was stopped before".to_owned()); some.len()];
                    let outcomes = if process::should_stop() {
                        stopped()
                    } else {
                        run::repair(socket, some.iter().map(repairs::worded).collect())?
                    };
                    for outcome in some.iter().cloned().zip(outcomes) {
                        self.tell(&outcome)?;
                        mended.push(outcome);
                    }
                }
                Ok(mended)
            }
            Reach::Alone(config) => self.mend_alone(config, &target.places()?, mends),
        }
    }

    fn mend_alone(&self, config: &MountConfig, places: &[Place], mends: Vec<Mend>) -> Result<Mended, Failure> {
        log::start(0).map_err(|line| Failure::new(Exit::Usage, line))?;
        let alone =
            daemon::open_union(config, places).map_err(|error| Failure { line: error.line, code: error.code })?;
        let mut mended = Vec::new();
        for item in mends {
            let why = check::repair::mend(&alone.union, &item, &process::should_stop).err();
            let outcome = (item, why);
            self.tell(&outcome)?;
            mended.push(outcome);
        }
        Ok(mended)
    }

    fn tell(&self, (item, why): &(Mend, Option<String>)) -> Result<(), Failure> {
        let (path, what) = match item {
            Mend::Duplicate(path, rank) => (shown(path), format!("the hidden copy on {rank}")),
            Mend::Directory(path) => (shown(path), "the slower copies of the directory".to_owned()),
            Mend::Leftovers => (b".tierfs".to_vec(), "what was left over".to_owned()),
        };
        if self.json {
            let mut object = event("repair", &path);
            object["mended"] = json!(why.is_none());
            object["why"] = json!(why);
            return print_json(&object);
        }
        let rest = match (item, why) {
            (_, Some(why)) => format!(": {what} stays as it was: {why}"),
            (Mend::Directory(_), None) => format!(": {what} are as the fastest now"),
            (_, None) => format!(": {what} was removed"),
        };
        print_line(&[path.as_slice(), rest.as_bytes()].concat())
    }

    fn summary(&self, checked: &check::Outcome, left: usize) -> Result<(), Failure> {
        let found = checked.findings.len();
        let files = checked.totals.files;
        if self.json {
            let object = json!({
                "event": "summary", "files": files, "bytes_read": checked.totals.bytes, "found": found,
                "mended": found - left, "left": left, "own_unjudged": checked.own_unjudged,
            });
            return print_json(&object);
        }
        if self.quiet && found == 0 {
            return Ok(());
        }
        let count = |number: usize| match number {
            0 => "no problem".to_owned(),
            1 => "1 problem".to_owned(),
            many => format!("{} problems", thousands(many as u64)),
        };
        let left = if self.repair && found > 0 { format!(", {} left", count(left)) } else { String::new() };
        print_line(format!("{} files checked, {} found{left}", thousands(files), count(found)).as_bytes())
    }
}

/// Refuses what can only mislead: a mount that serves without one of its tiers has no right answer to
/// what is between them, and whoever may not read `.tierfs` would be told of damage.
fn all_there(target: &Target, roots: &[(Rank, Place)]) -> Result<(), Failure> {
    if let Reach::Mounted { socket, config: None, .. } = &target.reach {
        let tiers = run::info(socket)?.tiers;
        let missing = (0..tiers).map(Rank).filter(|rank| roots.iter().all(|(there, _)| there != rank));
        let missing: Vec<String> = missing.map(|rank| rank.to_string()).collect();
        if !missing.is_empty() {
            let line = format!(
                "this mount serves without its {}: bring the disk back, wait until `tierfs status` shows it, and check then",
                missing.join(" and ")
            );
            return Err(Failure::new(Exit::Config, line));
        }
    }
    let closed =
        roots.iter().find(|(_, place)| Root::open(place).and_then(|root| root.list_own()).err() == Some(Errno::EACCES));
    match closed {
        Some((_, place)) => Err(Failure::error(format!("{}/.tierfs: {}", place.path.display(), target::NOT_ROOT))),
        None => Ok(()),
    }
}

fn shown(path: &UnionPath) -> Vec<u8> {
    if path.is_root() { b"/".to_vec() } else { path.as_bytes().to_vec() }
}

fn line(finding: &Finding, roots: &[(Rank, Place)]) -> Vec<u8> {
    let mut line = shown(&finding.path);
    // Writing to memory cannot fail.
    let _never = write!(line, ": {}", Words { finding, roots });
    line
}

fn object(finding: &Finding, roots: &[(Rank, Place)]) -> Value {
    let words = Words { finding, roots };
    let mut object = event("finding", finding.path.as_bytes());
    object["kind"] = json!(check::kind(&finding.what));
    object["text"] = json!(words.matter());
    object["advice"] = json!(words.advice());
    object["repairable"] = json!(finding.mend().is_some());
    object
}

fn event(event: &str, path: &[u8]) -> Value {
    let mut object = named("path", path);
    object["event"] = json!(event);
    object
}
