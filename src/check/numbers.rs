//! Inode numbers that two objects of the union share.

use std::collections::{BTreeMap, HashSet};

use parking_lot::Mutex;

use super::{Finding, What};
use crate::types::attr::Body;
use crate::types::ids::Ino;
use crate::types::path::UnionPath;

/// The numbers that a walk comes by. The first walk keeps number and body of every object, 16 bytes;
/// only if two bodies share a number there is a second one, which keeps their paths.
#[derive(Debug)]
pub(super) enum Numbers {
    /// Of everything.
    All(Mutex<Vec<(Ino, Body)>>),
    /// Of these, with their paths.
    Paths(HashSet<Ino>, Mutex<BTreeMap<(Ino, Body), UnionPath>>),
}

impl Numbers {
    pub(super) fn all() -> Numbers {
        Numbers::All(Mutex::default())
    }

    pub(super) fn paths(of: HashSet<Ino>) -> Numbers {
        Numbers::Paths(of, Mutex::default())
    }

    /// What one directory shows.
    pub(super) fn add(&self, seen: Vec<(Ino, Body)>) {
        if let Numbers::All(all) = self {
            all.lock().extend(seen);
        }
    }

    /// One object; `path` is asked for where it is wanted.
    pub(super) fn see(&self, seen: &mut Vec<(Ino, Body)>, ino: Ino, body: Body, path: impl FnOnce() -> UnionPath) {
        match self {
            Numbers::All(_) => seen.push((ino, body)),
            Numbers::Paths(wanted, found) if wanted.contains(&ino) => {
                found.lock().entry((ino, body)).or_insert_with(path);
            }
            Numbers::Paths(..) => {}
        }
    }

    /// The numbers that several bodies share.
    pub(super) fn shared(self) -> HashSet<Ino> {
        let Numbers::All(all) = self else { return HashSet::new() };
        shared(all.into_inner())
    }

    /// The findings of the second walk.
    pub(super) fn findings(self) -> Vec<Finding> {
        let Numbers::Paths(_, found) = self else { return Vec::new() };
        let mut of: BTreeMap<Ino, Vec<UnionPath>> = BTreeMap::new();
        for ((ino, _), path) in found.into_inner() {
            of.entry(ino).or_default().push(path);
        }
        let each = of.into_iter().flat_map(|(ino, mut paths)| {
            paths.sort_unstable();
            let mut paths = paths.into_iter();
            let first = paths.next().unwrap_or_default();
            paths.map(move |path| Finding { path, what: What::SameNumber(ino, first.clone()) }).collect::<Vec<_>>()
        });
        each.collect()
    }
}

fn shared(mut all: Vec<(Ino, Body)>) -> HashSet<Ino> {
    all.sort_unstable_by_key(|(ino, body)| (*ino, body.0));
    all.dedup();
    all.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_body_share_a_number_rightly() {
        let all = vec![(Ino(7), Body(1)), (Ino(8), Body(2)), (Ino(7), Body(1)), (Ino(9), Body(3)), (Ino(8), Body(4))];
        assert_eq!(shared(all), [Ino(8)].into());
        assert!(shared(Vec::new()).is_empty());
    }
}
