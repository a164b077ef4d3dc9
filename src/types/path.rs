//! A path in the union, as bytes from its root.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::errno::Result;
use super::name::Name;

/// Names joined by single slashes, none at either end; the root is empty. Any bytes but NUL, so
/// also what is no text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnionPath(Box<[u8]>);

impl UnionPath {
    /// Checks `raw`: slashes at the ends and doubled ones are taken out.
    ///
    /// # Errors
    /// EINVAL for a component that is no [`Name`], so also for `.` and `..`; ENAMETOOLONG.
    pub fn new(raw: &[u8]) -> Result<UnionPath> {
        let mut clean = Vec::with_capacity(raw.len());
        for part in raw.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            Name::new(part)?;
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(part);
        }
        Ok(UnionPath(clean.into()))
    }

    /// The root.
    pub fn root() -> UnionPath {
        UnionPath::default()
    }

    /// `name` in this directory.
    pub fn join(&self, name: &[u8]) -> UnionPath {
        if self.is_root() {
            return UnionPath(name.into());
        }
        UnionPath([&self.0, b"/".as_slice(), name].concat().into())
    }

    /// The bytes, without a slash at either end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For the standard library; relative.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory above and the last name; `None` for the root.
    pub fn split(&self) -> Option<(UnionPath, Name)> {
        let at = self.0.iter().rposition(|byte| *byte == b'/');
        let (dir, name) = at.map_or((&self.0[..0], &self.0[..]), |at| (&self.0[..at], &self.0[at + 1..]));
        Some((UnionPath(dir.into()), Name::new(name).ok()?))
    }

    /// The last name; `None` for the root.
    pub fn name(&self) -> Option<Name> {
        Name::new(self.0.rsplit(|byte| *byte == b'/').next()?).ok()
    }

    /// The names from the root down.
    pub fn names(&self) -> impl Iterator<Item = Name> + '_ {
        self.0.split(|byte| *byte == b'/').filter_map(|part| Name::new(part).ok())
    }

    /// Whether this is `above` or something below it.
    pub fn is_within(&self, above: &UnionPath) -> bool {
        above.is_root() || self.0.strip_prefix(&*above.0).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }
}

impl fmt::Display for UnionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for UnionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_os_str(), f)
    }
}

/// Hash and order are those of the bytes.
impl Borrow<[u8]> for UnionPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Paths that stand for themselves and for everything below them. However many they are, a look takes as
/// many steps as a path has names.
#[derive(Debug, Clone, Default)]
pub struct Trees(HashSet<UnionPath>);

impl Trees {
    /// Whether a path is one of them or below one.
    pub fn have(&self, path: &UnionPath) -> bool {
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        [0, bytes.len()].into_iter().chain(slashes).any(|end| self.0.contains(&bytes[..end]))
    }

    /// One more. Whether that adds anything: not what is in them already.
    pub fn add(&mut self, path: UnionPath) -> bool {
        let adds = !self.have(&path);
        if adds {
            self.0.insert(path);
        }
        adds
    }
}

impl FromIterator<UnionPath> for Trees {
    fn from_iter<I: IntoIterator<Item = UnionPath>>(paths: I) -> Trees {
        let mut trees = Trees::default();
        for path in paths {
            let _new = trees.add(path);
        }
        trees
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_and_taken_apart() {
        let path = UnionPath::new(b"//a//b c/\xff/").unwrap();
        assert_eq!(path.as_bytes(), b"a/b c/\xff");
        let (dir, name) = path.split().unwrap();
        assert_eq!((dir.as_bytes(), name.as_bytes()), (&b"a/b c"[..], &b"\xff"[..]));
        assert_eq!(dir.join(name.as_bytes()), path);
        assert_eq!((path.names().count(), path.name()), (3, Some(name.clone())));
        let (root, name) = UnionPath::new(b"a").unwrap().split().unwrap();
        assert!(root.is_root());
        assert_eq!(root.join(name.as_bytes()).as_bytes(), b"a");
        assert!(UnionPath::root().split().is_none() && UnionPath::root().name().is_none());
        assert!(UnionPath::new(b"a/../b").is_err());
    }

    #[test]
    fn trees_have_what_is_within_one_of_them() {
        let path = |raw: &str| UnionPath::new(raw.as_bytes()).unwrap();
        let trees: Trees = ["a/b", "c", "a/b/d"].map(path).into_iter().collect();
        for (inside, has) in [("a/b", true), ("a/b/x/y", true), ("c", true), ("a", false), ("a/bc", false), ("", false)]
        {
            assert_eq!(trees.have(&path(inside)), has, "{inside}");
        }
        let all: Trees = [UnionPath::root()].into_iter().collect();
        assert!(all.have(&path("x/y")) && all.have(&UnionPath::root()) && !Trees::default().have(&path("x")));
    }

    #[test]
    fn a_name_that_begins_alike_is_not_within() {
        let within =
            |path: &[u8], above: &[u8]| UnionPath::new(path).unwrap().is_within(&UnionPath::new(above).unwrap());
        assert!(within(b"a/b", b"a") && within(b"a", b"a") && within(b"a", b""));
        assert!(!within(b"ab", b"a") && !within(b"a", b"a/b"));
    }
}
