//! A run of the migrator, in the mount or in this process.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::cli::exit::{Exit, Failure};
use crate::cli::target::{Reach, Target, not_connected};
use crate::control::wire::{Command, Event, Info, Limits, Mend, Probe, Probed, Repair, Response, Run, Summary, What};
use crate::control::{client, convert};
use crate::daemon::{self, runs};
use crate::stats::Snapshot;
use crate::sys::process;
use crate::tier::place::{Place, Root};
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::{config, log, migrate};

/// Makes the run. Ctrl-C ends it in order.
///
/// # Errors
/// Why it could not be made at all.
pub fn run(target: &Target, run: Run, tell: &mut (dyn FnMut(Event) + Send)) -> Result<Summary, Failure> {
    process::catch_stop().map_err(|errno| Failure::error(format!("sigaction: {errno}")))?;
    let last = match &target.reach {
        Reach::Mounted { socket, .. } => {
            let client = client::connect(socket).map_err(|refused| not_connected(socket, refused))?;
            client.ask(Command::Run(run), &process::should_stop, tell).map_err(Failure::error)?
        }
        Reach::Alone(config) => {
            log::start(0).map_err(|line| Failure::new(Exit::Usage, line))?;
            let alone = daemon::open_union(config, &target.places()?)
                .map_err(|error| Failure { line: error.line, code: error.code })?;
            let mut on = |event| {
                tell(event);
                !process::should_stop()
            };
            runs::perform(&alone.union, config.policy.as_deref(), &run, migrate::run, &mut on)
        }
    };
    match last {
        Response::Done(summary) => Ok(summary),
        other => Err(unexpected(other)),
    }
}

/// Why what the mount has answered is no answer.
fn unexpected(response: Response) -> Failure {
    match response {
        Response::Error(problem) => Failure { line: problem.line, code: problem.code },
        _ => Failure::error("the mount answers something else"),
    }
}

/// Asks the mount what would keep a file from moving to a tier.
///
/// # Errors
/// Why it does not answer.
pub fn probe(socket: &Path, path: &UnionPath, to: Option<Rank>) -> Result<Probed, Failure> {
    let client = client::connect(socket).map_err(|refused| not_connected(socket, refused))?;
    let command = Command::Probe(Probe { path: convert::text(path.as_bytes()), to: to.map(|rank| rank.0) });
    match client.ask(command, &|| false, &mut |_| {}).map_err(Failure::error)? {
        Response::Probed(probed) => Ok(probed),
        other => Err(unexpected(other)),
    }
}

/// Asks the mount for what it has counted.
///
/// # Errors
/// Why it does not answer.
pub fn stats(socket: &Path) -> Result<Snapshot, Failure> {
    let client = client::connect(socket).map_err(|refused| not_connected(socket, refused))?;
    match client.ask(Command::Stats, &|| false, &mut |_| {}).map_err(Failure::error)? {
        Response::Stats(snapshot) => Ok(*snapshot),
        other => Err(unexpected(other)),
    }
}

/// Asks the mount about itself.
///
/// # Errors
/// Why it does not answer.
pub fn info(socket: &Path) -> Result<Info, Failure> {
    let client = client::connect(socket).map_err(|refused| not_connected(socket, refused))?;
    match client.ask(Command::Info, &|| false, &mut |_| {}).map_err(Failure::error)? {
        Response::Info(info) => Ok(info),
        other => Err(unexpected(other)),
    }
}

/// Has the mount mend things; for each why it stays as it was, or none.
///
/// # Errors
/// Why nothing could be mended.
pub fn repair(socket: &Path, items: Vec<Mend>) -> Result<Vec<Option<String>>, Failure> {
    let client = client::connect(socket).map_err(|refused| not_connected(socket, refused))?;
    let command = Command::Repair(Repair { items });
    match client.ask(command, &process::should_stop, &mut |_| {}).map_err(Failure::error)? {
        Response::Repaired(outcomes) => Ok(outcomes),
        other => Err(unexpected(other)),
    }
}

/// A run over these paths with nothing else said.
pub fn plain(what: What, paths: &[UnionPath], dry_run: bool) -> Run {
    let paths = paths.iter().map(|path| convert::text(path.as_bytes())).collect();
    Run {
        what,
        paths,
        limits: Limits::default(),
        order: None,
        verify: None,
        dry_run,
        ignore_window: false,
        scheduled: false,
    }
}

/// A policy file in words for a run.
///
/// # Errors
/// Where it cannot be read.
pub fn policy_file(path: &Path) -> Result<What, Failure> {
    let fail = |line: String| Failure::new(Exit::Config, format!("{}: {line}", path.display()));
    let text = config::load::read(path).map_err(fail)?;
    Ok(What::Policy { origin: convert::text(path.as_os_str().as_bytes()), text })
}

/// Whether a run is at work in the mount, or another command or mount has the tiers.
pub fn is_at_work(target: &Target, roots: &[(Rank, Place)]) -> bool {
    match &target.reach {
        Reach::Mounted { socket, .. } => info(socket).is_ok_and(|info| info.running),
        Reach::Alone(_) => roots.iter().any(|(_, root)| is_locked(root)),
    }
}

fn is_locked(place: &Place) -> bool {
    // The lock is let go of at once.
    matches!(Root::open(place).and_then(|root| root.lock(Duration::ZERO)), Ok(None))
}
