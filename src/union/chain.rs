//! The directory behind a number: opened on every tier that holds it and is there, down the chain of its
//! ancestors.

use std::sync::Arc;

use super::Union;
use super::dirs::Node;
use super::inodes::Spot;
use crate::tier::Dir;
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank, Ranks};

impl Union {
    /// The directory behind a number, opened on every tier that holds it and is there.
    pub(super) fn dir(&self, ino: Ino) -> Result<Arc<Node>> {
        loop {
            let era = self.states.era();
            if let Some(node) = self.dirs.get(ino, era) {
                return Ok(node);
            }
            let opened = self.open_chain(ino, era);
            // A tier has come meanwhile, which perhaps holds the directory, too; or one has gone.
            if self.states.is_era(era) {
                return opened;
            }
        }
    }

    fn open_chain(&self, ino: Ino, era: u64) -> Result<Arc<Node>> {
        // From the deepest ancestor that is open downwards: a tree may be deeper than the stack.
        let mut closed = vec![(ino, self.inodes.dir(ino)?)];
        let mut upwards = Upwards::from(ino);
        let mut node = loop {
            let (_, (spot, _)) = closed.last().ok_or(Errno::EIO)?;
            match self.dirs.get(spot.parent, era) {
                Some(node) => break node,
                // Only in another era is the root not open.
                None if spot.parent == Ino::ROOT => return Err(Errno::ESTALE),
                None => {
                    upwards.to(spot.parent)?;
                    closed.push((spot.parent, self.inodes.dir(spot.parent)?));
                }
            }
        };
        for (ino, (spot, ranks)) in closed.into_iter().rev() {
            let (clones, maybe) = (self.inodes.clones(), self.inodes.maybe(ino));
            let opened = Arc::new(self.open_dir(&node, ino, &spot, (ranks, maybe))?);
            if maybe.iter().any(|rank| !opened.missing.has(rank)) {
                let (ranks, missing) = (opened.ranks(), opened.missing);
                self.inodes.settle(ino, (ranks, missing), clones, &|| self.states.is_era(era));
            }
            node = self.dirs.keep_first(opened);
            // A copy that was found or made meanwhile: the next request opens it with the others.
            let expected =
                |now: Ranks| now.iter().filter(|rank| !node.missing.has(*rank)).fold(Ranks::NONE, Ranks::with);
            if self.inodes.dir(ino).is_ok_and(|(_, now)| expected(now) != node.ranks()) {
                self.dirs.close(ino);
            }
        }
        Ok(node)
    }

    /// `ranks` are where it is, and of these it only may be on those of `maybe`.
    fn open_dir(&self, parent: &Node, ino: Ino, spot: &Spot, (ranks, maybe): (Ranks, Ranks)) -> Result<Node> {
        let mut copies: Vec<(Rank, Arc<dyn Dir>)> = Vec::new();
        for rank in ranks.iter().filter(|rank| !parent.missing.has(*rank)) {
            let unsure = maybe.has(rank);
            let Some(above) = parent.find(rank) else {
                if unsure {
                    continue;
                }
                return Err(Errno::EIO);
            };
            let dir = match above.open_dir(&spot.name) {
                Err(Errno::ENOENT) if unsure => continue,
                // It hides what slower tiers hold.
                Err(Errno::ENOTDIR) if unsure => break,
                Err(Errno::ENOENT | Errno::ENOTDIR) => return Err(Errno::ESTALE),
                other => other?,
            };
            copies.push((rank, dir));
        }
        // All of it is on tiers that are missing.
        if copies.is_empty() {
            return Err(Errno::EIO);
        }
        self.prove(ino, spot, &copies)?;
        let watched = copies.iter().fold(true, |watched, (rank, dir)| watched & self.learn(*rank, dir.as_ref()));
        Ok(Node::new(ino, parent.tiers(), watched, copies))
    }

    /// ESTALE if another directory is at the place. The copy that gives the number tells; where that is away or has
    /// gone, another that is known to be one of this directory.
    fn prove(&self, ino: Ino, spot: &Spot, copies: &[(Rank, Arc<dyn Dir>)]) -> Result<()> {
        let stat = |dir: &Arc<dyn Dir>| dir.stat(None)?.ok_or(Errno::ESTALE);
        if let Some((_, dir)) = copies.iter().find(|(rank, _)| *rank == spot.rank) {
            let stat = stat(dir)?;
            let same = (stat.body, stat.generation) == (spot.body, spot.generation);
            return if same { Ok(()) } else { Err(Errno::ESTALE) };
        }
        for (rank, dir) in copies {
            if self.dirs.of_body(*rank, stat(dir)?.body) == Some(ino) {
                return Ok(());
            }
        }
        Err(Errno::ESTALE)
    }
}

/// A way up from a directory. Places that are wrong could make it a ring, which is noticed after three times its
/// length at most (R. P. Brent, An improved Monte Carlo factorization algorithm, BIT 20, 1980).
#[derive(Debug)]
pub(super) struct Upwards {
    mark: Ino,
    steps: u64,
}

impl Upwards {
    pub(super) fn from(ino: Ino) -> Upwards {
        Upwards { mark: ino, steps: 0 }
    }

    /// ELOOP where the way has been before.
    pub(super) fn to(&mut self, parent: Ino) -> Result<()> {
        if parent == self.mark {
            return Err(Errno::ELOOP);
        }
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.mark = parent;
        }
        Ok(())
    }
}
