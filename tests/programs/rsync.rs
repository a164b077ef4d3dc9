//! rsync with everything it can keep, there and back, and again with nothing to do.

use std::path::Path;
use std::process::Command;

use crate::common::loopfs::LoopFs;
use crate::common::{need, trees};
use crate::moving::{all_down, all_up, ends_clean, on_disks, run, while_moving};

/// What rsync says it has done: one line for each object.
fn rsync(from: &Path, to: &Path, more: &[&str]) -> String {
    let mut command = Command::new("rsync");
    command.args(["-aHAXS", "--numeric-ids", "--itemize-changes", "--delete"]).args(more);
    run(command.arg(from.join("")).arg(to))
}

#[test]
fn rsync_keeps_everything_there_and_back_and_has_nothing_to_do_after_moves() {
    if need::programs(["rsync", "setfacl"]).is_none() {
        return;
    }
    let Some(outside) = LoopFs::new("ext4", 512) else { return };
    let Some((_tiers, mount)) = on_disks(1024, &[]) else { return };
    let (source, back) = (outside.path().join("source"), outside.path().join("back"));
    crate::tar::plant(&source);
    while_moving(&mount, |moves| {
        moves.rounds(2, 20, |round| {
            let there = mount.path(format!("there{}", round % 3));
            let _absent_at_first = std::fs::remove_dir_all(&there);
            assert_ne!(rsync(&source, &there, &[]), "");
            for more in [&[][..], &["--checksum"]] {
                assert_eq!(rsync(&source, &there, more), "", "round {round}");
            }
            rsync(&there, &back, &[]);
            assert_eq!(rsync(&source, &back, &["--checksum"]), "", "round {round}");
            trees::same(&source, &back, "there and back");
        });
    });
    let there = mount.path("there0");
    for when in ["down", "up"] {
        if when == "down" {
            all_down(&mount)
        } else {
            all_up(&mount)
        }
        assert_eq!(rsync(&source, &there, &[]), "", "{when}");
        assert_eq!(rsync(&there, &source, &["--dry-run"]), "", "{when}");
    }
    trees::same(&source, &there, "on the mount");
    ends_clean(mount);
}
