//! The terminal that a command writes to.

use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// The columns of the terminal `fd` refers to; `None` where it is none or does not tell.
pub fn width(fd: impl AsFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `fd` is open for the call's length and `size` has room for one winsize.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Some(usize::from(size.ws_col)).filter(|width| result == 0 && *width > 0)
}
