//! A run as a command words it: from its words to the engine and back, in a mount and without one.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{BUSY, CONFIG, FAILED, hours};
use crate::config::load;
use crate::control::convert;
use crate::control::wire::{self, Response};
use crate::migrate::{self, Event, Go, Request, Skip, Stop, Summary, What};
use crate::policy::load::Account;
use crate::policy::window::Window;
use crate::policy::{self, AgeBy, Criteria, Limits, Order, Policy, Verify};
use crate::sys::accounts;
use crate::types::glob::{Globs, Pattern};
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::union::Union;

/// What moves files: [`migrate::run`], or a stand-in of the tests.
pub type Engine = fn(&Union, &Request, &mut (dyn FnMut(Event) -> Go + Send)) -> Result<Summary, migrate::Error>;

/// The command line is wrong.
pub(super) const USAGE: u8 = 2;

/// A line for the user, and the exit code.
type Problem = wire::Problem;

fn problem(code: u8, line: impl Into<String>) -> Problem {
    Problem { code, line: line.into() }
}

/// Makes the run and returns the last line. `configured` is the policy file of the configuration;
/// `tell` is told of every event and says whether to go on. It may wait for a command that is slow
/// to read.
pub fn perform(
    union: &Union,
    configured: Option<&Path>,
    run: &wire::Run,
    engine: Engine,
    tell: &mut (dyn FnMut(wire::Event) -> bool + Send),
) -> Response {
    try_perform(union, configured, run, engine, tell).map_or_else(Response::Error, Response::Done)
}

fn try_perform(
    union: &Union,
    configured: Option<&Path>,
    run: &wire::Run,
    engine: Engine,
    tell: &mut (dyn FnMut(wire::Event) -> bool + Send),
) -> Result<wire::Summary, Problem> {
    let (mut request, window) = request(run, configured, union.tiers())?;
    let mut closed = None;
    if let Some(window) = window.filter(|_| !run.ignore_window) {
        let now = hours::now().ok_or_else(|| problem(FAILED, "the clock does not tell the hour for the window"))?;
        closed = window.closed(now).map(|closed| Box::new(hours::told(closed, &run.what, configured)));
        if !run.dry_run {
            let Some(left) = window.until_end(now) else {
                return Ok(wire::Summary { stopped: Some(wire::Stop::Window), closed, ..wire::Summary::default() });
            };
            request.limits = request.limits.within(left);
        }
    }
    let mut on = |event| if tell(told(event)) { Go::On } else { Go::Stop };
    let summary = engine(union, &request, &mut on).map_err(failed)?;
    Ok(wire::Summary { closed, ..summed(summary) })
}

/// The request, and the window of the policy by which it is made.
fn request(run: &wire::Run, configured: Option<&Path>, tiers: usize) -> Result<(Request, Option<Window>), Problem> {
    let paths = run.paths.iter().map(|path| {
        let bytes = convert::bytes(path).ok_or_else(|| problem(USAGE, "a path is not written as it should be"))?;
        UnionPath::new(&bytes).map_err(|errno| problem(USAGE, format!("{}: {errno}", String::from_utf8_lossy(&bytes))))
    });
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    let tiers = u8::try_from(tiers).unwrap_or(u8::MAX);
    let (what, defaults) = match &run.what {
        wire::What::To(rank) => (What::To(known(*rank, tiers)?), Policy::default()),
        wire::What::Undo(name) => (What::Undo(name.clone()), Policy::default()),
        by_policy => {
            let policy = policy(by_policy, configured)?;
            policy.check_tiers(tiers).map_err(|line| misfit(by_policy, configured, &line))?;
            (What::Policy(Box::new(policy.clone())), policy)
        }
    };
    let request = Request {
        what,
        paths,
        limits: limits(&run.limits, &defaults.limits),
        until_free_percent: run.limits.until_free_percent,
        errors_max: defaults.suspend_on_errors,
        order: run.order.map_or(defaults.order, order),
        verify: run.verify.map_or(defaults.verify, verify),
        dry_run: run.dry_run,
    };
    Ok((request, defaults.window))
}

