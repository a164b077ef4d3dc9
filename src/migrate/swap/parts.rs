//! The parts of a swap, each for many files at a time: gates are closed for some files of one directory,
//! and names are made durable for all.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Broken, Outcome, Ready, Swap};
use crate::migrate::Skip;
use crate::migrate::durable::each_durable;
use crate::migrate::recover::open_below;
use crate::migrate::times::{Had, Note};
use crate::types::attr::Stat;
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::union::moving::{NamesClosed, Refused, Walked};

/// Most files that change names under one closed gate: at some ten microseconds each, requests
/// for the same directories wait less than they would for a disk.
const RUN_FILES_MAX: usize = 64;

/// More directories than this are not made durable one by one.
const DIRS_SYNCED_MAX: usize = 8;

impl<'u> Swap<'u, '_> {
    /// Files in directories that were renamed while the batch was copied stay: the record would name them
    /// by paths that lead elsewhere.
    pub(super) fn leave_out_strays(&mut self) -> std::result::Result<(), Broken> {
        let mut known: HashMap<*const Walked<'_>, bool> = HashMap::new();
        for (at, ready) in self.batch.iter().enumerate() {
            for (dir, _) in &ready.names {
                let in_place = match known.get(&Arc::as_ptr(dir)) {
                    Some(in_place) => *in_place,
                    None => {
                        let found = self.is_in_place(dir)?;
                        known.insert(Arc::as_ptr(dir), found);
                        found
                    }
                };
                if !in_place {
                    self.outcomes[at] = Some(Outcome::Skipped(Skip::Changed));
                }
            }
        }
        Ok(())
    }

    /// What went under a name from a third tier must not come back and hide the copy, or be hidden by it.
    pub(super) fn order(&mut self) {
        for at in self.open() {
            let ordered = self.batch[at].names.iter().try_for_each(|(dir, name)| dir.order(name, self.to));
            self.outcomes[at] = match ordered {
                Ok(()) => None,
                Err(Errno::ENOENT | Errno::ESTALE) => Some(Outcome::Skipped(Skip::Gone)),
                Err(errno) => Some(Outcome::Failed(errno, "making former removals durable")),
            };
        }
    }

    /// Whether the path of a directory leads to it on both tiers.
    fn is_in_place(&self, dir: &Walked<'_>) -> std::result::Result<bool, Broken> {
        for rank in [self.from, self.to] {
            let look = || -> Result<bool> {
                let root = self.union.tier_of(rank)?.root();
                let Some(found) = open_below(&root, dir.path())? else { return Ok(false) };
                let (found, kept) = (found.stat(None)?, dir.copy(rank)?.stat(None)?);
                let body = |stat: Option<Stat>| stat.map(|stat| (stat.body, stat.generation));
                Ok(body(found) == body(kept))
            };
            match look() {
                Ok(true) => {}
                Ok(false) | Err(Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR | Errno::ELOOP) => return Ok(false),
                Err(errno) => return Err(Broken { rank, errno }),
            }
        }
        Ok(true)
    }

    /// Runs `step` for each file that nothing has ended, some at a time with the gates of their
    /// directories closed; the directories on `rank` keep their times.
    pub(super) fn each_run(
        &mut self,
        rank: Rank,
        step: &mut dyn FnMut(&mut Self, &NamesClosed<'_>, usize) -> std::result::Result<(), Refused>,
    ) -> std::result::Result<(), Broken> {
        for run in runs(self.batch, &self.open()) {
            let (union, batch) = (self.union, self.batch);
            let dirs = dirs_of(batch, &run);
            let note = self.note.take();
            let outcome = union.with_names_closed(&dirs, rank, &|had| tell(note.as_ref(), rank, had), |closed| {
                for at in &run {
                    if let Err(refused) = step(self, closed, *at) {
                        self.outcomes[*at] = Some(refused.into());
                        if matches!(refused, Refused::Stuck(_)) {
                            self.stuck.push(*at);
                        }
                    }
                }
                Ok(())
            });
            self.note = note;
            match outcome {
                Ok(done) => done?,
                // One of the directories has gone: so have its files.
                Err(Errno::ESTALE | Errno::ENOENT) => {
                    run.iter().for_each(|at| self.outcomes[*at] = Some(Outcome::Skipped(Skip::Gone)));
                }
                Err(errno) => return Err(Broken { rank, errno }),
            }
        }
        Ok(())
    }

    /// Whether some name leads to something on both tiers. What cannot be told counts.
    fn is_on_both(&self, at: usize) -> bool {
        let has = |dir: &Walked<'_>, name: &Name, rank| dir.copy(rank).and_then(|dir| dir.stat(Some(name)));
        let lacks = |found: Result<Option<Stat>>| matches!(found, Ok(None) | Err(Errno::ENOENT | Errno::ESTALE));
        let links = &self.batch[at].names;
        links.iter().any(|(dir, name)| !lacks(has(dir, name, self.from)) && !lacks(has(dir, name, self.to)))
    }

    /// Published copies whose sources stay. Durable, or a power cut would bring a copy back that
    /// may be of a file deleted since.
    pub(super) fn withdraw(&mut self, which: &[usize]) -> std::result::Result<(), Broken> {
        let at_to = |errno| Broken { rank: self.to, errno };
        for run in runs(self.batch, which) {
            let dirs = dirs_of(self.batch, &run);
            let note = |had: &[(&UnionPath, Stat)]| tell(self.note.as_ref(), self.to, had);
            let done = self.union.with_names_closed(&dirs, self.to, &note, |closed| {
                let each = run.iter().map(|at| {
                    let ready = &self.batch[*at];
                    let (links, staged) = (ready.links(), &ready.copied.staged);
                    (*at, self.union.withdraw(closed, &ready.subject, &links, staged, self.to))
                });
                each.collect::<Vec<_>>()
            });
            for (at, withdrawn) in done.map_err(at_to)? {
                if let Err(errno) = withdrawn {
                    let path = self.batch[at].item.path();
                    tracing::warn!(%path, tier = %self.to, "a copy that is not wanted stays until the next start: {errno}");
                    self.stuck.push(at);
                }
            }
        }
        if which.is_empty() { Ok(()) } else { self.sync(self.to) }
    }

    /// Makes what was renamed on a tier durable.
    pub(super) fn sync(&self, rank: Rank) -> std::result::Result<(), Broken> {
        let (own, whole) = if rank == self.to {
            (&self.staging, self.syncing_to)
        } else {
            (&self.trash, self.syncing_from.as_deref())
        };
        let mut dirs: Vec<&Arc<Walked<'_>>> = self.batch.iter().flat_map(|r| r.names.iter().map(|(d, _)| d)).collect();
        dirs.sort_by_key(|dir| Arc::as_ptr(dir));
        dirs.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let sync_dir = |dir: &&Arc<Walked<'_>>| match dir.sync(rank) {
            Err(Errno::ENOENT | Errno::ESTALE) => Ok(()),
            other => other,
        };
        let done = match whole {
            Some(whole) if dirs.len() > DIRS_SYNCED_MAX => self.union.sync_whole(rank, whole),
            _ => each_durable(&dirs, sync_dir).and_then(|()| own.fsync()),
        };
        done.map_err(|errno| Broken { rank, errno })
    }

    /// Takes copies back that are seen already, and lets those go on that wait for their sources.
    pub(super) fn unpublish(&mut self, which: &[usize]) -> std::result::Result<(), Broken> {
        let at_to = |errno| Broken { rank: self.to, errno };
        for run in runs(self.batch, which) {
            let dirs = dirs_of(self.batch, &run);
            let note = |had: &[(&UnionPath, Stat)]| tell(self.note.as_ref(), self.to, had);
            let done = self.union.with_names_closed(&dirs, self.to, &note, |closed| {
                let each = run.iter().map(|at| {
                    let ready = &self.batch[*at];
                    let (links, staged) = (ready.links(), &ready.copied.staged);
                    let back = (self.to, self.staging.as_ref());
                    (*at, self.union.unpublish(closed, &ready.subject, &links, staged, back))
                });
                Ok(each.collect::<Vec<_>>())
            });
            let done = match done.and_then(|done| done) {
                Err(Errno::ESTALE | Errno::ENOENT) => continue,
                other => other.map_err(at_to)?,
            };
            for (at, unpublished) in done {
                match unpublished {
                    Ok(()) => {}
                    // Neither the source nor the copy can be taken away now: the next start does it.
                    Err(Refused::Stuck(_) | Refused::Failed(_)) => self.stuck.push(at),
                    // Removed meanwhile: either is seen, or none.
                    Err(Refused::Gone) if !self.is_on_both(at) => {}
                    Err(why) => {
                        let path = self.batch[at].item.path();
                        tracing::warn!(%path, ?why, "is on two tiers: a program beside the mount uses the slower copy, and `tierfs check` lists it");
                    }
                }
            }
        }
        let synced = if which.is_empty() { Ok(()) } else { self.sync(self.to) };
        which.iter().for_each(|at| self.claims[*at] = None);
        synced
    }
}

