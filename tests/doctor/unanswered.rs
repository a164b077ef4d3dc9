//! Mounts and tiers that do not answer.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::Said;
use crate::common::mount::{Setup, is_mounted};
use crate::common::{need, wait};

#[test]
fn a_dead_mount_is_told_with_its_cure() {
    let Some(mut mount) = Setup::new().mount() else { return };
    mount.kill();
    let said = Said::of(&mount);
    assert_eq!(said.code, Some(3));
    let (level, found) = said.told("mount").expect("told");
    assert_eq!(level, "trouble");
    assert!(found.contains("its daemon is gone"), "{found}");
    let todo = &said.troubles()[0]["do"];
    assert!(todo.as_str().is_some_and(|todo| todo.starts_with("tierfs umount /")), "{todo}");
    // Its socket is left, too.
    assert_eq!(said.told("stale-socket").map(|(level, _)| level), Some("hint"));
    mount.forsake();
}

/// A process that is stopped, and goes on when this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: u32) -> Stopped {
        let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
        kill_process(pid, Signal::STOP).expect("stopped");
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

#[test]
fn a_mount_that_hangs_does_not_hang_doctor() {
    let Some(mount) = Setup::new().option("out_of_band=never").mount() else { return };
    let stopped = Stopped::new(mount.pid());
    let said = Said::once(&mut mount.tierfs(), &[mount.root().as_os_str()]);
    drop(stopped);
    assert_eq!(said.told("mount"), Some(("trouble", "it does not answer")));
    assert_eq!(said.code, Some(3));
}

#[test]
fn a_tier_that_hangs_does_not_hang_doctor_and_the_others_are_looked_at() {
    // A tier on another mount of tierfs, whose daemon is stopped: as dead as a server that is gone.
    let Some(below) = Setup::new().option("out_of_band=never").mount() else { return };
    let home = below.home().to_path_buf();
    let fast = home.join("fast");
    std::fs::create_dir(&fast).expect("mkdir");
    let file = home.join("on-dead.yaml");
    let text = format!(
        "version: 1\nmountpoint: {}/over\nprimary: {{path: {}}}\nsecondary: {{path: {}}}\n",
        home.display(),
        fast.display(),
        below.root().display()
    );
    std::fs::write(&file, text).expect("written");
    let stopped = Stopped::new(below.pid());
    let said = Said::once(&mut below.tierfs(), &[file.as_os_str()]);
    drop(stopped);
    let (level, found) = said.told("tier").expect("told");
    assert_eq!((level, found), ("trouble", format!("{} does not answer", below.root().display()).as_str()));
    assert!(said.list.iter().any(|value| {
        value["check"] == "tier"
            && value["level"] == "fine"
            && value["found"].as_str().is_some_and(|it| it.contains("fast"))
    }));
}

#[test]
fn a_program_that_was_replaced_is_told() {
    if !need::root() {
        return;
    }
    let setup = Setup::new();
    let copy = setup.home().join("old");
    crate::common::fs::copy_program(crate::common::mount::program(), &copy);
    let point = setup.mountpoint();
    let spec = crate::common::mount::spec(&[setup.tier(0).to_path_buf(), setup.tier(1).to_path_buf()]);
    let run = |program: &std::path::Path, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).env("TIERFS_RUNTIME_DIR", setup.runtime_dir());
        command
    };
    let mounted = wait::output(run(&copy, &["mount"]).arg(&spec).arg(&point));
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    assert!(is_mounted(&point));
    let program = crate::common::mount::program();
    let before = Said::by(&mut run(program, &[]), &[point.as_os_str()]);
    std::fs::remove_file(&copy).expect("removed");
    let after = Said::by(&mut run(program, &[]), &[point.as_os_str()]);
    let ended = wait::output(run(program, &["umount"]).arg(&point));
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(before.told("upgrade"), None);
    assert_eq!(after.told("upgrade").map(|(level, _)| level), Some("hint"));
}
