//! Requests that wait for one that waits for a tier which does not answer: at a gate that a move has closed,
//! for a lock, in a close.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::common::fs::{errno, get, put};
use crate::common::loopfs::LoopFs;
use crate::common::mount::{Setup, TestMount};
use crate::common::{need, wait};
use crate::gone::{everything, until_back, until_same};
use crate::hang::Server;

/// Threads of these mounts, and of requests that wait there are more.
const THREADS: &str = "threads=4";
const MORE: usize = 10;

/// Directories of the primary alone that share a gate, of which there are 64: as many as numbers fall where they like.
const SAME: usize = MORE + 2;

/// A mount whose secondary is on a server that can be stopped.
fn union(timeout: &str) -> Option<(TestMount, Server)> {
    if !need::root() {
        return None;
    }
    let setup = Setup::new().plain().option(timeout).option(THREADS).option("ttl=60s");
    let mut server = Server::start(setup.home())?;
    // Of its own: where many others write, the kernel drops what changed there, and all names are looked up again,
    // on the server too.
    let disk = LoopFs::new("tmpfs", 256)?;
    let setup = {
        let roots = [disk.path().join("t0"), setup.tier(1).to_owned()];
        setup.roots(&roots)
    };
    server.disk = Some(disk);
    let setup = setup.seed(|tiers| {
        put(tiers[0].join("fast"), "fast");
        put(tiers[1].join("slow/file"), "slow");
        put(tiers[1].join("moves/other"), "so that the directory is there");
        for at in 0..MORE {
            put(tiers[1].join(format!("slow/dir{at}/file")), format!("slow {at}"));
        }
    });
    Some((setup.mount()?, server))
}

/// What others do goes on.
fn check_goes_on(mount: &TestMount) {
    for _ in 0..20 {
        assert_eq!(get(mount.path("fast")), "fast");
    }
}

/// A program that is traced, and acted upon at some of its system calls, until this is dropped.
struct Traced(Child, tempfile::NamedTempFile);

