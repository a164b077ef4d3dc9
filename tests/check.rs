//! `tierfs check` on real mounts and without one: every kind of finding planted and told, what is safe
//! mended, and nothing else touched.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, UNIX_EPOCH};

use common::fs::{exists, get, put, set_times, set_xattr, stat, xattr};
use common::mount::{Setup, TestMount, program, spec};
use common::{need, wait};
use serde_json::Value;

const OLD: i64 = 1_400_000_000;

/// Runs a command on the union and returns what it prints and how it exits.
fn tierfs(words: &[&OsStr]) -> (Output, String) {
    let output = Command::new(program()).args(words).env_remove("TIERFS_LOG").output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, text)
}

/// The findings as kind and path, and the whole output.
fn check(union: &OsStr, more: &[&str]) -> (Vec<(String, String)>, Vec<Value>, i32) {
    let mut words = vec![OsStr::new("check"), OsStr::new("--json"), union];
    words.extend(more.iter().map(OsStr::new));
    let (output, text) = tierfs(&words);
    let lines: Vec<Value> =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let found = lines.iter().filter(|line| line["event"] == "finding");
    let mut found: Vec<(String, String)> = found
        .map(|line| (line["kind"].as_str().unwrap().to_owned(), line["path"].as_str().unwrap().to_owned()))
        .collect();
    found.sort();
    assert!(lines.iter().any(|line| line["event"] == "summary"), "{text}");
    (found, lines, output.status.code().unwrap())
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(kind, path)| ((*kind).to_owned(), (*path).to_owned())).collect()
}

/// All that can be seen of a tree, access times included; `.tierfs` with it.
fn picture(roots: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    fn add(path: &Path, all: &mut BTreeMap<PathBuf, String>) {
        let found = stat(path);
        let times = (found.atime(), found.atime_nsec(), found.mtime(), found.mtime_nsec(), found.ctime_nsec());
        let who = (found.mode(), found.uid(), found.gid(), found.ino(), found.nlink(), found.size());
        all.insert(path.to_path_buf(), format!("{times:?} {who:?}"));
        if found.is_dir() {
            std::fs::read_dir(path).unwrap().for_each(|entry| add(&entry.unwrap().path(), all));
        }
    }
    let mut all = BTreeMap::new();
    roots.iter().for_each(|root| add(root, &mut all));
    // Listing a directory sets its access time unless that is younger than the last change, by a coarse clock: once
    // that has gone on, the second picture, and all after it, leave no trace.
    let last = all.keys().map(stat).map(|found| (found.ctime(), found.ctime_nsec())).max().unwrap();
    let last = Duration::new(last.0.unsigned_abs(), u32::try_from(last.1).unwrap());
    common::wait::until("the last change is not of this moment", || {
        (UNIX_EPOCH.elapsed().unwrap() > last + Duration::from_millis(100)).then_some(())
    });
    for _ in 0..2 {
        all.clear();
        roots.iter().for_each(|root| add(root, &mut all));
    }
    all
}

fn contents(roots: &[PathBuf]) -> BTreeMap<PathBuf, Vec<u8>> {
    fn add(path: &Path, all: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            match stat(&path) {
                found if found.is_dir() => add(&path, all),
                found if found.is_file() => drop(all.insert(path.clone(), std::fs::read(&path).unwrap())),
                _ => {}
            }
        }
    }
    let mut all = BTreeMap::new();
    roots.iter().for_each(|root| add(root, &mut all));
    all
}

/// The same file on both tiers.
fn twice(roots: &[PathBuf], path: &str, bytes: &str) {
    for root in &roots[..2] {
        put(root.join(path), bytes);
        set_times(root.join(path), OLD, OLD);
    }
}

