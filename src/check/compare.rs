//! How copies compare. Pure but for the reading of contents.

use std::collections::BTreeMap;
use std::ffi::CString;

use crate::tier::File;
use crate::types::attr::{Kind, Stat};
use crate::types::errno::{Errno, Result};
use crate::types::hex;
use crate::types::ids::{Rank, Ranks};
use crate::types::pin;

/// Bytes of two files that are compared at a time: whoever waits for a claim on one waits no longer
/// than this takes.
const CHUNK: usize = 1 << 20;

/// How two copies of a file compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Their contents.
    pub contents: Contents,
    /// Which was changed later.
    pub newer: Newer,
    /// In what else they differ: `mode`, `owner`, `time`, `type`, `hard links`, or names of extended
    /// attributes.
    pub differs: Vec<String>,
}

/// How contents compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Every byte is equal.
    Same,
    /// They are not.
    Differ,
    /// They were not read: they are of equal size, or are no contents of regular files.
    Unread,
}

/// Which of two copies has the later modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newer {
    /// The one that is seen.
    Visible,
    /// The hidden one.
    Hidden,
    /// They have the same.
    Neither,
}

impl Compared {
    /// Whether nothing is lost with the hidden one.
    pub fn is_equal(&self) -> bool {
        self.contents == Contents::Same && self.differs.is_empty()
    }
}

/// Extended attributes by name.
pub(super) type Attributes = BTreeMap<CString, Vec<u8>>;

pub(super) fn newer(visible: &Stat, hidden: &Stat) -> Newer {
    match visible.mtime.cmp(&hidden.mtime) {
        std::cmp::Ordering::Greater => Newer::Visible,
        std::cmp::Ordering::Less => Newer::Hidden,
        std::cmp::Ordering::Equal => Newer::Neither,
    }
}

/// In what two bodies differ but for times, contents and extended attributes.
pub(super) fn rights(one: &Stat, other: &Stat) -> Vec<String> {
    let mut differs = Vec::new();
    if one.mode & 0o7777 != other.mode & 0o7777 {
        differs.push("mode".to_owned());
    }
    if (one.uid, one.gid) != (other.uid, other.gid) {
        differs.push("owner".to_owned());
    }
    differs
}

/// The extended attributes that only one has, or that differ.
pub(super) fn keys(one: &Attributes, other: &Attributes) -> Vec<String> {
    let mut keys: Vec<&CString> =
        one.iter().filter(|(key, value)| other.get(*key) != Some(value)).map(|p| p.0).collect();
    keys.extend(other.keys().filter(|key| !one.contains_key(*key)));
    keys.sort_unstable();
    keys.into_iter().map(|key| key.to_string_lossy().into_owned()).collect()
}

/// What a body has of that in which it differs from another, in words with which `chmod`, `chown` and
/// `setfattr` can set it again.
pub(super) fn told(stat: &Stat, all: &Attributes, differs: &[String]) -> String {
    let each = differs.iter().map(|what| match what.as_str() {
        "mode" => format!("mode {:04o}", stat.mode & 0o7777),
        "owner" => format!("owner {}:{}", stat.uid, stat.gid),
        key => match all.iter().find(|(known, _)| known.to_string_lossy() == key) {
            Some((_, value)) => format!("{key}={}", value_text(value)),
            None => format!("no {key}"),
        },
    });
    each.collect::<Vec<_>>().join(", ")
}

/// All of it.
pub(super) fn told_whole(stat: &Stat, all: &Attributes) -> String {
    let keys = all.keys().map(|key| key.to_string_lossy().into_owned());
    let differs: Vec<String> = ["mode", "owner"].map(String::from).into_iter().chain(keys).collect();
    told(stat, all, &differs)
}

/// As `setfattr -v` reads it.
fn value_text(value: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\') || *byte == b' ';
    if !value.is_empty() && value.iter().all(plain) {
        return format!("\"{}\"", String::from_utf8_lossy(value));
    }
    format!("0x{}", hex::write(value))
}

/// What a hidden file lacks to be equal to the visible one, but for its contents and extended
/// attributes.
pub(super) fn file_differs(visible: &Stat, hidden: &Stat) -> Vec<String> {
    if visible.kind() != hidden.kind() {
        return vec!["type".into()];
    }
    let mut differs = rights(visible, hidden);
    if visible.mtime != hidden.mtime {
        differs.push("time".into());
    }
    // It is also a file under another name, which would lose a link.
    if hidden.nlink != 1 && hidden.kind() == Kind::File {
        differs.push("hard links".into());
    }
    differs
}

