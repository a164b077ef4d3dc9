//! AES-256-SIV (RFC 5297) with two components before the plaintext: associated data and nonce.
//!
//! Its MAC is a chain, in which each step waits for the one before it. So the chains of several
//! blocks of a file run side by side, which is several times as fast.

use super::aes::{Block, Encryptor, LEN, xor};
use crate::crypt::layout::BLOCK;
use crate::sys::aead::same;
use crate::sys::secret::Locked;

/// Bytes that sealing adds besides the nonce.
pub(super) const TAG: usize = 16;

/// Blocks of a file that are worked on side by side.
pub(super) const LANES: usize = 8;

/// Counters that are encrypted in one call.
const COUNTERS: usize = 64;

/// AES-SIV with its keys.
pub(super) struct Siv {
    mac: Encryptor,
    counter: Encryptor,
    fixed: Locked<Fixed>,
}

/// What follows from the key alone.
struct Fixed {
    /// Added to the last block of a MAC where it is full.
    full: Block,
    /// And where it is not.
    part: Block,
    /// The MAC of the zero block.
    zero: Block,
}

/// Times two in GF(2^128), with the big-endian order of this mode.
fn double(block: Block) -> Block {
    let value = u128::from_be_bytes(block);
    let carry = (value >> 127) * 0x87;
    ((value << 1) ^ carry).to_be_bytes()
}

/// The first counter block.
fn start(tag: &Block) -> u128 {
    u128::from_be_bytes(*tag) & !(1 << 63 | 1 << 31)
}

/// The first `N` bytes; the caller knows that there are as many.
fn head<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

impl Siv {
    /// The first half of the key is for the MAC, the second for the counters.
    pub(super) fn new(key: &[u8; 64]) -> Siv {
        let (one, two) = key.split_at(32);
        let mac = Encryptor::new(&head(one));
        let mut zero = [0; LEN];
        mac.encrypt_one(&mut zero);
        let full = double(zero);
        let mut fixed = Fixed { full, part: double(full), zero: full };
        mac.encrypt_one(&mut fixed.zero);
        Siv { mac, counter: Encryptor::new(&head(two)), fixed: Locked::new(fixed) }
    }

    /// Seals into `out`: the tag and as many bytes as `plain` has.
    pub(super) fn seal(&self, associated: &[u8], nonce: &Block, plain: &[u8], out: &mut [u8]) {
        let tag = self.tag(associated, nonce, plain);
        let (tag_out, cipher) = out.split_at_mut(TAG);
        tag_out.copy_from_slice(&tag);
        self.add_counters(start(&tag), plain, cipher);
    }

    /// Opens `sealed`, which is [`TAG`] longer than `out`. False where it is not genuine; `out` is
    /// zeros then.
    #[must_use]
    pub(super) fn open(&self, associated: &[u8], nonce: &Block, sealed: &[u8], out: &mut [u8]) -> bool {
        let Some((tag, cipher)) = sealed.split_first_chunk::<TAG>() else { return false };
        self.add_counters(start(tag), cipher, out);
        let genuine = same(tag, &self.tag(associated, nonce, out));
        if !genuine {
            out.fill(0);
        }
        genuine
    }

    /// Seals up to [`LANES`] full blocks of a file side by side. `plain` are the blocks; `out` has
    /// for each a nonce, which is read, and then room for tag and ciphertext.
    pub(super) fn seal_lanes(&self, associated: &[[u8; 24]], plain: &[u8], out: &mut [u8]) {
        let stride = LEN + TAG + BLOCK;
        let mut nonces = [[0; LEN]; LANES];
        for (nonce, sealed) in nonces.iter_mut().zip(out.chunks(stride)) {
            *nonce = head(sealed);
        }
        let mut tags = [[0; LEN]; LANES];
        let lanes = associated.len();
        self.tags(associated, &nonces[..lanes], plain, &mut tags[..lanes]);
        for ((tag, plain), sealed) in tags.iter().zip(plain.chunks(BLOCK)).zip(out.chunks_mut(stride)) {
            sealed[LEN..LEN + TAG].copy_from_slice(tag);
            self.add_counters(start(tag), plain, &mut sealed[LEN + TAG..]);
        }
    }

    /// Opens up to [`LANES`] full blocks of a file, nonces included, side by side. Where one is not
    /// genuine: its place among them; `out` is right up to it and zeros from there on.
    pub(super) fn open_lanes(&self, associated: &[[u8; 24]], sealed: &[u8], out: &mut [u8]) -> Result<(), usize> {
        let lanes = associated.len();
        let (mut nonces, mut tags) = ([[0; LEN]; LANES], [[0; LEN]; LANES]);
        for (lane, (sealed, out)) in sealed.chunks(LEN + TAG + BLOCK).zip(out.chunks_mut(BLOCK)).enumerate() {
            nonces[lane] = head(sealed);
            let tag = head(&sealed[LEN..]);
            self.add_counters(start(&tag), &sealed[LEN + TAG..], out);
        }
        self.tags(associated, &nonces[..lanes], out, &mut tags[..lanes]);
        for (lane, (tag, sealed)) in tags[..lanes].iter().zip(sealed.chunks(LEN + TAG + BLOCK)).enumerate() {
            if !same(tag, &sealed[LEN..LEN + TAG]) {
                out[lane * BLOCK..].fill(0);
                return Err(lane);
            }
        }
        Ok(())
    }

