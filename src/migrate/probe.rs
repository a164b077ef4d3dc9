//! One file, asked as a run would ask it: for `explain`.

use std::sync::Arc;

use super::plan::{Item, Place, plain_age};
use super::preflight::{Refusal, is_read_only, look_at, preflight};
use super::room::Room;
use super::stage::now;
use super::ways::{Ways, of_way};
use super::{Hindrance, Skip};
use crate::types::facts::Facts;
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::union::Union;

/// What keeps the file at `path` from moving to `to` at this moment; `None` if nothing does. Nothing is
/// changed.
pub fn probe(union: &Union, path: &UnionPath, to: Rank) -> Option<Hindrance> {
    if union.may_move().is_err() {
        return Some(Hindrance::Mount);
    }
    ask(union, path, to).err()
}

fn ask(union: &Union, path: &UnionPath, to: Rank) -> Result<(), Hindrance> {
    let item = item(union, path, to)?;
    if let Some(rank) = [Rank::PRIMARY, item.from, to].into_iter().find(|rank| is_read_only(union, *rank)) {
        return Err(Hindrance::ReadOnly(rank));
    }
    let ways = Ways::walk(union, std::slice::from_ref(&item), |_| Ok(()));
    preflight(union, &item, &ways.names(&item)?)?;
    let mut room = Room::of(union, to).map_err(|errno| Refusal::Failed(errno, "looking for room"))?;
    if room.take(item.taken) { Ok(()) } else { Err(Hindrance::Stays(Skip::NoSpace)) }
}

fn item(union: &Union, path: &UnionPath, to: Rank) -> Result<Item, Refusal> {
    let (dir, name) = path.split().ok_or(Refusal::Skip(Skip::Gone))?;
    let walked = union.walk(&dir).map_err(of_way)?;
    let subject = look_at(union, &walked, &name)?;
    let facts = Facts { path: path.clone(), rank: subject.rank, stat: subject.stat, pin: None };
    let place = Place { dir: Arc::new(dir), name: name.as_bytes().into() };
    Ok(Item::new(&facts, to, place, plain_age(&facts, now())))
}

impl From<Refusal> for Hindrance {
    fn from(refusal: Refusal) -> Hindrance {
        match refusal {
            Refusal::Skip(why) => Hindrance::Stays(why),
            Refusal::Failed(errno, during) => Hindrance::Failed(errno, during),
        }
    }
}