impl Traced {
    fn new(pid: u32, arguments: &[String]) -> Option<Traced> {
        let [_strace] = need::programs(["strace"])?;
        let log = tempfile::NamedTempFile::new().expect("a file");
        let mut command = Command::new("strace");
        command.arg("-f").args(arguments).arg("-p").arg(pid.to_string());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.reopen().expect("reopen")).spawn();
        let traced = Traced(child.expect("strace"), log);
        wait::until("strace has attached", || traced.log().contains(&format!("{pid} attached")).then_some(()));
        Some(traced)
    }

    /// What strace has said.
    fn log(&self) -> String {
        get(self.1.path())
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

/// The server stops as it looks for `moves/file` for the second time: within a move, where gates are closed.
fn stop_in_a_move(server: &Server) -> Option<Traced> {
    let arguments = ["-P", "moves/file", "-e", "trace=lstat,newfstatat,statx"];
    let inject = ["-e", "inject=lstat,newfstatat,statx:signal=SIGSTOP:when=2"];
    let arguments: Vec<_> = arguments.into_iter().chain(inject).map(str::to_owned).collect();
    Traced::new(server.daemon.id(), &arguments)
}

/// A run that hangs in the middle of moving `moves/file`, with the gate of its directory closed.
struct Hanging {
    run: Child,
    traced: Option<Traced>,
}

impl Hanging {
    fn begin(mount: &TestMount, server: &Server) -> Option<Hanging> {
        let traced = stop_in_a_move(server)?;
        let mut command = mount.tierfs_with(&["migrate", "--older-than", "0s"]);
        let run = command.arg(mount.path("moves")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
        wait::until("the server has stopped", || traced.log().contains("stopped by SIGSTOP").then_some(()));
        Some(Hanging { run, traced: Some(traced) })
    }

    /// The server goes on, and so does the run, to whatever end.
    fn end(&mut self, server: &Server) {
        self.traced = None;
        server.signal(Signal::CONT);
        wait::until("the run ends", || self.run.try_wait().expect("wait"));
    }
}

/// Makes directories that share the gate of the one in which something moves, and others.
fn same_gate(mount: &TestMount) -> Vec<PathBuf> {
    let gate = |path: &PathBuf| std::fs::metadata(path).expect("attributes").ino() % 64;
    let moves = gate(&mount.path("moves"));
    let made = (0..).map(|at| {
        // Through the mount: what is told of changes beside it comes late, and has names looked up again.
        put(mount.path(format!("d{at}/file")), "x");
        mount.path(format!("d{at}"))
    });
    made.filter(|dir| gate(dir) == moves).take(SAME).collect()
}

fn union_with_move(timeout: &str) -> Option<(TestMount, Server)> {
    loop {
        let (mount, server) = union(timeout)?;
        // With the root behind the same gate nothing at all could be looked at until the tier is given up.
        let gate = |path: PathBuf| std::fs::metadata(path).expect("attributes").ino() % 64;
        if gate(mount.path("moves")) != gate(mount.root()) {
            put(mount.path("moves/file"), "a file that moves");
            return Some((mount, server));
        }
        let setup = mount.unmount();
        drop((server, setup));
    }
}

/// Of as many requests as there are threads, each waiting at the gate, the mount stood still, and nobody had
/// an answer until the server was back.
#[test]
fn requests_at_a_gate_that_a_hanging_move_has_closed_keep_nobody_and_are_answered() {
    let Some((mount, server)) = union_with_move("tier_timeout=6s") else { return };
    let same = same_gate(&mount);
    let before = everything(&mount.root());
    let Some(mut hanging) = Hanging::begin(&mount, &server) else { return };
    std::thread::scope(|scope| {
        let asking: Vec<_> = same
            .iter()
            .map(|dir| scope.spawn(|| std::fs::symlink_metadata(dir.join("never looked for")).map(drop)))
            .collect();
        let changing: Vec<_> =
            same.iter().map(|dir| (dir, scope.spawn(|| std::fs::create_dir(dir.join("new"))))).collect();
        check_goes_on(&mount);
        for asked in asking {
            assert_eq!(errno(asked.join().expect("no panic")), Errno::IO);
        }
        check_goes_on(&mount);
        hanging.end(&server);
        for (dir, made) in changing {
            let made = made.join().expect("no panic");
            assert_eq!(dir.join("new").exists(), made.is_ok(), "{made:?}");
            let _not_made = std::fs::remove_dir(dir.join("new"));
        }
    });
    until_back(&mount);
    until_same(&mount, &before);
    put(mount.path("moves/file"), "written again");
    assert_eq!(get(mount.path("moves/file")), "written again");
    let output = wait::output(mount.tierfs_with(&["check"]).arg(mount.root()));
    assert!(output.status.success(), "{output:?}");
    let setup = mount.unmount();
    drop((server, setup));
}

/// The end of a mount waited for its run, and so for the server.
#[test]
fn a_mount_whose_run_hangs_ends_and_what_was_cut_short_is_brought_to_rest_by_the_next() {
    let Some((mount, server)) = union_with_move("tier_timeout=5s") else { return };
    let Some(mut hanging) = Hanging::begin(&mount, &server) else { return };
    wait::until("it is known", || mount.log().contains("not answering").then_some(()));
    let log = mount.home().join("log");
    let unmounting = std::thread::spawn(move || mount.unmount());
    wait::until("the process says that it ends", || get(&log).contains("has been waiting for").then_some(()));
    assert!(get(&log).contains("for the secondary ("), "{}", get(&log));
    hanging.end(&server);
    let setup = unmounting.join().expect("it has ended well");
    let Ok(mount) = setup.try_mount() else { panic!("it cannot be mounted again") };
    assert_eq!(get(mount.path("moves/file")), "a file that moves");
    let output = wait::output(mount.tierfs_with(&["check"]).arg(mount.root()));
    assert!(output.status.success(), "{output:?}");
    let setup = mount.unmount();
    drop((server, setup));
}

/// Who lists a directory holds its list; the next who reads it waited for ever behind one that hangs.
#[test]
fn a_listing_that_waits_for_one_that_hangs_is_answered() {
    let Some((mount, server)) = union("tier_timeout=5s") else { return };
    let before = everything(&mount.root());
    let folders: Vec<_> = (0..MORE)
        .map(|at| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            rustix::fs::open(mount.path(format!("slow/dir{at}")), flags, Mode::empty()).expect("open")
        })
        .collect();
    server.signal(Signal::STOP);
    let read = |folder: &rustix::fd::OwnedFd| {
        let mut space = [std::mem::MaybeUninit::uninit(); 4096];
        RawDir::new(folder.as_fd(), &mut space).next().map(|entry| entry.map(drop))
    };
    for _ in 0..2 {
        std::thread::scope(|scope| {
            let reading: Vec<_> = folders.iter().map(|folder| scope.spawn(|| read(folder))).collect();
            check_goes_on(&mount);
            for read in reading {
                assert_eq!(read.join().expect("no panic"), Some(Err(Errno::IO)));
            }
        });
    }
    server.signal(Signal::CONT);
    until_back(&mount);
    drop(folders);
    until_same(&mount, &before);
    let setup = mount.unmount();
    drop((server, setup));
}

/// How strace is to know the files of the server, which the daemon sees in its own view of the mount, if it has one.
fn paths(mount: &TestMount, names: &[String]) -> Vec<String> {
    let seen = names.iter().flat_map(|name| [mount.tier(1, name).display().to_string(), format!("/{name}")]);
    seen.flat_map(|path| ["-P".to_owned(), path]).collect()
}

/// A full server may say so only at the close, which was not passed on: `mv` then took its source away.
#[test]
fn what_a_server_says_at_a_close_is_told_to_who_has_written() {
    let Some((mount, server)) = union("tier_timeout=30s") else { return };
    let path = mount.path("slow/file");
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/zero", "bs=10", "count=1", "oflag=append", "conv=notrunc"]);
    dd.arg(format!("of={}", path.display())).env("LC_ALL", "C");
    let arguments = ["-e", "trace=close", "-e", "inject=close:error=ENOSPC"].map(str::to_owned);
    let arguments = [paths(&mount, &["slow/file".to_owned()]), arguments.to_vec()].concat();
    let Some(traced) = Traced::new(mount.pid(), &arguments) else { return };
    assert_eq!(get(&path), "slow", "who has only read is told nothing");
    let refused = wait::output(&mut dd);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("No space left on device"), "{told}{}", traced.log());
    drop(traced);
    assert!(wait::output(&mut dd).status.success());
    assert_eq!(get(&path).len(), "slow".len() + 20, "what was written is there all the same");
    let setup = mount.unmount();
    drop((server, setup));
}

/// A server's file is written out at its close, which may take as long as the server is away.
#[test]
fn more_closes_than_threads_that_do_not_come_back_keep_nobody() {
    let Some((mount, server)) = union("tier_timeout=30s") else { return };
    let names: Vec<_> = (0..MORE).map(|at| format!("slow/dir{at}/file")).collect();
    let open: Vec<_> = names.iter().map(|name| std::fs::File::open(mount.path(name)).expect("open")).collect();
    let inject = ["-e", "trace=close", "-e", "inject=close:delay_enter=600s"].map(str::to_owned);
    let arguments = [paths(&mount, &names), inject.to_vec()].concat();
    let Some(traced) = Traced::new(mount.pid(), &arguments) else { return };
    drop(open);
    wait::until("as many close as there are threads", || (traced.log().matches("close(").count() >= 4).then_some(()));
    check_goes_on(&mount);
    drop(traced);
    let setup = mount.unmount();
    drop((server, setup));
}
