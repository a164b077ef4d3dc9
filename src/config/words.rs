//! Values as words: how each option value is written, the same in `-o` and in YAML.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{MinFree, OnMissing, OnWrite, OutOfBand, SmbOffline, StatfsOf, suggest};
use crate::types::units;

/// A value that has one written form.
pub trait Word: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// One line that says what to write instead.
    fn read(text: &str) -> Result<Self, String>;

    /// Writes it so that [`Word::read`] gives it back.
    fn show(&self) -> String;
}

/// A value that is one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// Each word and its value; the first word of a value is the one that is shown.
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Choice> Word for T {
    fn read(text: &str) -> Result<T, String> {
        let found = T::WORDS.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
            let hint = suggest::hint(text, words.iter().copied());
            format!("`{text}` is not one of {}{hint}", suggest::either(&words))
        })
    }

    fn show(&self) -> String {
        let found = T::WORDS.iter().find(|(_, value)| value == self);
        found.map(|(word, _)| (*word).to_string()).unwrap_or_default()
    }
}

impl Choice for OutOfBand {
    const WORDS: &'static [(&'static str, Self)] =
        &[("watch", OutOfBand::Watch), ("ttl", OutOfBand::Ttl), ("never", OutOfBand::Never)];
}

impl Choice for StatfsOf {
    const WORDS: &'static [(&'static str, Self)] =
        &[("sum", StatfsOf::Sum), ("primary", StatfsOf::Primary), ("secondary", StatfsOf::Secondary)];
}

impl Choice for SmbOffline {
    const WORDS: &'static [(&'static str, Self)] =
        &[("never", SmbOffline::Never), ("demoted", SmbOffline::Demoted), ("last", SmbOffline::Last)];
}

impl Choice for OnWrite {
    const WORDS: &'static [(&'static str, Self)] = &[("in_place", OnWrite::InPlace), ("promote", OnWrite::Promote)];
}

impl Choice for OnMissing {
    const WORDS: &'static [(&'static str, Self)] = &[("fail", OnMissing::Fail), ("degraded", OnMissing::Degraded)];
}

impl Choice for bool {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("true", true),
        ("false", false),
        ("yes", true),
        ("no", false),
        ("on", true),
        ("off", false),
        ("1", true),
        ("0", false),
    ];
}

impl Word for MinFree {
    fn read(text: &str) -> Result<MinFree, String> {
        let Some(number) = text.trim().strip_suffix('%') else {
            let hint = |line: String| match text.trim().parse::<u8>() {
                Ok(number) => format!("`{number}` has no unit: write {number}% or {number}GiB"),
                Err(_) => line,
            };
            return units::parse_large(text).map(MinFree::Bytes).map_err(hint);
        };
        match number.trim().parse::<u8>() {
            Ok(percent @ 0..=100) => Ok(MinFree::Percent(percent)),
            _ => Err(format!("`{text}` is not a share: write a whole number from 0% to 100%")),
        }
    }

    fn show(&self) -> String {
        match self {
            MinFree::Bytes(bytes @ 1..1024) => format!("{bytes}B"),
            MinFree::Bytes(bytes) => units::exact_size(*bytes),
            MinFree::Percent(percent) => format!("{percent}%"),
        }
    }
}

impl Word for Duration {
    fn read(text: &str) -> Result<Duration, String> {
        units::parse_duration(text)
    }

    fn show(&self) -> String {
        units::show_duration(*self)
    }
}

impl Word for SocketAddr {
    fn read(text: &str) -> Result<SocketAddr, String> {
        text.parse().map_err(|_| format!("`{text}` is not an address and a port: write for example 127.0.0.1:9567"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Word for usize {
    fn read(text: &str) -> Result<usize, String> {
        text.parse().map_err(|_| format!("`{text}` is not a whole number"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Word for String {
    fn read(text: &str) -> Result<String, String> {
        if text.contains(['\0', '\n']) {
            return Err(format!("{text:?} must be one line"));
        }
        Ok(text.to_string())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Word for PathBuf {
    fn read(text: &str) -> Result<PathBuf, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("{text:?} is not a path"));
        }
        Ok(PathBuf::from(text))
    }

    fn show(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_percents() {
        assert_eq!(MinFree::read("10%"), Ok(MinFree::Percent(10)));
        assert_eq!(MinFree::read("4GiB"), Ok(MinFree::Bytes(4 << 30)));
        assert!(MinFree::read("10").unwrap_err().contains("write 10% or 10GiB"));
        assert_eq!(MinFree::read(&MinFree::Bytes(10).show()), Ok(MinFree::Bytes(10)));
        for bad in ["101%", "-1%", "%", "1.5%", "ten%"] {
            assert!(MinFree::read(bad).unwrap_err().contains("0% to 100%"), "{bad}");
        }
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_right_ones() {
        let line = OutOfBand::read("wach").unwrap_err();
        assert_eq!(line, "`wach` is not one of watch, ttl or never; did you mean `watch`?");
    }

    #[test]
    fn what_is_shown_reads_back() {
        for (word, value) in OutOfBand::WORDS {
            assert_eq!((value.show().as_str(), OutOfBand::read(word)), (*word, Ok(*value)));
        }
        assert_eq!(true.show(), "true");
        assert_eq!(MinFree::read(&MinFree::Percent(7).show()), Ok(MinFree::Percent(7)));
    }
}
