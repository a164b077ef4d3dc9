//! The master key as text: eight groups of eight hexadecimal digits, as gocryptfs shows it.

use crate::crypt::MasterKey;
use crate::sys::secret::Secret;

/// Digits of a group.
const GROUP: usize = 8;

/// The text of `master`.
pub fn show(master: &MasterKey) -> Secret {
    let bytes = master.as_slice();
    let groups = 2 * bytes.len() / GROUP;
    let mut text = Secret::zeroed((2 * bytes.len() + groups).saturating_sub(1));
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).enumerate();
    let places = text.as_mut_slice();
    for (at, digit) in digits {
        let letter = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        let place = at + at / GROUP;
        if at > 0 && at % GROUP == 0 {
            places[place - 1] = b'-';
        }
        places[place] = letter;
    }
    text
}

/// Reads it; dashes and blanks may be anywhere.
pub fn parse(text: &Secret) -> Option<MasterKey> {
    let mut key = Secret::zeroed(32);
    let mut count = 0;
    for letter in text.as_slice().iter().filter(|letter| !matches!(letter, b'-' | b' ' | b'\t' | b'\r')) {
        let digit = u8::try_from(char::from(*letter).to_digit(16)?).ok()?;
        let place = key.as_mut_slice().get_mut(count / 2)?;
        *place = *place << 4 | digit;
        count += 1;
    }
    if count == 64 { MasterKey::from_secret(key) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_reads_back() {
        let bytes: Vec<u8> = (0..32).map(|at| at * 7).collect();
        let master = MasterKey::from_secret(Secret::from_slice(&bytes)).unwrap();
        let text = show(&master);
        let shown = std::str::from_utf8(text.as_slice()).unwrap();
        assert_eq!(shown, "00070e15-1c232a31-383f464d-545b6269-70777e85-8c939aa1-a8afb6bd-c4cbd2d9");
        for other in [shown.to_owned(), shown.replace('-', ""), shown.to_uppercase(), shown.replace('-', " ") + "\r"] {
            assert_eq!(parse(&Secret::from_slice(other.as_bytes())).as_ref(), Some(&master));
        }
        for wrong in ["", "00", &shown[1..], &format!("{shown}0"), &shown.replace('e', "g"), &shown.replace('e', "é")]
        {
            assert_eq!(parse(&Secret::from_slice(wrong.as_bytes())), None, "{wrong}");
        }
    }
}
