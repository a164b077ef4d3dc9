//! Contents of files, targets of symbolic links and values of extended attributes.

use crate::crypt::Damage;
use crate::crypt::features::Cipher;
use crate::crypt::layout::{BLOCK, FileId, Layout};
use crate::crypt::siv::{self, Siv};
use crate::sys::aead::{Aead, Algorithm};
use crate::sys::random;
use crate::sys::secret::Secret;
use crate::types::errno::Errno;

/// Blocks whose nonces are fetched in one go.
const BATCH: usize = 32;

/// Bytes of the longest nonce.
const NONCE_MAX: usize = 24;

/// What is authenticated with targets and values, which belong to no file id.
const NO_FILE: [u8; 8] = [0; 8];

/// Seals and opens; for any number of threads, and with no allocation for each block.
pub struct Content {
    cipher: Cipher,
    engine: Engine,
}

enum Engine {
    Aead(Aead),
    Siv(Siv),
}

/// Block number and file id: what each block is bound to.
fn associated(id: &FileId, block: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&block.to_be_bytes());
    bytes[8..].copy_from_slice(&id.0);
    bytes
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

impl Content {
    pub(super) fn new(cipher: Cipher, key: &Secret) -> Result<Content, Errno> {
        let engine = match cipher {
            Cipher::Siv => Engine::Siv(Siv::new(key.as_slice().try_into().map_err(|_| Errno::EINVAL)?)),
            Cipher::Gcm | Cipher::XChaCha => {
                let algorithm = if cipher == Cipher::Gcm { Algorithm::Gcm } else { Algorithm::XChaCha };
                Engine::Aead(Aead::new(algorithm, key.as_slice().try_into().map_err(|_| Errno::EINVAL)?)?)
            }
        };
        Ok(Content { cipher, engine })
    }

    /// Where blocks lie.
    pub fn layout(&self) -> Layout {
        self.cipher.layout()
    }

    /// Seals the consecutive blocks of `plain`, all of [`BLOCK`] bytes but the last, as numbers
    /// `first` and on, with random nonces. `out` has exactly [`Layout::sealed_len`] bytes, else
    /// EINVAL; EFBIG where there are no more numbers.
    pub fn seal(&self, id: &FileId, first: u64, plain: &[u8], out: &mut [u8]) -> Result<(), Errno> {
        let len = self.cipher.nonce_len();
        self.seal_batches(id, first, plain, out, |_, sealed| {
            let mut nonces = [0; BATCH * NONCE_MAX];
            random::fill(&mut nonces[..BATCH.min(sealed.len().div_ceil(self.stride())) * len])?;
            for (sealed, nonce) in sealed.chunks_mut(self.stride()).zip(nonces.chunks(len)) {
                sealed[..len].copy_from_slice(nonce);
            }
            Ok(())
        })
    }

