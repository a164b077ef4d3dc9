//! Tiers that do not answer: a server that is gone, a disk that hangs.
//!
//! A call into such a tier may never come back, and its thread with it. Three things follow. The tier is
//! asked by a thread that may be lost; if that has no answer in time, the tier is given up: its guard
//! answers every new call with EIO. Requests whose threads wait inside are answered in their place. And
//! while threads serve requests for long, there are always others to read the next.
//!
//! Others wait for those that are inside: at a gate that a move has closed, for a lock. So all that counts of
//! a request is how long it is served, and that it does not come to its next call.
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

/// A call that takes longer has the tier asked, and a request that takes longer has its thread replaced.
const LONG: Duration = TICK;

/// Threads that are added at a time, and at most in all.
const ADDED: usize = 8;
const ADDED_MAX: usize = 256;

/// With so many requests that wait for a tier that does not answer, no more are let in.
const INSIDE_MAX: usize = ADDED_MAX / 2;

/// How long a tier is waited for that so many wait for.
const CROWDED: Duration = LONG.saturating_mul(3);

/// What threads do, and the threads there are.
#[derive(Debug)]
pub(super) struct Silence {
    seen: Seen,
    threads: usize,
    threads_most: usize,
    timeout: Option<Duration>,
}

/// Since when threads do what they do.
#[derive(Debug, Default)]
struct Seen {
    calls: HashMap<Call, Instant>,
    /// By thread and request.
    requests: HashMap<(usize, u64), Instant>,
}

impl Seen {
    /// Takes down what threads do at this moment.
    fn look(&mut self, at_work: &[Call], now: Instant) {
        let calls = std::mem::take(&mut self.calls);
        self.calls = at_work.iter().map(|call| (*call, calls.get(call).copied().unwrap_or(now))).collect();
        let requests = std::mem::take(&mut self.requests);
        let served = at_work.iter().filter(|call| call.request != 0).map(|call| (call.thread, call.request));
        self.requests = served.map(|served| (served, requests.get(&served).copied().unwrap_or(now))).collect();
    }

    /// How many requests are served for longer than [`LONG`].
    fn requests(&self, now: Instant) -> usize {
        self.requests.values().filter(|since| now.duration_since(**since) >= LONG).count()
    }

    /// Calls that do not come back, and requests that do not come to their next call, for longer than
    /// [`LONG`].
    fn long(&self, now: Instant) -> Vec<(Call, Duration)> {
        let each = self.calls.iter().map(|(call, since)| (*call, now.duration_since(*since)));
        each.filter(|(_, waited)| *waited >= LONG).collect()
    }
}

/// Which requests are to be answered in the place of their threads, if they only ask: those inside of
/// what is not `open` any more and, while somebody is inside there, those that are inside of nothing for longer
/// than `patience`.
fn to_answer(long: &[(Call, Duration)], open: &[u32], patience: Option<Duration>) -> Vec<Call> {
    let is_lost = |call: &Call| call.guard != 0 && !open.contains(&call.guard);
    let hangs = long.iter().any(|(call, _)| is_lost(call));
    let waits = |call: &Call, waited| hangs && call.guard == 0 && patience.is_some_and(|most| waited >= most);
    let answered = long.iter().filter(|(call, waited)| is_lost(call) || waits(call, *waited));
    answered.map(|(call, _)| *call).collect()
}

/// Whether a tier that `is_late` now was so a while ago, too: `since`. Where this process was stopped, or had no
/// processor, the tier may have answered in time, and the thread that asked it may only now come to tell.
fn stays_late(since: &mut Option<Instant>, is_late: bool, now: Instant) -> bool {
    *since = is_late.then(|| since.unwrap_or(now));
    since.is_some_and(|since| now.duration_since(since) >= TICK)
}

impl Silence {
    pub(super) fn new(shared: &Shared) -> Silence {
        let timeout = shared.config.options.tier_timeout;
        let threads = crate::daemon::threads(&shared.config);
        Silence {
            seen: Seen::default(),
            threads,
            threads_most: threads + ADDED_MAX,
            timeout: (!timeout.is_zero()).then_some(timeout),
        }
    }
}

