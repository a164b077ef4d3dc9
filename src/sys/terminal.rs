//! The terminal that a command writes to.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The columns of the terminal `fd` refers to; `None` where it is none or does not tell.
pub fn width(fd: impl AsFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `fd` is open for the call's length and `size` has room for one winsize.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Some(usize::from(size.ws_col)).filter(|width| result == 0 && *width > 0)
}

/// Waits at most so long for something to be typed. `false` if the terminal is gone: reading from it would
/// give an end for ever (`tty_ioctl(4)`, hangup). A signal ends the wait.
pub fn waits(fd: impl AsFd, most: Duration) -> bool {
    let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, timeout) {
        Ok(_) => {
            let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
            !fds[0].revents().is_some_and(|found| found.intersects(gone))
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tierfs top` whose terminal had been closed read its end for ever, on a whole processor.
    #[test]
    fn a_terminal_that_was_closed_is_gone() {
        let pty = nix::pty::openpty(None, None).unwrap();
        assert!(waits(&pty.slave, Duration::ZERO));
        nix::unistd::write(&pty.master, b"q\n").unwrap();
        assert!(waits(&pty.slave, Duration::from_secs(60)));
        drop(pty.master);
        assert!(!waits(&pty.slave, Duration::from_secs(60)));
    }
}
