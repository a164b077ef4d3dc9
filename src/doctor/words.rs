//! What the checks have come to, for a terminal and as JSON.

use serde_json::{Value, json};

use crate::types::shown;

use super::{Finding, Level};

/// Whether there is something to mend: hints alone are not.
pub fn has_trouble(found: &[Finding]) -> bool {
    found.iter().any(|finding| finding.level >= Level::Warning)
}

/// As an array, worst last as found.
pub fn json(found: &[Finding]) -> Value {
    let object = |finding: &Finding| {
        json!({
            "check": finding.check,
            "level": finding.level.word(),
            "about": finding.about,
            "found": finding.found,
            "do": finding.todo,
        })
    };
    found.iter().map(object).collect()
}

/// As lines, grouped by what they are about, the worst of each group first. What is fine is counted, or
/// told if `verbose`.
pub fn text(found: &[Finding], verbose: bool, color: bool) -> String {
    let mut out = String::new();
    let mut groups: Vec<&str> = Vec::new();
    for finding in found {
        if !groups.contains(&finding.about.as_str()) {
            groups.push(&finding.about);
        }
    }
    let least = if verbose { Level::Fine } else { Level::Hint };
    for group in groups {
        let of_group = found.iter().filter(|finding| finding.about == group && finding.level >= least);
        let mut of_group: Vec<&Finding> = of_group.collect();
        of_group.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        if of_group.is_empty() {
            continue;
        }
        out.push_str(&format!("{}\n", painted(&shown::escape(group.as_bytes()), "1", color)));
        for finding in of_group {
            entry(&mut out, finding, color);
        }
        out.push('\n');
    }
    out.push_str(&summary(found));
    out.push('\n');
    out
}

fn entry(out: &mut String, finding: &Finding, color: bool) {
    let paint = match finding.level {
        Level::Fine => "32",
        Level::Hint => "36",
        Level::Warning => "33",
        Level::Trouble => "31",
    };
    let word = format!("{:<8}", finding.level.word());
    let found = shown::escape(finding.found.as_bytes());
    out.push_str(&format!("  {} {found}\n", painted(&word, paint, color)));
    if !finding.todo.is_empty() {
        out.push_str(&format!("           -> {}\n", shown::escape(finding.todo.as_bytes())));
    }
}

fn painted(text: &str, code: &str, color: bool) -> String {
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn summary(found: &[Finding]) -> String {
    let count = |level: Level| found.iter().filter(|finding| finding.level == level).count();
    let fine = count(Level::Fine);
    let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let mut parts = Vec::new();
    if count(Level::Trouble) > 0 {
        parts.push(format!("{} in trouble", count(Level::Trouble)));
    }
    for (level, word) in [(Level::Warning, "warning"), (Level::Hint, "hint")] {
        if count(level) > 0 {
            parts.push(many(count(level), word));
        }
    }
    let fine = format!("{} fine", many(fine, "check"));
    if parts.is_empty() { format!("{fine}, nothing to mend") } else { format!("{}; {fine}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(level: Level, about: &str) -> Finding {
        let todo = if level == Level::Fine { "" } else { "do this" };
        Finding { check: "x", level, about: about.into(), found: "what\x1b[2J".into(), todo: todo.into() }
    }

    #[test]
    fn what_is_fine_is_only_counted_and_the_worst_comes_first() {
        let found = [
            finding(Level::Fine, "a"),
            finding(Level::Hint, "b"),
            finding(Level::Trouble, "b"),
            finding(Level::Fine, "b"),
        ];
        let expected = "b\n  trouble  what\\033[2J\n           -> do this\n  hint     what\\033[2J\n           -> do this\n\n\
                        1 in trouble, 1 hint; 2 checks fine\n";
        assert_eq!(text(&found, false, false), expected);
        assert!(text(&found, true, false).starts_with("a\n  fine     what"));
        assert!(text(&found, false, true).contains("\x1b[31mtrouble \x1b[0m"));
        assert_eq!(text(&found[..1], false, false), "1 check fine, nothing to mend\n");
    }

    #[test]
    fn hints_alone_are_nothing_to_mend() {
        assert!(!has_trouble(&[finding(Level::Hint, "a"), finding(Level::Fine, "a")]));
        assert!(has_trouble(&[finding(Level::Warning, "a")]));
        let value = json(&[finding(Level::Hint, "a")]);
        assert_eq!(value[0]["level"], "hint");
        assert_eq!(value[0]["do"], "do this");
    }
}
