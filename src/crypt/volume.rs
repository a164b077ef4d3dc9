//! A volume whose key is known.

use std::fmt;

use crate::crypt::content::Content;
use crate::crypt::features::{Cipher, Features};
use crate::crypt::kdf::{MasterKey, Purpose, expand, old};
use crate::crypt::names::Names;
use crate::sys::secret::Secret;
use crate::types::errno::Errno;

/// Everything that reading and writing a volume needs; for any number of threads.
pub struct Volume {
    features: Features,
    content: Content,
    names: Names,
}

impl Volume {
    /// Sets the keys up. The master key itself is not kept.
    pub fn new(master: &MasterKey, features: Features) -> Result<Volume, Errno> {
        let key = |purpose| -> Secret {
            if features.hkdf { expand(master.as_slice(), purpose) } else { old(master, purpose) }
        };
        let purpose = match features.cipher {
            Cipher::Gcm => Purpose::Gcm,
            Cipher::XChaCha => Purpose::XChaCha,
            Cipher::Siv => Purpose::Siv,
        };
        let content = Content::new(features.cipher, &key(purpose))?;
        let names = Names::new(&key(Purpose::Names), features)?;
        Ok(Volume { features, content, names })
    }

    /// For contents, targets and attribute values.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// For names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What it is made with.
    pub fn features(&self) -> &Features {
        &self.features
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Volume({})", self.features)
    }
}
