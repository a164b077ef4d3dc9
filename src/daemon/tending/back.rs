//! Taking a tier in again.
//!
//! What comes back is proved as at a start: it must have the marker that belongs there, and nobody else
//! may have it. What was cut short is brought to rest before anything of it is seen, while names cannot
//! be changed and no run is at work. Only then the union gets it, and the kernel is told to ask again.

use std::sync::Arc;

use super::Shared;
use crate::config::OutOfBand;
use crate::daemon::{Again, start_watch, tiers};
use crate::migrate::{self, Cut};
use crate::types::errno::Errno;
use crate::types::ids::{Rank, Ranks};

/// What programs have done meanwhile could be undone by finishing it now.
const AT_A_START: &str =
    "{what} was cut short when it went, which only the start of a mount can finish: `tierfs umount`, and mount again";

impl Shared {
    /// Looks for a tier that is away and takes it in. It may be that this does not come back.
    ///
    /// # Errors
    /// Why it is still away; nothing where it is only to be tried again.
    pub(super) fn bring_back(self: &Arc<Shared>, rank: Rank) -> Result<(), Option<String>> {
        let (Some(place), Some(seat)) = (self.places.get(rank.index()), self.seats.at(rank)) else { return Err(None) };
        if seat.is_called() {
            // What they do would come after everything was brought to rest.
            return Err(Some("calls that were made before it went have not come back".into()));
        }
        let (markers, spots) = (self.seats.markers(), self.seats.spots());
        let opened = tiers::reopen(&self.config, (rank, place), &markers, &spots).map_err(Some)?;
        // A run would not know what becomes of its records. One that is at work ends soon, for want of the tier.
        let Some(turn) = self.turns.background() else { return Err(None) };
        self.seats.install(rank, &opened);
        if let Err(reason) = self.adopt(rank) {
            drop(seat.guarded.remove());
            return Err(Some(format!("{} is there, but {reason}", place.path.display())));
        }
        drop(turn);
        self.seats.keep(rank, opened);
        tracing::info!(tier = %rank, path = %place.path.display(), "is back");
        self.tell_back();
        Ok(())
    }

    /// Has the kernel ask again. That may wait for requests, and so for another tier.
    pub(super) fn tell_back(self: &Arc<Shared>) {
        let told = self.in_thread(|shared| {
            shared.watch_again();
            shared.forgetter.everything();
        });
        if !told {
            tracing::warn!("no thread could be started: what was known of the tier may be shown for a while");
        }
    }

    /// Brings everything to rest that was cut short, and gives the tier to the union.
    ///
    /// # Errors
    /// Why that cannot be, for a line that begins with what is there.
    pub(super) fn adopt(&self, rank: Rank) -> Result<(), String> {
        let failed = |(at, errno): (Rank, Errno)| {
            let at = if at == rank { "it".to_owned() } else { format!("the {at}") };
            format!("what was cut short when it went cannot be finished, because {at} fails: {errno}")
        };
        self.union.let_changes_end();
        if !self.config.options.read_only {
            let primary = |errno| failed((Rank::PRIMARY, errno));
            if self.union.has_cut_renames().map_err(primary)? {
                return Err(AT_A_START.replace("{what}", "a rename"));
            }
            self.union.drop_unfinished_records().map_err(primary)?;
            let last = self.union.missing() == Ranks::only(rank);
            let recover = || migrate::recover_in_use(&self.union).map(|()| self.union.mended()).map_err(failed);
            match migrate::cut_short(&self.union).map_err(primary)? {
                Cut::Nothing if last => recover()?,
                Cut::Nothing => {}
                // What is to be compared is not all there, and what is may be an older version.
                Cut::Moves(_) if !last => return Err(AT_A_START.replace("{what}", "moving files")),
                Cut::Moves(from) if self.has_been_away(from) => {
                    return Err(AT_A_START.replace("{what}", "moving files away from a tier that went"));
                }
                Cut::Moves(_) => recover()?,
            }
        }
        self.union.regain(rank).map_err(|errno| failed((rank, errno)))
    }

    /// Whether one of these tiers was away since the mount began: programs may have had the copies that were
    /// on their way from it.
    fn has_been_away(&self, ranks: Ranks) -> bool {
        self.union
            .health()
            .iter()
            .zip((0u8..).map(Rank))
            .any(|(health, rank)| ranks.has(rank) && (health.times_gone > 0 || !health.condition.is_serving()))
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
            self.forgetter.all_but_directories();
        }
    }
}
