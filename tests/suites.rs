//! Public suites on a mount of two tiers: pjdfstest for the meaning of system calls, fsx for data.
//!
//! `.ci/run` builds both into `target/tools`. pjdfstest runs on the native filesystem and on a
//! mount whose two tiers are filesystems of that kind; a test may fail on the mount only if it
//! fails natively too or is listed, with its reason, in the table of `docs/SEMANTICS.md`.

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::loopfs::LoopFs;
use common::mount::{Setup, TestMount};
use common::need;
use common::setting::Encrypted;
use common::user::User;
use common::volume::Flavour;

#[test]
fn pjdfstest_on_ext4() {
    pjdfstest("ext4");
}

#[test]
fn pjdfstest_on_xfs() {
    pjdfstest("xfs");
}

#[test]
fn pjdfstest_on_tmpfs() {
    pjdfstest("tmpfs");
}

/// Both tiers hold ciphertext.
#[test]
fn pjdfstest_on_encrypted_tiers() {
    if need::programs(["gocryptfs"]).is_some() {
        pjdfstest_of("ext4", |setup| setup.encrypted(Encrypted::all()));
    }
}

#[test]
fn fsx_with_passthrough() {
    fsx("passthrough", 160_000, [1, 2, 3, 4], |setup| setup);
}

#[test]
fn fsx_without_passthrough() {
    fsx("nopassthrough", 90_000, [5, 6, 7, 8], |setup| setup);
}

/// Ciphertext never passes the kernel by: passthrough is not used there, asked for or not.
#[test]
fn fsx_on_encrypted_tiers() {
    if need::programs(["gocryptfs"]).is_some() {
        fsx("passthrough", 40_000, [9, 10, 11, 12], |setup| setup.encrypted(Encrypted::all()));
        let xchacha = Flavour { name: "xchacha", flags: &["-xchacha"] };
        fsx("passthrough", 20_000, [13, 14, 15, 16], |setup| setup.encrypted(Encrypted::all().flavour(xchacha)));
    }
}

/// How one pjdfstest case ended, and what it said.
#[derive(Debug, PartialEq)]
enum Verdict {
    Passed,
    Failed(String),
    Skipped,
}

fn pjdfstest(kind: &'static str) {
    pjdfstest_of(kind, |setup| setup);
}

fn pjdfstest_of(kind: &'static str, dress: impl Fn(Setup) -> Setup) {
    let Some(users) = User::two() else { return };
    let Some([program]) = need::programs(["pjdfstest"]) else { return };
    let other = LoopFs::new("tmpfs", 64);
    let tiers = [LoopFs::new(kind, 512), LoopFs::new(kind, 512)];
    let (Some(other), [Some(fast), Some(slow)]) = (other, tiers) else { return };
    let suite = Pjdfstest { program: &program, users: &users, other: other.path() };
    let native = suite.run(fast.path());
    let roots = [fast.path().join("tier"), slow.path().join("tier")];
    // Set-id bits and device nodes are part of what the suite looks at.
    let setup = Setup::new().roots(&roots).option("suid").option("dev").hangs_after(LIMIT);
    let setup = dress(setup);
    let Some(mount) = setup.mount() else { return };
    let mounted = suite.run(&mount.root());
    mount.unmount();
    compare(kind, &native, &mounted);
}

fn compare(kind: &str, native: &BTreeMap<String, Verdict>, mounted: &BTreeMap<String, Verdict>) {
    let passed = |all: &BTreeMap<String, Verdict>| all.values().filter(|verdict| **verdict == Verdict::Passed).count();
    let (of_native, of_mount) = (passed(native), passed(mounted));
    eprintln!("pjdfstest, {kind}: {of_native} pass natively, {of_mount} on the mount");
    assert!(of_native > 350, "only {of_native} pass natively: the suite itself does not work");
    let listed = exceptions();
    let worse = native.iter().filter_map(|(name, verdict)| match mounted.get(name) {
        _ if *verdict != Verdict::Passed || listed.contains_key(name) => None,
        Some(Verdict::Passed) => None,
        Some(Verdict::Skipped) => Some(format!("{name}: skipped on the mount")),
        Some(Verdict::Failed(words)) => Some(format!("{name}: {words}")),
        None => Some(format!("{name}: did not run")),
    });
    let worse: Vec<String> = worse.collect();
    assert!(worse.is_empty(), "worse than {kind} itself:\n{}", worse.join("\n"));
}

/// The table in `docs/SEMANTICS.md` between the two marks: test name and reason.
fn exceptions() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SEMANTICS.md");
    parse_exceptions(&std::fs::read_to_string(path).expect("docs/SEMANTICS.md"))
}

fn parse_exceptions(text: &str) -> BTreeMap<String, String> {
    let (begin, end) = ("<!-- pjdfstest exceptions -->", "<!-- end of pjdfstest exceptions -->");
    let table = text.split(begin).nth(1).and_then(|rest| rest.split(end).next());
    let rows = table.expect("docs/SEMANTICS.md has the marked table").lines().filter_map(|line| {
        let (name, reason) = line.trim().strip_prefix('|')?.strip_suffix('|')?.split_once('|')?;
        let name = name.trim().strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), reason.trim().to_owned()))
    });
    rows.inspect(|(name, reason)| assert!(!reason.is_empty(), "{name} has no reason")).collect()
}

#[test]
fn the_table_of_exceptions_is_read() {
    let text = "# x\n<!-- pjdfstest exceptions -->\n| pjdfstest name | reason |\n| --- | --- |\n\
                | `open::x` | because |\n<!-- end of pjdfstest exceptions -->\n| `no` | no |\n";
    let listed = parse_exceptions(text);
    assert_eq!(listed, BTreeMap::from([("open::x".to_owned(), "because".to_owned())]));
}