impl Keeper {
    /// Looks at what threads do.
    pub(super) fn hear_silence(&mut self) {
        let now = Instant::now();
        self.silence.seen.look(&calls::at_work(), now);
        self.add_threads(self.silence.seen.requests(now));
        let long = self.silence.seen.long(now);
        let outside = long.iter().filter(|(call, _)| call.guard == 0).count();
        let mut open = Vec::new();
        let mut crowd = outside;
        for rank in (0u8..).map(Rank).take(self.looks.len()) {
            let Some(guard) = self.shared.seats.at(rank).and_then(|seat| seat.guarded.guard()) else { continue };
            if guard.is_closed() {
                continue;
            }
            open.push(guard.id());
            let inside = long.iter().filter(|(call, _)| call.guard == guard.id()).count();
            let Some(look) = self.looks.get_mut(rank.index()) else { continue };
            look.suspected |= inside > 0;
            // Taking a tier in may take long without anything being wrong with it.
            let asked = look.busy.filter(|_| look.probing);
            let waited = asked.map_or(Duration::ZERO, |since| now.duration_since(since));
            let late = self.silence.timeout.is_some_and(|timeout| waited >= timeout);
            let crowded = inside > 0 && inside + outside >= INSIDE_MAX && waited >= CROWDED;
            let is_late = (late || crowded) && !self.shared.union.missing().has(rank);
            if stays_late(&mut look.late, is_late, now) {
                look.silent = true;
                self.shared.silence(rank, waited);
                open.pop();
                crowd += inside;
            }
        }
        let patience = if crowd >= INSIDE_MAX { Some(CROWDED) } else { self.silence.timeout };
        self.answer(&to_answer(&long, &open, patience));
    }

    /// Has requests answered in the place of their threads.
    fn answer(&self, late: &[Call]) {
        let Some(spare) = self.shared.spare.get() else { return };
        late.iter().filter(|call| calls::give_up(call)).for_each(|call| spare.give_up(call.request));
    }

    /// So many threads are not there for the next request.
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
        if guard.insiders().any() {
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

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: u32 = 1;
    const THERE: u32 = 2;

    fn call(thread: usize, guard: u32, number: u64) -> Call {
        Call { thread, number, guard, request: thread as u64 * 2, changes: false }
    }

    #[test]
    fn a_request_is_long_wherever_it_waits_and_late_only_where_it_does_not_go_on() {
        let mut seen = Seen::default();
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        for second in 0..5 {
            seen.look(&[call(1, 0, 7), call(2, THERE, second)], after(second));
        }
        assert_eq!(seen.requests(after(4)), 2, "both keep a thread");
        assert_eq!(seen.long(after(4)), [(call(1, 0, 7), Duration::from_secs(4))]);
        seen.look(&[], after(5));
        assert!(seen.requests(after(9)) == 0 && seen.long(after(9)).is_empty());
    }

    /// A process that was stopped for longer than a tier may take gave up tiers that had answered.
    #[test]
    fn regression_one_late_look_gives_no_tier_up() {
        let begin = Instant::now();
        let after = |millis| begin + Duration::from_millis(millis);
        let mut since = None;
        assert!(!stays_late(&mut since, true, after(0)) && !stays_late(&mut since, true, after(900)));
        assert!(!stays_late(&mut since, false, after(950)), "it had answered");
        assert!(!stays_late(&mut since, true, after(1500)) && stays_late(&mut since, true, after(2500)));
    }

    #[test]
    fn who_waits_for_nothing_but_a_tier_that_is_well_is_not_answered() {
        let (short, long) = (Duration::from_secs(2), Duration::from_secs(30));
        let most = Some(Duration::from_secs(30));
        let inside = (call(1, GONE, 0), short);
        let (soon, waits, works) = ((call(2, 0, 0), short), (call(3, 0, 0), long), (call(4, THERE, 0), long));
        let answered = |who: &[(Call, Duration)], most| -> Vec<usize> {
            to_answer(who, &[THERE], most).iter().map(|call| call.thread).collect()
        };
        assert_eq!(answered(&[inside, soon, waits, works], most), [1, 3]);
        assert_eq!(answered(&[inside, soon, waits, works], None), [1], "it is waited for ever");
        assert!(answered(&[soon, waits, works], most).is_empty(), "no tier keeps them");
    }
}
