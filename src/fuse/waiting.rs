//! Requests that wait until a move is durable. There are few threads that serve requests, and a tier may
//! take long to make a move durable, so such a request waits on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::session::Adapter;

/// Requests that wait at a time. More wait where they are served.
const WAITING_MAX: usize = 64;

/// How many requests wait on threads of their own.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

/// Counted while this lives.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Waiting {
    fn take(&self) -> Option<Place> {
        let place = Place(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(place)
    }

    /// Does something on a thread of its own; here, where no thread can be had.
    fn act(&self, act: impl FnOnce() + Send + 'static) {
        let Some(place) = self.take() else { return act() };
        let act = Arc::new(Mutex::new(Some(act)));
        let there = Arc::clone(&act);
        let serve = move || {
            let _place = place;
            let act = there.lock().take();
            act.into_iter().for_each(|act| act());
        };
        if std::thread::Builder::new().name("tierfs-wait".into()).spawn(serve).is_err() {
            let act = act.lock().take();
            act.into_iter().for_each(|act| act());
        }
    }
}

impl Adapter {
    /// Serves a request, on a thread of its own if it is likely to wait.
    pub(super) fn serve(&self, waits: bool, act: impl FnOnce(&Adapter) + Send + 'static) {
        if waits {
            let adapter = self.clone();
            return self.waiting.act(move || act(&adapter));
        }
        act(self);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let waiting = Waiting::default();
        let taken: Vec<_> = (0..WAITING_MAX).map(|_| waiting.take()).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(waiting.take().is_none());
        drop(taken);
        assert!(waiting.take().is_some());
        assert_eq!(waiting.0.load(Ordering::Relaxed), 0);
    }

    /// As many waiting fsyncs as there are threads stopped the whole mount.
    #[test]
    fn waiting_requests_hold_up_no_thread_that_serves() {
        let waiting = Waiting::default();
        let (done, all_done) = channel();
        let ends: Vec<_> = (0..8)
            .map(|at| {
                let (end, ended) = channel::<()>();
                let done = done.clone();
                waiting.act(move || {
                    let _dropped = ended.recv();
                    done.send(at).unwrap();
                });
                end
            })
            .collect();
        assert!(all_done.try_recv().is_err(), "all wait, and this thread does not");
        drop(ends);
        let mut served: Vec<i32> = all_done.iter().take(8).collect();
        served.sort_unstable();
        assert_eq!(served, (0..8).collect::<Vec<_>>());
    }
}
