//! Ordered rules by which a view shows or hides paths: the first that matches decides.

use super::glob::{Globs, Pattern};
use super::path::UnionPath;

/// What a rule does with the paths that its pattern matches, and with all that is below them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are shown.
    Include,
    /// They are hidden.
    Exclude,
}

/// Rules in their order. What none matches is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules(Vec<Rule>);

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    verdict: Verdict,
    matching: Globs,
    /// Directories that must be shown for what an including rule matches to be reached.
    way: Globs,
}

impl Rules {
    /// In the order given.
    ///
    /// # Errors
    /// One line, if a pattern is too large.
    pub fn new(rules: impl IntoIterator<Item = (Verdict, Pattern)>) -> Result<Rules, String> {
        let rule = |(verdict, pattern): (Verdict, Pattern)| {
            let way = match verdict {
                Verdict::Include => Globs::on_the_way(vec![pattern.clone()])?,
                Verdict::Exclude => Globs::default(),
            };
            Ok(Rule { verdict, matching: Globs::with_below(vec![pattern])?, way })
        };
        rules.into_iter().map(rule).collect::<Result<_, String>>().map(Rules)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a path is shown. It depends on the path alone, and what is shown has all directories
    /// above it shown: a rule that hides a directory hides what is below it.
    pub fn shows(&self, path: &UnionPath, is_dir: bool) -> bool {
        for rule in &self.0 {
            match rule.verdict {
                Verdict::Include if rule.matching.matches(path) => return true,
                Verdict::Include if is_dir && rule.way.matches(path) => return true,
                Verdict::Exclude if rule.matching.matches(path) => return false,
                Verdict::Include | Verdict::Exclude => {}
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `+pattern` includes, `-pattern` excludes.
    fn rules(lines: &[&str]) -> Rules {
        let read = |line: &&str| {
            let verdict = if line.starts_with('+') { Verdict::Include } else { Verdict::Exclude };
            (verdict, Pattern::new(&line[1..]).unwrap())
        };
        Rules::new(lines.iter().map(read)).unwrap()
    }

    fn path(raw: &str) -> UnionPath {
        UnionPath::new(raw.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        // Rules; shown; hidden. A path that ends with a slash is a directory.
        let table: [(&[&str], &[&str], &[&str]); 8] = [
            (&[], &["a", "a/b/"], &[]),
            (&["-cache"], &["a", "cache2/x"], &["cache/", "cache/x", "a/cache/", "a/cache/x/y"]),
            (&["-*.tmp"], &["a", "d.tmpx"], &["a.tmp", "d/e/a.tmp", "d.tmp/x"]),
            (&["+/docs/2026", "-/docs"], &["docs/", "docs/2026/", "docs/2026/a", "x"], &["docs/a", "docs/2025/"]),
            (&["+/a/b/c", "-*"], &["a/", "a/b/", "a/b/c/", "a/b/c/d"], &["a/x", "a/b/x", "x/", "b/"]),
            (&["+*.pdf", "-*"], &["a.pdf", "d/", "d/e/", "d/e/a.pdf"], &["a", "d/e/a.txt"]),
            (&["-/d/e", "+*.pdf", "-*"], &["d/a.pdf", "d/"], &["d/e/", "d/e/a.pdf", "d/x"]),
            (&["+{a,b/c}/x", "-*"], &["a/", "b/", "b/c/", "b/c/x", "z/"], &["a/y", "z/y"]),
        ];
        for (lines, shown, hidden) in table {
            let rules = rules(lines);
            let shows = |raw: &str| rules.shows(&path(raw), raw.ends_with('/'));
            for raw in shown {
                assert!(shows(raw), "{lines:?} must show {raw}");
            }
            for raw in hidden {
                assert!(!shows(raw), "{lines:?} must hide {raw}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_reached(
            lines in proptest::collection::vec(r"[+-](/?(\*\*/)?[ab*]{1,2}(/[ab?]){0,2}|\{a,b/a\})", 0..4),
            names in proptest::collection::vec("[ab]{1,2}", 1..5),
        ) {
            let read: Vec<&str> = lines.iter().map(String::as_str).collect();
            let usable = lines.iter().all(|line| Pattern::new(&line[1..]).is_ok());
            prop_assume!(usable);
            let rules = rules(&read);
            if rules.shows(&path(&names.join("/")), false) {
                for depth in 1..names.len() {
                    prop_assert!(rules.shows(&path(&names[..depth].join("/")), true), "{lines:?} {names:?}");
                }
            }
        }
    }
}
