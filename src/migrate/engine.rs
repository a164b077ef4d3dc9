//! A run from its request to its summary: plan, then batches, each of which goes through four stations:
//! it is copied, made durable and compared, swapped, and what it leaves is deleted. Each station has its
//! thread, so that one batch keeps a tier busy while another waits for its tier.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::book::Book;
use super::claims::Claims;
use super::gather::gather;
use super::known::Known;
use super::manifest::Line;
use super::pace::Pace;
use super::plan::{Item, Plan};
use super::preflight::Refusal;
use super::rehearsal::rehearse;
use super::reserve;
use super::stations::Batch;
use super::swap::Broken;
use super::trash::Leftovers;
use super::{Error, Event, Go, Request, Stop, Summary};
use crate::sys::limits;
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::union::Union;

/// Files of one batch: enough that what is made durable once serves many, few enough that their
/// descriptors are no burden.
const BATCH_FILES_MAX: usize = 1024;
/// Bytes of one batch.
const BATCH_BYTES_MAX: u64 = 256 << 20;

/// Part of the process's descriptors that one batch may take. Up to seven are under way at a time, one at
/// each station and one before it, and requests need theirs.
const DESCRIPTORS_PART: u64 = 24;

pub(super) fn descriptors_of_batch() -> usize {
    usize::try_from(limits::descriptors() / DESCRIPTORS_PART).unwrap_or(usize::MAX)
}

/// Threads that copy. More than this only makes a disk seek.
pub(super) const THREADS_MAX: usize = 8;

/// How often a run tells how far it has come. Only then does it learn that it is to stop, also in the
/// middle of a file that takes hours.
const TOLD_EACH: Duration = Duration::from_millis(100);

/// Moves what `request` says. `tell` is called from one thread at a time and says whether to go on.
///
/// # Errors
/// What keeps the whole run from being made. What concerns single files is an [`Event`].
pub fn run(
    union: &Union,
    request: &Request,
    tell: &mut (dyn FnMut(Event) -> Go + Send),
) -> std::result::Result<Summary, Error> {
    let started = Instant::now();
    union.may_move().map_err(|_| Error::ReadOnly)?;
    // What moves into half a renamed directory would be in its way.
    union.finish_renames().map_err(|errno| Error::Tier(Rank::PRIMARY, errno))?;
    let pace = Pace::new(request.limits.bytes_per_sec, request.limits.duration);
    let tell = Mutex::new(tell);
    let one_by_one = |event| (tell.lock())(event);
    let teller = Teller { tell: &one_by_one, pace: &pace };
    let mut summary = std::thread::scope(|scope| {
        let (working, ended) = channel::<()>();
        let teller = &teller;
        scope.spawn(move || {
            while ended.recv_timeout(TOLD_EACH) == Err(RecvTimeoutError::Timeout) {
                teller.tell(Event::Copied { bytes: teller.pace.take_untold() });
            }
        });
        let summary = work(union, request, teller);
        drop(working);
        summary
    })?;
    summary.took = started.elapsed();
    Ok(summary)
}

fn work(union: &Union, request: &Request, teller: &Teller<'_>) -> std::result::Result<Summary, Error> {
    let mut summary = Summary::default();
    let plan = gather(union, request, teller, &mut summary)?;
    let (files, bytes) = plan.totals();
    teller.tell(Event::Planned { files, bytes });
    // There may be as many as there are files, and nobody left to be told.
    for (path, why) in plan.skips.iter().take_while(|_| !teller.pace.is_stopped()) {
        *summary.skipped.entry(*why).or_default() += 1;
        teller.tell(Event::Skipped { path: path.clone(), why: *why });
    }
    if plan.cut {
        summary.stopped = Some(Stop::Limit);
    }
    if request.dry_run {
        rehearse(union, request, teller, plan, &mut summary)?;
    } else if !plan.items.is_empty() {
        Run::new(union, request, teller, &plan)?.run(plan, &mut summary);
    }
    if teller.pace.is_stopped() && summary.stopped.is_none() {
        summary.stopped = Some(Stop::Interrupted);
    }
    Ok(summary)
}

/// Tells one thing at a time, and stops the run when it is told so.
pub(super) struct Teller<'a> {
    tell: &'a (dyn Fn(Event) -> Go + Sync),
    pub(super) pace: &'a Pace,
}

impl Teller<'_> {
    pub(super) fn tell(&self, event: Event) {
        if (self.tell)(event) == Go::Stop {
            self.pace.stop();
        }
    }

    pub(super) fn tell_copied(&self) {
        let bytes = self.pace.take_untold();
        if bytes > 0 {
            self.tell(Event::Copied { bytes });
        }
    }
}

pub(super) fn moved_event(item: &Item) -> Event {
    Event::Moved { path: item.path(), from: item.from, to: item.to, bytes: item.size, age: item.age }
}

pub(super) struct Run<'r> {
    pub(super) union: &'r Union,
    pub(super) request: &'r Request,
    pub(super) teller: &'r Teller<'r>,
    pub(super) threads: usize,
    pub(super) claims: Claims,
    pub(super) known: Known,
    /// None where there was no room for it: then the run cannot be undone.
    pub(super) book: Option<Book>,
    /// Whether a tier has failed.
    pub(super) failed: AtomicBool,
    /// The tier that had no room for some file.
    pub(super) full: OnceLock<Rank>,
    begun: Instant,
}