/// Everything that can be planted beside a mount.
fn plant(roots: &[PathBuf]) {
    let (fast, slow) = (&roots[0], &roots[1]);
    twice(roots, "docs/equal", "the same");
    twice(roots, "docs/mode", "the same");
    std::fs::set_permissions(slow.join("docs/mode"), std::fs::Permissions::from_mode(0o600)).unwrap();
    put(fast.join("docs/newer"), "old");
    set_times(fast.join("docs/newer"), OLD, OLD);
    put(slow.join("docs/newer"), "new");
    put(fast.join("kind"), "a file");
    put(slow.join("kind/below"), "hidden");
    put(fast.join("docs/Foo"), "1");
    put(slow.join("docs/FOO"), "2");
    put(slow.join("docs/both"), "");
    put(slow.join("docs/BOTH"), "");
    std::fs::create_dir(slow.join("rights")).unwrap();
    std::fs::create_dir(fast.join("rights")).unwrap();
    std::fs::set_permissions(slow.join("rights"), std::fs::Permissions::from_mode(0o700)).unwrap();
    set_xattr(fast.join("rights"), "user.label", b"x");
    set_xattr(slow.join("rights"), "user.other", b"y");
    std::os::unix::fs::chown(slow.join("rights"), Some(1234), Some(4321)).unwrap();
    put(slow.join("pinned"), "p");
    set_xattr(slow.join("pinned"), "user.tierfs.pin", b"tier5");
    put(slow.join("stamped"), "s");
    set_xattr(slow.join("stamped"), "trusted.tierfs.stamp", b"another's");
    std::os::unix::fs::symlink("nowhere", fast.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", slow.join("link")).unwrap();
}

/// What [`plant`] plants.
const PLANTED: &[(&str, &str)] = &[
    ("attributes", "rights"),
    ("case", "docs"),
    ("pin", "pinned"),
    ("shadowed", "docs/equal"),
    ("shadowed", "docs/mode"),
    ("shadowed", "docs/newer"),
    ("shadowed", "link"),
    ("stamp", "stamped"),
    ("types", "kind"),
];

fn planted() -> Option<TestMount> {
    if !need::root() {
        return None;
    }
    let mount = Setup::new().mount()?;
    plant(mount.roots());
    Some(mount)
}

#[test]
fn every_conflict_is_told_and_nothing_is_touched() {
    let Some(mount) = planted() else { return };
    let bytes = contents(mount.roots());
    let before = picture(mount.roots());
    let (found, lines, code) = check(mount.root().as_os_str(), &[]);
    assert_eq!((found, code), (pairs(PLANTED), 3));
    let text = |path: &str| {
        let line = lines.iter().find(|line| line["path"] == path).unwrap();
        (line["text"].as_str().unwrap().to_owned(), line["repairable"].as_bool().unwrap())
    };
    assert!(text("docs/newer").0.contains("OTHER CONTENTS on secondary, the hidden one is NEWER"));
    assert!(text("docs/mode").0.contains("the same contents on secondary, different mode"));
    assert!(text("docs").0.ends_with(": FOO (secondary), Foo (primary)"));
    // What `--repair` would replace is told before.
    let rights =
        r#"in mode, owner, user.label, user.other; it has mode 0700, owner 1234:4321, no user.label, user.other="y""#;
    assert!(text("rights").0.ends_with(rights), "{}", text("rights").0);
    let repairable: Vec<&str> =
        lines.iter().filter(|line| line["repairable"] == true).map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(repairable, ["docs/equal", "rights"]);
    check(mount.root().as_os_str(), &["--read-data"]);
    let after = picture(mount.roots());
    for (path, was) in &before {
        assert_eq!(after.get(path), Some(was), "{path:?}");
    }
    assert_eq!((after.len(), contents(mount.roots())), (before.len(), bytes));
}

#[test]
fn the_check_of_a_path_tells_what_is_below_it() {
    let Some(mount) = planted() else { return };
    let (found, _, code) = check(mount.root().as_os_str(), &["docs/newer", "rights"]);
    assert_eq!((found, code), (pairs(&[("attributes", "rights"), ("shadowed", "docs/newer")]), 3));
    let (found, ..) = check(mount.path("docs").as_os_str(), &[]);
    assert_eq!(found, pairs(&PLANTED.iter().copied().filter(|(_, path)| path.starts_with("docs")).collect::<Vec<_>>()));
}

/// Mends, and compares what is there afterwards with what must be.
fn mends(union: &OsStr, roots: &[PathBuf]) {
    let mut bytes = contents(roots);
    let (_, lines, code) = check(union, &["--repair"]);
    assert_eq!(code, 3, "what differs is left");
    let mended: Vec<&Value> = lines.iter().filter(|line| line["event"] == "repair").collect();
    assert!(mended.len() == 2 && mended.iter().all(|line| line["mended"] == true), "{mended:?}");
    bytes.remove(&roots[1].join("docs/equal")).unwrap();
    let kept = contents(roots);
    for (path, was) in bytes.iter().filter(|(path, _)| !path.ends_with("marker")) {
        assert_eq!(kept.get(path), Some(was), "{path:?}");
    }
    assert!(!exists(roots[1].join("docs/equal")));
    let rights = stat(roots[1].join("rights"));
    assert_eq!((rights.mode() & 0o7777, rights.uid(), rights.gid()), (0o755, 0, 0));
    assert_eq!(xattr(roots[1].join("rights"), "user.label").as_deref(), Ok(&b"x"[..]));
    assert!(xattr(roots[1].join("rights"), "user.other").is_err());
    let left: Vec<_> = PLANTED.iter().copied().filter(|(_, path)| !["docs/equal", "rights"].contains(path)).collect();
    let (found, lines, code) = check(union, &["--repair"]);
    assert_eq!((found, code), (pairs(&left), 3));
    assert!(!lines.iter().any(|line| line["event"] == "repair"), "a second repair has nothing to do");
}

#[test]
fn a_repair_through_the_mount_mends_what_is_safe() {
    let Some(mount) = planted() else { return };
    let parent = stat(mount.tier(1, "docs")).mtime_nsec();
    mends(mount.root().as_os_str(), mount.roots());
    assert_eq!(get(mount.path("docs/equal")), "the same");
    assert_eq!(stat(mount.tier(1, "docs")).mtime_nsec(), parent);
    assert_eq!(std::fs::read_dir(mount.tier(1, ".tierfs/trash")).unwrap().count(), 0);
    mount.unmount();
}

#[test]
fn a_repair_without_a_mount_mends_the_same() {
    let Some(mount) = planted() else { return };
    let setup = mount.unmount();
    let roots = [setup.tier(0).to_path_buf(), setup.tier(1).to_path_buf()];
    mends(&spec(&roots), &roots);
}

#[test]
fn what_a_program_has_open_stays() {
    let Some(mount) = planted() else { return };
    let union = mount.root();
    let outcome = || {
        let (_, lines, _) = check(union.as_os_str(), &["--repair", "docs/equal"]);
        let repair = lines.into_iter().find(|line| line["event"] == "repair").unwrap();
        repair["mended"].as_bool().unwrap()
    };
    let hidden = std::fs::File::open(mount.tier(1, "docs/equal")).unwrap();
    assert!(!outcome(), "the hidden copy is read beside the mount");
    drop(hidden);
    let visible = std::fs::File::options().write(true).open(mount.path("docs/equal")).unwrap();
    assert!(!outcome(), "the visible copy is open for writing");
    drop(visible);
    common::wait::until("the mount lets go of the file", || outcome().then_some(()));
    assert!(!exists(mount.tier(1, "docs/equal")) && exists(mount.tier(0, "docs/equal")));
}

#[test]
fn a_copy_with_other_names_or_under_a_record_stays() {
    let Some(mount) = planted() else { return };
    std::fs::hard_link(mount.tier(1, "docs/equal"), mount.tier(1, "docs/second")).unwrap();
    let (_, lines, _) = check(mount.root().as_os_str(), &["docs/equal"]);
    assert_eq!(lines[0]["repairable"], false, "{lines:?}");
    std::fs::remove_file(mount.tier(1, "docs/second")).unwrap();
    // A record of whatever moves: the equal copy may be there on purpose.
    put(mount.tier(0, ".tierfs/moves/1-1-1"), "tierfs-move 1\nmove 0 1\nend\n");
    let (_, lines, code) = check(mount.root().as_os_str(), &["--repair", "docs/equal"]);
    assert!(lines.iter().any(|line| line["event"] == "repair" && line["mended"] == false), "{lines:?}");
    assert_eq!(code, 3);
    assert!(exists(mount.tier(1, "docs/equal")));
}

#[test]
fn what_is_moving_now_is_not_told() {
    let Some(mount) = planted() else { return };
    // As between the third and the fourth step of a move of `docs/equal`.
    let record = format!(
        "tierfs-move 1\nmove 0 1\nfile 1-1-1 0000000000000001 0000000000000002 8 100644 0 0 1 1 b3:{}\n\
         name 646f6373/657175616c\nend\n",
        "5a".repeat(32)
    );
    put(mount.tier(0, ".tierfs/moves/1-1-1"), record);
    let (found, ..) = check(mount.root().as_os_str(), &["docs"]);
    assert!(!found.iter().any(|(_, path)| path == "docs/equal"), "{found:?}");
    assert!(found.iter().any(|(kind, _)| kind == "leftover"), "{found:?}");
    std::fs::remove_file(mount.tier(0, ".tierfs/moves/1-1-1")).unwrap();
}

#[test]
fn leftovers_are_told_and_only_worthless_ones_cleared() {
    if !need::root() {
        return;
    }
    let Some(mount) = Setup::new().mount() else { return };
    put(mount.tier(1, ".tierfs/staging/1-1-1"), "half");
    put(mount.tier(0, ".tierfs/trash/1-1-1.0"), "moved");
    put(mount.tier(0, ".tierfs/renames/draft-1-1-1"), "");
    put(mount.tier(1, ".tierfs/lost/1-1-1.0"), "without a name");
    put(mount.tier(0, ".tierfs/runs/20200101T000000-0000.jsonl"), "not JSON\n");
    let union = mount.root();
    let expected = [("leftover", ""), ("leftover", ""), ("leftover", ""), ("lost", ""), ("manifest", "")];
    let (found, lines, code) = check(union.as_os_str(), &["--repair"]);
    assert_eq!((found, code), (pairs(&expected), 3), "{lines:?}");
    assert!(!exists(mount.tier(1, ".tierfs/staging/1-1-1")) && !exists(mount.tier(0, ".tierfs/trash/1-1-1.0")));
    assert_eq!(get(mount.tier(1, ".tierfs/lost/1-1-1.0")), "without a name");
    let (found, ..) = check(union.as_os_str(), &["--repair"]);
    assert_eq!(found, pairs(&expected[2..]));
}

#[test]
fn damaged_contents_are_found_by_the_manifest() {
    if !need::root() {
        return;
    }
    let Some(mount) = Setup::new().mount() else { return };
    for name in ["good", "rotten", "changed"] {
        put(mount.tier(0, format!("a/{name}")), "0123456789".repeat(1000));
        set_times(mount.tier(0, format!("a/{name}")), OLD, OLD);
    }
    wait::let_go(mount.roots());
    let (output, text) = tierfs(
        &["migrate", "--older-than", "1y"]
            .map(OsStr::new)
            .into_iter()
            .chain([mount.root().as_os_str()])
            .collect::<Vec<_>>(),
    );
    assert!(output.status.success() && exists(mount.tier(1, "a/rotten")), "{text}");
    assert_eq!(check(mount.root().as_os_str(), &["--read-data"]).0, []);
    let rotten = mount.tier(1, "a/rotten");
    let mut bytes = std::fs::read(&rotten).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&rotten, bytes).unwrap();
    set_times(&rotten, OLD, OLD);
    put(mount.path("a/changed"), "by a program");
    assert_eq!(check(mount.root().as_os_str(), &[]).0, [], "without reading the data");
    let (found, lines, code) = check(mount.root().as_os_str(), &["--read-data"]);
    assert_eq!((found, code), (pairs(&[("rotten", "a/rotten")]), 3), "{lines:?}");
    assert!(lines[0]["text"].as_str().unwrap().starts_with("DAMAGED on secondary"), "{lines:?}");
}

