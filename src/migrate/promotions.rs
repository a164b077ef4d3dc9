//! The plan for files that were used: those that the policy promotes then, as far as there is room.

use std::collections::{BTreeMap, HashSet};

use super::gather::{Planned, Scanning};
use super::plan::{Draft, plain_age};
use super::room::Room;
use super::scan::Take;
use super::{Error, Event, Order, Skip};
use crate::policy::Policy;
use crate::policy::watermark::Usage;
use crate::types::errno::Errno;
use crate::types::facts::{Facts, Seen};
use crate::types::ids::Rank;
use crate::types::path::UnionPath;

/// Bytes of a block in `Stat::blocks` (`stat(2)`).
const BLOCK: u64 = 512;

impl Scanning<'_> {
    /// The files at `paths` that are on a slower tier than the policy wants them on after their use.
    /// What is no file any more is passed over.
    pub(super) fn promotions(&mut self, policy: &Policy, paths: &[UnionPath]) -> Planned {
        let (now, tiers) = (self.now, self.tiers);
        let mut draft = Draft::default();
        let mut rooms = Rooms { left: BTreeMap::new(), full: Vec::new() };
        for (rank, files) in self.by_rank(paths) {
            self.starts = files.iter().cloned().collect();
            let is_asked = |path: &UnionPath| files.contains(path);
            let keep =
                |seen: &Seen<'_>| if is_asked(&seen.dir.join(seen.name)) { Take::KeepWithPin } else { Take::Count };
            let mut found = Vec::new();
            self.scan(rank, &keep, &mut |facts| found.push(facts))?;
            for facts in found {
                if let Some(to) = policy.promotion_target(&facts, now, tiers)
                    && self.fits(policy, &facts, to, &mut rooms)?
                {
                    draft.add(&facts, to, plain_age(&facts, now));
                }
            }
        }
        let mut plan = draft.finish(Order::Tree);
        plan.skips.extend(rooms.full.into_iter().map(|path| (path, Skip::NoSpace)));
        Ok(plan)
    }

    /// The files among `paths` that are seen on a tier below the primary, by tier.
    fn by_rank(&mut self, paths: &[UnionPath]) -> BTreeMap<Rank, HashSet<UnionPath>> {
        let mut files: BTreeMap<Rank, HashSet<UnionPath>> = BTreeMap::new();
        for path in paths {
            let Some((dir, name)) = path.split() else { continue };
            let found = self.union.walk(&dir).and_then(|dir| Ok(self.union.subject(&dir, &name)?.map(|s| s.rank)));
            match found {
                Ok(Some(rank)) if rank > Rank::PRIMARY => {
                    files.entry(rank).or_default().insert(path.clone());
                }
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE) => {}
                Err(errno) => {
                    self.summary.failed += 1;
                    self.teller.tell(Event::Failed { path: path.clone(), errno, during: "looking at the file" });
                }
            }
        }
        files
    }

    /// Whether a file fits on `to` without bringing it above its high watermark, from where files
    /// would have to leave again. Takes the room.
    fn fits(&self, policy: &Policy, facts: &Facts, to: Rank, rooms: &mut Rooms) -> Result<bool, Error> {
        let mut room = match rooms.left.get(&to) {
            Some(room) => *room,
            None => self.room(policy, to).map_err(|errno| Error::Tier(to, errno))?,
        };
        let fits = room.take(facts.stat.blocks.saturating_mul(BLOCK));
        rooms.left.insert(to, room);
        if !fits {
            rooms.full.push(facts.path.clone());
        }
        Ok(fits)
    }

    fn room(&self, policy: &Policy, rank: Rank) -> Result<Room, Errno> {
        let (free, files) = (self.union.room(rank)?, self.union.files_left(rank)?);
        let marks = policy.watermarks.iter().find(|marks| marks.tier == rank);
        let Some(marks) = marks else { return Ok(Room::new(free, files)) };
        Ok(Room::new(free.min(marks.room(Usage::of(&self.union.tier_of(rank)?.space()?))), files))
    }
}

/// Bytes that tiers still take, and the files that did not fit.
struct Rooms {
    left: BTreeMap<Rank, Room>,
    full: Vec<UnionPath>,
}
