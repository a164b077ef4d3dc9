//! The keys below the master key.

use hkdf::Hkdf;
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroize;

use crate::sys::secret::Secret;
use crate::types::errno::Errno;

/// Bytes of a master key.
pub(super) const MASTER: usize = 32;

/// The key of a volume, from which all others follow. It stays when the passphrase changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKey(Secret);

impl MasterKey {
    /// For a new volume.
    pub fn random() -> Result<MasterKey, Errno> {
        Ok(MasterKey(Secret::random(MASTER)?))
    }

    /// Takes exactly 32 bytes.
    pub fn from_secret(secret: Secret) -> Option<MasterKey> {
        (secret.len() == MASTER).then_some(MasterKey(secret))
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// For a purpose whose key is the master key itself, in volumes without HKDF.
    pub(super) fn secret(&self) -> &Secret {
        &self.0
    }
}

/// What a key is for; each text is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Names.
    Names,
    /// Contents with AES-GCM, and the wrapping of every master key.
    Gcm,
    /// Contents with XChaCha20-Poly1305.
    XChaCha,
    /// Contents with AES-SIV: 64 bytes.
    Siv,
}

impl Purpose {
    fn info(self) -> &'static [u8] {
        match self {
            Purpose::Names => b"EME filename encryption",
            Purpose::Gcm => b"AES-GCM file content encryption",
            Purpose::XChaCha => b"XChaCha20-Poly1305 file content encryption",
            Purpose::Siv => b"AES-SIV file content encryption",
        }
    }

    fn len(self) -> usize {
        if self == Purpose::Siv { 64 } else { 32 }
    }
}

/// The key for `purpose` below `key`.
pub(super) fn expand(key: &[u8], purpose: Purpose) -> Secret {
    let mut out = Secret::zeroed(purpose.len());
    // The only error is a length above 255 hashes.
    let _never = Hkdf::<Sha256>::new(None, key).expand(purpose.info(), out.as_mut_slice());
    out
}

/// The key for `purpose` of volumes without HKDF: the master key itself, or its hash where 64
/// bytes are needed.
pub(super) fn old(master: &MasterKey, purpose: Purpose) -> Secret {
    if purpose != Purpose::Siv {
        return master.secret().clone();
    }
    let mut hash = Sha512::digest(master.as_slice());
    let secret = Secret::from_slice(&hash);
    hash.as_mut_slice().zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::hex;

    #[test]
    fn keys_below_the_master_key_are_the_known_ones() {
        let master: Vec<u8> = (0..32).collect();
        for (purpose, known) in [
            (Purpose::Names, "59366f708e4d4ed892d6bd6ca0de6e927040808b21bd0e1a2753ea365aeaf6c9"),
            (Purpose::Gcm, "17df772cfec9d28b9ede3c753d0010ba9f199655acfc3b78dd3b61b5dd5f36c5"),
            (Purpose::XChaCha, "957caa5a8d2a9189b77f2fcb17707c1fc6ce862c0061f9d1db29a3b71eb7ca0d"),
            (
                Purpose::Siv,
                "90be6449231c24d9d308f1772b47953b6acf97f9e7876a16172e019977f3b7e0\
                 2419aaf86d684593cf2b43008422ad6726b83aaf0897186fb8a8cbd04854bd3c",
            ),
        ] {
            assert_eq!(hex::write(expand(&master, purpose).as_slice()), known, "{purpose:?}");
        }
    }
}
