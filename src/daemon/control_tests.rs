//! Commands to a service over a real union, with a stand-in for the engine.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::config::{self, TierConfig};
use crate::control::client;
use crate::control::status::Watching;
use crate::control::wire::{self, What};
use crate::migrate::{Error, Event, Go, Request, Skip, Stop, Summary};
use crate::tier::directory::{DirectoryTier, Known};
use crate::types::ids::Rank;
use crate::types::path::UnionPath;
use crate::union::{MinFree, Settings, Slot, SpaceOf};

pub(in crate::daemon) fn union(home: &std::path::Path) -> Arc<Union> {
    let slots = (0..2u64).map(|rank| {
        let path = home.join(rank.to_string());
        std::fs::create_dir(&path).unwrap();
        let root = crate::sys::durable::open_root(&path).unwrap();
        let known = Known { seed: rank, stamps: true, given: None };
        let tier = DirectoryTier::new(&root, path, known, Box::new(|_| Ok(()))).unwrap();
        Slot { tier: Some(Arc::new(tier)), min_free: MinFree::Bytes(0) }
    });
    let settings = Settings {
        ttl: Duration::ZERO,
        file_ttl: std::time::Duration::MAX,
        space_of: SpaceOf::Sum,
        spill: true,
        read_only: false,
        remember: 0,
        offline_from: None,
        dirs_max: 64,
        root: crate::sys::creds::is_root(),
    };
    Arc::new(Union::new(slots.collect(), settings).unwrap())
}

fn path(text: &str) -> UnionPath {
    UnionPath::new(text.as_bytes()).unwrap()
}

/// Moves the paths of the request, skips one more, and then goes on until it is stopped.
fn endless(_union: &Union, request: &Request, tell: &mut (dyn FnMut(Event) -> Go + Send)) -> Result<Summary, Error> {
    let (from, to) = (Rank(0), Rank(1));
    for path in request.paths.clone() {
        tell(Event::Moved { path, from, to, bytes: 7, age: Duration::from_secs(9) });
    }
    tell(Event::Skipped { path: path("busy"), why: Skip::InUse });
    while tell(Event::Copied { bytes: 1 }) == Go::On {}
    Ok(Summary {
        run: "r".into(),
        moved: request.paths.len() as u64,
        skipped: [(Skip::InUse, 1)].into(),
        stopped: Some(Stop::Interrupted),
        ..Summary::default()
    })
}

fn config(policy: Option<std::path::PathBuf>) -> config::MountConfig {
    let config = config::check::finish(config::Draft {
        mountpoint: Some("/m".into()),
        policy,
        tiers: ["/a", "/b"].map(|path| TierConfig::at(path.into())).to_vec(),
        ..config::Draft::default()
    });
    config.unwrap()
}

fn standing(policy: Option<std::path::PathBuf>) -> Arc<Standing> {
    Arc::new(Standing::load(&config(policy)).unwrap())
}

fn start_with(home: &std::path::Path, standing: Arc<Standing>, engine: Engine) -> Server {
    let (union, stats) = (union(home), Arc::new(crate::stats::Stats::new(2, 1)));
    let numbers = Arc::new(Numbers { stats, union: Arc::clone(&union) });
    let (asked, facts) = (Arc::new(Asked::new(2)), Arc::new(Facts::new(&config(None), &[Watching::Never; 2])));
    let service = Commands { union, standing, turns: Arc::default(), numbers, engine, asked, facts };
    Server::start(&home.join("run/s.sock"), Arc::new(service)).unwrap()
}

fn start(home: &std::path::Path) -> Server {
    start_with(home, standing(None), endless)
}

fn run(what: What, paths: &[&str]) -> Command {
    Command::Run(wire::Run {
        what,
        paths: paths.iter().map(|path| convert::text(path.as_bytes())).collect(),
        limits: wire::Limits::default(),
        order: None,
        verify: None,
        dry_run: false,
        ignore_window: false,
        scheduled: false,
    })
}

fn ask(server: &Server, command: Command) -> Response {
    client::connect(server.path()).unwrap().ask(command, &|| false, &mut |_| {}).unwrap()
}

