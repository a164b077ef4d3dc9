//! Which number an object has.
//!
//! It is the number of its body, so it needs no database and survives a remount. A merged
//! directory takes the body on its slowest tier: creating a file in a directory that only the
//! secondary has clones it on the primary, and the number stays. Where tierfs makes a second body
//! that would change the number (a clone on a slower tier, a moved file), it stamps the old number
//! on the new body. A stamp names the body it was made for, so that a copy made by `cp -a` or
//! `rsync -X` beside the mount does not share the number.

use std::ffi::CStr;

use super::Union;
use crate::tier::{Dir, File, SetXattr};
use crate::types::attr::{Body, Kind, Stat, Time};
use crate::types::errno::{Errno, Result};
use crate::types::ids::{Ino, Rank};
use crate::types::name::Name;

/// Number and generation.
pub(super) type Identity = (Ino, u32);

/// The number a body gives; 0 is no number and 1 the root's.
pub fn of_body(body: Body) -> Ino {
    Ino(if body.0 < 2 { body.0 + 2 } else { body.0 })
}

/// The change time a file had before tierfs moved it. It cannot be set on the new body, so it is
/// shown in place of that one's for as long as nothing else has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    ctime: Time,
    /// Seconds since 1970 up to which the body's own change time can come from the move itself.
    until_sec: u32,
    /// Of everything that a change would alter.
    fingerprint: u64,
}

/// Where a stamp is: where nobody but root can set it, if tierfs is root.
pub fn stamp_key(root: bool) -> &'static CStr {
    if root { c"trusted.tierfs.stamp" } else { c"user.tierfs.stamp" }
}

/// How long after its copy was made a body may be published and linked, in seconds.
const PUBLISHED_WITHIN_SEC: i64 = 3600;

impl Shown {
    /// For a body made at `made` that is to have all of `old` but its change time.
    pub(super) fn carry(old: &Stat, made: Time) -> Shown {
        let until = made.sec.saturating_add(PUBLISHED_WITHIN_SEC);
        let until_sec = u32::try_from(until).unwrap_or(u32::MAX);
        Shown { ctime: old.ctime, until_sec, fingerprint: fingerprint(old) }
    }

    /// The attributes to show for a body.
    pub(super) fn over(shown: Option<Shown>, stat: Stat) -> Stat {
        match shown {
            Some(s) if stat.ctime.sec <= i64::from(s.until_sec) && s.fingerprint == fingerprint(&stat) => {
                Stat { ctime: s.ctime, ..stat }
            }
            Some(_) | None => stat,
        }
    }
}

fn fingerprint(stat: &Stat) -> u64 {
    let words = [
        stat.size,
        stat.mtime.sec.cast_unsigned(),
        u64::from(stat.mtime.nsec) << 32 | u64::from(stat.mode),
        u64::from(stat.uid) << 32 | u64::from(stat.gid),
        u64::from(stat.nlink),
    ];
    // FNV-1a by words: it tells changes apart, and nobody gains by a collision in his own file.
    words.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
    })
}

/// What a stamp says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The body it was made for.
    pub body: Body,
    /// The generation of that.
    pub body_generation: u32,
    /// The number to show.
    pub ino: Ino,
    /// The generation to show.
    pub generation: u32,
    /// The change time to show, of a moved file.
    pub shown: Option<Shown>,
}

/// The first byte of a stamp.
const VERSION: u8 = 2;

impl Stamp {
    /// Whether it was made for the body that `stat` describes; otherwise it says nothing of it.
    pub fn is_of(&self, stat: &Stat) -> bool {
        (self.body, self.body_generation) == (stat.body, stat.generation)
    }

    /// Version, body, its generation, number, its generation; of a moved file also the change time,
    /// until when and the fingerprint. All big endian: 25 or 49 bytes, which is short enough for ext4
    /// to keep in the inode itself.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut raw = vec![VERSION];
        raw.extend(self.body.0.to_be_bytes());
        raw.extend(self.body_generation.to_be_bytes());
        raw.extend(self.ino.0.to_be_bytes());
        raw.extend(self.generation.to_be_bytes());
        if let Some(shown) = self.shown {
            raw.extend(shown.ctime.sec.to_be_bytes());
            raw.extend(shown.ctime.nsec.to_be_bytes());
            raw.extend(shown.until_sec.to_be_bytes());
            raw.extend(shown.fingerprint.to_be_bytes());
        }
        raw
    }

    /// Reads what [`Stamp::write`] writes.
    pub fn read(raw: &[u8]) -> Option<Stamp> {
        let (version, mut rest) = raw.split_first()?;
        let stamp = Stamp {
            body: Body(u64::from_be_bytes(take(&mut rest)?)),
            body_generation: u32::from_be_bytes(take(&mut rest)?),
            ino: Ino(u64::from_be_bytes(take(&mut rest)?)),
            generation: u32::from_be_bytes(take(&mut rest)?),
            shown: if rest.is_empty() { None } else { Some(read_shown(&mut rest)?) },
        };
        (*version == VERSION && rest.is_empty() && stamp.ino.0 > 1).then_some(stamp)
    }
}

