//! Programs write while files move to and fro, and then a process dies or the power fails.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::bench::unclean;
use crate::beside::Beside;
use crate::common::loopfs::LoopFs;
use crate::common::mount::{self, Setup, TestMount};
use crate::common::setting::Encrypted;
use crate::common::{need, wait};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::strace;
use crate::tree::{self, Picture};
use crate::writer::Writer;

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The daemon is killed.
    Daemon,
    /// The command is killed, the mount goes on, and is then taken down in order.
    Command,
    /// The power of both tiers.
    Both,
    /// Of one tier.
    One(usize),
    /// The daemon is killed, and some time later the power of both fails.
    DaemonThenBoth,
}

#[derive(Debug)]
struct Rounds {
    fs: Vec<LoopFs>,
    roots: Vec<PathBuf>,
    before: Picture,
    writers: Vec<Writer>,
    beside: Beside,
    rng: Rng,
    /// The secondary holds ciphertext.
    encrypted: bool,
    moved: AtomicUsize,
    cuts: usize,
    touched: usize,
    duplicates: usize,
    lost: usize,
}

const DEMOTE: &str = "version: 1\nrules:\n  - name: down\n    tier: primary\n    match: '**'\n    action: demote\n";
const PROMOTE: &str = "version: 1\nrules:\n  - name: up\n    tier: secondary\n    match: '**'\n    action: promote\n";

/// Between two moves and until the cut.
const ROUND_MS_MAX: usize = 700;

impl Rounds {
    fn new(kind: &'static str, seed: u64, encrypted: bool) -> Option<(Rounds, Setup)> {
        if encrypted {
            need::programs(["gocryptfs"])?;
        }
        need::programs([need::PYTHON, "setfacl", "strace"])?;
        let size_mib = if kind == "xfs" { 320 } else { 128 };
        let fs = vec![LoopFs::with(kind, size_mib, "noatime")?, LoopFs::with(kind, size_mib, "noatime")?];
        let roots: Vec<PathBuf> = fs.iter().map(|fs| fs.path().join("tier")).collect();
        let mut rng = Rng::new(seed);
        let setup = Setup::new().roots(&roots).option("suid").hangs_after(Duration::from_secs(1800));
        let setup = if encrypted { setup.encrypted(Encrypted::only(&[1])) } else { setup };
        let setup = setup.seed(|roots| tree::plant(&roots[0].join("still"), &mut rng));
        for (name, text) in [("down.yaml", DEMOTE), ("up.yaml", PROMOTE)] {
            std::fs::write(setup.home().join(name), text).expect("policy");
        }
        let mount = setup.mount()?;
        let before = tree::picture(&mount.path("still"));
        let writer = |at| Writer::new(&mount.root(), &format!("w{at}"), seed + at, encrypted);
        let writers = (0..2).map(writer).collect();
        // Nobody writes ciphertext beside the mount while the power fails.
        let beside = Beside::new(&roots[..if encrypted { 1 } else { 2 }], seed + 9);
        let mut setup = mount.unmount();
        setup.hide();
        sync_all(&fs);
        let rounds = Rounds {
            fs,
            roots,
            before,
            writers,
            beside,
            rng,
            encrypted,
            moved: AtomicUsize::new(0),
            cuts: 0,
            touched: 0,
            duplicates: 0,
            lost: 0,
        };
        Some((rounds, setup))
    }

    /// One cut, and what is wrong after it.
    fn round(&mut self, setup: Setup, cut: Cut) -> (Setup, Vec<String>) {
        let mut mount = match setup.try_mount() {
            Ok(mount) => mount,
            Err(refused) => return (refused.setup, vec![format!("no mount: {:?} {}", refused.code, refused.message)]),
        };
        let pause = Duration::from_millis(self.rng.below(ROUND_MS_MAX) as u64);
        let stop = AtomicBool::new(false);
        let cutting = Arc::new(AtomicBool::new(false));
        let child: Mutex<Option<Child>> = Mutex::new(None);
        let (fs, moved) = (&self.fs, &self.moved);
        let up_first = self.rng.below(2) == 0;
        std::thread::scope(|scope| {
            for writer in &mut self.writers {
                let (stop, cutting) = (&stop, &cutting);
                scope.spawn(move || writer.work(stop, cutting));
            }
            let (beside, stop_it, child, home, root) =
                (&mut self.beside, &stop, &child, mount.home().to_owned(), mount.root());
            let late = &cutting;
            scope.spawn(move || beside.work(stop_it, late));
            let mover = scope.spawn(move || keep_moving(&root, &home, up_first, stop_it, child, moved));
            let _never = wait::within(pause, || None::<()>);
            cutting.store(matches!(cut, Cut::Both | Cut::One(_)), Ordering::SeqCst);
            match cut {
                Cut::Command => {
                    if let Some(child) = child.lock().expect("lock").as_mut() {
                        let _gone = child.kill();
                    }
                }
                Cut::Daemon | Cut::DaemonThenBoth => mount.kill(),
                Cut::Both => cut_all(fs, &[0, 1]),
                Cut::One(at) => cut_all(fs, &[at]),
            }
            stop.store(true, Ordering::Relaxed);
            if cut != Cut::Command {
                // Whoever waits in the dead mount or for a dead disk is let go.
                mount.kill();
            }
            mover.join().expect("the mover");
        });
        self.cuts += 1;
        let setup = if cut == Cut::Command { mount.unmount() } else { mount.crash() };
        self.after(setup, cut)
    }

