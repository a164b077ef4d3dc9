//! Moves all files of a mount to and fro while a program works there, and proves that it did.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::common::loopfs::LoopFs;
use crate::common::mount::TestMount;
use crate::common::wait;
use crate::kit::{Ran, files, migrate, nothing_left_behind, on, recall};

/// A program that has not met so many moves after this time never will.
const LIMIT: Duration = Duration::from_secs(300);

/// What the mover has done so far.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    down: AtomicU64,
    up: AtomicU64,
    runs: AtomicU64,
    stop: AtomicBool,
    failed: AtomicBool,
}

/// Ends the mover, also when the test panics; notes when the mover itself does.
struct Ending<'a> {
    moves: &'a Moves,
    mover: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.moves.stop.store(true, Relaxed);
        if self.mover && std::thread::panicking() {
            self.moves.failed.store(true, Relaxed);
        }
    }
}

impl Moves {
    /// Does `work` at least `times` times, and goes on until so many files have moved under it each way.
    pub(crate) fn rounds(&self, times: usize, least: u64, mut work: impl FnMut(usize)) {
        let counts = || (self.down.load(Relaxed), self.up.load(Relaxed));
        let (before, began) = (counts(), Instant::now());
        let few = || {
            let now = counts();
            (now.0 - before.0).min(now.1 - before.1) < least
        };
        let mut round = 0;
        while round < times || few() {
            assert!(!self.failed.load(Relaxed), "moving has failed");
            assert!(round < times || began.elapsed() < LIMIT, "few files move: {:?}", counts());
            work(round);
            round += 1;
        }
    }

    /// Leaves everything alone until another run has ended: what is never at rest never moves.
    pub(crate) fn rest(&self) {
        let before = self.runs.load(Relaxed);
        let more = || (self.runs.load(Relaxed) > before || !self.going_on()).then_some(());
        assert!(wait::within(LIMIT, more).is_some(), "a run does not end");
    }

    /// Whether the mover still has something to do.
    pub(crate) fn going_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    fn make(&self, mount: &TestMount) {
        let _ending = Ending { moves: self, mover: true };
        let moved = |ran: &Ran, counter: &AtomicU64| {
            assert_eq!((ran.code, ran.count("failed")), (Some(0), 0), "{ran:?}");
            counter.fetch_add(ran.count("moved"), Relaxed);
            self.runs.fetch_add(1, Relaxed);
        };
        while self.going_on() {
            moved(&migrate(mount, &[]), &self.down);
            moved(&recall(mount, ""), &self.up);
        }
    }
}

/// Runs `work` while all files go down and come up again and again.
pub(crate) fn while_moving<T>(mount: &TestMount, work: impl FnOnce(&Moves) -> T) -> T {
    let moves = Moves::default();
    let answer = std::thread::scope(|scope| {
        let ending = Ending { moves: &moves, mover: false };
        scope.spawn(|| moves.make(mount));
        let answer = work(&moves);
        drop(ending);
        answer
    });
    let (down, up) = (moves.down.load(Relaxed), moves.up.load(Relaxed));
    eprintln!("{}: {down} files moved down and {up} up", std::thread::current().name().unwrap_or("?"));
    assert!(down > 0 && up > 0, "too little was tried: {down} {up}");
    answer
}

/// Everything is on the slow tier afterwards; nothing may be in use.
#[track_caller]
pub(crate) fn all_down(mount: &TestMount) {
    let ran = settled(|| migrate(mount, &[]));
    assert_eq!(files(&mount.roots()[0]), Vec::<std::path::PathBuf>::new(), "{ran:?}");
}

/// Everything is on the fast tier afterwards.
#[track_caller]
pub(crate) fn all_up(mount: &TestMount) {
    let ran = settled(|| recall(mount, ""));
    assert_eq!(files(&mount.roots()[1]), Vec::<std::path::PathBuf>::new(), "{ran:?}");
}

/// Again while files are in use: the kernel tells of a close a moment later.
fn settled(run: impl Fn() -> Ran) -> Ran {
    wait::until("no file is in use", || {
        let ran = run().ends(0);
        ran.skipped().is_empty().then_some(ran)
    })
}

/// Nothing is left of the moves once the mount has ended.
pub(crate) fn ends_clean(mount: TestMount) {
    let roots = mount.roots().to_vec();
    let _kept = mount.unmount();
    nothing_left_behind(&roots);
}

/// A mount of two such filesystems with these options.
pub(crate) fn over(kinds: [&'static str; 2], size_mib: u64, options: &[&str]) -> Option<([LoopFs; 2], TestMount)> {
    let (tiers, setup) = on(kinds, size_mib)?;
    Some((tiers, options.iter().fold(setup, |setup, option| setup.option(option)).mount()?))
}

/// A mount of an ext4 over an xfs.
pub(crate) fn on_disks(size_mib: u64, options: &[&str]) -> Option<([LoopFs; 2], TestMount)> {
    over(["ext4", "xfs"], size_mib, options)
}

/// Runs a command that must succeed, and returns what it prints.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
