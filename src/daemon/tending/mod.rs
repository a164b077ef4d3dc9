//! Looks after the tiers while they are served: finds out whether one that gives errors is gone, gives it
//! up, and takes it in again when it is back.
//!
//! One thread decides. It never calls into a tier itself: what may wait for a disk or a server is done by
//! threads of their own, one a tier at a time, which send what they have found.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ending::Ending;
use super::out_of_band::Forgetter;
use super::tiers::Opened;
use super::turns::Turns;
use crate::config::MountConfig;
use crate::fuse::Spare;
use crate::sys::fanotify::{filesystem_of, is_remote};
use crate::sys::overlap::{self, Spot};
use crate::tier::Tier;
use crate::tier::guarded::proof::Proof;
use crate::tier::guarded::{Guard, Guarded, Insiders};
use crate::tier::marker::{Id, Marker};
use crate::tier::place::Place;
use crate::types::health::Condition;
use crate::types::ids::Rank;
use crate::union::Union;
use crate::watch::Watch;

mod back;
mod probe;
mod silence;

use silence::Silence;

/// How often the thread looks without being told of anything.
const TICK: Duration = Duration::from_secs(1);

/// A tier is asked so often whether it is there also where nobody complains: programs may find what they
/// read of a dead disk in memory. What is asked for is in memory as well, so that no disk has to start for it.
const ASKED_EACH: Duration = Duration::from_secs(3);

/// A tier that gives errors and answers all the same is asked again no sooner than after this.
const PROBE_EACH: Duration = Duration::from_secs(1);

/// Between two looks for a tier that is away: shorter first.
const LOOK_EACH: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Event {
    /// A tier gave an error that a dead one would give.
    Suspect(Rank),
    /// A tier was asked: what keeps it from answering as it should.
    Probed(Rank, Result<(), String>),
    /// A tier was looked for: why it is still away, or nothing worth telling.
    Looked(Rank, Result<(), Option<String>>),
    /// The mount ends.
    End,
}

/// One tier in its place.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) guarded: Arc<Guarded>,
    /// What holds the instance that is there: lock and roots.
    opened: Mutex<Option<Arc<Opened>>>,
    /// Its marker, once it was seen.
    marker: Mutex<Option<Marker>>,
    suspected: Arc<AtomicBool>,
    /// Who is inside of all instances that there were.
    insiders: Mutex<Vec<Insiders>>,
}

impl Seat {
    /// Whether a call or a close is inside any instance that there was.
    fn is_called(&self) -> bool {
        self.insiders.lock().iter().any(Insiders::any)
    }
}

/// The places of all tiers, and how they tell.
#[derive(Debug)]
pub(super) struct Seats {
    seats: Vec<Seat>,
    mountpoint: Option<Spot>,
    events: Sender<Event>,
    told: Mutex<Option<Receiver<Event>>>,
}

impl Seats {
    /// For the tiers of a mount, of which those are there that are `opened`.
    pub(super) fn new(config: &MountConfig, opened: Vec<Option<Opened>>) -> Seats {
        let (events, told) = channel();
        let seats = Seats {
            seats: config
                .tiers
                .iter()
                .map(|tier| Seat {
                    guarded: Arc::new(Guarded::new(tier.path.clone())),
                    opened: Mutex::new(None),
                    marker: Mutex::new(None),
                    suspected: Arc::new(AtomicBool::new(false)),
                    insiders: Mutex::default(),
                })
                .collect(),
            mountpoint: overlap::mountpoint(&config.mountpoint),
            events,
            told: Mutex::new(Some(told)),
        };
        for (rank, opened) in (0u8..).map(Rank).zip(opened) {
            if let Some(opened) = opened {
                seats.install(rank, &opened);
                seats.keep(rank, opened);
            }
        }
        seats
    }

