//! Tiers that do not answer: another FUSE filesystem whose daemon is stopped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::fs::{errno, get, names, put};
use crate::common::loopfs::LoopFs;
use crate::common::mount::{Setup, TestMount};
use crate::common::{mount, need, wait};
use crate::gone::{check_away, everything, until_back, until_same};

/// A directory shown by a daemon that can be stopped.
pub(crate) struct Server {
    pub(crate) daemon: Child,
    pub(crate) from: PathBuf,
    at: PathBuf,
    /// A filesystem that the test uses beside it, and as long.
    pub(crate) disk: Option<LoopFs>,
}

impl Server {
    pub(crate) fn start(home: &Path) -> Option<Server> {
        let [_bindfs] = need::programs(["bindfs"])?;
        let (from, at) = (home.join("server"), home.join("t1"));
        std::fs::create_dir_all(&from).expect("mkdir");
        let daemon = Server::run(&from, &at);
        Some(Server { daemon, from, at, disk: None })
    }

    fn run(from: &Path, at: &Path) -> Child {
        let mut command = Command::new("bindfs");
        let daemon = command.arg("-f").arg(from).arg(at).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        wait::until("the server serves", || mount::is_mounted(at).then_some(()));
        daemon.expect("bindfs")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.daemon), signal).expect("kill");
        if signal == Signal::STOP {
            // A request that it has taken before keeps whoever has made it from ending, even if he is killed.
            wait::until("all of it has stopped", || self.has_stopped().then_some(()));
        }
    }

    fn has_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.daemon.id())).expect("it lives").flatten();
        let mut states = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        states.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    }

    /// Its daemon dies, and another takes its place.
    fn restart(&mut self) {
        self.end();
        self.daemon = Server::run(&self.from, &self.at);
    }

    /// Its disk is unmounted: what is left is an empty directory.
    fn hide(&self) {
        let away = self.from.with_file_name("disk");
        std::fs::create_dir(&away).expect("mkdir");
        std::fs::rename(self.from.join(".tierfs"), away.join(".tierfs")).expect("the marker is gone first");
        for name in names(&self.from) {
            std::fs::rename(self.from.join(&name), away.join(&name)).expect("mv");
        }
    }

    /// Its disk is mounted again.
    fn show(&self) {
        let away = self.from.with_file_name("disk");
        for name in names(&away).into_iter().chain([".tierfs".into()]) {
            std::fs::rename(away.join(&name), self.from.join(&name)).expect("mv");
        }
    }

    fn end(&mut self) {
        self.daemon.kill().expect("kill");
        self.daemon.wait().expect("wait");
        let _not_mounted = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn union_with_server() -> Option<(TestMount, Server)> {
    if !need::root() {
        return None;
    }
    // So long a server that is well may take on a busy machine.
    let setup = Setup::new().plain().option("tier_timeout=5s").option("threads=4").option("ttl=60s");
    let server = Server::start(setup.home())?;
    let setup = setup.seed(|tiers| {
        put(tiers[0].join("dir/fast"), "fast");
        tiers.iter().for_each(|tier| put(tier.join("dir/both"), "on both"));
        for at in 0..40 {
            put(tiers[1].join(format!("dir/slow{at}")), format!("slow {at}"));
        }
    });
    Some((setup.mount()?, server))
}

#[test]
fn a_tier_that_hangs_holds_up_nobody_for_long_and_is_good_again_when_it_answers() {
    let Some((mount, server)) = union_with_server() else { return };
    let before = everything(&mount.root());
    let open = std::fs::File::open(mount.path("dir/slow39")).expect("open");
    server.signal(Signal::STOP);
    // Ten times as many as there are threads.
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..40)
            .map(|at| {
                let path = mount.path(format!("dir/slow{at}"));
                scope.spawn(move || std::fs::File::options().append(true).open(path).map(drop))
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(get(mount.path("dir/fast")), "fast", "the primary goes on");
        }
        let answer = wait::output(mount.tierfs_with(&["status"]).arg(mount.root()));
        assert!(!answer.stdout.is_empty(), "{answer:?}");
        for ended in waiting {
            assert_eq!(errno(ended.join().expect("no panic")), Errno::IO);
        }
    });
    check_away(&mount, "dir", "fast", "slow0");
    server.signal(Signal::CONT);
    until_back(&mount);
    until_same(&mount, &before);
    assert_eq!(std::io::read_to_string(&open).expect("what was open is good again"), "slow 39");
    drop(open);
    put(mount.path("dir/slow1"), "written again");
    assert_eq!(get(server.from.join("dir/slow1")), "written again");
    let setup = mount.unmount();
    drop(server);
    drop(setup);
}