#[test]
fn objects_that_share_a_number_are_told() {
    if !need::root() {
        return;
    }
    let Some(mount) = Setup::new().mount() else { return };
    for name in ["one", "two"] {
        put(mount.tier(0, name), name);
        set_times(mount.tier(0, name), OLD, OLD);
    }
    wait::let_go(mount.roots());
    let migrate = ["migrate", "--older-than", "1y"].map(OsStr::new);
    tierfs(&migrate.into_iter().chain([mount.root().as_os_str()]).collect::<Vec<_>>());
    assert_eq!(check(mount.root().as_os_str(), &[]).0, []);
    // Body and generation of the one, number of the other: bytes 1 to 12, and those from there on.
    let key = "trusted.tierfs.stamp";
    let (one, two) = (xattr(mount.tier(1, "one"), key).unwrap(), xattr(mount.tier(1, "two"), key).unwrap());
    set_xattr(mount.tier(1, "two"), key, &[&two[..13], &one[13..]].concat());
    assert_eq!(check(mount.root().as_os_str(), &[]).0, pairs(&[("number", "two")]));
    // A marker that knows of no stamps.
    set_xattr(mount.tier(1, "two"), key, &two);
    let marker = mount.tier(1, ".tierfs/marker");
    let text = get(&marker);
    put(&marker, text.replace("stamps: true", "stamps: false"));
    let found = check(mount.root().as_os_str(), &[]).0;
    put(&marker, text);
    assert_eq!(found, pairs(&[("stamp", "one"), ("stamp", "two")]));
}

