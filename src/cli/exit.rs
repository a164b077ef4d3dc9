//! Exit codes; `docs/EXIT_CODES.md` is the table for users.

use std::fmt;
use std::process::ExitCode;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All done.
    Ok = 0,
    /// It could not be done.
    Error = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Finished, but not for all that was named.
    Partial = 3,
    /// Nothing moved, where that was to be told.
    Nothing = 4,
    /// Stopped by a limit that was set.
    Limit = 8,
    /// In use, or already running.
    Busy = 75,
    /// A passphrase is wrong.
    Denied = 77,
    /// The configuration file is wrong.
    Config = 78,
    /// Interrupted, and left in order.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command failed: one line, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong and what to do.
    pub line: String,
    /// The exit code.
    pub code: u8,
}

impl Failure {
    /// With one of the known codes.
    pub fn new(exit: Exit, line: impl fmt::Display) -> Failure {
        Failure { line: line.to_string(), code: exit as u8 }
    }

    /// The most common one.
    pub fn error(line: impl fmt::Display) -> Failure {
        Failure::new(Exit::Error, line)
    }
}

impl From<crate::config::Error> for Failure {
    fn from(error: crate::config::Error) -> Failure {
        match error {
            crate::config::Error::Usage(line) => Failure::new(Exit::Usage, line),
            crate::config::Error::File(line) => Failure::new(Exit::Config, line),
        }
    }
}

impl From<crate::sys::mount::MountError> for Failure {
    fn from(error: crate::sys::mount::MountError) -> Failure {
        let exit = if error.is_busy() { Exit::Busy } else { Exit::Error };
        Failure::new(exit, error)
    }
}

/// What every command returns.
pub type Outcome = Result<Exit, Failure>;
