//! What a mount does by itself: it follows its policy file, makes room on tiers that are too full, and
//! promotes files that are used.
//!
//! One thread, which sleeps until there is something to do. Every move is a run of the one engine, and
//! takes turns with the commands ([`super::turns`]); what to do when is decided in
//! [`crate::policy::schedule`]. `standing.rs` has the policy in force, `uses.rs` the files that are
//! used, `room.rs` the tiers that are too full, `background.rs` what runs have in common.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::turns::Turns;
use crate::daemon::runs::Engine;
use crate::policy::Policy;
use crate::union::Union;
use crate::watch::file;

mod background;
mod promote;
mod room;
mod signal;
mod standing;
mod uses;

use background::Background;
use promote::Promoter;
use room::Rooms;
use signal::{Signal, Woken};
pub(super) use standing::Standing;
pub use standing::check_policy;
use uses::Used;

/// How often the policy file is looked at where its changes are told, and where they are not.
const POLL_TOLD: Duration = Duration::from_secs(30);
const POLL_UNTOLD: Duration = Duration::from_secs(3);

/// While the window of the policy is closed.
const CLOSED_NAP: Duration = Duration::from_secs(5);

/// Works until dropped; then it stops what is at work and waits for it.
#[derive(Debug)]
pub(super) struct Auto {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
    _watch: Option<file::FileWatch>,
}

impl Drop for Auto {
    fn drop(&mut self) {
        self.signal.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there has been told, and the mount ends anyway.
            let _ended = thread.join();
        }
    }
}

impl Auto {
    /// Has what is at work stop, and nothing begin any more.
    pub(super) fn stop(&self) {
        self.signal.stop();
    }

    /// Begins, where there is a policy to follow. Without it the mount serves as well, so what is in the
    /// way is only logged.
    pub(super) fn start(
        standing: &Arc<Standing>,
        union: &Arc<Union>,
        turns: &Arc<Turns>,
        engine: Engine,
    ) -> Option<Auto> {
        // Where a tier is away files move once it is back.
        if standing.path().is_none() && !standing.promotes_writes(&standing.policy()) || union.settings().read_only {
            return None;
        }
        let signal = Arc::new(Signal::default());
        let waker = Arc::clone(&signal);
        let watch = standing.path().and_then(|path| file::start(path, move || waker.file_changed()));
        let used = Arc::new(Used::new(Arc::downgrade(union), Arc::clone(&signal)));
        standing.followed_by(&used);
        // Before the first request: the thread may be late.
        let followed = standing.policy();
        used.follow(&followed, standing.promotes_writes(&followed));
        union.observe(Box::new(Arc::clone(&used)));
        let background =
            Background { union: Arc::clone(union), turns: Arc::clone(turns), signal: Arc::clone(&signal), engine };
        let poll = if watch.is_some() { POLL_TOLD } else { POLL_UNTOLD };
        let standing = Arc::clone(standing);
        let promoter = Promoter::new(Arc::clone(&used));
        let worker = Worker { background, standing, followed, poll, used, promoter, rooms: Rooms::default() };
        let thread = std::thread::Builder::new().name("auto".into()).spawn(move || worker.run());
        match thread {
            Ok(thread) => Some(Auto { signal, thread: Some(thread), _watch: watch }),
            Err(error) => {
                tracing::warn!("this mount moves nothing by itself: {error}");
                None
            }
        }
    }
}

struct Worker {
    background: Background,
    standing: Arc<Standing>,
    /// The policy that `used` and `rooms` know.
    followed: Arc<Policy>,
    poll: Duration,
    used: Arc<Used>,
    promoter: Promoter,
    rooms: Rooms,
}

impl Worker {
    fn run(mut self) {
        let started = Instant::now();
        // What happened between the start and the watch.
        let mut looked = None;
        loop {
            let policy = self.standing.policy();
            // A command may have read it, too.
            if !Arc::ptr_eq(&self.followed, &policy) {
                self.follow(&policy);
            }
            let next = match self.background.allowance(&policy) {
                Some(_) => {
                    let promotion = self.promoter.go(&self.background, &policy);
                    let room = self.rooms.go(&self.background, &policy, started.elapsed());
                    promotion.min(room)
                }
                None => CLOSED_NAP,
            };
            let file_due = looked.map_or(Duration::ZERO, |then: Instant| self.poll.saturating_sub(then.elapsed()));
            let woken = self.background.signal.wait(next.min(file_due));
            if woken == Woken::Stop {
                return;
            }
            if woken == Woken::File || file_due.is_zero() || looked.is_none_or(|then| then.elapsed() >= self.poll) {
                looked = Some(Instant::now());
                self.standing.refresh();
            }
        }
    }

    /// Begins anew with the policy in force.
    fn follow(&mut self, policy: &Arc<Policy>) {
        self.rooms = Rooms::default();
        self.used.follow(policy, self.standing.promotes_writes(policy));
        self.followed = Arc::clone(policy);
    }
}
