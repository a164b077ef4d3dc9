//! The command's end of a connection.

use std::io::{BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use crate::control::convert;
use crate::control::line::{COMMAND_LEN_MAX, Line, RESPONSE_LEN_MAX};
use crate::control::wire::{Command, Event, Response};
use crate::sys::local;
use crate::sys::process::Process;

/// How often a wait for the mount looks whether the user wants to stop.
const TICK: Duration = Duration::from_millis(100);

/// How long the mount may take to accept a command that is a few mebibytes at most.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Nobody listens there.
    Absent,
    /// The user may not.
    Denied,
    /// Something else.
    Other(String),
}

/// A connection to a mount.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

/// Connects to the mount that listens on `path`. Anybody can mount something that names a socket of his
/// own, and that may answer anything or never: so the other end must be root or this user.
///
/// # Errors
/// Why not.
pub fn connect(path: &Path) -> Result<Client, Refused> {
    match UnixStream::connect(path) {
        Ok(stream) => match local::peer_uid(&stream) {
            Ok(uid) if uid == 0 || uid == local::own_uid() => Ok(Client { stream }),
            Ok(uid) => Err(Refused::Other(format!("this mount belongs to user {uid}: run this as that user"))),
            Err(errno) => Err(Refused::Other(format!("{}: {errno}", path.display()))),
        },
        Err(error) => Err(match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Refused::Absent,
            ErrorKind::PermissionDenied => Refused::Denied,
            _ => Refused::Other(format!("{}: {error}", path.display())),
        }),
    }
}

impl Client {
    /// The daemon of the mount; `None` where the kernel cannot tell.
    pub fn daemon(&self) -> Option<Process> {
        local::peer_pid(&self.stream).and_then(Process::hold).ok()
    }

    /// Sends `command`, passes each event to `tell`, and returns the last line. `stop` is asked now
    /// and then; once it says yes, the mount is told, and ends the work soon.
    ///
    /// # Errors
    /// One line: the mount has ended, or speaks another format.
    pub fn ask(
        self,
        command: Command,
        stop: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Response, String> {
        let line = convert::command_line(command);
        if line.len() > COMMAND_LEN_MAX {
            return Err("the command is too long: name a directory above the many paths".into());
        }
        let broken = |error: std::io::Error| format!("the mount does not answer: {error}");
        self.stream.set_write_timeout(Some(SEND_PATIENCE)).map_err(broken)?;
        match (&self.stream).write_all(&line) {
            // It may have said why it reads no more.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            other => other.map_err(broken)?,
        }
        self.stream.set_read_timeout(Some(TICK)).map_err(broken)?;
        let mut from = BufReader::new(&self.stream);
        let mut line = Line::default();
        let mut stopped = false;
        loop {
            if !stopped && stop() {
                stopped = true;
                // A mount that is gone needs no telling.
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            let read = match line.read(&mut from, RESPONSE_LEN_MAX) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.map_err(broken)?,
            };
            let read = read.ok_or("the mount has ended before it answered: look into its log")?;
            match convert::response(&read).map_err(|why| why.0)? {
                Response::Event(event) => tell(event),
                last => return Ok(last),
            }
        }
    }
}

/// Why nobody has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody listens.
    Absent,
    /// The user may not ask.
    Denied,
    /// Somebody listens, and says nothing.
    Silent,
    /// What was said is no answer, for this reason.
    Unreadable(String),
}

/// Asks whoever listens on `path`, and waits no longer than `patience` whatever becomes of it. Tells who has
/// answered: anybody can claim anything, so what is said counts for mounts of this user alone.
///
/// # Errors
/// Why there is no answer.
pub fn ask_once(path: &Path, command: Command, patience: Duration) -> Result<(u32, Response), NoAnswer> {
    let (tell, told) = mpsc::channel();
    let (path, line) = (path.to_path_buf(), convert::command_line(command));
    // Even the connection can wait, for one that does not accept. The thread ends with the process.
    let thread = std::thread::Builder::new().name("ask".into()).spawn(move || {
        // Nobody may wait for it any more.
        let _ = tell.send(exchange(&path, &line, patience));
    });
    match thread {
        Ok(_) => told.recv_timeout(patience).unwrap_or(Err(NoAnswer::Silent)),
        Err(error) => Err(NoAnswer::Unreadable(error.to_string())),
    }
}

fn exchange(path: &Path, command: &[u8], patience: Duration) -> Result<(u32, Response), NoAnswer> {
    let broken = |error: std::io::Error| match error.kind() {
        // Reset: the mount ended before it took the connection.
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => NoAnswer::Absent,
        ErrorKind::PermissionDenied => NoAnswer::Denied,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => NoAnswer::Silent,
        _ => NoAnswer::Unreadable(error.to_string()),
    };
    let mut stream = UnixStream::connect(path).map_err(broken)?;
    let uid = local::peer_uid(&stream).map_err(|errno| NoAnswer::Unreadable(errno.to_string()))?;
    stream.set_write_timeout(Some(patience)).map_err(broken)?;
    stream.set_read_timeout(Some(patience)).map_err(broken)?;
    match stream.write_all(command) {
        // It may have said why it reads no more.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        other => other.map_err(broken)?,
    }
    let read = Line::default().read(&mut BufReader::new(&stream), RESPONSE_LEN_MAX).map_err(broken)?;
    let read = read.ok_or(NoAnswer::Absent)?;
    convert::response(&read).map(|response| (uid, response)).map_err(|why| NoAnswer::Unreadable(why.0))
}
