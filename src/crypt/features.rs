//! What a volume is made with: the part of its configuration that is no key.

use std::fmt;

use crate::crypt::base64::Flavour;
use crate::crypt::layout::Layout;

/// The cipher of contents, targets and attribute values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cipher {
    /// AES-256-GCM with nonces of 16 bytes: the default.
    Gcm,
    /// XChaCha20-Poly1305: faster where the processor has no AES.
    XChaCha,
    /// AES-SIV: for the reverse view, whose nonces are not random.
    Siv,
}

/// How names are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameMode {
    /// As they are, and targets of symbolic links too.
    Plain,
    /// Encrypted.
    Encrypted {
        /// Whether each directory has a random number of its own, `gocryptfs.diriv`. Without it
        /// equal names are equal everywhere in the volume.
        dir_iv: bool,
    },
}

/// The features of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// The cipher of contents.
    pub cipher: Cipher,
    /// How names are kept.
    pub names: NameMode,
    /// Whether base64 goes without `=`.
    pub raw64: bool,
    /// Whether the flag for long names is set. They are hashed with or without it.
    pub long_names: bool,
    /// The longest encrypted name, in bytes, that is not hashed: 62 to 255.
    pub long_max: u16,
    /// Whether each purpose has a key of its own; not in volumes from before 2017.
    pub hkdf: bool,
}

/// The range of [`Features::long_max`].
pub const LONG_MAX: std::ops::RangeInclusive<u16> = 62..=255;

impl Cipher {
    /// Bytes of the nonce before each block.
    pub const fn nonce_len(self) -> usize {
        match self {
            Cipher::Gcm | Cipher::Siv => 16,
            Cipher::XChaCha => 24,
        }
    }

    /// Where blocks lie.
    pub const fn layout(self) -> Layout {
        Layout { overhead: self.nonce_len() + 16 }
    }

    /// The name that options and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Cipher::Gcm => "aes-256-gcm",
            Cipher::XChaCha => "xchacha20-poly1305",
            Cipher::Siv => "aes-siv",
        }
    }
}

impl Features {
    /// What a new volume has unless told otherwise; the same as gocryptfs.
    pub fn new(cipher: Cipher) -> Features {
        Features {
            cipher,
            names: NameMode::Encrypted { dir_iv: true },
            raw64: true,
            long_names: true,
            long_max: *LONG_MAX.end(),
            hkdf: true,
        }
    }

    /// The same with names in clear.
    pub fn with_plain_names(self) -> Features {
        let long_max = *LONG_MAX.end();
        Features { names: NameMode::Plain, raw64: false, long_names: false, long_max, ..self }
    }

    /// The same without random numbers in directories.
    pub fn with_deterministic_names(self) -> Features {
        Features { names: NameMode::Encrypted { dir_iv: false }, ..self }
    }

    /// How base64 is written.
    pub fn flavour(&self) -> Flavour {
        if self.raw64 { Flavour::Raw } else { Flavour::Padded }
    }

    /// Reads what `Display` writes, such as from a marker.
    pub fn parse(text: &str) -> Option<Features> {
        let mut words = text.split(' ');
        let cipher = [Cipher::Gcm, Cipher::XChaCha, Cipher::Siv];
        let word = words.next()?;
        let cipher = cipher.into_iter().find(|cipher| cipher.name() == word)?;
        let mut features = Features::new(cipher).with_plain_names();
        features.hkdf = false;
        features.names = match words.next()? {
            "plain-names" => NameMode::Plain,
            "names" => NameMode::Encrypted { dir_iv: true },
            "deterministic-names" => NameMode::Encrypted { dir_iv: false },
            _ => return None,
        };
        for word in words {
            match word.split_once('=') {
                None if word == "raw64" => features.raw64 = true,
                None if word == "long-names" => features.long_names = true,
                None if word == "hkdf" => features.hkdf = true,
                Some(("long-max", max)) => features.long_max = max.parse().ok().filter(|max| LONG_MAX.contains(max))?,
                _ => return None,
            }
        }
        Some(features)
    }
}

impl fmt::Display for Features {
    /// One line of words, for markers and messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match self.names {
            NameMode::Plain => "plain-names",
            NameMode::Encrypted { dir_iv: true } => "names",
            NameMode::Encrypted { dir_iv: false } => "deterministic-names",
        };
        write!(f, "{} {names}", self.cipher.name())?;
        for (set, word) in [(self.raw64, "raw64"), (self.long_names, "long-names"), (self.hkdf, "hkdf")] {
            if set {
                write!(f, " {word}")?;
            }
        }
        if self.long_max == *LONG_MAX.end() { Ok(()) } else { write!(f, " long-max={}", self.long_max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_read_back_from_their_words() {
        let default = Features::new(Cipher::Gcm);
        assert_eq!(default.to_string(), "aes-256-gcm names raw64 long-names hkdf");
        for cipher in [Cipher::Gcm, Cipher::XChaCha, Cipher::Siv] {
            let base = Features::new(cipher);
            let old = Features { hkdf: false, raw64: false, ..base };
            let short = Features { long_max: 100, long_names: false, ..base };
            for features in [base, old, short, base.with_plain_names(), base.with_deterministic_names()] {
                assert_eq!(Features::parse(&features.to_string()), Some(features));
            }
        }
        for wrong in ["", "aes", "aes-256-gcm", "aes-256-gcm names more", "aes-256-gcm names long-max=9"] {
            assert_eq!(Features::parse(wrong), None, "{wrong}");
        }
    }
}
