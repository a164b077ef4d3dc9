//! EME, the wide-block mode of Halevi and Rogaway that encrypts names: every bit of the result
//! depends on every bit of the name and of the tweak, and the length stays.

use super::aes::{Block, Cipher, LEN, xor};

/// The most blocks that the mode is defined for.
const BLOCKS_MAX: usize = 128;

/// AES-256-EME with its key.
pub(super) struct Eme {
    cipher: Cipher,
    /// The first mask: twice the encrypted zero block.
    mask: Block,
}

/// Times two in GF(2^128), with the little-endian order of this mode.
fn double(block: Block) -> Block {
    let value = u128::from_le_bytes(block);
    // Without an `if`, as the value is secret.
    let carry = (value >> 127) * 0x87;
    ((value << 1) ^ carry).to_le_bytes()
}

impl Eme {
    pub(super) fn new(key: &[u8; 32]) -> Eme {
        let cipher = Cipher::new(key);
        let mut zero = [[0; LEN]];
        cipher.encrypt(&mut zero);
        Eme { cipher, mask: double(zero[0]) }
    }

    /// Encrypts 1 to 128 blocks in place; leaves any other number as it is and says false.
    #[must_use]
    pub(super) fn encrypt(&self, tweak: &Block, blocks: &mut [Block]) -> bool {
        self.transform(tweak, blocks, Cipher::encrypt)
    }

    /// The other way round.
    #[must_use]
    pub(super) fn decrypt(&self, tweak: &Block, blocks: &mut [Block]) -> bool {
        self.transform(tweak, blocks, Cipher::decrypt)
    }

    fn transform(&self, tweak: &Block, blocks: &mut [Block], pass: fn(&Cipher, &mut [Block])) -> bool {
        if blocks.is_empty() || blocks.len() > BLOCKS_MAX {
            return false;
        }
        self.add_masks(blocks);
        pass(&self.cipher, blocks);
        let mut mixed = *tweak;
        blocks.iter().for_each(|block| xor(&mut mixed, block));
        let mut middle = [mixed];
        pass(&self.cipher, &mut middle);
        let [middle] = middle;
        xor(&mut mixed, &middle);
        let mut first = *tweak;
        xor(&mut first, &middle);
        for block in &mut blocks[1..] {
            mixed = double(mixed);
            xor(block, &mixed);
            xor(&mut first, block);
        }
        blocks[0] = first;
        pass(&self.cipher, blocks);
        self.add_masks(blocks);
        true
    }

    /// Adds the mask of its place to each block.
    fn add_masks(&self, blocks: &mut [Block]) {
        let mut mask = self.mask;
        for block in blocks {
            xor(block, &mask);
            mask = double(mask);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zero_block_gives_the_known_answer() {
        let eme = Eme::new(&[0; 32]);
        let mut blocks = [[0; LEN]];
        assert!(eme.encrypt(&[0; LEN], &mut blocks));
        assert_eq!(crate::types::hex::write(&blocks[0]), "f1b9ce8ca15a4ba9fb476905434b9fd3");
        assert!(eme.decrypt(&[0; LEN], &mut blocks));
        assert_eq!(blocks, [[0; LEN]]);
    }

    #[test]
    fn every_length_goes_there_and_back_and_every_block_changes() {
        let eme = Eme::new(&[3; 32]);
        for count in 1..=BLOCKS_MAX {
            let plain: Vec<Block> = (0..count).map(|at| [u8::try_from(at).expect("small"); LEN]).collect();
            let mut blocks = plain.clone();
            assert!(eme.encrypt(&[9; LEN], &mut blocks));
            let mut other = plain.clone();
            other[count - 1][15] ^= 1;
            assert!(eme.encrypt(&[9; LEN], &mut other));
            assert!(blocks.iter().zip(&other).all(|(one, two)| one != two), "{count} blocks");
            assert!(eme.decrypt(&[9; LEN], &mut blocks));
            assert_eq!(blocks, plain);
        }
    }

    #[test]
    fn no_block_and_too_many_are_refused() {
        let eme = Eme::new(&[3; 32]);
        assert!(!eme.encrypt(&[0; LEN], &mut []));
        assert!(!eme.decrypt(&[0; LEN], &mut vec![[0; LEN]; BLOCKS_MAX + 1]));
    }
}
