//! A tree of everything that is awkward to encrypt, changes to it, and a picture to compare by.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};

use super::fs::{put, set_times, set_xattr, stat, xattr, xattr_names};

/// Sizes around the ends of blocks, in bytes.
pub(crate) const SIZES: [usize; 9] = [0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 131_077];

/// A moment that every test knows.
const THEN: i64 = 1_500_000_000;

/// Bytes that differ from file to file and from place to place.
pub(crate) fn bytes(tag: usize, length: usize) -> Vec<u8> {
    let word = |at: usize| (at / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(tag << 17).rotate_left(23);
    (0..length).map(|at| word(at).to_le_bytes()[at % 8]).collect()
}

/// A name of `length` bytes.
pub(crate) fn long(letter: char, length: usize) -> String {
    letter.to_string().repeat(length)
}

/// Names that a name's encoding could spoil: lengths around its limits, and bytes of every kind.
pub(crate) fn names() -> Vec<OsString> {
    let lengths = [1, 15, 16, 17, 62, 63, 64, 95, 96, 143, 144, 175, 176, 239, 240, 254, 255];
    let mut names: Vec<OsString> = lengths.iter().map(|length| long('n', *length).into()).collect();
    let words =
        ["größe.txt", "gro\u{308}ße.txt", "日本語", "🦀", " ", "a b", "-rf", "...", "new\nline", "tab\t", "a=b", "%41"];
    names.extend(words.iter().map(OsString::from));
    names
        .extend(["gocryptfs.diriv", "gocryptfs.longname.x", "gocryptfs.longname.x.name", "x.name"].map(OsString::from));
    names.push(OsString::from_vec(b"not\xff\xfeutf8".to_vec()));
    names.push(OsString::from_vec(vec![1, 2, 3, 0x7f]));
    names
}

/// Makes the tree below `root`, which is there and empty.
pub(crate) fn plant(root: &Path) {
    for size in SIZES {
        put(root.join("sizes").join(format!("s{size}")), bytes(size, size));
    }
    // A name of a side file is reserved at the top of a volume with names in clear.
    for (at, name) in names().into_iter().enumerate() {
        put(root.join("names").join(name), bytes(at, at));
    }
    let deep = root.join("deep").join(long('d', 200)).join("c").join(long('e', 255));
    put(deep.join(long('f', 180)), "deep");
    std::fs::create_dir(root.join("empty")).expect("mkdir");
    let sparse = std::fs::File::create(root.join("sparse")).expect("create");
    sparse.set_len(3 << 20).expect("length");
    sparse.write_all_at(&bytes(3, 5000), 1 << 20).expect("write");
    sparse.write_all_at(b"end", (3 << 20) - 3).expect("write");
    for (name, target) in [("short", "x"), ("dangling", "/no/such/thing"), ("up", "../sizes/s1")] {
        std::fs::create_dir_all(root.join("links")).expect("mkdir");
        symlink(target, root.join("links").join(name)).expect("symlink");
    }
    symlink(long('t', 2000), root.join("links").join(long('l', 190))).expect("symlink");
    put(root.join("links/one"), "linked");
    std::fs::hard_link(root.join("links/one"), root.join("links").join(long('h', 200))).expect("link");
    std::fs::hard_link(root.join("links/one"), root.join("deep/one")).expect("link");
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0)
        .expect("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, root.join(long('p', 210)), FileType::Fifo, Mode::from_raw_mode(0o604), 0)
        .expect("fifo");
    put(root.join("marked"), "marked");
    set_xattr(root.join("marked"), "user.one", b"value");
    set_xattr(root.join("marked"), "user.empty", b"");
    set_xattr(root.join("marked"), "user.large", &bytes(9, 1000));
    set_xattr(root.join("marked"), "user.größe", b"unicode");
    set_xattr(root.join("empty"), "user.dir", b"of a directory");
    put(root.join("rights"), "rights");
    std::fs::set_permissions(root.join("rights"), PermissionsExt::from_mode(0o604)).expect("chmod");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(root.join("rights"), Some(1234), Some(4321)).expect("chown");
        std::os::unix::fs::lchown(root.join("links/short"), Some(12), Some(13)).expect("chown");
    }
    settle(root);
}

