//! Real changes on real filesystems, made by other processes and by this one.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::sys::tree::private_clone;

/// Longer than any change takes to be told.
const PATIENCE: Duration = Duration::from_secs(60);

type Told = (u64, Option<String>, What, bool);

struct Recorder(Mutex<Sender<Told>>);

impl Listener for Recorder {
    fn changed(&self, change: &Change<'_>) {
        let dir = File::from(change.dir.try_clone_to_owned().unwrap()).metadata().unwrap().ino();
        let name = change.name.map(|name| String::from_utf8_lossy(name).into_owned());
        drop(self.0.lock().send((dir, name, change.what, change.is_dir)));
    }

    fn lost(&self) {
        panic!("nothing may be lost");
    }
}

fn recorder() -> (Arc<dyn Listener>, Receiver<Told>) {
    let (sender, told) = channel();
    (Arc::new(Recorder(Mutex::new(sender))), told)
}

/// Waits until everything in `expected` was told of; returns all that was told.
fn wait_for(told: &Receiver<Told>, expected: &[(&Path, Option<&str>, What, bool)]) -> Vec<Told> {
    let expected: Vec<Told> = expected
        .iter()
        .map(|(dir, name, what, is_dir)| (fs::metadata(dir).unwrap().ino(), name.map(str::to_owned), *what, *is_dir))
        .collect();
    let mut all = Vec::new();
    let end = Instant::now() + PATIENCE;
    while !expected.iter().all(|e| all.contains(e)) {
        match told.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(one) => all.push(one),
            Err(_) => panic!("wanted {expected:?}\ngot {all:?}"),
        }
    }
    all
}

fn shell(dir: &Path, script: &str) {
    assert!(Command::new("/bin/sh").args(["-ec", script]).current_dir(dir).status().unwrap().success());
}

fn open(dir: &Path) -> File {
    File::open(dir).unwrap()
}

fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// A filesystem of its own, unmounted when dropped.
struct Mounted {
    dir: TempDir,
    _image: TempDir,
}

impl Mounted {
    fn new(mkfs: &[&str]) -> Option<Mounted> {
        let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let file = image.path().join("image");
        File::create(&file).unwrap().set_len(512 << 20).unwrap();
        let ran = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
        let made = ran(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&file));
        let mounted = made && ran(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(dir.path()));
        mounted.then_some(())?;
        Some(Mounted { dir, _image: image })
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let umount = |args: &[&str]| Command::new("umount").args(args).arg(self.dir.path()).status();
        // A child that another test starts has copies of what is open here until it runs its program.
        let end = Instant::now() + PATIENCE;
        while !umount(&[]).is_ok_and(|status| status.success()) {
            if Instant::now() > end {
                drop(umount(&["-l"]));
                assert!(std::thread::panicking(), "something still holds the filesystem");
                break;
            }
            std::thread::sleep(NAP);
        }
    }
}

/// A watch on the directories `tiers`, or `None` where fanotify is not allowed.
fn watch_whole(tiers: &[&Path], listener: Arc<dyn Listener>) -> Option<Watch> {
    let files: Vec<File> = tiers.iter().map(|dir| open(dir)).collect();
    let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let watch = start(&fds, &[], listener).unwrap();
    if watch.coverage().iter().all(|c| *c == Coverage::Watched) {
        return Some(watch);
    }
    skipped("fanotify needs CAP_SYS_ADMIN");
    None
}

