//! Finding things: lookup, getattr, readlink, forget, and the directory behind a number.

use std::sync::Arc;
use std::time::Duration;

use super::dirs::Node;
use super::identity::{self, Shown};
use super::inodes::{Place, Seen, Since, Spot};
use super::resolve::Resolution;
use super::{Attr, Found, Union};
use crate::tier::{Dir, File, Open};
use crate::types::attr::{Kind, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank, Ranks};
use crate::types::name::Name;

impl Union {
    /// Looks `name` up in `parent`, and counts the lookup if something is there.
    ///
    /// # Errors
    /// EIO where a tier that might hold it is missing; what a tier says.
    pub fn lookup(&self, parent: Ino, name: &Name) -> Result<Found> {
        if parent == Ino::ROOT && name.is_private() {
            return Ok(Found::Absent(self.trusted()));
        }
        let quiet = self.gates.quiet();
        let since = self.inodes.since();
        let node = self.dir(parent)?;
        let found = self.resolve(&node, name)?;
        let certain = || self.gates.is_quiet_since(quiet) && self.states.is_era(node.era);
        match found {
            Resolution::Absent if certain() => return Ok(Found::Absent(self.ttl_in(&node))),
            Resolution::Absent => {}
            ref found => {
                if let Some(attr) = self.enter_since(since, &node, name, found, &certain)? {
                    return Ok(Found::Object(attr));
                }
            }
        }
        self.lookup_again(parent, name, &found)
    }

    /// Looks again what `found` may have caught on its way from one tier to another: on the tier it
    /// was looked for first before it came there, and on the next after it had left.
    fn lookup_again(&self, parent: Ino, name: &Name, found: &Resolution) -> Result<Found> {
        let node = self.dir(parent)?;
        let dir = match found {
            Resolution::Dir(copies) => copies.last(),
            Resolution::Absent | Resolution::File(..) => None,
        };
        // The times of a directory are not its own while names in it are closed.
        let below = match dir {
            Some((rank, stat)) => self.identify(*rank, node.copy(*rank)?.as_ref(), Some(name), stat)?.0,
            None => parent,
        };
        let _passing = self.gates.both_names(parent, below);
        let since = self.inodes.since();
        let node = self.dir(parent)?;
        match self.resolve(&node, name)? {
            Resolution::Absent => Ok(Found::Absent(self.ttl_in(&node))),
            found => {
                let entered = self.enter_since(since, &node, name, &found, &|| self.states.is_era(node.era))?;
                entered.map(Found::Object).ok_or(Errno::ESTALE)
            }
        }
    }

    /// Looks a known inode up by its number, as `open_by_handle_at(2)` asks for it, and counts the
    /// lookup.
    ///
    /// # Errors
    /// ESTALE if the kernel has forgotten it; as [`Union::lookup`].
    pub fn lookup_known(&self, ino: Ino) -> Result<Found> {
        if ino == Ino::ROOT {
            // Lookups of the root are not counted.
            return self.getattr(ino).map(Found::Object);
        }
        let spot = self.inodes.named(ino)?;
        match self.lookup(spot.parent, &spot.name)? {
            Found::Object(attr) if attr.ino != ino => {
                self.forget(attr.ino, 1);
                Err(Errno::ESTALE)
            }
            found => Ok(found),
        }
    }

    /// The directory above one, for the same purpose.
    ///
    /// # Errors
    /// As [`Union::lookup_known`].
    pub fn lookup_parent(&self, ino: Ino) -> Result<Found> {
        self.lookup_known(self.inodes.named(ino)?.parent)
    }

    /// Counts a lookup of what was just made, or found, under `name` while all tiers were there.
    ///
    /// # Errors
    /// EIO where it has gone with its tier meanwhile; what a tier says.
    pub(super) fn enter(&self, node: &Node, name: &Name, found: &Resolution) -> Result<Attr> {
        let certain = || self.states.is_era(node.era);
        let entered = self.enter_since(self.inodes.since(), node, name, found, &certain)?;
        entered.map_or_else(|| self.enter_again(node.ino, name, found), Ok)
    }