/// What a policy asks of tiers that are not there, with the file it is from.
pub fn misfit(what: &wire::What, configured: Option<&Path>, line: &str) -> wire::Problem {
    let file = match what {
        wire::What::Policy { origin, .. } => convert::bytes(origin),
        wire::What::Configured => configured.map(|path| path.as_os_str().as_bytes().to_vec()),
        wire::What::Criteria(_) | wire::What::To(_) | wire::What::Undo(_) => None,
    };
    let file = file.map(|file| format!("{}: ", String::from_utf8_lossy(&file))).unwrap_or_default();
    problem(CONFIG, format!("{file}{line}"))
}

/// What a run is to do, in a few words, as it is told of one at work.
pub(super) fn words(what: &wire::What) -> String {
    match what {
        wire::What::Configured | wire::What::Policy { .. } | wire::What::Criteria(_) => "migrate".into(),
        wire::What::To(rank) => format!("recall to {}", Rank(*rank)),
        wire::What::Undo(run) => format!("undo {run}"),
    }
}

fn known(rank: u8, tiers: u8) -> Result<Rank, Problem> {
    let line = || format!("there is no {}: the mount has {tiers} tiers", Rank(rank));
    if rank < tiers { Ok(Rank(rank)) } else { Err(problem(USAGE, line())) }
}

/// The policy by which a run chooses.
///
/// # Errors
/// What is wrong with it or with the file it is from.
pub fn policy(what: &wire::What, configured: Option<&Path>) -> Result<Policy, wire::Problem> {
    match what {
        wire::What::Policy { origin, text } => {
            let origin = convert::bytes(origin).unwrap_or_default();
            parse(&String::from_utf8_lossy(&origin), text)
        }
        wire::What::Criteria(criteria) => by_criteria(criteria),
        wire::What::Configured => {
            let path = configured.ok_or_else(|| {
                problem(
                    USAGE,
                    "what is to move? Give --older-than 1y or --policy FILE, or put `policy: FILE` into the \
                     configuration of the mount",
                )
            })?;
            let text = load::read(path).map_err(|line| problem(CONFIG, format!("{}: {line}", path.display())))?;
            parse(&path.display().to_string(), &text)
        }
        wire::What::To(_) | wire::What::Undo(_) => Ok(Policy::default()),
    }
}

/// Reads the text of a policy file that is called `origin`.
///
/// # Errors
/// One line with the place of the mistake, and code 78.
pub(super) fn parse(origin: &str, text: &str) -> Result<Policy, Problem> {
    let resolve = |account: Account<'_>| match account {
        Account::User(name) => accounts::user(name),
        Account::Group(name) => accounts::group(name),
    };
    policy::load::parse(text, &resolve).map_err(|wrong| problem(CONFIG, format!("{origin}{}", load::describe(&wrong))))
}

fn by_criteria(criteria: &wire::Criteria) -> Result<Policy, Problem> {
    let wrong = |line: String| problem(USAGE, format!("--exclude: {line}"));
    let patterns = criteria.exclude.iter().map(|text| Pattern::new(text));
    let patterns = patterns.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let age_by = match criteria.age_by {
        wire::AgeBy::Newest => AgeBy::Newest,
        wire::AgeBy::Mtime => AgeBy::Mtime,
        wire::AgeBy::Atime => AgeBy::Atime,
    };
    Ok(Policy::from_criteria(Criteria {
        older_than: criteria.older_than,
        age_by,
        min_size: criteria.min_size,
        exclude: Globs::with_below(patterns).map_err(wrong)?,
        to: criteria.to.map(Rank),
        ..Criteria::default()
    }))
}

fn limits(given: &wire::Limits, defaults: &Limits) -> Limits {
    Limits {
        files: given.files.or(defaults.files),
        bytes: given.bytes.or(defaults.bytes),
        duration: given.duration.or(defaults.duration),
        bytes_per_sec: given.bytes_per_sec.or(defaults.bytes_per_sec),
    }
}

fn order(order: wire::Order) -> Order {
    match order {
        wire::Order::Tree => Order::Tree,
        wire::Order::Oldest => Order::Oldest,
        wire::Order::Largest => Order::Largest,
        wire::Order::Smallest => Order::Smallest,
    }
}

