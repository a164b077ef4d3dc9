//! AES-256-GCM and XChaCha20-Poly1305 of AWS-LC, with the key set once and no allocation per call.

use aws_lc_sys::{
    CRYPTO_memcmp, EVP_AEAD_CTX, EVP_AEAD_CTX_cleanup, EVP_AEAD_CTX_init, EVP_AEAD_CTX_open, EVP_AEAD_CTX_seal,
    EVP_AEAD_CTX_zero, EVP_aead_aes_256_gcm, EVP_aead_xchacha20_poly1305,
};

use super::secret::Locked;
use crate::types::errno::{Errno, Result};

/// Bytes that sealing adds.
pub const TAG: usize = 16;

/// Bytes of a key of both ciphers.
pub const KEY: usize = 32;

/// Which cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// AES-256-GCM; nonces of any length but 0.
    Gcm,
    /// XChaCha20-Poly1305; nonces of 24 bytes.
    XChaCha,
}

/// A cipher with its key.
#[derive(Debug)]
pub struct Aead {
    context: Locked<EVP_AEAD_CTX>,
}

// SAFETY: a context that has been set up may be moved between threads; it lies in its own pages.
unsafe impl Send for Aead {}
// SAFETY: AWS-LC documents sealing and opening with one context from several threads as safe; they
// take it as const.
unsafe impl Sync for Aead {}

impl Aead {
    /// Sets `key` up.
    pub fn new(algorithm: Algorithm, key: &[u8; KEY]) -> Result<Aead> {
        let mut blank = std::mem::MaybeUninit::<EVP_AEAD_CTX>::zeroed();
        // SAFETY: EVP_AEAD_CTX_zero makes the memory a context without a key, which is a plain value.
        let blank = unsafe {
            EVP_AEAD_CTX_zero(blank.as_mut_ptr());
            blank.assume_init()
        };
        let mut context = Locked::new(blank);
        // SAFETY: the context is a blank one at an address that it keeps, `key` has the length given,
        // and the tag length is the default of both ciphers.
        let done = unsafe {
            let algorithm = match algorithm {
                Algorithm::Gcm => EVP_aead_aes_256_gcm(),
                Algorithm::XChaCha => EVP_aead_xchacha20_poly1305(),
            };
            EVP_AEAD_CTX_init(context.as_mut_ptr(), algorithm, key.as_ptr(), KEY, TAG, std::ptr::null_mut())
        };
        if done == 1 { Ok(Aead { context }) } else { Err(Errno::ENOMEM) }
    }

    /// Seals `plain` into `out`, which is [`TAG`] longer. EINVAL where it is not or where the
    /// cipher takes no such nonce.
    pub fn seal(&self, nonce: &[u8], associated: &[u8], plain: &[u8], out: &mut [u8]) -> Result<()> {
        if out.len() != plain.len() + TAG {
            return Err(Errno::EINVAL);
        }
        let mut written = 0;
        // SAFETY: each pointer goes with the length of its slice; `out` overlaps none of the others
        // as it is borrowed alone.
        let done = unsafe {
            EVP_AEAD_CTX_seal(
                &*self.context,
                out.as_mut_ptr(),
                &mut written,
                out.len(),
                nonce.as_ptr(),
                nonce.len(),
                plain.as_ptr(),
                plain.len(),
                associated.as_ptr(),
                associated.len(),
            )
        };
        if done == 1 && written == out.len() { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Opens `sealed` into `out`, which is [`TAG`] shorter. False where it is not genuine; `out` is
    /// zeros then.
    #[must_use]
    pub fn open(&self, nonce: &[u8], associated: &[u8], sealed: &[u8], out: &mut [u8]) -> bool {
        if sealed.len() != out.len() + TAG {
            out.fill(0);
            return false;
        }
        let mut written = 0;
        // SAFETY: each pointer goes with the length of its slice; `out` overlaps none of the others
        // as it is borrowed alone.
        let done = unsafe {
            EVP_AEAD_CTX_open(
                &*self.context,
                out.as_mut_ptr(),
                &mut written,
                out.len(),
                nonce.as_ptr(),
                nonce.len(),
                sealed.as_ptr(),
                sealed.len(),
                associated.as_ptr(),
                associated.len(),
            )
        };
        let genuine = done == 1 && written == out.len();
        if !genuine {
            out.fill(0);
        }
        genuine
    }
}

impl Drop for Aead {
    fn drop(&mut self) {
        // SAFETY: the context was set up by `new` and nothing uses it afterwards; its memory is
        // wiped with the pages.
        unsafe { EVP_AEAD_CTX_cleanup(self.context.as_mut_ptr()) };
    }
}

/// Whether two byte strings are equal, in a time that depends on their length alone.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    // SAFETY: both hold as many bytes as are compared.
    one.len() == other.len() && unsafe { CRYPTO_memcmp(one.as_ptr().cast(), other.as_ptr().cast(), one.len()) } == 0
}
