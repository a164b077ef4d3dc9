//! The same stops in the daemon of a mount that does the moving.

use std::process::{Child, Command};

use crate::bench::{Bench, Way, campaign};
use crate::common::{mount, wait};
use crate::plan::Plan;
use crate::strace::{self, At, CHANGING};

/// Mounts under strace, moves through the mount, and takes it down. Whether the daemon was killed.
fn serve(bench: &Bench, way: Way, arguments: &[String]) -> bool {
    let point = bench.setup().mountpoint();
    let mut command = strace::under(&bench.setup().command(), arguments, &bench.log());
    let mut daemon = command.spawn().expect("strace starts");
    let ended = wait::until("the mount appears or the daemon ends", || {
        let ended = daemon.try_wait().expect("wait").is_some();
        (ended || mount::is_mounted(&point)).then_some(ended)
    });
    if !ended {
        let mut command = Command::new(mount::program());
        command.arg("migrate").arg(&point);
        match way {
            Way::Demote => command.args(["--older-than", "1y", "--age-by", "mtime"]),
            _ => command.arg("--policy").arg(bench.setup().home().join("promote.yaml")),
        };
        wait::output(&mut command);
    }
    mount::unmount_for_sure(&point);
    end(&mut daemon)
}

fn end(daemon: &mut Child) -> bool {
    let status = wait::until("the daemon ends", || daemon.try_wait().expect("wait"));
    strace::was_killed(status)
}

#[test]
fn daemon_killed_at_every_call() {
    let plan = Plan::new("daemon_killed_at_every_call", 40);
    let Some(bench) = Bench::new(plan.seed) else { return };
    let mut cuts: Vec<(Way, At)> = Vec::new();
    for way in [Way::Demote, Way::Promote] {
        bench.prepare(way);
        serve(&bench, way, &["-e".into(), format!("trace={}", CHANGING.join(","))]);
        for (call, most) in strace::count(&bench.log()) {
            cuts.extend((1..=most).map(|when| (way, (call.clone(), when))));
        }
    }
    if let Some((word, at)) = &plan.only {
        cuts = Way::ALL.into_iter().filter(|way| way.word() == word).map(|way| (way, at.clone())).collect();
    }
    drop(bench);
    eprintln!("{} different cuts", cuts.len());
    campaign(&plan, &plan.choose(&cuts), |bench, way, at| {
        bench.prepare(way);
        let killed = usize::from(serve(bench, way, &strace::kill(at)));
        let more = bench.crash_recovery();
        let mut wrong = bench.check();
        if wrong.is_empty() {
            bench.whole(way);
            wrong.extend(bench.astray(way).into_iter().map(|path| format!("{path:?} did not {}", way.word())));
        }
        (killed + more, wrong)
    });
}
