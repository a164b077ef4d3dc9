//! The numbers of the reverse view, which keeps none: each follows from an encrypted path.
//!
//! A path is what the view shows: encrypted names, hashed where they are long, joined by `/`; the
//! root is empty. Where names are plain it is the plain path.

use sha2::{Digest, Sha256};

use crate::crypt::layout::FileId;
use crate::crypt::names::DirIv;

/// What a derived number is for.
pub mod purpose {
    /// The number of a directory.
    pub const DIR_IV: &str = "DIRIV";
    /// The id of a file.
    pub const FILE_ID: &str = "FILEID";
    /// The nonce of a file's first block.
    pub const BLOCK_0: &str = "BLOCK0IV";
    /// The nonce of a symbolic link's target.
    pub const SYMLINK: &str = "SYMLINKIV";
    /// The nonce of an attribute's value.
    pub const XATTR: &str = "XATTRIV";
}

/// The first 16 bytes of the SHA-256 of `path`, a zero byte and `purpose`.
pub fn derive(path: &[u8], purpose: &str) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::new().chain_update(path).chain_update([0]).chain_update(purpose).finalize().into();
    let (half, _) = hash.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    *half
}

/// The number of the directory at `path`.
pub fn dir_iv(path: &[u8]) -> DirIv {
    DirIv(derive(path, purpose::DIR_IV))
}

/// The id of the file at `path`.
pub fn file_id(path: &[u8]) -> FileId {
    FileId(derive(path, purpose::FILE_ID))
}

/// The nonce of the target of the symbolic link at `path`. Stock gocryptfs names the last component
/// twice here, and so must whoever wants the same bytes.
pub fn symlink_nonce(path: &[u8]) -> [u8; 16] {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    derive(&[path, b"/", last].concat(), purpose::SYMLINK)
}

/// The nonce of the value of the attribute with the encrypted name `stored`, prefix included, of
/// the file at `path`.
pub fn xattr_nonce(path: &[u8], stored: &[u8]) -> [u8; 16] {
    derive(&[path, b"\0", stored].concat(), purpose::XATTR)
}

/// The nonces of a file's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockNonces {
    /// That of block 0.
    pub base: [u8; 16],
}

impl BlockNonces {
    /// Of the file at `path`.
    pub fn of(path: &[u8]) -> BlockNonces {
        BlockNonces { base: derive(path, purpose::BLOCK_0) }
    }

    /// That of block `block`: the lower half counts up, and wraps.
    pub fn at(&self, block: u64) -> [u8; 16] {
        let base = u128::from_be_bytes(self.base);
        let (high, low) = (base >> 64 << 64, base & u128::from(u64::MAX));
        let low = (low + u128::from(block)) & u128::from(u64::MAX);
        (high | low).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::hex::write;

    #[test]
    fn derived_numbers_are_the_known_ones() {
        assert_eq!(write(&dir_iv(b"").0), "a8f7bac432ddc1cb3dc74e684d6ae48b");
        assert_eq!(write(&dir_iv(b"x").0), "26f437d0d3fc56fe33887f713fec5285");
        assert_eq!(write(&file_id(b"x").0), "f98b91c2cf34c756e11d0477e566937d");
        let nonces = BlockNonces::of(b"x");
        assert_eq!(write(&nonces.at(0)), "89c308c06b398cad7438bfc58ddf653d");
        assert_eq!(write(&nonces.at(1)), "89c308c06b398cad7438bfc58ddf653e");
        assert_eq!(write(&symlink_nonce(b"x")), "8cf9d6e4f1143bddab46854ac8144407");
        assert_eq!(symlink_nonce(b"a/b"), derive(b"a/b/b", purpose::SYMLINK));
    }

    #[test]
    fn block_nonces_wrap_in_their_lower_half() {
        let nonces = BlockNonces { base: [0xff; 16] };
        assert_eq!(write(&nonces.at(1)), "ffffffffffffffff0000000000000000");
        assert_eq!(write(&nonces.at(u64::MAX)), "fffffffffffffffffffffffffffffffe");
    }
}
