//! Room on the tiers that files come to, counted down as they come.

use std::collections::HashMap;

use crate::types::errno::Result;
use crate::types::ids::Rank;
use crate::union::Union;

/// What moved files may still take on one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    bytes: u64,
    files: u64,
}

impl Room {
    pub(super) fn new(bytes: u64, files: u64) -> Room {
        Room { bytes, files }
    }

    /// As it is on `rank` now.
    pub(super) fn of(union: &Union, rank: Rank) -> Result<Room> {
        Ok(Room::new(union.tier_of(rank)?.holds(union.room(rank)?), union.files_left(rank)?))
    }

    /// Takes the room of one more file of so many bytes. One that does not fit takes none, and says
    /// nothing of smaller ones.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let fits = self.files > 0 && bytes <= self.bytes;
        if fits {
            self.files -= 1;
            self.bytes -= bytes;
        }
        fits
    }

    /// A file of so many bytes has left the tier.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.files = self.files.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The room of every tier that files have left or come to so far, and the filesystem that it is of.
#[derive(Debug, Default)]
pub(super) struct Rooms(HashMap<Rank, (Room, u64)>);

impl Rooms {
    /// Moves a file of so many bytes, if it fits: it is on both tiers before it leaves the first.
    ///
    /// # Errors
    /// What the tiers say.
    pub(super) fn shift(&mut self, union: &Union, (from, to): (Rank, Rank), bytes: u64) -> Result<bool> {
        let (left, mut come_to) = (self.seen(union, from)?, self.seen(union, to)?);
        if !come_to.0.take(bytes) {
            return Ok(false);
        }
        // On one filesystem nothing is won or lost.
        if left.1 != come_to.1 {
            self.0.insert(to, come_to);
            self.0.entry(from).and_modify(|(room, _)| room.give_back(bytes));
        }
        Ok(true)
    }

    fn seen(&mut self, union: &Union, rank: Rank) -> Result<(Room, u64)> {
        if let Some(seen) = self.0.get(&rank) {
            return Ok(*seen);
        }
        let seen = (Room::of(union, rank)?, union.tier_of(rank)?.space()?.filesystem);
        self.0.insert(rank, seen);
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_does_not_fit_leaves_its_room_to_smaller_ones() {
        let mut room = Room::new(100, 3);
        let taken: Vec<bool> = [60, 50, 40, 1, 0, 0].into_iter().map(|bytes| room.take(bytes)).collect();
        assert_eq!(taken, [true, false, true, false, true, false], "no file more than there are inodes");
        room.give_back(40);
        assert_eq!(room, Room::new(40, 1));
    }
}
