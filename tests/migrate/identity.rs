//! A file that has changed its tier is the same file: number, times, owner, rights, attributes,
//! links and holes, down, after a remount, and up again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::fs::{get, ino, put, set_xattr, stat};
use crate::common::loopfs::run;
use crate::common::mount::{Setup, TestMount};
use crate::common::need;
use crate::common::setting::only_plain;
use crate::common::user::User;
use crate::kit::{Seen, files, migrate, moved_by, nothing_left_behind, on, pattern, recall, tierfs};

/// Times to the nanosecond, from long before 1970 to long after 2038.
const MOMENTS: [(i64, u32); 6] = [
    (-1_000_000_000, 1),
    (-1, 999_999_999),
    (0, 0),
    (1_500_000_000, 123_456_789),
    (2_147_483_648, 5),
    (7_000_000_000, 999_999_999),
];

fn set_moments(path: &Path, at: usize) {
    let moment = |at: usize| {
        let (tv_sec, nsec) = MOMENTS[at % MOMENTS.len()];
        rustix::fs::Timespec { tv_sec, tv_nsec: nsec.into() }
    };
    let times = rustix::fs::Timestamps { last_access: moment(at + 1), last_modification: moment(at) };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap_or_else(|error| panic!("{path:?}: {error}"));
}

/// Names that tools and formats stumble over.
fn odd_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [&b"with space"[..], b"new\nline", b"bytes\xff\xfe", b"-n", b"a\\b\"c'", b".hidden"]
        .map(<[u8]>::to_vec)
        .to_vec();
    names.push(vec![b'x'; 255]);
    names.push("é".repeat(127).into_bytes());
    names
}

/// A tree with everything a file can carry that both tiers of a pair can hold. Returns its files,
/// names of one file counted once, and their contents.
fn plant(root: &Path, root_too: bool) -> Vec<(PathBuf, Vec<u8>)> {
    let mut planted = Vec::new();
    let mut add = |path: PathBuf, content: Vec<u8>| {
        put(root.join(&path), &content);
        planted.push((path, content));
    };
    for (at, size) in [0, 1, 4095, 4096, 4097, 70_000, 3 << 20].into_iter().enumerate() {
        add(format!("sizes/s{at}").into(), pattern(at as u64, 0, size));
    }
    for (at, name) in odd_names().iter().enumerate() {
        let folder = if name.len() < 100 { Path::new("odd").join(OsStr::from_bytes(name)) } else { "odd".into() };
        add(folder.join(OsStr::from_bytes(name)), pattern(100 + at as u64, 0, 100));
    }
    add(Path::new(&"deep/".repeat(60)).join("f"), b"deep".to_vec());
    for at in 0..20 {
        add(format!("rights/d{}/f{at}", at % 3).into(), pattern(200 + at, 0, 3000));
    }
    let at = |path: &str| root.join(path);
    // Only root can read a file that nobody may.
    let least = if root_too { 0 } else { 0o400 };
    for (number, mode) in [0o4755, 0o2755, 0o6711, 0o1644, least, 0o777].into_iter().enumerate() {
        let rights = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(at(&format!("rights/d{}/f{number}", number % 3)), rights).expect("chmod");
    }
    for (path, key, value) in [
        ("rights/d0/f6", "user.note", &b"a note\0with zeros"[..]),
        ("rights/d0/f6", "user.empty", b""),
        ("rights/d1", "user.of-a-directory", b"x"),
    ] {
        set_xattr(at(path), key, value);
    }
    set_xattr(at("rights/d1/f7"), "user.long", &pattern(3, 0, 1500));
    acl(&at("rights/d2/f8"), "u:games:rw,g:news:r,m::rwx");
    acl(&at("rights/d2"), "u:games:rwx,d:u:games:rwx,d:o::-");
    if root_too {
        set_xattr(at("rights/d0/f9"), "trusted.note", b"of root");
        run(Command::new("setcap").args(["cap_net_raw,cap_setuid+ep"]).arg(at("rights/d1/f10")));
        std::os::unix::fs::chown(at("rights/d2/f11"), Some(4321), Some(8765)).expect("chown");
    }
    let sparse = std::fs::File::create(at("sizes/sparse")).expect("create");
    sparse.set_len(50 << 20).expect("size");
    sparse.write_all_at(b"data", 10 << 20).expect("write");
    let end = std::fs::File::create(at("sizes/hole")).expect("create");
    end.set_len(8 << 20).expect("size");
    std::fs::create_dir_all(at("links/one")).expect("mkdir");
    std::fs::create_dir_all(at("links/two/three")).expect("mkdir");
    for name in ["links/one/b", "links/two/three/c", "links/two/d"] {
        std::fs::hard_link(at("sizes/s3"), at(name)).expect("link");
    }
    std::os::unix::fs::symlink("../sizes/s1", at("links/symlink")).expect("symlink");
    for (number, path) in files(root).iter().enumerate() {
        set_moments(&root.join(path), number);
    }
    for (number, path) in ["rights/d1", "rights/d2", "rights", "links/two", "odd", "sizes"].iter().enumerate() {
        set_moments(&at(path), number + 3);
    }
    planted
}

