//! Moves that pass over a tier between: no name may show another file afterwards.

use super::race_tests::{Bench, go, request, up};
use super::*;

/// To the slowest of three tiers.
fn down() -> Request {
    request(What::To(Rank(2)))
}

/// Names of one file on `rank`; the first is in `files` already.
fn link(bench: &Bench, rank: usize, names: [&str; 2]) {
    std::fs::hard_link(bench.on(rank, names[0]), bench.on(rank, names[1])).unwrap();
}

/// What each tier has under a name, fastest first: the first is what programs see.
fn copies(bench: &Bench, name: &str) -> Vec<(usize, String)> {
    (0..3).filter_map(|rank| Some((rank, bench.read(rank, name)?))).collect()
}

fn is(found: &[(usize, String)], expected: &[(usize, &str)]) {
    let found: Vec<_> = found.iter().map(|(rank, text)| (*rank, text.as_str())).collect();
    assert_eq!(found, expected, "a name shows, or will show, another file");
}

/// A dry run and a real one.
fn both(bench: &Bench, request: &Request) -> Summary {
    let said = go(bench.union, &Request { dry_run: true, ..request.clone() });
    let done = go(bench.union, request);
    assert_eq!((said.moved, &said.skipped, said.failed), (done.moved, &done.skipped, done.failed));
    assert_eq!((bench.staged(0), bench.staged(2)), (0, 0));
    done
}

#[test]
fn regression_a_promotion_does_not_hide_the_file_that_one_of_its_names_shows() {
    for hidden in ["a", "b"] {
        let bench = Bench::over(3, &[(2, "a", "old"), (1, hidden, "work")]);
        link(&bench, 2, ["a", "b"]);
        let done = both(&bench, &up());
        // The one in front stays as well: what it hides would come to light.
        assert_eq!(
            (done.moved, done.skipped.get(&Skip::Shadowed), done.skipped.get(&Skip::Occupied)),
            (0, Some(&1), Some(&1))
        );
        is(&copies(&bench, hidden), &[(1, "work"), (2, "old")]);
    }
}

#[test]
fn regression_a_demotion_does_not_bring_up_what_one_of_its_names_hides() {
    for hiding in ["a", "b"] {
        let bench = Bench::over(3, &[(0, "a", "new"), (1, hiding, "stale")]);
        link(&bench, 0, ["a", "b"]);
        let done = both(&bench, &down());
        assert_eq!((done.moved, done.skipped.get(&Skip::Occupied)), (0, Some(&1)), "{done:?}");
        is(&copies(&bench, hiding), &[(0, "new"), (1, "stale")]);
    }
}

/// A program beside the mount puts a file on the tier between before the call `at`, which is after the look
/// that begins a move.
fn appears(from: usize, at: (&'static str, u8, &'static str), names: &[&'static str], request: &Request) {
    for name in names {
        let bench = Bench::over(3, &[(from, names[0], "text")]);
        if let [first, second] = names {
            link(&bench, from, [first, second]);
        }
        let path = bench.on(1, name);
        bench.spy.before(at.0, at.1, at.2, move || {
            std::fs::write(path, "beside").unwrap();
            Ok(())
        });
        let done = go(bench.union, request);
        assert_eq!((done.moved, done.skipped.get(&Skip::Occupied)), (0, Some(&1)), "{at:?} {name}: {done:?}");
        assert_eq!(bench.read(1, name).as_deref(), Some("beside"), "{at:?} {name}: it is there before the file moves");
        // As without a move: the faster of the two is seen.
        let mut expected = [(1, "beside"), (from, "text")];
        expected.sort_unstable();
        is(&copies(&bench, name), &expected);
        bench.next_start();
        is(&copies(&bench, name), &expected);
        names.iter().for_each(|name| assert_eq!(bench.read(from, name).as_deref(), Some("text"), "{at:?}"));
        assert_eq!((bench.staged(0), bench.staged(2)), (0, 0));
    }
}

#[test]
fn regression_a_promotion_does_not_hide_a_file_made_beside_the_mount_meanwhile() {
    // While it is copied, and when it is about to be published.
    for at in [("open", 2, "f"), ("rename to", 0, "f")] {
        appears(2, at, &["f"], &up());
    }
    for at in [("open", 2, "f"), ("link", 0, "f"), ("link", 0, "g")] {
        appears(2, at, &["f", "g"], &up());
    }
}

#[test]
fn regression_a_demotion_does_not_bring_up_a_file_made_beside_the_mount_meanwhile() {
    // While it is copied, when the copy waits under its name, and when the source is about to go.
    for at in [("open", 0, "f"), ("rename to", 2, "f"), ("rename from", 0, "f")] {
        appears(0, at, &["f"], &down());
    }
    for at in [("open", 0, "f"), ("link", 2, "g"), ("rename from", 0, "f"), ("rename from", 0, "g")] {
        appears(0, at, &["f", "g"], &down());
    }
}
