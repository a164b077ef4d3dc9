//! Where the bytes of a file lie in its ciphertext: arithmetic alone.
//!
//! An empty file is empty. Any other is a header of [`HEADER`] bytes and then blocks of up to
//! [`BLOCK`] bytes, each with a nonce before it and a tag. Only the last block may be short.

use crate::crypt::Damage;
use crate::sys::random;
use crate::types::errno::Errno;

/// Bytes of plaintext in a full block.
pub const BLOCK: usize = 4096;

/// Bytes before the first block.
pub const HEADER: usize = 18;

/// The only version of the header that there is.
const VERSION: [u8; 2] = [0, 2];

/// The sizes of one cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes that each block has more than its plaintext: 32, or 40 with XChaCha20-Poly1305.
    pub overhead: usize,
}

impl Layout {
    /// The largest plaintext whose ciphertext a file can hold with every cipher.
    pub const PLAIN_MAX: u64 = (i64::MAX as u64 - HEADER as u64) / (BLOCK as u64 + 40) * BLOCK as u64;

    /// Bytes of ciphertext of a full block.
    pub const fn block(&self) -> u64 {
        (BLOCK + self.overhead) as u64
    }

    /// The size of the ciphertext of a file of `plain` bytes; more than any file can have where
    /// `plain` is above [`Layout::PLAIN_MAX`].
    pub const fn cipher_size(&self, plain: u64) -> u64 {
        if plain == 0 {
            return 0;
        }
        let (full, last) = ((plain - 1) / BLOCK as u64, (plain - 1) % BLOCK as u64 + 1);
        self.start(full).saturating_add(last + self.overhead as u64)
    }

    /// The size of the plaintext of a file whose ciphertext has `cipher` bytes. A torn end, too
    /// short for a block, counts as one byte, which then cannot be read.
    pub const fn plain_size(&self, cipher: u64) -> u64 {
        if cipher < HEADER as u64 {
            // A torn header is no empty file: who reads that byte is told.
            return if cipher == 0 { 0 } else { 1 };
        }
        let (full, rest) = ((cipher - HEADER as u64) / self.block(), (cipher - HEADER as u64) % self.block());
        let last = match rest {
            0 => 0,
            rest if rest <= self.overhead as u64 => 1,
            rest => rest - self.overhead as u64,
        };
        full * BLOCK as u64 + last
    }

    /// Where in the ciphertext block `block` begins.
    pub const fn start(&self, block: u64) -> u64 {
        block.saturating_mul(self.block()).saturating_add(HEADER as u64)
    }

    /// The block in which the byte at `cipher_offset` lies; 0 for the header too.
    pub const fn block_at(&self, cipher_offset: u64) -> u64 {
        cipher_offset.saturating_sub(HEADER as u64) / self.block()
    }

    /// Bytes of ciphertext of consecutive blocks with `plain` bytes in all.
    pub const fn sealed_len(&self, plain: usize) -> usize {
        plain + plain.div_ceil(BLOCK) * self.overhead
    }

    /// Bytes of plaintext of consecutive blocks with `cipher` bytes in all; `None` where the last
    /// is too short to be a block.
    pub const fn opened_len(&self, cipher: usize) -> Option<usize> {
        let block = BLOCK + self.overhead;
        match cipher % block {
            0 => Some(cipher / block * BLOCK),
            rest if rest <= self.overhead => None,
            rest => Some(cipher / block * BLOCK + rest - self.overhead),
        }
    }
}

/// The random number in a file's header, to which all its blocks are bound. Never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId(pub [u8; 16]);

impl FileId {
    /// For a new file.
    pub fn random() -> Result<FileId, Errno> {
        let mut id = [0; 16];
        while id == [0; 16] {
            random::fill(&mut id)?;
        }
        Ok(FileId(id))
    }

    /// The header that holds it.
    pub fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..2].copy_from_slice(&VERSION);
        header[2..].copy_from_slice(&self.0);
        header
    }

    /// Reads a header, of exactly [`HEADER`] bytes.
    pub fn parse(header: &[u8]) -> Result<FileId, Damage> {
        let (version, id) = header.split_first_chunk::<2>().ok_or(Damage::Header)?;
        let id: [u8; 16] = id.try_into().map_err(|_| Damage::Header)?;
        if *version == VERSION && id != [0; 16] { Ok(FileId(id)) } else { Err(Damage::Header) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUTS: [Layout; 2] = [Layout { overhead: 32 }, Layout { overhead: 40 }];

    #[test]
    fn sizes_are_those_of_the_format() {
        let gcm = LAYOUTS[0];
        for (plain, cipher) in [(0, 0), (1, 51), (4096, 18 + 4128), (4097, 18 + 4128 + 33), (8192, 18 + 2 * 4128)] {
            assert_eq!(gcm.cipher_size(plain), cipher);
            assert_eq!(gcm.plain_size(cipher), plain);
        }
    }

    #[test]
    fn a_header_alone_is_an_empty_file_and_a_torn_end_is_one_byte() {
        let gcm = LAYOUTS[0];
        assert_eq!((gcm.plain_size(0), gcm.plain_size(18)), (0, 0));
        for torn in (1..18).chain(19..=18 + 33) {
            assert_eq!(gcm.plain_size(torn), 1);
        }
        assert_eq!(gcm.plain_size(18 + 34), 2);
        assert_eq!(gcm.plain_size(18 + 4128 + 5), 4097);
    }

    #[test]
    fn sizes_go_there_and_back() {
        for layout in LAYOUTS {
            for plain in (0..20_000).chain(Layout::PLAIN_MAX - 10_000..=Layout::PLAIN_MAX) {
                let cipher = layout.cipher_size(plain);
                assert_eq!(layout.plain_size(cipher), plain);
                assert!(i64::try_from(cipher).is_ok());
            }
            for block in [0, 1, 2, 1 << 40] {
                assert_eq!(layout.block_at(layout.start(block)), block);
                assert_eq!(layout.block_at(layout.start(block + 1) - 1), block);
            }
            assert_eq!(layout.block_at(0), 0);
        }
    }

    #[test]
    fn sizes_never_overflow() {
        for layout in LAYOUTS {
            for size in [u64::MAX, u64::MAX - 1, i64::MAX as u64] {
                assert!(layout.cipher_size(size) > size.min(i64::MAX as u64) || layout.cipher_size(size) == u64::MAX);
                assert!(layout.plain_size(size) < size);
                assert!(layout.start(size) > 0);
            }
        }
    }

    #[test]
    fn a_header_reads_back_and_no_other_does() {
        let id = FileId::random().expect("random");
        let header = id.header();
        assert_eq!(FileId::parse(&header), Ok(id));
        assert_eq!(FileId::parse(&header[..17]), Err(Damage::Header));
        assert_eq!(FileId::parse(&[&header[..], &[0]].concat()), Err(Damage::Header));
        assert_eq!(FileId::parse(&[]), Err(Damage::Header));
        let mut other = header;
        other[1] = 3;
        assert_eq!(FileId::parse(&other), Err(Damage::Header));
        assert_eq!(FileId::parse(&FileId([0; 16]).header()), Err(Damage::Header));
    }
}