fn tell(note: Option<&Note>, rank: Rank, had: &[(&UnionPath, Stat)]) {
    let had: Vec<Had> = had
        .iter()
        .map(|(path, stat)| Had { rank, path: (*path).clone(), atime: stat.atime, mtime: stat.mtime })
        .collect();
    if let Some(Err(errno)) = note.map(|note| note.tell(&had)) {
        tracing::debug!("times of directories are not on record: {errno}");
    }
}

/// Files that are dealt with under the same closed gates: neighbours in one directory, or one with
/// several names alone.
fn runs(batch: &[Ready<'_>], which: &[usize]) -> Vec<Vec<usize>> {
    let dir = |at: usize| match batch[at].names.as_slice() {
        [(dir, _)] => Some(dir),
        _ => None,
    };
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for at in which {
        let joins =
            runs.last().and_then(|run| run.first().map(|first| (run.len(), *first))).is_some_and(|(len, first)| {
                len < RUN_FILES_MAX && dir(first).zip(dir(*at)).is_some_and(|(a, b)| Arc::ptr_eq(a, b))
            });
        match runs.last_mut().filter(|_| joins) {
            Some(run) => run.push(*at),
            None => runs.push(vec![*at]),
        }
    }
    runs
}

fn dirs_of<'r, 'a>(batch: &'r [Ready<'a>], run: &[usize]) -> Vec<&'r Walked<'a>> {
    run.iter().flat_map(|at| batch[*at].names.iter().map(|(dir, _)| dir.as_ref())).collect()
}
