//! A second look at what a walk has found while programs used the union.
//!
//! The migrator gives a copy its name before the source goes, or the reverse, so for a moment both
//! are there. A name was hidden by such a move only if its record was there before and is there
//! until the move is at rest. So first the records are read, then the name is looked at again: if the
//! same two bodies still lie there and no record names them, they are not on their way.

use std::collections::HashSet;

use super::entry::Look;
use super::walk::{self, Part, Place};
use super::{Checked, Finding, What};
use crate::types::errno::Errno;
use crate::types::ids::Ranks;
use crate::types::name::Name;
use crate::types::path::UnionPath;

/// Those of `findings` that still hold. `moving` are the paths that records named when the walk had
/// ended.
pub(super) fn confirmed(findings: Vec<Finding>, look: &Look<'_>, moving: &HashSet<UnionPath>) -> Vec<Finding> {
    let names = Look { data: None, ..*look };
    let holds = |finding: &Finding| match finding.what {
        // A move had claimed it for longer than it was waited for, while a slow disk made it durable.
        What::Unreadable { errno: Errno::EAGAIN, .. } => look_again(&finding.path, look).contains(finding),
        _ => holds(finding, &names, moving),
    };
    findings.into_iter().filter(holds).filter_map(|finding| compared(finding, &names)).collect()
}

/// Leaves out what is on its way, where nobody can have changed anything since.
pub(super) fn at_rest(findings: Vec<Finding>, moving: &HashSet<UnionPath>) -> Vec<Finding> {
    let moves = |finding: &Finding| matches!(finding.what, What::Shadowed { .. }) && moving.contains(&finding.path);
    findings.into_iter().filter(|finding| !moves(finding)).collect()
}

fn holds(finding: &Finding, look: &Look<'_>, moving: &HashSet<UnionPath>) -> bool {
    match &finding.what {
        What::Shadowed { .. } => {
            let mut now = look_again(&finding.path, look).into_iter();
            !moving.contains(&finding.path) && now.any(|now| is_same_pair(&finding.what, &now.what))
        }
        What::CaseFold(names) => names.iter().all(|(name, ranks)| has(look.tiers, &finding.path, name, *ranks)),
        What::Types { .. }
        | What::Attributes { .. }
        | What::ForeignStamp(_)
        | What::UntoldStamp(_)
        | What::Pin(..)
        | What::Nameless { .. } => look_again(&finding.path, look).contains(finding),
        What::Leftover { .. }
        | What::Lost { .. }
        | What::Marker(_)
        | What::SameNumber(..)
        | What::Manifest(..)
        | What::Unreadable { .. }
        | What::Rotten { .. } => true,
    }
}

/// A hidden copy with its contents compared; `None` if it has changed meanwhile. Only what is not on
/// its way is opened: the migrator leaves both copies where they are if somebody reads the source.
fn compared(finding: Finding, look: &Look<'_>) -> Option<Finding> {
    if !matches!(finding.what, What::Shadowed { .. }) {
        return Some(finding);
    }
    let look = Look { compare: true, ..*look };
    look_again(&finding.path, &look).into_iter().find(|now| is_same_pair(&finding.what, &now.what))
}

fn is_same_pair(then: &What, now: &What) -> bool {
    match (then, now) {
        (What::Shadowed { visible: v, hidden: h, .. }, What::Shadowed { visible, hidden, .. }) => {
            (v, h) == (visible, hidden)
        }
        _ => false,
    }
}

/// What is found under one path now.
fn look_again(path: &UnionPath, look: &Look<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some((above, name)) = path.split()
        && let Place::Dir(merged) = walk::find(look.tiers, &above, &mut findings)
    {
        look.visit(&merged, Part::Only(&name), &mut findings);
    }
    if let Place::Dir(merged) = walk::find(look.tiers, path, &mut findings) {
        look.directory_again(&merged, &mut findings);
    }
    findings
}

fn has(tiers: &[Checked], dir: &UnionPath, name: &[u8], ranks: Ranks) -> bool {
    let (Place::Dir(merged), Ok(name)) = (walk::find(tiers, dir, &mut Vec::new()), Name::new(name)) else {
        return false;
    };
    let mut copies = merged.copies.iter().filter(|(rank, _)| ranks.has(*rank));
    copies.any(|(_, dir)| dir.stat(Some(&name)).is_ok_and(|stat| stat.is_some()))
}
