//! The DOS attributes that Samba keeps of a file, and the one among them that tells where the file lies.
//!
//! The xattr is what Samba's `xattr.idl` calls `xattr_DOSATTRIB`: a text that ends with NUL, then on even
//! offsets its version twice (a structure and the tag of a union), then, on an offset that four divides,
//! 32 bits that say what is valid and 32 bits of attributes. So it is for versions 3 to 5, written since
//! Samba 3.5. What is not so is left as it is.

use std::ffi::CStr;

/// The attribute's name.
pub(super) const KEY: &CStr = c"user.DOSATTRIB";

/// `FILE_ATTRIBUTE_OFFLINE` of MS-FSCC 2.6.
const OFFLINE: u32 = 0x1000;

/// What a file has that has none yet: version 5, attributes valid and nothing else, `OFFLINE` alone.
pub(super) const ONLY_OFFLINE: [u8; 24] = [0, 0, 5, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The same attributes with `OFFLINE` or without.
pub(super) fn with_offline(mut value: Vec<u8>, offline: bool) -> Vec<u8> {
    if let Some(bytes) = attributes(&mut value) {
        let flag = OFFLINE.to_le_bytes();
        for (byte, bit) in bytes.iter_mut().zip(flag) {
            *byte = if offline { *byte | bit } else { *byte & !bit };
        }
    }
    value
}

/// The four bytes of attributes, little end first.
fn attributes(value: &mut [u8]) -> Option<&mut [u8]> {
    let text = value.iter().position(|byte| *byte == 0)? + 1;
    let version_at = text.next_multiple_of(2);
    let version = value.get(version_at..version_at + 4)?;
    if ![[3, 0, 3, 0], [4, 0, 4, 0], [5, 0, 5, 0]].iter().any(|known| known == version) {
        return None;
    }
    let valid_at = (version_at + 4).next_multiple_of(4);
    value.get_mut(valid_at + 4..valid_at + 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// What Samba 4.17 and, with a text before it, Samba 4.7 have written.
    const WRITTEN: [(&str, &str); 2] = [
        ("00000500050000001100000022000000a17d77dfd780dd01", "00000500050000001100000022100000a17d77dfd780dd01"),
        (
            "307832300000030003000000110000002000000000000000000000000000000000000000c85a12ecfdfe2d110000000000000000",
            "307832300000030003000000110000002010000000000000000000000000000000000000c85a12ecfdfe2d110000000000000000",
        ),
    ];

    #[test]
    fn one_bit_is_set_and_taken_away_again() {
        for (without, with) in WRITTEN.map(|(without, with)| (bytes(without), bytes(with))) {
            assert_eq!(with_offline(without.clone(), true), with);
            assert_eq!(with_offline(with.clone(), true), with);
            assert_eq!(with_offline(with, false), without);
        }
        assert_eq!(with_offline(ONLY_OFFLINE.to_vec(), true), ONLY_OFFLINE);
        assert_eq!(with_offline(ONLY_OFFLINE.to_vec(), false)[8..16], [1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_no_such_value_is_left_as_it_is() {
        let whole = bytes(WRITTEN[0].0);
        let cut = (0..16).map(|len| whole[..len].to_vec());
        let others = [
            bytes("000001000100000011000000220000000000"),
            bytes("00000500040000001100000022000000"),
            b"0x20".to_vec(),
        ];
        for value in cut.chain(others) {
            assert_eq!(with_offline(value.clone(), true), value);
        }
    }
}
