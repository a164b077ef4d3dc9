//! YAML to values and back. The one file that names the YAML package.

use serde::Serialize;
use serde::de::DeserializeOwned;

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
        Problem { at, message }
    })
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
    fn a_document_that_is_no_yaml_is_a_problem_with_a_place() {
        assert!(parse::<Outer>("inner: [1, 2").unwrap_err().at.is_some());
        assert!(parse::<Outer>("\tinner: 1").unwrap_err().at.is_some());
    }
}
