//! Lines of bounded length from a socket.

use std::io::{BufRead, Error, ErrorKind};

/// The longest command, in bytes: a policy file of a mebibyte with every byte escaped would still
/// leave room for thousands of paths, and a stranger cannot make the daemon keep more.
pub const COMMAND_LEN_MAX: usize = 8 << 20;

/// The longest response, in bytes: a path that is no text takes two digits a byte, and a path in a
/// tree can be many times longer than the kernel takes in one call.
pub const RESPONSE_LEN_MAX: usize = 1 << 20;

/// What has come of a line so far.
#[derive(Debug, Default)]
pub struct Line {
    bytes: Vec<u8>,
}

impl Line {
    /// Reads on. `None` at the end of the stream; a line without its newline is none.
    ///
    /// # Errors
    /// What reading says; after one for lack of time the call can be repeated. `InvalidData` for a
    /// line over `len_max` bytes, which ends the exchange.
    pub fn read(&mut self, from: &mut impl BufRead, len_max: usize) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let come = from.fill_buf()?;
            if come.is_empty() {
                return Ok(None);
            }
            let end = come.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(come.len(), |at| at + 1);
            if self.bytes.len() + taken > len_max {
                return Err(Error::new(ErrorKind::InvalidData, format!("a line over {len_max} bytes")));
            }
            self.bytes.extend_from_slice(&come[..taken]);
            from.consume(taken);
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.bytes)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_one_by_one_up_to_their_limit() {
        let mut from = &b"one\ntwo\nthis is long\n"[..];
        let mut line = Line::default();
        assert_eq!(line.read(&mut from, 4).unwrap().unwrap(), b"one\n");
        assert_eq!(line.read(&mut from, 4).unwrap().unwrap(), b"two\n");
        assert_eq!(line.read(&mut from, 4).unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(Line::default().read(&mut &b"cut"[..], 9).unwrap().is_none());
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut from = std::io::BufReader::new(std::io::repeat(b'x'));
        let refused = Line::default().read(&mut from, COMMAND_LEN_MAX);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
