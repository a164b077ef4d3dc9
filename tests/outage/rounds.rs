//! Rounds: work, an outage, and what is there afterwards.

use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Done, Layout};
use crate::clock::{Clock, Stopping};
use crate::common::mount::TestMount;
use crate::common::wait;
use crate::disks::{Disk, Failure};
use crate::rng::Rng;
use crate::tree;

/// How long a tier may take to be taken in again, and a thread to end. Only to tell a hang from patience.
const PATIENCE: Duration = Duration::from_secs(120);

/// Rounds on the same disks, at most.
const ROUNDS_MAX: usize = 25;

/// How a round ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// All tiers were taken in again.
    Whole,
    /// The log says that the start of another mount is needed.
    Remount,
    /// Neither.
    Stuck(String),
}

pub(crate) fn tell(line: &str) {
    if std::env::var_os("TIERFS_OUTAGE_VERBOSE").is_some() {
        let now = std::time::UNIX_EPOCH.elapsed().expect("clock");
        eprintln!("{} {line}", now.as_secs() % 86_400);
    }
}

fn pause(rng: &mut Rng, most_ms: usize) {
    let pause = Duration::from_millis(rng.below(most_ms) as u64);
    let _never = wait::within(pause, || None::<()>);
}

/// What happens to the disks, while others work.
struct Director<'a> {
    disks: &'a mut [Disk],
    mount: &'a TestMount,
    clock: &'a Clock,
    rng: Rng,
    losses: usize,
    slowest_ms: u128,
}

impl Director<'_> {
    fn direct(&mut self) -> End {
        let _stop = Stopping(self.clock);
        let (first, more) = self.choose();
        pause(&mut self.rng, 700);
        let log_before = self.mount.log().len();
        self.clock.outage();
        self.fail(&first);
        pause(&mut self.rng, 900);
        if !more.is_empty() {
            self.fail(&more);
            pause(&mut self.rng, 900);
        }
        if self.rng.below(3) > 0 {
            self.until_known(log_before);
        }
        pause(&mut self.rng, 900);
        let lost = [first, more].concat();
        let mut away = lost.clone();
        while !away.is_empty() {
            // What hangs may keep a dead filesystem busy, so it comes first.
            let hangs = away.iter().position(|(_, how)| *how == Failure::Stopped);
            let next = self.rng.below(away.len());
            let (rank, how) = away.swap_remove(hangs.unwrap_or(next));
            self.let_go(how);
            tell(&format!("tier {rank} comes back from {how:?}"));
            let back = self.disks[rank].come_back(how, PATIENCE);
            self.clock.let_go(false);
            if !back {
                let opened = [self.mount.pid(), std::process::id()].map(|pid| self.disks[rank].opened_by(pid));
                let status = wait::output(self.mount.tierfs_with(&["stats", "--json"]).arg(self.mount.root()));
                let status = String::from_utf8_lossy(&status.stdout).into_owned();
                return End::Stuck(format!("tier {rank} is dead, and somebody keeps it: {opened:#?}\n{status}"));
            }
            let most_ms = [1, 2500][self.rng.below(2)];
            pause(&mut self.rng, most_ms);
        }
        let there = Instant::now();
        let end = self.until_back(log_before, &lost);
        self.slowest_ms = there.elapsed().as_millis();
        tell(&format!("taken in after {} ms", self.slowest_ms));
        if end == End::Whole {
            self.clock.outage();
            pause(&mut self.rng, 400);
        }
        end
    }

    /// What goes at once, and what goes a moment later.
    fn choose(&mut self) -> (Vec<(usize, Failure)>, Vec<(usize, Failure)>) {
        let mut ranks: Vec<usize> = (0..self.disks.len()).collect();
        let mut next = |rng: &mut Rng| {
            let rank = ranks.swap_remove(rng.below(ranks.len()));
            (rank, self.disks[rank].choose(rng))
        };
        let first = next(&mut self.rng);
        match self.rng.below(8) {
            0 => (vec![first, next(&mut self.rng)], Vec::new()),
            1 => (vec![first], vec![next(&mut self.rng)]),
            _ => (vec![first], Vec::new()),
        }
    }

    /// At about the same moment.
    fn fail(&mut self, which: &[(usize, Failure)]) {
        tell(&format!("tiers fail: {which:?}"));
        self.losses += which.len();
        self.clock.loss();
        std::thread::scope(|scope| {
            for (rank, how) in which {
                let disk = &self.disks[*rank];
                scope.spawn(move || disk.fail(*how));
            }
        });
        self.clock.loss();
    }

    fn until_known(&self, log_before: usize) {
        let known = ["its filesystem fails", "not answering"];
        wait::within(PATIENCE, || {
            let log = self.mount.log();
            known.iter().any(|words| log[log_before..].contains(words)).then_some(())
        });
    }

    fn let_go(&self, how: Failure) {
        if how.needs_closing() {
            self.clock.let_go(true);
            wait::within(PATIENCE, || (self.clock.held.load(std::sync::atomic::Ordering::SeqCst) == 0).then_some(()));
        }
    }

    /// `lost`: those that must have been given up meanwhile.
    fn until_back(&self, log_before: usize, lost: &[(usize, Failure)]) -> End {
        let probe = self.mount.path("probe of the campaign");
        let end = wait::within(PATIENCE, || {
            let log = self.mount.log();
            let log = &log[log_before..];
            if lost.iter().all(|(rank, how)| is_back(log, *rank, *how)) {
                let made = std::fs::create_dir(&probe).is_ok();
                let removed = std::fs::remove_dir(&probe).is_ok();
                return (made && removed).then_some(End::Whole);
            }
            log.contains("only the start of a mount can finish").then_some(End::Remount)
        });
        end.unwrap_or_else(|| End::Stuck("a tier that is there is not taken in again".into()))
    }
}

