//! How the mount and its tiers are, for `tierfs status`.
//!
//! Whoever asks is answered within [`PATIENCE`], also while a tier hangs: each tier is asked by a thread of its own,
//! and one that has not come back is not asked again meanwhile.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::turns::Turns;
use super::{Standing, hours, work};
use crate::config::{self, MountConfig};
use crate::control::convert;
use crate::control::status::{
    self, Mark, MinFree, Next, Own, Status, TierSpace, TierState, TierStatus, Watching, Written, WrittenEnd,
};
use crate::control::wire::{Closed, Text};
use crate::migrate::manifest::{self, Line, PROMOTIONS};
use crate::policy::window::Window;
use crate::policy::{Policy, Promotion, watermark};
use crate::sys::mountinfo;
use crate::tier::Found;
use crate::types::attr::Space;
use crate::types::errno::Result;
use crate::types::health::{Condition, Health, Held};
use crate::types::ids::Rank;
use crate::types::units;
use crate::union::{self, Union};

/// How long a tier may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where records of moves, records of renames, and contents without a name are.
const MOVES: &str = "moves";
const RENAMES: &str = "renames";
const LOST: &str = "lost";

/// What does not change while the mount serves.
#[derive(Debug)]
pub(super) struct Facts {
    mountpoint: Text,
    device: Option<(u32, u32)>,
    since: u64,
    config: Option<Text>,
    read_only: bool,
    tiers: Vec<TierFacts>,
}

#[derive(Debug)]
struct TierFacts {
    path: Text,
    filesystem: Option<String>,
    encrypted: bool,
    watch: Watching,
    min_free: config::MinFree,
}

impl Facts {
    /// Where it was mounted.
    pub(super) fn mountpoint(&self) -> &Text {
        &self.mountpoint
    }

    /// Of a mount that begins to serve; `watch` by rank.
    pub(super) fn new(config: &MountConfig, watch: &[Watching]) -> Facts {
        let mounts = mountinfo::read().unwrap_or_default();
        let text = |path: &Path| convert::text(path.as_os_str().as_bytes());
        let kind = |path: &Path| {
            let real = path.canonicalize().ok()?;
            let mount = real.ancestors().find_map(|above| mountinfo::at(&mounts, above))?;
            Some(mount.kind.to_string_lossy().into_owned())
        };
        let tier = |(tier, watch): (&config::TierConfig, &Watching)| TierFacts {
            path: text(&tier.path),
            filesystem: kind(&tier.path),
            encrypted: tier.encryption.is_some(),
            watch: *watch,
            min_free: tier.min_free,
        };
        Facts {
            mountpoint: text(&config.mountpoint),
            device: mountinfo::at(&mounts, &config.mountpoint).map(|mount| mount.device),
            since: work::now(),
            config: config.file.as_deref().map(text),
            read_only: config.options.read_only,
            tiers: config.tiers.iter().zip(watch).map(tier).collect(),
        }
    }
}

/// What a tier answers.
#[derive(Debug)]
struct Answer {
    space: Result<Space>,
    own: Option<Own>,
    written: Option<Written>,
}

/// Since when each tier is being asked, by rank.
#[derive(Debug)]
pub(super) struct Asked {
    since: Arc<Vec<Mutex<Option<Instant>>>>,
    /// Held by the one that asks; it does so for [`PATIENCE`] at most.
    asking: Mutex<()>,
}

/// What has become of asking a tier.
enum Outcome {
    Missing,
    Silent(Duration),
    Told(Box<Answer>),
}

impl Asked {
    pub(super) fn new(tiers: usize) -> Asked {
        Asked { since: Arc::new((0..tiers).map(|_| Mutex::default()).collect()), asking: Mutex::default() }
    }

    /// Asks every tier, with `ask` on a thread for each; by rank.
    fn all(
        &self,
        is_there: impl Fn(Rank) -> bool,
        ask: impl Fn(Rank) -> Answer + Clone + Send + 'static,
    ) -> Vec<Outcome> {
        let _alone = self.asking.lock();
        let (answers, told) = mpsc::channel();
        let mut open = 0;
        for (rank, since) in (0u8..).map(Rank).zip(self.since.iter()) {
            let mut busy = since.lock();
            if !is_there(rank) || busy.is_some() {
                continue;
            }
            let (answers, ask, all) = (answers.clone(), ask.clone(), Arc::clone(&self.since));
            let thread = std::thread::Builder::new().name("status".into()).spawn(move || {
                let answer = ask(rank);
                if let Some(since) = all.get(rank.index()) {
                    *since.lock() = None;
                }
                // Nobody may wait for it any more.
                let _ = answers.send((rank, answer));
            });
            if thread.is_ok() {
                *busy = Some(Instant::now());
                open += 1;
            }
        }
        let mut by_rank: Vec<Option<Box<Answer>>> = self.since.iter().map(|_| None).collect();
        let until = Instant::now() + PATIENCE;
        for _ in 0..open {
            let Ok((rank, answer)) = told.recv_timeout(until.saturating_duration_since(Instant::now())) else { break };
            if let Some(slot) = by_rank.get_mut(rank.index()) {
                *slot = Some(Box::new(answer));
            }
        }
        let outcome = |(at, answer): (Rank, Option<Box<Answer>>)| match answer {
            Some(answer) => Outcome::Told(answer),
            None if !is_there(at) => Outcome::Missing,
            None => {
                let since = self.since.get(at.index()).and_then(|since| *since.lock());
                Outcome::Silent(since.map_or(Duration::ZERO, |since| since.elapsed()))
            }
        };
        (0u8..).map(Rank).zip(by_rank).map(outcome).collect()
    }
}

