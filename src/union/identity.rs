//! Which number an object has.
//!
//! It is the number of its body, so it needs no database and survives a remount. A merged
//! directory takes the body on its slowest tier: creating a file in a directory that only the
//! secondary has clones it on the primary, and the number stays. Where tierfs makes a second body
//! that would change the number (a clone on a slower tier, a moved file), it stamps the old number
//! on the new body. A stamp names the body it was made for, so that a copy made by `cp -a` or
//! `rsync -X` beside the mount does not share the number.

use super::Union;
use crate::tier::{Dir, SetXattr};
use crate::types::attr::{Body, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank};
use crate::types::name::Name;

/// Number and generation.
pub(super) type Identity = (Ino, u32);

/// The number a body gives; 0 is no number and 1 the root's.
pub(super) fn of_body(body: Body) -> Ino {
    Ino(if body.0 < 2 { body.0 + 2 } else { body.0 })
}

/// What a stamp says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// The body it was made for.
    body: Body,
    body_generation: u32,
    /// The number to show.
    ino: Ino,
    generation: u32,
}

impl Stamp {
    /// `1:BODY:GENERATION:INO:GENERATION`, hexadecimal; fields that later versions add follow.
    fn write(&self) -> String {
        format!("1:{:016x}:{:08x}:{:016x}:{:08x}", self.body.0, self.body_generation, self.ino.0, self.generation)
    }

    fn read(raw: &[u8]) -> Option<Stamp> {
        let mut fields = std::str::from_utf8(raw).ok()?.split(':');
        let version = fields.next()?;
        let mut word = || u64::from_str_radix(fields.next()?, 16).ok();
        let stamp = Stamp {
            body: Body(word()?),
            body_generation: u32::try_from(word()?).ok()?,
            ino: Ino(word()?),
            generation: u32::try_from(word()?).ok()?,
        };
        (version == "1" && stamp.ino.0 > 1).then_some(stamp)
    }
}

impl Union {
    /// The number of what `stat` describes, which is `name` in `dir` on `rank`.
    pub(super) fn identify(&self, rank: Rank, dir: &dyn Dir, name: Option<&Name>, stat: &Stat) -> Result<Identity> {
        let own = (of_body(stat.body), stat.generation);
        if !self.tier(rank)?.has_stamps() {
            return Ok(own);
        }
        match dir.get_xattr(name, &self.stamp_key) {
            Ok(raw) => Ok(match Stamp::read(&raw) {
                Some(s) if (s.body, s.body_generation) == (stat.body, stat.generation) => (s.ino, s.generation),
                _ => own,
            }),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES | Errno::ENOENT) => Ok(own),
            Err(other) => Err(other),
        }
    }

    /// Makes `dir`, a new body on `rank`, show `identity` from now on.
    ///
    /// A filesystem without extended attributes cannot keep it: the number then changes, which is
    /// less harm than refusing the directory.
    pub(super) fn stamp(&self, rank: Rank, dir: &dyn Dir, identity: Identity) -> Result<()> {
        self.tier(rank)?.announce_stamps()?;
        let stat = dir.stat(None)?.ok_or(Errno::ESTALE)?;
        let stamp =
            Stamp { body: stat.body, body_generation: stat.generation, ino: identity.0, generation: identity.1 };
        match dir.set_xattr(None, &self.stamp_key, stamp.write().as_bytes(), SetXattr::default()) {
            Err(Errno::EOPNOTSUPP) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_and_nothing_else_does() {
        let stamp = Stamp { body: Body(7), body_generation: 9, ino: Ino(u64::MAX), generation: 3 };
        assert_eq!(Stamp::read(stamp.write().as_bytes()), Some(stamp));
        assert_eq!(Stamp::read(format!("{}:later", stamp.write()).as_bytes()), Some(stamp));
        for bad in ["", "1", "2:1:1:5:1", "1:1:1:1:1", "1:x:1:5:1", "1:1:100000000:5:1", "1:1:1:5"] {
            assert_eq!(Stamp::read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Stamp::read(b"\xff"), None);
    }

    #[test]
    fn no_body_is_taken_for_the_root() {
        assert!((0..5).all(|n| of_body(Body(n)) > Ino::ROOT));
    }
}