    fn after(&mut self, setup: Setup, cut: Cut) -> (Setup, Vec<String>) {
        match cut {
            Cut::Both => self.fs.iter().for_each(LoopFs::restart),
            Cut::One(at) => self.fs[at].restart(),
            Cut::Daemon | Cut::Command | Cut::DaemonThenBoth => {}
        }
        let mut power = matches!(cut, Cut::Both | Cut::One(_));
        if cut == Cut::DaemonThenBoth || self.rng.below(2) == 0 {
            self.crash_recovery(&setup);
            if cut != Cut::Daemon && cut != Cut::Command {
                cut_all(&self.fs, &[0, 1]);
                self.fs.iter().for_each(LoopFs::restart);
                self.cuts += 1;
                power = true;
            }
        }
        if power && self.rng.below(6) == 0 {
            self.fs.iter().for_each(LoopFs::check);
        }
        self.check(setup, power)
    }

    /// Recovery, cut short at some call.
    fn crash_recovery(&mut self, setup: &Setup) {
        let spec = setup.union();
        let mut recover = Command::new(mount::program());
        recover.args(["migrate", "--older-than", "90y", "--age-by", "mtime"]).arg(spec);
        let calls =
            [("renameat2", 12), ("unlinkat", 60), ("fsync", 40), ("utimensat", 30), ("linkat", 4), ("openat", 140)];
        let (call, most) = calls[self.rng.below(calls.len())];
        let at = (call.to_owned(), 1 + self.rng.below(most));
        let log = setup.home().join("strace");
        let output = wait::output(&mut strace::under(&recover, &strace::kill(&at), &log));
        self.cuts += usize::from(strace::was_killed(output.status));
        tell(&format!("recovery cut at {at:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }

    fn check(&mut self, setup: Setup, power: bool) -> (Setup, Vec<String>) {
        let mount: TestMount = match setup.try_mount() {
            Ok(mount) => mount,
            Err(refused) => return (refused.setup, vec![format!("no mount: {:?} {}", refused.code, refused.message)]),
        };
        tell(&format!("recovery: {}", mount.log()));
        let now = tree::picture(&mount.path("still"));
        let found = tree::compare(&self.before, &now);
        let mut wrong = found.wrong;
        self.touched += found.touched.len();
        for path in found.touched {
            if let (Some(then), Some(now)) = (self.before.get_mut(&path), now.get(&path)) {
                then.mtime = now.mtime;
            }
        }
        for writer in &mut self.writers {
            wrong.extend(writer.check(power));
        }
        wrong.extend(self.beside.check(&mount.root(), power));
        let daemon = mount.log();
        let (mut setup, left) = if self.encrypted {
            let mut setup = mount.unmount();
            wrong.extend(unclean(&setup));
            setup.reveal();
            (setup, tree::leftovers(&self.roots))
        } else {
            let left = tree::leftovers(&self.roots);
            (mount.unmount(), left)
        };
        for line in left {
            // Programs may leave shadowed copies beside the mount, and replaced contents are kept.
            if line.contains("/lost/") {
                self.lost += 1;
            } else if line.contains("on both tiers") && !line.contains("\"still") {
                self.duplicates += 1;
                tell(&line);
            } else {
                wrong.push(line);
            }
        }
        if !wrong.is_empty() {
            wrong.push(format!("the daemon's log: {daemon}"));
        }
        for root in &self.roots {
            let _absent = std::fs::remove_dir_all(root.join(".tierfs/lost"));
        }
        setup.hide();
        sync_all(&self.fs);
        (setup, wrong)
    }
}

fn tell(line: &str) {
    if std::env::var_os("TIERFS_CRASH_VERBOSE").is_some() {
        eprintln!("{line}");
    }
}

fn sync_all(fs: &[LoopFs]) {
    for fs in fs {
        rustix::fs::syncfs(std::fs::File::open(fs.path()).expect("open")).expect("syncfs");
    }
}

/// At about the same moment.
fn cut_all(fs: &[LoopFs], which: &[usize]) {
    std::thread::scope(|scope| {
        for at in which {
            let fs = &fs[*at];
            scope.spawn(move || assert!(fs.cut_power(), "{} has no shutdown", fs.kind()));
        }
    });
}

/// Moves everything down and up.
fn keep_moving(
    root: &Path,
    home: &Path,
    up_first: bool,
    stop: &AtomicBool,
    current: &Mutex<Option<Child>>,
    moved: &AtomicUsize,
) {
    let mut up = up_first;
    while !stop.load(Ordering::Relaxed) {
        let policy = home.join(if up { "up.yaml" } else { "down.yaml" });
        let mut command = Command::new(mount::program());
        command.arg("migrate").arg("--json").arg("--policy").arg(policy).arg(root);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("tierfs starts");
        let mut told = child.stdout.take().expect("piped");
        *current.lock().expect("lock") = Some(child);
        let mut text = String::new();
        let _cut = std::io::Read::read_to_string(&mut told, &mut text);
        moved.fetch_add(text.matches("\"event\":\"moved\"").count(), Ordering::Relaxed);
        let child = current.lock().expect("lock").take();
        if let Some(mut child) = child {
            child.wait().expect("wait");
        }
        up = !up;
    }
}

fn rounds(plan: &Plan, kind: &'static str, cuts: &[Cut]) {
    let (mut tried, mut made, mut failures, mut seed) = (0, 0, Vec::new(), plan.seed);
    let (mut steps, mut moved, mut hidden, mut more) = (0, 0, 0, [0; 3]);
    while tried < plan.cuts && failures.len() < plan.failures_max {
        let Some((mut rounds, mut setup)) = Rounds::new(kind, seed, plan.encrypted) else { return };
        while tried < plan.cuts {
            tried += 1;
            let cut = cuts[rounds.rng.below(cuts.len())];
            tell(&format!("--- cut {tried}: {cut:?}"));
            let (back, wrong) = rounds.round(setup, cut);
            setup = back;
            if !wrong.is_empty() {
                failures.push(format!("TIERFS_CRASH_SEED={seed}, {cut:?}, cut {tried}:\n{}", wrong.join("\n")));
                break;
            }
        }
        made += rounds.cuts;
        steps += rounds.writers.iter().map(|writer| writer.steps).sum::<usize>() + rounds.beside.steps;
        moved += rounds.moved.load(Ordering::Relaxed);
        more = [more[0] + rounds.touched, more[1] + rounds.duplicates, more[2] + rounds.lost];
        hidden += rounds.beside.hidden;
        seed += 1;
    }
    let [touched, duplicates, lost] = more;
    plan.report(
        made,
        &format!(
            "{kind}; {steps} steps of writers, {moved} moves told; {touched} directories with a new mtime, \
             {duplicates} shadowed copies of writers, {lost} kept in lost, {hidden} writes beside the mount hidden"
        ),
    );
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
}

const KILLS: &[Cut] = &[Cut::Daemon, Cut::Daemon, Cut::Command];
const POWER: &[Cut] = &[Cut::Both, Cut::Both, Cut::One(0), Cut::One(1), Cut::DaemonThenBoth];

#[test]
fn killed_while_programs_write() {
    rounds(&Plan::new("killed_while_programs_write", 25), "tmpfs", KILLS);
}

#[test]
fn power_cut_on_ext4() {
    rounds(&Plan::new("power_cut_on_ext4", 15), "ext4", POWER);
}

#[test]
fn killed_while_programs_write_ciphertext() {
    rounds(&Plan::encrypted("killed_while_programs_write_ciphertext", 10), "tmpfs", KILLS);
}

#[test]
fn power_cut_on_ext4_with_an_encrypted_secondary() {
    rounds(&Plan::encrypted("power_cut_on_ext4_with_an_encrypted_secondary", 10), "ext4", POWER);
}

#[test]
fn power_cut_on_xfs() {
    rounds(&Plan::new("power_cut_on_xfs", 15), "xfs", POWER);
}
