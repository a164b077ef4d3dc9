//! Whether the markers that were found make one whole union. Pure but for [`Found::look`].

use std::path::{Path, PathBuf};

use crate::tier::marker::{Broken, Id, Marker, State};
use crate::tier::place::Root;
use crate::types::errno::Errno;
use crate::types::ids::{Rank, Ranks};

/// What was found at the root of one tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The root, for messages.
    pub path: PathBuf,
    /// What is there.
    pub what: What,
}

/// What a tier root can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The root itself cannot be opened.
    NoRoot(Errno),
    /// A directory without a marker.
    NoMarker,
    /// A marker that cannot be used.
    Broken(Broken),
    /// It is to be an encrypted tier, and there is no volume.
    NoVolume,
    /// The marker cannot be read: it is encrypted, and nobody has unlocked the volume.
    Locked,
    /// What is there does not fit how it is to be read, for this reason.
    Misfit(String),
    /// A marker.
    Marker(Marker),
}

impl Found {
    /// Looks at an opened root, or takes down why it could not be opened.
    pub fn look(path: &Path, root: Result<&Root, Errno>) -> Found {
        let what = root.map_or_else(What::NoRoot, Root::look);
        Found { path: path.to_path_buf(), what }
    }

    /// The marker, if there is a usable one.
    pub fn marker(&self) -> Option<Marker> {
        match self.what {
            What::Marker(marker) => Some(marker),
            What::NoRoot(_) | What::NoMarker | What::Broken(_) | What::NoVolume | What::Locked | What::Misfit(_) => {
                None
            }
        }
    }

    /// Where something is that does not fit how it is to be read, and why.
    pub fn misfit(&self) -> Option<(&Path, &str)> {
        match &self.what {
            What::Misfit(why) => Some((&self.path, why)),
            What::NoRoot(_) | What::NoMarker | What::Marker(_) | What::Broken(_) | What::NoVolume | What::Locked => {
                None
            }
        }
    }

    /// Why the tier counts as missing, in one line.
    pub fn absence(&self) -> String {
        let path = self.path.display();
        match &self.what {
            What::NoRoot(errno) => format!("{path} cannot be opened: {errno}: is its disk mounted?"),
            What::NoVolume => {
                format!("{path} holds no encrypted volume: is its disk mounted? `tierfs key init` makes a new one")
            }
            What::NoMarker | What::Broken(_) | What::Marker(_) | What::Locked | What::Misfit(_) => {
                format!("{path} has no .tierfs/marker: is its disk mounted?")
            }
        }
    }
}

/// Whether a union can be served from what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No tier has ever been part of a union: [`adopt`](crate::tier::marker::adopt) them.
    Fresh,
    /// All tiers are there. Markers still in state `new` may stay so.
    Good,
    /// These are not; the others are right.
    Missing(Ranks),
    /// These tiers are not this union, for this reason.
    Foreign(String),
}

