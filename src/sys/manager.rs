//! Telling the service manager how a service is (`sd_notify(3)`): one datagram to the socket that
//! `NOTIFY_SOCKET` names. No library of systemd's is needed.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;

/// Where the service manager listens: a path, or `@` and an abstract name (`unix(7)`).
const VARIABLE: &str = "NOTIFY_SOCKET";

/// The other end, for a process that is a service; without one, nothing is told.
static MANAGER: OnceLock<(UnixDatagram, SocketAddr)> = OnceLock::new();

/// From now on this process tells the service manager that started it, if one did.
///
/// Only for a process that stays in the foreground: one that goes to the background was started by a
/// program whose own state is not ours to tell, such as `mount(8)` or a script.
pub fn connect() {
    let manager = std::env::var_os(VARIABLE).and_then(|name| reach(&name));
    if let Some(manager) = manager {
        // A second call keeps the first one's socket.
        let _ = MANAGER.set(manager);
    }
}

fn reach(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    // A service manager that is stuck must not hold up the mount.
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
}

/// The service does what it is for. `status` is one line that `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={}", one_line(status)));
}

/// The service is about to end.
pub fn stopping(status: &str) {
    tell(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
}

/// A line end in a name, as a mount point may have, would begin another assignment.
fn one_line(status: &str) -> String {
    status.replace(['\n', '\0'], "?")
}

/// What is not taken is not told: the service works all the same.
fn tell(state: &str) {
    if let Some((socket, address)) = MANAGER.get() {
        let _ = socket.send_to_addr(state.as_bytes(), address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_by_path_and_an_abstract_one_are_reached_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let (socket, address) = reach(path.as_os_str()).unwrap();
        socket.send_to_addr(b"READY=1", &address).unwrap();
        let mut bytes = [0; 16];
        let length = listener.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1");

        let name = format!("tierfs-test-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let (socket, address) = reach(OsStr::new(&format!("@{name}"))).unwrap();
        socket.send_to_addr(b"STOPPING=1", &address).unwrap();
        let length = listener.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"STOPPING=1");

        assert!(reach(OsStr::new("vsock:2:1")).is_none() && reach(OsStr::new("")).is_none());
    }

    #[test]
    fn a_name_cannot_make_a_second_assignment() {
        assert_eq!(one_line("serving /srv/a\nREADY=1"), "serving /srv/a?READY=1");
    }
}