impl Drop for Director<'_> {
    /// Whatever has happened: nobody is to wait for a server for ever.
    fn drop(&mut self) {
        self.disks.iter().for_each(Disk::go_on);
    }
}

/// Whether the log tells that the tier has gone and is there again. One that stopped only for a moment may not
/// have been given up.
fn is_back(log: &str, rank: usize, how: Failure) -> bool {
    let tier = format!("tier={}", crate::movers::tier(rank));
    let mine = log.lines().filter(|line| line.contains(&tier));
    let mut told = mine.filter_map(|line| match line {
        _ if line.contains("Its files answer with input/output errors") => Some(false),
        _ if line.contains("tierfs: is back") || line.contains("tierfs: answers again") => Some(true),
        _ => None,
    });
    told.next_back().unwrap_or(how == Failure::Stopped)
}

impl Bench {
    /// One round, and what is wrong after it.
    fn round(&mut self) -> Vec<String> {
        let clock = self.begin();
        let rng = Rng::new(self.rng.below(usize::MAX) as u64);
        let mount = self.mount.take().expect("mounted between rounds");
        let mut director =
            Director { disks: &mut self.disks, mount: &mount, clock: &clock, rng, losses: 0, slowest_ms: 0 };
        let doing: Vec<_> = self.writers.iter().map(|writer| Arc::clone(&writer.doing)).collect();
        let mut wrong = Vec::new();
        let end = std::thread::scope(|scope| {
            let mut threads: Vec<ScopedJoinHandle<()>> =
                self.writers.iter_mut().map(|writer| scope.spawn(move || writer.work())).collect();
            let (mover, clock) = (&mut self.mover, &clock);
            threads.push(scope.spawn(move || mover.work(clock)));
            let end = director.direct();
            if wait::within(PATIENCE, || threads.iter().all(ScopedJoinHandle::is_finished).then_some(())).is_none() {
                let doing: Vec<_> = doing.iter().map(|doing| doing.told()).collect();
                wrong.push(format!("somebody hangs: {doing:#?}, stacks of the daemon: {}", stacks(mount.pid())));
                hung(mount.pid());
            }
            end
        });
        self.done.rounds += 1;
        self.done.losses += director.losses;
        self.done.slowest_ms = self.done.slowest_ms.max(director.slowest_ms);
        drop(director);
        self.mount = Some(mount);
        for writer in &mut self.writers {
            self.done.steps += std::mem::take(&mut writer.steps);
            self.done.refused += std::mem::take(&mut writer.refused);
            wrong.append(&mut writer.wrong);
        }
        wrong.append(&mut self.mover.wrong);
        self.done.runs += std::mem::take(&mut self.mover.runs);
        self.done.moved += std::mem::take(&mut self.mover.moved);
        if !wrong.is_empty() {
            return wrong;
        }
        self.after(&end)
    }

    fn after(&mut self, end: &End) -> Vec<String> {
        let again = match end {
            End::Whole => self.rng.below(3) == 0,
            End::Remount => {
                self.done.remounts += 1;
                tell("another mount is needed");
                self.remount();
                false
            }
            End::Stuck(why) => return vec![why.clone()],
        };
        let mut wrong = self.check(*end == End::Remount);
        wrong.extend(self.leftovers());
        if wrong.is_empty() {
            wrong.extend(self.found());
        }
        if wrong.is_empty() && again {
            let before = tree::picture(&self.mount().root());
            self.remount();
            wrong.extend(self.check(true));
            wrong.extend(self.leftovers());
            let mut now = tree::picture(&self.mount().root());
            for (path, seen) in &mut now {
                // A directory may be known by the number of another of its copies until the kernel forgets it.
                if let Some(then) = before.get(path).filter(|then| then.kind == 'd') {
                    seen.ino = then.ino;
                }
            }
            wrong.extend(tree::compare(&before, &now).wrong.into_iter().map(|line| format!("after a remount: {line}")));
        }
        if wrong.is_empty() {
            self.take_stock();
        }
        wrong
    }
}

