//! Lines about files that were never there.

use std::time::Duration;

use super::*;
use crate::control::wire;
use crate::policy::window::{LocalTime, Span, Weekday, Window};
use crate::policy::{Action, AgeBy, Order, Rule};
use crate::types::attr::{Body, Stat};
use crate::types::glob::{Globs, Pattern};
use crate::types::path::UnionPath;

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Time = Time { sec: 1_000 * 86_400, nsec: 0 };

/// On the primary, so many days old.
fn facts(days: i64) -> Facts {
    let time = Time { sec: NOW.sec - days * 86_400, nsec: 0 };
    let stat = Stat {
        body: Body(1),
        generation: 0,
        mode: 0o100_644,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 100,
        blocks: 8,
        blksize: 4096,
        atime: time,
        mtime: time,
        ctime: time,
    };
    Facts { path: UnionPath::new(b"d/f").unwrap(), rank: Rank(0), stat, pin: None }
}

fn older(days: u32) -> Rule {
    Rule { older_than: Some(days * DAY), ..Rule::every("cold", Action::Demote(None)) }
}

fn explained(facts: Facts, policy: Policy) -> Explained {
    let by = By { policy, origin: "p.yaml".into(), from_file: true, tiers: 2 };
    let judged = by.judge(&facts, NOW);
    let seen = Seen { copies: Vec::new(), facts, pinned_at: Some("/m/d".into()), users: Vec::new(), closed: 0 };
    let usage = vec![Some(wire::Usage { used: 50, total: 100 }); 2];
    let probed = Probed { outlook: Outlook::Clear, usage };
    Explained { seen, by, judged, probed, closed: None, now: NOW }
}

fn of(rules: Vec<Rule>) -> Policy {
    Policy { rules, ..Policy::default() }
}

fn said(explained: &Explained, what: &str) -> Vec<String> {
    describe(explained).into_iter().filter(|(label, _)| *label == what).map(|(_, text)| text).collect()
}

#[test]
fn each_rule_that_does_not_match_says_why() {
    let large = Rule { min_size: 1 << 20, ..Rule::every("large", Action::Demote(None)) };
    let told = explained(facts(30), of(vec![large, older(10), older(1)]));
    assert_eq!(
        said(&told, "rule"),
        ["`large`, number 1 of p.yaml, does not match: it is smaller than 1MiB", "`cold`, number 2 of p.yaml, matches"]
    );
    assert_eq!(said(&told, "next"), ["moves to secondary with the next run"]);
    let young = explained(facts(30), of(vec![older(90)]));
    assert_eq!(said(&young, "next"), ["stays: too young; moves in 60d if nobody uses it meanwhile"]);
    assert_eq!(said(&explained(facts(1), of(vec![])), "rule"), ["there is none in p.yaml"]);
}

#[test]
fn regression_what_is_in_the_way_is_what_a_run_would_find() {
    let blocked = |outlook| {
        let mut told = explained(facts(30), of(vec![older(10)]));
        told.probed.outlook = outlook;
        said(&told, "next").concat()
    };
    assert_eq!(
        blocked(Outlook::Blocked("it is immutable".into())),
        "would move to secondary, but stays: it is immutable"
    );
    assert_eq!(blocked(Outlook::Unknown("a run is at work".into())), "would move to secondary; a run is at work");
}

#[test]
fn regression_a_pin_and_an_exclusion_come_before_the_rules() {
    let told = explained(Facts { pin: Some(Rank(0)), ..facts(30) }, of(vec![older(90)]));
    assert_eq!(said(&told, "rule"), ["none is asked: the pin comes first"]);
    assert_eq!(said(&told, "pin"), ["to primary, set on /m/d"]);
    assert_eq!(said(&told, "next"), ["stays: it is pinned to primary; `tierfs unpin` ends that"]);
    let elsewhere = explained(Facts { pin: Some(Rank(1)), ..facts(30) }, of(vec![]));
    assert!(said(&elsewhere, "next").concat().contains("recall --to secondary"));
    let exclude = Globs::with_below(vec![Pattern::new("d").unwrap()]).unwrap();
    let told = explained(facts(30), Policy { exclude, ..of(vec![older(10)]) });
    assert_eq!(said(&told, "rule"), ["none is asked: `exclude` of p.yaml matches its path"]);
}

#[test]
fn regression_a_watermark_may_take_what_no_rule_moves() {
    let marks = Watermarks {
        tier: Rank::PRIMARY,
        high: 85,
        low: 70,
        never_younger_than: 20 * DAY,
        age_by: AgeBy::Newest,
        order: Order::Oldest,
    };
    let policy = || Policy { watermarks: vec![marks], ..Policy::default() };
    let mut told = explained(facts(30), policy());
    assert_eq!(told.judged.to(), Some(Rank(1)));
    assert!(said(&told, "watermark").concat().ends_with("; 50% are in use now"));
    let next = said(&told, "next").concat();
    assert_eq!(next, "stays: no rule matches; above 85% in use the watermark may take it to secondary");
    told.probed.usage[0] = Some(wire::Usage { used: 90, total: 100 });
    assert!(said(&told, "next").concat().contains("the watermark may: primary gives files to secondary until 70%"));
    let young = explained(facts(5), policy());
    assert!(said(&young, "next").concat().ends_with("does not take it: it is younger than 20d, for 15d more"));
    let below = explained(Facts { rank: Rank(1), ..facts(30) }, policy());
    assert_eq!(said(&below, "watermark"), [""; 0]);
}

#[test]
fn regression_a_closed_window_is_told() {
    let mut told = explained(facts(30), of(vec![older(10)]));
    let window = Window::new(vec![Span::new("mon 20:00-22:00").unwrap()]).unwrap();
    told.closed = window.closed(LocalTime { day: Weekday::Mon, second: 0 });
    assert_eq!(said(&told, "window"), ["mon 20:00-22:00 is closed and opens mon 20:00, in 20h"]);
    assert_eq!(said(&told, "next"), ["moves to secondary with the first run after the window has opened"]);
}
