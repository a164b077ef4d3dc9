//! The hash of a file's contents, the same wherever the file lies.
//!
//! A file without holes has the BLAKE3 of its bytes. Where holes begin and end differs between
//! filesystems, so a file with holes is hashed by its blocks of 4 KiB that are not all zero, each
//! preceded by its offset: a hole and written zeros count the same, and holes need not be read.

use std::fmt;

/// The block of the second form, in bytes.
pub(super) const BLOCK: usize = 4096;

/// Which form a hash has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Over all bytes.
    Plain,
    /// Over the blocks that are not zero.
    Sparse,
}

/// A finished hash of a file's contents; written `b3:` or `z3:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    form: Form,
    hash: blake3::Hash,
}

impl Digest {
    /// Its form, for whoever wants to compare it.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Digest> {
        let (form, hex) = text.split_once(':')?;
        let form = match form {
            "b3" => Form::Plain,
            "z3" => Form::Sparse,
            _ => return None,
        };
        Some(Digest { form, hash: blake3::Hash::from_hex(hex).ok()? })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Form::Plain => "b3",
            Form::Sparse => "z3",
        };
        write!(f, "{form}:{}", self.hash.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A hash in the making.
#[derive(Debug)]
pub(super) struct Hasher {
    form: Form,
    state: blake3::Hasher,
}

impl Hasher {
    /// Of this form.
    pub(super) fn new(form: Form) -> Hasher {
        Hasher { form, state: blake3::Hasher::new() }
    }

    /// Adds the next bytes, which lie at `offset`. In the sparse form `offset` is a multiple of
    /// [`BLOCK`], and so is the length but at the end of the file.
    pub(super) fn update(&mut self, offset: u64, bytes: &[u8]) {
        match self.form {
            Form::Plain => {
                self.state.update(bytes);
            }
            Form::Sparse => {
                for (at, block) in (offset..).step_by(BLOCK).zip(bytes.chunks(BLOCK)) {
                    if block.iter().any(|byte| *byte != 0) {
                        self.state.update(&at.to_le_bytes()).update(block);
                    }
                }
            }
        }
    }

    /// The hash of a file of `size` bytes.
    pub(super) fn finish(mut self, size: u64) -> Digest {
        if self.form == Form::Sparse {
            self.state.update(&size.to_le_bytes());
        }
        Digest { form: self.form, hash: self.state.finalize() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_zeros_are_the_same() {
        let mut whole = Hasher::new(Form::Sparse);
        let mut bytes = vec![0u8; 5 * BLOCK + 7];
        bytes[BLOCK + 3] = 1;
        bytes[5 * BLOCK + 6] = 2;
        whole.update(0, &bytes);
        let mut parts = Hasher::new(Form::Sparse);
        parts.update(BLOCK as u64, &bytes[BLOCK..2 * BLOCK]);
        parts.update(5 * BLOCK as u64, &bytes[5 * BLOCK..]);
        let size = bytes.len() as u64;
        let digest = whole.finish(size);
        assert_eq!(digest, parts.finish(size));
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        let mut moved = Hasher::new(Form::Sparse);
        moved.update(2 * BLOCK as u64, &bytes[BLOCK..2 * BLOCK]);
        moved.update(5 * BLOCK as u64, &bytes[5 * BLOCK..]);
        assert_ne!(digest, moved.finish(size));
        assert_ne!(Hasher::new(Form::Sparse).finish(1), Hasher::new(Form::Sparse).finish(2));
    }

    #[test]
    fn a_plain_hash_is_what_b3sum_says() {
        let mut hasher = Hasher::new(Form::Plain);
        hasher.update(0, b"abc");
        // From the test vectors of the BLAKE3 repository for the input "abc".
        let expected = "b3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!(hasher.finish(3).to_string(), expected);
    }
}