/// Without the runs that went well.
fn the_end_of_its_log(mount: &TestMount) -> String {
    let log = mount.log();
    let lines: Vec<&str> =
        log.lines().filter(|line| !line.contains("run ended") && !line.contains("a run could not")).collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Where the threads of a process are.
fn stacks(pid: u32) -> String {
    let mut text = String::new();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        for file in ["comm", "stack"] {
            text.push_str(&std::fs::read_to_string(task.path().join(file)).unwrap_or_default());
        }
    }
    text
}

/// Whoever waits in the mount is let go.
fn hung(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn number(key: &str) -> Option<usize> {
    let text = std::env::var(key).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{key} is not a number: {text}")))
}

fn campaign(name: &str, rounds: usize, layout: &Layout) {
    let clock = std::time::UNIX_EPOCH.elapsed().expect("clock").subsec_nanos() as usize;
    let mut seed = number("TIERFS_OUTAGE_SEED").unwrap_or(clock) as u64;
    let rounds = number("TIERFS_OUTAGE_ROUNDS").unwrap_or(rounds);
    let failures_max = number("TIERFS_OUTAGE_FAILURES").unwrap_or(1);
    let (mut failures, mut all, mut tried) = (Vec::new(), Done::default(), 0);
    while tried < rounds && failures.len() < failures_max {
        let mut layout = layout.clone();
        if Rng::new(seed).below(2) == 0 {
            layout.options.push("nopassthrough");
        }
        let Some(mut bench) = Bench::new(&layout, seed) else { return };
        for at in 0..ROUNDS_MAX.min(rounds - tried) {
            tried += 1;
            tell(&format!("--- {name}, seed {seed}, round {at}: {layout:?}"));
            let wrong = bench.round();
            if !wrong.is_empty() {
                let failure = format!(
                    "TIERFS_OUTAGE_SEED={seed}, {name}, {layout:?}, round {at}:\n{}\n{}\nthe daemon's log: {}",
                    wrong.join("\n"),
                    bench.evidence(&wrong).join("\n"),
                    bench.mount.as_ref().map(the_end_of_its_log).unwrap_or_default()
                );
                eprintln!("{failure}");
                failures.push(failure);
                break;
            }
        }
        all.add(&bench.done);
        seed += 1;
    }
    let line = format!("outage campaign {name}, {tried} rounds up to seed {seed}: {all:?}");
    println!("{line}");
    eprintln!("{line}");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
}

impl Done {
    fn add(&mut self, more: &Done) {
        self.rounds += more.rounds;
        self.losses += more.losses;
        self.remounts += more.remounts;
        self.steps += more.steps;
        self.refused += more.refused;
        self.runs += more.runs;
        self.moved += more.moved;
        self.late += more.late;
        self.slowest_ms = self.slowest_ms.max(more.slowest_ms);
        self.hidden += more.hidden;
        self.kept += more.kept;
    }
}

#[test]
fn two_tiers_go_and_come_back_under_programs_and_moves() {
    let layout = Layout { kinds: &["ext4", "xfs"], options: Vec::new(), encrypted: false };
    campaign("two_tiers_go_and_come_back_under_programs_and_moves", 3, &layout);
}

#[test]
fn three_tiers_go_and_come_back_under_programs_and_moves() {
    let layout = Layout { kinds: &["xfs", "ext4", "ext4"], options: Vec::new(), encrypted: false };
    campaign("three_tiers_go_and_come_back_under_programs_and_moves", 3, &layout);
}

#[test]
fn a_server_goes_and_comes_back_under_programs_and_moves() {
    let layout = Layout { kinds: &["ext4", "server"], options: vec!["tier_timeout=5s"], encrypted: false };
    campaign("a_server_goes_and_comes_back_under_programs_and_moves", 3, &layout);
}

#[test]
fn an_encrypted_tier_goes_and_comes_back_under_programs_and_moves() {
    let layout = Layout { kinds: &["ext4", "ext4"], options: Vec::new(), encrypted: true };
    campaign("an_encrypted_tier_goes_and_comes_back_under_programs_and_moves", 3, &layout);
}
