//! A tree with one of everything that a move could spoil, and a picture of it to compare with.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps};

use crate::common::fs as short;
use crate::common::loopfs::run;
use crate::rng::Rng;

/// Two years in seconds: old enough for every command of the campaign.
const OLD_SEC: i64 = 2 * 365 * 86_400;

/// A capability to bind low ports, as `setcap cap_net_bind_service=ep` writes it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Bytes that differ from file to file and from place to place.
pub(crate) fn bytes(rng: &mut Rng, length: usize) -> Vec<u8> {
    let tag = rng.below(1 << 30);
    (0..length).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ tag.wrapping_mul(at | 1)) as u8).collect()
}

/// Makes the tree below `root`, on one tier.
pub(crate) fn plant(root: &Path, rng: &mut Rng) {
    let dirs = ["a", "a/b", "a/b/deep", "c d", "e\nf", "set", "acl", "few"];
    dirs.iter().for_each(|dir| std::fs::create_dir_all(root.join(dir)).expect("mkdir"));
    let odd = root.join(OsStr::from_bytes(b"a/not\xffutf8"));
    short::put(&odd, bytes(rng, 100));
    for (at, dir) in ["a", "a/b", "a/b/deep", "c d", "e\nf"].iter().enumerate() {
        for file in 0..3 {
            let length = [0, 1, 4096, 5000, 70_000][rng.below(5)];
            short::put(root.join(dir).join(format!("f{at}{file}")), bytes(rng, length));
        }
    }
    short::put(root.join("few/large"), bytes(rng, (2 << 20) + 77));
    plant_sparse(&root.join("few/sparse"));
    plant_links(root, rng);
    plant_rights(root, rng);
    short::put(root.join("few/young"), b"stays");
    std::os::unix::fs::symlink("../a", root.join("few/link")).expect("symlink");
    run(Command::new("mkfifo").arg(root.join("few/fifo")));
    age(root, rng);
}

fn plant_sparse(path: &Path) {
    let file = std::fs::File::create(path).expect("create");
    file.set_len(3 << 20).expect("length");
    file.write_all_at(&[7; 5000], 1 << 20).expect("write");
    file.write_all_at(&[8; 10], (3 << 20) - 20_000).expect("write");
}

fn plant_links(root: &Path, rng: &mut Rng) {
    for (from, others) in [("a/one", vec!["a/two", "c d/three"]), ("a/b/pair", vec!["a/b/deep/pair"])] {
        short::put(root.join(from), bytes(rng, 6000));
        short::set_xattr(root.join(from), "user.group", b"linked");
        others.iter().for_each(|other| std::fs::hard_link(root.join(from), root.join(other)).expect("link"));
    }
}

fn plant_rights(root: &Path, rng: &mut Rng) {
    for (name, uid, gid, mode) in
        [("suid", 1, 1, 0o4755), ("sgid", 2, 3, 0o2711), ("both", 0, 1, 0o6555), ("none", 4, 4, 0o000)]
    {
        let path = root.join("set").join(name);
        short::put(&path, bytes(rng, 300));
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("chown");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
    }
    short::put(root.join("set/capable"), b"#!/bin/true\n");
    short::set_xattr(root.join("set/capable"), "security.capability", &CAPABILITY);
    std::os::unix::fs::chown(root.join("set"), Some(1), Some(2)).expect("chown");
    std::fs::set_permissions(root.join("set"), PermissionsExt::from_mode(0o2775)).expect("chmod");
    run(Command::new("setfacl").args(["-m", "d:u:7:rwx"]).arg(root.join("acl")));
    for name in ["x", "y"] {
        let path = root.join("acl").join(name);
        short::put(&path, bytes(rng, 2000));
        run(Command::new("setfacl").args(["-m", "u:5:r,g:6:rw,m::rw"]).arg(&path));
        short::set_xattr(&path, "user.long", &bytes(rng, 900));
        short::set_xattr(&path, "trusted.mark", name.as_bytes());
    }
    short::set_xattr(root.join("acl"), "user.dir", b"too");
}

/// Old times to the nanosecond for everything but the young.
fn age(root: &Path, rng: &mut Rng) {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("clock").as_secs()).expect("seconds");
    let mut paths: Vec<PathBuf> = walk(root);
    paths.push(PathBuf::new());
    // Below before above; a link's or directory's own times do not make others newer.
    paths.sort_by_key(|path| std::cmp::Reverse(path.as_os_str().len()));
    for path in paths.iter().filter(|path| !path.ends_with("young")) {
        let moment = |rng: &mut Rng| Timespec {
            tv_sec: now - OLD_SEC - rng.below(10_000_000) as i64,
            tv_nsec: rng.below(1_000_000_000) as _,
        };
        let times = Timestamps { last_access: moment(rng), last_modification: moment(rng) };
        rustix::fs::utimensat(CWD, root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).expect("times");
    }
}

