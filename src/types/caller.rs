//! Who asks.

/// The program a request comes from, and what its new files get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Filesystem user id.
    pub uid: u32,
    /// Filesystem group id.
    pub gid: u32,
    /// File mode creation mask.
    pub umask: u32,
    /// Process (thread) id, 0 if unknown here.
    pub pid: u32,
}

impl Caller {
    /// tierfs itself.
    pub const DAEMON: Caller = Caller { uid: 0, gid: 0, umask: 0, pid: 0 };
}