    /// The tiers, as the union has them.
    pub(super) fn tiers(&self) -> impl Iterator<Item = Arc<dyn Tier>> + '_ {
        self.seats.iter().map(|seat| Arc::clone(&seat.guarded) as Arc<dyn Tier>)
    }

    /// Keeps what holds the instance.
    fn keep(&self, rank: Rank, opened: Opened) {
        if let Some(seat) = self.at(rank) {
            *seat.opened.lock() = Some(Arc::new(opened));
        }
    }

    /// What holds the instances that are there.
    pub(super) fn opened(&self) -> Vec<Option<Arc<Opened>>> {
        self.seats.iter().map(|seat| seat.opened.lock().clone()).collect()
    }

    /// Of which union they are.
    pub(super) fn union_id(&self) -> Option<Id> {
        self.markers().iter().flatten().next().map(|marker| marker.union)
    }

    /// Each tier, where it is, and whether a call is inside any instance of it that there was.
    pub(super) fn called(&self) -> impl Iterator<Item = (Rank, String, bool)> + '_ {
        let seats = (0u8..).map(Rank).zip(&self.seats);
        seats.map(|(rank, seat)| (rank, seat.guarded.path_text(), seat.is_called()))
    }

    /// The mount is gone: no tier is looked for any more.
    pub(super) fn end(&self) {
        // Whoever would hear it has ended before.
        let _ended = self.events.send(Event::End);
    }

    fn at(&self, rank: Rank) -> Option<&Seat> {
        self.seats.get(rank.index())
    }

    fn install(&self, rank: Rank, opened: &Opened) {
        let Some(seat) = self.at(rank) else { return };
        *seat.marker.lock() = Some(opened.marker);
        let (events, suspected) = (self.events.clone(), Arc::clone(&seat.suspected));
        let suspect = move || {
            if !suspected.swap(true, Ordering::Relaxed) {
                // The thread that would hear it ends with the mount.
                let _ended = events.send(Event::Suspect(rank));
            }
        };
        // Of a server's files the kernel would wait for the server past tierfs, without a bound.
        let remote = filesystem_of(opened.watched()).is_ok_and(|(_, kind)| is_remote(kind));
        let proof = remote.then(|| Proof::new(opened.tier.as_ref(), opened.marker.tier));
        let guard = Guard::new(proof, suspect);
        seat.insiders.lock().push(guard.insiders());
        seat.guarded.install(Arc::clone(&opened.tier), guard);
    }

    /// Where the tiers are that are there, and the mount point.
    fn spots(&self) -> Vec<Spot> {
        let opened = self.opened();
        let tiers = opened.iter().flatten().filter_map(|opened| opened.spot().cloned());
        tiers.chain(self.mountpoint.clone()).collect()
    }

    fn markers(&self) -> Vec<Option<Marker>> {
        self.seats.iter().map(|seat| *seat.marker.lock()).collect()
    }
}

/// What the threads share.
pub(super) struct Shared {
    pub(super) config: MountConfig,
    pub(super) places: Vec<Place>,
    pub(super) seats: Arc<Seats>,
    pub(super) union: Arc<Union>,
    pub(super) forgetter: Arc<Forgetter>,
    pub(super) turns: Arc<Turns>,
    pub(super) watch: Mutex<Option<Arc<Watch>>>,
    /// Once the mount serves.
    pub(super) spare: OnceLock<Spare>,
    /// Last: it is over when all that is before it has been dropped.
    pub(super) ending: Ending,
}

/// The thread that looks after the tiers. Ends when dropped.
pub(super) struct Tending {
    events: Sender<Event>,
    thread: Option<JoinHandle<()>>,
}

impl Tending {
    /// Starts it.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<Tending> {
        let events = shared.seats.events.clone();
        let told = shared.seats.told.lock().take();
        let told = told.ok_or_else(|| std::io::Error::other("the tiers are looked after already"))?;
        let keeper = Keeper {
            looks: shared.seats.seats.iter().map(|_| Look::default()).collect(),
            silence: Silence::new(&shared),
            shared,
        };
        let thread = std::thread::Builder::new().name("tierfs-tiers".into()).spawn(move || keeper.run(&told))?;
        Ok(Tending { events, thread: Some(thread) })
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        let _ended = self.events.send(Event::End);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that looks after the tiers panicked: please report this");
        }
    }
}

/// What is known of one tier.
#[derive(Debug, Default)]
struct Look {
    /// It gave an error since it was asked last.
    suspected: bool,
    /// Since when a thread asks it, or looks for it.
    busy: Option<Instant>,
    /// Whether it is asked, and not looked for.
    probing: bool,
    /// Since when it is known that it does not answer in time.
    late: Option<Instant>,
    /// It was given up because it does not answer, and may answer again.
    silent: bool,
    /// Not before then.
    next: Option<Instant>,
    /// When it last answered.
    asked: Option<Instant>,
    /// Looked for in vain so often.
    vain: usize,
    /// Why it is away, as was told last.
    told: Option<String>,
}

/// The thread itself.
struct Keeper {
    shared: Arc<Shared>,
    looks: Vec<Look>,
    silence: Silence,
}

