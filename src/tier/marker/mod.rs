//! `.tierfs/marker`: which tier of which union a directory is.
//!
//! Without it, a disk that is not mounted looks like an empty tier, and everything on it would
//! seem deleted. The file is text:
//!
//! ```text
//! # tierfs: this directory is a tier. Do not change or delete this file.
//! version: 1
//! union: 9f…      32 hexadecimal digits, the same on all tiers
//! tier: 04…       32 hexadecimal digits, different on all tiers
//! rank: 0         0 the fastest
//! tiers: 2        how many the union has
//! state: member   `new` while the union is being made
//! stamps: false   whether bodies on this tier may carry an inode number of their own
//! given: never    since when files have left with their numbers, SECONDS.NANOSECONDS
//! volume: …       only on an encrypted tier: the features its volume had when it was adopted
//! ```
//!
//! Lines that begin with `#` say nothing. `version` comes first, so that a later format is told
//! from a broken file. Every key but `volume` is there exactly once and the last line ends with a newline, so
//! that a file cut short is never read as whole.
//!
//! A union is made in two rounds: every tier gets a marker in state `new`, then every marker
//! becomes `member`. As long as no tier is a member nothing was ever served, and the union can be
//! made again; once one is, every tier has at least its `new` marker. So a crash while the union is
//! made cannot look like a missing tier.

use std::fmt;
use std::sync::Arc;

use crate::crypt::features::Features;
use crate::sys::random;
use crate::tier::directory::Known;
use crate::tier::directory::bodies::mix;
use crate::tier::place::Root;
use crate::tier::{Dir, Open, small};
use crate::types::attr::{Kind, Time};
use crate::types::errno::Errno;
use crate::types::ids::{Rank, TIERS_MAX};
use crate::types::name::{Name, PRIVATE_DIR};

pub mod verify;

/// Its name in tierfs's own directory of a tier.
pub const FILE: &[u8] = b"marker";
const SCRATCH: &[u8] = b"marker.tmp";
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o644;

/// The version this tierfs reads and writes.
const VERSION: u32 = 1;

/// Far more than a marker needs; a larger file is something else.
const LEN_MAX: usize = 4096;

/// A random number that names a union or a tier.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(pub u128);

impl Id {
    /// One that no other union or tier has.
    ///
    /// # Errors
    /// Where the kernel gives no random bytes.
    pub fn random() -> Result<Id, Errno> {
        let mut bytes = [0; 16];
        random::direct(&mut bytes)?;
        Ok(Id(u128::from_be_bytes(bytes)))
    }

    /// From 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Id> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok().map(Id)).flatten()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// The union the tier belongs to.
    pub union: Id,
    /// The tier itself.
    pub tier: Id,
    /// The tier's place.
    pub rank: Rank,
    /// How many tiers the union has.
    pub tiers: u8,
    /// How far the union was made.
    pub state: State,
    /// Whether bodies on this tier may carry an inode number of their own.
    pub stamps: bool,
    /// Since when files have left the tier with their numbers.
    pub given: Option<Time>,
    /// What the volume of an encrypted tier was made with. Its configuration is not authenticated: who can write
    /// it could have names written in clear, were they not compared.
    pub volume: Option<Features>,
}

impl Marker {
    /// Whether it puts the tier at the same place of the same union as one that was read before. What starts and
    /// mounts write of their own, such as [`Marker::given`], may differ.
    pub fn is_at_the_place_of(&self, before: &Marker) -> bool {
        let place = |marker: &Marker| (marker.union, marker.tier, marker.rank, marker.tiers, marker.volume);
        place(self) == place(before)
    }

    /// What the tier itself must know of it.
    pub fn known(&self) -> Known {
        let id = self.tier.0;
        let seed = mix(u64::try_from(id >> 64).unwrap_or(0)) ^ u64::try_from(id & u128::from(u64::MAX)).unwrap_or(0);
        Known { seed, stamps: self.stamps, given: self.given }
    }
}

/// How far a union was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not all tiers have a marker yet; unless another tier is a member.
    New,
    /// All tiers have one.
    Member,
}

/// Why a marker cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// A system call on it failed.
    Os(Errno),
    /// `.tierfs` is no directory, or the marker no regular file.
    NotAFile,
    /// It is longer than a marker can be.
    TooLong,
    /// A later tierfs wrote it.
    Newer(u32),
    /// The text is wrong in this way.
    Text(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Os(errno) => write!(f, "cannot be read: {errno}"),
            Broken::NotAFile => f.write_str("is not a regular file in a directory .tierfs"),
            Broken::TooLong => write!(f, "is longer than {LEN_MAX} bytes: it is not a marker"),
            Broken::Newer(version) => {
                write!(f, "has version {version}, from a newer tierfs than this one: upgrade")
            }
            Broken::Text(why) => write!(f, "is damaged: {why}"),
        }
    }
}

