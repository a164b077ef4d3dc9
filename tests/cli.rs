//! What the command line promises without a mount: exit codes, one clear line for every mistake,
//! `config check`, and `init` on existing trees. Runs the binary, as root and not.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// How one call of the binary ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Asserts that it failed with `code` and one line that holds `says`.
    fn refused(&self, code: i32, says: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert!(self.err.starts_with("tierfs: "), "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "one line: {}", self.err);
        assert!(self.err.contains(says), "{says:?} is not in: {}", self.err);
        assert_eq!(self.out, "");
    }
}

fn tierfs(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tierfs"));
    Ran::of(&command.args(arguments).env_remove("TIERFS_LOG").output().unwrap())
}

/// Two tiers, a mount point and a place for files.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        for name in ["fast", "slow", "mnt"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    fn spec(&self, names: &[&str]) -> String {
        names.iter().map(|name| self.at(name)).collect::<Vec<_>>().join(":")
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self.at(name)
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn help_and_version_are_no_failures() {
    for arguments in [&["--help"][..], &["mount", "--help"], &["init", "--help"], &["config", "check", "--help"]] {
        let ran = tierfs(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert!(ran.out.contains("Examples:") && ran.out.contains("Usage:"), "{}", ran.out);
        assert!(ran.out.lines().all(|line| line.chars().count() <= 100), "{}", ran.out);
    }
    assert!(tierfs(&["--version"]).out.starts_with("tierfs "));
    assert_eq!(tierfs(&[]).code, Some(2));
    for command in [&["help"][..], &["help", "mount"], &["help", "key", "init"]] {
        let asked: Vec<&str> = command[1..].iter().copied().chain(["--help"]).collect();
        assert_eq!(tierfs(command).out, tierfs(&asked).out);
    }
    assert!(tierfs(&["recall", "--help"]).out.contains("pin it to keep it"), "the whole description");
}

#[test]
fn a_wrong_command_line_is_one_line_and_code_2() {
    for (arguments, says) in [
        (&["mont"][..], "unrecognized subcommand 'mont'; some similar subcommands exist"),
        (&["mount"], "the tiers and the mount point are missing"),
        (&["mount", "/a:/b"], "the mount point is missing"),
        (&["mount", "--lasy", "/a:/b", "/m"], "(see tierfs mount --help)"),
        (&["mount", "/a:", "/m"], "has an empty path"),
        (&["mount", "/a:/a", "/m"], "named twice"),
        (&["mount", "/1:/2:/3:/4:/5:/6:/7:/8:/9", "/m"], "9 tiers are too many"),
        (&["mount", "-o", "alow_other", "/a:/b", "/m"], "did you mean `allow_other`?"),
        (&["mount", "-o", "ttl=5m", "/a:/b", "/m"], "5min or 5mo"),
        (&["mount", "-o", "min_free=4GB", "/a:/b", "/m"], "4GiB"),
        (&["mount", "-o", "threads=0", "/a:/b", "/m"], "threads must be from 1"),
        (&["mount", "-o", "nodefault_permissions", "/a:/b", "/m"], "cannot be turned off"),
        (&["mount", "/a", "/m"], "/a is one tier only: write all of them with a colon between"),
        (&["mount", "/a", "/b", "/m"], "PRIMARY:SECONDARY (see tierfs mount --help)"),
        (&["init", "/a", "/b"], "PRIMARY:SECONDARY (see tierfs init --help)"),
        (&["mount", "/nosuch,b", "/m"], "separated by colons: write /nosuch:b"),
        (&["mount", "/m", "/a:/b"], "the tiers come first, then the mount point: write tierfs mount /a:/b /m"),
        (&["mount", "/a:/b", ""], "the mount point is empty"),
        (&["mount", "-o", "min_free=10", "/a:/b", "/m"], "write 10% or 10GiB"),
        (&["mount", "-c", "/a:/b", "/m"], "unexpected argument '-c' found (see tierfs mount --help)"),
        (&["migrate", "--bwlimit", "40", "/a:/b"], "write 40MiB"),
        (&["migrate", "--older-than", "365", "/a:/b"], "365d for days"),
        (&["config", "check"], "(see tierfs config check --help)"),
        (&["umount"], "(see tierfs umount --help)"),
        (&["where"], "(see tierfs where --help)"),
        (&["init"], "(see tierfs init --help)"),
    ] {
        tierfs(arguments).refused(2, says);
    }
}

#[test]
fn a_wrong_log_filter_is_told() {
    let place = Place::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tierfs"));
    command.args(["mount", &place.spec(&["fast", "slow"]), &place.at("mnt")]);
    let ran = Ran::of(&command.env("TIERFS_LOG", "x=y=z").output().unwrap());
    ran.refused(2, "TIERFS_LOG=x=y=z");
}

#[test]
fn a_file_of_another_kind_is_called_what_it_is() {
    let place = Place::new();
    for (name, text, says) in [
        ("policy.yaml", "version: 1\nrules: [{older_than: 1y, action: demote}]\n", "is a policy, no configuration"),
        ("view.yaml", "version: 1\nsources: [{path: /a}]\n", "is the configuration of a view"),
        ("empty.yaml", "\n", "is empty: `tierfs init` writes a configuration"),
        ("tab.yaml", "version: 1\nprimary:\n\tpath: /a\n", "tab.yaml:3:1: a tab: YAML is indented with blanks"),
    ] {
        let file = place.write(name, text);
        tierfs(&["mount", "--config", &file]).refused(78, says);
    }
    let marked = place.write("marked.yaml", "\u{feff}version: 1\nmountpoint: /m\ntiers: [{path: /a}, {path: /b}]\n");
    assert_eq!(tierfs(&["config", "check", &marked]).code, Some(0), "editors of Windows write a mark first");
}

#[test]
fn the_configuration_of_a_view_is_checked_as_one_though_policies_have_rules_too() {
    let place = Place::new();
    let right = "version: 1\nsources: [{path: /a}]\nrules: [{exclude: '*.tmp'}]\n";
    let file = place.write("view.yaml", right);
    let ran = tierfs(&["config", "check", &file]);
    assert!(ran.code == Some(0) && ran.out.contains("a view of 1 directory"), "{}{}", ran.out, ran.err);
    let file = place.write("view.yaml", right.replace("exclude", "exclud"));
    tierfs(&["config", "check", &file]).refused(78, ":3:");
}

#[test]
fn a_wrong_configuration_is_told_with_file_line_and_column() {
    let place = Place::new();
    for (text, says) in [
        ("version: 1\nmount:\n  alow_other: true\n", ":3:3: mount: unknown field `alow_other`"),
        ("version: 1\nmount:\n  alow_other: true\n", "did you mean `allow_other`?"),
        ("version: 1\nprimary: {path: /a}\nmount:\n  ttl: 5m\n", ":4:8: mount.ttl: `5m`"),
        ("version: 3\n", ": version 3 is not known"),
        ("just text", ":1:1: "),
        ("version: 1\nmountpoint: /m\n", ": there are no tiers"),
        ("version: 1\nprimary: {path: /a}\n", ": there is no mount point"),
        ("version: 1\nmountpoint: m\nprimary: {path: /a}\n", "absolute path"),
        ("version: 1\nmountpoint: /m\nprimary: {path: /a}\nsecondary: {path: /a/}\n", "named twice"),
    ] {
        let file = place.write("bad.yaml", text);
        for arguments in [&["config", "check", &file][..], &["mount", "--config", &file]] {
            let ran = tierfs(arguments);
            ran.refused(78, says);
            assert!(ran.err.starts_with(&format!("tierfs: {file}:")), "{}", ran.err);
        }
    }
    tierfs(&["config", "check", &place.at("absent.yaml")]).refused(78, "cannot be read");
    tierfs(&["config", "check", &place.at("fast")]).refused(78, "is not a regular file");
    let file = place.write("bad.yaml", b"version: 1 # \xff");
    tierfs(&["config", "check", &file]).refused(78, "is not UTF-8");
    let file = place.write("bad.yaml", vec![b'#'; (1 << 20) + 1]);
    tierfs(&["config", "check", &file]).refused(78, "is over 1 MiB");
}

#[test]
fn the_effective_configuration_can_be_checked_again() {
    let place = Place::new();
    let text = "version: 1\nname: docs\nmountpoint: /m\nprimary: {path: /a, min_free: 10%}\n";
    let first = tierfs(&["config", "check", &place.write("a.yaml", text)]);
    assert_eq!(first.code, Some(0), "{}", first.err);
    for line in ["fsname: docs", "min_free: 10%", "out_of_band: watch", "ttl: 1s"] {
        assert!(first.out.contains(line), "{}", first.out);
    }
    let second = tierfs(&["config", "check", &place.write("b.yaml", &first.out)]);
    assert_eq!(second.out, first.out);
    assert_eq!(tierfs(&["config", "check", "-q", &place.at("b.yaml")]).out, "");
}

/// What was broken into lines already was broken again, one word a line.
#[test]
fn help_is_broken_into_lines_once() {
    for (columns, full) in [("80", 60), ("100", 80)] {
        for command in ["check", "migrate", "report"] {
            let mut help = Command::new(env!("CARGO_BIN_EXE_tierfs"));
            let ran = Ran::of(&help.args([command, "--help"]).env("COLUMNS", columns).output().unwrap());
            let (text, _) = ran.out.split_once("Examples:").unwrap();
            let (_, prose) = text.rsplit_once("Print help\n").unwrap();
            for pair in prose.lines().collect::<Vec<_>>().windows(2).filter(|pair| pair.iter().all(|l| !l.is_empty())) {
                assert!(pair[0].len() > full, "{command} at {columns}: {pair:?}");
            }
        }
    }
}

/// A policy was told to be a configuration with fields that are not known.
#[test]
fn a_policy_can_be_checked_alone() {
    let place = Place::new();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/policies")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let ran = tierfs(&["config", "check", path.to_str().unwrap()]);
            assert_eq!(ran.code, Some(0), "{}: {}", path.display(), ran.err);
            assert!(ran.out.contains(": a policy of "), "{}", ran.out);
        }
    }
    let rule = "{older_than: 1y, action: demote}";
    let one = place.write("one.yaml", format!("version: 1\nrules: [{rule}]\n"));
    assert_eq!(tierfs(&["config", "check", &one]).out, format!("{one}: a policy of 1 rule and 0 watermarks\n"));
    assert_eq!(tierfs(&["config", "check", "-q", &one]).out, "");
    let wrong = place.write("wrong.yaml", "version: 1\nrules:\n  - {older_then: 1y, action: demote}\n");
    tierfs(&["config", "check", &wrong]).refused(78, "wrong.yaml:3:");
    tierfs(&["config", "check", &wrong]).refused(78, "older_than");
}

