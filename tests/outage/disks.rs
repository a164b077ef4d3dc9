//! What tiers lie on, and how it fails and comes back.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::loopfs::LoopFs;
use crate::common::{mount, need, wait};
use crate::rng::Rng;

/// One of them.
#[derive(Debug)]
pub(crate) enum Disk {
    /// A filesystem in an image.
    Image(LoopFs),
    /// A directory that a daemon serves.
    Server(Server),
}

/// How one has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Without power: what was not synced is gone. The same device comes back, once nobody has it open.
    Power,
    /// The same, and it comes back as another device, while the dead one stays for who has it open.
    Pulled,
    /// The daemon is killed, and another takes its place.
    Killed,
    /// The daemon does not answer, and then goes on.
    Stopped,
}

impl Failure {
    /// Whether it comes back only when programs have closed what they had open there.
    pub(crate) fn needs_closing(self) -> bool {
        self == Failure::Power
    }
}

impl Disk {
    /// `ext4`, `xfs` or `server`.
    pub(crate) fn new(kind: &'static str) -> Option<Disk> {
        match kind {
            "server" => Server::start().map(Disk::Server),
            "xfs" => LoopFs::with(kind, 320, "noatime,nouuid").map(Disk::Image),
            _ => LoopFs::with(kind, 96, "noatime").map(Disk::Image),
        }
    }

    /// The tier's root.
    pub(crate) fn tier(&self) -> PathBuf {
        match self {
            Disk::Image(fs) => fs.path().join("tier"),
            Disk::Server(server) => server.at().join("tier"),
        }
    }

    /// What comes next to it.
    pub(crate) fn choose(&self, rng: &mut Rng) -> Failure {
        match (self, rng.below(2)) {
            (Disk::Image(_), 0) => Failure::Power,
            (Disk::Image(_), _) => Failure::Pulled,
            (Disk::Server(_), 0) => Failure::Killed,
            (Disk::Server(_), _) => Failure::Stopped,
        }
    }

    pub(crate) fn fail(&self, how: Failure) {
        match self {
            Disk::Image(fs) => assert!(fs.cut_power(), "{} has no shutdown", fs.kind()),
            Disk::Server(server) if how == Failure::Stopped => server.signal(Signal::STOP),
            Disk::Server(server) => server.signal(Signal::KILL),
        }
    }

    /// Once that is possible; `false` if somebody keeps the dead filesystem.
    pub(crate) fn come_back(&mut self, how: Failure, patience: Duration) -> bool {
        match self {
            Disk::Image(fs) if how == Failure::Pulled => fs.replug(),
            Disk::Image(fs) => return wait::within(patience, || fs.lives_again().then_some(())).is_some(),
            Disk::Server(server) if how == Failure::Stopped => server.signal(Signal::CONT),
            Disk::Server(server) => server.restart(),
        }
        true
    }

    /// What a process has open on it.
    pub(crate) fn opened_by(&self, pid: u32) -> Vec<String> {
        let dev = |path: &Path| std::fs::metadata(path).map(|meta| std::os::unix::fs::MetadataExt::dev(&meta)).ok();
        let mine = dev(self.tier().parent().expect("below the mount point"));
        let opened = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let opened = opened.map(|entry| entry.path()).filter(|path| dev(path) == mine);
        let told = |path: &Path| std::fs::read_to_string(path.to_string_lossy().replace("/fd/", "/fdinfo/"));
        opened.map(|path| format!("{path:?} is {:?}: {:?}", std::fs::read_link(&path), told(&path))).collect()
    }

    /// No daemon is stopped any more.
    pub(crate) fn go_on(&self) {
        if let Disk::Server(server) = self {
            server.signal(Signal::CONT);
        }
    }

    /// Makes all that is on it durable.
    pub(crate) fn sync(&self) {
        if let Disk::Image(fs) = self {
            fs.sync();
        }
    }
}

/// A directory shown by a daemon that can be stopped.
#[derive(Debug)]
pub(crate) struct Server {
    daemon: Child,
    home: TempDir,
}

impl Server {
    fn start() -> Option<Server> {
        let [_bindfs] = need::programs(["bindfs"])?;
        let home = mount::temp_dir();
        for name in ["from", "at"] {
            std::fs::create_dir(home.path().join(name)).expect("mkdir");
        }
        let daemon = Server::run(home.path());
        Some(Server { daemon, home })
    }

    fn at(&self) -> PathBuf {
        self.home.path().join("at")
    }

    fn run(home: &Path) -> Child {
        let (from, at) = (home.join("from"), home.join("at"));
        let mut command = Command::new("bindfs");
        let daemon = command.arg("-f").arg(from).arg(&at).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        wait::until("the server serves", || mount::is_mounted(&at).then_some(()));
        daemon.expect("bindfs")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.daemon), signal).expect("kill");
    }

    fn restart(&mut self) {
        self.end();
        self.daemon = Server::run(self.home.path());
    }

    fn end(&mut self) {
        self.daemon.kill().expect("kill");
        self.daemon.wait().expect("wait");
        let _not_mounted = rustix::mount::unmount(self.at(), rustix::mount::UnmountFlags::DETACH);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
