//! The descriptor of a FUSE connection.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::types::errno::{Errno, Result};

/// Makes the descriptor `over` one of what `of` is open on, in place of what it was.
///
/// # Errors
/// What `dup3(2)` says.
pub fn replace(over: BorrowedFd<'_>, of: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: both are open, as their borrows show, and `over` stays open and its owner's: only what it is
    // open on changes, as the caller asks for.
    match unsafe { libc::dup3(of.as_raw_fd(), over.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(Errno::of(&std::io::Error::last_os_error())),
        _ => Ok(()),
    }
}

/// Whether the connection has ended: the mount is gone.
pub fn is_over(device: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(device, PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0]
            .revents()
            .is_some_and(|now| now.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn a_replaced_descriptor_reads_what_the_other_is_open_on() {
        let home = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::write(home.path().join(name), name).unwrap();
        }
        let open = |name| std::fs::File::open(home.path().join(name)).unwrap();
        let (mut a, b) = (open("a"), open("b"));
        super::replace(a.as_fd(), b.as_fd()).unwrap();
        let mut read = String::new();
        a.read_to_string(&mut read).unwrap();
        assert_eq!(read, "b");
        assert!(!super::is_over(b.as_fd()));
    }
}
