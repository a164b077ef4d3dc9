//! Programs write, rename and remove the very files that a loop of migrations and recalls moves to
//! and fro. Each thread knows what it was told is written, and finds all of it after each step.
//!
//! The work is bounded by operations; `TIERFS_SOAK_SECONDS` bounds it by time instead, for long runs
//! by hand.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::common::fs::{ino, names, put};
use crate::common::mount::{Setup, TestMount};
use crate::common::user::User;
use crate::common::{need, wait};
use crate::kit::{Ran, nothing_left_behind, on, pattern, recall, tierfs};
use crate::owner::{Own, Writer, compare, compare_open, map_write, ok, overwrite};
use crate::rng::Rng;

/// Operations of each thread that writes, where no time is given.
const OPERATIONS: usize = 200;

/// Files that never change, and those of each thread that writes.
const STABLE: usize = 96;
pub(crate) const OWN: usize = 6;

/// Moves of written files each way that must have been made before the writers end.
const MOVES: u64 = 25;

/// When it ends, and how much has moved.
pub(crate) struct Soak<'a> {
    pub(crate) mount: &'a TestMount,
    until: Option<Instant>,
    stop: AtomicBool,
    failed: AtomicBool,
    working: AtomicUsize,
    down: AtomicU64,
    up: AtomicU64,
    seen: AtomicU64,
    runs: AtomicU64,
}

/// Ends the others when its thread panics.
pub(crate) struct Alarm<'a, 'b>(pub(crate) &'a Soak<'b>);

impl Drop for Alarm<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Relaxed);
            self.0.stop.store(true, Relaxed);
        }
    }
}

impl Soak<'_> {
    /// Whether a thread that has done so much goes on.
    pub(crate) fn on(&self, done: usize) -> bool {
        let few = || self.down.load(Relaxed).min(self.up.load(Relaxed)) < MOVES;
        let more = self.until.map_or_else(|| done < OPERATIONS || few(), |until| Instant::now() < until);
        more && !self.failed.load(Relaxed)
    }

    /// Counts a writer off; the last one ends those that only read.
    pub(crate) fn end_writer(&self) {
        if self.working.fetch_sub(1, Relaxed) == 1 {
            self.stop.store(true, Relaxed);
        }
    }

    /// Does something over and over until one more run has ended, and a little longer, so that the
    /// next change comes at any moment of the next run.
    pub(crate) fn rest(&self, rng: &mut Rng, mut meanwhile: impl FnMut(&mut Rng)) {
        if rng.below(12) > 0 {
            return;
        }
        let before = self.runs.load(Relaxed);
        while self.runs.load(Relaxed) == before && !self.failed.load(Relaxed) {
            meanwhile(rng);
        }
        for _ in 0..rng.below(20) {
            meanwhile(rng);
        }
    }

    fn running(&self) -> bool {
        !self.stop.load(Relaxed)
    }
}

fn stable(at: usize) -> (PathBuf, Vec<u8>) {
    let length = [0, 1, 511, 4096, 5000, 65_536, 200_001, 1 << 20][at / 3 % 8];
    (PathBuf::from(format!("stable/d{}/f{at}", at % 3)), pattern(at as u64, 0, length))
}

fn all_of(file: &mut File, what: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{what}: read: {error}"));
    bytes
}

/// Opens, looks, reads and compares a file that never changes, again and again, all in one number.
fn read_stable(soak: &Soak<'_>, inos: &[u64], seed: u64) {
    let _alarm = Alarm(soak);
    let mut rng = Rng::new(seed);
    while soak.running() {
        let at = rng.below(STABLE);
        let (path, wanted) = stable(at);
        let through = soak.mount.path(&path);
        let what = format!("{} through the mount", path.display());
        let mut file = File::open(&through).unwrap_or_else(|error| panic!("{what}: open: {error}"));
        let ino = |file: &File| file.metadata().unwrap_or_else(|error| panic!("{what}: fstat: {error}")).ino();
        assert_eq!(ino(&file), inos[at], "{what}: number");
        let found = all_of(&mut file, &what);
        compare(&found, &wanted, &what);
        let shown = through.symlink_metadata().unwrap_or_else(|error| panic!("{what}: stat: {error}"));
        assert_eq!((shown.ino(), shown.len()), (inos[at], wanted.len() as u64), "{what}: stat");
        assert_eq!(ino(&file), inos[at], "{what}: number at the end");
        soak.seen.fetch_add(1, Relaxed);
    }
}

/// A file where it lies, by the rule by which the union finds it.
fn beside(mount: &TestMount, path: &Path, write: bool) -> (File, usize) {
    let mut options = File::options();
    options.read(true).write(write);
    // Between two looks it may have gone to the other tier; it cannot do so for ever.
    for _ in 0..1000 {
        for rank in [0, 1] {
            match options.open(mount.tier(rank, path)) {
                // What is open does not move; it may have gone between the look for its name and the open.
                Ok(file) if is_named(&file, &mount.tier(rank, path)) => return (file, rank),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => panic!("{} on tier {rank}: {error}", path.display()),
            }
        }
    }
    panic!("{} is on no tier", path.display());
}

