//! Directories that lie on both tiers get new names, and the daemon is killed at one of its calls: every
//! file is under the old name or every file is under the new one, and recovery itself can be killed, too.

use std::collections::BTreeMap;
use std::path::Path;

use crate::bench::Bench;
use crate::common::fs::{exists, names, put};
use crate::common::mount::Setup;
use crate::daemon::serve;
use crate::plan::Plan;
use crate::strace::{self, At, CHANGING};
use crate::tree;

/// What is done, by the word in `TIERFS_CRASH_ONLY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// To a name that is free.
    Free,
    /// Over a directory that is empty and only on the secondary.
    Over,
    /// Two directories change their names.
    Exchange,
}

const CASES: [(Case, &str); 3] =
    [(Case::Free, "rename-free"), (Case::Over, "rename-over"), (Case::Exchange, "rename-exchange")];

/// Files below the directory `d`, each with its tier; those of `e` come with an exchange.
const FILES: [(usize, &str); 5] = [(0, "a"), (1, "b"), (0, "sub/c"), (1, "sub/deep/c"), (1, "only/d")];

type Contents = BTreeMap<String, String>;

fn plant(setup: &Setup, case: Case) -> (Contents, Contents) {
    for root in [0, 1].map(|rank| setup.tier(rank)) {
        for name in names(root) {
            std::fs::remove_dir_all(root.join(name)).expect("rm");
        }
    }
    let fill = |dir: &str| {
        FILES.iter().for_each(|(rank, file)| put(setup.tier(*rank).join(dir).join(file), format!("{dir} {file}")));
        FILES.iter().map(|(_, file)| ((*file).to_owned(), format!("{dir} {file}"))).collect()
    };
    let d = fill("d");
    match case {
        Case::Free => (d, Contents::new()),
        Case::Over => {
            std::fs::create_dir(setup.tier(1).join("e")).expect("mkdir");
            (d, Contents::new())
        }
        Case::Exchange => (d, fill("e")),
    }
}

fn act(point: &Path, case: Case) {
    let how = if case == Case::Exchange { rustix::fs::RenameFlags::EXCHANGE } else { rustix::fs::RenameFlags::empty() };
    // It may be cut short.
    let _cut = rustix::fs::renameat_with(rustix::fs::CWD, point.join("d"), rustix::fs::CWD, point.join("e"), how);
}

fn contents(dir: &Path) -> Contents {
    let files = tree::walk(dir).into_iter().filter(|path| dir.join(path).is_file());
    files.map(|path| (path.display().to_string(), std::fs::read_to_string(dir.join(&path)).expect("read"))).collect()
}

/// Mounts, which recovers, and looks.
fn check(setup: Setup, (d, e): &(Contents, Contents)) -> (Setup, Vec<String>) {
    let mount = match setup.try_mount() {
        Ok(mount) => mount,
        Err(refused) => return (refused.setup, vec![format!("no mount: {:?} {}", refused.code, refused.message)]),
    };
    let of = |name: &str| if exists(mount.path(name)) { contents(&mount.path(name)) } else { Contents::new() };
    let found = (of("d"), of("e"));
    let mut wrong = Vec::new();
    if found != (d.clone(), e.clone()) && found != (e.clone(), d.clone()) {
        wrong.push(format!("d has {:?}, e has {:?}", found.0, found.1));
    }
    wrong.extend(tree::leftovers(mount.roots()));
    (mount.unmount(), wrong)
}

#[test]
fn directory_renames_killed_at_every_call() {
    let plan = Plan::new("directory_renames_killed_at_every_call", 60);
    let Some(mut bench) = Bench::new(plan.seed) else { return };
    let log = bench.log();
    let mut setup = bench.take_setup();
    let mut cuts: Vec<(Case, At)> = Vec::new();
    for (case, _) in CASES {
        plant(&setup, case);
        serve(&setup, &log, &["-e".into(), format!("trace={}", CHANGING.join(","))], |point| act(point, case));
        let found =
            strace::count(&log).into_iter().flat_map(|(call, most)| (1..=most).map(move |at| (call.clone(), at)));
        cuts.extend(found.map(|at| (case, at)));
    }
    if let Some((word, at)) = &plan.only {
        cuts = CASES.into_iter().filter(|(_, known)| known == word).map(|(case, _)| (case, at.clone())).collect();
    }
    eprintln!("{} different cuts", cuts.len());
    let (mut tried, mut failures) = (0, Vec::new());
    for (case, at) in plan.choose(&cuts) {
        let before = plant(&setup, case);
        tried += usize::from(serve(&setup, &log, &strace::kill(&at), |point| act(point, case)));
        // Recovery is cut at the same call, wherever it comes to it.
        tried += usize::from(serve(&setup, &log, &strace::kill(&at), |_| {}));
        let (after, wrong) = check(setup, &before);
        setup = after;
        if !wrong.is_empty() {
            failures.push(format!("{case:?} {at:?}: {}", wrong.join("\n")));
        }
        if failures.len() >= plan.failures_max {
            break;
        }
    }
    plan.report(tried, "three kinds of renames");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
}
