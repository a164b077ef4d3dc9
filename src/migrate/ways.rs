//! The directories of a batch, walked to once each.

use std::collections::HashMap;
use std::sync::Arc;

use super::Skip;
use super::plan::{Item, Place};
use super::preflight::{self, Refusal};
use crate::types::errno::{Errno, Result};
use crate::types::name::Name;
use crate::types::path::UnionPath;
use crate::union::Union;
use crate::union::moving::Walked;

/// By path; also those that cannot be had, with the reason.
pub(super) struct Ways<'u>(HashMap<UnionPath, Result<Arc<Walked<'u>>>>);

impl<'u> Ways<'u> {
    /// Every directory of a batch between the same two tiers that files can leave and come to, once
    /// `prepare` has made of it what is needed.
    pub(super) fn walk(union: &'u Union, items: &[Item], prepare: impl Fn(&Walked<'_>) -> Result<()>) -> Ways<'u> {
        let mut ways = HashMap::new();
        for item in items {
            for place in &item.names {
                if !ways.contains_key(&*place.dir) {
                    let way = union.walk(&place.dir).and_then(|dir| {
                        preflight::check_way(union, &dir, item.from, item.to)?;
                        prepare(&dir)?;
                        Ok(Arc::new(dir))
                    });
                    ways.insert((*place.dir).clone(), way);
                }
            }
        }
        Ways(ways)
    }

    /// The directory of a name, if it could be had.
    pub(super) fn get(&self, place: &Place) -> Option<&Arc<Walked<'u>>> {
        self.0.get(&*place.dir).and_then(|way| way.as_ref().ok())
    }

    /// All names of a file.
    pub(super) fn names(&self, item: &Item) -> std::result::Result<Vec<(Arc<Walked<'u>>, Name)>, Refusal> {
        let each = item.names.iter().map(|place| {
            let way = self.0.get(&*place.dir).ok_or(Refusal::Skip(Skip::Gone))?;
            let dir = Arc::clone(way.as_ref().map_err(|errno| of_way(*errno))?);
            Ok((dir, Name::new(&place.name).map_err(of_way)?))
        });
        each.collect()
    }
}

/// What an error means that a directory of the way gave.
pub(super) fn of_way(errno: Errno) -> Refusal {
    match errno {
        Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR => Skip::Gone.into(),
        Errno::ENOSPC => Skip::NoSpace.into(),
        Errno::EDQUOT => Skip::Quota.into(),
        Errno::EEXIST => Skip::Occupied.into(),
        Errno::EXDEV => Skip::Nested.into(),
        Errno::EOPNOTSUPP => Skip::Xattr.into(),
        other => Refusal::Failed(other, "preparing the directory"),
    }
}
