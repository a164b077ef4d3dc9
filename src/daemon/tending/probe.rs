//! Asking a tier whether it is there.

use super::Shared;
use crate::tier::marker::{self, Marker};
use crate::tier::{Open, Tier};
use crate::types::errno::{Errno, Result};
use crate::types::ids::Rank;
use crate::types::name::Name;

impl Shared {
    /// Asks a tier that is served, if `thorough` so that it must go to the disk for the answer. It may be that this
    /// does not come back.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn probe(&self, rank: Rank, thorough: bool) -> std::result::Result<(), String> {
        self.ask(rank, thorough).map_err(|(_, words)| words)
    }

    /// As [`Shared::probe`], but what tierfs itself lacks is no fault of the tier.
    ///
    /// # Errors
    /// What is wrong with the tier, in words.
    pub(super) fn find_fault(&self, rank: Rank, thorough: bool) -> std::result::Result<(), String> {
        fault(self.ask(rank, thorough))
    }

    fn ask(&self, rank: Rank, thorough: bool) -> std::result::Result<(), (Errno, String)> {
        let Some(seat) = self.seats.at(rank) else { return Ok(()) };
        let Some(tier) = seat.guarded.unguarded() else { return Ok(()) };
        let known = *seat.marker.lock();
        let path = tier.path().map(|path| path.display().to_string()).unwrap_or_default();
        answers(tier.as_ref(), known.as_ref(), thorough).map_err(|errno| match errno {
            Errno::ENOENT => (errno, format!("{path} has lost its .tierfs/marker")),
            other => (errno, format!("{path} fails: {other}")),
        })
    }
}

/// Without a descriptor or memory the tier was not even asked (`open(2)`), and nothing is known of it.
fn fault(asked: std::result::Result<(), (Errno, String)>) -> std::result::Result<(), String> {
    match asked {
        Err((Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM, words)) => {
            tracing::debug!("a tier could not be asked: {words}");
            Ok(())
        }
        other => other.map_err(|(_, words)| words),
    }
}

/// Whether the tier answers as the one that its marker makes it. From memory a dead disk still tells what
/// was read from it before.
fn answers(tier: &dyn Tier, known: Option<&Marker>, thorough: bool) -> Result<()> {
    let root = tier.root();
    root.stat(None)?.ok_or(Errno::ENOENT)?;
    tier.space()?;
    let own = marker::own_dir(root.as_ref())?.ok_or(Errno::ENOENT)?;
    if thorough {
        own.open(&Name::new(marker::FILE)?, Open::ReadQuiet)?.drop_cache();
    }
    match marker::read(root.as_ref()) {
        Ok(Some(found)) if known.is_none_or(|known| known.tier == found.tier) => Ok(()),
        Ok(_) => Err(Errno::ENOENT),
        Err(marker::Broken::Os(errno)) => Err(errno),
        Err(_) => Err(Errno::EIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All tiers were given up, with every open file, once a program had used the descriptors up.
    #[test]
    fn a_tier_is_not_given_up_because_tierfs_has_no_descriptor() {
        let failed = |errno| fault(Err((errno, "fails".into())));
        assert_eq!([Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM].map(failed), [const { Ok(()) }; 3]);
        assert_eq!(failed(Errno::EIO), Err("fails".into()));
        assert_eq!(fault(Ok(())), Ok(()));
    }
}
