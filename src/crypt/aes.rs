//! AES-256 over plain arrays, many blocks in one call: a call for each block costs more than the
//! cipher.

use ::aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser,
    KeyInit, typenum::U16,
};

use crate::sys::secret::Locked;

/// Bytes of a block of the cipher.
pub(super) const LEN: usize = 16;

/// One block.
pub(super) type Block = [u8; LEN];

/// A key for encryption alone.
pub(super) struct Encryptor(Locked<::aes::Aes256Enc>);

/// A key for both ways.
pub(super) struct Cipher(Locked<::aes::Aes256>);

fn arrays(blocks: &mut [Block]) -> &mut [Array<u8, U16>] {
    Array::cast_slice_from_core_mut(blocks)
}

impl Encryptor {
    pub(super) fn new(key: &[u8; 32]) -> Encryptor {
        Encryptor(Locked::new(::aes::Aes256Enc::new(key.into())))
    }

    pub(super) fn encrypt(&self, blocks: &mut [Block]) {
        self.0.encrypt_blocks(arrays(blocks));
    }
}

impl Cipher {
    pub(super) fn new(key: &[u8; 32]) -> Cipher {
        Cipher(Locked::new(::aes::Aes256::new(key.into())))
    }

    pub(super) fn encrypt(&self, blocks: &mut [Block]) {
        self.0.encrypt_blocks(arrays(blocks));
    }

    pub(super) fn decrypt(&self, blocks: &mut [Block]) {
        self.0.decrypt_blocks(arrays(blocks));
    }
}

/// `one` xor `other`, into `one`.
pub(super) fn xor(one: &mut Block, other: &Block) {
    let sum = u128::from_ne_bytes(*one) ^ u128::from_ne_bytes(*other);
    *one = sum.to_ne_bytes();
}

impl Encryptor {
    /// One block.
    pub(super) fn encrypt_one(&self, block: &mut Block) {
        self.encrypt(std::slice::from_mut(block));
    }

    /// The chain of a CMAC: adds each block to `state` and encrypts that.
    pub(super) fn chain(&self, state: &mut Block, blocks: &[Block]) {
        self.0.encrypt_with_backend(Chain { state, blocks });
    }

    /// The same for many chains, several in step, which the processor works on at the same time.
    /// `blocks` are `stride` of the first chain, then as many of the second, and so on; the last of
    /// each is left out.
    pub(super) fn chains(&self, states: &mut [Block], blocks: &[Block], stride: usize) {
        let mut at = 0;
        while at < states.len() {
            let taken = match states.len() - at {
                8.. => 8,
                3.. => 3,
                _ => 1,
            };
            let (states, blocks) = (&mut states[at..at + taken], &blocks[at * stride..]);
            match taken {
                8 => self.in_step::<8>(states, blocks, stride),
                3 => self.in_step::<3>(states, blocks, stride),
                _ => self.in_step::<1>(states, blocks, stride),
            }
            at += taken;
        }
    }

    fn in_step<const N: usize>(&self, states: &mut [Block], blocks: &[Block], stride: usize) {
        if let Ok(states) = states.try_into() {
            self.0.encrypt_with_backend(Chains::<N> { states, blocks, stride });
        }
    }
}

/// Runs inside of the cipher's backend: one call for the whole chain.
struct Chain<'a> {
    state: &'a mut Block,
    blocks: &'a [Block],
}

impl BlockSizeUser for Chain<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Chain<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        for block in self.blocks {
            xor(self.state, block);
            backend.encrypt_block_inplace(self.state.into());
        }
    }
}

/// Several chains in step.
struct Chains<'a, const N: usize> {
    states: &'a mut [Block; N],
    blocks: &'a [Block],
    stride: usize,
}

impl<const N: usize> BlockSizeUser for Chains<'_, N> {
    type BlockSize = U16;
}

impl<const N: usize> BlockCipherEncClosure for Chains<'_, N> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let steps = self.stride.saturating_sub(1);
        let lanes: [&[Block]; N] = std::array::from_fn(|lane| &self.blocks[lane * self.stride..][..steps]);
        let mut states = *self.states;
        for step in 0..steps {
            for (state, lane) in states.iter_mut().zip(&lanes) {
                xor(state, &lane[step]);
            }
            for state in &mut states {
                backend.encrypt_block_inplace(state.into());
            }
        }
        *self.states = states;
    }
}
