//! How a view of directories behaves.

use std::time::Duration;

/// What happens to a file that changes while somebody reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    /// The read fails with EIO: a copy would be of no one moment.
    #[default]
    Fail,
    /// It is read as it is at each moment, up to its size when it was opened.
    Serve,
}

/// How long the kernel keeps the attributes of a file in a view. A program that opens a file, asks for its
/// size and reads so much must not be told the size of before the last change: it would cut a block.
pub const FILE_TTL: Duration = Duration::from_millis(5);

/// After so long without a change, the next will show: the times it sets differ from those of the last,
/// because a tick of the clock by which filesystems stamp (at most 10 ms) lies between, and the kernel has
/// given up what it knew before the last ([`FILE_TTL`], and at most two ticks of 10 ms to notice).
pub const SETTLED: Duration = Duration::from_millis(40);