fn is_named(file: &File, path: &Path) -> bool {
    let number = file.metadata().expect("fstat").ino();
    path.symlink_metadata().is_ok_and(|named| named.ino() == number)
}

/// The same beside the mount.
fn read_stable_beside(soak: &Soak<'_>, seed: u64) {
    let _alarm = Alarm(soak);
    let mut rng = Rng::new(seed);
    while soak.running() {
        let (path, wanted) = stable(rng.below(STABLE));
        let (mut file, rank) = beside(soak.mount, &path, false);
        let what = format!("{} on tier {rank}", path.display());
        compare(&all_of(&mut file, &what), &wanted, &what);
    }
}

/// Listings have each name once, whatever moves.
fn list_stable(soak: &Soak<'_>) {
    let _alarm = Alarm(soak);
    while soak.running() {
        for dir in 0..3 {
            let listed = names(soak.mount.path(format!("stable/d{dir}")));
            assert_eq!(listed.len(), STABLE / 3, "{listed:?}");
        }
    }
}

/// A writer that goes to the tiers and knows nothing of the mount.
fn write_beside(soak: &Soak<'_>, folder: &str, seed: u64) -> Vec<(PathBuf, Vec<u8>)> {
    let _alarm = Alarm(soak);
    let mut rng = Rng::new(seed);
    let mut files: Vec<(PathBuf, Vec<u8>)> = (0..OWN)
        .map(|at| (PathBuf::from(format!("{folder}/f{at}")), pattern(seed + at as u64, 0, 3000 * (at + 1))))
        .collect();
    files.iter().for_each(|(path, content)| put(soak.mount.tier(0, path), content));
    let mut done = 0;
    while soak.on(done) {
        let at = rng.below(OWN);
        let (path, content) = &mut files[at];
        let (file, rank) = beside(soak.mount, path, true);
        let data = pattern(seed << 20 | done as u64, 0, rng.below(20_000) + 1);
        match rng.below(4) {
            0 => {
                let length = rng.below(60_000);
                ok(file.set_len(length as u64), "ftruncate", path);
                content.resize(length, 0);
            }
            1 if !content.is_empty() => {
                // The open file keeps the body in place until the mapping is there.
                map_write(&soak.mount.tier(rank, &*path), content, &mut rng);
            }
            _ => {
                let offset = rng.below(content.len() + 1);
                ok(file.write_all_at(&data, offset as u64), "write", path);
                overwrite(content, offset, &data);
            }
        }
        drop(file);
        let (mut file, rank) = beside(soak.mount, path, false);
        compare(&all_of(&mut file, "beside"), content, &format!("{} on tier {rank}", path.display()));
        let through = soak.mount.path(&*path);
        // The kernel is told of what happens beside the mount a moment later.
        let seen = wait::within(wait::PATIENCE, || (std::fs::read(&through).ok()? == *content).then_some(()));
        assert!(seen.is_some(), "{}: the mount does not show what was written beside it", path.display());
        soak.rest(&mut rng, |rng| {
            let (path, content) = &files[rng.below(OWN)];
            let (mut file, rank) = beside(soak.mount, path, false);
            compare(&all_of(&mut file, "beside"), content, &format!("{} on tier {rank}", path.display()));
        });
        done += 1;
    }
    soak.end_writer();
    files
}

/// A directory that changes its name all the time, with what is in it.
fn rename_folder(soak: &Soak<'_>) {
    let _alarm = Alarm(soak);
    let wanted = pattern(99, 0, 30_000);
    let mut done = 0;
    let name = |at: usize| soak.mount.path(format!("turning/{}", ["one", "two"][at % 2]));
    put(name(0).join("deep/er/file"), &wanted);
    while soak.on(done) {
        std::fs::rename(name(done), name(done + 1)).unwrap_or_else(|error| panic!("rename a directory: {error}"));
        done += 1;
        let file = name(done).join("deep/er/file");
        let found = std::fs::read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        compare(&found, &wanted, "in a renamed directory");
    }
    soak.end_writer();
}

/// What is moved at a time: short runs meet the writers more often.
const SCOPES: [&str; 8] = ["", "own0", "own0/a", "own1", "own1/b", "beside0", "beside1", "turning"];

/// Moves files to and fro until the writers have ended.
fn move_about(soak: &Soak<'_>) {
    let _alarm = Alarm(soak);
    let mut rng = Rng::new(7);
    let moved = |ran: &Ran, counter: &AtomicU64| {
        assert_eq!((ran.code, ran.count("failed")), (Some(0), 0), "{ran:?}");
        let written = |path: &str| path.starts_with("own") || path.starts_with("beside");
        let events = ran.json().into_iter().filter(|event| event["event"] == "moved");
        counter.fetch_add(events.filter(|event| event["path"].as_str().is_some_and(written)).count() as u64, Relaxed);
        soak.runs.fetch_add(1, Relaxed);
    };
    while soak.running() {
        let verify = ["--verify=hash", "--verify=size"][rng.below(2)];
        let scope = SCOPES[rng.below(SCOPES.len())];
        let within = soak.mount.path(scope);
        let words = ["migrate", "--older-than", "0", "--json", verify].map(OsStr::new);
        moved(&tierfs(soak.mount, words.into_iter().chain([within.as_os_str()])), &soak.down);
        moved(&recall(soak.mount, scope), &soak.up);
    }
}

