//! Which thread is inside which tier at this moment, and which request it serves.
//!
//! Each thread that calls into a tier writes into a place of its own, so that this costs two stores to
//! memory that no other thread writes. Whoever looks for calls that do not come back reads all places.
//!
//! A request may also wait for another that is inside a tier: at a gate, for a lock, until a move is durable.
//! Its thread is in no tier then, but it still serves its request.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// One thread's place.
#[derive(Debug, Default)]
struct Desk {
    /// The guard of the tier that the thread is in; 0 for none.
    guard: AtomicU32,
    /// How many calls it has begun.
    begun: AtomicU64,
    /// The request that it serves; 0 for none.
    request: AtomicU64,
}

static DESKS: Mutex<Vec<Weak<Desk>>> = Mutex::new(Vec::new());

thread_local! {
    static DESK: OnceCell<Arc<Desk>> = const { OnceCell::new() };
}

fn desk(act: impl FnOnce(&Desk)) {
    // A thread that is ending has no place any more.
    let _ending = DESK.try_with(|desk| {
        act(desk.get_or_init(|| {
            let new = Arc::new(Desk::default());
            let mut desks = DESKS.lock();
            desks.retain(|desk| desk.strong_count() > 0);
            desks.push(Arc::downgrade(&new));
            new
        }));
    });
}

/// While it lives the thread is inside a tier.
#[derive(Debug)]
pub(super) struct Inside {
    before: u32,
}

/// The thread goes into the tier of `guard`.
pub(super) fn enter(guard: u32) -> Inside {
    let mut before = 0;
    desk(|desk| {
        before = desk.guard.load(Ordering::Relaxed);
        desk.begun.store(desk.begun.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        desk.guard.store(guard, Ordering::Release);
    });
    Inside { before }
}

/// While a tier hands something to its caller, the caller's time is not the tier's.
pub(super) fn outside<T>(act: impl FnOnce() -> T) -> T {
    let _out = enter(0);
    act()
}

impl Drop for Inside {
    fn drop(&mut self) {
        desk(|desk| desk.guard.store(self.before, Ordering::Release));
    }
}

/// Set in a request's number where it changes something. The kernel's numbers of requests are even
/// (`FUSE_REQ_ID_STEP` of `fs/fuse/dev.c`), and count up from 2.
const CHANGES: u64 = 1;

/// Set where the request was answered in the place of its thread.
const GIVEN_UP: u64 = 1 << 63;

/// The thread serves this request from here on. One that `changes` something is not answered in the place
/// of its thread: what it does would come after its program was told that it is not done.
pub fn serving(request: u64, changes: bool) {
    let marked = if changes && request != 0 { request | CHANGES } else { request };
    desk(|desk| desk.request.store(marked, Ordering::Release));
}

/// The thread has served its request. Whether that was answered in its place meanwhile: the kernel does not
/// know then of anything that it was given.
pub fn served() -> bool {
    let mut marked = 0;
    desk(|desk| marked = desk.request.swap(0, Ordering::AcqRel));
    marked & GIVEN_UP != 0
}

/// Whether the request of this call is to be answered in the place of its thread, and by nobody else: the
/// thread learns of it when it comes back.
pub fn give_up(call: &Call) -> bool {
    if call.request == 0 || call.changes {
        return false;
    }
    let desks: Vec<Arc<Desk>> = DESKS.lock().iter().filter_map(Weak::upgrade).collect();
    let Some(desk) = desks.iter().find(|desk| Arc::as_ptr(desk) as usize == call.thread) else { return false };
    let given_up = call.request | GIVEN_UP;
    desk.request.compare_exchange(call.request, given_up, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// What a thread does: a call that has not come back, or a request between two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call {
    /// Stands for the thread.
    pub thread: usize,
    /// Which of its calls it is in, or was in last.
    pub number: u64,
    /// Into the tier behind this guard; 0 for none.
    pub guard: u32,
    /// For this request; 0 for none.
    pub request: u64,
    /// Whether the request changes something.
    pub changes: bool,
}

/// All threads that are inside a tier or serve a request.
pub fn at_work() -> Vec<Call> {
    let desks: Vec<Arc<Desk>> = DESKS.lock().iter().filter_map(Weak::upgrade).collect();
    desks
        .iter()
        .filter_map(|desk| {
            let (number, guard) = (desk.begun.load(Ordering::Relaxed), desk.guard.load(Ordering::Acquire));
            let marked = desk.request.load(Ordering::Acquire);
            let (request, changes) = (marked & !(CHANGES | GIVEN_UP), marked & CHANGES != 0);
            let call = Call { thread: Arc::as_ptr(desk) as usize, number, guard, request, changes };
            (guard != 0 || request != 0).then_some(call)
        })
        .collect()
}

/// How many calls have begun: another number than before where anything goes on.
pub fn begun() -> u64 {
    let desks: Vec<Arc<Desk>> = DESKS.lock().iter().filter_map(Weak::upgrade).collect();
    desks.iter().fold(0, |sum, desk| sum.wrapping_add(desk.begun.load(Ordering::Relaxed)))
}

/// All calls that are under way.
pub fn under_way() -> Vec<Call> {
    let mut calls = at_work();
    calls.retain(|call| call.guard != 0);
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_once_and_only_where_it_asks() {
        let inside = enter(u32::MAX - 1);
        let mine = || under_way().into_iter().find(|call| call.guard == u32::MAX - 1).unwrap();
        serving(8, false);
        let call = mine();
        assert!(give_up(&call));
        assert!(!give_up(&call), "it was answered already");
        assert_eq!(mine().request, 8, "its thread is still inside");
        assert!(served());
        assert!(!give_up(&call), "it is another request now, or none");
        serving(10, true);
        assert!(!give_up(&mine()), "what it does comes all the same");
        assert!(!served());
        drop(inside);
    }

    #[test]
    fn a_request_that_waits_outside_of_all_tiers_is_seen_and_answered() {
        let mine = || at_work().into_iter().find(|call| call.request == 1 << 40);
        serving(1 << 40, false);
        let waiting = mine().unwrap();
        assert_eq!(waiting.guard, 0);
        assert!(under_way().iter().all(|call| call.thread != waiting.thread));
        drop(enter(u32::MAX - 2));
        assert_ne!(mine().unwrap().number, waiting.number, "it has gone on");
        assert!(give_up(&mine().unwrap()));
        assert!(served() && mine().is_none());
    }

    #[test]
    fn a_call_is_under_way_until_it_returns_and_not_while_it_tells() {
        let mine = |guard: u32| under_way().iter().filter(|call| call.guard == guard).count();
        let inside = enter(u32::MAX);
        assert_eq!(mine(u32::MAX), 1);
        outside(|| assert_eq!(mine(u32::MAX), 0));
        assert_eq!(mine(u32::MAX), 1);
        drop(inside);
        assert_eq!(mine(u32::MAX), 0);
    }
}
