//! Copying a batch, several files at a time, by threads that yield to everything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::contents::CHUNK;
use super::engine::Run;
use super::plan::Item;
use super::preflight::{self, Refusal};
use super::record::STAGING;
use super::stage;
use super::stations::Batch;
use super::swap::{Broken, Ready};
use super::ways::Ways;
use super::{Skip, Stop, Summary};
use crate::sys::process;
use crate::tier::{Dir, Open, Syncing};
use crate::types::errno::Result;
use crate::types::name::Name;

/// So many files on, small ones are read ahead: a disk answers several requests in less time than
/// one after another.
const AHEAD: usize = 32;

/// Larger files the kernel reads ahead by itself.
const AHEAD_SIZE_MAX: u64 = 256 << 10;

impl<'r> Run<'r> {
    /// Copies the files of a batch, several at a time.
    pub(super) fn stage(
        &self,
        items: Vec<Item>,
        summary: &Mutex<Summary>,
    ) -> std::result::Result<Option<Batch<'r>>, Stop> {
        let Some((from, to)) = items.first().map(|item| (item.from, item.to)) else { return Ok(None) };
        let bytes: u64 = items.iter().map(|item| item.taken).sum();
        match self.union.room(to) {
            Ok(room) if room < bytes => return Err(Stop::Full(to)),
            Ok(_) => {}
            Err(errno) => return Err(self.broken(&items, Broken { rank: to, errno }, summary)),
        }
        let prepared = || -> Result<(Arc<dyn Dir>, Box<dyn Syncing>)> {
            self.union.announce_moves(from, to)?;
            Ok((self.union.own_dir(to, STAGING)?, self.union.tier_of(to)?.syncing()?))
        };
        let (staging, syncing) = match prepared() {
            Ok(prepared) => prepared,
            Err(errno) => return Err(self.broken(&items, Broken { rank: to, errno }, summary)),
        };
        let clones = self.union.clones();
        let ways = Ways::walk(self.union, &items, |dir| dir.ensure(to).map(drop));
        // All at once: one by one they would cost more than the files in them.
        if self.union.clones() != clones
            && let Err(errno) = syncing.sync()
        {
            return Err(self.broken(&items, Broken { rank: to, errno }, summary));
        }
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
                Some(Err(refusal)) => {
                    full |= refusal == Refusal::Skip(Skip::NoSpace);
                    self.refused(item, refusal, summary);
                }
                None => {}
            }
        }
        if full {
            summary.lock().stopped = Some(Stop::Full(to));
        }
        Ok(Some(Batch { from, to, ready, staging, syncing }))
    }

    fn copy(
        &self,
        item: &Item,
        ways: &Ways<'r>,
        staging: &dyn Dir,
        buffer: &mut [u8],
    ) -> std::result::Result<Ready<'r>, Refusal> {
        let names = ways.names(item)?;
        let (dir, name) = names.first().ok_or(Refusal::Skip(Skip::Gone))?;
        let (subject, source) = preflight::look(self.union, item, dir, name)?;
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
    let Some(dir) = ways.get(place) else { return };
    let opened = dir.copy(item.from).and_then(|dir| dir.open(&Name::new(&place.name)?, Open::ReadQuiet));
    if let Ok(file) = opened {
        file.read_ahead(item.size);
    }
}