impl Keeper {
    fn run(mut self, told: &Receiver<Event>) {
        let mut waiting = VecDeque::new();
        loop {
            match told.recv_timeout(TICK) {
                // All that has come: whose answer waits here is not silent.
                Ok(event) => waiting.extend(std::iter::once(event).chain(told.try_iter())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some(event) = waiting.pop_front() {
                if matches!(event, Event::End) {
                    return;
                }
                self.hear(event);
            }
            self.hear_silence();
            for rank in (0u8..).map(Rank).take(self.looks.len()) {
                self.look(rank);
            }
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Suspect(rank) => self.with(rank, |look| look.suspected = true),
            Event::Probed(rank, Ok(())) => self.with(rank, |look| {
                look.busy = None;
                look.next = Some(Instant::now() + PROBE_EACH);
                look.asked = Some(Instant::now());
            }),
            Event::Probed(rank, Err(reason)) => {
                self.with(rank, |look| *look = Look { told: Some(reason.clone()), ..Look::default() });
                self.shared.lose(rank, Condition::Failed, &reason);
            }
            Event::Looked(rank, Ok(())) => self.with(rank, |look| *look = Look::default()),
            Event::Looked(rank, Err(reason)) => self.still_away(rank, reason),
            Event::End => {}
        }
    }

    fn with(&mut self, rank: Rank, act: impl FnOnce(&mut Look)) {
        if let Some(look) = self.looks.get_mut(rank.index()) {
            act(look);
        }
    }

    fn still_away(&mut self, rank: Rank, reason: Option<String>) {
        let Some(look) = self.looks.get_mut(rank.index()) else { return };
        look.busy = None;
        let pause = LOOK_EACH.get(look.vain).or(LOOK_EACH.last()).copied().unwrap_or(TICK);
        look.next = Some(Instant::now() + pause);
        look.vain += 1;
        // Once, and again only when it is something else.
        if let Some(reason) = reason.filter(|reason| look.told.as_ref() != Some(reason)) {
            tracing::warn!(tier = %rank, "still away: {reason}");
            self.shared.union.explain_missing(rank, &reason);
            look.told = Some(reason);
        }
    }

    /// Has the tier asked or looked for, if it is time.
    fn look(&mut self, rank: Rank) {
        let Some(look) = self.looks.get_mut(rank.index()) else { return };
        if look.busy.is_some() || look.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let missing = self.shared.union.missing().has(rank);
        let due = look.asked.is_none_or(|asked| asked.elapsed() >= ASKED_EACH);
        if !missing && !look.suspected && !due {
            return;
        }
        let thorough = std::mem::take(&mut look.suspected);
        if let Some(seat) = self.shared.seats.at(rank) {
            seat.suspected.store(false, Ordering::Relaxed);
        }
        let silent = look.silent;
        let started = self.shared.in_thread(move |shared| {
            let found = if missing && silent {
                shared.answers_again(rank)
            } else if missing {
                Event::Looked(rank, shared.bring_back(rank))
            } else {
                Event::Probed(rank, shared.find_fault(rank, thorough))
            };
            let _ended = shared.seats.events.send(found);
        });
        look.busy = started.then(Instant::now);
        look.probing = !missing;
    }
}

impl Shared {
    /// Does something that may wait for a tier. `false` if no thread can be had.
    fn in_thread(self: &Arc<Shared>, act: impl FnOnce(&Arc<Shared>) + Send + 'static) -> bool {
        let shared = Arc::clone(self);
        std::thread::Builder::new().name("tierfs-tier".into()).spawn(move || act(&shared)).is_ok()
    }

    /// Gives a tier up.
    fn lose(self: &Arc<Shared>, rank: Rank, condition: Condition, reason: &str) {
        let Some(seat) = self.seats.at(rank) else { return };
        let instance = seat.guarded.remove();
        let closing = self.union.lose(rank, condition, reason, false);
        let opened = seat.opened.lock().take();
        tracing::error!(tier = %rank, "{condition}: {reason}. Its files answer with input/output errors, and names cannot be changed, until it is back at its path");
        // Closing what is open there, and telling the kernel, may wait for others, and not for each other: the
        // lock must go for the tier to come back.
        let closed = self.in_thread(move |_| drop((opened, instance, closing)));
        let told = self.in_thread(move |shared| {
            shared.forgetter.gone(rank);
            shared.watch_again();
        });
        if !closed || !told {
            tracing::warn!("no thread could be started: what is known of the tier may be shown for a while");
        }
    }
}

#[cfg(test)]
mod tests;