/// Each kind of change, by another process, with the directory and name it is told by.
fn every_change_is_told(base: &Path) {
    let tier = tempfile::tempdir_in(base).unwrap();
    let (root, sub) = (tier.path(), tier.path().join("sub"));
    fs::create_dir(&sub).unwrap();
    fs::write(sub.join("old"), "1").unwrap();
    fs::write(sub.join("still"), "1").unwrap();
    let (listener, told) = recorder();
    let Some(watch) = watch_whole(&[root], listener) else { return };
    shell(root, "touch new; mkdir dir; echo 2 >>sub/old; chmod 700 sub/still; chmod 700 sub");
    shell(root, "mv sub/old sub/moved; rm new; rmdir dir");
    let mut all = wait_for(
        &told,
        &[
            (root, Some("new"), What::Entry, false),
            (root, Some("dir"), What::Entry, true),
            (&sub, Some("old"), What::Data, false),
            (&sub, Some("still"), What::Attributes, false),
            (&sub, Some("old"), What::Entry, false),
            (&sub, Some("moved"), What::Entry, false),
        ],
    );
    shell(root, "touch last");
    all.extend(wait_for(&told, &[(root, Some("last"), What::Entry, false)]));
    let itself = (fs::metadata(&sub).unwrap().ino(), None, What::Attributes, true);
    let by_parent = (fs::metadata(root).unwrap().ino(), Some("sub".to_owned()), What::Attributes, true);
    assert!(all.contains(&itself) || all.contains(&by_parent), "chmod of a directory: {all:?}");
    drop(watch);
}

#[test]
fn every_change_is_told_on_tmpfs() {
    every_change_is_told(Path::new("/dev/shm"));
}

#[test]
fn every_change_is_told_on_ext4_xfs_and_btrfs() {
    for mkfs in [&["mkfs.ext4", "-q"][..], &["mkfs.xfs", "-q"], &["mkfs.btrfs", "-q"]] {
        match Mounted::new(mkfs) {
            Some(mounted) => every_change_is_told(&mounted.path()),
            None => skipped(mkfs[0]),
        }
    }
}

#[test]
fn a_btrfs_subvolume_is_left_to_inotify() {
    let Some(mounted) = Mounted::new(&["mkfs.btrfs", "-q"]) else { return skipped("mkfs.btrfs") };
    let sub = mounted.path().join("volume");
    let made = Command::new("btrfs").args(["subvolume", "create"]).arg(&sub).output();
    if !made.is_ok_and(|out| out.status.success()) {
        return skipped("btrfs subvolume create");
    }
    let (listener, told) = recorder();
    let dir = open(&sub);
    let watch = start(&[dir.as_fd()], &[], listener).unwrap();
    assert_eq!(watch.coverage(), [Coverage::ByDirectory]);
    assert_eq!(watch.learn(Rank(0), dir.as_fd()), Coverage::Watched);
    shell(&sub, "touch new");
    wait_for(&told, &[(&sub, Some("new"), What::Entry, false)]);
}

