//! Two tiers with the tree on them, and the commands that move it to and fro.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::common::loopfs::LoopFs;
use crate::common::mount::{self, Setup};
use crate::common::setting::Encrypted;
use crate::common::volume::Volume;
use crate::common::{need, wait};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::strace::{self, At};
use crate::tree::{self, Picture};

/// What is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Demote,
    Promote,
    Undo,
    Recover,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [Way::Demote, Way::Promote, Way::Undo, Way::Recover];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Way::Demote => "demote",
            Way::Promote => "promote",
            Way::Undo => "undo",
            Way::Recover => "recover",
        }
    }
}

/// Two tiers in memory.
#[derive(Debug)]
pub(crate) struct Bench {
    setup: Option<Setup>,
    pub(crate) roots: Vec<PathBuf>,
    pub(crate) before: Picture,
    pub(crate) rng: Rng,
    /// Directories whose time a cut has changed, and files whose change time.
    pub(crate) touched: usize,
    pub(crate) changed: usize,
    /// Whether it could not be told of sources that nobody uses them, or what they hold: those are kept in
    /// `.tierfs/lost`, or under their names where their copies hide them.
    pub(crate) may_keep: bool,
    /// The secondary holds ciphertext.
    encrypted: bool,
    _fs: [LoopFs; 2],
}

/// Calls at which recovery is cut, and up to which of them.
const IN_RECOVERY: &[(&str, usize)] = &[
    ("renameat2", 40),
    ("unlinkat", 80),
    ("linkat", 6),
    ("fsync", 40),
    ("syncfs", 4),
    ("utimensat", 60),
    ("openat", 150),
    ("mkdirat", 3),
];

impl Bench {
    /// A fresh tree on the primary.
    pub(crate) fn new(seed: u64) -> Option<Bench> {
        Bench::with(seed, false)
    }

    /// The same, as the plan wants it.
    pub(crate) fn of(plan: &Plan) -> Option<Bench> {
        Bench::with(plan.seed, plan.encrypted)
    }

    fn with(seed: u64, encrypted: bool) -> Option<Bench> {
        need::programs(["strace", "setfacl", "mkfifo"])?;
        if encrypted {
            need::programs(["gocryptfs"])?;
        }
        let fs = [LoopFs::with("tmpfs", 64, "noatime")?, LoopFs::with("tmpfs", 64, "noatime")?];
        // Looking at a file must not make it young.
        let roots: Vec<PathBuf> = fs.iter().map(|fs| fs.path().join("tier")).collect();
        let mut rng = Rng::new(seed);
        let setup = Setup::new().roots(&roots).option("suid");
        let setup = if encrypted { setup.encrypted(Encrypted::only(&[1])) } else { setup };
        let setup = setup.seed(|roots| tree::plant(&roots[0], &mut rng));
        std::fs::write(setup.home().join("promote.yaml"), PROMOTE).expect("policy");
        let mount = setup.mount()?;
        let before = tree::picture(&mount.root());
        let setup = Some(mount.unmount());
        Some(Bench { setup, roots, before, rng, touched: 0, changed: 0, may_keep: false, encrypted, _fs: fs })
    }

    pub(crate) fn setup(&self) -> &Setup {
        self.setup.as_ref().expect("taken only while mounted")
    }

    /// For tests that plant a tree of their own.
    pub(crate) fn take_setup(&mut self) -> Setup {
        self.setup.take().expect("taken once")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.setup().home().join("strace")
    }

    /// The command of a way, without a mount.
    pub(crate) fn command(&self, way: Way) -> Command {
        let spec = self.setup().union();
        let mut command = Command::new(mount::program());
        match way {
            Way::Demote => command.args(["migrate", "--older-than", "1y", "--age-by", "mtime"]).arg(spec),
            Way::Recover => command.args(["migrate", "--older-than", "90y", "--age-by", "mtime"]).arg(spec),
            Way::Promote => {
                command.arg("migrate").arg(spec).arg("--policy").arg(self.setup().home().join("promote.yaml"))
            }
            Way::Undo => command.args(["recall", "--run", &self.last_run()]).arg(spec),
        };
        command
    }

