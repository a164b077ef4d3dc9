//! `gocryptfs.conf`: the wrapped master key and the features of a volume.
//!
//! The features are not authenticated. Whoever may edit the file can, for instance, switch off the
//! encryption of names that are made from then on; a tier's marker pins them therefore.

mod problem;
mod read;
mod scrypt;
#[cfg(test)]
mod tests;
mod write;

pub use problem::{ConfProblem, Unlock};
pub use scrypt::ScryptCost;

use crate::crypt::features::Features;
use crate::crypt::kdf::{MASTER, MasterKey, Purpose, expand};
use crate::sys::aead::{Aead, Algorithm, TAG};
use crate::sys::random;
use crate::sys::secret::Secret;
use crate::types::errno::Errno;

/// What is authenticated with the wrapped key.
const NO_FILE: [u8; 8] = [0; 8];

/// Bytes of the salt that is written.
const SALT: usize = 32;

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// The program that wrote it, in its own words.
    pub creator: String,
    /// The master key under the key that follows from the passphrase: nonce, ciphertext, tag.
    pub wrapped: Vec<u8>,
    /// What scrypt mixes with the passphrase.
    pub salt: Vec<u8>,
    /// How much work it does.
    pub cost: ScryptCost,
    /// What the volume is made with.
    pub features: Features,
    /// Whether a FIDO2 token takes the place of the passphrase. tierfs can't ask it.
    pub fido2: bool,
}

impl Conf {
    /// A configuration for `master`, which `passphrase` unlocks.
    pub fn wrap(master: &MasterKey, features: Features, passphrase: &Secret, cost: ScryptCost) -> Result<Conf, Unlock> {
        let mut salt = vec![0; SALT];
        random::fill(&mut salt)?;
        let mut nonce = vec![0; nonce_len(&features)];
        random::fill(&mut nonce)?;
        Conf::wrap_with(master, features, passphrase, cost, salt, &nonce)
    }

    fn wrap_with(
        master: &MasterKey,
        features: Features,
        passphrase: &Secret,
        cost: ScryptCost,
        salt: Vec<u8>,
        nonce: &[u8],
    ) -> Result<Conf, Unlock> {
        if passphrase.is_empty() {
            return Err(Unlock::EmptyPassphrase);
        }
        let aead = wrapping_key(&features, &scrypt::derive(passphrase, &salt, cost)?)?;
        let mut wrapped = nonce.to_vec();
        wrapped.resize(nonce.len() + MASTER + TAG, 0);
        aead.seal(nonce, &NO_FILE, master.as_slice(), &mut wrapped[nonce.len()..])?;
        let creator = format!("tierfs {}", env!("CARGO_PKG_VERSION"));
        Ok(Conf { creator, wrapped, salt, cost, features, fido2: false })
    }

    /// The master key, by the passphrase.
    pub fn unlock(&self, passphrase: &Secret) -> Result<MasterKey, Unlock> {
        if self.fido2 {
            return Err(Unlock::Fido2);
        }
        if passphrase.is_empty() {
            return Err(Unlock::EmptyPassphrase);
        }
        let aead = wrapping_key(&self.features, &scrypt::derive(passphrase, &self.salt, self.cost)?)?;
        let (nonce, sealed) =
            self.wrapped.split_at_checked(nonce_len(&self.features)).ok_or(Unlock::WrongPassphrase)?;
        let mut master = Secret::zeroed(MASTER);
        if !aead.open(nonce, &NO_FILE, sealed, master.as_mut_slice()) {
            return Err(Unlock::WrongPassphrase);
        }
        MasterKey::from_secret(master).ok_or(Unlock::WrongPassphrase)
    }
}

/// Bytes of the nonce of the wrapped key.
fn nonce_len(features: &Features) -> usize {
    if features.hkdf { 16 } else { 12 }
}

/// The key is always wrapped with AES-GCM, whatever the contents are sealed with.
fn wrapping_key(features: &Features, derived: &Secret) -> Result<Aead, Errno> {
    let key = if features.hkdf { expand(derived.as_slice(), Purpose::Gcm) } else { derived.clone() };
    Aead::new(Algorithm::Gcm, key.as_slice().try_into().map_err(|_| Errno::EINVAL)?)
}
