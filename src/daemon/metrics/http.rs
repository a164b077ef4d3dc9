//! The port: as much of HTTP/1.1 as a scrape takes, and nothing that a stranger could make wait.
//!
//! Each connection asks one question and has [`PATIENCE`] for everything; there are few at a time, and
//! the rest is turned away at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::sys::local;

/// The longest question in bytes, headers included, and the most headers.
const REQUEST_LEN_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 4;

/// How long a connection may take to ask, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 5 });

/// A port that is taken is tried again after this: the mount before this one may still be ending.
const RETRY: Duration = Duration::from_secs(10);

/// What is answered to.
const PATH: &str = "/metrics";

/// The format of the answer: Prometheus's text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

type Page = dyn Fn() -> String + Send + Sync;

/// Serves until dropped.
#[derive(Debug)]
pub(super) struct Port {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    connections: AtomicUsize,
    listener: Mutex<Option<TcpListener>>,
    stopped: Condvar,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let listener = self.shared.listener.lock();
        let stopped = listener.as_ref().is_none_or(|listener| local::stop_accepting(listener).is_ok());
        drop(listener);
        self.shared.stopped.notify_all();
        if let Some(thread) = self.thread.take().filter(|_| stopped) {
            // A panic there has been told, and the mount ends anyway.
            let _ended = thread.join();
        }
    }
}

impl Port {
    /// Listens on `address`. The mount serves as well without, so what is in the way is only logged.
    pub(super) fn start(address: SocketAddr, page: impl Fn() -> String + Send + Sync + 'static) -> Option<Port> {
        let shared = Arc::new(Shared::default());
        let of = Arc::clone(&shared);
        let thread = Builder::new().name("metrics-http".into()).spawn(move || of.serve(address, &Arc::new(page)));
        match thread {
            Ok(thread) => Some(Port { shared, thread: Some(thread) }),
            Err(error) => {
                tracing::warn!("no metrics are served on {address}: {error}");
                None
            }
        }
    }
}

impl Shared {
    fn serve<P: Fn() -> String + Send + Sync + 'static>(self: &Arc<Shared>, address: SocketAddr, page: &Arc<P>) {
        let Some(listener) = self.listen(address) else { return };
        while !self.stopping.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => self.admit(stream, page),
                Err(_) if self.stopping.load(Ordering::SeqCst) => return,
                Err(error) => {
                    // Without descriptors it would only turn in circles here.
                    tracing::debug!("no connection for metrics is taken for a while: {error}");
                    std::thread::park_timeout(Duration::from_millis(100));
                }
            }
        }
    }

    /// Has the port, as soon as it is free. `None` if the mount ends before that.
    fn listen(&self, address: SocketAddr) -> Option<TcpListener> {
        let mut told = false;
        let mut kept = self.listener.lock();
        loop {
            if self.stopping.load(Ordering::SeqCst) {
                return None;
            }
            let bound = TcpListener::bind(address).and_then(|listener| Ok((listener.try_clone()?, listener)));
            match bound {
                Ok((copy, listener)) => {
                    tracing::info!("metrics are on http://{address}{PATH}");
                    *kept = Some(copy);
                    return Some(listener);
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(
                            "no metrics on http://{address}{PATH} for now: {error}: end what uses the port, or choose \
                             another (metrics: {{listen: …}})"
                        );
                    }
                    self.stopped.wait_for(&mut kept, RETRY);
                }
            }
        }
    }

    fn admit<P: Fn() -> String + Send + Sync + 'static>(self: &Arc<Shared>, stream: TcpStream, page: &Arc<P>) {
        let place = Place(Arc::clone(self));
        if self.connections.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            return turn_away(&stream);
        }
        let page = Arc::clone(page);
        let serve = move || {
            let _place = place;
            answer(&stream, page.as_ref());
        };
        if let Err(error) = Builder::new().name("metrics-one".into()).spawn(serve) {
            tracing::debug!("a scrape cannot be served: {error}");
        }
    }
}

/// Counted while this lives.
struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Without waiting: what does not go out at once is dropped.
fn turn_away(stream: &TcpStream) {
    let text = reply("503 Service Unavailable", "", "too many connections at a time\n", true);
    let sent = stream.set_nonblocking(true).and_then(|()| (&*stream).write_all(text.as_bytes()));
    drop(sent);
}