impl Marker {
    /// The text of the file.
    pub fn render(&self) -> String {
        let Marker { union, tier, rank, tiers, .. } = self;
        let state = match self.state {
            State::New => "new",
            State::Member => "member",
        };
        let volume = self.volume.map(|features| format!("volume: {features}\n")).unwrap_or_default();
        format!(
            "# tierfs: this directory is a tier. Do not change or delete this file.\n\
             version: {VERSION}\nunion: {union}\ntier: {tier}\nrank: {}\ntiers: {tiers}\n\
             state: {state}\nstamps: {}\ngiven: {}\n{volume}",
            rank.0,
            self.stamps,
            self.given.map_or("never".into(), |time| format!("{}.{:09}", time.sec, time.nsec))
        )
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// [`Broken::Newer`] and [`Broken::Text`].
    pub fn parse(bytes: &[u8]) -> Result<Marker, Broken> {
        let wrong = |why: &str| Broken::Text(why.to_string());
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not text"))?;
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if !text.ends_with('\n') {
            return Err(wrong("it is cut short"));
        }
        let mut fields = Fields(Vec::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let split = line.split_once(": ");
            let (key, value) = split.ok_or_else(|| Broken::Text(format!("{line:?} is no `key: value`")))?;
            if fields.0.is_empty() {
                version(key, value)?;
            }
            if fields.0.iter().any(|(known, _)| *known == key) {
                return Err(Broken::Text(format!("`{key}` is there twice")));
            }
            fields.0.push((key, value));
        }
        fields.take("version", |_| Some(()))?;
        let marker = Marker {
            union: fields.take("union", Id::parse)?,
            tier: fields.take("tier", Id::parse)?,
            rank: Rank(fields.take("rank", |value| value.parse().ok())?),
            tiers: fields.take("tiers", |value| value.parse().ok())?,
            state: fields.take("state", |value| match value {
                "new" => Some(State::New),
                "member" => Some(State::Member),
                _ => None,
            })?,
            stamps: fields.take("stamps", |value| value.parse().ok())?,
            given: fields.take("given", given)?,
            volume: fields.take_if_any("volume", Features::parse)?,
        };
        if let Some((key, _)) = fields.0.first() {
            return Err(Broken::Text(format!("`{key}` is not known")));
        }
        if usize::from(marker.tiers) > TIERS_MAX || marker.rank.0 >= marker.tiers {
            let (rank, tiers) = (marker.rank.0, marker.tiers);
            return Err(Broken::Text(format!("rank {rank} of {tiers} tiers cannot be")));
        }
        Ok(marker)
    }
}

/// The lines of a marker that were not used yet.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl Fields<'_> {
    fn take<T>(&mut self, key: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Broken> {
        let place = self.0.iter().position(|(known, _)| *known == key);
        let place = place.ok_or_else(|| Broken::Text(format!("`{key}` is not there")))?;
        let (_, value) = self.0.remove(place);
        read(value).ok_or_else(|| Broken::Text(format!("`{key}: {value}` is not possible")))
    }

    fn take_if_any<T>(&mut self, key: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Broken> {
        let is_there = self.0.iter().any(|(known, _)| *known == key);
        is_there.then(|| self.take(key, read)).transpose()
    }
}

fn given(value: &str) -> Option<Option<Time>> {
    if value == "never" {
        return Some(None);
    }
    let (sec, nsec) = value.split_once('.')?;
    let nsec = (nsec.len() == 9).then(|| nsec.parse().ok()).flatten()?;
    Some(Some(Time { sec: sec.parse().ok()?, nsec }))
}

fn version(key: &str, value: &str) -> Result<(), Broken> {
    match (key, value.parse::<u32>()) {
        ("version", Ok(VERSION)) => Ok(()),
        ("version", Ok(newer)) if newer > VERSION => Err(Broken::Newer(newer)),
        _ => Err(Broken::Text("it does not begin with a version".into())),
    }
}

/// tierfs's own directory in a tier root, if it is there.
///
/// # Errors
/// ENOTDIR for anything but a directory, also for a link to one; what the tier says.
pub fn own_dir(root: &dyn Dir) -> Result<Option<Arc<dyn Dir>>, Errno> {
    match root.open_dir(&Name::new(PRIVATE_DIR.as_bytes())?) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::ELOOP) => Err(Errno::ENOTDIR),
        Err(other) => Err(other),
    }
}