/// All that there is to tell.
pub(super) fn told(facts: &Facts, asked: &Asked, union: &Arc<Union>, standing: &Standing, turns: &Turns) -> Status {
    let is_there = |rank: Rank| union.tier_of(rank).is_ok();
    let of = Arc::clone(union);
    let outcomes = asked.all(is_there, move |rank| ask(&of, rank));
    let healths = union.health();
    let mut written = None;
    let mut tiers = Vec::new();
    for ((rank, tier), outcome) in (0u8..).zip(&facts.tiers).zip(outcomes) {
        let health = healths.get(usize::from(rank));
        let (state, since, why) = condition(health, &outcome);
        let (mut space, mut own) = (None, None);
        if let Outcome::Told(answer) = outcome {
            written = written.or(answer.written);
            space = answer.space.ok().map(|space| space_of(&space, tier.min_free));
            own = answer.own;
        }
        tiers.push(TierStatus {
            rank,
            path: tier.path.clone(),
            filesystem: tier.filesystem.clone(),
            encrypted: tier.encrypted,
            state,
            since: since.or(Some(facts.since)),
            why,
            times_gone: health.map_or(0, |health| health.times_gone),
            watch: tier.watch,
            min_free: match tier.min_free {
                config::MinFree::Bytes(bytes) => MinFree::Bytes(bytes),
                config::MinFree::Percent(percent) => MinFree::Percent(percent),
            },
            space,
            own,
        });
    }
    let (running, last) = turns.work.told();
    Status {
        mountpoint: facts.mountpoint.clone(),
        device: facts.device,
        since: facts.since,
        pid: std::process::id(),
        program: env!("CARGO_PKG_VERSION").into(),
        config: facts.config.clone(),
        read_only: facts.read_only,
        tiers,
        policy: standing.path().map(|path| convert::text(path.as_os_str().as_bytes())),
        refused: standing.refused(),
        running,
        last,
        written,
        held: union.held().map(held),
        next: next(&standing.policy(), standing),
    }
}

fn held(held: Held) -> status::Held {
    status::Held {
        files: held.files,
        since: seconds(held.since).unwrap_or(0),
        ranks: held.tiers.iter().map(|rank| rank.0).collect(),
        why: held.errno.to_string(),
    }
}

