//! Disks, a mount over them, and who works there.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use crate::common::mount::{Setup, TestMount};
use crate::common::setting::Encrypted;
use crate::common::{fs as short, need, wait};
use crate::disks::Disk;
use crate::movers::Mover;
use crate::rng::Rng;
use crate::tree;
use crate::writer::Writer;

/// Programs that write.
const WRITERS: u64 = 3;

/// How long what was known while a tier was away may be shown once it is back.
pub(crate) const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// What a campaign is made of.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The filesystems of the tiers.
    pub(crate) kinds: &'static [&'static str],
    /// Options of the mount.
    pub(crate) options: Vec<&'static str>,
    /// The secondary holds ciphertext.
    pub(crate) encrypted: bool,
}

/// One mount, until something is wrong with it.
#[derive(Debug)]
pub(crate) struct Bench {
    // The mount goes before what it is on.
    pub(crate) mount: Option<TestMount>,
    pub(crate) disks: Vec<Disk>,
    /// Of the tiers that hold plaintext.
    pub(crate) roots: Vec<PathBuf>,
    pub(crate) writers: Vec<Writer>,
    pub(crate) mover: Mover,
    pub(crate) rng: Rng,
    pub(crate) done: Done,
}

/// What was done and seen.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) rounds: usize,
    pub(crate) losses: usize,
    pub(crate) remounts: usize,
    pub(crate) steps: usize,
    pub(crate) refused: usize,
    pub(crate) runs: usize,
    pub(crate) moved: usize,
    /// Times that a check had to wait until what was known before was forgotten.
    pub(crate) late: usize,
    /// The longest that a tier which was there was not taken in, in milliseconds.
    pub(crate) slowest_ms: u128,
    /// Files hidden by a copy on a faster tier, and kept in `lost`.
    pub(crate) hidden: usize,
    pub(crate) kept: usize,
}

impl Bench {
    pub(crate) fn new(layout: &Layout, seed: u64) -> Option<Bench> {
        need::programs([need::PYTHON])?;
        let disks: Vec<Disk> = layout.kinds.iter().map(|kind| Disk::new(kind)).collect::<Option<_>>()?;
        let roots: Vec<PathBuf> = disks.iter().map(Disk::tier).collect();
        let setup = if layout.encrypted {
            need::programs(["gocryptfs"])?;
            Setup::new().encrypted(Encrypted::only(&[1]))
        } else {
            Setup::new().plain()
        };
        let mut setup = setup.verbose().roots(&roots).hangs_after(Duration::from_secs(4 * 3600));
        for option in &layout.options {
            setup = setup.option(option);
        }
        let mut mount = setup.mount()?;
        if layout.encrypted {
            // The stock program shows the plaintext to the setup, and would keep the disk.
            let mut setup = mount.unmount();
            setup.hide();
            mount = setup.mount()?;
        }
        let writers =
            (0..WRITERS).map(|at| Writer::new(&mount.root(), &format!("w{at}"), seed + at, layout.encrypted)).collect();
        let mover = Mover::new(mount.root(), mount.home(), roots.len(), seed + 20);
        disks.iter().for_each(Disk::sync);
        let (rng, done) = (Rng::new(seed + 30), Done::default());
        // What lies on the others is looked at directly.
        let roots = if layout.encrypted { roots[..1].to_vec() } else { roots };
        Some(Bench { mount: Some(mount), disks, roots, writers, mover, rng, done })
    }

    pub(crate) fn mount(&self) -> &TestMount {
        self.mount.as_ref().expect("mounted between rounds")
    }

    pub(crate) fn remount(&mut self) {
        self.mount = self.mount.take().map(TestMount::remount);
    }

    /// After a round in which all tiers came back: what must not be. `whole`: the kernel has forgotten what it knew
    /// while one was away.
    pub(crate) fn check(&mut self, whole: bool) -> Vec<String> {
        let patience = if whole { Duration::ZERO } else { SETTLES_WITHIN };
        // Ciphertext is not what is shown.
        let roots = if self.roots.len() == self.disks.len() { &self.roots[..] } else { &[] };
        let of = |writer: &Writer| [writer.wrong_now(), writer.not_there(roots)].concat();
        let look = |writers: &[Writer]| writers.iter().flat_map(of).collect::<Vec<_>>();
        let mut wrong = look(&self.writers);
        if !wrong.is_empty() {
            let first = wrong.clone();
            crate::rounds::tell(&format!("at first: {first:#?}"));
            wait::within(patience, || {
                wrong = look(&self.writers);
                wrong.is_empty().then_some(())
            });
            self.done.late += 1;
            if !wrong.is_empty() {
                wrong.push(format!("at first: {first:#?}"));
            }
        }
        wrong
    }

    /// What there is to know of the paths that these lines begin with: the copies, the runs that moved them, and
    /// what was done with them.
    pub(crate) fn evidence(&self, wrong: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        for path in wrong.iter().filter_map(|line| line.strip_prefix('"')?.split('"').next()).take(4) {
            let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
            for root in &self.roots {
                lines.push(format!("{path} on {root:?}: {:?}", crate::known::look(&root.join(path))));
            }
            for run in short::names(self.roots[0].join(".tierfs/runs")) {
                let text = std::fs::read(self.roots[0].join(".tierfs/runs").join(&run)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                let mine = text.lines().filter(|line| line.contains(&format!("/{name}")));
                lines.extend(mine.map(|line| format!("{run:?}: {line}")));
            }
            lines.extend(self.writers.iter().flat_map(|writer| writer.doing.history(&name)));
        }
        lines
    }

    /// What must not be on the tiers.
    pub(crate) fn leftovers(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for line in tree::leftovers(&self.roots) {
            if line.contains("/lost/") {
                self.done.kept += 1;
            } else if line.contains("on both tiers") {
                self.done.hidden += 1;
            } else {
                wrong.push(line);
            }
        }
        wrong
    }

    /// What `tierfs check` finds, but what is kept on purpose.
    pub(crate) fn found(&self) -> Vec<String> {
        let output = self.tierfs(&["check", "--json"], &self.mount().root());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = |line: &&str| !["\"summary\"", "shadowed", "lost"].iter().any(|word| line.contains(word));
        let mut wrong: Vec<String> = text.lines().filter(told).map(|line| format!("tierfs check: {line}")).collect();
        if !matches!(output.status.code(), Some(0 | 3)) {
            wrong.push(format!("tierfs check: {output:?}"));
        }
        wrong
    }

    pub(crate) fn tierfs(&self, arguments: &[&str], path: &Path) -> Output {
        wait::output(self.mount().tierfs_with(arguments).arg(path))
    }

    /// A new round begins.
    pub(crate) fn begin(&mut self) -> Arc<crate::clock::Clock> {
        let clock = Arc::new(crate::clock::Clock::default());
        for writer in &mut self.writers {
            writer.clock = Arc::clone(&clock);
        }
        clock
    }

    /// All that is there is taken for granted and made durable; what is kept on purpose goes.
    pub(crate) fn take_stock(&mut self) {
        self.writers.iter_mut().for_each(Writer::take_stock);
        for root in &self.roots {
            let _absent = std::fs::remove_dir_all(root.join(".tierfs/lost"));
        }
        self.disks.iter().for_each(Disk::sync);
    }
}