/// Whether two files of `size` bytes have the same contents. `pace` is called after each piece with
/// its length, and stops the reading by an error.
pub(super) fn same_contents(
    one: &dyn File,
    other: &dyn File,
    size: u64,
    pace: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<bool> {
    let len = CHUNK.min(usize::try_from(size).unwrap_or(CHUNK));
    let (mut a, mut b) = (vec![0; len], vec![0; len]);
    let mut at = 0;
    while at < size {
        let want = usize::try_from(size - at).unwrap_or(len).min(len);
        let got = (one.read_at(&mut a[..want], at)?, other.read_at(&mut b[..want], at)?);
        if got != (want, want) {
            // One has become shorter.
            return Err(Errno::ESTALE);
        }
        if a[..want] != b[..want] {
            return Ok(false);
        }
        at += want as u64;
        pace(want)?;
    }
    Ok(true)
}

/// Names that differ only in upper and lower case, where no tier has all of them: on one tier it is
/// as its users wanted it. Names that are no text are not compared.
pub(super) fn case_folded<'a>(names: impl Iterator<Item = (&'a [u8], Ranks)>) -> Vec<Vec<(Vec<u8>, Ranks)>> {
    let mut folded: BTreeMap<String, Vec<(Vec<u8>, Ranks)>> = BTreeMap::new();
    for (name, ranks) in names {
        if let Ok(text) = std::str::from_utf8(name) {
            folded.entry(text.to_lowercase()).or_default().push((name.to_vec(), ranks));
        }
    }
    let on_all = |names: &[(Vec<u8>, Ranks)]| names.iter().fold(u8::MAX, |all, (_, ranks)| all & ranks.0) != 0;
    folded.into_values().filter(|names| names.len() > 1 && !on_all(names)).collect()
}

/// What a pin says that a union of `tiers` tiers cannot follow: `None` for nothing.
pub(super) fn wrong_pin(word: &[u8], tiers: usize) -> Option<Option<Rank>> {
    match pin::parse(word) {
        None => Some(None),
        Some(rank) => (rank.index() >= tiers).then_some(Some(rank)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(names: &[(&str, u8)]) -> Vec<Vec<String>> {
        let groups = case_folded(names.iter().map(|(name, ranks)| (name.as_bytes(), Ranks(*ranks))));
        let text = |names: Vec<(Vec<u8>, Ranks)>| {
            names.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect()
        };
        groups.into_iter().map(text).collect()
    }

    #[test]
    fn cases_conflict_only_between_tiers() {
        assert_eq!(folded(&[("Foo", 1), ("FOO", 2), ("bar", 1), ("baz", 2)]), [["Foo", "FOO"]]);
        assert_eq!(folded(&[("\u{c4}", 1), ("\u{e4}", 2)]), [["\u{c4}", "\u{e4}"]]);
        assert!(folded(&[("Foo", 1), ("FOO", 1)]).is_empty(), "on one tier");
        assert!(folded(&[("Foo", 3), ("FOO", 2)]).is_empty(), "the secondary has both");
        assert_eq!(folded(&[("a", 3), ("A", 2), ("\u{212b}", 1), ("\u{e5}", 2)]).len(), 1);
        assert_eq!(case_folded([(&b"\xff"[..], Ranks(1)), (b"\xfe", Ranks(2))].into_iter()).len(), 0);
    }

    #[test]
    fn pins_must_name_a_tier() {
        assert_eq!(wrong_pin(b"secondary", 2), None);
        assert_eq!(wrong_pin(b"1\n", 2), None);
        assert_eq!(wrong_pin(b"tier2", 2), Some(Some(Rank(2))));
        assert_eq!(wrong_pin(b"fast", 2), Some(None));
        assert_eq!(wrong_pin(b"\xff", 2), Some(None));
    }

    #[test]
    fn every_differing_attribute_is_named_once() {
        let of = |pairs: &[(&str, &str)]| -> Attributes {
            pairs.iter().map(|(key, value)| (CString::new(*key).unwrap(), value.as_bytes().to_vec())).collect()
        };
        let (one, other) = (
            of(&[("user.a", "1"), ("user.b", "1"), ("user.c", "1")]),
            of(&[("user.a", "1"), ("user.b", "2"), ("user.d", "1")]),
        );
        assert_eq!(keys(&one, &other), ["user.b", "user.c", "user.d"]);
        assert_eq!(keys(&other, &one), ["user.b", "user.c", "user.d"]);
        assert!(keys(&one, &one).is_empty());
    }
    #[test]
    fn what_a_repair_replaces_can_be_set_again() {
        let mut all = Attributes::new();
        let acl: &[u8] = &[2, 0, 0, 0];
        for (key, value) in [("system.posix_acl_access", acl), ("user.q", &b"a\"b"[..]), ("user.text", &b"a b"[..])] {
            all.insert(CString::new(key).unwrap(), value.to_vec());
        }
        let home = tempfile::tempdir().unwrap();
        let tier =
            crate::migrate::scan::open_to_read(&crate::tier::place::Place::plain(home.path().into()), Rank::PRIMARY)
                .unwrap();
        let stat = Stat { mode: 0o40_750, uid: 5, gid: 6, ..tier.root().stat(None).unwrap().unwrap() };
        let whole = "mode 0750, owner 5:6, system.posix_acl_access=0x02000000, user.q=0x612262, user.text=\"a b\"";
        assert_eq!(told_whole(&stat, &all), whole);
        assert_eq!(told(&stat, &all, &["mode".into(), "user.gone".into()]), "mode 0750, no user.gone");
    }
}
