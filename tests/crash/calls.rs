//! Stops and failures at every system call of a move and of recovery, without a mount.

use crate::bench::{Bench, Way, campaign};
use crate::plan::Plan;
use crate::strace::{self, ASKING, At, CHANGING};

/// Every call that each way makes, with its number.
fn all(plan: &Plan, calls: &[&str]) -> Option<Vec<(Way, At)>> {
    let bench = Bench::of(plan)?;
    let mut found = Vec::new();
    for way in Way::ALL {
        bench.prepare(way);
        if way == Way::Recover {
            // Something to recover: cut where the sources go.
            interrupt(&bench, Way::Demote, 12);
        }
        let (counts, _) = strace::census(&bench.command(way), calls, &bench.log());
        for (call, most) in counts {
            found.extend((1..=most).map(|when| (way, (call.clone(), when))));
        }
    }
    if let Some((word, at)) = &plan.only {
        let way = Way::ALL.into_iter().find(|way| way.word() == word).expect("a way");
        found = vec![(way, at.clone())];
    }
    Some(found)
}

/// Leaves a move half done.
fn interrupt(bench: &Bench, way: Way, when: usize) {
    bench.run_under(way, &strace::kill(&("renameat2".to_owned(), when)));
}

/// Brings the bench to where `way` begins; before recovery, something is cut.
fn begin(bench: &mut Bench, way: Way) {
    if way == Way::Recover {
        let victim = [Way::Demote, Way::Promote, Way::Undo][bench.rng.below(3)];
        bench.prepare(victim);
        let when = 1 + bench.rng.below(90);
        interrupt(bench, victim, when);
    } else {
        bench.prepare(way);
    }
}

/// Whether a failure of this call can hide who has a file open, or in recovery what it holds: it is then
/// kept where nobody sees it.
fn may_keep(way: Way, call: &str) -> bool {
    call == "fcntl" || way == Way::Recover && ["openat", "pread64", "lseek"].contains(&call)
}

/// After a cut: nothing is lost, and the next run works.
fn proved(bench: &mut Bench) -> Vec<String> {
    let mut wrong = bench.check();
    if wrong.is_empty() {
        let next = if bench.rng.below(2) == 0 { Way::Demote } else { Way::Promote };
        bench.whole(next);
        wrong.extend(bench.astray(next).into_iter().map(|path| format!("{path:?} did not {}", next.word())));
    }
    wrong
}

#[test]
fn killed_at_every_call() {
    kills(&Plan::new("killed_at_every_call", 130));
}

#[test]
fn killed_at_every_call_of_a_move_to_ciphertext() {
    kills(&Plan::encrypted("killed_at_every_call_of_a_move_to_ciphertext", 50));
}

fn kills(plan: &Plan) {
    let Some(cuts) = all(plan, CHANGING) else { return };
    eprintln!("{} different cuts", cuts.len());
    campaign(plan, &plan.choose(&cuts), |bench, way, at| {
        begin(bench, way);
        let output = bench.run_under(way, &strace::kill(at));
        let killed = usize::from(strace::was_killed(output.status));
        let more = bench.crash_recovery();
        (killed + more, proved(bench))
    });
}

#[test]
fn every_call_fails() {
    failures(&Plan::new("every_call_fails", 130));
}

#[test]
fn every_call_of_a_move_to_ciphertext_fails() {
    failures(&Plan::encrypted("every_call_of_a_move_to_ciphertext_fails", 50));
}

fn failures(plan: &Plan) {
    let calls = [CHANGING, ASKING].concat();
    let Some(cuts) = all(plan, &calls) else { return };
    eprintln!("{} different failures", cuts.len());
    campaign(plan, &plan.choose(&cuts), |bench, way, at| {
        begin(bench, way);
        bench.may_keep = may_keep(way, &at.0);
        let errno = ["EIO", "ENOSPC", "EDQUOT", "EINTR"][bench.rng.below(4)];
        // EINTR is retried, so for ever it would be for ever.
        let on = errno != "EINTR" && bench.rng.below(4) == 0;
        let output = bench.run_under(way, &strace::fail(at, errno, on));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut wrong = proved(bench);
        // The loader, which fails before the program begins, says 127.
        if !output.status.code().is_some_and(|code| [0, 1, 3, 8, 75, 78, 127].contains(&code)) {
            wrong.push(format!("ended with {}", output.status));
        }
        if !output.status.success() && !told.contains("tierfs:") && at.0 != "write" && output.status.code() != Some(127)
        {
            wrong.push(format!("{} without a word: {told:?}", output.status));
        }
        if !wrong.is_empty() {
            wrong.push(format!("{errno}, on: {on}, {}: {told}", output.status));
        }
        (1, wrong)
    });
}
