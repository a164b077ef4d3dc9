//! What is there at the moment, for whoever shows numbers.
//!
//! Each tier is asked for its space by a thread of its own, and only when somebody wants to know: a tier
//! that hangs holds up neither who asks nor what is told of the others, and a disk that sleeps is left
//! alone.

use std::sync::{Arc, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::turns::Turns;
use crate::stats::Snapshot;
use crate::stats::Stats;
use crate::stats::snapshot::{Gauges, TierGauge, TierSpace};
use crate::types::attr::Space;
use crate::types::ids::{Ino, Rank};
use crate::union::Union;

/// How long whoever asks waits for a tier; then what it said last is told.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a tier said so recently is told again.
const FRESH: Duration = Duration::from_secs(1);

/// Longer paths of directories are not told.
const PATH_LEN_MAX: usize = 4096;

/// Tells all numbers of a mount.
#[derive(Debug)]
pub(super) struct Numbers {
    stats: Arc<Stats>,
    union: Arc<Union>,
    turns: Arc<Turns>,
    tiers: Vec<Arc<Asked>>,
}

/// What is known of one tier.
#[derive(Debug, Default)]
struct Asked {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: bool,
    ended: bool,
    /// What it said last, and when; none if it is missing or failed.
    said: Option<Space>,
    at: Option<Instant>,
    /// Whether the last answer was no failure.
    answers: bool,
}

impl Drop for Numbers {
    fn drop(&mut self) {
        for asked in &self.tiers {
            asked.state.lock().ended = true;
            asked.changed.notify_all();
        }
    }
}

impl Numbers {
    /// Begins. A thread that cannot be had costs the numbers of its tier.
    pub(super) fn new(stats: &Arc<Stats>, union: &Arc<Union>, turns: &Arc<Turns>) -> Numbers {
        let ranks = (0u8..).map(Rank).take(union.tiers());
        let tiers = ranks.map(|rank| {
            let asked = Arc::new(Asked::default());
            let (there, union) = (Arc::clone(&asked), Arc::downgrade(union));
            let started = Builder::new().name("space".into()).spawn(move || there.answer(&union, rank));
            if let Err(error) = started {
                tracing::warn!(tier = %rank, "its space cannot be told: {error}");
            }
            asked
        });
        let tiers = tiers.collect();
        Numbers { stats: Arc::clone(stats), union: Arc::clone(union), turns: Arc::clone(turns), tiers }
    }

    /// Everything, as of now.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { gauges: self.gauges(), ..self.stats.snapshot(&|ino| self.path(ino)) }
    }

    fn path(&self, ino: Ino) -> Option<String> {
        let path = if ino == Ino::ROOT { "/".into() } else { format!("/{}", self.union.last_path(ino).ok()?) };
        (path.len() <= PATH_LEN_MAX).then_some(path)
    }

    fn gauges(&self) -> Gauges {
        let until = Instant::now() + PATIENCE;
        self.tiers.iter().for_each(|asked| asked.ask());
        let open = self.union.opens();
        Gauges {
            open_files: open.files,
            passthrough_files: open.files.saturating_sub(open.plain),
            inodes: self.union.inodes_known() as u64,
            degraded: self.union.is_degraded(),
            journal_pending: 0,
            running: self.turns.is_taken(),
            tiers: self.tiers.iter().map(|asked| asked.told(until)).collect(),
        }
    }
}

impl Asked {
    /// Asks the tier whenever somebody wants to know, until the mount ends.
    fn answer(&self, union: &Weak<Union>, rank: Rank) {
        loop {
            let mut state = self.state.lock();
            while !state.wanted && !state.ended {
                self.changed.wait(&mut state);
            }
            if state.ended {
                return;
            }
            drop(state);
            let Some(union) = union.upgrade() else { return };
            // This may take as long as the tier likes.
            let said = union.tier_of(rank).and_then(|tier| tier.space());
            drop(union);
            let mut state = self.state.lock();
            state.answers = said.is_ok();
            if let Ok(space) = said {
                state.said = Some(space);
            }
            state.at = Some(Instant::now());
            state.wanted = false;
            drop(state);
            self.changed.notify_all();
        }
    }

    fn ask(&self) {
        let mut state = self.state.lock();
        if state.at.is_none_or(|at| at.elapsed() >= FRESH) {
            state.wanted = true;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// What the tier says until then, or said before.
    fn told(&self, until: Instant) -> TierGauge {
        let mut state = self.state.lock();
        while state.wanted && !self.changed.wait_until(&mut state, until).timed_out() {}
        let age_secs = state.at.map_or(0, |at| at.elapsed().as_secs());
        let space = state.said.map(|space| {
            let unit = u64::from(space.frsize.max(1));
            TierSpace {
                bytes_total: space.blocks.saturating_mul(unit),
                bytes_free: space.bavail.saturating_mul(unit),
                inodes_total: space.files,
                inodes_free: space.ffree,
                age_secs,
            }
        });
        TierGauge { space, present: state.answers && !state.wanted }
    }
}
