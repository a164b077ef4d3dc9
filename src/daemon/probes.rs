//! What would keep one file from moving, in words for `explain`.

use super::{FAILED, runs};
use crate::control::convert;
use crate::control::wire::{Outlook, Probe, Probed, Problem, Response, Usage};
use crate::migrate::{self, Hindrance, Skip};
use crate::policy::watermark;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::union::Union;

/// Asks while no run is at work.
pub(super) fn perform(union: &Union, probe: &Probe) -> Response {
    let path = convert::bytes(&probe.path).and_then(|bytes| UnionPath::new(&bytes).ok());
    let Some(path) = path else {
        return Response::Error(Problem { code: FAILED, line: "a path is not written as it should be".into() });
    };
    let hindrance = probe.to.map(Rank).and_then(|to| migrate::probe(union, &path, to).map(|why| words(why, to)));
    probed(union, hindrance.map_or(Outlook::Clear, Outlook::Blocked))
}

/// While a run is at work.
pub(super) fn busy(union: &Union) -> Response {
    let line = "whether something is in the way cannot be told while a run is at work on this mount";
    probed(union, Outlook::Unknown(line.into()))
}

fn probed(union: &Union, outlook: Outlook) -> Response {
    let ranks = (0u8..).map(Rank).take(union.tiers());
    let usage = ranks.map(|rank| union.tier_of(rank).and_then(|tier| tier.space()).ok()).map(|space| {
        let watermark::Usage { used, total } = watermark::Usage::of(&space?);
        Some(Usage { used, total })
    });
    Response::Probed(Probed { outlook, usage: usage.collect() })
}

fn words(hindrance: Hindrance, to: Rank) -> String {
    match hindrance {
        Hindrance::Stays(why) => stays(why, to),
        Hindrance::Failed(errno, during) => format!("{during}: {errno}"),
        Hindrance::ReadOnly(rank) => format!("{rank} is read-only"),
        Hindrance::Mount => runs::failed(migrate::Error::ReadOnly).line,
    }
}

fn stays(why: Skip, to: Rank) -> String {
    match why {
        Skip::InUse => "a program has it open".into(),
        Skip::Changed => "it is changing at this moment".into(),
        Skip::Gone => "it is gone".into(),
        Skip::LinksOutside => "some of its hard links do not move with it".into(),
        Skip::Occupied => "its name, or that of a directory above it, is taken on another tier".into(),
        Skip::Shadowed => "another copy hides it".into(),
        Skip::Special => "it is no regular file".into(),
        Skip::Immutable => "it is immutable or append-only (`chattr -i -a` ends that)".into(),
        Skip::Sealed => "its filesystem encrypts or seals it".into(),
        Skip::Xattr => format!("{to} cannot hold its attributes"),
        Skip::Times => format!("{to} cannot hold its times"),
        Skip::Owner => format!("{to} cannot hold its owner or mode"),
        Skip::TooLarge => format!("{to} cannot hold files as large"),
        Skip::NoSpace => format!("{to} has no room for it"),
        Skip::Quota => format!("a quota of {to} has no room for it"),
        Skip::OverLimit => "it is larger than the limit of bytes for a run".into(),
        Skip::Nested => "another filesystem is mounted there inside the tier".into(),
        Skip::NoLease => "its filesystem gives no leases, so nobody can tell whether it is in use".into(),
        Skip::NoBirthTime => "its filesystem tells no birth times, so its number could come back".into(),
    }
}
