//! `tierfs report`.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::tiers::{self, Named};
use crate::cli::whole::Whole;
use crate::cli::{complain, print, print_line, run, target};
use crate::migrate::Go;
use crate::migrate::scan::{self, Options, Progress, Scanned, Take};
use crate::policy;
use crate::report::{self, By, Gather, Labels, Report as Counted, Spec, TierLabel, data, html, text};
use crate::sys::{accounts, limits, terminal};
use crate::tier::place::Place;
use crate::types::attr::{Space, Stat, Time};
use crate::types::errno::Errno;
use crate::types::facts::Seen;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::types::units;

/// Shows how old the files on each tier are, and how much room on the primary each age would free
/// if older files moved down. Reads only: no file is opened, and nothing is locked or changed. The
/// union may be mounted, in use, or neither.
#[derive(Debug, Args)]
#[command(after_help = "\
Sizes of tiers and of what would be free are the space that files take there. A file with several \
hard links counts once. Pinned files stay, so they are not counted as freed. Run it as root to see \
all directories: those of other owners that you can only read get a new access time, as with ls.

Examples:
  tierfs report /srv/docs
  tierfs report /srv/docs/projects --by dir --depth 2
  tierfs report /fast/docs:/slow/docs --html report.html
  tierfs report --json | jq '.would_free[] | select(.older_than == \"1y\").allocated'

Exit codes:
  0 done   1 error   2 wrong usage   3 not everything could be read
  77 wrong passphrase   78 wrong configuration, or a tier whose disk is not mounted")]
pub struct Report {
    /// A mount or a path in one, a configuration file, or PRIMARY:SECONDARY[:...]; without it the
    /// only tierfs that is mounted
    #[arg(value_name = "MOUNT|CONFIG|PRIMARY:SECONDARY")]
    union: Option<OsString>,
    /// What to tell apart
    #[arg(long, value_enum, default_value_t = Column::Age)]
    by: Column,
    /// Directories so many names deep are told apart
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    depth: u8,
    /// Ages to compare, rising
    #[arg(long, value_name = "AGE,...", default_value = "30d,90d,1y,2y,5y", value_parser = buckets)]
    buckets: Buckets,
    /// What ages are counted from: the last read or change, whichever is newer, or one of them
    #[arg(long, value_enum, default_value_t = From::Newest)]
    age_by: From,
    /// Look for pins on directories only, not on single files: faster
    #[arg(long)]
    quick: bool,
    /// One JSON object with everything
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// A table for spreadsheets; --by chooses its rows
    #[arg(long)]
    csv: bool,
    /// Write one page with pictures, for a browser or a printer; it needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Column {
    Age,
    Dir,
    Owner,
    Type,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    Newest,
    Mtime,
    Atime,
}

#[derive(Debug, Clone)]
struct Buckets(Vec<Duration>);

/// Most ages: as many as a page has colours for.
const BUCKETS_MAX: usize = 7;

fn buckets(text: &str) -> Result<Buckets, String> {
    let ages = text.split(',').map(units::parse_duration).collect::<Result<Vec<_>, _>>()?;
    if ages.first().is_some_and(Duration::is_zero) || ages.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("ages must rise and not be zero: write for example 30d,90d,1y".into());
    }
    if ages.len() > BUCKETS_MAX {
        return Err(format!("{} ages are too many: at most {BUCKETS_MAX}", ages.len()));
    }
    Ok(Buckets(ages))
}

impl From {
    fn age(self, stat: &Stat, now: Time) -> Duration {
        let from = match self {
            From::Newest => stat.atime.max(stat.mtime),
            From::Mtime => stat.mtime,
            From::Atime => stat.atime,
        };
        policy::since(from, now)
    }

    fn words(self) -> &'static str {
        match self {
            From::Newest => "last access or change, whichever is newer",
            From::Mtime => "last change",
            From::Atime => "last access",
        }
    }
}

impl Column {
    fn report(self) -> By {
        match self {
            Column::Age => By::Age,
            Column::Dir => By::Dir,
            Column::Owner => By::Owner,
            Column::Type => By::Type,
        }
    }
}

/// Also where there are fewer processors: a disk answers several questions sooner than one by one.
const THREADS_MIN: usize = 4;

/// Paths that could not be read: how many, and the first for the message.
#[derive(Debug, Default)]
struct Unread {
    count: u64,
    first: Option<String>,
}

