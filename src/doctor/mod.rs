//! What is wrong with a machine and its unions, judged from facts that somebody else has gathered.
//!
//! `facts.rs` is what can be known; each of the other files judges one part of it, and `words.rs` shows
//! what came out. A finding says what was found and what to do about it, as a command where there is one.

use std::path::Path;

use facts::{Asked, Facts, Tier, Union};

pub mod configuration;
pub mod facts;
pub mod machine;
pub mod mounts;
pub mod names;
pub mod policies;
pub mod redact;
pub mod services;
pub mod shares;
pub mod space;
pub mod tiers;
pub mod words;

/// How much a finding matters, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// It works, and could work better.
    Hint,
    /// It will do harm under circumstances that come.
    Warning,
    /// It does not work, or does harm now.
    Trouble,
}

impl Level {
    /// The word for it, in text and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Level::Fine => "fine",
            Level::Hint => "hint",
            Level::Warning => "warning",
            Level::Trouble => "trouble",
        }
    }
}

/// What one check has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check: a short name that stays the same.
    pub check: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What was examined: the machine, a union, a tier.
    pub about: String,
    /// One line.
    pub found: String,
    /// One line that says what to do; empty where there is nothing to do.
    pub todo: String,
}

/// Findings about one thing, as they come.
#[derive(Debug)]
pub struct Book {
    about: String,
    list: Vec<Finding>,
}

impl Book {
    /// For what is called `about`.
    pub fn new(about: impl Into<String>) -> Book {
        Book { about: about.into(), list: Vec::new() }
    }

    /// As it should be.
    pub fn fine(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(Level::Fine, check, found.into(), String::new());
    }

    /// It could be better.
    pub fn hint(&mut self, check: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.add(Level::Hint, check, found.into(), todo.into());
    }

    /// It will do harm.
    pub fn warning(&mut self, check: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.add(Level::Warning, check, found.into(), todo.into());
    }

    /// It does harm.
    pub fn trouble(&mut self, check: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.add(Level::Trouble, check, found.into(), todo.into());
    }

    fn add(&mut self, level: Level, check: &'static str, found: String, todo: String) {
        self.list.push(Finding { check, level, about: self.about.clone(), found, todo });
    }

    /// All of them.
    pub fn close(self) -> Vec<Finding> {
        self.list
    }
}

/// Judges everything.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = machine::judge(facts);
    found.extend(mounts::judge(facts));
    found.extend(configuration::together(facts));
    for union in &facts.unions {
        found.extend(configuration::judge(union, &facts.machine));
        found.extend(tiers::judge(union, &facts.machine));
        found.extend(space::judge(union));
        found.extend(policies::judge(union, &facts.machine));
        found.extend(names::judge(union));
        found.extend(services::judge(union, &facts.machine));
    }
    found.extend(shares::judge(facts));
    found
}

/// The tiers of a union that have answered, with their rank and path.
fn answered(union: &Union) -> impl Iterator<Item = (usize, &Path, &Tier)> {
    let paths = union.config.iter().flat_map(|config| &config.tiers);
    paths.zip(&union.tiers).enumerate().filter_map(|(rank, (config, tier))| match tier {
        Asked::Told(tier) => Some((rank, config.path.as_path(), tier)),
        Asked::Refused(_) | Asked::Silent => None,
    })
}

/// A path as one word of a command.
pub fn word(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@:%,".contains(byte);
    if bytes.iter().all(plain) { path.display().to_string() } else { crate::types::shown::shell_word(bytes) }
}