fn verify(verify: wire::Verify) -> Verify {
    match verify {
        wire::Verify::Hash => Verify::Hash,
        wire::Verify::Size => Verify::Size,
    }
}

/// An event as it goes over the wire.
pub(super) fn told(event: Event) -> wire::Event {
    let text = |path: UnionPath| convert::text(path.as_bytes());
    match event {
        Event::Scanned { files, bytes } => wire::Event::Scanned { files, bytes },
        Event::Planned { files, bytes } => wire::Event::Planned { files, bytes },
        Event::Copied { bytes } => wire::Event::Copied { bytes },
        Event::Moved { path, from, to, bytes, age } => {
            wire::Event::Moved { path: text(path), from: from.0, to: to.0, bytes, age }
        }
        Event::Skipped { path, why } => wire::Event::Skipped { path: text(path), why: skip(why).into() },
        Event::Failed { path, errno, during } => {
            wire::Event::Failed { path: text(path), errno: errno.0, during: during.into() }
        }
    }
}

/// The words for a reason, as they stand in summaries: "3 in use".
pub fn skip(why: Skip) -> &'static str {
    match why {
        Skip::InUse => "in use",
        Skip::Changed => "changed meanwhile",
        Skip::Gone => "gone meanwhile",
        Skip::LinksOutside => "with hard links outside of the paths",
        Skip::Occupied => "whose name is taken on the other tier",
        Skip::Shadowed => "hidden by another copy",
        Skip::Special => "no regular files",
        Skip::Immutable => "immutable",
        Skip::Sealed => "encrypted or sealed by their filesystem",
        Skip::Xattr => "with attributes the other tier cannot hold",
        Skip::Times => "with times the other tier cannot hold",
        Skip::Owner => "whose owner or mode cannot be kept",
        Skip::TooLarge => "too large for the other tier",
        Skip::NoSpace => "without room on the other tier",
        Skip::Quota => "without room in a quota of the other tier",
        Skip::OverLimit => "larger than the limit of bytes for a run",
        Skip::Nested => "on another filesystem inside their tier",
        Skip::NoLease => "on a filesystem without leases",
        Skip::NoBirthTime => "on a filesystem without birth times",
    }
}

/// What a run came to, as it goes over the wire.
pub(super) fn summed(summary: Summary) -> wire::Summary {
    let mut skipped = std::collections::BTreeMap::new();
    for (why, count) in summary.skipped {
        *skipped.entry(skip(why).to_owned()).or_default() += count;
    }
    wire::Summary {
        run: summary.run,
        scanned: summary.scanned,
        moved: summary.moved,
        bytes: summary.bytes,
        taken: summary.taken,
        skipped,
        failed: summary.failed,
        stopped: summary.stopped.map(|stop| match stop {
            Stop::Limit => wire::Stop::Limit,
            Stop::Interrupted => wire::Stop::Interrupted,
            Stop::Full(rank) => wire::Stop::Full(rank.0),
            Stop::Errors => wire::Stop::Errors,
            Stop::Failed(rank) => wire::Stop::Failed(rank.0),
        }),
        closed: None,
        took: summary.took,
    }
}

/// The line and the code for what keeps a run from being made.
pub(super) fn failed(error: migrate::Error) -> Problem {
    match error {
        migrate::Error::Busy => problem(BUSY, "another run is at work: wait for it"),
        migrate::Error::ReadOnly => problem(
            FAILED,
            "nothing can be moved: the mount is read-only, or one of its tiers is missing: see tierfs status",
        ),
        migrate::Error::NotFound(line) => problem(FAILED, line),
        migrate::Error::NoRoom => problem(
            FAILED,
            format!(
                "the primary is so full that no move can be written down: free {} MiB on it, then run this again",
                migrate::WANTED_MIB
            ),
        ),
        migrate::Error::Path(path, errno) => problem(FAILED, format!("{path}: {errno}")),
        migrate::Error::Tier(rank, errno) => problem(FAILED, format!("the {rank} failed: {errno}: look at its disk")),
    }
}
