//! Claims on a file against other programs.

/// Whom a claim excludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excludes {
    /// Everybody who writes.
    Writers,
    /// Everybody who has the file open.
    All,
}
