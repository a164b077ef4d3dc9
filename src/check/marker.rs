//! Whether the markers make one union.

use std::sync::Arc;

use super::{Checked, Finding, What};
use crate::migrate::scan;
use crate::tier::Tier;
use crate::tier::marker::verify::{Found, Verdict, verify};
use crate::tier::marker::{Marker, State};
use crate::tier::place::Place;
use crate::types::errno::Result;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;

/// The tiers that can be walked, and what is wrong with the markers. `None` in place of the tiers
/// where they are not those of one union in this order: nothing that a walk says would hold then.
/// Without `need_markers` they are any trees.
pub(super) fn open(roots: &[(Rank, Place)], need_markers: bool) -> (Option<Vec<Checked>>, Vec<Finding>) {
    let looked = roots.iter().map(|(_, place)| scan::open_with_marker(place));
    let (found, opened): (Vec<Found>, Vec<Result<Arc<dyn Tier>>>) = looked.unzip();
    let lines = if need_markers { judge(&found) } else { Vec::new() };
    let foreign = need_markers && matches!(verify(&found, &[]), Verdict::Foreign(_));
    let findings = lines.into_iter().map(|line| Finding { path: UnionPath::root(), what: What::Marker(line) });
    let tiers = roots.iter().zip(&found).zip(opened).filter_map(|(((rank, place), found), tier)| {
        let is_known = found.marker().is_some();
        tier.ok().map(|tier| Checked {
            rank: *rank,
            path: place.path.clone(),
            tier,
            is_known,
            is_encrypted: place.is_encrypted(),
        })
    });
    ((!foreign).then(|| tiers.collect()), findings.collect())
}

/// One line for each thing that is wrong.
fn judge(found: &[Found]) -> Vec<String> {
    match verify(found, &[]) {
        Verdict::Foreign(line) => vec![line],
        Verdict::Fresh => vec!["no tier has a marker yet: run `tierfs init` on them, or mount them once".into()],
        Verdict::Missing(ranks) => {
            let absent = ranks.iter().filter_map(|rank| found.get(rank.index()));
            absent.map(|tier| format!("{}; nothing was looked at there", tier.absence())).collect()
        }
        Verdict::Good => {
            let new = |marker: Marker| marker.state == State::New;
            let half = found.iter().filter(|tier| tier.marker().is_some_and(new));
            half.map(|tier| {
                format!("{}/.tierfs/marker is not finished: the next mount finishes it", tier.path.display())
            })
            .collect()
        }
    }
}