impl<'r> Run<'r> {
    fn new(
        union: &'r Union,
        request: &'r Request,
        teller: &'r Teller<'r>,
        plan: &Plan,
    ) -> std::result::Result<Run<'r>, Error> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let primary = |errno| if errno == Errno::ENOSPC { Error::NoRoom } else { Error::Tier(Rank::PRIMARY, errno) };
        reserve::keep(union);
        reserve::ensure(union).map_err(primary)?;
        let book = match reserve::with(union, || Book::open(union, &request.what)) {
            Err(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => {
                tracing::warn!("what this run moves is not written down, so it cannot be undone: {errno}");
                None
            }
            other => Some(other.map_err(primary)?),
        };
        Ok(Run {
            union,
            request,
            teller,
            threads: (2 * cpus).min(THREADS_MAX),
            claims: Claims::default(),
            known: Known::of(union, request, &plan.items),
            book,
            failed: AtomicBool::new(false),
            full: OnceLock::new(),
            begun: Instant::now(),
        })
    }

    fn run(&self, plan: Plan, summary: &mut Summary) {
        let shared = Mutex::new(std::mem::take(summary));
        let this = self;
        let (to_prove, copied) = sync_channel::<Batch<'r>>(1);
        let (to_swap, proved) = sync_channel::<Batch<'r>>(1);
        let (to_delete, swapped) = sync_channel::<Leftovers<'r>>(1);
        let shared = &shared;
        std::thread::scope(|scope| {
            scope.spawn(|| this.claims.run());
            let _end = this.claims.until_dropped();
            let stations = [
                scope.spawn(|| this.prove_each(copied, to_swap, shared)),
                scope.spawn(|| this.swap_each(proved, to_delete, shared)),
                scope.spawn(|| swapped.into_iter().for_each(Leftovers::delete)),
            ];
            this.stage_each(plan, to_prove, shared);
            for station in stations {
                // A panic has been logged; what was swapped is on record.
                if station.join().is_err() {
                    shared.lock().stopped = Some(Stop::Errors);
                }
            }
        });
        *summary = std::mem::take(&mut shared.lock());
        summary.stopped = summary.stopped.or(self.full.get().map(|rank| Stop::Full(*rank)));
        self.end(summary);
        reserve::keep(self.union);
    }

    fn stage_each(&self, plan: Plan, next: SyncSender<Batch<'r>>, summary: &Mutex<Summary>) {
        for batch in batches(plan.items, descriptors_of_batch()) {
            if self.must_stop(summary) {
                break;
            }
            if let Some(batch) = self.stage(batch, summary)
                && next.send(batch).is_err()
            {
                break;
            }
        }
    }

    /// The files have moved whether this is written or not.
    fn end(&self, summary: &mut Summary) {
        let Some(book) = &self.book else { return };
        if summary.moved == 0 {
            return book.drop_empty();
        }
        summary.run = book.run.clone();
        let end = Line::End {
            done: summary.stopped.is_none(),
            moved: summary.moved,
            bytes: summary.bytes,
            skipped: summary.skipped.values().sum(),
            failed: summary.failed,
            took_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        if let Err(errno) = reserve::with(self.union, || book.end(&end)) {
            tracing::warn!(run = book.run, "`tierfs history` will say that this run was cut short: {errno}");
        }
    }

    fn must_stop(&self, summary: &Mutex<Summary>) -> bool {
        let mut summary = summary.lock();
        if self.teller.pace.is_late() {
            summary.stopped.get_or_insert(Stop::Limit);
        }
        let errors_max = self.request.errors_max.unwrap_or(u64::MAX);
        if summary.failed > errors_max {
            summary.stopped.get_or_insert(Stop::Errors);
        }
        // Any tier: it could not come back while this goes on, and may hide what moves.
        if let Some(gone) = self.union.missing().fastest() {
            summary.stopped.get_or_insert(Stop::Failed(gone));
        }
        self.teller.pace.is_stopped()
            || self.has_failed()
            || matches!(summary.stopped, Some(Stop::Errors | Stop::Failed(_) | Stop::Full(_)))
            || self.teller.pace.is_late()
    }

    pub(super) fn refused(&self, item: &Item, refusal: Refusal, summary: &Mutex<Summary>) {
        refusal.count(&mut summary.lock());
        if let Some(event) = refusal.event(item.path()) {
            self.teller.tell(event);
        }
    }

    /// A tier has failed: `paths` stay where they are, and nothing moves any more.
    pub(super) fn break_off(
        &self,
        paths: impl Iterator<Item = UnionPath>,
        (broken, during): (Broken, &'static str),
        summary: &Mutex<Summary>,
    ) {
        self.failed.store(true, Ordering::Release);
        for path in paths {
            summary.lock().failed += 1;
            self.teller.tell(Event::Failed { path, errno: broken.errno, during });
        }
        tracing::error!(tier = %broken.rank, "this run stops: {}", broken.errno);
        summary.lock().stopped = Some(Stop::Failed(broken.rank));
    }
}

/// Cuts the plan into batches, each between the same two tiers and of at most so many `descriptors`:
/// one for each copy and, once for each directory, one on both tiers.
pub(super) fn batches(items: Vec<Item>, descriptors: usize) -> impl Iterator<Item = Vec<Item>> {
    let mut items = items.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = items.next()?;
        let (from, to, mut bytes) = (first.from, first.to, first.size);
        let mut dirs: HashSet<Arc<UnionPath>> = first.names.iter().map(|place| Arc::clone(&place.dir)).collect();
        let mut batch = vec![first];
        while batch.len() < BATCH_FILES_MAX
            && batch.len() + 2 * dirs.len() < descriptors
            && let Some(item) = items.next_if(|item| {
                (item.from, item.to) == (from, to) && bytes.saturating_add(item.size) <= BATCH_BYTES_MAX
            })
        {
            bytes += item.size;
            dirs.extend(item.names.iter().map(|place| Arc::clone(&place.dir)));
            batch.push(item);
        }
        Some(batch)
    })
}