    /// A tier has gone or come between the making and the note of it. Whoever made it would be told by the
    /// kernel, which tries again, that somebody else has.
    fn enter_again(&self, parent: Ino, name: &Name, found: &Resolution) -> Result<Attr> {
        let node = self.dir(parent)?;
        let since = self.inodes.since();
        let same = |rank: Rank, before: &Stat| -> Result<Stat> {
            let now = node.copy(rank)?.stat(Some(name))?.ok_or(Errno::EIO)?;
            if (now.body, now.generation) == (before.body, before.generation) { Ok(now) } else { Err(Errno::EIO) }
        };
        let now = match found {
            Resolution::Absent => return Err(Errno::ENOENT),
            Resolution::File(rank, stat) => Resolution::File(*rank, same(*rank, stat)?),
            Resolution::Dir(copies) => {
                let there = copies.iter().filter(|(rank, _)| !node.missing.has(*rank));
                Resolution::Dir(there.map(|(rank, stat)| Ok((*rank, same(*rank, stat)?))).collect::<Result<_>>()?)
            }
        };
        let entered = self.enter_since(since, &node, name, &now, &|| self.states.is_era(node.era))?;
        entered.ok_or(Errno::EIO)
    }

    /// Counts a lookup of what was found under `name` by a look that began at `since`; nothing if what was found is
    /// not `certain`.
    pub(super) fn enter_since(
        &self,
        since: Since,
        node: &Node,
        name: &Name,
        found: &Resolution,
        certain: &dyn Fn() -> bool,
    ) -> Result<Option<Attr>> {
        let (rank, ranks, stat, body) = match found {
            Resolution::Absent => return Err(Errno::ENOENT),
            Resolution::File(rank, stat) => (*rank, Ranks::only(*rank), *stat, stat),
            Resolution::Dir(copies) => {
                let (rank, stat) = copies.last().ok_or(Errno::EIO)?;
                (*rank, found.ranks(), self.merged(copies)?, stat)
            }
        };
        let stamp = self.stamp_of(rank, node.copy(rank)?.as_ref(), Some(name), body)?;
        let (ino, generation) =
            stamp.map_or((identity::of_body(body.body), body.generation), |stamp| (stamp.ino, stamp.generation));
        let shown = stamp.and_then(|stamp| stamp.shown);
        let stat = Shown::over(shown, stat);
        let seen = Seen {
            ino,
            parent: node.ino,
            name,
            rank,
            ranks,
            missing: node.missing,
            body: body.body,
            generation: body.generation,
            kind: stat.kind(),
            nlink: stat.nlink,
            shown,
            since,
        };
        if let Resolution::Dir(copies) = found
            && self.states.mixed()
            && let Some(known) = self.known_by_other_copy(&seen, copies)
        {
            let Some((generation, changed)) = self.inodes.again(known, &seen, certain)? else { return Ok(None) };
            if changed {
                self.dirs.close(known);
            }
            self.dirs.learn(known, copies);
            let stat = self.fronted_as(known, (node, name), copies, stat);
            let ttl = self.ttl_in(node);
            return Ok(Some(Attr { ino: known, generation, stat, ttl, name_ttl: ttl }));
        }
        let Some(changed) = self.inodes.remember(&seen, certain) else { return Ok(None) };
        let mut stat = stat;
        if let Resolution::Dir(copies) = found {
            if changed {
                self.dirs.close(ino);
            }
            self.dirs.learn(ino, copies);
            stat = self.fronted_as(ino, (node, name), copies, stat);
        }
        let name_ttl = self.ttl_in(node);
        let ttl = if stat.kind() == Kind::File { self.file_ttl(ino, name_ttl) } else { name_ttl };
        let generation = generation.wrapping_add(self.inodes.reborn(ino));
        Ok(Some(Attr { ino, generation, stat, ttl, name_ttl }))
    }

