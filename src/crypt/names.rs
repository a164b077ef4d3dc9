//! Names of entries and of extended attributes.

use sha2::{Digest, Sha256};

use crate::crypt::aes::LEN;
use crate::crypt::base64::Flavour;
use crate::crypt::eme::Eme;
use crate::crypt::features::{Features, NameMode};
use crate::crypt::{Damage, NameDamage};
use crate::sys::random;
use crate::sys::secret::Secret;
use crate::types::errno::Errno;

/// The configuration file in the root of a volume.
pub const CONF_NAME: &str = "gocryptfs.conf";

/// The file with a directory's number.
pub const DIRIV_NAME: &str = "gocryptfs.diriv";

/// What the entry of a long name begins with.
pub const LONG_PREFIX: &str = "gocryptfs.longname.";

/// What the file with the whole of a long name ends in.
pub const NAME_SUFFIX: &str = ".name";

/// The configuration file in a directory of plaintext that has a reverse view.
pub const REVERSE_CONF: &str = ".gocryptfs.reverse.conf";

/// What the names of encrypted extended attributes begin with.
pub const XATTR_PREFIX: &str = "user.gocryptfs.";

/// The longest name of an entry and of an attribute, in bytes.
const NAME_MAX: usize = 255;

/// Blocks of the cipher that the longest name fills, padding included.
const BLOCKS_MAX: usize = NAME_MAX / LEN + 1;

/// Attribute names are the same in the whole volume, so that this takes the place of a directory's
/// number.
const XATTR_TWEAK: [u8; 16] = *b"xattr_name_iv_xx";

/// The number of a directory, by which equal names in two directories differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirIv(pub [u8; 16]);

impl DirIv {
    /// For volumes with deterministic names.
    pub const ZERO: DirIv = DirIv([0; 16]);

    /// For a new directory.
    pub fn random() -> Result<DirIv, Errno> {
        let mut iv = [0; 16];
        while iv == [0; 16] {
            random::fill(&mut iv)?;
        }
        Ok(DirIv(iv))
    }

    /// The contents of `gocryptfs.diriv`. All zeros are refused: a crash leaves them.
    pub fn parse(bytes: &[u8]) -> Result<DirIv, Damage> {
        let iv: [u8; 16] = bytes.try_into().map_err(|_| Damage::DirIv)?;
        if iv == [0; 16] { Err(Damage::DirIv) } else { Ok(DirIv(iv)) }
    }
}

/// A name as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In the entry itself.
    Short(Vec<u8>),
    /// Too long for an entry.
    Long {
        /// The name of the entry: [`LONG_PREFIX`] and a hash.
        entry: Vec<u8>,
        /// What the file named `entry` and [`NAME_SUFFIX`] holds.
        full: Vec<u8>,
    },
}

impl Stored {
    /// The name of the entry.
    pub fn entry(&self) -> &[u8] {
        match self {
            Stored::Short(name) => name,
            Stored::Long { entry, .. } => entry,
        }
    }
}

/// Encrypts and decrypts names.
pub struct Names {
    eme: Eme,
    mode: NameMode,
    flavour: Flavour,
    long_max: usize,
}

impl Names {
    pub(super) fn new(key: &Secret, features: Features) -> Result<Names, Errno> {
        let key = key.as_slice().try_into().map_err(|_| Errno::EINVAL)?;
        let long_max = usize::from(features.long_max);
        Ok(Names { eme: Eme::new(key), mode: features.names, flavour: features.flavour(), long_max })
    }

    /// Whether names and targets are kept as they are.
    pub fn is_plain(&self) -> bool {
        self.mode == NameMode::Plain
    }

    /// Whether each directory holds [`DIRIV_NAME`].
    pub fn has_dir_ivs(&self) -> bool {
        self.mode == NameMode::Encrypted { dir_iv: true }
    }

    /// The longest encrypted name that is not hashed, in bytes.
    pub fn long_max(&self) -> usize {
        self.long_max
    }