    /// The same with the nonces that `nonce` gives for each number: for the reverse view. EINVAL
    /// but with AES-SIV, which alone survives a nonce that comes again.
    pub fn seal_with(
        &self,
        id: &FileId,
        first: u64,
        nonce: &dyn Fn(u64) -> [u8; 16],
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<(), Errno> {
        if self.cipher != Cipher::Siv {
            return Err(Errno::EINVAL);
        }
        self.seal_batches(id, first, plain, out, |first, sealed| {
            for (sealed, block) in sealed.chunks_mut(self.stride()).zip(first..) {
                sealed[..siv::TAG].copy_from_slice(&nonce(block));
            }
            Ok(())
        })
    }

    /// Opens consecutive blocks, the first of which is number `first`, and returns how many bytes of
    /// `out` it filled: [`Layout::opened_len`]. A full block of zeros is a hole and gives zeros. An
    /// error names the first bad block; what is before it in `out` is right. An `out` that is too
    /// short is an error of the block that does not fit.
    pub fn open(&self, id: &FileId, first: u64, cipher: &[u8], out: &mut [u8]) -> Result<usize, Damage> {
        let (stride, nonce_len) = (self.stride(), self.cipher.nonce_len());
        let (mut rest, mut block, mut done) = (cipher, first, 0);
        while !rest.is_empty() {
            let bad = |place: usize| Damage::Block(block.wrapping_add(place as u64));
            let run = rest
                .chunks_exact(stride)
                .take(self.lanes())
                .take_while(|sealed| !is_zero(&sealed[..nonce_len]))
                .count();
            let (blocks, plain) = match run {
                0 => {
                    let sealed = &rest[..rest.len().min(stride)];
                    let plain = sealed.len().checked_sub(self.layout().overhead).filter(|plain| *plain > 0);
                    (1, plain.ok_or(bad(0))?)
                }
                run => (run, run * BLOCK),
            };
            let (sealed, after) = rest.split_at((blocks * stride).min(rest.len()));
            let out = out.get_mut(done..done + plain).ok_or(bad(0))?;
            match run {
                0 if is_zero(&sealed[..nonce_len]) => {
                    // Only a full block can be a hole.
                    out.fill(0);
                    if sealed.len() < stride || !is_zero(sealed) {
                        return Err(bad(0));
                    }
                }
                0 => self.open_block(&associated(id, block), sealed, out).map_err(|()| bad(0))?,
                _ => self.open_run(id, block, sealed, out).map_err(bad)?,
            }
            (rest, block, done) = (after, block.wrapping_add(blocks as u64), done + plain);
        }
        Ok(done)
    }

    /// Seals a target or a value with a random nonce; an empty one stays empty.
    pub fn seal_value(&self, plain: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut nonce = [0; NONCE_MAX];
        random::fill(&mut nonce)?;
        self.seal_value_as(&nonce[..self.cipher.nonce_len()], plain)
    }

    /// The same with a nonce that is given; EINVAL but with AES-SIV.
    pub fn seal_value_with(&self, nonce: &[u8; 16], plain: &[u8]) -> Result<Vec<u8>, Errno> {
        if self.cipher == Cipher::Siv { self.seal_value_as(nonce, plain) } else { Err(Errno::EINVAL) }
    }

    /// Opens a target or a value.
    pub fn open_value(&self, cipher: &[u8]) -> Result<Vec<u8>, Damage> {
        if cipher.is_empty() {
            return Ok(Vec::new());
        }
        let plain = cipher.len().checked_sub(self.layout().overhead).filter(|plain| *plain > 0);
        let mut out = vec![0; plain.ok_or(Damage::Value)?];
        if is_zero(&cipher[..self.cipher.nonce_len()]) {
            return Err(Damage::Value);
        }
        self.open_block(&NO_FILE, cipher, &mut out).map_err(|()| Damage::Value)?;
        Ok(out)
    }

    fn seal_value_as(&self, nonce: &[u8], plain: &[u8]) -> Result<Vec<u8>, Errno> {
        if plain.is_empty() {
            return Ok(Vec::new());
        }
        let mut out = vec![0; plain.len() + self.layout().overhead];
        out[..nonce.len()].copy_from_slice(nonce);
        self.seal_block(&NO_FILE, plain, &mut out)?;
        Ok(out)
    }

    /// Bytes of a full block.
    fn stride(&self) -> usize {
        BLOCK + self.layout().overhead
    }

    /// Blocks that gain from being worked on together.
    fn lanes(&self) -> usize {
        if self.cipher == Cipher::Siv { siv::LANES } else { 1 }
    }

    /// Lets `nonces` put the nonces in front of up to [`BATCH`] blocks, then seals those.
    fn seal_batches(
        &self,
        id: &FileId,
        first: u64,
        plain: &[u8],
        out: &mut [u8],
        nonces: impl Fn(u64, &mut [u8]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if out.len() != self.layout().sealed_len(plain.len()) {
            return Err(Errno::EINVAL);
        }
        let count = plain.len().div_ceil(BLOCK) as u64;
        first.checked_add(count).ok_or(Errno::EFBIG)?;
        let batches = plain.chunks(BATCH * BLOCK).zip(out.chunks_mut(BATCH * self.stride()));
        for ((plain, out), first) in batches.zip((first..).step_by(BATCH)) {
            nonces(first, out)?;
            self.seal_batch(id, first, plain, out)?;
        }
        Ok(())
    }

    /// Seals up to [`BATCH`] blocks, whose nonces are in place.
    fn seal_batch(&self, id: &FileId, first: u64, plain: &[u8], out: &mut [u8]) -> Result<(), Errno> {
        let mut block = first;
        let (mut plain, mut out) = (plain, out);
        while !plain.is_empty() {
            let full = (plain.len() / BLOCK).min(self.lanes());
            let (taken, rest) = plain.split_at((full.max(1) * BLOCK).min(plain.len()));
            let (sealed, room) = out.split_at_mut((full.max(1) * self.stride()).min(out.len()));
            match &self.engine {
                Engine::Siv(siv) if full > 0 => {
                    let bound: [_; siv::LANES] = std::array::from_fn(|lane| associated(id, block + lane as u64));
                    siv.seal_lanes(&bound[..full], taken, sealed);
                }
                _ => self.seal_block(&associated(id, block), taken, sealed)?,
            }
            (plain, out, block) = (rest, room, block + full.max(1) as u64);
        }
        Ok(())
    }

    /// Seals one block, whose nonce is in place.
    fn seal_block(&self, associated: &[u8], plain: &[u8], out: &mut [u8]) -> Result<(), Errno> {
        let (nonce, sealed) = out.split_at_mut(self.cipher.nonce_len());
        match &self.engine {
            Engine::Aead(aead) => aead.seal(nonce, associated, plain, sealed),
            Engine::Siv(siv) => {
                let nonce = (&*nonce).try_into().map_err(|_| Errno::EINVAL)?;
                siv.seal(associated, nonce, plain, sealed);
                Ok(())
            }
        }
    }

    /// Opens full blocks, no more than [`Content::lanes`]. An error is the place of the first bad one.
    fn open_run(&self, id: &FileId, first: u64, sealed: &[u8], out: &mut [u8]) -> Result<(), usize> {
        match &self.engine {
            Engine::Siv(siv) => {
                let bound: [_; siv::LANES] =
                    std::array::from_fn(|lane| associated(id, first.wrapping_add(lane as u64)));
                siv.open_lanes(&bound[..out.len() / BLOCK], sealed, out)
            }
            Engine::Aead(_) => self.open_block(&associated(id, first), sealed, out).map_err(|()| 0),
        }
    }

    /// Opens one block with its nonce.
    fn open_block(&self, associated: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<(), ()> {
        let (nonce, sealed) = sealed.split_at(self.cipher.nonce_len());
        let genuine = match &self.engine {
            Engine::Aead(aead) => aead.open(nonce, associated, sealed, out),
            Engine::Siv(siv) => siv.open(associated, nonce.try_into().map_err(|_| ())?, sealed, out),
        };
        if genuine { Ok(()) } else { Err(()) }
    }
}
