//! Taking a tier in again.
//!
//! What comes back is proved as at a start: it must have the marker that belongs there, and nobody else
//! may have it. What was cut short is brought to rest before anything of it is seen, while names cannot
//! be changed and no run is at work. Only then the union gets it, and the kernel is told to ask again.

use std::sync::Arc;

use super::Shared;
use crate::config::OutOfBand;
use crate::daemon::{Again, start_watch, tiers};
use crate::migrate;
use crate::types::errno::Errno;
use crate::types::ids::{Rank, Ranks};

impl Shared {
    /// Looks for a tier that is away and takes it in. It may be that this does not come back.
    ///
    /// # Errors
    /// Why it is still away; nothing where it is only to be tried again.
    pub(super) fn bring_back(self: &Arc<Shared>, rank: Rank) -> Result<(), Option<String>> {
        let (Some(place), Some(seat)) = (self.places.get(rank.index()), self.seats.at(rank)) else { return Err(None) };
        let opened = tiers::reopen(&self.config, (rank, place), &self.seats.markers()).map_err(Some)?;
        // A run would not know what becomes of its records. One that is at work ends soon, for want of the tier.
        let Some(turn) = self.turns.background() else { return Err(None) };
        self.seats.install(rank, &opened);
        if let Err((at, errno)) = self.adopt(rank) {
            drop(seat.guarded.remove());
            let at = if at == rank { "it".to_owned() } else { format!("the {at}") };
            let line = "is there, but what was cut short when it went cannot be finished, because";
            return Err(Some(format!("{} {line} {at} fails: {errno}", place.path.display())));
        }
        drop(turn);
        self.seats.keep(rank, opened);
        self.watch_again();
        self.forgetter.everything();
        tracing::info!(tier = %rank, path = %place.path.display(), "is back");
        Ok(())
    }

    pub(super) fn adopt(&self, rank: Rank) -> Result<(), (Rank, Errno)> {
        let at_rank = |errno| (rank, errno);
        self.union.let_changes_end();
        if self.union.missing() == Ranks::only(rank) && !self.config.options.read_only {
            self.union.recover().map_err(at_rank)?;
            migrate::recover_in_use(&self.union)?;
        }
        self.union.regain(rank).map_err(at_rank)
    }

    /// Watches the tiers that are there now.
    pub(super) fn watch_again(&self) {
        if self.config.options.out_of_band != OutOfBand::Watch {
            return;
        }
        let mut watch = self.watch.lock();
        self.union.distrust();
        let before = watch.take();
        *watch = start_watch(&self.seats.opened(), &self.union, &self.forgetter, Again::Yes);
        drop(watch);
        // Only now: what changes meanwhile is told by one of them. Its descriptors keep a filesystem that is
        // gone from being unmounted.
        drop(before);
        if self.union.trusted() <= self.config.options.ttl {
            // Nobody tells changes any more of what the kernel may have kept for long.
            self.forgetter.everything();
        }
    }
}
