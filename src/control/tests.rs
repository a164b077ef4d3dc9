//! Server and client over real sockets.

use std::sync::mpsc;

use super::*;
use crate::control::client::{self, Refused};
use crate::control::wire::{Info, Outlook, Probed, Summary};

const MOVED: Event = Event::Copied { bytes: 1 };

/// Tells events until it is not wanted any more, or `Info` at once.
#[derive(Debug, Default)]
struct Fake {
    /// Told when a run has begun and when it has ended.
    seen: Option<Mutex<mpsc::Sender<&'static str>>>,
}

impl Service for Fake {
    fn answer(&self, command: Command, peer: &mut Peer) -> Response {
        let see = |what| {
            let _test_has_ended = self.seen.as_ref().map(|seen| seen.lock().send(what));
        };
        match command {
            Command::Repair(repair) => Response::Repaired(vec![None; repair.items.len()]),
            Command::Probe(_) => Response::Probed(Probed { outlook: Outlook::Clear, usage: Vec::new() }),
            Command::Info | Command::Status => {
                Response::Info(Info { tiers: 2, policy: None, refused: None, running: true })
            }
            Command::Stats => Response::Stats(Box::default()),
            Command::Run(_) => {
                see("begun");
                let mut moved = 0;
                while peer.tell(MOVED) {
                    moved += 1;
                }
                see("ended");
                Response::Done(Summary { moved, ..Summary::default() })
            }
        }
    }
}

fn run() -> Command {
    use crate::control::wire::{Limits, Run, What};
    Command::Run(Run {
        what: What::Configured,
        paths: Vec::new(),
        limits: Limits::default(),
        order: None,
        verify: None,
        dry_run: false,
        ignore_window: false,
        scheduled: false,
    })
}

fn start(dir: &tempfile::TempDir) -> (Server, mpsc::Receiver<&'static str>) {
    start_with(dir, PATIENCE)
}

fn start_with(dir: &tempfile::TempDir, patience: Patience) -> (Server, mpsc::Receiver<&'static str>) {
    let (seen, told) = mpsc::channel();
    let fake = Fake { seen: Some(Mutex::new(seen)) };
    (Server::start_with(&dir.path().join("d/s.sock"), Arc::new(fake), patience).unwrap(), told)
}

fn ask(server: &Server, command: Command) -> Response {
    client::connect(server.path()).unwrap().ask(command, &|| false, &mut |_| {}).unwrap()
}

fn first(server: &Server, bytes: &[u8]) -> Option<Response> {
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let line = Line::default().read(&mut BufReader::new(&stream), COMMAND_LEN_MAX).unwrap();
    line.map(|line| convert::response(&line).unwrap())
}

#[test]
fn a_command_is_answered_while_another_is_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let (server, told) = start(&dir);
    assert_eq!(fs::metadata(server.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let client = client::connect(server.path()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let wanted = Arc::clone(&stop);
    let other = std::thread::spawn(move || {
        let mut events = 0;
        let last = client.ask(run(), &|| wanted.load(Ordering::Relaxed), &mut |_| events += 1);
        (last, events)
    });
    assert_eq!(told.recv(), Ok("begun"));
    assert!(matches!(ask(&server, Command::Info), Response::Info(_)));
    stop.store(true, Ordering::Relaxed);
    let (last, events) = other.join().unwrap();
    let Ok(Response::Done(summary)) = last else { panic!("{last:?}") };
    // The one that was told when it was not wanted any more is not among those that moved.
    assert_eq!(summary.moved + 1, events, "every event arrives, and the last line after them");
}

#[test]
fn a_run_ends_when_its_command_dies() {
    let dir = tempfile::tempdir().unwrap();
    let (server, told) = start(&dir);
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.write_all(&convert::command_line(run())).unwrap();
    assert_eq!(told.recv(), Ok("begun"));
    drop(stream);
    assert_eq!(told.recv(), Ok("ended"));
}

#[test]
fn the_end_of_the_mount_ends_runs_and_waits_for_commands() {
    let dir = tempfile::tempdir().unwrap();
    let (server, told) = start_with(&dir, Patience { client: CLIENT_PATIENCE, last: Duration::from_secs(60) });
    let path = server.path().to_path_buf();
    let _silent = UnixStream::connect(&path).unwrap();
    let client = client::connect(&path).unwrap();
    let other = std::thread::spawn(move || client.ask(run(), &|| false, &mut |_| {}));
    assert_eq!(told.recv(), Ok("begun"));
    drop(server);
    assert_eq!(told.try_recv(), Ok("ended"));
    assert!(matches!(other.join().unwrap(), Ok(Response::Done(_))));
    assert!(!path.exists());
    assert_eq!(client::connect(&path).unwrap_err(), Refused::Absent);
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    place::prepare(&dir.path().join("d")).unwrap();
    let path = dir.path().join("d/s.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(client::connect(&path).unwrap_err(), Refused::Absent);
    let live = Server::start(&path, Arc::new(Fake::default())).unwrap();
    let refused = Server::start(&path, Arc::new(Fake::default())).unwrap_err();
    assert!(refused.contains("another mount"), "{refused}");
    assert!(matches!(ask(&live, Command::Info), Response::Info(_)));
    // A file that is no socket is never removed.
    let file = dir.path().join("d/file.sock");
    fs::write(&file, "x").unwrap();
    assert!(Server::start(&file, Arc::new(Fake::default())).is_err());
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn nonsense_is_answered_and_the_next_command_served() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _told) = start(&dir);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"{}\n", b"\0\xff\n"] {
        let Some(Response::Error(problem)) = first(&server, bytes) else { panic!("{bytes:?}") };
        assert_eq!(problem.code, USAGE);
    }
    assert_eq!(first(&server, b"{\"version\":1"), None);
    assert_eq!(first(&server, b""), None);
    assert!(matches!(ask(&server, Command::Info), Response::Info(_)));
}

#[test]
fn more_commands_than_can_be_are_told_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _told) = start(&dir);
    let silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| UnixStream::connect(server.path()).unwrap()).collect();
    let Response::Error(problem) = ask(&server, Command::Info) else { panic!("served") };
    assert_eq!(problem.code, BUSY);
    drop(silent);
}

