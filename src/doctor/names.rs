//! Names in one directory that differ only in case: two files here, one to Windows programs.

use std::collections::BTreeMap;

use super::facts::{Asked, Union};
use super::{Book, Finding, word};

/// Groups that are told by name.
const SHOWN_MAX: usize = 3;

/// Judges what was seen of a union's names.
pub fn judge(union: &Union) -> Vec<Finding> {
    const CHECK: &str = "case-conflicts";
    let mut book = Book::new(&union.name);
    match &union.names {
        None => {}
        Some(Asked::Silent) => book.fine(CHECK, "names were not looked at: that did not end in time"),
        Some(Asked::Refused(why)) => book.fine(CHECK, format!("names were not looked at: {why}")),
        Some(Asked::Told(names)) => {
            let (seen, most) = (names.seen, if names.all { "all" } else { "the first" });
            if names.count == 0 {
                book.fine(CHECK, format!("no names differ only in case among {most} {seen}"));
                return book.close();
            }
            let shown = names.groups.iter().take(SHOWN_MAX).map(|group| group.join(" and "));
            let more = names.count.saturating_sub(SHOWN_MAX.min(names.groups.len()) as u64);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            let found = format!(
                "names that differ only in case, of which Samba shows one: {}{more} (among {most} {seen})",
                shown.collect::<Vec<_>>().join("; ")
            );
            let point = union.config.as_ref().map(|config| word(&config.mountpoint)).unwrap_or_default();
            let all = format!("all of them: tierfs doctor --deep {point}");
            book.hint(CHECK, found, format!("rename one of each where Windows programs are to see both; {all}"));
        }
    }
    book.close()
}

/// The groups of names of one directory that are equal but for their case. Names that are no text are
/// themselves alone.
pub fn groups(names: &[Vec<u8>]) -> Vec<Vec<&[u8]>> {
    let mut folded: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    for name in names {
        if let Ok(text) = std::str::from_utf8(name) {
            folded.entry(text.to_lowercase()).or_default().push(name);
        }
    }
    let mut groups: Vec<Vec<&[u8]>> = folded.into_values().filter(|group| group.len() > 1).collect();
    for group in &mut groups {
        group.sort_unstable();
        group.dedup();
    }
    groups.retain(|group| group.len() > 1);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::facts::Names;

    #[test]
    fn names_that_differ_in_case_are_grouped_and_no_others() {
        let names = |list: &[&[u8]]| list.iter().map(|name| name.to_vec()).collect::<Vec<_>>();
        let all = names(&[b"Report", b"report", b"other", b"REPORT", b"\xc3\x84", b"\xc3\xa4", b"\xff", b"\xfe"]);
        let found = groups(&all);
        assert_eq!(found, [vec![&b"REPORT"[..], b"Report", b"report"], vec![b"\xc3\x84", b"\xc3\xa4"]]);
        // A directory on two tiers is one name.
        assert!(groups(&names(&[b"dir", b"dir", b"d"])).is_empty());
    }

    #[test]
    fn conflicts_are_told_and_their_absence_is_fine() {
        let level = |names| judge(&Union { names: Some(names), ..Union::default() })[0].level;
        let conflict = Names { seen: 9, all: true, groups: vec![vec!["/a".into(), "/A".into()]], count: 1 };
        assert_eq!(level(Asked::Told(conflict)), Level::Hint);
        assert_eq!(level(Asked::Told(Names::default())), Level::Fine);
        assert_eq!(level(Asked::Silent), Level::Fine);
    }
}
