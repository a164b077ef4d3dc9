//! Copying a batch, several files at a time, by threads that yield to everything else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::contents::CHUNK;
use super::engine::Run;
use super::plan::Item;
use super::record::STAGING;
use super::reserve;
use super::stage::{self, Refusal};
use super::stations::Batch;
use super::swap::{Broken, Ready};
use super::{Skip, Stop, Summary};
use crate::sys::process;
use crate::tier::{Dir, Open, Syncing};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::union::moving::{Subject, Walked};

/// So many files on, small ones are read ahead: a disk answers several requests in less time than
/// one after another.
const AHEAD: usize = 32;

/// Larger files the kernel reads ahead by itself.
const AHEAD_SIZE_MAX: u64 = 256 << 10;

/// Bytes that a tier still takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room(pub(super) u64);

impl Room {
    /// Whether so many bytes fit; takes them then.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    /// The files that fit, and the others, both in order. A large one that does not fit keeps no smaller
    /// one behind it from moving, or it would do so every night.
    fn choose(mut self, items: Vec<Item>) -> (Vec<Item>, Vec<Item>) {
        items.into_iter().partition(|item| self.0 > 0 && self.take(item.taken))
    }
}

/// The directories of a batch, by path.
type Ways<'r> = HashMap<UnionPath, Result<Arc<Walked<'r>>>>;

/// The staging directory, what makes the target durable, and the directories.
type Prepared<'r> = (Arc<dyn Dir>, Box<dyn Syncing>, Ways<'r>);

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
        let room = Room(self.union.room(to).map_err(|errno| Broken { rank: to, errno })?);
        let (items, too_large) = room.choose(items);
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
        let ways = self.walk_all(items, from, to);
        // All at once: one by one they would cost more than the files in them.
        if self.union.clones() != clones {
            syncing.sync().map_err(at(to))?;
        }
        Ok((staging, syncing, ways))
    }

    /// A file that stays for want of room. Smaller ones may still go.
    fn refused_for_room(&self, item: &Item, to: Rank, why: Skip, summary: &Mutex<Summary>) {
        // The first tells which tier; with more than two there could be others.
        let _first = self.full.set(to);
        self.refused(item, Refusal::Skip(why), summary);
    }

    /// Every directory of the batch, with its copies on both tiers; those that cannot be had are
    /// left out.
    fn walk_all(&self, items: &[Item], from: Rank, to: Rank) -> Ways<'r> {
        let mut ways = HashMap::new();
        for place in items.iter().flat_map(|item| &item.names) {
            if !ways.contains_key(&*place.dir) {
                let way = self.union.walk(&place.dir).and_then(|dir| {
                    dir.copy(from)?;
                    dir.ensure(to)?;
                    Ok(Arc::new(dir))
                });
                ways.insert((*place.dir).clone(), way);
            }
        }
        ways
    }

    fn copy(
        &self,
        item: &Item,
        ways: &Ways<'r>,
        staging: &dyn Dir,
        buffer: &mut [u8],
    ) -> std::result::Result<Ready<'r>, Refusal> {
        let looking = |errno| match errno {
            Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR => Refusal::Skip(Skip::Gone),
            Errno::ENOSPC => Refusal::Skip(Skip::NoSpace),
            Errno::EDQUOT => Refusal::Skip(Skip::Quota),
            other => Refusal::Failed(other, "preparing the directory"),
        };
        let mut names = Vec::new();
        for place in &item.names {
            let way = ways.get(&*place.dir).ok_or(Refusal::Skip(Skip::Gone))?;
            let dir = Arc::clone(way.as_ref().map_err(|errno| looking(*errno))?);
            names.push((dir, Name::new(&place.name).map_err(looking)?));
        }
        let (dir, name) = names.first().ok_or(Refusal::Skip(Skip::Gone))?;
        let subject: Subject<'r> = self.union.subject(dir, name).map_err(looking)?.ok_or(Refusal::Skip(Skip::Gone))?;
        let source = dir.copy(item.from).map_err(looking)?;
        let place = stage::Place { source: source.as_ref(), name, staging };
        let copied = stage::stage(self.union, item, &subject, place, buffer, (self.teller.pace, &self.claims))?;
        Ok(Ready { item: item.clone(), names, subject, copied })
    }
}

/// Whatever is in the way of this shows again when the file is copied.
fn read_ahead(item: &Item, ways: &Ways<'_>) {
    if item.size == 0 || item.size > AHEAD_SIZE_MAX {
        return;
    }
    let Some(place) = item.names.first() else { return };
    let Some(Ok(dir)) = ways.get(&*place.dir) else { return };
    let opened = dir.copy(item.from).and_then(|dir| dir.open(&Name::new(&place.name)?, Open::ReadQuiet));
    if let Ok(file) = opened {
        file.read_ahead(item.size);
    }
}