#[test]
fn spec_and_file_must_name_the_same_tiers() {
    let place = Place::new();
    let text = format!("version: 1\nprimary: {{path: {}}}\n", place.at("fast"));
    let option = format!("config={}", place.write("c.yaml", text));
    tierfs(&["mount", "-o", &option, &place.at("slow"), &place.at("mnt")]).refused(2, "different tiers");
}

#[test]
fn what_cannot_be_mounted_is_told() {
    let place = Place::new();
    let spec = place.spec(&["fast", "slow"]);
    fs::create_dir_all(place.path("fast/sub")).unwrap();
    std::os::unix::fs::symlink("fast/sub", place.path("link")).unwrap();
    let file = place.write("file", "");
    for (spec, mountpoint, code, says) in [
        (spec.clone(), place.at("fast/sub"), 78, "lies inside the tier"),
        (spec.clone(), place.at("link"), 78, "lies inside the tier"),
        (place.spec(&["fast", "link"]), place.at("mnt"), 78, "lies inside the tier"),
        (spec.clone(), place.at("slow"), 78, "same directory"),
        (place.spec(&["fast", "gone"]), place.at("mnt"), 78, "cannot be opened"),
        (place.spec(&["fast", "file"]), place.at("mnt"), 78, "Not a directory"),
        (spec.clone(), place.at("absent"), 1, "mkdir -p"),
        (spec, file, 1, "is not a directory"),
    ] {
        tierfs(&["mount", &spec, &mountpoint]).refused(code, says);
    }
}

