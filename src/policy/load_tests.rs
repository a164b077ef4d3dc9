//! Policy files that are read, and that are refused.

use proptest::prelude::*;

use super::*;
use crate::config::load::describe;
use crate::policy::Verify;
use crate::policy::window::{LocalTime, Weekday};

const DAY: Duration = Duration::from_secs(86_400);

/// One user and one group.
pub(crate) fn resolve(account: Account<'_>) -> Option<u32> {
    match account {
        Account::User("alice") => Some(1000),
        Account::Group("staff") => Some(50),
        Account::User(_) | Account::Group(_) => None,
    }
}

const FULL: &str = "\
version: 1
exclude: ['*.tmp', .git]
age_by: mtime
min_size: 4KiB
rules:
  - name: hold
    match: legal/**
    action: keep
  - match: ['*.pdf', 2024/]
    not: a.pdf
    older_than: 1d
    younger_than: 3d
    age_by: atime
    min_size: 0
    max_size: 1GiB
    owner: [alice, 7]
    group: staff
    tier: [primary, secondary]
    action: demote
    to: tier2
  - { older_than: 2d, action: demote }
watermarks:
  - { tier: primary, high: 85%, low: 70%, never_younger_than: 30d, order: largest }
  - { tier: secondary, high: 90%, low: 89% }
promote: { when: reads, reads: 3, within: 1h }
ignore_processes: [updatedb, a-very-long-process-name]
window: [20:00-06:00, 'sat,sun 00:00-24:00']
limits: { files: 10, bytes: 1GiB, duration: 4h, bandwidth: 40MiB/s }
verify: size
order: smallest
suspend_on_errors: never
";

#[test]
fn a_full_file_is_read() {
    let policy = parse(FULL, &resolve).unwrap();
    let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["hold", "rule 2", "rule 3"]);
    let rule = &policy.rules[1];
    let texts = |globs: &Globs| globs.patterns().iter().map(|one| one.text().to_owned()).collect::<Vec<_>>();
    assert_eq!(texts(rule.globs.as_ref().unwrap()), ["*.pdf", "2024/"]);
    assert_eq!((texts(&rule.not), texts(&policy.exclude)), (vec!["a.pdf".into()], vec!["*.tmp".into(), ".git".into()]));
    assert_eq!((rule.older_than, rule.younger_than, rule.age_by), (Some(DAY), Some(DAY * 3), AgeBy::Atime));
    assert_eq!((rule.min_size, rule.max_size), (0, Some(1 << 30)));
    assert_eq!((rule.uids.as_slice(), rule.gids.as_slice()), ([1000, 7].as_slice(), [50].as_slice()));
    assert_eq!((rule.tiers, rule.action), (Some(Ranks(3)), Action::Demote(Some(Rank(2)))));
    let sizes: Vec<u64> = policy.rules.iter().map(|rule| rule.min_size).collect();
    assert_eq!(sizes, [0, 0, 4096], "the default is for rules that move");
    assert_eq!((policy.rules[2].age_by, policy.rules[2].action), (AgeBy::Mtime, Action::Demote(None)));
    assert_eq!(policy.watermarks[0].order, Order::Largest);
    assert_eq!(policy.watermarks[0].never_younger_than, DAY * 30);
    let second =
        Watermarks { tier: Rank(1), high: 90, low: 89, never_younger_than: Duration::ZERO, ..policy.watermarks[1] };
    assert_eq!((policy.watermarks[1], second.order, second.age_by), (second, Order::Oldest, AgeBy::Mtime));
    assert_eq!(policy.promote, Promotion::Reads { count: 3, within: Duration::from_secs(3600) });
    assert!(policy.ignores(b"updatedb") && policy.ignores(b"a-very-long-pro") && !policy.ignores(b"updated"));
    assert!(policy.window.unwrap().contains(LocalTime { day: Weekday::Sat, second: 50_000 }));
    let limits = Limits {
        files: Some(10),
        bytes: Some(1 << 30),
        duration: Some(Duration::from_secs(14_400)),
        bytes_per_sec: Some(40 << 20),
    };
    assert_eq!(policy.limits, limits);
    assert_eq!((policy.verify, policy.order, policy.suspend_on_errors), (Verify::Size, Order::Smallest, None));
}

#[test]
fn what_is_left_out_has_the_default() {
    assert_eq!(parse("version: 1\nrules:\n", &resolve).unwrap(), Policy::default());
}

#[test]
fn a_rule_for_every_file_of_one_tier_leaves_the_others_to_the_next() {
    let text = "version: 1\nrules:\n- {tier: secondary, action: keep}\n- {match: '**', action: demote}\n";
    assert_eq!(parse(text, &resolve).unwrap().rules.len(), 2);
}

#[test]
fn a_tier_that_the_mount_has_not_is_told() {
    let check = |text: &str, tiers| parse(&format!("version: 1\n{text}\n"), &resolve).unwrap().check_tiers(tiers);
    let pin = "rules: [{match: a, action: pin, to: tier2}]";
    assert_eq!(check(pin, 3), Ok(()));
    assert!(check(pin, 2).unwrap_err().starts_with("the rule `rule 1` names the tier `tier2`"));
    let from = "rules: [{match: a, tier: [primary, tier2], action: keep}]";
    assert!(check(from, 2).is_err() && check(from, 3).is_ok());
    let marks = "watermarks: [{tier: secondary, high: 2%, low: 1%}]";
    assert_eq!(check(marks, 3), Ok(()));
    assert!(check(marks, 2).unwrap_err().contains("no slower one is there"));
    assert!(check(marks, 1).unwrap_err().contains("has only 1"));
}

#[test]
fn a_mistake_is_told_with_its_place_and_a_way_out() {
    for (body, line) in [
        ("rule: []", ":2:1: unknown field `rule`, expected one of "),
        ("rules:\n  - {older: 1y, action: demote}", ":3:6: rules[0]: unknown field `older`"),
        ("rules: [{older_than: 1m, action: demote}]", ":2:22: rules[0].older_than: `1m` can mean minutes or"),
        ("rules: [{older_than: 1, action: demote}]", ":2:22: rules[0].older_than: `1` has no unit"),
        ("rules: [{min_size: 4MB, action: demote}]", ":2:20: rules[0].min_size: `MB` can mean"),
        ("rules: [{action: demot}]", ":2:18: rules[0].action: `demot` is not one of"),
        ("rules: [{match: a}]", ":2:9: rules[0]: missing field `action`"),
        ("rules: [{match: 'a[', action: keep}]", ":2:17: rules[0].match: `a[` is not a pattern"),
        ("rules: [{match: [a, '**b'], action: keep}]", ":2:21: rules[0].match[1]: `**b` is not a pattern"),
        ("rules: [{match: [], action: keep}]", ":2:17: rules[0].match: the list is empty"),
        ("rules: [{match: {a, b}, action: keep}]", ":2:17: rules[0].match: invalid type: map, expected one value or"),
        ("rules: [{match: *.pdf, action: keep}]", ":2:18: `*` begins a reference"),
        ("rules: [{match: *pdf, action: keep}]", ":2:17: `*` begins a reference"),
        ("rules: [{owner: [alice, bob], action: keep}]", ":2:17: rules[0].owner: there is no user `bob`"),
        ("rules: [{group: alice, action: keep}]", ":2:17: rules[0].group: there is no group `alice`"),
        ("rules: [{match: a, action: pin}]", ":2:28: rules[0].action: `pin` needs the tier"),
        ("rules: [{match: a, action: keep, to: primary}]", ":2:38: rules[0].to: `keep` leaves"),
        ("rules: [{match: a, action: pin, to: tier1}]", ":2:37: rules[0].to: `tier1` is not a tier"),
        ("rules: [{match: a, action: demote, to: primary}]", ":2:40: rules[0].to: no tier that"),
        ("rules: [{match: a, tier: primary, action: promote}]", ":2:26: rules[0].tier: no tier is faster"),
        ("rules: [{action: demote}]", ":2:9: rules[0]: this moves every file"),
        ("rules: [{tier: primary, action: demote}]", ":2:9: rules[0]: this moves every file"),
        ("rules:\n- {name: x, action: keep}\n- {match: a, action: keep}", ":4:3: rules[1]: never reached: `x`"),
        ("rules:\n- {name: x, match: a, action: keep}\n- {name: x, match: b, action: keep}", ":4:10: rules[1].name"),
        ("rules: [{older_than: 2d, younger_than: 2d, action: demote}]", ":2:40: rules[0].younger_than: no file"),
        ("rules: [{min_size: 2, max_size: 1, action: demote}]", ":2:33: rules[0].max_size: it is below"),
        ("watermarks: [{tier: primary, high: 70%, low: 70%}]", ":2:46: watermarks[0].low: it must be below"),
        ("watermarks: [{tier: primary, high: 85, low: 7%}]", ":2:36: watermarks[0].high: `85` is not a share"),
        ("promote: {when: reads, reads: 3}", ":2:17: promote.when: `reads` needs both"),
        ("promote: {when: write, reads: 3}", ":2:17: promote.when: `reads` and `within` belong to"),
        ("promote: {when: reads, reads: 3, within: 0}", ":2:42: promote.within: no time at all"),
        ("window: 8-9", ":2:9: window: `8-9` is not a window"),
        ("limits: {duration: 0}", ":2:20: limits.duration: nothing would ever move"),
        ("limits: {files: 0}", ":2:17: limits.files: `0` is not a whole number above 0"),
        ("suspend_on_errors: 5%", ":2:20: suspend_on_errors: `5%` is not a whole number above 0, nor"),
        ("verify: md5", ":2:9: verify: `md5` is not one of hash or size"),
        ("ignore_processes: [/usr/bin/tar]", ":2:20: ignore_processes[0]: \"/usr/bin/tar\" is not the name"),
    ] {
        let problem = parse(&format!("version: 1\n{body}\n"), &resolve).unwrap_err();
        let told = describe(&problem);
        assert!(told.starts_with(line), "{body:?}\n{told}");
        assert!(!told.contains('\n'), "{told}");
    }
    let told = |text| describe(&parse(text, &resolve).unwrap_err());
    assert_eq!(told("version: 2\n"), ":1:10: version: version 2 is not known: this tierfs reads version 1");
    assert!(told("").contains("missing field `version`"), "{}", told(""));
}

#[test]
fn the_way_out_is_named() {
    let told = |text| describe(&parse(&format!("version: 1\n{text}"), &resolve).unwrap_err());
    assert!(told("rulse: []").ends_with("did you mean `rules`?"));
    assert!(told("rules: [{olderthan: 1y, action: keep}]").ends_with("did you mean `older_than`?"));
    assert!(told("rules: [{match: *.pdf, action: keep}]").ends_with("needs quotes: '*.pdf'"));
    assert!(told("rules: [{match: a, action: demotte}]").ends_with("did you mean `demote`?"));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,80}") {
        let _ = parse(&text, &resolve);
    }

    #[test]
    fn no_change_of_a_file_makes_the_reader_panic(at in 0..FULL.len(), cut in 0usize..12, put in "[a-z0-9%{}:*'\\[\\] \n-]{0,6}") {
        let end = (at + cut).min(FULL.len());
        let text = format!("{}{put}{}", &FULL[..at], &FULL[end..]);
        if let Err(problem) = parse(&text, &resolve) {
            prop_assert!(!describe(&problem).contains('\n'));
        }
    }
}