#[test]
fn a_server_that_dies_is_taken_in_again_as_another() {
    let Some((mount, mut server)) = union_with_server() else { return };
    let before = everything(&mount.root());
    let open = std::fs::File::options().append(true).open(mount.path("dir/slow39")).expect("open");
    server.restart();
    wait::until("the mount has noticed", || mount.log().contains("its filesystem fails").then_some(()));
    until_back(&mount);
    until_same(&mount, &before);
    assert!(std::io::Write::write_all(&mut &open, b"x").is_err(), "what was open on the former is lost");
    drop(open);
    until_same(&mount, &before);
    let setup = mount.unmount();
    drop(server);
    drop(setup);
}

/// Until the mount knows better, a server without its disk says of everything that it is absent. It was believed
/// for some seconds: files were not there, and a removed name left its hidden copy.
#[test]
fn a_server_that_shows_an_empty_directory_is_not_believed() {
    let Some((mount, server)) = union_with_server() else { return };
    assert_eq!(get(mount.path("dir/slow39")), "slow 39");
    server.hide();
    let removed = std::fs::remove_file(mount.path("dir/both"));
    assert!(removed.is_err(), "a copy of it may be on the tier that is not there");
    let mut at = (0..39).cycle();
    wait::until("the mount has noticed", || {
        let path = mount.path(format!("dir/slow{}", at.next().unwrap_or_default()));
        assert_eq!(errno(std::fs::metadata(path)), Errno::IO);
        assert_eq!(errno(std::fs::File::create_new(mount.path("dir/never was"))), Errno::IO);
        let listing = std::fs::read_dir(mount.root()).expect("the root is there");
        assert!(listing.into_iter().any(|entry| entry.is_err()), "a listing that is not whole must end with an error");
        mount.log().contains("has lost its .tierfs/marker").then_some(())
    });
    check_away(&mount, "dir", "fast", "slow0");
    server.show();
    until_back(&mount);
    assert_eq!(get(mount.path("dir/slow7")), "slow 7");
    std::fs::remove_file(mount.path("dir/both")).expect("as ever");
    assert_eq!(names(mount.path("dir")).len(), 41);
    put(mount.path("dir/slow7"), "written");
    assert_eq!(get(server.from.join("dir/slow7")), "written");
    let setup = mount.unmount();
    drop(server);
    drop(setup);
}

#[test]
fn a_mount_with_a_tier_that_hangs_can_be_unmounted() {
    let Some((mount, server)) = union_with_server() else { return };
    server.signal(Signal::STOP);
    let path = mount.path("dir/slow0");
    let waiting = std::thread::spawn(move || std::fs::metadata(path.with_file_name("not known yet")).map(drop));
    wait::until("it is known", || mount.log().contains("not answering").then_some(()));
    let setup = mount.unmount();
    assert!(waiting.join().expect("no panic").is_err());
    server.signal(Signal::CONT);
    drop(server);
    drop(setup);
}

/// NFS and many FUSE servers only know renames that replace what is there.
#[test]
fn a_server_that_cannot_rename_without_replacing_takes_no_files_and_that_is_said() {
    let Some((mount, server)) = union_with_server() else { return };
    let (here, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::NOREPLACE);
    put(server.at.join("of the test"), "x");
    if rustix::fs::renameat_with(here, server.at.join("of the test"), here, server.at.join("new"), flags).is_ok() {
        return need::skip("this bindfs can do it");
    }
    let run = wait::output(mount.tierfs_with(&["migrate", "--older-than", "0s"]).arg(mount.root()));
    let told = [run.stdout, run.stderr].map(|told| String::from_utf8_lossy(&told).into_owned()).concat();
    assert!(told.contains("RENAME_NOREPLACE") && told.contains("tierfs doctor"), "{told}");
    assert_eq!(get(mount.tier(0, "dir/fast")), "fast", "it stays where it is");
    assert_eq!(get(mount.path("dir/fast")), "fast");
    let before = names(server.at.join(".tierfs"));
    // It gives up after five seconds what a busy machine holds up.
    let said = wait::until("doctor says so", || {
        let said = wait::output(mount.tierfs_with(&["doctor"]).arg(mount.root()));
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        said.contains("RENAME_NOREPLACE").then_some(said)
    });
    assert_eq!(said.matches("RENAME_NOREPLACE").count(), 1, "of that tier only: {said}");
    assert_eq!(names(server.at.join(".tierfs")), before);
    let setup = mount.unmount();
    drop(server);
    drop(setup);
}
