//! Writes a configuration file the way gocryptfs does.

use serde::Serialize;

use crate::crypt::base64::encode_standard;
use crate::crypt::conf::Conf;
use crate::crypt::features::{Cipher, Features, LONG_MAX, NameMode};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Fields<'a> {
    creator: &'a str,
    encrypted_key: String,
    scrypt_object: Scrypt,
    version: u32,
    feature_flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    long_name_max: Option<u16>,
}

#[derive(Serialize)]
struct Scrypt {
    #[serde(rename = "Salt")]
    salt: String,
    #[serde(rename = "N")]
    n: u64,
    #[serde(rename = "R")]
    r: u32,
    #[serde(rename = "P")]
    p: u32,
    #[serde(rename = "KeyLen")]
    key_len: u32,
}

/// The flags of `features`, in the order of gocryptfs.
pub(super) fn flags(features: &Features) -> Vec<&'static str> {
    let encrypted = features.names != NameMode::Plain;
    let all = [
        ("HKDF", features.hkdf),
        ("GCMIV128", features.cipher != Cipher::XChaCha),
        ("XChaCha20Poly1305", features.cipher == Cipher::XChaCha),
        ("PlaintextNames", !encrypted),
        ("DirIV", features.names == NameMode::Encrypted { dir_iv: true }),
        ("EMENames", encrypted),
        ("LongNames", features.long_names),
        ("LongNameMax", features.long_max != *LONG_MAX.end()),
        ("Raw64", features.raw64),
        ("AESSIV", features.cipher == Cipher::Siv),
    ];
    all.into_iter().filter(|(_, set)| *set).map(|(flag, _)| flag).collect()
}

impl Conf {
    /// The contents of the file.
    pub fn render(&self) -> Vec<u8> {
        let fields = Fields {
            creator: &self.creator,
            encrypted_key: encode_standard(&self.wrapped),
            scrypt_object: Scrypt {
                salt: encode_standard(&self.salt),
                n: 1 << self.cost.log_n.min(63),
                r: self.cost.r,
                p: self.cost.p,
                key_len: 32,
            },
            version: 2,
            feature_flags: flags(&self.features),
            long_name_max: (self.features.long_max != *LONG_MAX.end()).then_some(self.features.long_max),
        };
        // Texts and numbers alone: this cannot fail.
        let mut text = serde_json::to_vec_pretty(&fields).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// The flags as the file names them.
    pub fn flags(&self) -> Vec<&'static str> {
        let fido2 = self.fido2.then_some("FIDO2");
        flags(&self.features).into_iter().chain(fido2).collect()
    }
}