impl Unread {
    fn note(&mut self, path: &Path, errno: Errno, during: &str) {
        self.count += 1;
        self.first.get_or_insert_with(|| format!("{} ({during}): {errno}", path.display()));
    }
}

impl Report {
    /// Scans the tiers and prints.
    ///
    /// # Errors
    /// Where a tier cannot be opened, or the page not be written.
    pub fn run(self) -> Outcome {
        let named = tiers::named(self.union.as_deref())?;
        named.all_there()?;
        let now = now();
        // A deep tree holds a directory open at every level.
        limits::raise_descriptors();
        let mut unread = Unread::default();
        let tiers = tiers_of(&named);
        let (report, spaces) = self.count(&named, tiers, now, &mut unread)?;
        let missing: Vec<String> =
            spaces.iter().filter(|tier| tier.is_missing()).map(|tier| format!("the {}", tier.name)).collect();
        let labels = self.labels(&named, &report, spaces, now, &unread);
        self.show(&report, &labels)?;
        // The table for people says it itself.
        if !missing.is_empty() && (self.json || self.csv || self.html.is_some()) {
            let line = format!("{} is missing: what is only there is not counted", missing.join(", "));
            complain(line.as_bytes());
        }
        let Some(first) = unread.first else { return Ok(if missing.is_empty() { Exit::Ok } else { Exit::Partial }) };
        let (count, s) = (unread.count, if unread.count == 1 { "" } else { "s" });
        let line = format!("{count} path{s} could not be read, so the numbers are too small; the first is {first}");
        complain(line.as_bytes());
        Ok(Exit::Partial)
    }

    fn count(
        &self,
        named: &Named,
        tiers: usize,
        now: Time,
        unread: &mut Unread,
    ) -> Result<(Counted, Vec<TierLabel>), Failure> {
        let depth = usize::from(self.depth) + named.path.names().count();
        let mut gather = Gather::new(Spec { thresholds: self.buckets.0.clone(), depth, tiers });
        let mut labels = Vec::new();
        // A tier that is missing keeps its place, so that the ranks of the others hold.
        for rank in (0..tiers).filter_map(|rank| u8::try_from(rank).ok()).map(Rank) {
            let root = named.roots.iter().find(|(other, _)| *other == rank);
            let mut label = TierLabel { name: rank.to_string(), path: report::MISSING.into(), space: None };
            if let Some((_, root)) = root {
                label.path = root.path.display().to_string();
                label.space = self
                    .tier(root, rank, &named.path, now, &mut gather, unread)
                    .map_err(|errno| Failure::error(format!("{}: {errno}", root.path.display())))?;
            }
            labels.push(label);
        }
        Ok((gather.finish(), labels))
    }

    /// Counts the files of one tier and tells the space it has.
    fn tier(
        &self,
        root: &Place,
        rank: Rank,
        start: &UnionPath,
        now: Time,
        gather: &mut Gather,
        unread: &mut Unread,
    ) -> Result<Option<Space>, Errno> {
        let tier = scan::open_to_read(root, rank)?;
        let (by, progress) = (self.age_by, Progress::default());
        let mut waiting = Waiting::new(rank);
        let threads = std::thread::available_parallelism().map_or(THREADS_MIN, usize::from).max(THREADS_MIN);
        let options = Options { threads, pins: true, progress: &progress };
        // Only a file that would leave the primary is asked for a pin of its own.
        let young = self.buckets.0.first().copied().unwrap_or_default();
        let ask = rank == Rank::PRIMARY && !self.quick;
        let keep = |seen: &Seen<'_>| {
            if ask && by.age(seen.stat, now) >= young { Take::KeepWithPin } else { Take::Keep }
        };
        scan::scan(&*tier, rank, std::slice::from_ref(start), &options, &keep, &mut |scanned| {
            match scanned {
                Scanned::Batch(batch) => batch.files().for_each(|seen| gather.add(&seen, by.age(seen.stat, now))),
                Scanned::Failed { path, errno, during } => {
                    unread.note(&root.real_path(&path), errno, during);
                }
            }
            waiting.show(&progress);
            Go::On
        })?;
        waiting.end();
        Ok(tier.space().ok())
    }

    fn labels(&self, named: &Named, report: &Counted, tiers: Vec<TierLabel>, now: Time, unread: &Unread) -> Labels {
        let names = report.owners.iter().filter_map(|(uid, _)| Some((*uid, accounts::user_name(*uid)?)));
        Labels {
            subject: named.subject.clone(),
            made: units::show_time(now),
            age_by: self.age_by.words().into(),
            owners: names.collect(),
            unread: unread.count,
            tiers,
        }
    }

    fn show(&self, report: &Counted, labels: &Labels) -> Result<(), Failure> {
        let by = self.by.report();
        if let Some(file) = &self.html {
            write_page(file, &html::render(report, labels))?;
        }
        if self.json {
            return print(&format!("{}\n", data::json(report, labels)));
        }
        if self.csv {
            return print(&data::csv(report, labels, by));
        }
        match &self.html {
            Some(file) if file.as_os_str() == "-" => Ok(()),
            Some(file) => print_line(&[b"The page is in ", file.as_os_str().as_bytes()].concat()),
            None => print(&text::render(report, labels, by, style())),
        }
    }
}

