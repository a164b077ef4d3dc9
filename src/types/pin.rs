//! Pins: the tier that a file, or everything below a directory, is kept on.

use std::ffi::CStr;

use crate::types::ids::Rank;

/// The attribute that holds a pin, on the backing copies as in the mount.
pub const KEY: &CStr = c"user.tierfs.pin";

/// What a pin says, in the words of [`Rank::parse`]; an editor or `echo` may have put white space around
/// them. `None` if it names no tier: somebody meant to pin, so nothing may move then.
pub fn parse(value: &[u8]) -> Option<Rank> {
    std::str::from_utf8(value).ok().and_then(|word| Rank::parse(word.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_with_white_space_around_it() {
        for word in [&b"secondary"[..], b"1", b" secondary\n"] {
            assert_eq!(parse(word), Some(Rank(1)), "{word:?}");
        }
        for word in [&b""[..], b"fast", b"\xff", b"secondary,primary"] {
            assert_eq!(parse(word), None, "{word:?}");
        }
    }
}