#[test]
fn what_is_not_mounted_is_told() {
    let place = Place::new();
    tierfs(&["umount", &place.at("mnt")]).refused(1, "no tierfs is mounted on");
    tierfs(&["umount", "--lazy", &place.at("absent")]).refused(1, "no tierfs is mounted on");
    tierfs(&["umount", "/proc"]).refused(1, "no tierfs is mounted on");
    let file = place.write("fast/file", "");
    tierfs(&["where", &file]).refused(1, "is not in a mounted tierfs");
    tierfs(&["where", &place.at("absent")]).refused(1, "No such file or directory");
}

/// They used to be dropped without a word, and more moved than was wanted.
#[test]
fn what_belongs_to_older_than_is_not_dropped_beside_a_policy() {
    let place = Place::new();
    let policy = place.write("policy.yaml", "version: 1\nrules: [{name: all, older_than: 1d, action: demote}]\n");
    let spec = place.spec(&["fast", "slow"]);
    for (option, value) in [("--exclude", "*.pdf"), ("--min-size", "1M"), ("--to", "secondary"), ("--age-by", "mtime")]
    {
        let says = format!("{option} belongs to --older-than");
        tierfs(&["migrate", "--policy", &policy, option, value, &spec]).refused(2, &says);
        tierfs(&["migrate", option, value, &spec]).refused(2, &says);
    }
}