fn acl(path: &Path, entries: &str) {
    run(Command::new("setfacl").args(["-m", entries]).arg(path));
}

fn check_contents(mount: &TestMount, planted: &[(PathBuf, Vec<u8>)], when: &str) {
    for (path, content) in planted {
        let found = std::fs::read(mount.path(path)).unwrap_or_else(|error| panic!("{when}: {path:?}: {error}"));
        assert!(found == *content, "{when}: {path:?} has other contents");
    }
    let sparse = std::fs::read(mount.path("sizes/sparse")).expect("read");
    assert!(sparse.len() == 50 << 20 && &sparse[10 << 20..(10 << 20) + 4] == b"data", "{when}");
    assert_eq!(sparse.iter().filter(|byte| **byte != 0).count(), 4, "{when}: holes");
}

/// Everything goes down, stays over a remount, and comes up again, and nothing that programs see
/// has changed at any of these moments.
fn goes_and_comes(mount: TestMount, planted: &[(PathBuf, Vec<u8>)]) {
    let all = files(&mount.roots()[0]).len();
    let before = Seen::of(&mount.root());
    assert!(before.len() > 100, "a tree of {} objects shows nothing", before.len());
    let down = migrate(&mount, &[]).ends(0);
    assert_eq!((down.skipped().len(), down.count("moved")), (0, all as u64 - 3), "{down:?}");
    assert_eq!(files(&mount.roots()[0]), [] as [&Path; 0], "left on the primary");
    assert_eq!(files(&mount.roots()[1]).len(), all);
    Seen::of(&mount.root()).same_as(&before, "after the way down");
    let mount = mount.remount();
    Seen::of(&mount.root()).same_as(&before, "after a remount");
    let sparse = stat(mount.tier(1, "sizes/sparse"));
    assert!(sparse.blocks() * 512 < 1 << 20, "the holes were filled: {} blocks", sparse.blocks());
    let up = recall(&mount, "").ends(0);
    assert_eq!((up.skipped().len(), up.count("moved")), (0, all as u64 - 3), "{up:?}");
    assert_eq!(files(&mount.roots()[1]), [] as [&Path; 0], "left on the secondary");
    Seen::of(&mount.root()).same_as(&before, "after the way up");
    let mount = mount.remount();
    Seen::of(&mount.root()).same_as(&before, "after the way up and a remount");
    check_contents(&mount, planted, "at the end");
    let roots = mount.roots().to_vec();
    let _kept = mount.unmount();
    nothing_left_behind(&roots);
}

