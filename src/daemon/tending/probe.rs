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
        let Some(seat) = self.seats.at(rank) else { return Ok(()) };
        let Some(tier) = seat.guarded.unguarded() else { return Ok(()) };
        let known = *seat.marker.lock();
        let path = tier.path().map(|path| path.display().to_string()).unwrap_or_default();
        answers(tier.as_ref(), known.as_ref(), thorough).map_err(|errno| match errno {
            Errno::ENOENT => format!("{path} has lost its .tierfs/marker"),
            other => format!("{path} fails: {other}"),
        })
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
