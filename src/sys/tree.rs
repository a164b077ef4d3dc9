//! A private view of a mount.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::types::errno::{Errno, Result};

/// A private view.
///
/// # Errors
/// EPERM.
pub fn private_clone(_root: BorrowedFd<'_>) -> Result<OwnedFd> {
    Err(Errno::EPERM)
}