#[test]
fn init_reports_what_would_be_hidden_and_marks_the_tiers() {
    let place = Place::new();
    for file in ["fast/both", "fast/kind", "slow/kind/below", "fast/dir/Name", "slow/dir/name"] {
        place.write(file, "");
    }
    place.write("slow/both", "other");
    let spec = place.spec(&["fast", "slow"]);
    let dry = tierfs(&["init", "--dry-run", &spec]);
    assert_eq!((dry.code, dry.out.as_str()), (Some(0), ""));
    for line in [
        "both: the copy on primary hides that on secondary (",
        "kind: a file on primary hides a directory on secondary",
        "dir: names that differ only in case, one to Windows programs: Name (primary), name (secondary)",
        "3 conflicts.",
    ] {
        assert!(dry.err.contains(line), "{line}: {}", dry.err);
    }
    assert_eq!(names(&place.path("fast")), ["both", "dir", "kind"]);

    let real = tierfs(&["init", "--mountpoint", &place.at("mnt"), &spec]);
    assert_eq!(real.code, Some(0), "{}", real.err);
    let config = place.write("docs.yaml", &real.out);
    let checked = tierfs(&["config", "check", &config]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    for tier in ["fast", "slow"] {
        let marker = fs::read_to_string(place.path(tier).join(".tierfs/marker")).unwrap();
        let id = marker.lines().find_map(|line| line.strip_prefix("tier: ")).unwrap();
        assert!(checked.out.contains(id), "{}", checked.out);
    }
    // Once more, from the file it wrote: nothing changes.
    let before = fs::read(place.path("fast/.tierfs/marker")).unwrap();
    assert_eq!(tierfs(&["init", "--config", &config]).code, Some(0));
    assert_eq!(fs::read(place.path("fast/.tierfs/marker")).unwrap(), before);
}

#[test]
fn init_refuses_what_belongs_elsewhere() {
    let place = Place::new();
    for name in ["other", "cold"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    let spec = place.spec(&["fast", "slow"]);
    assert_eq!(tierfs(&["init", &spec]).code, Some(0));
    assert_eq!(tierfs(&["init", &place.at("other")]).code, Some(0));
    for (names, says) in [
        (&["slow", "fast"][..], "is the secondary tier of its union"),
        (&["fast", "other"], "another union"),
        (&["fast", "slow", "other"], "a union of 2 tiers"),
        (&["fast", "cold"], "is its disk mounted?"),
        (&["fast"], "a union of 2 tiers"),
        (&["fast", "gone"], "mkdir -p"),
        (&["fast", "fast/.tierfs"], "lies inside the tier"),
    ] {
        tierfs(&["init", &place.spec(names)]).refused(1, says);
    }
    let taken = place.write("taken.yaml", "");
    tierfs(&["init", "--write-config", &taken, &spec]).refused(1, "is there already");
}

#[test]
fn a_tier_can_be_added_but_none_can_vanish() {
    let place = Place::new();
    fs::create_dir(place.path("cold")).unwrap();
    assert_eq!(tierfs(&["init", &place.spec(&["fast", "slow"])]).code, Some(0));
    let three = place.spec(&["fast", "slow", "cold"]);
    let grown = tierfs(&["init", "--write-config", &place.at("three.yaml"), &three]);
    let mode = std::fs::metadata(place.at("three.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "nobody else may say what root mounts");
    assert_eq!((grown.code, grown.out.as_str()), (Some(0), ""), "{}", grown.err);
    let marker = fs::read_to_string(place.path("fast/.tierfs/marker")).unwrap();
    assert!(marker.contains("tiers: 3"), "{marker}");
    // As if the disk were not mounted.
    fs::rename(place.path("slow"), place.path("elsewhere")).unwrap();
    fs::create_dir(place.path("slow")).unwrap();
    tierfs(&["init", &three]).refused(1, "is its disk mounted?");
    tierfs(&["mount", &three, &place.at("mnt")]).refused(78, "is its disk mounted?");
    assert_eq!(names(&place.path("slow")), [""; 0]);
}

#[test]
fn an_ordinary_user_gets_the_same_answers() {
    let place = Place::new();
    let binary = place.path("tierfs");
    // Not by this process: another test's child would have the file open for writing for a moment (ETXTBSY).
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_tierfs")).arg(&binary).status().unwrap().success());
    for path in [place.0.path(), &place.path("fast"), &place.path("slow"), &binary] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        if is_root {
            // `nobody`, on every distribution.
            command.uid(65534).gid(65534);
        }
        Ran::of(&command.args(arguments).env_remove("TIERFS_LOG").output().unwrap())
    };
    let spec = place.spec(&["fast", "slow"]);
    run(&["mount", "-o", "alow_other", &spec, "/m"]).refused(2, "did you mean");
    run(&["umount", &place.at("mnt")]).refused(1, "no tierfs is mounted on");
    let made = run(&["init", &spec]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    assert_eq!(run(&["init", &spec]).code, Some(0));
}
