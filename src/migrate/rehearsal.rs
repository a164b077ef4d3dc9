//! A dry run: each file of the plan is asked as a run would ask it, and nothing is done.
//!
//! It goes through the batches in the order of a run and takes the room on the targets as the copies
//! would take it. So what it tells is what a run tells that begins at the same moment.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::engine::{THREADS_MAX, Teller, batches, descriptors_of_batch, moved_event};
use super::plan::{Item, Plan};
use super::preflight::{Refusal, is_read_only, preflight};
use super::room::Rooms;
use super::ways::Ways;
use super::{Error, Request, Skip, Stop, Summary};
use crate::sys::process;
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::union::Union;

/// Files that one thread asks; more threads for fewer would cost more than they save.
const FILES_OF_THREAD: usize = 64;

type Found = std::result::Result<(), Refusal>;

/// Tells what a run would do with `plan`.
pub(super) fn rehearse(
    union: &Union,
    request: &Request,
    teller: &Teller<'_>,
    plan: Plan,
    summary: &mut Summary,
) -> std::result::Result<(), Error> {
    if !plan.items.is_empty() && is_read_only(union, Rank::PRIMARY) {
        // There is no room for the record of a run.
        return Err(Error::Tier(Rank::PRIMARY, Errno::EROFS));
    }
    let errors_max = request.errors_max.unwrap_or(u64::MAX);
    let (mut rooms, mut full) = (Rooms::default(), None);
    for batch in batches(plan.items, descriptors_of_batch()) {
        if summary.failed > errors_max {
            summary.stopped.get_or_insert(Stop::Errors);
        }
        if teller.pace.is_stopped() || matches!(summary.stopped, Some(Stop::Errors | Stop::Failed(_))) {
            break;
        }
        rehearse_batch(union, teller, &batch, (&mut rooms, &mut full), summary);
    }
    summary.stopped = summary.stopped.or(full.map(Stop::Full));
    Ok(())
}

fn rehearse_batch(
    union: &Union,
    teller: &Teller<'_>,
    batch: &[Item],
    (rooms, full): (&mut Rooms, &mut Option<Rank>),
    summary: &mut Summary,
) {
    let Some(first) = batch.first() else { return };
    if let Some(rank) = [first.from, first.to].into_iter().find(|rank| is_read_only(union, *rank)) {
        // No file of the batch and of those after it would be tried.
        tell(teller, first, Err(Refusal::Failed(Errno::EROFS, "preparing the tiers")), summary);
        summary.stopped = Some(Stop::Failed(rank));
        return;
    }
    for (item, found) in batch.iter().zip(ask(union, batch)) {
        let found = found.and_then(|()| take_room(union, item, rooms));
        if found == Err(Skip::NoSpace.into()) {
            full.get_or_insert(item.to);
        }
        tell(teller, item, found, summary);
    }
}

/// Asks each file of a batch, several at a time.
fn ask(union: &Union, batch: &[Item]) -> Vec<Found> {
    let ways = Ways::walk(union, batch, |_| Ok(()));
    let one = |item: &Item| ways.names(item).and_then(|names| preflight(union, item, &names));
    let found: Vec<Mutex<Found>> = batch.iter().map(|_| Mutex::new(Ok(()))).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..batch.len().div_ceil(FILES_OF_THREAD).min(THREADS_MAX) {
            scope.spawn(|| {
                process::yield_to_others();
                while let Some((item, found)) = next_of(&next, batch, &found) {
                    *found.lock() = one(item);
                }
            });
        }
    });
    found.into_iter().map(Mutex::into_inner).collect()
}

fn next_of<'a>(
    next: &AtomicUsize,
    batch: &'a [Item],
    found: &'a [Mutex<Found>],
) -> Option<(&'a Item, &'a Mutex<Found>)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    batch.get(at).zip(found.get(at))
}

fn take_room(union: &Union, item: &Item, rooms: &mut Rooms) -> Found {
    match rooms.shift(union, (item.from, item.to), item.taken) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Skip::NoSpace.into()),
        Err(errno) => Err(Refusal::Failed(errno, "looking for room")),
    }
}

fn tell(teller: &Teller<'_>, item: &Item, found: Found, summary: &mut Summary) {
    match found {
        Ok(()) => {
            summary.moved += 1;
            summary.bytes += item.size;
            teller.tell(moved_event(item));
        }
        Err(refusal) => {
            refusal.count(summary);
            refusal.event(item.path()).into_iter().for_each(|event| teller.tell(event));
        }
    }
}
