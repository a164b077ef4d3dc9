//! What becomes of a batch once it is copied: it is made durable and compared, and then swapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use parking_lot::Mutex;

use super::Summary;
use super::contents::CHUNK;
use super::durable::each_durable;
use super::engine::{Run, moved_event};
use super::manifest::Entry;
use super::preflight::Refusal;
use super::reserve;
use super::stage::{self, discard};
use super::swap::{Broken, Outcome, Ready, paths, swap, tell_kernel};
use super::trash::Leftovers;
use crate::policy::Verify;
use crate::sys::process;
use crate::tier::{Dir, Syncing};
use crate::types::errno::Result;
use crate::types::ids::Rank;
use crate::union::Union;

/// Up to so many copies are made durable one by one; more, all at once.
const FILES_SYNCED_MAX: usize = 4;

/// Files of one batch on their way from copying to swapping.
pub(super) struct Batch<'u> {
    pub(super) from: Rank,
    pub(super) to: Rank,
    pub(super) ready: Vec<Ready<'u>>,
    pub(super) staging: Arc<dyn Dir>,
    /// Where the tier they go to can be synced as a whole.
    pub(super) syncing: Option<Box<dyn Syncing>>,
}

impl<'r> Run<'r> {
    /// Makes copies durable and compares them, batch by batch.
    pub(super) fn prove_each(
        &self,
        batches: Receiver<Batch<'r>>,
        next: SyncSender<Batch<'r>>,
        summary: &Mutex<Summary>,
    ) {
        for batch in batches {
            // What a tier says after it has failed once proves nothing.
            if self.has_failed() {
                discard_all(&batch);
            } else if let Some(proved) = self.prove(batch, summary)
                && let Err(unsent) = next.send(proved)
            {
                // The next station has died: nothing more is to be copied either.
                self.failed.store(true, Ordering::Release);
                discard_all(&unsent.0);
            }
            self.teller.tell_copied();
        }
    }

    fn prove(&self, batch: Batch<'r>, summary: &Mutex<Summary>) -> Option<Batch<'r>> {
        if batch.ready.is_empty() {
            return None;
        }
        if let Err(errno) = make_durable(self.union, &batch) {
            discard_all(&batch);
            let broken = Broken { rank: batch.to, errno };
            self.break_off(paths(&batch.ready), (broken, "making copies durable"), summary);
            return None;
        }
        let Batch { from, to, ready, staging, syncing } = batch;
        let proved = self.verify(&ready);
        let mut good = Vec::new();
        for (mut ready, refusal) in ready.into_iter().zip(proved) {
            ready.copied.close();
            match refusal {
                None => good.push(ready),
                Some(refusal) => {
                    discard(staging.as_ref(), &ready.copied.staged.name);
                    self.refused(&ready.item, refusal, summary);
                }
            }
        }
        (!good.is_empty()).then_some(Batch { from, to, ready: good, staging, syncing })
    }

    /// Swaps batches, one after another.
    pub(super) fn swap_each(
        &self,
        batches: Receiver<Batch<'r>>,
        next: SyncSender<Leftovers<'r>>,
        summary: &Mutex<Summary>,
    ) {
        for batch in batches {
            if self.has_failed() {
                discard_all(&batch);
                continue;
            }
            let Batch { from, to, ready, syncing, .. } = batch;
            match swap(self.union, (from, to), ready, syncing.as_deref()) {
                Ok(leftovers) => {
                    self.note(&leftovers.batch, &leftovers.outcomes, summary);
                    tell_kernel(self.union, &leftovers.batch, &leftovers.outcomes);
                    if let Err(unsent) = next.send(leftovers) {
                        unsent.0.delete();
                    }
                }
                Err((broken, batch)) => self.break_off(paths(&batch), (broken, "swapping the copies"), summary),
            }
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn verify(&self, batch: &[Ready<'r>]) -> Vec<Option<Refusal>> {
        if self.request.verify == Verify::Size {
            let mut buffer = [];
            return batch.iter().map(|ready| self.verify_one(ready, &mut buffer)).collect();
        }
        self.each(batch, |ready, _| stage::prefetch(&ready.copied));
        let results: Vec<Mutex<Option<Refusal>>> = batch.iter().map(|_| Mutex::new(None)).collect();
        let numbered: Vec<_> = batch.iter().zip(&results).collect();
        self.each(&numbered, |(ready, result), buffer| *result.lock() = self.verify_one(ready, buffer));
        results.into_iter().map(Mutex::into_inner).collect()
    }

    /// Does something for each of several, by threads that yield to everything else.
    fn each<T: Sync>(&self, all: &[T], act: impl Fn(&T, &mut [u8]) + Sync) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.threads.min(all.len()) {
                scope.spawn(|| {
                    process::yield_to_others();
                    let mut buffer = vec![0; CHUNK];
                    while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                        act(one, &mut buffer);
                    }
                });
            }
        });
    }

    fn verify_one(&self, ready: &Ready<'_>, buffer: &mut [u8]) -> Option<Refusal> {
        let size = ready.subject.stat.size;
        stage::verify(&ready.copied, size, self.request.verify, buffer, self.teller.pace).err()
    }

    /// Writes down what has moved and tells it, in this order: whoever is told may be killed for it, or
    /// keep the run waiting.
    fn note(&self, batch: &[Ready<'_>], outcomes: &[Outcome], summary: &Mutex<Summary>) {
        let moved = || batch.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Moved);
        let entries: Vec<Entry> = moved().flat_map(|(ready, _)| entries(ready)).collect();
        let written = self.book.as_ref().map(|book| reserve::with(self.union, || book.files(&entries)));
        if let Some(Err(errno)) = written {
            tracing::warn!("the manifest of this run is not whole, it can be undone only in part: {errno}");
        }
        for (Ready { item, .. }, outcome) in batch.iter().zip(outcomes) {
            match outcome {
                Outcome::Moved => {
                    {
                        let mut summary = summary.lock();
                        summary.moved += 1;
                        summary.bytes += item.size;
                        summary.taken += item.taken;
                    }
                    self.teller.tell(moved_event(item));
                }
                Outcome::Skipped(skip) => self.refused(item, Refusal::Skip(*skip), summary),
                Outcome::Failed(errno, during) => self.refused(item, Refusal::Failed(*errno, during), summary),
            }
        }
    }
}

/// What the manifest says of a file that has moved: a line for each of its names.
fn entries<'a>(ready: &'a Ready<'_>) -> impl Iterator<Item = Entry> + 'a {
    ready.item.names.iter().map(|place| Entry {
        path: place.path(),
        from: ready.item.from,
        to: ready.item.to,
        bytes: ready.item.size,
        mtime: ready.subject.stat.mtime,
        digest: ready.copied.digest,
    })
}

/// Copies that are not to be swapped.
fn discard_all(batch: &Batch<'_>) {
    batch.ready.iter().for_each(|ready| discard(batch.staging.as_ref(), &ready.copied.staged.name));
}

/// Contents, attributes and names of the copies.
fn make_durable(union: &Union, batch: &Batch<'_>) -> Result<()> {
    if let Some(whole) = &batch.syncing
        && batch.ready.len() > FILES_SYNCED_MAX
    {
        return union.sync_whole(batch.to, whole.as_ref());
    }
    each_durable(&batch.ready, |ready| ready.copied.sync())?;
    batch.staging.fsync()
}
