//! The tier goes while files move.

use std::process::Stdio;

use rustix::io::Errno;

use crate::common::fs::{errno, get, put};
use crate::common::loopfs::LoopFs;
use crate::common::mount::Setup;
use crate::common::wait;
use crate::gone::{everything, until_back, until_gone, until_same};

/// Wherever the run was when its tier went: it ends, nothing is lost, and once the tier is back every file
/// is whole and under its name.
#[test]
fn a_run_ends_when_its_tier_goes_and_nothing_is_lost() {
    let Some(disk) = LoopFs::new("ext4", 320) else { return };
    for files_before_the_end in [0, 3, 40] {
        let setup = Setup::new().plain();
        let roots = [setup.tier(0).to_owned(), disk.path().join(format!("tier{files_before_the_end}"))];
        let setup = setup.roots(&roots).seed(|tiers| {
            for at in 0..120 {
                put(tiers[0].join(format!("dir{}/file{at}", at % 7)), "contents of a file ".repeat(at * 40));
            }
            put(tiers[1].join("slow"), "slow");
        });
        disk.sync();
        let Some(mount) = setup.mount() else { return };
        let before = everything(&mount.root());
        let mut command = mount.tierfs_with(&["migrate", "--older-than", "0s", "-v"]);
        let mut run = command.arg(mount.root()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
        wait::until("so many have moved", || {
            let moved = (0..120).filter(|at| mount.tier(1, format!("dir{}/file{at}", at % 7)).exists()).count();
            (moved >= files_before_the_end || run.try_wait().expect("wait").is_some()).then_some(())
        });
        assert!(disk.cut_power());
        wait::until("the run ends", || run.try_wait().expect("wait"));
        until_gone(&mount, "slow");
        disk.restart();
        until_back(&mount);
        until_same(&mount, &before);
        let output = wait::output(mount.tierfs_with(&["check"]).arg(mount.root()));
        assert!(output.status.success(), "{output:?}");
        mount.unmount();
    }
}

/// What programs have done meanwhile could be undone by finishing it while they go on.
#[test]
fn a_tier_is_not_taken_in_while_something_is_on_record_that_only_a_start_can_finish() {
    let Some(disk) = LoopFs::new("ext4", 64) else { return };
    for (records, said) in [("renames", "a rename was cut short"), ("moves", "was cut short when it went")] {
        let setup = Setup::new().plain();
        let roots = [setup.tier(0).to_owned(), disk.path().join(records)];
        let setup = setup.roots(&roots).seed(|tiers| put(tiers[1].join("slow"), "slow"));
        disk.sync();
        let Some(mount) = setup.mount() else { return };
        assert!(disk.cut_power());
        until_gone(&mount, "slow");
        let record = mount.tier(0, format!(".tierfs/{records}/a record that cannot be read"));
        put(&record, "something");
        disk.restart();
        wait::until("the mount says why it waits", || mount.log().contains(said).then_some(()));
        assert_eq!(errno(std::fs::read(mount.path("slow"))), Errno::IO);
        assert!(record.exists(), "it is left for the start");
        std::fs::remove_file(&record).expect("the record goes");
        until_back(&mount);
        assert_eq!(get(mount.path("slow")), "slow");
        mount.unmount();
    }
}

/// A record that was being written when its tier went is of a rename that never began, and lay there until the next
/// start.
#[test]
fn a_record_that_was_never_finished_goes_when_its_tier_is_back() {
    let Some(disk) = LoopFs::new("ext4", 64) else { return };
    let setup = Setup::new().plain();
    let roots = [disk.path().join("tier"), setup.tier(1).to_owned()];
    let setup = setup.roots(&roots).seed(|tiers| put(tiers[0].join("fast"), "fast"));
    let Some(mount) = setup.mount() else { return };
    let draft = mount.tier(0, ".tierfs/renames/draft-1");
    put(&draft, "half of a rec");
    disk.sync();
    assert!(disk.cut_power());
    until_gone(&mount, "fast");
    disk.restart();
    until_back(&mount);
    assert!(!draft.exists());
    mount.unmount();
}