/// Judges the tiers, fastest first, with the ids that the configuration demands of them.
///
/// What is locked says nothing, for it or against it: whoever goes on to serve must have unlocked it.
///
/// A tier counts as missing, never as empty, as soon as anything says that there was one: a marker
/// on another tier, or an id in the configuration.
pub fn verify(found: &[Found], expected: &[Option<Id>]) -> Verdict {
    let verdict = found.iter().find_map(|tier| match &tier.what {
        What::Broken(why) => Some(format!("{}/.tierfs/marker {why}", tier.path.display())),
        What::Misfit(why) => Some(format!("{} {why}", tier.path.display())),
        What::NoRoot(_) | What::NoMarker | What::NoVolume | What::Locked | What::Marker(_) => None,
    });
    let foreign = verdict.or_else(|| foreign(found, expected));
    if let Some(reason) = foreign {
        return Verdict::Foreign(reason);
    }
    let mut absent = Ranks::NONE;
    let mut gone = false;
    let mut was_made = expected.iter().any(Option::is_some);
    for (rank, tier) in (0..).map(Rank).zip(found) {
        match &tier.what {
            What::Marker(marker) => was_made |= marker.state == State::Member,
            What::NoRoot(_) => {
                gone = true;
                absent = absent.with(rank);
            }
            What::NoMarker | What::NoVolume | What::Broken(_) | What::Misfit(_) => absent = absent.with(rank),
            What::Locked => {}
        }
    }
    if was_made {
        if absent.is_empty() { Verdict::Good } else { Verdict::Missing(absent) }
    } else if gone {
        let gone = (0..).map(Rank).zip(found);
        let gone = gone.filter(|(_, tier)| matches!(tier.what, What::NoRoot(_)));
        Verdict::Missing(gone.fold(Ranks::NONE, |ranks, (rank, _)| ranks.with(rank)))
    } else {
        let bare = found.iter().find(|tier| matches!(tier.what, What::NoVolume));
        bare.map_or(Verdict::Fresh, |tier| {
            let path = tier.path.display();
            Verdict::Foreign(format!("{path} holds no encrypted volume yet: run `tierfs key init {path}` first"))
        })
    }
}

/// Whether these are the tiers of one union, in order, with tiers added at the slow end that are not
/// part of a union yet: [`adopt`](crate::tier::marker::adopt) joins them. Also where that was begun
/// before and a crash cut it short.
pub fn grows(found: &[Found]) -> bool {
    let markers: Vec<Marker> = found.iter().filter_map(Found::marker).collect();
    let members = markers.iter().filter(|marker| marker.state == State::Member);
    let Some(tiers_before) = members.map(|marker| usize::from(marker.tiers)).min() else {
        return false;
    };
    let fits = |(index, tier): (usize, &Found)| match &tier.what {
        What::Marker(marker) => {
            marker.rank.index() == index
                && marker.union == markers[0].union
                && usize::from(marker.tiers) <= found.len()
                && markers.iter().filter(|other| other.tier == marker.tier).count() == 1
        }
        What::NoMarker => index >= tiers_before,
        What::NoRoot(_) | What::NoVolume | What::Broken(_) | What::Locked | What::Misfit(_) => false,
    };
    tiers_before < found.len() && found.iter().enumerate().all(fits)
}

/// Why the markers that are there are not those of one union in this order.
fn foreign(found: &[Found], expected: &[Option<Id>]) -> Option<String> {
    let mut seen: Vec<(&Path, Marker)> = Vec::new();
    for (index, tier) in found.iter().enumerate() {
        let Some(marker) = tier.marker() else {
            continue;
        };
        let path = tier.path.display();
        for (other, known) in &seen {
            let other = other.display();
            if known.tier == marker.tier {
                return Some(format!(
                    "{other} and {path} carry the same marker: one is a copy of the other, or both \
                     are one directory; to use a copied tier on its own, remove its .tierfs"
                ));
            }
            if known.union != marker.union {
                return Some(format!(
                    "{path} belongs to another union than {other}: name the tiers that belong \
                     together, or remove the .tierfs of the one to be adopted"
                ));
            }
        }
        if let Some(id) = expected.get(index).copied().flatten().filter(|id| *id != marker.tier) {
            return Some(format!(
                "{path} is tier {}, but the configuration says {id}: the wrong disk is mounted there",
                marker.tier
            ));
        }
        if usize::from(marker.tiers) != found.len() {
            return Some(format!(
                "{path} belongs to a union of {} tiers, but {} named: name them all; to add one \
                 at the slow end, run `tierfs init` with all of them",
                marker.tiers,
                if found.len() == 1 { "1 is".into() } else { format!("{} are", found.len()) }
            ));
        }
        if marker.rank.index() != index {
            return Some(format!(
                "{path} is the {} tier of its union, but is named as the {}: give the tiers in \
                 their order, fastest first",
                marker.rank,
                Rank(u8::try_from(index).unwrap_or(u8::MAX))
            ));
        }
        seen.push((&tier.path, marker));
    }
    None
}
