//! How a view of directories behaves.

/// What happens to a file that changes while somebody reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    /// The read fails with EIO: a copy would be of no one moment.
    #[default]
    Fail,
    /// It is read as it is at each moment, up to its size when it was opened.
    Serve,
}
