//! YAML to values and back. The one file that names the YAML package.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Why a document could not be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, from 1, where they are known.
    pub at: Option<(usize, usize)>,
    /// What is wrong, in one line.
    pub message: String,
}

/// Reads one document into `T`.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_yaml::from_str(text).map_err(|error| {
        let at = error.location().map(|mark| (mark.line(), mark.column()));
        let mut message = error.to_string().replace('\n', " ");
        if let Some((line, column)) = at {
            let place = format!(" at line {line} column {column}");
            if let Some(start) = message.rfind(&place) {
                message.replace_range(start..start + place.len(), "");
            }
        }
        if message.contains("cannot start any token") && at.is_some_and(|(line, _)| begins_with_tab(text, line)) {
            message = "a tab: YAML is indented with blanks, so replace each tab by two of them".into();
        }
        Problem { at, message }
    })
}

fn begins_with_tab(text: &str, line: usize) -> bool {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    line.bytes().take_while(u8::is_ascii_whitespace).any(|byte| byte == b'\t')
}

/// The keys at the top of a document; none where it cannot be read.
pub fn keys(text: &str) -> Vec<String> {
    let top: Result<BTreeMap<String, IgnoredAny>, _> = serde_yaml::from_str(text);
    top.map(|top| top.into_keys().collect()).unwrap_or_default()
}

/// One step from a value to one within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The value under this key.
    Key(&'static str),
    /// The value at this index of a list.
    Index(usize),
}

/// Line and column, from 1, of the value that `steps` lead to in a document that [`parse`] takes;
/// `None` where the steps lead nowhere.
///
/// It is for what can be judged only when the whole document is read.
pub fn place(text: &str, steps: &[Step]) -> Option<(usize, usize)> {
    let walk = serde_yaml::Deserializer::from_str(text);
    let error = Walk(steps).deserialize(walk).err()?;
    error.location().map(|mark| (mark.line(), mark.column()))
}

/// Follows the steps and fails on the value they lead to, because the place of an error is all that
/// the package tells. Off the path nothing fails.
struct Walk<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0.first() {
            Some(Step::Key(_)) => deserializer.deserialize_map(self),
            Some(Step::Index(_)) => deserializer.deserialize_seq(self),
            // No kind of value is taken at the end: that is the failure.
            None => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something else")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.0.split_first() else {
            return Err(A::Error::custom("here"));
        };
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.0.split_first() else {
            return Err(A::Error::custom("here"));
        };
        let mut index = 0;
        loop {
            let more = if index == *wanted {
                seq.next_element_seed(Walk(rest))?
            } else {
                seq.next_element::<IgnoredAny>()?.map(drop)
            };
            if more.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }
}

/// Writes `value` as a document.
///
/// # Errors
/// One line, for a value YAML cannot hold.
pub fn render<T: Serialize>(value: &T) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "good")]
        _good: Option<u8>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Inner,
    }

    #[test]
    fn a_problem_is_at_the_word_that_is_wrong() {
        let problem = parse::<Outer>("# a comment\ninner:\n  good: 1\n  bda: 2\n").unwrap_err();
        assert_eq!(problem.at, Some((4, 3)));
        assert_eq!(problem.message, "inner: unknown field `bda`, expected `good`");
    }

    #[test]
    fn a_tab_is_called_one() {
        let problem = parse::<Outer>("inner:\n\tgood: 1\n").unwrap_err();
        assert!(problem.at == Some((2, 1)) && problem.message.starts_with("a tab: "), "{problem:?}");
    }

    #[test]
    fn a_value_is_found_by_the_steps_to_it() {
        let text = "a: 1\nlist:\n  - {x: 1}\n  - y: [p, q]\n    z: ~\nend: {}\n";
        let at = |steps: &[Step]| place(text, steps);
        assert_eq!(at(&[Step::Key("a")]), Some((1, 4)));
        assert_eq!(at(&[Step::Key("list"), Step::Index(0)]), Some((3, 5)));
        assert_eq!(at(&[Step::Key("list"), Step::Index(1), Step::Key("y"), Step::Index(1)]), Some((4, 12)));
        assert_eq!(at(&[Step::Key("list"), Step::Index(1), Step::Key("z")]), Some((5, 8)));
        assert_eq!(at(&[Step::Key("end")]), Some((6, 6)));
        assert_eq!(at(&[Step::Key("list"), Step::Index(2)]), None);
        assert_eq!(at(&[Step::Key("none")]), None);
    }

    #[test]
    fn a_document_that_is_no_yaml_is_a_problem_with_a_place() {
        assert!(parse::<Outer>("inner: [1, 2").unwrap_err().at.is_some());
        assert!(parse::<Outer>("\tinner: 1").unwrap_err().at.is_some());
    }
}
