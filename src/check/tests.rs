//! Words and repairs that findings have.

use super::*;
use crate::tier::place::Place;
use crate::types::path::UnionPath;

fn shadowed(contents: Contents, newer: Newer, differs: &[&str]) -> Finding {
    let copy = Copy { body: Body(1), size: 1, mtime: Time::default(), ctime: Time::default() };
    let differs = differs.iter().map(|word| (*word).to_owned()).collect();
    let compared = Compared { contents, newer, differs };
    let what = What::Shadowed { visible: (Rank(0), copy), hidden: (Rank(1), copy), compared };
    Finding { path: UnionPath::new(b"it's").unwrap(), what }
}

fn line(finding: &Finding) -> String {
    let roots = [(Rank(0), Place::plain("/fast".into())), (Rank(1), Place::plain("/slow".into()))];
    Words { finding, roots: &roots }.to_string()
}

#[test]
fn only_an_equal_hidden_copy_may_go() {
    let equal = shadowed(Contents::Same, Newer::Neither, &[]);
    assert_eq!(equal.mend(), Some(Mend::Duplicate(equal.path.clone(), Rank(1))));
    for other in [
        shadowed(Contents::Same, Newer::Neither, &["mode"]),
        shadowed(Contents::Differ, Newer::Hidden, &[]),
        shadowed(Contents::Unread, Newer::Neither, &[]),
    ] {
        assert_eq!(other.mend(), None, "{other:?}");
    }
}

#[test]
fn a_line_says_what_to_do_in_words_for_a_shell() {
    let newer = line(&shadowed(Contents::Differ, Newer::Hidden, &["time"]));
    assert!(newer.contains("OTHER CONTENTS on secondary, the hidden one is NEWER, different time"), "{newer}");
    assert!(newer.ends_with(r"rm -- '/slow/it'\''s']"), "{newer}");
    let equal = line(&shadowed(Contents::Same, Newer::Neither, &[]));
    assert_eq!(equal, "the copy on primary hides an equal one on secondary [--repair removes the hidden copy]");
}

#[test]
fn records_and_what_is_lost_are_never_mended() {
    let at = |what| Finding { path: UnionPath::root(), what };
    let rank = Rank(1);
    for own in crate::migrate::OWN_DIRS {
        let mend = at(What::Leftover { rank, own, name: "x".into() }).mend();
        assert_eq!(mend.is_some(), ["staging", "trash"].contains(&own), "{own}");
    }
    assert_eq!(at(What::Lost { rank, name: "x".into() }).mend(), None);
    assert_eq!(at(What::Rotten { rank, run: "r".into() }).mend(), None);
}