    /// The run that moved something last.
    fn last_run(&self) -> String {
        let dir = self.roots[0].join(".tierfs/runs");
        let mut runs: Vec<_> = std::fs::read_dir(dir).expect("runs").map(|run| run.expect("run").path()).collect();
        runs.sort_by_key(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).expect("times"));
        let last = runs.last().and_then(|path| path.file_stem()).expect("a run");
        last.to_str().expect("text").to_owned()
    }

    /// Runs a way to its end, which must be a good one.
    pub(crate) fn whole(&self, way: Way) {
        let output = self.output(&mut self.command(way));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {}: {told}", way.word(), output.status);
    }

    fn output(&self, command: &mut Command) -> Output {
        wait::output(command)
    }

    /// Brings everything where `way` begins.
    pub(crate) fn prepare(&self, way: Way) {
        match way {
            Way::Demote | Way::Recover => self.whole(Way::Promote),
            Way::Promote => self.whole(Way::Demote),
            Way::Undo => {
                self.whole(Way::Promote);
                self.whole(Way::Demote);
            }
        }
    }

    /// The files of the tree that are not where `way` brings them.
    pub(crate) fn astray(&self, way: Way) -> Vec<PathBuf> {
        let on = if way == Way::Demote { 1 } else { 0 };
        let files: BTreeSet<PathBuf> = tree::walk(&self.roots[on]).into_iter().collect();
        let old = self.before.iter().filter(|(path, seen)| seen.kind == 'f' && !path.ends_with("young"));
        old.map(|(path, _)| path.clone()).filter(|path| !files.contains(path)).collect()
    }

    /// Runs `way` under strace.
    pub(crate) fn run_under(&self, way: Way, arguments: &[String]) -> Output {
        self.output(&mut strace::under(&self.command(way), arguments, &self.log()))
    }

    /// Recovery that is itself cut short, now and then and again and again. How many cuts.
    pub(crate) fn crash_recovery(&mut self) -> usize {
        let mut cuts = 0;
        while cuts < 4 && self.rng.below(2) == 0 {
            let (call, most) = IN_RECOVERY[self.rng.below(IN_RECOVERY.len())];
            let at: At = (call.to_owned(), 1 + self.rng.below(most));
            let output = self.run_under(Way::Recover, &strace::kill(&at));
            cuts += usize::from(strace::was_killed(output.status));
        }
        cuts
    }

    /// Mounts, which recovers, and compares everything with what it was.
    pub(crate) fn check(&mut self) -> Vec<String> {
        let setup = self.setup.take().expect("not mounted");
        let mount = match setup.try_mount() {
            Ok(mount) => mount,
            Err(refused) => {
                let words = format!("no mount: {:?} {}", refused.code, refused.message);
                self.setup = Some(refused.setup);
                return vec![words];
            }
        };
        let now = tree::picture(&mount.root());
        let found = tree::compare(&self.before, &now);
        let mut wrong = found.wrong;
        let kept = |line: &String| self.may_keep && (line.contains("/lost/") || line.contains("on both tiers"));
        wrong.extend(tree::leftovers(&self.roots).into_iter().filter(|line| !kept(line)));
        if self.may_keep {
            tree::forget_kept(&self.roots);
        }
        self.touched += found.touched.len();
        self.changed += found.changed;
        for path in found.touched {
            if let (Some(then), Some(now)) = (self.before.get_mut(&path), now.get(&path)) {
                then.mtime = now.mtime;
            }
        }
        let setup = mount.unmount();
        wrong.extend(self.encrypted.then(|| unclean(&setup)).flatten());
        self.setup = Some(setup);
        wrong
    }
}

/// What the stock program finds wrong with the secondary.
pub(crate) fn unclean(setup: &Setup) -> Option<String> {
    let (code, words) = Volume::at(&setup.place(1), &setup.home().join("passphrase")).fsck();
    (code != Some(0) || !words.trim().is_empty()).then(|| format!("gocryptfs -fsck {code:?}: {words}"))
}

const PROMOTE: &str = "version: 1\nrules:\n  - name: back\n    tier: secondary\n    match: '**'\n    action: promote\n";

/// Runs `each` for the cuts of a plan, each with a bench in order; a new one after a failure.
pub(crate) fn campaign(
    plan: &Plan,
    cuts: &[(Way, At)],
    mut each: impl FnMut(&mut Bench, Way, &At) -> (usize, Vec<String>),
) {
    let mut bench: Option<Bench> = None;
    let (mut tried, mut failures, mut touched, mut changed) = (0, Vec::new(), 0, 0);
    for (way, at) in cuts {
        if bench.is_none() {
            bench = Bench::of(plan);
        }
        let Some(ready) = bench.as_mut() else { return };
        let (made, wrong) = each(ready, *way, at);
        tried += made;
        if !wrong.is_empty() {
            let only = format!("TIERFS_CRASH_SEED={} TIERFS_CRASH_ONLY='{} {} {}'", plan.seed, way.word(), at.0, at.1);
            failures.push(format!("repeat with {only}:\n{}", wrong.join("\n")));
            (touched, changed) = (touched + ready.touched, changed + ready.changed);
            bench = None;
        }
        if failures.len() >= plan.failures_max {
            break;
        }
    }
    if let Some(bench) = bench {
        (touched, changed) = (touched + bench.touched, changed + bench.changed);
    }
    plan.report(tried, &format!("{touched} directories with a new mtime, {changed} files with a new ctime"));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
}