    /// The name under which `name` is kept in the directory with `iv`. EINVAL for what is no name of
    /// an entry, ENAMETOOLONG above 255 bytes.
    pub fn encode(&self, iv: &DirIv, name: &[u8]) -> Result<Stored, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if !is_name(name) {
            return Err(Errno::EINVAL);
        }
        if self.is_plain() {
            return Ok(Stored::Short(name.to_vec()));
        }
        let full = self.seal(&self.tweak(iv), name)?;
        if full.len() <= self.long_max {
            return Ok(Stored::Short(full));
        }
        Ok(Stored::Long { entry: self.hashed(&full), full })
    }

    /// The name that is kept as `cipher_name` in the directory with `iv`. A long name is given as
    /// the contents of its side file.
    pub fn decode(&self, iv: &DirIv, cipher_name: &[u8]) -> Result<Vec<u8>, Damage> {
        let name = if self.is_plain() { cipher_name.to_vec() } else { self.open(&self.tweak(iv), cipher_name)? };
        if name.len() <= NAME_MAX && is_name(&name) { Ok(name) } else { Err(Damage::Name(NameDamage::Unusable)) }
    }

    /// The entry of a long name whose side file holds `full`.
    pub fn hashed(&self, full: &[u8]) -> Vec<u8> {
        let mut entry = LONG_PREFIX.as_bytes().to_vec();
        entry.extend(self.flavour.encode(&Sha256::digest(full)));
        entry
    }

    /// The name under which the extended attribute `key` is kept, such as `user.mime_type`. ERANGE
    /// where it is too long to be kept encrypted, EINVAL where it is no name.
    pub fn encode_xattr(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        if key.is_empty() || key.contains(&0) {
            return Err(Errno::EINVAL);
        }
        if key.len() > NAME_MAX {
            return Err(Errno::ERANGE);
        }
        let mut stored = XATTR_PREFIX.as_bytes().to_vec();
        stored.extend(self.seal(&XATTR_TWEAK, key)?);
        if stored.len() > NAME_MAX { Err(Errno::ERANGE) } else { Ok(stored) }
    }

    /// The attribute that is kept as `stored`.
    pub fn decode_xattr(&self, stored: &[u8]) -> Result<Vec<u8>, Damage> {
        let text = stored.strip_prefix(XATTR_PREFIX.as_bytes()).ok_or(Damage::Name(NameDamage::Prefix))?;
        let key = self.open(&XATTR_TWEAK, text)?;
        if key.contains(&0) { Err(Damage::Name(NameDamage::Unusable)) } else { Ok(key) }
    }

    /// A sealed target as the text that a symbolic link holds. Not where names are plain: targets
    /// are too.
    pub fn encode_target(&self, sealed: &[u8]) -> Vec<u8> {
        self.flavour.encode(sealed)
    }

    /// The sealed target in the text of a symbolic link.
    pub fn decode_target(&self, text: &[u8]) -> Result<Vec<u8>, Damage> {
        self.flavour.decode(text).ok_or(Damage::Target)
    }

    /// The longest plaintext name that can be kept without a hash, in bytes: each longer one is hashed.
    pub fn short_max(&self) -> usize {
        let bytes = match self.flavour {
            Flavour::Raw => self.long_max * 3 / 4,
            Flavour::Padded => self.long_max / 4 * 3,
        };
        (bytes / LEN * LEN).saturating_sub(1).min(NAME_MAX)
    }

    fn tweak(&self, iv: &DirIv) -> [u8; 16] {
        if self.has_dir_ivs() { iv.0 } else { DirIv::ZERO.0 }
    }

    fn seal(&self, tweak: &[u8; 16], name: &[u8]) -> Result<Vec<u8>, Errno> {
        let count = name.len() / LEN + 1;
        let mut blocks = [[0; LEN]; BLOCKS_MAX];
        let used = blocks.get_mut(..count).ok_or(Errno::ENAMETOOLONG)?;
        let padding = count * LEN - name.len();
        let bytes = used.as_flattened_mut();
        bytes[..name.len()].copy_from_slice(name);
        bytes[name.len()..].fill(u8::try_from(padding).map_err(|_| Errno::EINVAL)?);
        if !self.eme.encrypt(tweak, used) {
            return Err(Errno::EINVAL);
        }
        Ok(self.flavour.encode(used.as_flattened()))
    }

    fn open(&self, tweak: &[u8; 16], text: &[u8]) -> Result<Vec<u8>, Damage> {
        let bytes = self.flavour.decode(text).ok_or(Damage::Name(NameDamage::NotBase64))?;
        let count = bytes.len() / LEN;
        let mut blocks = [[0; LEN]; BLOCKS_MAX];
        let used = blocks.get_mut(..count).filter(|used| !used.is_empty() && bytes.len() % LEN == 0);
        let used = used.ok_or(Damage::Name(NameDamage::Length))?;
        used.as_flattened_mut().copy_from_slice(&bytes);
        if !self.eme.decrypt(tweak, used) {
            return Err(Damage::Name(NameDamage::Length));
        }
        unpadded(used.as_flattened()).map(<[u8]>::to_vec).ok_or(Damage::Name(NameDamage::Padding))
    }
}

/// `padded` without its padding: 1 to 16 bytes, each the number of them, and fewer than all.
fn unpadded(padded: &[u8]) -> Option<&[u8]> {
    let padding = usize::from(*padded.last()?);
    let name = padded.len().checked_sub(padding).filter(|name| *name > 0 && (1..=LEN).contains(&padding))?;
    padded[name..].iter().all(|byte| usize::from(*byte) == padding).then_some(&padded[..name])
}

/// Whether an entry of a directory can have this name.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}
