//! Between lines and values.

use crate::control::wire::{Coded, Command, CommandLine, Response, ResponseLine, Text, VERSION, Versioned};
use crate::types::hex;

/// Why a line cannot be used, in words for the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(pub String);

/// Bytes as they are written.
pub fn text(bytes: &[u8]) -> Text {
    match std::str::from_utf8(bytes) {
        Ok(plain) => Text::Plain(plain.into()),
        Err(_) => Text::Coded(Coded { hex: hex::write(bytes) }),
    }
}

/// The bytes again; `None` where the digits are none.
pub fn bytes(text: &Text) -> Option<Vec<u8>> {
    match text {
        Text::Plain(plain) => Some(plain.as_bytes().to_vec()),
        Text::Coded(coded) => hex::read(&coded.hex),
    }
}

/// A command as one line, with its newline.
pub fn command_line(command: Command) -> Vec<u8> {
    line(&CommandLine { version: VERSION, command })
}

/// A response as one line, with its newline.
pub fn response_line(response: Response) -> Vec<u8> {
    line(&ResponseLine { version: VERSION, response })
}

fn line(value: &impl serde::Serialize) -> Vec<u8> {
    // These values have neither maps with keys that are no text nor anything else JSON cannot hold.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads a command.
///
/// # Errors
/// What is wrong with it.
pub fn command(line: &[u8]) -> Result<Command, Unreadable> {
    check_version(line)?;
    let read: Result<CommandLine, _> = serde_json::from_slice(line);
    read.map(|line| line.command).map_err(|error| Unreadable(format!("the command cannot be read: {error}")))
}

/// Reads a response.
///
/// # Errors
/// What is wrong with it.
pub fn response(line: &[u8]) -> Result<Response, Unreadable> {
    check_version(line)?;
    let read: Result<ResponseLine, _> = serde_json::from_slice(line);
    read.map(|line| line.response).map_err(|error| Unreadable(format!("the answer cannot be read: {error}")))
}

fn check_version(line: &[u8]) -> Result<(), Unreadable> {
    match serde_json::from_slice::<Versioned>(line) {
        Ok(Versioned { version: VERSION }) => Ok(()),
        Ok(Versioned { version }) => Err(Unreadable(format!(
            "command and mount are of different versions of tierfs (control format {version} and {VERSION}): \
             mount again with the installed one"
        ))),
        Err(error) => Err(Unreadable(format!("this is not the control format of tierfs: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::control::wire::{AgeBy, Criteria, Event, Limits, Order, Run, Verify, What};

    fn run(paths: &[&[u8]], what: What) -> Command {
        Command::Run(Run {
            what,
            paths: paths.iter().map(|path| text(path)).collect(),
            limits: Limits { files: Some(3), ..Limits::default() },
            order: Some(Order::Oldest),
            verify: Some(Verify::Hash),
            dry_run: true,
            ignore_window: true,
            scheduled: false,
        })
    }

    #[test]
    fn a_command_reads_back() {
        let criteria = Criteria {
            older_than: Some(Duration::from_millis(1500)),
            age_by: AgeBy::Newest,
            min_size: 1,
            exclude: vec!["*.tmp".into()],
            to: Some(1),
        };
        for what in [What::Criteria(criteria), What::Configured, What::To(0), What::Undo("r".into())] {
            let sent = run(&[b"a b", b"\xff\n"], what);
            let line = command_line(sent.clone());
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(command(&line), Ok(sent));
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (line, says) in [
            (&br#"{"version":4,"command":"info","more":1}"#[..], "unknown field `more`"),
            (br#"{"version":4,"command":"stop"}"#, "unknown variant `stop`"),
            (br#"{"version":1,"command":{"old":{}}}"#, "different versions"),
            (br#"{"command":"info"}"#, "missing field `version`"),
            (b"GET / HTTP/1.1", "not the control format"),
            (b"", "not the control format"),
        ] {
            let Unreadable(line) = command(line).unwrap_err();
            assert!(line.contains(says), "{line}");
        }
        let mut line = String::from_utf8(command_line(run(&[], What::Configured))).unwrap();
        line = line.replace("\"limits\":{", "\"limits\":{\"people\":3,");
        assert!(command(line.as_bytes()).unwrap_err().0.contains("unknown field `people`"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(line: Vec<u8>) {
            let _ = command(&line);
            let _ = response(&line);
        }

        #[test]
        fn no_damage_of_a_line_makes_the_readers_panic(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut line = command_line(run(&[b"a", b"\xff"], What::To(1)));
            let len = line.len();
            line[at.index(len)] = byte;
            line.truncate(cut.index(len) + 1);
            let _ = command(&line);
        }

        #[test]
        fn any_path_reads_back(path: Vec<u8>) {
            prop_assert_eq!(bytes(&text(&path)), Some(path.clone()));
            let sent = Response::Event(Event::Skipped { path: text(&path), why: "in use".into() });
            prop_assert_eq!(response(&response_line(sent.clone())), Ok(sent));
        }

        #[test]
        fn no_digits_make_the_reader_panic(digits in ".{0,9}") {
            let _ = hex::read(&digits);
        }
    }
}
