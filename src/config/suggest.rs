//! "Did you mean": the known word nearest to an unknown one.

/// The word of `known` nearest to `word`, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    // A third of the word may be wrong: more, and the suggestion would puzzle rather than help.
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean …?` or nothing.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// `a, b or c`.
pub fn either(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_string(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["allow_other", "min_free", "ttl"];
        assert_eq!(nearest("alow_other", known), Some("allow_other"));
        assert_eq!(nearest("allow-other", known), Some("allow_other"));
        assert_eq!(nearest("minfree", known), Some("min_free"));
        assert_eq!(nearest("tlt", known), Some("ttl"));
        assert_eq!(nearest("unrelated", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn words_are_listed_as_people_do() {
        assert_eq!(either(&["a"]), "a");
        assert_eq!(either(&["a", "b", "c"]), "a, b or c");
    }
}
