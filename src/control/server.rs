//! The daemon's end: a thread that accepts, and one for each connection.
//!
//! A command that does not read what it is told holds up whoever tells it, but only once and only for
//! [`CLIENT_PATIENCE`]: after that it counts as gone, and nothing more is written to it. So nothing may be
//! told while a lock is held that requests of the mount wait for.

use std::fs;
use std::io::{BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::control::line::{COMMAND_LEN_MAX, Line};
use crate::control::wire::{Command, Event, Problem, Response};
use crate::control::{convert, place};
use crate::sys::local;

/// Connections at a time. Each takes a thread, and more commands on one mount are a mistake.
const CONNECTIONS_MAX: usize = 16;

/// How long a connection may take to say what it wants: it has it ready when it connects.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);

/// How long a command may leave what it is told unread, as when it is suspended.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

/// The same while the mount ends, and for the last line to one that has not read the others.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// A write waits no longer at a time, so that the end of the mount is noticed in between.
const WRITE_NAP: Duration = Duration::from_millis(200);

/// What is told is gathered up to this length.
const GATHER_LEN_MAX: usize = 8 << 10;

/// What is told may wait so long for more to go with it: a run can tell of many files in a moment.
const GATHER_MAX: Duration = Duration::from_millis(100);

/// A mistake of the other end.
const USAGE: u8 = 2;
/// Trying later can help.
const BUSY: u8 = 75;

/// Answers commands.
pub trait Service: std::fmt::Debug + Send + Sync {
    /// Does what is wanted, tells `peer` how it goes, and returns the last line.
    fn answer(&self, command: Command, peer: &mut Peer) -> Response;
}

/// Listens until dropped; then it stops what is at work, waits for it and removes the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// Device and inode of the socket, so that no other mount's is removed.
    identity: (u64, u64),
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    listener: UnixListener,
    service: Arc<dyn Service>,
    stopping: Arc<AtomicBool>,
    patience: Patience,
    connections: Mutex<Vec<Connection>>,
}

/// How long it is waited for a command that does not read.
#[derive(Debug, Clone, Copy)]
struct Patience {
    client: Duration,
    last: Duration,
}

const PATIENCE: Patience = Patience { client: CLIENT_PATIENCE, last: LAST_PATIENCE };

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    thread: JoinHandle<()>,
}

impl Server {
    /// Listens on `path`, whose directory is made. A socket that nobody listens on any more is
    /// replaced.
    ///
    /// # Errors
    /// One line that says why not.
    pub fn start(path: &Path, service: Arc<dyn Service>) -> Result<Server, String> {
        Server::start_with(path, service, PATIENCE)
    }

    fn start_with(path: &Path, service: Arc<dyn Service>, patience: Patience) -> Result<Server, String> {
        place::prepare(path.parent().unwrap_or(Path::new("/")))?;
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        let listener = bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(told)?;
        let identity = identity(path).map_err(told)?;
        let shared = Arc::new(Shared {
            listener,
            service,
            stopping: Arc::new(AtomicBool::new(false)),
            patience,
            connections: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || accepting.accept());
        Ok(Server { path: path.to_path_buf(), identity, shared, accepting: Some(thread.map_err(told)?) })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // What stays behind is taken for dead by the next mount.
            let _ = fs::remove_file(&self.path);
        }
        let stopped = local::stop_accepting(&self.shared.listener);
        if let Some(thread) = self.accepting.take().filter(|_| stopped.is_ok()) {
            let _ended = thread.join();
        }
        let connections = std::mem::take(&mut *self.shared.connections.lock());
        for connection in connections {
            // Wakes one that waits for its command; the last line of one at work still goes out.
            let _closed = connection.stream.shutdown(Shutdown::Read);
            let _ended = connection.thread.join();
        }
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Binds, over the socket of a daemon that is dead. The tiers' locks keep two daemons of one union
/// from being here at a time.
fn bind(path: &Path) -> Result<UnixListener, String> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {}
        other => return other.map_err(told),
    }
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused && is_socket => {
            fs::remove_file(path).map_err(told)?;
            UnixListener::bind(path).map_err(told)
        }
        Ok(_) => Err(format!("{} serves another mount of a union with the same id", path.display())),
        Err(error) => Err(told(error)),
    }
}