    /// The number under which the kernel knows this directory already, if that is not the one its slowest
    /// copy gives that is there: it knows it from when other tiers were there. Two numbers of one directory
    /// would be two directories to the kernel, of which each keeps names that have gone from the other.
    fn known_by_other_copy(&self, seen: &Seen<'_>, copies: &[(Rank, Stat)]) -> Option<Ino> {
        let known = copies.iter().rev().find_map(|(rank, stat)| self.dirs.of_body(*rank, stat.body))?;
        let here = self.inodes.dir(known).is_ok_and(|(spot, _)| (spot.parent, &spot.name) == seen.place());
        (here && known != seen.ino).then_some(known)
    }

    /// Takes back `count` lookups.
    pub fn forget(&self, ino: Ino, count: u64) {
        let kind = self.inodes.kind(ino);
        if self.inodes.forget(ino, count) && kind == Ok(Kind::Dir) {
            self.forget_dir(ino);
        }
    }

    pub(super) fn forget_dir(&self, ino: Ino) {
        self.dirs.forget(ino);
        // Somebody may have looked it up again meanwhile. Who does it later learns it later.
        if self.inodes.is_looked_up(ino)
            && let Ok(stats) = self.dir(ino).and_then(|node| node.stats())
        {
            self.dirs.learn(ino, &stats);
        }
    }

