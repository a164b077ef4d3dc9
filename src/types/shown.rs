//! Names as a terminal and a shell may see them: a name can hold any byte but NUL and the slash.

use std::fmt::Write;

/// With whatever a terminal would obey written as `ls` writes it, `\n` or `\033`, and with bytes that
/// are no text in octal. The result is one line. A backslash stays as it is, so that a word that was
/// quoted for a shell before stays what it was.
pub fn escape(raw: &[u8]) -> String {
    let mut shown = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if is_obeyed(letter) {
                letter.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| octal(&mut shown, byte));
            } else {
                shown.push(letter);
            }
        }
        chunk.invalid().iter().for_each(|byte| octal(&mut shown, *byte));
    }
    shown
}

/// As one word of a shell: within plain quotes, or `$'...'` where that cannot be seen or is no text.
pub fn shell_word(raw: &[u8]) -> String {
    let plain = std::str::from_utf8(raw).ok().filter(|text| !text.chars().any(is_obeyed));
    if let Some(text) = plain {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut word = String::from("$'");
    for chunk in raw.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\'' | '\\' => word.extend(['\\', letter]),
                letter if is_obeyed(letter) => {
                    letter.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| octal(&mut word, byte));
                }
                letter => word.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| octal(&mut word, *byte));
    }
    word.push('\'');
    word
}

/// Control characters, what ends a line, and what turns the order of letters around.
fn is_obeyed(letter: char) -> bool {
    let turns = matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    letter.is_control() || turns
}

fn octal(to: &mut String, byte: u8) {
    match byte {
        b'\n' => to.push_str("\\n"),
        b'\r' => to.push_str("\\r"),
        b'\t' => to.push_str("\\t"),
        // Writing to a string cannot fail.
        other => drop(write!(to, "\\{other:03o}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &[u8] = b"a\nb\x1b[2J\xff\xc2\x9b\t\x7f'\\ \xc3\xa4";

    #[test]
    fn a_terminal_obeys_nothing_of_a_name() {
        assert_eq!(escape(BAD), "a\\nb\\033[2J\\377\\302\\233\\t\\177'\\ \u{e4}");
        assert_eq!(escape("x\u{202e}fdp.exe".as_bytes()), "x\\342\\200\\256fdp.exe");
        assert_eq!(escape(b"plain name"), "plain name");
        let once = escape(BAD);
        assert_eq!(escape(once.as_bytes()), once);
    }

    #[test]
    fn a_shell_reads_the_name_as_it_is() {
        assert_eq!(shell_word(b"it's"), r"'it'\''s'");
        assert_eq!(shell_word(b"a\\n"), r"'a\n'");
        assert_eq!(shell_word(BAD), "$'a\\nb\\033[2J\\377\\302\\233\\t\\177\\'\\\\ \u{e4}'");
        for name in [BAD, b"it's", b"a\\n", b"\x011", b"$HOME `x`"] {
            let script = format!("printf %s {}", shell_word(name));
            let Ok(said) = std::process::Command::new("bash").args(["-c", &script]).output() else { return };
            assert_eq!(said.stdout, name, "{script}");
        }
    }
}