impl Shared {
    fn accept(self: &Arc<Shared>) {
        while !self.stopping.load(Ordering::Relaxed) {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream),
                Err(_) if self.stopping.load(Ordering::Relaxed) => return,
                Err(error) => {
                    // Without descriptors it would only turn in circles here.
                    tracing::warn!("commands are not taken for a while: {error}");
                    std::thread::park_timeout(GATHER_MAX);
                }
            }
        }
    }

    fn admit(self: &Arc<Shared>, stream: UnixStream) {
        let mut connections = self.connections.lock();
        connections.retain(|connection| !connection.thread.is_finished());
        let mut peer = match Peer::new(&stream, Arc::clone(&self.stopping), self.patience) {
            Ok(peer) => peer,
            Err(error) => return tracing::debug!("a connection that is gone again: {error}"),
        };
        if connections.len() >= CONNECTIONS_MAX {
            return peer.finish(problem(BUSY, "too many commands at a time on this mount: try again later"));
        }
        let shared = Arc::clone(self);
        let kept = stream.try_clone();
        let thread = std::thread::Builder::new().name("command".into()).spawn(move || shared.serve(&stream, peer));
        match (kept, thread) {
            (Ok(stream), Ok(thread)) => connections.push(Connection { stream, thread }),
            (Err(error), _) | (_, Err(error)) => tracing::warn!("a command cannot be served: {error}"),
        }
    }

    fn serve(&self, stream: &UnixStream, mut peer: Peer) {
        match self.command(stream) {
            Ok(Some(command)) => {
                let last = self.service.answer(command, &mut peer);
                peer.finish(last);
            }
            Ok(None) => {}
            Err(problem) => peer.finish(problem),
        }
        // Dropping would not end the connection: it is also among those that the end of the mount
        // wakes.
        let _closed = stream.shutdown(Shutdown::Both);
    }

    /// What the other end wants; `None` if it has gone without a word.
    fn command(&self, stream: &UnixStream) -> Result<Option<Command>, Response> {
        match local::peer_uid(stream) {
            Ok(uid) if uid == 0 || uid == local::own_uid() => {}
            Ok(uid) => {
                tracing::warn!(uid, "a command of another user is refused");
                return Err(problem(1, "only root and the user who mounted may do this: run it with sudo"));
            }
            Err(errno) => return Err(problem(1, &format!("the mount cannot tell who asks: {errno}"))),
        }
        let told = |error: std::io::Error| problem(USAGE, &format!("the command cannot be read: {error}"));
        stream.set_read_timeout(Some(COMMAND_PATIENCE)).map_err(told)?;
        match Line::default().read(&mut BufReader::new(stream), COMMAND_LEN_MAX).map_err(told)? {
            None => Ok(None),
            Some(line) => convert::command(&line).map(Some).map_err(|why| problem(USAGE, &why.0)),
        }
    }
}

fn problem(code: u8, line: &str) -> Response {
    Response::Error(Problem { code, line: line.into() })
}

/// The other end of one connection, as the service sees it.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
    /// What is told and not written yet. Not a `BufWriter`: that writes once more when it is dropped,
    /// and waits for one that does not read.
    out: Vec<u8>,
    stopping: Arc<AtomicBool>,
    patience: Patience,
    flushed: Instant,
    /// It has hung up or closed its way of writing: the work is not wanted any more.
    gone: bool,
    /// It does not read: nothing more is written.
    deaf: bool,
}

impl Peer {
    fn new(stream: &UnixStream, stopping: Arc<AtomicBool>, patience: Patience) -> std::io::Result<Peer> {
        let stream = stream.try_clone()?;
        stream.set_write_timeout(Some(WRITE_NAP.min(patience.last)))?;
        Ok(Peer { stream, out: Vec::new(), stopping, patience, flushed: Instant::now(), gone: false, deaf: false })
    }

    /// Tells an event, at once or with those that follow soon. Whether the work is still wanted.
    pub fn tell(&mut self, event: Event) -> bool {
        self.put(Response::Event(event));
        if self.flushed.elapsed() >= GATHER_MAX || self.out.len() >= GATHER_LEN_MAX {
            self.flush();
            self.gone |= local::has_hung_up(&self.stream);
        }
        self.is_there()
    }

    /// The same without an event, for one that waits before it begins.
    pub fn is_wanted(&mut self) -> bool {
        self.gone |= local::has_hung_up(&self.stream);
        self.is_there()
    }

    /// Whether the work is still wanted.
    fn is_there(&self) -> bool {
        !self.gone && !self.deaf && !self.stopping.load(Ordering::Relaxed)
    }

    fn put(&mut self, response: Response) {
        if !self.deaf {
            self.out.extend_from_slice(&convert::response_line(response));
        }
    }

    fn flush(&mut self) {
        self.flushed = Instant::now();
        self.deaf = self.deaf || !self.write(self.patience.client);
    }

    /// Writes what there is; not all if the other end takes nothing for so long, or has gone. The rest
    /// of a line is kept, so that what follows is not taken for a part of it.
    fn write(&mut self, patience: Duration) -> bool {
        let mut since = Instant::now();
        while !self.out.is_empty() {
            match (&self.stream).write(&self.out) {
                Ok(0) => return false,
                Ok(written) => {
                    self.out.drain(..written);
                    since = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let ends = self.stopping.load(Ordering::Relaxed);
                    if since.elapsed() >= if ends { patience.min(self.patience.last) } else { patience } {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Tells the last line, also to one that has not read those before: it may be about to.
    fn finish(&mut self, last: Response) {
        // One that only has closed its way of writing still reads this.
        let patience = if self.deaf { self.patience.last } else { self.patience.client };
        self.out.extend_from_slice(&convert::response_line(last));
        let _told_or_gone = self.write(patience);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