#[test]
fn two_tiers_of_one_filesystem_and_one_of_another_are_told_apart() {
    let (a, b) = (tempfile::tempdir_in("/dev/shm").unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
    let Some(mounted) = Mounted::new(&["mkfs.ext4", "-q"]) else { return skipped("mkfs.ext4") };
    let c = mounted.path();
    let (listener, told) = recorder();
    let Some(_watch) = watch_whole(&[a.path(), b.path(), &c], listener) else { return };
    for dir in [a.path(), b.path(), &c] {
        shell(dir, "touch same");
    }
    let wanted = [a.path(), b.path(), &c].map(|dir| (dir, Some("same"), What::Entry, false));
    let all = wait_for(&told, &wanted);
    for (dir, name, what, _) in wanted {
        let ino = fs::metadata(dir).unwrap().ino();
        let times = all.iter().filter(|t| t.0 == ino && t.1.as_deref() == name && t.2 == what).count();
        assert_eq!(times, 1, "{dir:?}: {all:?}");
    }
}

/// What is told of a file that this process writes and renames.
fn told_of_own(tier: &Path, told: &Receiver<Told>, round: usize) -> Vec<Told> {
    fs::write(tier.join("own"), "x").unwrap();
    fs::rename(tier.join("own"), tier.join("own2")).unwrap();
    let mut all = Vec::new();
    for mark in ["first", "second"] {
        let mark = format!("{mark}{round}");
        shell(tier, &format!("touch {mark}"));
        all.extend(wait_for(told, &[(tier, Some(&mark), What::Entry, false)]));
    }
    all.retain(|t| t.1.as_deref().is_some_and(|name| name.starts_with("own")));
    all
}

/// Not each time: a process that another test starts has our descriptor until it is another program, and
/// the last to close a file that was written is told of.
#[test]
fn changes_of_this_process_are_not_told() {
    let tier = tempfile::tempdir_in("/dev/shm").unwrap();
    let (listener, told) = recorder();
    let Some(_watch) = watch_whole(&[tier.path()], listener) else { return };
    let rounds: Vec<_> = (0..5).map(|round| told_of_own(tier.path(), &told, round)).collect();
    let closed: fn(&Told) -> bool = |told| told.2 == What::Data;
    assert!(rounds.iter().any(Vec::is_empty) && rounds.iter().flatten().all(closed), "{rounds:?}");
}

/// A program that holds `log` in a directory open and appends a line whenever it is asked to.
struct Appender(Child);

impl Appender {
    /// `wrap` runs the shell, `env` if nothing else is needed.
    fn start(dir: &Path, wrap: &[&str]) -> Appender {
        let script = "exec >>log; while read line; do echo line; done";
        let mut command = Command::new(wrap[0]);
        command.args(&wrap[1..]).args(["/bin/sh", "-c", script]).current_dir(dir).stdin(Stdio::piped());
        Appender(command.spawn().unwrap())
    }

    fn append(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Appends until that is told by the inode number of the directory.
    fn append_until_told(&mut self, told: &Receiver<Told>, dir: u64) {
        let wanted: Told = (dir, Some("log".to_owned()), What::Data, false);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.append();
            match told.recv_timeout(Duration::from_millis(100)) {
                Ok(one) if one == wanted => return,
                Ok(_) | Err(_) => {}
            }
        }
        panic!("nothing was told of a file that is still open");
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// A directory bound to another place until dropped.
struct Bound(TempDir);

impl Bound {
    fn new(dir: &Path) -> Bound {
        let at = tempfile::tempdir().unwrap();
        assert!(Command::new("mount").arg("--bind").args([dir, at.path()]).status().unwrap().success());
        Bound(at)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

fn inode(dir: &Path) -> u64 {
    fs::metadata(dir).unwrap().ino()
}

#[test]
fn a_file_that_stays_open_is_told_at_each_write() {
    let tier = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(tier.path().join("log"), "").unwrap();
    let (listener, told) = recorder();
    let Some(_watch) = watch_whole(&[tier.path()], listener) else { return };
    let mut appender = Appender::start(tier.path(), &["env"]);
    appender.append();
    wait_for(&told, &[(tier.path(), Some("log"), What::Data, false)]);
}

#[test]
fn writes_through_a_private_clone_are_not_told_and_others_are() {
    let tier = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = open(tier.path());
    let Ok(clone) = private_clone(root.as_fd()) else { return skipped("open_tree needs CAP_SYS_ADMIN") };
    // By another process: a child of another test would keep what is opened here, and close it under the watch.
    shell(tier.path(), ": >passed; : >log");
    let (listener, told) = recorder();
    let _watch = start(&[root.as_fd()], &[clone.as_fd()], listener).unwrap();
    // Another process's writes, as passthrough's are.
    let through = format!("/proc/{}/fd/{}", std::process::id(), clone.as_raw_fd());
    shell(Path::new(&through), "exec >>passed; echo 1; echo 2");
    shell(tier.path(), "echo 1 >>log");
    let mut all = wait_for(&told, &[(tier.path(), Some("log"), What::Data, false)]);
    shell(tier.path(), "touch last");
    all.extend(wait_for(&told, &[(tier.path(), Some("last"), What::Entry, false)]));
    assert!(!all.iter().any(|t| t.1.as_deref() == Some("passed")), "{all:?}");
}

#[test]
fn writes_through_other_mounts_are_told_whenever_those_were_made() {
    let tier = tempfile::tempdir_in("/dev/shm").unwrap();
    let before = Bound::new(tier.path());
    let (listener, told) = recorder();
    let Some(_watch) = watch_whole(&[tier.path()], listener) else { return };
    Appender::start(before.0.path(), &["env"]).append_until_told(&told, inode(tier.path()));
    while told.recv_timeout(NAP * 10).is_ok() {}
    let after = Bound::new(tier.path());
    Appender::start(after.0.path(), &["env"]).append_until_told(&told, inode(tier.path()));
}

#[test]
fn writes_from_another_mount_namespace_are_told() {
    let tier = tempfile::tempdir_in("/dev/shm").unwrap();
    let (listener, told) = recorder();
    let Some(_watch) = watch_whole(&[tier.path()], listener) else { return };
    Appender::start(tier.path(), &["unshare", "--mount"]).append_until_told(&told, inode(tier.path()));
}

#[test]
fn a_size_set_by_path_is_told() {
    let tier = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(tier.path().join("cut"), "long").unwrap();
    let (listener, told) = recorder();
    let Some(_watch) = watch_whole(&[tier.path()], listener) else { return };
    // truncate(2) of a path opens nothing, so no close follows.
    shell(tier.path(), "perl -e 'truncate(\"cut\", 1)'");
    wait_for(&told, &[(tier.path(), Some("cut"), What::Data, false)]);
}

#[test]
fn a_learned_directory_is_told_of_through_inotify_even_after_it_was_renamed() {
    let tier = tempfile::tempdir().unwrap();
    let (sub, moved) = (tier.path().join("sub"), tier.path().join("moved"));
    fs::create_dir(&sub).unwrap();
    let (listener, told) = recorder();
    let learned = Learned::start(listener).unwrap().unwrap();
    let dir = open(&sub);
    assert_eq!(learned.add(dir.as_fd()), Coverage::Watched);
    assert_eq!(learned.add(dir.as_fd()), Coverage::Watched, "twice is once");
    fs::rename(&sub, &moved).unwrap();
    shell(&moved, "echo 1 >file; chmod 600 file; mv file other; mkdir dir");
    wait_for(
        &told,
        &[
            (&moved, Some("file"), What::Entry, false),
            (&moved, Some("file"), What::Data, false),
            (&moved, Some("other"), What::Entry, false),
            (&moved, Some("dir"), What::Entry, true),
        ],
    );
}

#[test]
fn a_deleted_directory_is_given_up() {
    let tier = tempfile::tempdir().unwrap();
    let sub = tier.path().join("sub");
    fs::create_dir(&sub).unwrap();
    let (listener, told) = recorder();
    let learned = Learned::start(listener).unwrap().unwrap();
    assert_eq!(learned.add(open(tier.path()).as_fd()), Coverage::Watched);
    assert_eq!(learned.add(open(&sub).as_fd()), Coverage::Watched);
    shell(tier.path(), "rmdir sub");
    let mut told_dir = wait_for(&told, &[(tier.path(), Some("sub"), What::Entry, true)]);
    shell(tier.path(), "touch after");
    told_dir.extend(wait_for(&told, &[(tier.path(), Some("after"), What::Entry, false)]));
    // "after" is told in a later batch, and the one with "sub" was followed by the pruning.
    assert_eq!(learned.count(), 1, "{told_dir:?}");
}

#[test]
fn proc_is_remote_or_unsupported_and_says_so() {
    let dir = open(Path::new("/proc/self"));
    let (listener, _told) = recorder();
    let watch = start(&[dir.as_fd()], &[], listener).unwrap();
    assert_ne!(watch.coverage(), [Coverage::Watched]);
    assert!(is_remote(0x6969) && is_remote(0x6573_5546) && !is_remote(0xef53));
    assert!(is_remote(i64::from(0xff53_4d42_u32.cast_signed())), "also where f_type is a negative 32 bit number");
}

#[test]
fn dropping_ends_the_threads_at_once() {
    let tier = tempfile::tempdir_in("/dev/shm").unwrap();
    let (listener, told) = recorder();
    let dir = open(tier.path());
    let watch = start(&[dir.as_fd()], &[], Arc::clone(&listener)).unwrap();
    let learned = Learned::start(listener).unwrap().unwrap();
    assert_eq!(learned.add(dir.as_fd()), Coverage::Watched);
    let begun = Instant::now();
    drop(watch);
    drop(learned);
    // They wait for nothing: this is for a machine that is busy.
    assert!(begun.elapsed() < PATIENCE);
    drop(dir);
    // Every sender is gone with the threads. Others may have used the filesystem meanwhile.
    let end = loop {
        if let Err(end) = told.recv_timeout(PATIENCE) {
            break end;
        }
    };
    assert_eq!(end, RecvTimeoutError::Disconnected);
}
