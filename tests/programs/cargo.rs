//! cargo: it goes by modification times, links files hard, and locks directories.

use std::path::Path;
use std::process::Command;

use crate::common::fs::put;
use crate::moving::{all_down, all_up, ends_clean, on_disks, while_moving};

fn plant(root: &Path) {
    put(root.join("Cargo.toml"), "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    put(root.join("build.rs"), "fn main() { println!(\"cargo:rerun-if-changed=build.rs\"); }\n");
    put(root.join("src/lib.rs"), "pub mod part;\npub fn answer() -> u32 { part::six() * 7 }\n");
    put(root.join("src/part.rs"), "pub fn six() -> u32 { 6 }\n");
    put(root.join("src/main.rs"), "fn main() { println!(\"{}\", small::answer()); }\n");
}

/// What cargo says on its way.
fn cargo(root: &Path, words: &[&str]) -> (String, String) {
    let mut command = Command::new(env!("CARGO"));
    // What the tests' own cargo has told them is not for this one.
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy().into_owned();
        let keep = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"].contains(&name.as_str());
        if !keep && ["CARGO", "RUST", "LLVM_", "DEP_"].iter().any(|begin| name.starts_with(begin)) {
            command.env_remove(&key);
        }
    }
    let output = command.args(words).args(["--offline", "-v"]).current_dir(root).output().expect("cargo runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "cargo {words:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn is_fresh(root: &Path, when: &str) {
    let (_, said) = cargo(root, &["build"]);
    assert!(said.contains("Fresh small") && !said.contains("Compiling") && !said.contains("Dirty"), "{when}: {said}");
}

#[test]
fn cargo_builds_and_has_nothing_to_build_after_moves() {
    let Some((_tiers, mount)) = on_disks(512, &[]) else { return };
    let root = mount.path("small");
    plant(&root);
    while_moving(&mount, |moves| {
        moves.rounds(2, 20, |round| {
            put(root.join("src/part.rs"), format!("pub fn six() -> u32 {{ {round} - {round} + 6 }}\n"));
            let (said, _) = cargo(&root, &["run"]);
            assert_eq!(said, "42\n");
            is_fresh(&root, "while files move");
        });
    });
    for when in ["down", "up"] {
        if when == "down" {
            all_down(&mount)
        } else {
            all_up(&mount)
        }
        is_fresh(&root, when);
        assert_eq!(cargo(&root, &["run"]).0, "42\n", "{when}");
    }
    let mount = mount.remount();
    is_fresh(&root, "after a remount");
    ends_clean(mount);
}