/// How many tiers the union has, those that a mount serves without included.
fn tiers_of(named: &Named) -> usize {
    let there = named.roots.iter().map(|(rank, _)| rank.index() + 1).max().unwrap_or(0);
    // Not everybody may ask the mount; what he sees is told all the same.
    let asked = named.mountpoint.as_deref().and_then(|point| run::info(&target::socket_of(point).ok()?).ok());
    asked.map_or(0, |info| usize::from(info.tiers)).max(there)
}

/// Tells a terminal how far a scan has come; nobody else.
struct Waiting {
    rank: Rank,
    terminal: bool,
    next: Instant,
    shown: bool,
}

impl Waiting {
    const STEP: Duration = Duration::from_millis(500);

    fn new(rank: Rank) -> Waiting {
        let terminal = std::io::stderr().is_terminal();
        Waiting { rank, terminal, next: Instant::now() + Waiting::STEP, shown: false }
    }

    fn show(&mut self, progress: &Progress) {
        if self.terminal && Instant::now() >= self.next {
            let (files, bytes) = progress.seen();
            let size = units::show_size(bytes);
            eprint!("\r{}: {files} files, {size} \u{1b}[K", self.rank);
            self.next = Instant::now() + Waiting::STEP;
            self.shown = true;
        }
    }

    fn end(&self) {
        if self.shown {
            eprint!("\r\u{1b}[K");
        }
    }
}

/// Columns where nobody says how wide the terminal is.
const WIDTH_USUAL: usize = 80;

fn style() -> text::Style {
    let out = std::io::stdout();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    text::Style { width: terminal::width(&out).unwrap_or(WIDTH_USUAL), rich: out.is_terminal() && !plain }
}

fn write_page(file: &Path, page: &str) -> Result<(), Failure> {
    if file.as_os_str() == "-" {
        return print(page);
    }
    let mut whole = Whole::begin(file)?;
    let written = whole.write_all(page.as_bytes());
    written.map_err(|error| Failure::error(format!("{}: {}", file.display(), Errno::of(&error))))?;
    whole.done()
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn ages_to_compare_rise() {
        let read = |text: &str| buckets(text).map(|buckets| buckets.0.len());
        assert_eq!(read("30d,90d,1y"), Ok(3));
        assert_eq!(read("1y"), Ok(1));
        for (text, says) in [
            ("", "is not a duration"),
            ("1y,30d", "must rise"),
            ("1y,1y", "must rise"),
            ("0,1y", "not be zero"),
            ("30d,,1y", "is not a duration"),
            ("1m", "1min or 1mo"),
            ("1d,2d,3d,4d,5d,6d,7d,8d", "at most 7"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(says), "{text}: {told}");
        }
    }

    #[test]
    fn an_age_is_counted_from_what_was_asked_for() {
        let at = |sec| Time { sec, nsec: 0 };
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        let tier = scan::open_to_read(&Place::plain(dir.path().into()), Rank(0)).unwrap();
        let mut stat = tier.root().stat(None).unwrap().unwrap();
        (stat.atime, stat.mtime) = (at(100), at(300));
        let ages = [From::Newest, From::Mtime, From::Atime].map(|by| by.age(&stat, at(1000)).as_secs());
        assert_eq!(ages, [700, 700, 900]);
        assert_eq!(From::Newest.age(&stat, at(0)), Duration::ZERO, "a time to come");
    }
}