struct Pjdfstest<'a> {
    program: &'a Path,
    users: &'a [User; 2],
    /// A second filesystem, for EXDEV.
    other: &'a Path,
}

impl Pjdfstest<'_> {
    /// Runs everything below `path`. The cases that remount read-only go alone and first: the
    /// suite leaks descriptors in others, which makes the remount busy on every filesystem.
    fn run(&self, path: &Path) -> BTreeMap<String, Verdict> {
        let mut verdicts = self.part(path, false);
        let read_only = self.part(path, true);
        verdicts.extend(read_only.into_iter().filter(|(name, _)| name.contains("::erofs")));
        verdicts
    }

    fn part(&self, path: &Path, remount: bool) -> BTreeMap<String, Verdict> {
        let home = tempfile::tempdir().expect("temporary directory");
        let config = home.path().join("pjdfstest.toml");
        std::fs::write(&config, self.config(remount)).expect("configuration file");
        let mut command = Command::new(self.program);
        command.arg("-c").arg(&config).arg("-s").arg(self.other).arg("-p").arg(path);
        if remount {
            command.arg("erofs");
        }
        let output =
            command.env("RUST_BACKTRACE", "0").env("PATH", plain_mount(home.path())).output().expect("pjdfstest runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Summary"), "{text}{}", String::from_utf8_lossy(&output.stderr));
        parse_verdicts(&text)
    }

    fn config(&self, remount: bool) -> String {
        let [first, second] = self.users;
        let pair = |user: &User| format!("[\"{0}\", \"{0}\"]", user.name);
        format!(
            "[features]\nposix_fallocate = {{}}\nrename_ctime = {{}}\nutime_now = {{}}\n\
             utimensat = {{}}\n[settings]\nnaptime = 0.02\nallow_remount = {remount}\n\
             [dummy_auth]\nentries = [{}, {}]\n",
            pair(first),
            pair(second),
        )
    }
}

/// A search path on which `mount` asks the kernel itself. The suite remounts with `mount -o
/// remount,ro`, and mount(8) would hand that to `/sbin/mount.fuse`, which can only mount anew. Until the RELEASE of what
/// was removed last is answered, such a remount is busy: then it is tried again.
fn plain_mount(home: &Path) -> OsString {
    let script = home.join("mount");
    common::fs::put_script(&script, TRY_MOUNT);
    let mut path = home.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

const TRY_MOUNT: &str = r#"#!/bin/sh
for i in $(seq 100); do
    words=$(/usr/bin/mount -i "$@" 2>&1) && exit
    sleep 0.1
done
echo "$words" >&2
exit 1
"#;

/// Lines are `name  ok`, `name  FAILED` or `name  skipped`, coloured; words follow, indented.
fn parse_verdicts(text: &str) -> BTreeMap<String, Verdict> {
    let mut verdicts = BTreeMap::new();
    let plain = without_colours(text);
    let mut lines = plain.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((name, word)) = line.split_once(char::is_whitespace) else { continue };
        let verdict = match word.trim() {
            _ if !name.contains("::") => continue,
            "ok" => Verdict::Passed,
            "skipped" => Verdict::Skipped,
            "FAILED" => Verdict::Failed(lines.peek().unwrap_or(&"").trim().to_owned()),
            _ => continue,
        };
        verdicts.insert(name.to_owned(), verdict);
    }
    verdicts
}

fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or(""));
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

/// How long a suite may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(1800);

/// Four runs; with and without passthrough they are a million operations.
fn fsx(option: &str, operations: u32, seeds: [u32; 4], dress: impl Fn(Setup) -> Setup) {
    if !need::root() {
        return;
    }
    let Some([program]) = need::programs(["fsx"]) else { return };
    let Some(memory) = LoopFs::new("tmpfs", 256) else { return };
    let roots = [memory.path().join("fast"), memory.path().join("slow")];
    // The odd seeds work on a file that lives on the slower tier.
    let setup = dress(Setup::new().roots(&roots).option(option).hangs_after(LIMIT));
    let setup = setup.seed(|roots| {
        for seed in seeds.iter().filter(|seed| *seed % 2 == 1) {
            common::fs::put(roots[1].join(format!("file{seed}")), "");
        }
    });
    let Some(mount) = setup.mount() else { return };
    for seed in seeds {
        run_fsx(&program, &mount, operations, seed);
        let tier = usize::from(seed % 2 == 1);
        let there = mount.tier(tier, format!("file{seed}"));
        assert!(there.exists(), "seed {seed} did not work on tier {tier}");
    }
}

fn run_fsx(program: &Path, mount: &TestMount, operations: u32, seed: u32) {
    let config = mount.home().join("fsx.toml");
    // A length of 0 would be EINVAL of posix_fallocate on every filesystem.
    let text = "flen = 65536\n[opsize]\nmin = 1\nmax = 4096\n[weights]\nclose_open = 1\nread = 10\n\
                write = 10\nmapread = 3\nmapwrite = 3\ninvalidate = 1\ntruncate = 5\n\
                fsync = 0.2\nfdatasync = 0.2\nposix_fallocate = 2\npunch_hole = 2\nsendfile = 2\n\
                posix_fadvise = 1\ncopy_file_range = 2\n";
    std::fs::write(&config, text).expect("fsx.toml");
    let output = Command::new(program)
        .args(["-N", &operations.to_string(), "-S", &seed.to_string()])
        .arg("-f")
        .arg(&config)
        .arg("-P")
        .arg(mount.home())
        .arg(mount.path(format!("file{seed}")))
        .output()
        .expect("fsx runs");
    let words = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = words.lines().chain(complaint.lines()).rev().take(30).collect();
    assert!(output.status.success(), "seed {seed}: {}\n{}", output.status, last.join("\n"));
}