/// Every path below `root` but tierfs's own, relative to it, sorted.
pub(crate) fn walk(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut rest) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(dir) = rest.pop() {
        let entries = std::fs::read_dir(root.join(&dir)).unwrap_or_else(|error| panic!("{root:?} {dir:?}: {error}"));
        for entry in entries {
            let entry = entry.unwrap_or_else(|error| panic!("{root:?} {dir:?}: {error}"));
            let path = dir.join(entry.file_name());
            if path == Path::new(".tierfs") || path == Path::new("lost+found") {
                continue;
            }
            if entry.file_type().expect("type").is_dir() {
                rest.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All that a program can see of one path, but its change time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: char,
    pub(crate) ino: u64,
    pub(crate) nlink: u64,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) size: u64,
    pub(crate) atime: (i64, i64),
    pub(crate) mtime: (i64, i64),
    pub(crate) ctime: (i64, i64),
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    pub(crate) content: String,
    pub(crate) blocks: u64,
}

impl Seen {
    /// Looks at one path without a trace.
    pub(crate) fn of(path: &Path) -> Seen {
        let meta = short::stat(path);
        let kind = meta.file_type();
        let (kind, content) = match () {
            () if kind.is_dir() => ('d', String::new()),
            () if kind.is_symlink() => {
                ('l', format!("{:?}", std::fs::read_link(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))))
            }
            () if kind.is_fifo() => ('p', String::new()),
            () => ('f', content(path)),
        };
        let keys = if "fd".contains(kind) { short::xattr_names(path) } else { BTreeSet::new() };
        let value = |key: String| {
            let value = short::xattr(path, &key).unwrap_or_else(|error| panic!("{path:?} {key}: {error}"));
            (key, value)
        };
        Seen {
            kind,
            ino: meta.ino(),
            nlink: if kind == 'd' { 0 } else { meta.nlink() },
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            size: if kind == 'd' { 0 } else { meta.size() },
            atime: (meta.atime(), meta.atime_nsec()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
            xattrs: keys.into_iter().map(value).collect(),
            content,
            blocks: meta.blocks(),
        }
    }
}

/// A hash of what is read.
pub(crate) fn content(path: &Path) -> String {
    let file = short::open(path, OFlags::RDONLY | OFlags::NOATIME | OFlags::NOFOLLOW, 0);
    let mut bytes = Vec::new();
    let mut file = file.unwrap_or_else(|error| panic!("{path:?}: {error}"));
    file.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    blake3::hash(&bytes).to_hex().to_string()
}

/// Everything below one root.
pub(crate) type Picture = BTreeMap<PathBuf, Seen>;

/// Looks at everything, the root included.
pub(crate) fn picture(root: &Path) -> Picture {
    let mut paths = walk(root);
    paths.push(PathBuf::new());
    paths.into_iter().map(|path| (path.clone(), Seen::of(&root.join(&path)))).collect()
}

/// What differs, and what may.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Must not be.
    pub(crate) wrong: Vec<String>,
    /// Directories with another modification time.
    pub(crate) touched: Vec<PathBuf>,
    /// Files with another change time.
    pub(crate) changed: usize,
}

/// Compares two pictures of the same tree.
pub(crate) fn compare(before: &Picture, after: &Picture) -> Difference {
    let mut found = Difference::default();
    for path in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        match (before.get(path), after.get(path)) {
            (Some(_), None) => found.wrong.push(format!("{path:?} is gone")),
            (None, Some(_)) => found.wrong.push(format!("{path:?} has come")),
            (Some(then), Some(now)) => compare_one(path, then, now, &mut found),
            (None, None) => {}
        }
    }
    found
}

fn compare_one(path: &Path, then: &Seen, now: &Seen, found: &mut Difference) {
    if then.kind == 'f' && then.ctime != now.ctime {
        found.changed += 1;
    }
    let mut like = Seen { ctime: now.ctime, blocks: now.blocks, ..then.clone() };
    if then.kind == 'd' {
        like.atime = now.atime;
        if then.mtime != now.mtime {
            found.touched.push(path.to_owned());
            like.mtime = now.mtime;
        }
    }
    // A filesystem may take some blocks more for the same holes.
    let sparse = then.kind == 'f' && then.blocks * 512 < then.size;
    if sparse && now.blocks > then.blocks + 64 {
        found.wrong.push(format!("{path:?}: {} blocks, had {}", now.blocks, then.blocks));
    }
    if like != *now {
        found.wrong.push(format!("{path:?}:\n  was {then:?}\n  is  {now:?}"));
    }
}

/// What must not be on the tiers once a union serves: leftovers of moves, and files on two tiers.
pub(crate) fn leftovers(roots: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    for root in roots {
        for own in ["staging", "trash", "moves", "renames", "lost"] {
            let dir = root.join(".tierfs").join(own);
            if dir.exists() {
                let names =
                    std::fs::read_dir(&dir).expect("private directory").map(|entry| entry.expect("entry").path());
                found.extend(names.map(|path| format!("left over: {path:?}")));
            }
        }
    }
    let files = |root: &PathBuf| -> BTreeSet<PathBuf> {
        walk(root).into_iter().filter(|path| !short::stat(root.join(path)).is_dir()).collect()
    };
    if let [fast, slow] = roots {
        found.extend(files(fast).intersection(&files(slow)).map(|path| format!("on both tiers: {path:?}")));
    }
    found
}

/// Removes what was kept of sources: in `.tierfs/lost`, and hidden by an equal copy on the faster tier.
pub(crate) fn forget_kept(roots: &[PathBuf]) {
    for root in roots {
        let _absent = std::fs::remove_dir_all(root.join(".tierfs/lost"));
    }
    let [fast, slow] = roots else { return };
    for path in walk(slow).into_iter().filter(|path| slow.join(path).is_file() && fast.join(path).is_file()) {
        let read = |root: &PathBuf| std::fs::read(root.join(&path)).expect("read");
        assert!(read(fast) == read(slow), "{path:?} differs on both tiers");
        std::fs::remove_file(slow.join(&path)).expect("rm");
    }
}
