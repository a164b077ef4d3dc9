//! The walk over all tiers at once, one merged directory after another, by several threads.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Checked, Finding, What};
use crate::migrate::scan::Progress;
use crate::migrate::scan::queue::Queue;
use crate::tier::Dir;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Rank, Ranks};
use crate::types::name::Name;
use crate::types::path::UnionPath;

/// A directory with its copies, fastest first: those that the union merges.
#[derive(Debug)]
pub(super) struct Merged {
    pub path: UnionPath,
    pub copies: Vec<(Rank, Arc<dyn Dir>)>,
}

/// What is to be looked at of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    /// It and every name in it.
    All,
    /// One name in it.
    Only(&'a Name),
}

/// Directories below, each with the tiers whose copies are merged.
pub(super) type Below = Vec<(Vec<u8>, Ranks)>;

/// Looks at a directory.
pub(super) type Visit<'a> = &'a (dyn Fn(&Merged, Part<'_>, &mut Vec<Finding>) -> Below + Sync);

enum Job {
    Start(UnionPath),
    Below(Arc<Merged>, Vec<u8>, Ranks),
}

/// Where a path leads.
#[derive(Debug)]
pub(super) enum Place {
    /// To a directory.
    Dir(Merged),
    /// To something else in this directory.
    Name(Merged, Box<Name>),
    /// Nowhere.
    Absent,
}

/// Goes down to a path.
pub(super) fn find(tiers: &[Checked], path: &UnionPath, findings: &mut Vec<Finding>) -> Place {
    let roots = tiers.iter().map(|tier| (tier.rank, tier.tier.root())).collect();
    let mut at = Merged { path: UnionPath::root(), copies: roots };
    for name in path.names() {
        let below = at.path.join(name.as_bytes());
        if at.path.is_root() && name.is_private() {
            return Place::Absent;
        }
        let mut ranks = Ranks::NONE;
        for (rank, dir) in &at.copies {
            match dir.stat(Some(&name)) {
                Ok(None) => {}
                Ok(Some(stat)) if stat.is_dir() => ranks = ranks.with(*rank),
                Ok(Some(_)) if ranks.is_empty() && below == *path => {
                    return Place::Name(at, Box::new(name));
                }
                Ok(Some(_)) => break,
                Err(errno) => findings.push(unreadable(&below, *rank, errno)),
            }
        }
        at = match open(&at, name.as_bytes(), ranks, findings) {
            Some(merged) => merged,
            None => return Place::Absent,
        };
    }
    Place::Dir(at)
}

fn unreadable(path: &UnionPath, rank: Rank, errno: Errno) -> Finding {
    Finding { path: path.clone(), what: What::Unreadable { rank, errno, during: "opening it" } }
}

fn open(parent: &Merged, name: &[u8], ranks: Ranks, findings: &mut Vec<Finding>) -> Option<Merged> {
    let path = parent.path.join(name);
    let mut copies = Vec::new();
    for (rank, dir) in parent.copies.iter().filter(|(rank, _)| ranks.has(*rank)) {
        match Name::new(name).and_then(|name| dir.open_dir(&name)) {
            Ok(dir) => copies.push((*rank, dir)),
            // Removed or replaced meanwhile.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(errno) => findings.push(unreadable(&path, *rank, errno)),
        }
    }
    (!copies.is_empty()).then_some(Merged { path, copies })
}

/// Has every directory at and below `starts` visited, and returns what was found, in no order.
///
/// # Errors
/// Where no thread can be started.
pub(super) fn walk(
    tiers: &[Checked],
    starts: &[UnionPath],
    threads: usize,
    progress: &Progress,
    visit: Visit<'_>,
) -> Result<Vec<Finding>> {
    let queue = Queue::default();
    queue.add(starts.iter().cloned().map(Job::Start).collect());
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..threads.max(1) {
            let thread = std::thread::Builder::new().name("tierfs-check".into());
            let started = thread.spawn_scoped(scope, || {
                let mut findings = Vec::new();
                while let Some((job, _busy)) = queue.next(progress, || {}) {
                    let below = work(tiers, job, visit, &mut findings);
                    queue.add(below);
                }
                all.lock().append(&mut findings);
            });
            match started {
                Err(error) if number == 0 => return Err(Errno::of(&error)),
                // Fewer threads walk as well, only slower.
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok(all.into_inner())
}

fn work(tiers: &[Checked], job: Job, visit: Visit<'_>, findings: &mut Vec<Finding>) -> Vec<Job> {
    let (merged, below) = match job {
        Job::Start(path) => match find(tiers, &path, findings) {
            Place::Dir(merged) => {
                let below = visit(&merged, Part::All, findings);
                (merged, below)
            }
            Place::Name(merged, name) => {
                let below = visit(&merged, Part::Only(&name), findings);
                (merged, below)
            }
            Place::Absent => {
                findings.push(unreadable(&path, Rank::PRIMARY, Errno::ENOENT));
                return Vec::new();
            }
        },
        Job::Below(parent, name, ranks) => match open(&parent, &name, ranks, findings) {
            Some(merged) => {
                let below = visit(&merged, Part::All, findings);
                (merged, below)
            }
            None => return Vec::new(),
        },
    };
    let merged = Arc::new(merged);
    below.into_iter().map(|(name, ranks)| Job::Below(Arc::clone(&merged), name, ranks)).collect()
}
