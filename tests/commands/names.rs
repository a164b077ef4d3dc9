//! Names that a terminal would obey, that end a line, or that are no text.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::Command;

use crate::common::fs::{put, set_times};
use crate::common::mount::{Setup, TestMount};
use crate::common::{need, wait};
use crate::ran;

const EVIL: &[u8] = b"a\nb\x1b[2J\xffc";
const ESCAPED: &str = r"a\nb\033[2J\377c";

fn evil(above: PathBuf) -> PathBuf {
    above.join(OsStr::from_bytes(EVIL))
}

fn setup() -> Setup {
    Setup::new().seed(|tiers| {
        put(evil(tiers[0].clone()), "x");
        set_times(evil(tiers[0].clone()), 1_000_000_000, 1_000_000_000);
        put(evil(tiers[0].join("both")), "1");
        put(evil(tiers[1].join("both")), "2");
    })
}

/// The command with these arguments, with a terminal as its output; the last is `path`.
fn on_a_terminal(mount: &TestMount, words: &str, path: &OsStr) -> Vec<u8> {
    let template = mount.tierfs_with(&[]);
    let mut command = Command::new("script");
    command.args(["-qec", &format!("\"$PROGRAM\" {words} \"$LAST\""), "/dev/null"]);
    command.envs(template.get_envs().filter_map(|(key, value)| Some((key, value?)))).env_remove("TIERFS_LOG");
    command.env("PROGRAM", template.get_program()).env("LAST", path).env("SHELL", "/bin/sh");
    wait::output(&mut command).stdout
}

fn bytes(command: &mut Command) -> Vec<u8> {
    wait::output(command).stdout
}

/// A terminal sees every name escaped and on one line.
#[test]
fn a_terminal_obeys_no_name() {
    if need::programs(["script"]).is_none() {
        return;
    }
    let Some(mount) = setup().mount() else { return };
    let file = evil(mount.root());
    let root = mount.root();
    bytes(mount.tierfs_with(&["pin"]).arg(evil(mount.path("both"))));
    for (words, path) in [
        ("where", &file),
        ("explain --older-than 1y", &file),
        ("pins", &root),
        ("check", &root),
        ("migrate -v --older-than 1y", &root),
        ("recall", &file),
        ("where", &file),
        ("where --json", &file),
        ("pins --json", &root),
        ("check --json", &root),
    ] {
        let said = on_a_terminal(&mount, words, path.as_os_str());
        let text = String::from_utf8(said.clone()).unwrap_or_else(|_| panic!("{words}: {said:?}"));
        // Columns of progress are no matter here, and recall prints only a summary.
        let without_bar = text.replace("\u{1b}[2K", "").replace("\u{1b}[K", "");
        assert!(!without_bar.contains("\u{1b}[2J"), "{words}: {text:?}");
        assert!(words == "recall" || words.contains("--json") || text.contains(ESCAPED), "{words}: {text:?}");
    }
    let listed = bytes(&mut mount.tierfs_with(&["history", root.to_str().expect("UTF-8")]));
    let listed = String::from_utf8(listed).expect("text");
    let run = listed.split(' ').next().expect("a run");
    let said = on_a_terminal(&mount, &format!("history {run}"), root.as_os_str());
    assert!(String::from_utf8_lossy(&said).contains(ESCAPED), "{said:?}");
}

/// What is no terminal gets the bytes, so that scripts find the files.
#[test]
fn a_pipe_gets_the_bytes_of_names() {
    let Some(mount) = setup().mount() else { return };
    let file = evil(mount.root());
    let said = bytes(mount.tierfs_with(&["where"]).arg(&file));
    assert!(said.starts_with(&[file.as_os_str().as_bytes(), b": primary "].concat()), "{said:?}");
    let json = bytes(mount.tierfs_with(&["where", "--json"]).arg(&file));
    let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let hex: String = file.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(value["path_hex"], hex.as_str());
    assert!(value["realpath_hex"].as_str().is_some_and(|real| real.ends_with("ff63")), "{value}");
    bytes(mount.tierfs_with(&["pin"]).arg(&file));
    let json = bytes(&mut mount.tierfs_with(&["pins", "--json", mount.root().to_str().expect("UTF-8")]));
    let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(value["path_hex"], hex.as_str());
}

/// A failure is one line, whatever it names.
#[test]
fn a_failure_is_one_line_whatever_it_names() {
    let Some(mount) = setup().mount() else { return };
    let odd = evil(mount.path("absent"));
    for words in [&["where"][..], &["explain", "--older-than", "1y"], &["recall"], &["pin"], &["pins"], &["check"]] {
        let ran = ran(mount.tierfs_with(words).arg(&odd));
        ran.refused(1, r"absent/a\nb\033[2J");
    }
}

/// What `check` proposes can be pasted into a shell, and does there what it says.
#[test]
fn what_check_proposes_can_be_pasted() {
    if need::programs(["bash"]).is_none() {
        return;
    }
    let Some(mount) = setup().mount() else { return };
    let found = bytes(&mut mount.tierfs_with(&["check", mount.root().to_str().expect("UTF-8")]));
    let text = String::from_utf8_lossy(&found).into_owned();
    let (_, command) = text.split_once("rm -- ").expect("a command");
    let (word, _) = command.split_once("]\n").expect("its end");
    assert!(word.starts_with("$'"), "{text}");
    let echoed = bytes(Command::new("bash").args(["-c", &format!("printf %s {word}")]));
    assert_eq!(OsString::from_vec(echoed), evil(mount.tier(1, "both")).into_os_string());
}