fn goes_and_comes_on(kinds: [&'static str; 2]) {
    if need::programs(["setfacl", "getfattr", "setcap", "find"]).is_none() {
        return;
    }
    let Some((_tiers, setup)) = on(kinds, 512) else { return };
    let planted = plant(setup.tier(0), true);
    // A capability and a time of change are of the tree, and the tree is of the mount.
    if let Some(mount) = setup.mount() {
        goes_and_comes(mount, &planted);
    }
}

/// From ext4 to xfs and back.
#[test]
fn everything_survives_from_ext4_to_xfs() {
    goes_and_comes_on(["ext4", "xfs"]);
}

/// From xfs to btrfs and back.
#[test]
fn everything_survives_from_xfs_to_btrfs() {
    goes_and_comes_on(["xfs", "btrfs"]);
}

/// From btrfs to ext4 and back.
#[test]
fn everything_survives_from_btrfs_to_ext4() {
    goes_and_comes_on(["btrfs", "ext4"]);
}

/// From memory to ext4 and back.
#[test]
fn everything_survives_from_tmpfs_to_ext4() {
    goes_and_comes_on(["tmpfs", "ext4"]);
}

/// All that an ordinary user's tree can carry, moved by that user.
#[test]
fn everything_survives_for_an_ordinary_user() {
    let Some([user, _]) = User::two() else { return };
    if need::programs(["setfacl", "getfattr", "find"]).is_none() {
        return;
    }
    let mut setup = Setup::new().by(&user);
    if !setup.ready() {
        return;
    }
    let planted = user.run(|| plant(setup.tier(0), false));
    let Some(mount) = setup.mount() else { return };
    // Root is not let in, and remounts are root's: so each part runs as its own user.
    let all = files(&mount.roots()[0]).len();
    let before = user.run(|| Seen::of(&mount.root()));
    let down = user.run(|| migrate(&mount, &[])).ends(0);
    assert_eq!((down.skipped().len(), down.count("moved")), (0, all as u64 - 3), "{down:?}");
    user.run(|| Seen::of(&mount.root()).same_as(&before, "after the way down"));
    let mount = mount.remount();
    user.run(|| Seen::of(&mount.root()).same_as(&before, "after a remount"));
    let up = user.run(|| recall(&mount, "")).ends(0);
    assert_eq!((up.skipped().len(), up.count("moved")), (0, all as u64 - 3), "{up:?}");
    user.run(|| {
        Seen::of(&mount.root()).same_as(&before, "after the way up");
        check_contents(&mount, &planted, "at the end");
    });
}

/// Inode flags that mean the same everywhere go along.
#[test]
fn flags_go_along() {
    if only_plain("the stock program, through which the tiers are filled, passes no flags") {
        return;
    }
    let Some([lsattr, chattr]) = need::programs(["lsattr", "chattr"]) else { return };
    let Some((_tiers, setup)) = on(["ext4", "btrfs"], 256) else { return };
    put(setup.tier(0).join("f"), "flags");
    run(Command::new(chattr).arg("+AdS").arg(setup.tier(0).join("f")));
    let Some(mount) = setup.mount() else { return };
    let flags = || {
        let text = run(Command::new(&lsattr).arg(mount.path("f")));
        let word = text.split(' ').next().unwrap_or_default().to_owned();
        word.chars().filter(|flag| "AdS".contains(*flag)).collect::<String>()
    };
    assert_eq!(flags(), "SdA");
    assert_eq!(moved_by(|| migrate(&mount, &[])), 1);
    assert_eq!(flags(), "SdA", "on the secondary");
    assert_eq!(moved_by(|| recall(&mount, "")), 1);
    assert_eq!(flags(), "SdA", "back on the primary");
}

/// A file that is not copied on write had that taken from it by a move: the flag needs an empty file.
#[test]
fn no_copy_on_write_goes_along() {
    if only_plain("the stock program, through which the tiers are filled, passes no flags") {
        return;
    }
    let Some([lsattr, chattr]) = need::programs(["lsattr", "chattr"]) else { return };
    let Some((_tiers, setup)) = on(["btrfs", "btrfs"], 256) else { return };
    put(setup.tier(0).join("f"), "");
    run(Command::new(chattr).arg("+C").arg(setup.tier(0).join("f")));
    put(setup.tier(0).join("f"), "flags");
    let Some(mount) = setup.mount() else { return };
    let has =
        || run(Command::new(&lsattr).arg(mount.path("f"))).split(' ').next().is_some_and(|word| word.contains('C'));
    assert!(has());
    assert_eq!(moved_by(|| migrate(&mount, &[])), 1);
    assert!(has(), "on the secondary");
    assert_eq!(moved_by(|| recall(&mount, "")), 1);
    assert!(has(), "back on the primary");
}

/// A file that changes after a move shows its own new time of change, and keeps its number.
#[test]
fn a_moved_file_that_changes_shows_it() {
    let setup = Setup::new().seed(|tiers| put(tiers[0].join("f"), "old"));
    let Some(mount) = setup.mount() else { return };
    let (number, before) = (ino(mount.path("f")), stat(mount.path("f")));
    assert_eq!(migrate(&mount, &[]).ends(0).count("moved"), 1);
    let moved = stat(mount.path("f"));
    assert_eq!((moved.ctime(), moved.ctime_nsec()), (before.ctime(), before.ctime_nsec()));
    put(mount.path("f"), "newer");
    let changed = stat(mount.path("f"));
    assert!((changed.ctime(), changed.ctime_nsec()) > (before.ctime(), before.ctime_nsec()));
    assert_eq!(moved_by(|| recall(&mount, "")), 1);
    let back = stat(mount.path("f"));
    assert_eq!((back.ctime(), back.ctime_nsec(), back.ino()), (changed.ctime(), changed.ctime_nsec(), number));
    assert_eq!(get(mount.path("f")), "newer");
}

/// A second file that gets the inode which a moved one has left does not get its number.
#[test]
fn a_number_is_not_given_twice() {
    let Some((_tiers, setup)) = on(["ext4", "ext4"], 128) else { return };
    let Some(mount) = setup.mount() else { return };
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..5 {
        for at in 0..20 {
            let path = mount.path(format!("r{round}-{at}"));
            put(&path, "x");
            assert!(seen.insert(ino(&path)), "round {round}: a number is there twice");
        }
        moved_by(|| migrate(&mount, &[]));
    }
    let root = mount.root();
    let tree = tierfs(&mount, [OsStr::new("where"), root.as_os_str()]);
    assert_eq!(tree.code, Some(0), "{tree:?}");
    assert_eq!(files(&mount.roots()[1]).len(), 100);
}
