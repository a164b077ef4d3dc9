//! The two ways in which volumes write bytes as text. Both are read strictly: each text that is
//! accepted is the one that the bytes are written as.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};

/// How names, long names, targets and attribute names are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Without `=` at the end (flag `Raw64`).
    Raw,
    /// With it.
    Padded,
}

impl Flavour {
    /// Writes `bytes` with the letters that file names may hold.
    pub fn encode(self, bytes: &[u8]) -> Vec<u8> {
        let text = match self {
            Flavour::Raw => URL_SAFE_NO_PAD.encode(bytes),
            Flavour::Padded => URL_SAFE.encode(bytes),
        };
        text.into_bytes()
    }

    /// Reads what [`Flavour::encode`] wrote and nothing else.
    pub fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Flavour::Raw => URL_SAFE_NO_PAD.decode(text).ok(),
            Flavour::Padded => URL_SAFE.decode(text).ok(),
        }
    }
}

/// The base64 of the configuration file.
pub fn encode_standard(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads it.
pub fn decode_standard(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_of_a_name_are_refused() {
        assert_eq!(Flavour::Raw.decode(b"AA"), Some(vec![0]));
        for alias in ["AB", "AA==", "A", "AA\n", "A A", "A/A", "AA=", "\r\nAA", "AA\0"] {
            assert_eq!(Flavour::Raw.decode(alias.as_bytes()), None, "{alias:?}");
        }
        assert_eq!(Flavour::Padded.decode(b"AA=="), Some(vec![0]));
        for alias in ["AA", "AA=", "AB==", "AA==\n", "AA===", "=AA="] {
            assert_eq!(Flavour::Padded.decode(alias.as_bytes()), None, "{alias:?}");
        }
    }
}
