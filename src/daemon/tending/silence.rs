//! Tiers that do not answer: a server that is gone, a disk that hangs.
//!
//! A call into such a tier may never come back, and its thread with it. Three things follow. The tier is
//! asked by a thread that may be lost; if that has no answer in time, the tier is given up: its guard
//! answers every new call with EIO. Requests whose threads wait inside are answered in their place. And
//! while threads that serve requests are inside a tier for long, there are always others to read the next.
//!
//! The instance stays open: it may answer again, and then all that was open on it is good again. But only
//! when no call is inside any more: what was begun before comes to its end while names cannot be changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Event, Keeper, Shared, TICK};
use crate::tier::guarded::calls::{self, Call};
use crate::types::health::Condition;
use crate::types::ids::Rank;

/// A call that takes longer has the tier asked, and its thread replaced.
const LONG: Duration = TICK;

/// Threads that are added at a time, and at most in all.
const ADDED: usize = 8;
const ADDED_MAX: usize = 256;

/// With so many requests inside a tier that does not answer, no more are let in.
const INSIDE_MAX: usize = ADDED_MAX / 2;

/// Calls that are under way, and the threads there are.
#[derive(Debug)]
pub(super) struct Silence {
    seen: HashMap<Call, Instant>,
    threads: usize,
    threads_most: usize,
    timeout: Option<Duration>,
}

impl Silence {
    pub(super) fn new(shared: &Shared) -> Silence {
        let timeout = shared.config.options.tier_timeout;
        let threads = crate::daemon::threads(&shared.config);
        Silence {
            seen: HashMap::new(),
            threads,
            threads_most: threads + ADDED_MAX,
            timeout: (!timeout.is_zero()).then_some(timeout),
        }
    }

    /// Takes down what is under way; those that are for long.
    fn long(&mut self, now: Instant) -> Vec<Call> {
        let under_way = calls::under_way();
        self.seen.retain(|call, _| under_way.contains(call));
        under_way.iter().for_each(|call| {
            self.seen.entry(*call).or_insert(now);
        });
        let long = self.seen.iter().filter(|(_, since)| now.duration_since(**since) >= LONG);
        long.map(|(call, _)| *call).collect()
    }
}

impl Keeper {
    /// Looks at the calls that are under way.
    pub(super) fn hear_silence(&mut self) {
        let now = Instant::now();
        let long = self.silence.long(now);
        self.add_threads(long.iter().filter(|call| call.request != 0).count());
        for rank in (0u8..).map(Rank).take(self.looks.len()) {
            let Some(guard) = self.shared.seats.at(rank).and_then(|seat| seat.guarded.guard()) else { continue };
            let inside: Vec<&Call> = long.iter().filter(|call| call.guard == guard.id()).collect();
            if guard.is_closed() {
                self.answer(&inside);
                continue;
            }
            let Some(look) = self.looks.get_mut(rank.index()) else { continue };
            look.suspected |= !inside.is_empty();
            // Taking a tier in may take long without anything being wrong with it.
            let asked = look.busy.filter(|_| look.probing);
            let waited = asked.map_or(Duration::ZERO, |since| now.duration_since(since));
            let late = self.silence.timeout.is_some_and(|timeout| waited >= timeout);
            let crowded = inside.len() >= INSIDE_MAX && waited >= 3 * LONG;
            if (late || crowded) && !self.shared.union.missing().has(rank) {
                look.silent = true;
                self.shared.silence(rank, waited);
                self.answer(&inside);
            }
        }
    }

    /// Has requests answered whose threads wait inside a tier that was given up.
    fn answer(&self, inside: &[&Call]) {
        let Some(spare) = self.shared.spare.get() else { return };
        inside.iter().filter(|call| calls::give_up(call)).for_each(|call| spare.give_up(call.request));
    }

    /// So many threads wait inside tiers.
    fn add_threads(&mut self, waiting: usize) {
        let Silence { threads, threads_most, .. } = &mut self.silence;
        if waiting + 1 < *threads || *threads >= *threads_most {
            return;
        }
        let Some(spare) = self.shared.spare.get() else { return };
        match spare.start(ADDED) {
            Ok(()) => *threads += ADDED,
            Err(error) => tracing::warn!("no more threads can be had while a tier does not answer: {error}"),
        }
    }
}

impl Shared {
    /// Gives a tier up that does not answer.
    fn silence(self: &Arc<Shared>, rank: Rank, waited: Duration) {
        let Some(seat) = self.seats.at(rank) else { return };
        let Some(guard) = seat.guarded.guard() else { return };
        guard.close();
        let path = seat.guarded.path_text();
        let reason = format!("{path} has not answered for {} s", waited.as_secs());
        let closing = self.union.lose(rank, Condition::Silent, &reason, true);
        tracing::error!(tier = %rank, "not answering: {reason}. Its files answer with input/output errors, and names cannot be changed, until it answers again");
        // Of a file that is read at this moment the kernel waits for the read.
        let told = self.in_thread(move |shared| {
            shared.forgetter.gone(rank);
            drop(closing);
        });
        if !told {
            tracing::warn!("no thread could be started: what is known of the tier may be shown for a while");
        }
    }

    /// Asks a tier that was given up because it did not answer, and takes it in if it does.
    pub(super) fn answers_again(self: &Arc<Shared>, rank: Rank) -> Event {
        if let Err(reason) = self.probe(rank, true) {
            return Event::Probed(rank, Err(reason));
        }
        Event::Looked(rank, self.hear_again(rank))
    }

    fn hear_again(self: &Arc<Shared>, rank: Rank) -> Result<(), Option<String>> {
        let Some(guard) = self.seats.at(rank).and_then(|seat| seat.guarded.guard()) else { return Err(None) };
        // What was begun before ends first.
        if calls::under_way().iter().any(|call| call.guard == guard.id()) {
            return Err(None);
        }
        let Some(_turn) = self.turns.background() else { return Err(None) };
        guard.open();
        if let Err(reason) = self.adopt(rank) {
            guard.close();
            return Err(Some(format!("it answers, but {reason}")));
        }
        tracing::info!(tier = %rank, "answers again");
        self.tell_back();
        Ok(())
    }
}
