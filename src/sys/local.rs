//! Local sockets: who is at the other end, and whether he is still there.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{MsgFlags, Shutdown, getsockopt, recv, shutdown, sockopt};

use crate::types::errno::{Errno, Result};

/// The user at the other end when it connected (`SO_PEERCRED`, `unix(7)`).
///
/// # Errors
/// What `getsockopt(2)` says.
pub fn peer_uid(stream: &UnixStream) -> Result<u32> {
    Ok(getsockopt(stream, sockopt::PeerCredentials)?.uid())
}

/// The process at the other end when it connected or began to listen.
///
/// # Errors
/// What `getsockopt(2)` says.
pub fn peer_pid(stream: &UnixStream) -> Result<i32> {
    Ok(getsockopt(stream, sockopt::PeerCredentials)?.pid())
}

/// Whether somebody accepts connections there. Does not wait for him to do so.
///
/// # Errors
/// ECONNREFUSED where nobody does; what else `connect(2)` says.
pub fn try_connect(path: &std::path::Path) -> std::io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    Ok(connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?)
}

/// The user this process acts as.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Ends the wait of whoever accepts connections, for good.
///
/// # Errors
/// What `shutdown(2)` says.
pub fn stop_accepting(listener: &impl AsRawFd) -> Result<()> {
    Ok(shutdown(listener.as_raw_fd(), Shutdown::Both)?)
}

/// Whether the other end has closed its way of writing, or is gone. Does not wait, and leaves what
/// it may have written where it is.
pub fn has_hung_up(stream: &UnixStream) -> bool {
    let mut byte = [0u8; 1];
    match recv(stream.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(read) => read == 0,
        Err(errno) => !matches!(Errno::from(errno), Errno::EAGAIN | Errno::EINTR),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_other_end_is_known_and_its_hanging_up_is_seen() {
        let (here, mut there) = UnixStream::pair().unwrap();
        assert_eq!(peer_uid(&here), Ok(own_uid()));
        assert_eq!(peer_pid(&here), Ok(i32::try_from(std::process::id()).unwrap()));
        assert!(!has_hung_up(&here));
        there.write_all(b"x").unwrap();
        assert!(!has_hung_up(&here));
        assert_eq!(std::io::Read::read(&mut (&here), &mut [0; 4]).unwrap(), 1);
        there.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(has_hung_up(&here));
    }

    #[test]
    fn a_wait_for_connections_ends() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let other = listener.try_clone().unwrap();
        let waiting = std::thread::spawn(move || other.accept().is_err());
        stop_accepting(&listener).unwrap();
        assert!(waiting.join().unwrap());
    }
}
