//! Bytes as hexadecimal digits, two each: for names that are no text.

use std::fmt::Write as _;

/// Two lower-case digits a byte.
pub fn write(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _never = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that [`write`] wrote; `None` for anything but pairs of digits.
pub fn read(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_read_back_and_nothing_else_is_read() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(read(&write(&all)), Some(all));
        assert_eq!((read(""), read("Fa")), (Some(Vec::new()), Some(vec![0xfa])));
        for wrong in ["a", "+f", "0g", " 1", "a\u{e9}"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