    /// Attributes.
    ///
    /// # Errors
    /// ESTALE if the inode's names lead elsewhere now; what a tier says.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        if self.inodes.kind(ino)? == Kind::Dir {
            let quiet = self.gates.quiet();
            let node = self.dir(ino)?;
            let mut copies = node.stats()?;
            let mut settled = true;
            if !self.gates.is_quiet_since(quiet) {
                if self.missing().is_empty() {
                    let _passing = self.gates.names(ino);
                    copies = node.stats()?;
                } else {
                    // A move that hangs in a tier that is away may keep the gate closed for as long as that hangs. What
                    // a swap has not given its times back yet is not to be remembered.
                    settled = false;
                }
            }
            let stat = self.fronted(ino, node.missing, &copies, self.merged(&copies)?);
            if ino == Ino::ROOT {
                // Nobody looks it up.
                self.learn_acl(&node);
            }
            let generation = copies.last().map_or(0, |(_, stat)| stat.generation);
            let ttl = if settled { self.ttl_in(&node) } else { Duration::ZERO };
            return Ok(Union::attr(ino, generation, stat, ttl));
        }
        let (stat, ttl) = self.reach(ino, self.inodes.place(ino)?, |place| match place {
            Place::Orphan(file) => Ok((file.stat()?, self.settings.ttl)),
            Place::Named(spot) => self.stat_at(ino, spot),
        })?;
        Ok(Union::attr(ino, stat.generation, stat, self.file_ttl(ino, ttl)))
    }

    /// Does `act` where the file is. The name may go between the look for it and the act: an open file
    /// is then held by something else.
    pub(super) fn reach<T>(&self, ino: Ino, place: Place, act: impl Fn(Place) -> Result<T>) -> Result<T> {
        let named = matches!(place, Place::Named(_));
        match act(place) {
            Err(Errno::ESTALE) if named => match self.inodes.place(ino)? {
                Place::Named(_) => Err(Errno::ESTALE),
                orphan @ Place::Orphan(_) => act(orphan),
            },
            other => other,
        }
    }

    fn stat_at(&self, ino: Ino, mut spot: Spot) -> Result<(Stat, Duration)> {
        loop {
            let node = self.dir(spot.parent)?;
            let found = node.find(spot.rank).map(|dir| dir.stat(Some(&spot.name))).transpose()?.flatten();
            if let Some(stat) = found
                && (stat.body, stat.generation) == (spot.body, spot.generation)
            {
                return Ok((Shown::over(spot.shown, stat), self.ttl_in(&node)));
            }
            spot = self.next_spot(ino, &spot)?;
        }
    }

    /// Where else a file may be that is not at `wrong`: under another of its names, or under the
    /// same on another tier if it has just moved.
    fn next_spot(&self, ino: Ino, wrong: &Spot) -> Result<Spot> {
        // Between its leaving one tier and the note of that in the table the gate is closed.
        drop(self.gates.file(ino));
        let node = self.dir(wrong.parent)?;
        // The name is not wrong: its tier is away.
        if node.missing.has(wrong.rank) {
            return Err(Errno::EIO);
        }
        // It was aside and is back.
        if let Some(dir) = node.find(wrong.rank)
            && let Some(stat) = dir.stat(Some(&wrong.name))?
            && (stat.body, stat.generation) == (wrong.body, wrong.generation)
        {
            return Ok(wrong.clone());
        }
        match self.inodes.next_place(ino, wrong) {
            Err(Errno::ESTALE) => {}
            other => return other,
        }
        let node = self.dir(wrong.parent)?;
        let Resolution::File(rank, stat) = self.resolve(&node, &wrong.name)? else { return Err(Errno::ESTALE) };
        let stamp = self.stamp_of(rank, node.copy(rank)?.as_ref(), Some(&wrong.name), &stat)?;
        // It may also have gone and come back: another body on the same tier.
        let same = (rank, stat.body, stat.generation) == (wrong.rank, wrong.body, wrong.generation);
        if same || stamp.is_none_or(|stamp| stamp.ino != ino) {
            return Err(Errno::ESTALE);
        }
        let shown = stamp.and_then(|stamp| stamp.shown);
        self.inodes.moved(ino, rank, stat.body, stat.generation, shown);
        Ok(Spot { rank, body: stat.body, generation: stat.generation, shown, ..wrong.clone() })
    }

    /// While a file may be written past tierfs, through a mapping or by passthrough, the kernel
    /// must ask for its attributes each time: it does not see such writes.
    fn file_ttl(&self, ino: Ino, ttl: Duration) -> Duration {
        let ttl = ttl.min(self.settings.file_ttl);
        match self.inodes.writing(ino) {
            (true, _) => Duration::ZERO,
            (false, false) => ttl,
            (false, true) => {
                let written = self.hold(ino).and_then(|file| file.reopen(Open::ReadQuiet)?.is_written());
                if written == Ok(false) {
                    self.inodes.at_rest(ino);
                    ttl
                } else {
                    Duration::ZERO
                }
            }
        }
    }

    /// As an answer about an open file, whose directory is not looked at.
    pub(super) fn open_attr(&self, ino: Ino, stat: Stat) -> Attr {
        let stat = Shown::over(self.inodes.shown(ino), stat);
        Union::attr(ino, stat.generation, stat, self.file_ttl(ino, self.settings.ttl))
    }

    /// Has a directory watched, if that must be asked for.
    pub(super) fn learn(&self, rank: Rank, dir: &dyn Dir) -> bool {
        match (self.learner.get(), dir.held()) {
            (None, _) => true,
            (Some(learner), Some(fd)) => learner.learn(rank, fd),
            (Some(_), None) => false,
        }
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// ESTALE if the name leads elsewhere now; what a tier says.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        match self.inodes.place(ino)? {
            Place::Orphan(_) => Err(Errno::ESTALE),
            Place::Named(spot) => self.dir(spot.parent)?.copy(spot.rank)?.readlink(&spot.name),
        }
    }

    /// The file behind a number, held and known to be that file, for whoever changes it.
    ///
    /// A program that may write into a tier could put another file under the name at any moment;
    /// what the kernel allowed the caller to do concerns this one only.
    pub(super) fn hold(&self, ino: Ino) -> Result<Arc<dyn File>> {
        self.reach(ino, self.inodes.place(ino)?, |place| self.hold_from(ino, place))
    }

    pub(super) fn hold_from(&self, ino: Ino, place: Place) -> Result<Arc<dyn File>> {
        let mut spot = match place {
            Place::Orphan(file) => return Ok(file),
            Place::Named(spot) => spot,
        };
        loop {
            if let Some(dir) = self.dir(spot.parent)?.find(spot.rank)
                && let Some(file) = self.hold_at(dir.as_ref(), &spot)?
            {
                return Ok(file);
            }
            spot = self.next_spot(ino, &spot)?;
        }
    }

    fn hold_at(&self, dir: &dyn Dir, spot: &Spot) -> Result<Option<Arc<dyn File>>> {
        let file = match dir.open(&spot.name, Open::Hold) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        let stat = file.stat()?;
        Ok(((stat.body, stat.generation) == (spot.body, spot.generation)).then(|| file.into()))
    }
}
