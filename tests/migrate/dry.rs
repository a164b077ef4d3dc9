//! Dry runs against real ones on filesystems that are full, read-only or nested, and files in use.

use std::process::Command;

use serde_json::Value;

use crate::common::fs::{exists, put};
use crate::common::loopfs::{LoopFs, run};
use crate::common::mount::{Setup, TestMount};
use crate::common::{need, wait};
use crate::kit::{Ran, files, migrate, on, pattern};

/// What is told of files, in an order of its own and without ages, which grow.
fn told(ran: &Ran) -> Vec<String> {
    let mut events: Vec<Value> = ran.json().into_iter().filter(|event| event["event"] != "summary").collect();
    events.iter_mut().for_each(|event| drop(event.as_object_mut().expect("an object").remove("age_secs")));
    let mut events: Vec<String> = events.iter().map(Value::to_string).collect();
    events.sort();
    events
}

/// The dry run, and then the real one, which must tell the same.
#[track_caller]
fn both(mount: &TestMount) -> Ran {
    let said = migrate(mount, &["-n"]);
    let done = migrate(mount, &[]);
    assert_eq!(told(&said), told(&done), "{said:?}\n{done:?}");
    assert_eq!((said.code, said.skipped()), (done.code, done.skipped()));
    assert_eq!((&said.summary()["dry_run"], &done.summary()["dry_run"]), (&true.into(), &false.into()));
    said
}

/// Open through the mount and beside it, immutable, and hidden names.
#[test]
fn regression_files_in_use_are_skipped_as_in_the_real_run() {
    let Some((_tiers, setup)) = on(["ext4", "xfs"], 512) else { return };
    for name in ["idle", "through", "beside", "fixed", "taken"] {
        put(setup.tier(0).join(name), name);
    }
    put(setup.tier(1).join("taken"), "hidden");
    run(Command::new("chattr").arg("+i").arg(setup.tier(0).join("fixed")));
    let Some(mount) = setup.mount() else { return };
    let through = std::fs::File::open(mount.path("through")).expect("open");
    let beside = std::fs::File::open(mount.tier(0, "beside")).expect("open");
    let said = both(&mount).ends(0);
    run(Command::new("chattr").arg("-i").arg(mount.tier(0, "fixed")));
    assert_eq!((said.count("moved"), said.skipped().get("in use")), (1, Some(&2)), "{said:?}");
    drop((through, beside));
}

/// Files below another filesystem that is mounted inside a tier.
#[test]
fn regression_a_nested_filesystem_is_known_before() {
    let Some((_tiers, setup)) = on(["ext4", "ext4"], 256) else { return };
    for rank in [0, 1] {
        std::fs::create_dir(setup.tier(rank).join(format!("inside{rank}"))).expect("mkdir");
    }
    let Some(nested) = LoopFs::new("tmpfs", 16) else { return };
    let points = [0, 1].map(|rank| setup.tier(rank).join(format!("inside{rank}")));
    for point in &points {
        run(Command::new("mount").arg("--bind").arg(nested.path()).arg(point));
    }
    put(setup.tier(0).join("inside0/f"), "on the nested one");
    put(setup.tier(0).join("inside1/g"), "to the nested one");
    put(setup.tier(0).join("h"), "neither");
    if let Some(mount) = setup.mount() {
        let said = both(&mount).ends(0);
        assert_eq!(said.skipped().get("on another filesystem inside their tier"), Some(&2), "{said:?}");
        assert!(exists(mount.tier(1, "h")) && exists(mount.tier(0, "inside1/g")));
        drop(mount);
    }
    for point in &points {
        crate::common::mount::unmount_for_sure(point);
    }
}

/// A target that is read-only: nothing would move, and the code is that of the run.
#[test]
fn regression_a_read_only_target_is_known_before() {
    let Some((tiers, setup)) = on(["ext4", "xfs"], 512) else { return };
    put(setup.tier(0).join("f"), "x");
    let Some(mount) = setup.mount() else { return };
    let turn = || Command::new("mount").args(["-o", "remount,ro"]).arg(tiers[1].path()).output().expect("mount");
    // For a moment the mount may have something open there to write.
    let turned = wait::within(wait::PATIENCE, || turn().status.success().then_some(()));
    if turned.is_none() {
        return need::skip("cannot turn a filesystem in use read-only");
    }
    let said = both(&mount).ends(1);
    assert_eq!((said.count("moved"), said.count("failed")), (0, 1), "{said:?}");
    run(Command::new("mount").args(["-o", "remount,rw"]).arg(tiers[1].path()));
}

/// Room is counted down: what does not fit is skipped, and smaller files go on.
#[test]
fn regression_a_dry_run_counts_the_room_on_the_target() {
    let Some(slow) = LoopFs::new("tmpfs", 8) else { return };
    let Some(fast) = LoopFs::new("ext4", 256) else { return };
    let setup = Setup::new().roots(&[fast.path().join("tier"), slow.path().join("tier")]);
    for at in 0..6 {
        put(setup.tier(0).join(format!("f{at}")), pattern(at, 0, 3 << 20));
    }
    put(setup.tier(0).join("z"), "small");
    let Some(mount) = setup.mount() else { return };
    let said = both(&mount).ends(1);
    assert_eq!(said.skipped().get("without room on the other tier"), Some(&4), "{said:?}");
    assert_eq!(said.count("moved"), 3, "{said:?}");
    assert!(told(&said).iter().any(|event| event.contains("\"z\"") && event.contains("moved")), "{said:?}");
    assert_eq!(files(&mount.roots()[0]).len(), 4);
}
