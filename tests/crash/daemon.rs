//! The same stops in the daemon of a mount that does the moving.

use std::path::Path;
use std::process::{Child, Command};

use crate::bench::{Bench, Way, campaign};
use crate::common::mount::{self, Setup};
use crate::common::wait;
use crate::plan::Plan;
use crate::strace::{self, At, CHANGING};

/// Mounts under strace, does something in the mount, and takes it down. Whether the daemon was killed.
pub(crate) fn serve(setup: &Setup, log: &Path, arguments: &[String], act: impl FnOnce(&Path)) -> bool {
    let point = setup.mountpoint();
    let mut command = strace::under(&setup.command(), arguments, log);
    let mut daemon = command.spawn().expect("strace starts");
    let ended = wait::until("the mount appears or the daemon ends", || {
        let ended = daemon.try_wait().expect("wait").is_some();
        (ended || mount::is_mounted(&point)).then_some(ended)
    });
    if !ended {
        act(&point);
    }
    mount::unmount_for_sure(&point);
    end(&mut daemon)
}

/// Moves through a mount under strace.
fn moves(bench: &Bench, way: Way, arguments: &[String]) -> bool {
    serve(bench.setup(), &bench.log(), arguments, |point| {
        let mut command = Command::new(mount::program());
        command.arg("migrate").arg(point);
        match way {
            Way::Demote => command.args(["--older-than", "1y", "--age-by", "mtime"]),
            _ => command.arg("--policy").arg(bench.setup().home().join("promote.yaml")),
        };
        wait::output(&mut command);
    })
}

fn end(daemon: &mut Child) -> bool {
    let status = wait::until("the daemon ends", || daemon.try_wait().expect("wait"));
    strace::was_killed(status)
}

#[test]
fn daemon_killed_at_every_call() {
    kills(&Plan::new("daemon_killed_at_every_call", 40));
}

#[test]
fn daemon_killed_at_every_call_of_a_move_to_ciphertext() {
    kills(&Plan::encrypted("daemon_killed_at_every_call_of_a_move_to_ciphertext", 15));
}

fn kills(plan: &Plan) {
    let Some(bench) = Bench::of(plan) else { return };
    let mut cuts: Vec<(Way, At)> = Vec::new();
    for way in [Way::Demote, Way::Promote] {
        bench.prepare(way);
        moves(&bench, way, &["-e".into(), format!("trace={}", CHANGING.join(","))]);
        for (call, most) in strace::count(&bench.log()) {
            cuts.extend((1..=most).map(|when| (way, (call.clone(), when))));
        }
    }
    if let Some((word, at)) = &plan.only {
        cuts = Way::ALL.into_iter().filter(|way| way.word() == word).map(|way| (way, at.clone())).collect();
    }
    drop(bench);
    eprintln!("{} different cuts", cuts.len());
    campaign(plan, &plan.choose(&cuts), |bench, way, at| {
        bench.prepare(way);
        let killed = usize::from(moves(bench, way, &strace::kill(at)));
        let more = bench.crash_recovery();
        let mut wrong = bench.check();
        if wrong.is_empty() {
            bench.whole(way);
            wrong.extend(bench.astray(way).into_iter().map(|path| format!("{path:?} did not {}", way.word())));
        }
        (killed + more, wrong)
    });
}
