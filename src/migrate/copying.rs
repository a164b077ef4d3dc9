//! Copying a batch, several files at a time, by threads that yield to everything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::contents::CHUNK;
use super::engine::Run;
use super::plan::Item;
use super::preflight::{self, Looked, Refusal};
use super::record::STAGING;
use super::reserve;
use super::room::Room;
use super::stage::{self, discard};
use super::stations::Batch;
use super::swap::{Broken, Ready};
use super::ways::Ways;
use super::{Skip, Stop, Summary};
use crate::sys::process;
use crate::tier::{Dir, Open, Syncing};
use crate::types::errno::Errno;
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::types::path::UnionPath;

/// So many files on, small ones are read ahead: a disk answers several requests in less time than
/// one after another.
const AHEAD: usize = 32;

/// Larger files the kernel reads ahead by itself.
const AHEAD_SIZE_MAX: u64 = 256 << 10;

/// The staging directory, what makes the target durable, and the directories.
type Prepared<'r> = (Arc<dyn Dir>, Option<Box<dyn Syncing>>, Ways<'r>);

impl<'r> Run<'r> {
    /// Copies the files of a batch, several at a time. `None` if none of them can be copied.
    pub(super) fn stage(&self, items: Vec<Item>, summary: &Mutex<Summary>) -> Option<Batch<'r>> {
        let (from, to) = items.first().map(|item| (item.from, item.to))?;
        let first: Vec<UnionPath> = items.iter().take(1).map(Item::path).collect();
        let prepared = self.choose(items, to, summary).and_then(|items| Ok((self.prepare(&items, from, to)?, items)));
        let ((staging, syncing, ways), items) = match prepared {
            Ok((_, items)) if items.is_empty() => return None,
            Ok(prepared) => prepared,
            Err(broken) => {
                self.break_off(first.into_iter(), (broken, "preparing the tiers"), summary);
                return None;
            }
        };
        let found: Vec<Mutex<Option<std::result::Result<Ready<'r>, Refusal>>>> =
            items.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        let threads = self.threads.min(items.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    process::yield_to_others();
                    let mut buffer = vec![0; CHUNK];
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(at) else { break };
                        if self.teller.pace.is_stopped() || self.teller.pace.is_late() {
                            break;
                        }
                        if let Some(later) = items.get(at + AHEAD) {
                            read_ahead(later, &ways);
                        }
                        *found[at].lock() = Some(self.copy(item, &ways, staging.as_ref(), &mut buffer));
                        self.teller.tell_copied();
                    }
                });
            }
        });
        let mut ready = Vec::new();
        let mut full = false;
        for (item, found) in items.iter().zip(found) {
            match found.into_inner() {
                Some(Ok(copied)) => ready.push(copied),
                Some(Err(Refusal::Skip(why @ (Skip::NoSpace | Skip::Quota)))) => {
                    full |= why == Skip::NoSpace;
                    self.refused_for_room(item, to, why, summary);
                }
                Some(Err(refusal)) => self.refused(item, refusal, summary),
                None => {}
            }
        }
        if full {
            // It says that it has room, and has none.
            summary.lock().stopped = Some(Stop::Full(to));
        }
        Some(Batch { from, to, ready, staging, syncing })
    }

    /// Those for which there is room.
    fn choose(&self, items: Vec<Item>, to: Rank, summary: &Mutex<Summary>) -> std::result::Result<Vec<Item>, Broken> {
        let mut room = Room::of(self.union, to).map_err(|errno| Broken { rank: to, errno })?;
        // A large one that does not fit keeps no smaller one behind it from moving, or it would every night.
        let (items, too_large): (Vec<Item>, _) = items.into_iter().partition(|item| room.take(item.taken));
        for item in too_large {
            self.refused_for_room(&item, to, Skip::NoSpace, summary);
        }
        Ok(items)
    }

    /// What the files need on both tiers.
    fn prepare(&self, items: &[Item], from: Rank, to: Rank) -> std::result::Result<Prepared<'r>, Broken> {
        let at = |rank| move |errno| Broken { rank, errno };
        reserve::with(self.union, || self.union.announce_given(from)).map_err(at(from))?;
        self.union.announce_stamps(to).map_err(at(to))?;
        let staging = self.union.own_dir(to, STAGING).map_err(at(to))?;
        let syncing = self.union.tier_of(to).and_then(|tier| tier.syncing()).map_err(at(to))?;
        let clones = self.union.clones();
        let ways = Ways::walk(self.union, items, |dir| dir.ensure(to).map(drop));
        // All at once, where that can be: one by one they cost more than the files in them.
        if let Some(whole) = &syncing
            && self.union.clones() != clones
        {
            self.union.sync_whole(to, whole.as_ref()).map_err(at(to))?;
        }
        Ok((staging, syncing, ways))
    }

    /// A file that stays for want of room. Smaller ones may still go.
    fn refused_for_room(&self, item: &Item, to: Rank, why: Skip, summary: &Mutex<Summary>) {
        // The first tells which tier; with more than two there could be others.
        let _first = self.full.set(to);
        self.refused(item, Refusal::Skip(why), summary);
    }

    fn copy(
        &self,
        item: &Item,
        ways: &Ways<'r>,
        staging: &dyn Dir,
        buffer: &mut [u8],
    ) -> std::result::Result<Ready<'r>, Refusal> {
        let names = ways.names(item)?;
        let Looked { subject, source, name } = preflight::look(self.union, item, &names)?;
        let place = stage::Place { source: source.as_ref(), name, staging };
        let copied = stage::stage(self.union, &subject, place, buffer, (self.teller.pace, &self.claims))?;
        if self.known.contradicts(item, &copied.digest) {
            discard(staging, &copied.staged.name);
            let during = "comparing it with its hash of when it came to its tier, where it was damaged since";
            return Err(Refusal::Failed(Errno::EIO, during));
        }
        Ok(Ready { item: item.clone(), names, subject, copied })
    }
}

/// Whatever is in the way of this shows again when the file is copied.
fn read_ahead(item: &Item, ways: &Ways<'_>) {
    if item.size == 0 || item.size > AHEAD_SIZE_MAX {
        return;
    }
    let Some(place) = item.names.first() else { return };
    let Some(dir) = ways.get(place) else { return };
    let opened = dir.copy(item.from).and_then(|dir| dir.open(&Name::new(&place.name)?, Open::ReadQuiet));
    if let Ok(file) = opened {
        file.read_ahead(item.size);
    }
}