#[test]
fn one_run_at_a_time_and_questions_meanwhile() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path());
    let (begun, told) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel();
    let client = client::connect(server.path()).unwrap();
    let first = std::thread::spawn(move || {
        let mut events = Vec::new();
        let last = client.ask(run(What::To(1), &["a/b"]), &|| stopped.try_recv().is_ok(), &mut |event| {
            if events.len() < 2 {
                events.push(event);
                let _ = begun.send(());
            }
        });
        (last, events)
    });
    told.recv().unwrap();
    let Response::Error(busy) = ask(&server, run(What::To(1), &[])) else { panic!("a second run") };
    assert_eq!(busy.code, 75);
    let Response::Info(info) = ask(&server, Command::Info) else { panic!("no answer") };
    assert_eq!((info.tiers, info.running), (2, true));
    let Response::Status(status) = ask(&server, Command::Status) else { panic!("no answer") };
    let running = status.running.unwrap();
    assert_eq!((running.what.as_str(), running.by_itself, status.last), ("recall to secondary", false, None));
    stop.send(()).unwrap();
    let (last, events) = first.join().unwrap();
    let Ok(Response::Done(done)) = last else { panic!("{last:?}") };
    assert_eq!((done.moved, done.stopped), (1, Some(wire::Stop::Interrupted)));
    assert_eq!(done.skipped, [("in use".to_owned(), 1)].into());
    let age = Duration::from_secs(9);
    let moved = wire::Event::Moved { path: convert::text(b"a/b"), from: 0, to: 1, bytes: 7, age };
    assert_eq!(events[0], moved);
    assert_eq!(events[1], wire::Event::Skipped { path: convert::text(b"busy"), why: "in use".into() });
    // The lock is free again, also after a command that died.
    drop(UnixStream::connect(server.path()).unwrap());
    let Response::Info(info) = ask(&server, Command::Info) else { panic!("no answer") };
    assert!(!info.running);
}

#[test]
fn what_cannot_be_run_is_told_with_a_code() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path());
    let bad = What::Policy { origin: convert::text(b"p.yaml"), text: "version: 1\nrools: []\n".into() };
    let globs = wire::Criteria {
        older_than: None,
        age_by: wire::AgeBy::Newest,
        min_size: 0,
        exclude: vec!["[".into()],
        to: None,
    };
    let beyond = wire::Criteria { exclude: Vec::new(), to: Some(5), ..globs.clone() };
    for (what, paths, code, says) in [
        (What::Configured, &[][..], 2, "--older-than 1y"),
        (What::To(2), &[], 2, "there is no tier2"),
        (What::To(1), &["../up"], 2, "../up"),
        (bad, &[], 78, "p.yaml:2:"),
        (What::Criteria(globs), &[], 2, "--exclude"),
        (What::Criteria(beyond), &[], 78, "tier5"),
    ] {
        let Response::Error(problem) = ask(&server, run(what, paths)) else { panic!("{says}") };
        assert!(problem.code == code && problem.line.contains(says), "{problem:?}");
    }
}

/// Tells in `took` how long the run may work, and calls it moved.
fn measured(_union: &Union, request: &Request, _tell: &mut (dyn FnMut(Event) -> Go + Send)) -> Result<Summary, Error> {
    Ok(Summary { moved: 1, took: request.limits.duration.unwrap_or_default(), ..Summary::default() })
}

#[test]
fn regression_a_run_ends_with_the_window_of_its_policy() {
    let home = tempfile::tempdir().unwrap();
    let union = union(home.path());
    let took = |limit: Option<Duration>, ignore_window, dry_run| {
        let text = "version: 1\nwindow: 00:00-24:00\n".to_owned();
        let what = What::Policy { origin: convert::text(b"p.yaml"), text };
        let Command::Run(run) = run(what, &[]) else { panic!("a run") };
        let limits = wire::Limits { duration: limit, ..run.limits };
        let run = wire::Run { limits, ignore_window, dry_run, ..run };
        match runs::perform(&union, None, &run, measured, &mut |_| true) {
            Response::Done(done) => (done.took, done.closed, done.moved),
            other => panic!("{other:?}"),
        }
    };
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!(took(None, false, false), (hours(7 * 24), None, 1), "a window without an end counts for a week");
    assert_eq!(took(Some(hours(3)), false, false), (hours(3), None, 1));
    assert_eq!(took(None, true, false), (Duration::ZERO, None, 1), "it is not asked");
    assert_eq!(took(None, false, true), (Duration::ZERO, None, 1), "a dry run has no end");
}

/// A command decides by what the mount has taken for whole, and the mount by what a command has read.
#[test]
fn regression_a_command_and_the_mount_have_one_policy() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("policy.yaml");
    let write = |text: &str| std::fs::write(&file, format!("version: 1\n{text}\n")).unwrap();
    write("order: oldest");
    let standing = standing(Some(file.clone()));
    let ordered: Engine = |_, request, _| Err(Error::NotFound(format!("{:?}", request.order)));
    let server = start_with(home.path(), Arc::clone(&standing), ordered);
    let asked = || match ask(&server, run(What::Configured, &[])) {
        Response::Error(problem) => (problem.code, problem.line),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked().1, "Oldest");
    write("order: largest");
    assert_eq!(asked().1, "Largest");
    assert_eq!(standing.policy().order, crate::policy::Order::Largest, "in force");
    write("odrer: smallest");
    let (code, line) = asked();
    assert!(code == 78 && line.contains("policy.yaml:2:1"), "{line}");
    assert_eq!(standing.policy().order, crate::policy::Order::Largest, "the last good one");
    std::fs::remove_file(&file).unwrap();
    let (code, line) = asked();
    assert!(code == 78 && line.contains("policy.yaml"), "{line}");
}
