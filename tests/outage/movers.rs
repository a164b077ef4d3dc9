//! Commands that move files up and down.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clock::{Clock, Doing};
use crate::common::{mount, wait};
use crate::rng::Rng;

/// Exit codes that say what is known to happen: done, an error (a tier goes), in part, in use, a tier is away,
/// interrupted.
const CODES: &[i32] = &[0, 1, 3, 75, 78, 130];

/// Makes one run after the other.
#[derive(Debug)]
pub(crate) struct Mover {
    pub(crate) root: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) tiers: usize,
    pub(crate) rng: Rng,
    pub(crate) doing: Doing,
    pub(crate) runs: usize,
    pub(crate) moved: usize,
    pub(crate) wrong: Vec<String>,
    last: Option<String>,
}

impl Mover {
    pub(crate) fn new(root: PathBuf, home: &Path, tiers: usize, seed: u64) -> Mover {
        for (from, to) in pairs(tiers) {
            let action = if from < to { "demote" } else { "promote" };
            let text = format!(
                "version: 1\nrules:\n  - name: all\n    tier: {}\n    match: '**'\n    action: {action}\n    to: {}\n",
                tier(from),
                tier(to)
            );
            std::fs::write(policy(home, from, to), text).expect("policy");
        }
        Mover {
            root,
            home: home.to_owned(),
            tiers,
            rng: Rng::new(seed),
            doing: Doing::new(),
            runs: 0,
            moved: 0,
            wrong: Vec::new(),
            last: None,
        }
    }

    pub(crate) fn work(&mut self, clock: &Clock) {
        while !clock.is_stopped() {
            let mut command = self.next();
            let pause = Duration::from_millis(self.rng.below(250) as u64);
            self.doing.tell(format!("{command:?}"));
            let output = command.stdin(Stdio::null()).output().expect("tierfs runs");
            self.runs += 1;
            let told = String::from_utf8_lossy(&output.stdout);
            self.moved += told.matches("\"event\":\"moved\"").count();
            if let Some((_, rest)) = told.rsplit_once("\"run\":\"") {
                self.last = rest.split('"').next().filter(|run| !run.is_empty()).map(str::to_owned);
            }
            if !output.status.code().is_some_and(|code| CODES.contains(&code)) {
                let line = format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
                self.wrong.push(line);
            }
            let _never = wait::within(pause, || clock.is_stopped().then_some(()));
        }
        self.doing.tell("nothing more".into());
    }

    fn next(&mut self) -> Command {
        let mut command = Command::new(mount::program());
        let pairs = pairs(self.tiers);
        let (from, to) = pairs[self.rng.below(pairs.len())];
        match (self.rng.below(6), self.last.take()) {
            (0, Some(run)) => command.args(["recall", "--json", "--run", &run]).arg(&self.root),
            (1, _) => command.args(["recall", "--json", "-r", "--to", &tier(to)]).arg(self.root.join("w0")),
            _ => command.args(["migrate", "--json", "--policy"]).arg(policy(&self.home, from, to)).arg(&self.root),
        };
        command
    }
}

fn pairs(tiers: usize) -> Vec<(usize, usize)> {
    (0..tiers).flat_map(|from| (0..tiers).map(move |to| (from, to))).filter(|(from, to)| from != to).collect()
}

/// How tierfs calls it.
pub(crate) fn tier(rank: usize) -> String {
    match rank {
        0 => "primary".into(),
        1 => "secondary".into(),
        more => format!("tier{more}"),
    }
}

fn policy(home: &Path, from: usize, to: usize) -> PathBuf {
    home.join(format!("{from}-{to}.yaml"))
}