/// Reads one question and answers it.
fn answer(stream: &TcpStream, page: &Page) {
    let until = Instant::now() + PATIENCE;
    let answer = match question(stream, until) {
        Ok(Some(Question::Page { with_body })) => {
            reply("200 OK", &format!("Content-Type: {TEXT}\r\n"), &page(), with_body)
        }
        Ok(Some(Question::Index)) => {
            let body = "tierfs: the numbers of this mount are at /metrics\n";
            reply("200 OK", "Content-Type: text/plain\r\n", body, true)
        }
        Ok(Some(Question::Elsewhere)) => reply("404 Not Found", "", "only /metrics is here\n", true),
        Ok(Some(Question::Method)) => reply("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "only GET\n", true),
        Ok(Some(Question::TooLong)) => reply("431 Request Header Fields Too Large", "", "too long\n", true),
        Ok(Some(Question::Bad)) => reply("400 Bad Request", "", "this is not HTTP\n", true),
        Ok(None) | Err(_) => return,
    };
    // Whoever does not take it has gone, or is not worth more time.
    let _sent = send(stream, answer.as_bytes(), Instant::now() + PATIENCE);
    let _closed = stream.shutdown(Shutdown::Write);
    // What it may still have sent would turn the end into a reset, and the answer would be lost.
    let _rest = drain(stream, until);
}

/// What a connection wants.
#[derive(Debug, PartialEq, Eq)]
enum Question {
    Page { with_body: bool },
    Index,
    Elsewhere,
    Method,
    TooLong,
    Bad,
}

/// `None` if it has gone without a whole question.
fn question(stream: &TcpStream, until: Instant) -> std::io::Result<Option<Question>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        match parse(&bytes) {
            Some(question) => return Ok(Some(question)),
            None if bytes.len() >= REQUEST_LEN_MAX => return Ok(Some(Question::TooLong)),
            None => {}
        }
        let read = read(stream, &mut chunk, until)?;
        if read == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// The question, once it is whole.
fn parse(bytes: &[u8]) -> Option<Question> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Some(Question::TooLong),
        Err(_) => return Some(Question::Bad),
    }
    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
    Some(match (request.method.unwrap_or_default(), path) {
        (method @ ("GET" | "HEAD"), PATH) => Question::Page { with_body: method == "GET" },
        ("GET" | "HEAD", "/") => Question::Index,
        ("GET" | "HEAD", _) => Question::Elsewhere,
        _ => Question::Method,
    })
}

fn reply(status: &str, headers: &str, body: &str, with_body: bool) -> String {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    if with_body { head + body } else { head }
}

fn timed_out() -> std::io::Error {
    std::io::Error::from(ErrorKind::TimedOut)
}

fn left(until: Instant) -> std::io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(timed_out()) } else { Ok(left) }
}

fn read(stream: &TcpStream, into: &mut [u8], until: Instant) -> std::io::Result<usize> {
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        match (&*stream).read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn send(stream: &TcpStream, mut bytes: &[u8], until: Instant) -> std::io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match (&*stream).write(bytes) {
            Ok(0) => return Err(timed_out()),
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn drain(stream: &TcpStream, until: Instant) -> std::io::Result<()> {
    let mut chunk = [0; 1024];
    let mut rest = REQUEST_LEN_MAX;
    while rest > 0 {
        match read(stream, &mut chunk, until)? {
            0 => return Ok(()),
            read => rest = rest.saturating_sub(read),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start() -> (Port, SocketAddr) {
        // Whoever takes the number in between makes this port wait, and the test take the next.
        loop {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let port = Port::start(free, || "up 1\n".into()).unwrap();
            for _ in 0..1000 {
                if port.shared.listener.try_lock().is_some_and(|listener| listener.is_some()) {
                    return (port, free);
                }
                std::thread::yield_now();
            }
        }
    }

    fn ask(address: SocketAddr, question: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        // The answer may come before all of it was taken.
        let _sent = stream.write_all(question);
        let mut told = String::new();
        let _reset = stream.read_to_string(&mut told);
        told
    }

    #[test]
    fn a_scrape_is_answered_and_nonsense_refused() {
        let (port, address) = start();
        let page = ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{page}");
        assert!(page.ends_with("\r\nContent-Length: 5\r\nConnection: close\r\n\r\nup 1\n"), "{page}");
        assert!(ask(address, b"HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("close\r\n\r\n"));
        let long = [b"GET /metrics HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; REQUEST_LEN_MAX]].concat();
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        for (question, says) in [
            (&b"GET /etc/passwd HTTP/1.1\r\n\r\n"[..], "404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
            (&long, "431"),
            (many.as_bytes(), "431"),
        ] {
            let told = ask(address, question);
            assert!(told.starts_with(&format!("HTTP/1.1 {says} ")), "{told}");
        }
        drop(port);
        assert!(TcpStream::connect(address).is_err(), "it has ended");
    }

    #[test]
    fn one_that_says_nothing_holds_up_no_other() {
        let (_port, address) = start();
        let silent: Vec<TcpStream> = (0..CONNECTIONS_MAX - 1).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert!(ask(address, b"GET /metrics HTTP/1.1\r\n\r\n").ends_with("up 1\n"));
        drop(silent);
    }

    #[test]
    fn more_than_a_few_at_a_time_are_turned_away() {
        let (port, address) = start();
        let silent: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
        while port.shared.connections.load(Ordering::SeqCst) < CONNECTIONS_MAX {
            std::thread::yield_now();
        }
        let mut told = String::new();
        let _reset = TcpStream::connect(address).unwrap().read_to_string(&mut told);
        assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
        drop(silent);
    }

    #[test]
    fn a_port_that_is_taken_is_waited_for_and_the_end_of_the_mount_is_not() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Port::start(taken.local_addr().unwrap(), String::new).unwrap();
        drop(port);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
