//! The policy file, field for field. Nothing but what is written in it.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::config::schema::Plain;
use crate::config::words::Word;
use crate::policy::window::Span;
use crate::policy::words::{ActionWord, Count, Errors, Percent, Program, Rate, Size, When, Who};
use crate::policy::{AgeBy, Order, Verify};
use crate::types::glob::Pattern;
use crate::types::ids::Rank;

/// The one version of the format so far.
pub const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "keys such as version and rules")]
pub(crate) struct File {
    pub(crate) version: u32,
    pub(crate) rules: Option<Vec<Rule>>,
    pub(crate) exclude: Option<List<Pattern>>,
    pub(crate) age_by: Option<Plain<AgeBy>>,
    pub(crate) min_size: Option<Plain<Size>>,
    pub(crate) watermarks: Option<Vec<Watermarks>>,
    pub(crate) promote: Option<Promote>,
    pub(crate) ignore_processes: Option<List<Program>>,
    pub(crate) window: Option<List<Span>>,
    pub(crate) limits: Option<Limits>,
    pub(crate) verify: Option<Plain<Verify>>,
    pub(crate) order: Option<Plain<Order>>,
    pub(crate) suspend_on_errors: Option<Plain<Errors>>,
}

/// One rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a rule, such as {older_than: 1y, action: demote}")]
pub(crate) struct Rule {
    pub(crate) name: Option<Plain<String>>,
    #[serde(rename = "match")]
    pub(crate) globs: Option<List<Pattern>>,
    pub(crate) not: Option<List<Pattern>>,
    pub(crate) older_than: Option<Plain<Duration>>,
    pub(crate) younger_than: Option<Plain<Duration>>,
    pub(crate) age_by: Option<Plain<AgeBy>>,
    pub(crate) min_size: Option<Plain<Size>>,
    pub(crate) max_size: Option<Plain<Size>>,
    pub(crate) owner: Option<List<Who>>,
    pub(crate) group: Option<List<Who>>,
    pub(crate) tier: Option<List<Rank>>,
    pub(crate) action: Plain<ActionWord>,
    pub(crate) to: Option<Plain<Rank>>,
}

/// The watermarks of one tier.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "watermarks, such as {tier: primary, high: 85%, low: 70%}")]
pub(crate) struct Watermarks {
    pub(crate) tier: Plain<Rank>,
    pub(crate) high: Plain<Percent>,
    pub(crate) low: Plain<Percent>,
    pub(crate) never_younger_than: Option<Plain<Duration>>,
    pub(crate) order: Option<Plain<Order>>,
}

/// The section `promote:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "when to promote, such as {when: reads, reads: 3, within: 1h}")]
pub(crate) struct Promote {
    pub(crate) when: Plain<When>,
    pub(crate) reads: Option<Plain<Count>>,
    pub(crate) within: Option<Plain<Duration>>,
}

/// The section `limits:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "limits, such as {duration: 4h, bandwidth: 40MiB/s}")]
pub(crate) struct Limits {
    pub(crate) files: Option<Plain<Count>>,
    pub(crate) bytes: Option<Plain<Size>>,
    pub(crate) duration: Option<Plain<Duration>>,
    pub(crate) bandwidth: Option<Plain<Rate>>,
}

/// One value or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<'de, T: Word> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData)).map(List)
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Word> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value or a list (what begins with `{`, `[` or `*` needs quotes)")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        T::read(text).map(|value| vec![value]).map_err(E::custom)
    }

    // A number is its own text, so that it is read as one: a user, or a directory called 2024.
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vec<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(Plain(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(values)
    }
}
