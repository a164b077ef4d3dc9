//! Reads a configuration file, which whoever has the disk may have written.

use serde::Deserialize;

use crate::crypt::base64::decode_standard;
use crate::crypt::conf::{Conf, ConfProblem, ScryptCost, nonce_len};
use crate::crypt::features::{Cipher, Features, LONG_MAX, NameMode};
use crate::crypt::kdf::MASTER;
use crate::sys::aead::TAG;

/// No real file is larger.
const SIZE_MAX: usize = 64 << 10;

/// The fields as they are named there.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fields {
    #[serde(default)]
    creator: String,
    encrypted_key: String,
    scrypt_object: Scrypt,
    version: i64,
    #[serde(default)]
    feature_flags: Vec<String>,
    #[serde(default)]
    long_name_max: u64,
}

#[derive(Deserialize)]
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

/// The flags that there are.
#[derive(Default)]
struct Flags {
    hkdf: bool,
    gcm_iv_128: bool,
    xchacha: bool,
    siv: bool,
    plain_names: bool,
    dir_iv: bool,
    eme_names: bool,
    long_names: bool,
    long_name_max: bool,
    raw64: bool,
    fido2: bool,
}

impl Flags {
    fn read(words: &[String]) -> Result<Flags, ConfProblem> {
        let mut flags = Flags::default();
        let mut unknown = Vec::new();
        for word in words {
            let flag = match word.as_str() {
                "HKDF" => &mut flags.hkdf,
                "GCMIV128" => &mut flags.gcm_iv_128,
                "XChaCha20Poly1305" => &mut flags.xchacha,
                "AESSIV" => &mut flags.siv,
                "PlaintextNames" => &mut flags.plain_names,
                "DirIV" => &mut flags.dir_iv,
                "EMENames" => &mut flags.eme_names,
                "LongNames" => &mut flags.long_names,
                "LongNameMax" => &mut flags.long_name_max,
                "Raw64" => &mut flags.raw64,
                "FIDO2" => &mut flags.fido2,
                other => {
                    unknown.push(other.chars().take(40).filter(|letter| !letter.is_control()).collect());
                    continue;
                }
            };
            *flag = true;
        }
        if unknown.is_empty() { Ok(flags) } else { Err(ConfProblem::UnknownFlags(unknown)) }
    }

    fn cipher(&self) -> Result<Cipher, ConfProblem> {
        match (self.xchacha, self.siv, self.gcm_iv_128) {
            (true, true, _) | (true, _, true) => {
                Err(ConfProblem::Flags("the flag XChaCha20Poly1305 goes with neither AESSIV nor GCMIV128"))
            }
            (true, false, false) if !self.hkdf => Err(ConfProblem::Flags("the flag XChaCha20Poly1305 needs HKDF")),
            (true, false, false) => Ok(Cipher::XChaCha),
            (false, true, true) => Ok(Cipher::Siv),
            (false, false, true) => Ok(Cipher::Gcm),
            (false, _, false) => Err(ConfProblem::Flags(
                "the volume is of a format from before 2015 (no flag GCMIV128), which gocryptfs does not open either: \
                 copy its files out with a gocryptfs of that time",
            )),
        }
    }

    fn names(&self) -> Result<NameMode, ConfProblem> {
        let encrypted = self.dir_iv || self.eme_names || self.long_names || self.long_name_max || self.raw64;
        match (self.plain_names, self.eme_names) {
            (true, _) if encrypted => Err(ConfProblem::Flags("the flag PlaintextNames goes with no flag for names")),
            (true, _) => Ok(NameMode::Plain),
            (false, true) => Ok(NameMode::Encrypted { dir_iv: self.dir_iv }),
            (false, false) => Err(ConfProblem::Flags(
                "the volume is of a format from before 2015 (no flag EMENames), which gocryptfs does not open either: \
                 copy its files out with a gocryptfs of that time",
            )),
        }
    }
}

impl Conf {
    /// Reads the contents of a configuration file.
    pub fn parse(bytes: &[u8]) -> Result<Conf, ConfProblem> {
        if bytes.len() > SIZE_MAX {
            return Err(ConfProblem::NotAConf(format!("it has {} bytes", bytes.len())));
        }
        if bytes.is_empty() {
            return Err(ConfProblem::NotAConf("it is empty".into()));
        }
        let fields: Fields =
            serde_json::from_slice(bytes).map_err(|error| ConfProblem::NotAConf(plain(&error.to_string())))?;
        if fields.version != 2 {
            return Err(ConfProblem::Version(fields.version));
        }
        let flags = Flags::read(&fields.feature_flags)?;
        let features = Features {
            cipher: flags.cipher()?,
            names: flags.names()?,
            raw64: flags.raw64,
            long_names: flags.long_names,
            long_max: long_max(&flags, fields.long_name_max)?,
            hkdf: flags.hkdf,
        };
        let (salt, cost) = scrypt(&fields.scrypt_object)?;
        let wrapped = base64("EncryptedKey", &fields.encrypted_key)?;
        let expected = nonce_len(&features) + MASTER + TAG;
        // With FIDO2 as well: the token only takes the place of the passphrase.
        if wrapped.len() != expected {
            return Err(value(format!("EncryptedKey has {} bytes instead of {expected}", wrapped.len())));
        }
        Ok(Conf { creator: fields.creator, wrapped, salt, cost, features, fido2: flags.fido2 })
    }
}

fn value(what: String) -> ConfProblem {
    ConfProblem::Value(what)
}

fn base64(field: &str, text: &str) -> Result<Vec<u8>, ConfProblem> {
    decode_standard(text).ok_or_else(|| value(format!("{field} is no base64")))
}

/// The text of an error without what would break a line.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(200).collect()
}

fn long_max(flags: &Flags, max: u64) -> Result<u16, ConfProblem> {
    match (flags.long_name_max, u16::try_from(max)) {
        (false, Ok(0)) => Ok(*LONG_MAX.end()),
        (true, Ok(max)) if LONG_MAX.contains(&max) => Ok(max),
        (true, _) => Err(value(format!("LongNameMax is {max}; allowed are 62 to 255"))),
        (false, _) => Err(ConfProblem::Flags("LongNameMax is set without its flag")),
    }
}

fn scrypt(fields: &Scrypt) -> Result<(Vec<u8>, ScryptCost), ConfProblem> {
    let salt = base64("Salt", &fields.salt)?;
    if salt.len() < 32 {
        return Err(value(format!("the salt has {} bytes; at least 32 are needed", salt.len())));
    }
    if fields.key_len != 32 {
        return Err(value(format!("KeyLen is {}; only 32 is known", fields.key_len)));
    }
    if !fields.n.is_power_of_two() {
        return Err(value(format!("scrypt's N is {}, which is no power of two", fields.n)));
    }
    let log_n = u8::try_from(fields.n.trailing_zeros()).unwrap_or(u8::MAX);
    let cost = ScryptCost { log_n, r: fields.r, p: fields.p };
    cost.check()?;
    Ok((salt, cost))
}
