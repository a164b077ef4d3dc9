//! The end of a mount, which must come also where something of it never does: a run, a command or the watch
//! whose thread waits inside a tier that does not answer.
//!
//! Once the mount is gone nothing is served any more, and all that is left to do is waiting. Whoever waits says
//! for what; a thread of its own sees whether that goes on, and ends the process where it does not. That is a
//! crash without anybody to notice: what was cut short is on record and is brought to rest by the next mount.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::FAILED;
use super::tending::Shared;
use crate::sys::mount;
use crate::tier::guarded::calls;

/// How long nothing may go on where a tier is away: what is waited for is most likely waiting for it.
const PATIENCE_AWAY: Duration = Duration::from_secs(5);

/// The same where all tiers are there, and one may only be slow. `tierfs umount` and the systemd unit wait for
/// the process for 60 s, and by then it must have said why it has ended.
const PATIENCE: Duration = Duration::from_secs(45);

/// Between two looks.
const TICK: Duration = Duration::from_millis(500);

/// What is waited for, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Wait {
    #[default]
    Request,
    Metrics,
    Command,
    OwnRun,
    Tending,
    Watch,
    Tiers,
}

impl Wait {
    fn words(self) -> &'static str {
        match self {
            Wait::Request => "a request",
            Wait::Metrics => "whoever asks for metrics",
            Wait::Command => "a command",
            Wait::OwnRun => "a run of the mount's own",
            Wait::Tending => "the thread that looks after the tiers",
            Wait::Watch => "the watch of changes beside the mount",
            Wait::Tiers => "the end of what is open on the tiers",
        }
    }

    /// What goes on of it: another value than before where anything does.
    fn stirring(self) -> u64 {
        let calls = match self {
            // Others may ask the tiers meanwhile: that is nothing of what is waited for.
            Wait::Request => calls::at_work().into_iter().filter(|call| call.request != 0).collect(),
            _ => calls::under_way(),
        };
        let begun = if self == Wait::Request { 0 } else { calls::begun() };
        BuildHasherDefault::<DefaultHasher>::default().hash_one((begun, calls))
    }
}

/// What is waited for at the end. Over when dropped.
#[derive(Debug, Default)]
pub(super) struct Ending {
    waits_for: Arc<Mutex<Wait>>,
    begun: Mutex<Option<Sender<()>>>,
}

impl Ending {
    /// The mount is gone.
    pub(super) fn begin(&self, shared: &Arc<Shared>) {
        let mut begun = self.begun.lock();
        if begun.is_some() {
            return;
        }
        let (over, is_over) = channel();
        *begun = Some(over);
        drop(begun);
        let mountpoint = shared.config.mountpoint.clone();
        let all = shared;
        let (shared, waits_for) = (Arc::downgrade(shared), Arc::clone(&self.waits_for));
        let look = move || {
            let Some(line) = watch(&shared, &waits_for, &is_over) else { return };
            // What has failed while the mount is still there has been said.
            let failed = mount::is_mounted(&mountpoint);
            tracing::warn!("{line}");
            crate::log::flush();
            std::process::exit(if failed { i32::from(FAILED) } else { 0 });
        };
        if let Err(error) = std::thread::Builder::new().name("tierfs-end".into()).spawn(look) {
            tracing::warn!("the end of the mount may take long: no thread could be started: {error}");
        }
        // These would go on asking the tiers, for nobody.
        all.seats.end();
        all.forgetter.disconnect();
    }

    /// This comes next.
    pub(super) fn waits_for(&self, what: Wait) {
        *self.waits_for.lock() = what;
    }
}

/// Looks until the end is there, or is not coming: then the line that says so.
fn watch(shared: &Weak<Shared>, waits_for: &Mutex<Wait>, is_over: &Receiver<()>) -> Option<String> {
    let (mut seen, mut since, mut tiers) = (None, Instant::now(), Tiers::default());
    loop {
        match is_over.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
        }
        let what = *waits_for.lock();
        let now = Some((what, what.stirring()));
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        if let Some(shared) = shared.upgrade() {
            tiers = Tiers::of(&shared);
        }
        let waited = since.elapsed();
        if waited >= tiers.patience() {
            return Some(tiers.line(what.words(), waited));
        }
    }
}

/// The tiers, as they are seen at the end.
#[derive(Debug, Default)]
struct Tiers {
    /// Those that are away.
    away: Vec<String>,
    /// Those inside of which calls are.
    called: Vec<String>,
}

impl Tiers {
    fn of(shared: &Shared) -> Tiers {
        let missing = shared.union.missing();
        let named = |rank: crate::types::ids::Rank, path: &str| format!("the {rank} ({path})");
        let mut tiers = Tiers::default();
        for (rank, path, called) in shared.seats.called() {
            if missing.has(rank) {
                tiers.away.push(named(rank, &path));
            }
            if called {
                tiers.called.push(named(rank, &path));
            }
        }
        tiers
    }

    fn patience(&self) -> Duration {
        if self.away.is_empty() { PATIENCE } else { PATIENCE_AWAY }
    }

    fn line(&self, what: &str, waited: Duration) -> String {
        let tiers = if self.called.is_empty() { &self.away } else { &self.called };
        let which = if tiers.is_empty() { "no tier".to_owned() } else { tiers.join(" and ") };
        format!(
            "unmounted, but {what} has been waiting for {} s, for {which}: that is given up, and the process ends. What was cut short is brought to rest at the next mount",
            waited.as_secs()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_what_waits_and_for_which_tier() {
        let one = |name: &str| vec![name.to_owned()];
        let away = Tiers { away: one("the secondary (/slow)"), called: Vec::new() };
        assert_eq!(away.patience(), PATIENCE_AWAY);
        assert!(
            away.line("a run", PATIENCE_AWAY).contains("a run has been waiting for 5 s, for the secondary (/slow)")
        );
        let slow = Tiers { away: Vec::new(), called: one("the primary (/fast)") };
        assert_eq!(slow.patience(), PATIENCE);
        assert!(slow.line("a run", PATIENCE).contains("for the primary (/fast)"));
    }
}
