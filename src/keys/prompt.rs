//! Asks at the terminal, without showing what is typed.

use std::path::Path;

use crate::keys::{Error, Kind};
use crate::sys::secret::Secret;
use crate::sys::signal;
use crate::types::errno::Errno;

/// Asks once for `what`, such as "Passphrase", of `volume`.
pub(super) fn once(what: &str, volume: &Path) -> Result<Secret, Error> {
    ask(&format!("{what} of {}: ", volume.display())).map_err(|error| match error {
        Refusal::NoTerminal => Error::new(
            Kind::Usage,
            format!(
                "{}: there is no terminal to ask at for the {}: name where it comes from, such as a file with \
                 --passfile, or with `passfile:` in the configuration",
                volume.display(),
                what.to_lowercase()
            ),
        ),
        Refusal::Other(error) => error,
    })
}

/// Asks for the same thing two times, as nobody sees what is typed.
pub(super) fn twice(what: &str, volume: &Path) -> Result<Secret, Error> {
    let first = once(what, volume)?;
    let second = ask("Once more: ").map_err(|error| match error {
        Refusal::NoTerminal => Error::new(Kind::Failed, "the terminal is gone: nothing was changed"),
        Refusal::Other(error) => error,
    })?;
    if first != second {
        return Err(Error::new(Kind::Failed, "the two are not the same: nothing was changed"));
    }
    Ok(first)
}

/// Why there is no answer.
enum Refusal {
    NoTerminal,
    Other(Error),
}

fn ask(question: &str) -> Result<Secret, Refusal> {
    let other = |kind, line: &str| Refusal::Other(Error::new(kind, line));
    // The key for an interrupt ends the question like any other answer. By itself it would end the process with
    // a terminal that shows nothing of what is typed.
    match signal::without_interrupt(|| rpassword::prompt_password(question)) {
        Ok(text) => Ok(Secret::take(text.into_bytes())),
        Err(error) if no_terminal(Errno::of(&error)) => Err(Refusal::NoTerminal),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(other(Kind::Failed, "nothing was typed: nothing was changed"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
            Err(other(Kind::Interrupted, "interrupted: nothing was changed"))
        }
        Err(error) => Err(other(Kind::Failed, &format!("the terminal: {}", Errno::of(&error)))),
    }
}

/// What opening `/dev/tty` says to a process without one.
fn no_terminal(errno: Errno) -> bool {
    [Errno::ENXIO, Errno::ENOENT, Errno::ENOTTY, Errno::ENODEV, Errno::EACCES].contains(&errno)
}