/// The marker of the tier whose root is `root`; `None` if it has none.
///
/// # Errors
/// As [`Broken`] says.
pub fn read(root: &dyn Dir) -> Result<Option<Marker>, Broken> {
    let of_os = |errno| match errno {
        Errno::ENOTDIR | Errno::ELOOP | Errno::EINVAL | Errno::ENXIO => Broken::NotAFile,
        other => Broken::Os(other),
    };
    let Some(dir) = own_dir(root).map_err(of_os)? else { return Ok(None) };
    let name = Name::new(FILE).map_err(of_os)?;
    let file = match dir.open(&name, Open::ReadQuiet) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other.map_err(of_os)?,
    };
    if file.stat().map_err(of_os)?.kind() != Kind::File {
        return Err(Broken::NotAFile);
    }
    let bytes = small::bytes(file.as_ref(), LEN_MAX).map_err(of_os)?.ok_or(Broken::TooLong)?;
    Marker::parse(&bytes).map(Some)
}

/// Writes the marker of the tier whose root is `root`; durable on return.
///
/// # Errors
/// What the tier says. The old marker is then still there.
pub fn write(root: &dyn Dir, marker: &Marker) -> Result<(), Errno> {
    let dir = match own_dir(root)? {
        Some(dir) => dir,
        None => small::make_dir(root, &Name::new(PRIVATE_DIR.as_bytes())?, DIR_MODE)?,
    };
    let (name, scratch) = (Name::new(FILE)?, Name::new(SCRATCH)?);
    small::replace(dir.as_ref(), &name, &scratch, marker.render().as_bytes(), FILE_MODE)
}

/// Makes the tiers with these roots, fastest first, one union. `old` are their markers so far:
/// of those the ids stay. What the volumes are made with is put down where a marker does not say it yet.
///
/// # Errors
/// The rank that failed and what its file system says.
pub fn adopt(roots: &[&Root], old: &[Option<Marker>]) -> Result<Vec<Marker>, (Rank, Errno)> {
    let of_rank = |index: usize| Rank(u8::try_from(index).unwrap_or(u8::MAX));
    let at_start = |errno| (Rank::PRIMARY, errno);
    let known = old.iter().flatten().next().map(|marker| marker.union);
    let union = known.map_or_else(Id::random, Ok).map_err(at_start)?;
    let mut markers = Vec::new();
    for index in 0..roots.len() {
        let old = old.get(index).copied().flatten();
        let tier = old.map_or_else(Id::random, |marker| Ok(marker.tier)).map_err(at_start)?;
        markers.push(Marker {
            union,
            tier,
            rank: of_rank(index),
            tiers: of_rank(roots.len()).0,
            state: old.map_or(State::New, |marker| marker.state),
            stamps: old.is_some_and(|marker| marker.stamps),
            given: old.and_then(|marker| marker.given),
            volume: roots.get(index).and_then(|root| root.features()),
        });
    }
    for state in [State::New, State::Member] {
        // Slowest first: where a tier is added, it has its marker before the others speak of it.
        for (index, (root, marker)) in roots.iter().zip(&mut markers).enumerate().rev() {
            if marker.state == State::New {
                marker.state = state;
            }
            write(root.dir(), marker).map_err(|errno| (of_rank(index), errno))?;
        }
    }
    Ok(markers)
}

/// Whether these are the markers of one union, to which [`adopt`] would add nothing.
pub fn is_whole(markers: &[Option<Marker>]) -> bool {
    let fits = |(index, marker): (usize, &Option<Marker>)| {
        marker.is_some_and(|marker| {
            marker.state == State::Member
                && marker.rank.index() == index
                && usize::from(marker.tiers) == markers.len()
                && markers.iter().flatten().all(|other| other.union == marker.union)
        })
    };
    markers.iter().enumerate().all(fits)
}

/// Records something in the marker, durably.
///
/// # Errors
/// EIO if the marker is not what it was at the start; else what the file system says.
pub fn announce(root: &dyn Dir, change: impl FnOnce(Marker) -> Marker) -> Result<(), Errno> {
    match read(root) {
        Ok(Some(marker)) => {
            let changed = change(marker);
            if changed == marker { Ok(()) } else { write(root, &changed) }
        }
        Err(Broken::Os(errno)) => Err(errno),
        Ok(None) | Err(_) => Err(Errno::EIO),
    }
}

#[cfg(test)]
mod tests;
