//! Repairs as a command words them, in a mount and without one.

use std::cell::RefCell;

use crate::check::Mend;
use crate::check::repair::mend;
use crate::control::convert;
use crate::control::server::Peer;
use crate::control::wire::{self, Repair, Response};
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::union::Union;

/// What is mended, in words for the wire.
pub fn worded(item: &Mend) -> wire::Mend {
    let text = |path: &UnionPath| convert::text(path.as_bytes());
    match item {
        Mend::Duplicate(path, rank) => wire::Mend::Duplicate { path: text(path), rank: rank.0 },
        Mend::Directory(path) => wire::Mend::Directory { path: text(path) },
        Mend::Leftovers => wire::Mend::Leftovers,
    }
}

/// The same back.
///
/// # Errors
/// One line about a path that is none.
fn understood(item: &wire::Mend) -> Result<Mend, String> {
    let path = |text: &wire::Text| {
        let bytes = convert::bytes(text).ok_or_else(|| "a path is not written as it should be".to_owned())?;
        UnionPath::new(&bytes).map_err(|errno| errno.to_string())
    };
    Ok(match item {
        wire::Mend::Duplicate { path: text, rank } => Mend::Duplicate(path(text)?, Rank(*rank)),
        wire::Mend::Directory { path: text } => Mend::Directory(path(text)?),
        wire::Mend::Leftovers => Mend::Leftovers,
    })
}

/// Mends one thing after another until the other end goes. The caller holds what keeps runs away.
pub(super) fn perform(union: &Union, repair: &Repair, peer: &mut Peer) -> Response {
    let peer = RefCell::new(peer);
    let stop = || !peer.borrow_mut().is_wanted();
    let each = repair.items.iter().map(|item| {
        if stop() {
            return Some("it was stopped before".to_owned());
        }
        let outcome = understood(item).and_then(|item| mend(union, &item, &stop));
        match &outcome {
            Ok(()) => tracing::info!(?item, "mended"),
            Err(why) => tracing::info!(?item, "not mended: {why}"),
        }
        outcome.err()
    });
    Response::Repaired(each.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mended_reads_back() {
        let path = UnionPath::new(b"a/\xff").unwrap();
        for item in [Mend::Duplicate(path.clone(), Rank(2)), Mend::Directory(path), Mend::Leftovers] {
            let sent = convert::command_line(wire::Command::Repair(Repair { items: vec![worded(&item)] }));
            let Ok(wire::Command::Repair(read)) = convert::command(&sent) else { panic!("{sent:?}") };
            assert_eq!(read.items.iter().map(understood).collect::<Vec<_>>(), [Ok(item)]);
        }
        let wrong = wire::Mend::Directory { path: wire::Text::Plain("../up".into()) };
        assert!(understood(&wrong).is_err());
    }
}
