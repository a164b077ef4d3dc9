//! How each value of a policy file is written.

use crate::config::suggest;
use crate::config::words::{Choice, Word};
use crate::policy::window::Span;
use crate::policy::{AgeBy, Order, Verify};
use crate::types::glob::Pattern;
use crate::types::ids::{Rank, TIERS_MAX};
use crate::types::units;

/// What a rule does, before it is known where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActionWord {
    Demote,
    Promote,
    Pin,
    Keep,
}

/// What brings a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Never,
    Write,
    Reads,
}

impl Choice for ActionWord {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("demote", ActionWord::Demote),
        ("promote", ActionWord::Promote),
        ("pin", ActionWord::Pin),
        ("keep", ActionWord::Keep),
    ];
}

impl Choice for When {
    const WORDS: &'static [(&'static str, Self)] =
        &[("never", When::Never), ("write", When::Write), ("reads", When::Reads)];
}

impl Choice for AgeBy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("newest", AgeBy::Newest), ("atime", AgeBy::Atime), ("mtime", AgeBy::Mtime)];
}

impl Choice for Order {
    const WORDS: &'static [(&'static str, Self)] =
        &[("tree", Order::Tree), ("oldest", Order::Oldest), ("largest", Order::Largest), ("smallest", Order::Smallest)];
}

impl Choice for Verify {
    const WORDS: &'static [(&'static str, Self)] = &[("hash", Verify::Hash), ("size", Verify::Size)];
}

/// As [`Rank`] is shown: `primary`, `secondary`, `tier2` and so on.
impl Word for Rank {
    fn read(text: &str) -> Result<Rank, String> {
        let ranks = || (0..TIERS_MAX).filter_map(|rank| u8::try_from(rank).ok()).map(Rank);
        ranks().find(|rank| rank.to_string() == text).ok_or_else(|| {
            let hint = suggest::hint(text, ["primary", "secondary"]);
            format!("`{text}` is not a tier: write primary, secondary, or tier2 for the third and so on{hint}")
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Word for Size {
    fn read(text: &str) -> Result<Size, String> {
        units::parse_size(text).map(Size)
    }

    fn show(&self) -> String {
        units::exact_size(self.0)
    }
}

/// Bytes a second, more than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) u64);

impl Word for Rate {
    fn read(text: &str) -> Result<Rate, String> {
        units::parse_rate(text).map(Rate)
    }

    fn show(&self) -> String {
        // As it is read: a bare small number is refused.
        let unit = if self.0 < 1024 { "B" } else { "" };
        format!("{}{unit}/s", units::exact_size(self.0))
    }
}

/// How many, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

impl Word for Count {
    fn read(text: &str) -> Result<Count, String> {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.map(Count).ok_or_else(|| format!("`{text}` is not a whole number above 0"))
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// A number of failed files, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errors(pub(crate) Option<u64>);

impl Word for Errors {
    fn read(text: &str) -> Result<Errors, String> {
        if text == "never" {
            return Ok(Errors(None));
        }
        let count = Count::read(text).map_err(|line| format!("{line}, nor `never`"))?;
        Ok(Errors(Some(count.0)))
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| "never".to_owned(), |count| count.to_string())
    }
}

/// Hundredths, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Percent(pub(crate) u8);

impl Word for Percent {
    fn read(text: &str) -> Result<Percent, String> {
        let number = text.trim().strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
        number
            .filter(|number| *number <= 100)
            .map(Percent)
            .ok_or_else(|| format!("`{text}` is not a share: write a whole number from 0% to 100%"))
    }

    fn show(&self) -> String {
        format!("{}%", self.0)
    }
}

/// A user or group, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Id(u32),
    Name(String),
}

impl Word for Who {
    fn read(text: &str) -> Result<Who, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Who::Id).map_err(|_| format!("`{text}` is not the number of a user or group"));
        }
        if text.contains(['\0', '\n', ':', '/']) {
            return Err(format!("{text:?} is not a user or group"));
        }
        Ok(Who::Name(text.to_owned()))
    }

    fn show(&self) -> String {
        match self {
            Who::Id(id) => id.to_string(),
            Who::Name(name) => name.clone(),
        }
    }
}

/// The name of a program as `/proc/PID/comm` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program(pub(crate) String);

impl Word for Program {
    fn read(text: &str) -> Result<Program, String> {
        if text.is_empty() || text.contains(['/', '\0', '\n']) {
            return Err(format!("{text:?} is not the name of a program: write it without its folder"));
        }
        Ok(Program(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

impl Word for Pattern {
    fn read(text: &str) -> Result<Pattern, String> {
        Pattern::new(text)
    }

    fn show(&self) -> String {
        self.text().to_owned()
    }
}

impl Word for Span {
    fn read(text: &str) -> Result<Span, String> {
        Span::new(text)
    }

    fn show(&self) -> String {
        self.text()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn reads_back<T: Word + PartialEq + Debug>(texts: &[&str]) {
        for text in texts {
            let value = T::read(text).unwrap();
            assert_eq!(value.show(), *text);
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        reads_back::<Rank>(&["primary", "secondary", "tier2", "tier7"]);
        reads_back::<ActionWord>(&["demote", "promote", "pin", "keep"]);
        reads_back::<Size>(&["4KiB", "17"]);
        reads_back::<Rate>(&["40MiB/s"]);
        reads_back::<Errors>(&["never", "3"]);
        reads_back::<Percent>(&["0%", "100%"]);
        reads_back::<Who>(&["0", "alice", "4294967295"]);
        reads_back::<Program>(&["tar"]);
        reads_back::<Span>(&["20:00-06:00", "mon,tue 01:00-24:00"]);
    }

    #[test]
    fn what_is_wrong_is_refused_with_a_hint() {
        let wrong = |line: Result<String, String>, says: &str| {
            let line = line.unwrap_err();
            assert!(line.contains(says), "{line}");
        };
        for text in ["tier8", "tier1", "tier0", "0", ""] {
            wrong(Rank::read(text).map(|rank| rank.show()), "is not a tier");
        }
        wrong(Rank::read("secondry").map(|rank| rank.show()), "did you mean `secondary`?");
        wrong(Rate::read("0").map(|rate| rate.show()), "leave it out");
        wrong(Rate::read("40MB/s").map(|rate| rate.show()), "1000 or 1024");
        wrong(Percent::read("85").map(|percent| percent.show()), "0% to 100%");
        wrong(Percent::read("101%").map(|percent| percent.show()), "0% to 100%");
        wrong(Errors::read("0").map(|errors| errors.show()), "nor `never`");
        wrong(Who::read("4294967296").map(|who| who.show()), "is not the number");
        wrong(Who::read("a:b").map(|who| who.show()), "is not a user");
        wrong(Program::read("/usr/bin/tar").map(|program| program.show()), "without its folder");
    }
}
