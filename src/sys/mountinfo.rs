//! `/proc/self/mountinfo`: what is mounted where, as `proc(5)` describes it. Bytes, not text.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::types::errno::{Errno, Result};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The number of the mount.
    pub id: u64,
    /// The number of the mount that it is mounted on.
    pub parent: u64,
    /// Major and minor number of the filesystem's device.
    pub device: (u32, u32),
    /// The directory of the filesystem that is mounted: `/` unless it is a bind mount.
    pub root: PathBuf,
    /// Where it appears.
    pub point: PathBuf,
    /// The options of this mount of it, separated by commas.
    pub flags: OsString,
    /// The type, with a subtype after a dot.
    pub kind: OsString,
    /// What it was mounted from.
    pub source: OsString,
    /// The options of the filesystem, separated by commas.
    pub options: OsString,
    /// The user whose program answers for it, of a FUSE mount: the kernel holds that, not the program.
    pub user: Option<u32>,
}

impl Mount {
    /// Whether a tierfs serves it, or served it before it died.
    pub fn is_tierfs(&self) -> bool {
        self.kind == "fuse.tierfs"
    }
}

/// All mounts this process sees, lower before upper.
///
/// # Errors
/// What reading the file says, as where `/proc` is not mounted.
pub fn read() -> Result<Vec<Mount>> {
    let bytes = std::fs::read("/proc/self/mountinfo").map_err(|error| Errno::of(&error))?;
    Ok(parse(&bytes))
}

/// The topmost mount at exactly `point`, which is an absolute path without symbolic links.
pub fn at<'a>(mounts: &'a [Mount], point: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.point == point)
}

/// Reads the text of the file. Lines of a form that is not known are left out.
pub fn parse(bytes: &[u8]) -> Vec<Mount> {
    bytes.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let id = number(words.next()?)?;
    let parent = number(words.next()?)?;
    let mut device = words.next()?.split(|byte| *byte == b':');
    let device = (number(device.next()?)?, number(device.next()?)?);
    let root = unescape(words.next()?).into();
    let point = unescape(words.next()?).into();
    let flags = unescape(words.next()?);
    // Any number of optional fields comes before the lone dash.
    words.find(|word| *word == b"-")?;
    let kind = unescape(words.next()?);
    let source = unescape(words.next()?);
    let options = words.next().unwrap_or_default();
    let mut each = options.split(|byte| *byte == b',');
    let user = each.find_map(|option| option.strip_prefix(b"user_id=")).and_then(number);
    Some(Mount { id, parent, device, root, point, flags, kind, source, options: unescape(options), user })
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Undoes the octal escapes with which the kernel, and `fstab(5)`, write space, tab, newline, backslash
/// and `#`.
pub fn unescape(word: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(plain)
}

/// Where a directory really is: the filesystem's device and the path inside the filesystem. Two
/// bind mounts of one directory have the same place.
pub fn place(mounts: &[Mount], id: u64, path: &Path) -> Option<((u32, u32), PathBuf)> {
    let mount = mounts.iter().find(|mount| mount.id == id)?;
    let inside = path.strip_prefix(&mount.point).ok()?;
    let path = if inside == OsStr::from_bytes(b"") { mount.root.clone() } else { mount.root.join(inside) };
    Some((mount.device, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n\
30 22 254:0 /home/a\\040b /srv/x\\134y rw - ext4 /dev/vda rw\n\
31 30 0:44 / /srv/\xff\\011 rw,nosuid shared:5 - fuse.tierfs docs\\043 rw,user_id=0\n\
32 22 0:45 / /srv/\xff\\011 rw - tmpfs tmpfs rw\n\
a line that is something else\n";

    #[test]
    fn names_are_bytes_with_octal_escapes() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[0].point, Path::new("/"));
        assert_eq!(mounts[1].root, Path::new("/home/a b"));
        assert_eq!(mounts[1].point, Path::new("/srv/x\\y"));
        assert_eq!(mounts[2].point, Path::new(OsStr::from_bytes(b"/srv/\xff\t")));
        assert_eq!((mounts[2].device, mounts[2].source.as_os_str()), ((0, 44), OsStr::new("docs#")));
        assert!(mounts[2].is_tierfs());
        assert_eq!(
            (mounts[0].flags.as_os_str(), mounts[2].flags.as_os_str()),
            (OsStr::new("rw,relatime"), OsStr::new("rw,nosuid"))
        );
        assert_eq!(mounts[2].options, "rw,user_id=0");
        assert_eq!((mounts[1].user, mounts[2].user), (None, Some(0)));
    }

    #[test]
    fn the_upper_of_two_mounts_counts() {
        let mounts = parse(TEXT);
        let point = Path::new(OsStr::from_bytes(b"/srv/\xff\t"));
        assert_eq!(at(&mounts, point).map(|mount| mount.id), Some(32));
        assert_eq!(at(&mounts, Path::new("/srv")), None);
    }

    #[test]
    fn a_bind_mount_leads_to_its_origin() {
        let mounts = parse(TEXT);
        let bound = place(&mounts, 30, Path::new("/srv/x\\y/sub"));
        let origin = place(&mounts, 22, Path::new("/home/a b/sub"));
        assert_eq!(bound, Some(((254, 0), "/home/a b/sub".into())));
        assert_eq!(bound, origin);
        assert_eq!(place(&mounts, 30, Path::new("/elsewhere")), None);
    }

    #[test]
    fn this_machine_has_mounts() {
        assert!(at(&read().unwrap(), Path::new("/")).is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
