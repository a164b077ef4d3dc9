//! Asks at the terminal, without showing what is typed.

use crate::keys::{Error, Kind};
use crate::sys::secret::Secret;
use crate::types::errno::Errno;

/// Asks once.
pub(super) fn once(question: &str) -> Result<Secret, Error> {
    match rpassword::prompt_password(question) {
        Ok(text) => Ok(Secret::take(text.into_bytes())),
        Err(error) if no_terminal(Errno::of(&error)) => Err(Error::new(
            Kind::Usage,
            "there is no terminal to ask at: name where the passphrase comes from, such as a file with --passfile",
        )),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Error::new(Kind::Usage, "nothing was typed"))
        }
        Err(error) => Err(Error::new(Kind::Failed, format!("the terminal: {}", Errno::of(&error)))),
    }
}

/// Asks for the same thing two times, as nobody sees what is typed.
pub(super) fn twice(question: &str) -> Result<Secret, Error> {
    let first = once(question)?;
    let second = once("Once more: ")?;
    if first != second {
        return Err(Error::new(Kind::Usage, "the two are not the same: nothing was changed"));
    }
    Ok(first)
}

/// What opening `/dev/tty` says to a process without one.
fn no_terminal(errno: Errno) -> bool {
    [Errno::ENXIO, Errno::ENOENT, Errno::ENOTTY, Errno::ENODEV, Errno::EACCES].contains(&errno)
}