/// What the tests wait for a command that does not read.
const SHORT: Patience = Patience { client: Duration::from_millis(50), last: Duration::from_millis(10) };

/// Tells much more than a socket holds, whether it is wanted or not, as a batch does that has moved.
#[derive(Debug)]
struct Chatty(Mutex<mpsc::Sender<&'static str>>);

impl Service for Chatty {
    fn answer(&self, _command: Command, peer: &mut Peer) -> Response {
        let _test_has_ended = self.0.lock().send("begun");
        let path = crate::control::wire::Text::Plain("x".repeat(4096));
        for _ in 0..10_000 {
            let _deaf = peer.tell(Event::Skipped { path: path.clone(), why: String::new() });
        }
        let _test_has_ended = self.0.lock().send("ended");
        Response::Done(Summary::default())
    }
}

fn start_chatty(dir: &tempfile::TempDir, patience: Patience) -> (Server, mpsc::Receiver<&'static str>) {
    let (seen, told) = mpsc::channel();
    (Server::start_with(&dir.path().join("d/s.sock"), Arc::new(Chatty(Mutex::new(seen))), patience).unwrap(), told)
}

#[test]
fn regression_a_command_that_does_not_read_is_waited_for_once_and_not_for_each_event() {
    let dir = tempfile::tempdir().unwrap();
    let (server, told) = start_chatty(&dir, SHORT);
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.write_all(&convert::command_line(run())).unwrap();
    // Waited for with each of thousands of events, this would take minutes.
    assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok("begun"));
    assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok("ended"));
    drop(server);
    drop(stream);
}

#[test]
fn regression_the_end_of_the_mount_does_not_wait_for_a_command_that_does_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (server, told) = start_chatty(&dir, Patience { client: Duration::from_secs(3600), ..SHORT });
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.write_all(&convert::command_line(run())).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok("begun"));
    let (ended, end) = mpsc::channel();
    let dropping = std::thread::spawn(move || {
        drop(server);
        let _test_has_ended = ended.send(());
    });
    assert_eq!(end.recv_timeout(Duration::from_secs(60)), Ok(()), "the end waits for a command");
    assert_eq!(told.try_recv(), Ok("ended"));
    dropping.join().unwrap();
    drop(stream);
}

#[test]
fn regression_one_that_reads_too_late_gets_whole_lines_and_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    // The last line waits until the test reads.
    let (server, told) = start_chatty(&dir, Patience { last: Duration::from_secs(3600), ..SHORT });
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.write_all(&convert::command_line(run())).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok("begun"));
    assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok("ended"));
    let mut read = BufReader::new(&stream);
    loop {
        let line = Line::default().read(&mut read, 1 << 20).unwrap().expect("the last line");
        if let Response::Done(_) = convert::response(&line).unwrap() {
            break;
        }
    }
}