#[test]
fn markers_that_do_not_fit_are_told() {
    if !need::root() {
        return;
    }
    let Some(mount) = Setup::new().mount() else { return };
    let setup = mount.unmount();
    let roots = [setup.tier(0).to_path_buf(), setup.tier(1).to_path_buf()];
    let (found, _, code) = check(&spec(&roots), &[]);
    assert_eq!((found, code), (Vec::new(), 0));
    let (quiet, text) = tierfs(&["check".as_ref(), "-q".as_ref(), &spec(&roots)]);
    assert!(quiet.status.success() && text.is_empty(), "{text}");
    let swapped = [roots[1].clone(), roots[0].clone()];
    let (found, lines, code) = check(&spec(&swapped), &[]);
    assert_eq!((found, code), (pairs(&[("marker", "")]), 3));
    assert!(lines[0]["text"].as_str().unwrap().contains("in their order"), "{lines:?}");
    std::fs::remove_file(roots[1].join(".tierfs/marker")).unwrap();
    let (found, lines, _) = check(&spec(&roots), &[]);
    assert_eq!(found, pairs(&[("marker", "")]), "{lines:?}");
}

#[test]
fn a_mount_in_use_is_checked_without_false_alarm() {
    if !need::root() {
        return;
    }
    let Some(mount) = Setup::new().mount() else { return };
    for number in 0..400 {
        let path = mount.tier(0, format!("d{}/f{number}", number % 7));
        put(&path, format!("{number}"));
        set_times(&path, OLD, OLD);
    }
    let root = mount.root();
    let moving = std::thread::spawn({
        let root = root.clone();
        move || {
            for words in [&["migrate", "--older-than", "1y"][..], &["recall", "-r"], &["migrate", "--older-than", "1y"]]
            {
                let words: Vec<&OsStr> = words.iter().map(OsStr::new).chain([root.as_os_str()]).collect();
                let (output, text) = tierfs(&words);
                assert!(output.status.success(), "{text}");
            }
        }
    });
    let mut rounds = 0;
    while !moving.is_finished() || rounds < 2 {
        rounds += 1;
        // What a check reads is in use, and stays.
        let more: &[&str] = if rounds % 4 == 0 { &["--read-data"] } else { &[] };
        let (found, lines, code) = check(root.as_os_str(), more);
        assert_eq!((found, code), (Vec::new(), 0), "{lines:?}");
    }
    moving.join().unwrap();
    assert!(std::fs::read_dir(mount.tier(0, ".tierfs/runs")).unwrap().count() > 0, "nothing was moved");
}