/// How a tier is, since when where that is another time than the mount's own, and what was found: as the
/// union has seen it, or as it answers now.
fn condition(health: Option<&Health>, outcome: &Outcome) -> (TierState, Option<u64>, String) {
    if let Some(health) = health.filter(|health| !health.condition.is_serving()) {
        let state = match health.condition {
            Condition::Missing | Condition::Serving => TierState::Missing,
            Condition::Failed => TierState::Failed,
            Condition::Silent => TierState::Silent,
        };
        return (state, seconds(health.since), health.reason.clone());
    }
    match outcome {
        Outcome::Missing => (TierState::Missing, None, "was not there when the mount began".into()),
        Outcome::Silent(time) => {
            let since = work::now().saturating_sub(time.as_secs());
            (TierState::Silent, Some(since), "does not answer when it is asked for its space".into())
        }
        Outcome::Told(answer) => match answer.space {
            Ok(_) => (TierState::Serving, health.and_then(|health| seconds(health.since)), String::new()),
            Err(errno) => (TierState::Failed, Some(work::now()), format!("asked for its space: {errno}")),
        },
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

fn space_of(space: &Space, min_free: config::MinFree) -> TierSpace {
    let usage = watermark::Usage::of(space);
    let keep = match min_free {
        config::MinFree::Bytes(bytes) => union::MinFree::Bytes(bytes),
        config::MinFree::Percent(percent) => union::MinFree::Percent(percent),
    };
    TierSpace {
        used: usage.used,
        total: usage.total,
        free: space.bavail.saturating_mul(u64::from(space.frsize)),
        low: union::is_low(space, keep),
        inodes: (space.files > 0).then_some((space.files, space.ffree)),
    }
}

/// May take as long as the tier takes.
fn ask(union: &Union, rank: Rank) -> Answer {
    let space = union.tier_of(rank).and_then(|tier| tier.space());
    let written = if rank == Rank::PRIMARY { written(union) } else { None };
    Answer { space, own: own(union, rank).ok(), written }
}

fn own(union: &Union, rank: Rank) -> Result<Own> {
    let mut own = Own::default();
    let mut oldest: Option<i64> = None;
    for (name, records) in [(MOVES, &mut own.moves), (RENAMES, &mut own.renames), (LOST, &mut own.lost)] {
        let Some(dir) = union.own_dir_if_any(rank, name)? else { continue };
        dir.survey(&mut |entry| {
            *records += 1;
            if let (Ok(Found::File(stat)), true) = (&entry.what, name != LOST) {
                oldest = Some(oldest.map_or(stat.mtime.sec, |oldest| oldest.min(stat.mtime.sec)));
            }
            ControlFlow::Continue(())
        })?;
    }
    own.oldest = oldest.and_then(|oldest| u64::try_from(oldest).ok());
    Ok(own)
}

/// The newest run that is written down and is not a day's promotions.
fn written(union: &Union) -> Option<Written> {
    let root = union.tier_of(Rank::PRIMARY).ok()?.root();
    let runs = manifest::runs(root.as_ref()).ok()?;
    let run = runs.into_iter().rev().find(|run| !run.ends_with(PROMOTIONS))?;
    let (first, last) = manifest::ends(root.as_ref(), &run).ok()?;
    let (started, what) = match first {
        Some(Line::Begin { started, command, .. }) => (started, command),
        _ => (0, String::new()),
    };
    let end = last.and_then(|last| match last {
        Line::End { done, moved, bytes, failed, took_ms, .. } => {
            Some(WrittenEnd { done, moved: (moved, bytes), failed, took: Duration::from_millis(took_ms) })
        }
        Line::Begin { .. } | Line::File { .. } => None,
    });
    Some(Written { run, started, what, end })
}

fn next(policy: &Policy, standing: &Standing) -> Next {
    let marks = policy.watermarks.iter().map(|mark| Mark { rank: mark.tier.0, high: mark.high, low: mark.low });
    let promotes = match policy.promote {
        Promotion::Never => None,
        Promotion::Write => Some("files that have been written".to_owned()),
        Promotion::Reads { count, within } => {
            Some(format!("files opened {count} times within {}", units::show_duration(within)))
        }
    };
    let closed = policy.window.as_ref().and_then(|window| window.closed(hours::now()?));
    let origin = standing.path().map(|path| convert::text(path.as_os_str().as_bytes()));
    let closed = closed.map(|closed| Closed {
        window: closed.window,
        origin: origin.unwrap_or_else(|| convert::text(b"the policy")),
        opens: closed.opens.to_string(),
        wait: closed.wait,
    });
    Next { watermarks: marks.collect(), promotes, window: policy.window.as_ref().map(Window::text), closed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::errno::Errno;

    fn answer() -> Answer {
        Answer { space: Err(Errno::EIO), own: None, written: None }
    }

    fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
        let word = |outcome: &Outcome| match outcome {
            Outcome::Missing => "missing",
            Outcome::Silent(_) => "silent",
            Outcome::Told(_) => "told",
        };
        outcomes.iter().map(word).collect()
    }

    /// Asks again while a thread that answers at once has not come to run.
    #[track_caller]
    fn become_words(wanted: [&str; 3], ask: impl Fn() -> Vec<Outcome>) {
        let late = (0..30).find(|_| words(&ask()) == wanted);
        assert!(late.is_some(), "never {wanted:?}");
    }

    #[test]
    fn a_tier_that_hangs_keeps_no_other_from_answering_and_is_asked_once() {
        let asked = Asked::new(3);
        let (let_go, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let hang = Arc::clone(&held);
        let first = move |rank| {
            if rank == Rank(1) {
                let _ = hang.lock().recv();
            }
            answer()
        };
        become_words(["told", "silent", "missing"], || asked.all(|rank| rank != Rank(2), first.clone()));
        let again = |rank| if rank == Rank(1) { panic!("asked twice") } else { answer() };
        become_words(["told", "silent", "told"], || asked.all(|_| true, again));
        drop(let_go);
        while asked.since[1].lock().is_some() {
            std::thread::yield_now();
        }
        become_words(["told", "told", "told"], || asked.all(|_| true, |_| answer()));
    }
}