/// What is known of the files at the end.
struct Known {
    inos: Vec<u64>,
    own: Vec<Own>,
    beside: Vec<(PathBuf, Vec<u8>)>,
}

fn work(mount: &TestMount) -> Known {
    let seconds = std::env::var("TIERFS_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    for at in 0..STABLE {
        let (path, content) = stable(at);
        put(mount.path(path), content);
    }
    let inos: Vec<u64> = (0..STABLE).map(|at| ino(mount.path(stable(at).0))).collect();
    let soak = &Soak {
        mount,
        until: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        stop: AtomicBool::new(false),
        failed: AtomicBool::new(false),
        working: AtomicUsize::new(5),
        down: AtomicU64::new(0),
        up: AtomicU64::new(0),
        seen: AtomicU64::new(0),
        runs: AtomicU64::new(0),
    };
    let inos_of = &inos;
    let (own, beside) = std::thread::scope(|scope| {
        scope.spawn(move || read_stable(soak, inos_of, 1));
        scope.spawn(move || read_stable(soak, inos_of, 2));
        scope.spawn(move || read_stable_beside(soak, 3));
        scope.spawn(move || list_stable(soak));
        scope.spawn(move || rename_folder(soak));
        scope.spawn(move || move_about(soak));
        let through = [0, 1].map(|at| scope.spawn(move || Writer::new(soak, format!("own{at}"), 10 + at).work()));
        let beside = [0, 1].map(|at| scope.spawn(move || write_beside(soak, &format!("beside{at}"), 20 + at)));
        let own: Vec<Own> = through.into_iter().flat_map(|thread| thread.join().expect("a writer")).collect();
        let beside: Vec<_> = beside.into_iter().flat_map(|thread| thread.join().expect("a writer")).collect();
        (own, beside)
    });
    let (down, up, seen) = (soak.down.load(Relaxed), soak.up.load(Relaxed), soak.seen.load(Relaxed));
    eprintln!("{down} written files moved down and {up} up, under {seen} readings");
    assert!(down > 0 && up > 0 && seen > 0, "nothing was tried: {down} {up} {seen}");
    Known { inos, own, beside }
}

fn soak(mount: TestMount, user: Option<&User>) {
    let known = match user {
        Some(user) => user.run(|| work(&mount)),
        None => work(&mount),
    };
    let mount = mount.remount();
    match user {
        Some(user) => user.run(|| find_all(&mount, &known)),
        None => find_all(&mount, &known),
    }
    let roots = mount.roots().to_vec();
    let _kept = mount.unmount();
    nothing_left_behind(&roots);
}

fn find_all(mount: &TestMount, known: &Known) {
    for at in 0..STABLE {
        let (path, wanted) = stable(at);
        compare(&std::fs::read(mount.path(&path)).expect("read"), &wanted, "after a remount");
        assert_eq!(ino(mount.path(&path)), known.inos[at], "{path:?} after a remount");
    }
    for own in &known.own {
        compare_open(&File::open(mount.path(&own.path)).expect("open after a remount"), own);
    }
    for (path, wanted) in &known.beside {
        compare(&std::fs::read(mount.path(path)).expect("read"), wanted, "after a remount");
    }
}

/// A soak that is long must not be taken for a hang.
fn patient(setup: Setup) -> Setup {
    let seconds: u64 = std::env::var("TIERFS_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    setup.hangs_after(Duration::from_secs(seconds + 900))
}

fn soak_on(kinds: [&'static str; 2], option: &str) {
    if need::programs(["xfs_io"]).is_none() {
        return;
    }
    let Some((_tiers, setup)) = on(kinds, 1024) else { return };
    if let Some(mount) = patient(setup).option(option).mount() {
        soak(mount, None);
    }
}

/// Nobody loses a byte, sees a file gone or another's contents: ext4 over xfs, by passthrough.
#[test]
fn writers_lose_nothing_on_ext4_and_xfs() {
    soak_on(["ext4", "xfs"], "passthrough");
}

/// The same where tierfs serves the data itself.
#[test]
fn writers_lose_nothing_without_passthrough() {
    soak_on(["xfs", "ext4"], "nopassthrough");
}

/// The same from memory to btrfs.
#[test]
fn writers_lose_nothing_on_tmpfs_and_btrfs() {
    soak_on(["tmpfs", "btrfs"], "passthrough");
}

/// The same where an ordinary user mounts, migrates and writes.
#[test]
fn writers_lose_nothing_of_an_ordinary_user() {
    let Some([user, _]) = User::two() else { return };
    if need::programs(["xfs_io"]).is_none() {
        return;
    }
    let setup = patient(Setup::new()).by(&user);
    if let Some(mount) = setup.mount() {
        soak(mount, Some(&user));
    }
}