fn read_shown(rest: &mut &[u8]) -> Option<Shown> {
    let ctime = Time { sec: i64::from_be_bytes(take(rest)?), nsec: u32::from_be_bytes(take(rest)?) };
    let until_sec = u32::from_be_bytes(take(rest)?);
    Some(Shown { ctime, until_sec, fingerprint: u64::from_be_bytes(take(rest)?) })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, more) = rest.split_first_chunk::<N>()?;
    *rest = more;
    Some(*first)
}

impl Union {
    /// The number of what `stat` describes, which is `name` in `dir` on `rank`.
    pub(super) fn identify(&self, rank: Rank, dir: &dyn Dir, name: Option<&Name>, stat: &Stat) -> Result<Identity> {
        let stamp = self.stamp_of(rank, dir, name, stat)?;
        Ok(stamp.map_or((of_body(stat.body), stat.generation), |stamp| (stamp.ino, stamp.generation)))
    }

    /// The stamp of what `stat` describes, if it has one that was made for it.
    pub(super) fn stamp_of(
        &self,
        rank: Rank,
        dir: &dyn Dir,
        name: Option<&Name>,
        stat: &Stat,
    ) -> Result<Option<Stamp>> {
        if !self.tier(rank)?.has_stamps() || !matches!(stat.kind(), Kind::File | Kind::Dir) {
            return Ok(None);
        }
        match dir.get_xattr(name, &self.stamp_key) {
            Ok(raw) => Ok(Stamp::read(&raw).filter(|stamp| stamp.is_of(stat))),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES | Errno::ENOENT) => Ok(None),
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
        let (body, body_generation) = (stat.body, stat.generation);
        let stamp = Stamp { body, body_generation, ino: identity.0, generation: identity.1, shown: None };
        match dir.set_xattr(None, &self.stamp_key, &stamp.write(), SetXattr::default()) {
            Err(Errno::EOPNOTSUPP) => Ok(()),
            other => other,
        }
    }

    /// Something about a file is changing through the mount: from here on its own change time is
    /// shown. A stamp that cannot be rewritten only shows the old time for longer.
    pub(super) fn drop_shown(&self, ino: Ino, file: &dyn File) {
        if self.inodes.take_shown(ino).is_none() {
            return;
        }
        let rewritten = file.get_xattr(&self.stamp_key).and_then(|raw| match Stamp::read(&raw) {
            Some(stamp) => {
                let stamp = Stamp { shown: None, ..stamp };
                file.set_xattr(&self.stamp_key, &stamp.write(), SetXattr::default())
            }
            None => Ok(()),
        });
        if let Err(errno) = rewritten {
            tracing::debug!(%ino, "a stamp keeps the change time of before the move: {errno}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(shown: Option<Shown>) -> Stamp {
        Stamp { body: Body(7), body_generation: 9, ino: Ino(u64::MAX), generation: 3, shown }
    }

    #[test]
    fn a_stamp_reads_back_and_nothing_else_does() {
        let shown = Shown { ctime: Time { sec: -5, nsec: 7 }, until_sec: 9, fingerprint: 11 };
        for stamp in [stamp(None), stamp(Some(shown))] {
            let raw = stamp.write();
            assert_eq!(Stamp::read(&raw), Some(stamp));
            for cut in (0..raw.len()).filter(|cut| *cut != 25) {
                assert_eq!(Stamp::read(&raw[..cut]), None, "cut at {cut}");
            }
            assert_eq!(Stamp::read(&[raw.as_slice(), b"x"].concat()), None);
            assert_eq!(Stamp::read(&[&[VERSION + 1], &raw[1..]].concat()), None);
        }
    }

    #[test]
    fn any_change_ends_the_shown_time() {
        let time = |sec| Time { sec, nsec: 5 };
        let body = Stat {
            body: Body(7),
            generation: 0,
            mode: 0o100_644,
            nlink: 2,
            uid: 1,
            gid: 2,
            rdev: 0,
            size: 10,
            blocks: 8,
            blksize: 4096,
            atime: time(1),
            mtime: time(2),
            ctime: time(1000),
        };
        let old = Stat { ctime: time(3), ..body };
        let shown = Some(Shown::carry(&old, body.ctime));
        assert_eq!(Shown::over(shown, body).ctime, time(3));
        // A read, and the links that publishing makes, change nothing.
        assert_eq!(Shown::over(shown, Stat { atime: time(9), ctime: time(1010), ..body }).ctime, time(3));
        let changed = [
            Stat { size: 11, ..body },
            Stat { mtime: time(9), ..body },
            Stat { mode: 0o100_600, ..body },
            Stat { uid: 9, ..body },
            Stat { gid: 9, ..body },
            Stat { nlink: 1, ..body },
            Stat { ctime: time(9000), ..body },
        ];
        for stat in changed {
            assert_eq!(Shown::over(shown, stat), stat);
        }
    }

    #[test]
    fn no_body_is_taken_for_the_root() {
        assert!((0..5).all(|n| of_body(Body(n)) > Ino::ROOT));
    }
}
