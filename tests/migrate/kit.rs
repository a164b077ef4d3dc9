//! The command, and what the tests compare: trees, tiers, and what a tier keeps for itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::fs::names;
use crate::common::loopfs::{LoopFs, run};
use crate::common::mount::{Setup, TestMount};

/// What a command has said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The JSON lines.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let lines = self.out.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
    }

    /// The summary of a run with `--json`.
    #[track_caller]
    pub(crate) fn summary(&self) -> serde_json::Value {
        let last = self.out.lines().last().unwrap_or_else(|| panic!("no summary: {self:?}"));
        let last: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{self:?}: {error}"));
        assert_eq!(last["event"], "summary", "{self:?}");
        last
    }

    /// A number in the summary.
    #[track_caller]
    pub(crate) fn count(&self, field: &str) -> u64 {
        self.summary()[field].as_u64().unwrap_or_else(|| panic!("{field}: {self:?}"))
    }

    /// Files skipped for a reason, all reasons together.
    #[track_caller]
    pub(crate) fn skipped(&self) -> BTreeMap<String, u64> {
        let summary = self.summary();
        let skipped = summary["skipped"].as_object().unwrap_or_else(|| panic!("{self:?}"));
        skipped.iter().map(|(why, count)| (why.clone(), count.as_u64().unwrap_or(0))).collect()
    }

    /// Must have ended so.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// Runs `tierfs` with these words for a mount.
pub(crate) fn tierfs<I, S>(mount: &TestMount, words: I) -> Ran
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    Ran::of(&mount.tierfs().args(words).output().expect("tierfs runs"))
}

/// The same without a mount.
pub(crate) fn alone<I, S>(setup: &Setup, words: I) -> Ran
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    Ran::of(&setup.tierfs().args(words).output().expect("tierfs runs"))
}

/// Moves everything down that can move, and more words.
pub(crate) fn migrate(mount: &TestMount, more: &[&str]) -> Ran {
    let root = mount.root();
    let words = ["migrate", "--older-than", "0", "--json"].iter().chain(more);
    Ran::of(&mount.tierfs().args(words).arg(root).output().expect("tierfs runs"))
}

/// Runs again while files are in use that nobody has open any more: the kernel tells of a close a moment later. How many
/// files these runs have moved.
#[track_caller]
pub(crate) fn moved_by(run: impl Fn() -> Ran) -> u64 {
    let mut moved = 0;
    crate::common::wait::until("no file is in use", || {
        let ran = run().ends(0);
        moved += ran.count("moved");
        (!ran.skipped().contains_key("in use")).then_some(moved)
    })
}

/// Brings everything below `path` back.
pub(crate) fn recall(mount: &TestMount, path: &str) -> Ran {
    Ran::of(&mount.tierfs().args(["recall", "-r", "--json"]).arg(mount.path(path)).output().expect("tierfs runs"))
}

/// Two filesystems as tiers.
pub(crate) fn on(kinds: [&'static str; 2], size_mib: u64) -> Option<([LoopFs; 2], Setup)> {
    let [fast, slow] = kinds.map(|kind| LoopFs::new(kind, size_mib));
    let tiers = [fast?, slow?];
    let mut setup = Setup::new().roots(&[tiers[0].path().join("tier"), tiers[1].path().join("tier")]);
    setup.ready();
    Some((tiers, setup))
}

/// The regular files below a directory, from there, without the tier's own.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for name in names(root.join(&folder)) {
            let path = folder.join(name);
            let kind = root.join(&path).symlink_metadata().expect("stat").file_type();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// No copy waits in staging, no source in the trash, no record for the next start, and no file is
/// on two tiers.
#[track_caller]
pub(crate) fn nothing_left_behind(roots: &[PathBuf]) {
    for root in roots {
        for own in ["staging", "trash", "moves"] {
            let own = root.join(".tierfs").join(own);
            if own.is_dir() {
                assert_eq!(names(&own), [] as [&str; 0], "{own:?}");
            }
        }
    }
    let on_fast = files(&roots[0]);
    let twice: Vec<PathBuf> = files(&roots[1]).into_iter().filter(|path| on_fast.binary_search(path).is_ok()).collect();
    assert_eq!(twice, [] as [&Path; 0], "on both tiers");
}

/// All that programs see of a tree but its contents: one text for each object and tool.
///
/// Of directories neither access nor change times, which every listing and every move may touch, nor
/// the number of links, which tells on how many tiers one is; of links no access times, which this
/// look changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen(Vec<String>);

impl Seen {
    pub(crate) fn of(root: &Path) -> Seen {
        let file = r"%P %i %s %T@ %A@ %C@ %U %G %m %n %y\0";
        let link = r"%P %i %s %T@ %C@ %U %G %m %n %y %l\0";
        let dir = r"%P %i %T@ %U %G %m %y\0";
        let mut find = Command::new("find");
        find.arg(root).args([
            "-mindepth",
            "1",
            "-type",
            "d",
            "-printf",
            dir,
            "-o",
            "-type",
            "l",
            "-printf",
            link,
            "-o",
            "-printf",
            file,
        ]);
        let output = find.output().expect("find runs");
        assert!(output.status.success(), "{output:?}");
        let records = output.stdout.split(|byte| *byte == 0).filter(|record| !record.is_empty());
        let mut all: Vec<String> = records.map(|record| record.escape_ascii().to_string()).collect();
        for tool in [&["getfattr", "-R", "-h", "-d", "-m", "-", "."][..], &["getfacl", "-R", "-P", "-n", "."]] {
            let text = run(Command::new(tool[0]).args(&tool[1..]).current_dir(root));
            // The root has its own times and may hold what tiers share.
            all.extend(text.split("\n\n").filter(|part| !part.trim().is_empty()).map(str::to_owned));
        }
        all.sort();
        Seen(all)
    }

    /// Nothing may differ from what was before.
    #[track_caller]
    pub(crate) fn same_as(&self, before: &Seen, when: &str) {
        let set = |seen: &Seen| seen.0.iter().cloned().collect::<std::collections::BTreeSet<String>>();
        let (old, now) = (set(before), set(self));
        let (gone, new): (Vec<_>, Vec<_>) = (old.difference(&now).collect(), now.difference(&old).collect());
        let few = |lines: &[&String]| lines.iter().take(12).map(|line| format!("  {line}\n")).collect::<String>();
        let (total, gone_few, new_few) = (gone.len() + new.len(), few(&gone), few(&new));
        assert!(total == 0, "{when}, {total} lines differ, among them\nbefore\n{gone_few}now\n{new_few}");
        assert_eq!(self.0.len(), before.0.len(), "{when}");
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Bytes that tell from where they are: of a file with this number, at this offset.
pub(crate) fn pattern(seed: u64, offset: usize, length: usize) -> Vec<u8> {
    let byte = |at: usize| {
        let word = (at as u64 / 8).wrapping_add(seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.rotate_left(29).to_le_bytes()[at % 8]
    };
    (offset..offset + length).map(byte).collect()
}