/// Changes things in the tree of `plant`, `round` after `round` others.
pub(crate) fn change(root: &Path, round: usize) {
    let edit = |size: usize| {
        let path = root.join("sizes").join(format!("s{size}"));
        std::fs::File::options().read(true).write(true).open(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    };
    for size in SIZES {
        let file = edit(size);
        // Within a block, over the end of one, past the end of the file.
        let at = [size / 2, size.saturating_sub(3), size + 1, size + 5000][(size + round) % 4];
        file.write_all_at(&bytes(round, 7 + size % 5000), at as u64).expect("write");
    }
    edit(8193).set_len(4096).expect("truncate");
    edit(131_077).set_len(70_000 + round as u64).expect("truncate");
    edit(1).set_len(30_000).expect("extend");
    edit(4097).set_len(0).expect("empty");
    edit(4097).write_all_at(&bytes(77, 4097), 0).expect("write");
    let renamed = |from: &Path, to: &Path| std::fs::rename(root.join(from), root.join(to)).expect("rename");
    let (brief, lengthy) = (Path::new("renamed").to_owned(), PathBuf::from(long('r', 250)));
    if round == 1 {
        renamed(&Path::new("names").join(long('n', 255)), &brief);
        renamed(&Path::new("names").join(long('n', 1)), &lengthy);
        renamed(Path::new("deep"), Path::new("deeper"));
        std::fs::remove_file(root.join("links").join(long('h', 200))).expect("unlink");
        std::fs::remove_file(root.join("links/up")).expect("unlink");
        std::fs::remove_file(root.join("names").join(long('n', 176))).expect("unlink");
    } else {
        renamed(&lengthy, &brief);
        renamed(&Path::new("names").join(long('n', 254)), &Path::new("names").join(long('n', 240)));
        renamed(Path::new("deeper"), Path::new(&long('D', 222)));
        std::fs::create_dir(root.join(long('m', 201))).expect("mkdir");
    }
    let again = root.join("links").join(format!("again{round}"));
    symlink(format!("{}/{round}", long('q', 300)), &again).expect("symlink");
    std::fs::hard_link(root.join("links/one"), root.join(format!("one-{round}-{}", long('k', 180)))).expect("link");
    let path = root.join("marked");
    set_xattr(&path, "user.one", &bytes(round, 10 * round));
    rustix::fs::lremovexattr(&path, if round == 1 { "user.large" } else { "user.new1" }).expect("removexattr");
    set_xattr(&path, &format!("user.new{round}"), b"new");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640 + round as u32)).expect("chmod");
    std::fs::create_dir_all(root.join(format!("new{round}")).join(long('w', 255))).expect("mkdir");
    put(root.join(format!("new{round}/{}/file", long('w', 255))), bytes(round, 4096 * 3));
    settle(root);
}

/// Gives everything known times, children before their directories.
pub(crate) fn settle(root: &Path) {
    let mut paths = walk(root);
    paths.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in paths {
        let tag = path.as_os_str().len() as i64;
        set_times(root.join(path), THEN + tag, THEN - tag);
    }
}

/// Every path below `root` but tierfs's own.
pub(crate) fn walk(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut rest) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(dir) = rest.pop() {
        let here = root.join(&dir);
        let entries = std::fs::read_dir(&here).unwrap_or_else(|error| panic!("{here:?}: {error}"));
        for entry in entries {
            let entry = entry.unwrap_or_else(|error| panic!("{here:?}: {error}"));
            let path = dir.join(entry.file_name());
            if path == Path::new(".tierfs") {
                continue;
            }
            if stat(root.join(&path)).is_dir() {
                rest.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All that a program sees, without inode and change times.
pub(crate) type Picture = BTreeMap<PathBuf, String>;

/// Looks at everything below `root`.
pub(crate) fn picture(root: &Path) -> Picture {
    walk(root).into_iter().map(|path| (path.clone(), seen(&root.join(&path)))).collect()
}

fn seen(path: &Path) -> String {
    let found = stat(path);
    let kind = found.file_type();
    let mut words =
        format!("{:o} {}:{} {}.{:09}", found.mode(), found.uid(), found.gid(), found.mtime(), found.mtime_nsec());
    if kind.is_dir() {
        words.push_str(" directory");
    } else {
        words.push_str(&format!(" {} links {} bytes", found.nlink(), found.size()));
    }
    if kind.is_symlink() {
        words.push_str(&format!(
            " -> {:?}",
            std::fs::read_link(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
        ));
    }
    if kind.is_file() {
        let content = std::fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_eq!(content.len() as u64, found.size(), "{path:?}");
        words.push_str(&format!(" {}", blake3::hash(&content).to_hex()));
    }
    if kind.is_file() || kind.is_dir() {
        for key in xattr_names(path).into_iter().filter(|key| key.starts_with("user.") || key.starts_with("system.")) {
            let value = xattr(path, &key).unwrap_or_else(|error| panic!("{path:?} {key}: {error}"));
            words.push_str(&format!(" {key}={}", value.escape_ascii()));
        }
    }
    if kind.is_block_device() || kind.is_char_device() {
        words.push_str(&format!(" device {}", found.rdev()));
    }
    words
}

/// The first differences, in words; `None` where there are none.
pub(crate) fn differences(expected: &Picture, found: &Picture) -> Option<String> {
    let paths: std::collections::BTreeSet<&PathBuf> = expected.keys().chain(found.keys()).collect();
    let differ: Vec<String> = paths
        .into_iter()
        .filter(|path| expected.get(*path) != found.get(*path))
        .map(|path| format!("{path:?}:\n  expected {:?}\n  found    {:?}", expected.get(path), found.get(path)))
        .collect();
    let few: Vec<&str> = differ.iter().take(6).map(String::as_str).collect();
    (!differ.is_empty()).then(|| format!("{} differ:\n{}", differ.len(), few.join("\n")))
}

/// Both trees are the same to a program.
#[track_caller]
pub(crate) fn same(expected: &Path, found: &Path, when: &str) {
    if let Some(words) = differences(&picture(expected), &picture(found)) {
        panic!("{when}: {words}");
    }
}