    /// The tags of full blocks of a file, whose chains go in step.
    fn tags(&self, associated: &[[u8; 24]], nonces: &[Block], plain: &[u8], tags: &mut [Block]) {
        // The components before the plaintext, each doubling what came before it.
        let mut sums = [[0; LEN]; LANES];
        let sums = &mut sums[..tags.len()];
        let mut states = [[0; LEN]; LANES];
        let states = &mut states[..tags.len()];
        for (state, bytes) in states.iter_mut().zip(associated) {
            *state = head(bytes);
        }
        self.mac.encrypt(states);
        for (state, bytes) in states.iter_mut().zip(associated) {
            xor(state, &self.last(&bytes[LEN..]));
        }
        self.mac.encrypt(states);
        for (sum, state) in sums.iter_mut().zip(&*states) {
            *sum = double(self.fixed.zero);
            xor(sum, state);
            *sum = double(*sum);
        }
        for (state, nonce) in states.iter_mut().zip(nonces) {
            *state = self.last(nonce);
        }
        self.mac.encrypt(states);
        for (sum, state) in sums.iter_mut().zip(&*states) {
            xor(sum, state);
        }
        // The plaintext, a whole number of cipher blocks: only the last one differs.
        let (blocks, _) = plain.as_chunks::<LEN>();
        let count = BLOCK / LEN;
        states.fill([0; LEN]);
        self.mac.chains(states, blocks, count);
        for (lane, state) in states.iter_mut().enumerate() {
            xor(state, &blocks[(lane + 1) * count - 1]);
            xor(state, &sums[lane]);
            xor(state, &self.fixed.full);
        }
        self.mac.encrypt(states);
        tags.copy_from_slice(states);
    }

    /// The tag over all three components.
    fn tag(&self, associated: &[u8], nonce: &Block, plain: &[u8]) -> Block {
        let mut sum = double(self.fixed.zero);
        xor(&mut sum, &self.cmac(associated, None));
        sum = double(sum);
        xor(&mut sum, &self.cmac(nonce, None));
        if plain.len() >= LEN {
            return self.cmac(plain, Some(&sum));
        }
        let mut short = double(sum);
        xor(&mut short, &padded(plain));
        self.cmac(&short, None)
    }

    /// The CMAC of `bytes`, to whose last 16 `end` is added first.
    fn cmac(&self, bytes: &[u8], end: Option<&Block>) -> Block {
        let cut = bytes.len().saturating_sub(1) / LEN * LEN;
        let (before, last) = bytes.split_at(cut);
        let (blocks, _) = before.as_chunks::<LEN>();
        let mut state = [0; LEN];
        // `end` covers the last bytes, which begin within the block before the last one.
        let mut ends = [[0; LEN]; 2];
        if let Some(end) = end {
            ends.as_flattened_mut()[last.len()..last.len() + LEN].copy_from_slice(end);
        }
        match blocks.split_last() {
            None => {}
            Some((block, first)) => {
                self.mac.chain(&mut state, first);
                xor(&mut state, &ends[0]);
                self.mac.chain(&mut state, std::slice::from_ref(block));
            }
        }
        xor(&mut state, &self.last(last));
        xor(&mut state, &ends[1]);
        self.mac.encrypt_one(&mut state);
        state
    }

    /// The last block of a MAC, of 0 to 16 bytes, padded and with what is added there.
    fn last(&self, bytes: &[u8]) -> Block {
        let full = bytes.len() == LEN;
        let mut block = if full { head(bytes) } else { padded(bytes) };
        xor(&mut block, if full { &self.fixed.full } else { &self.fixed.part });
        block
    }

    /// `from` with the encrypted counters added, into `to` of the same length.
    fn add_counters(&self, start: u128, from: &[u8], to: &mut [u8]) {
        let mut counter = start;
        for (from, to) in from.chunks(COUNTERS * LEN).zip(to.chunks_mut(COUNTERS * LEN)) {
            let mut stream = [[0; LEN]; COUNTERS];
            let used = from.len().div_ceil(LEN);
            for block in &mut stream[..used] {
                *block = counter.to_be_bytes();
                counter = counter.wrapping_add(1);
            }
            self.counter.encrypt(&mut stream[..used]);
            for ((to, from), key) in to.iter_mut().zip(from).zip(stream.as_flattened()) {
                *to = from ^ key;
            }
        }
    }
}

/// Fewer than 16 bytes, a one bit and zeros.
fn padded(bytes: &[u8]) -> Block {
    let mut block = [0; LEN];
    block[..bytes.len()].copy_from_slice(bytes);
    block[bytes.len()] = 0x80;
    block
}
