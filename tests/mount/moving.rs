//! What programs meet while files move.

use std::process::{Child, Command, Stdio};

use crate::common::fs::{exists, get, put};
use crate::common::mount::{Setup, TestMount, program};
use crate::common::wait;

const OPTIONS: [&str; 2] = ["passthrough", "nopassthrough"];

fn migrate(mount: &TestMount, more: &[&str]) -> Child {
    let mut command = Command::new(program());
    command.args(["migrate", "--older-than", "0s"]).args(more).arg(mount.root());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("tierfs starts")
}

fn staged(mount: &TestMount) -> bool {
    let staging = std::fs::read_dir(mount.tier(1, ".tierfs/staging"));
    staging.is_ok_and(|mut entries| entries.next().is_some())
}

/// A file that was made through the mount and closed again is not in use.
#[test]
fn a_new_file_can_move() {
    for option in OPTIONS {
        let Some(mount) = Setup::new().option(option).mount() else { return };
        put(mount.path("new"), "text");
        // The release comes after the close.
        wait::until("the file moves", || {
            assert!(migrate(&mount, &[]).wait().expect("wait").success());
            exists(mount.tier(1, "new")).then_some(())
        });
        assert!(!exists(mount.tier(0, "new")), "{option}");
        assert_eq!(get(mount.path("new")), "text");
        mount.unmount();
    }
}

/// Whoever empties or writes a file that is being copied is served, and the file stays.
#[test]
fn a_file_that_is_being_copied_can_be_changed() {
    let seed = |tiers: &[std::path::PathBuf]| put(tiers[0].join("big"), "x".repeat(8 << 20));
    for option in OPTIONS {
        for change in ["truncate", "write"] {
            let Some(mount) = Setup::new().option(option).seed(seed).mount() else { return };
            let mut run = migrate(&mount, &["--bwlimit", "100K"]);
            wait::until("the copy begins", || {
                // Whoever wrote it may let go of it late.
                if run.try_wait().expect("wait").is_some() {
                    run = migrate(&mount, &["--bwlimit", "100K"]);
                }
                staged(&mount).then_some(())
            });
            let path = mount.path("big");
            let changed = std::fs::File::options().write(true).truncate(change == "truncate").open(&path);
            let changed = changed.and_then(|file| file.set_len(5));
            assert!(changed.is_ok(), "{option}, {change}: {changed:?}");
            assert!(run.wait().expect("wait").success());
            assert!(!exists(mount.tier(1, "big")), "{option}, {change}");
            assert_eq!(std::fs::metadata(&path).expect("stat").len(), 5);
            mount.unmount();
        }
    }
}
