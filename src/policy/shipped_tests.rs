//! The files in `policies/`: each is read, does what it says, and agrees with the schema for editors.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use regex_automata::meta::Regex;
use serde_json::Value;

use crate::config::load::{describe, read};
use crate::policy::evaluate::tests::{DAY, NOW, file};
use crate::policy::load::{self, Account};
use crate::policy::relief::Relief;
use crate::policy::watermark::Usage;
use crate::policy::window::{LocalTime, Weekday};
use crate::policy::{Policy, Promotion, Stay, Verdict};
use crate::types::facts::Facts;
use crate::types::ids::Rank;
use crate::yaml;

const TO_SECONDARY: Verdict = Verdict::Move(Rank(1));
const KEPT: Verdict = Verdict::Stay(Stay::Kept);
const EXCLUDED: Verdict = Verdict::Stay(Stay::Excluded);
const PINNED: Verdict = Verdict::Stay(Stay::Pinned);
const MIB: u64 = 1 << 20;

fn root_only(account: Account<'_>) -> Option<u32> {
    (account == Account::User("root")).then_some(0)
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("policies").join(name)
}

fn text(name: &str) -> String {
    read(&path(name)).unwrap()
}

fn shipped(name: &str) -> Policy {
    load::parse(&text(name), &root_only).unwrap_or_else(|problem| panic!("{name}{}", describe(&problem)))
}

/// A file of so many bytes on a tier.
fn sized(size: u64, rank: u8, facts: Facts) -> Facts {
    let mut facts = Facts { rank: Rank(rank), ..facts };
    facts.stat.size = size;
    facts
}

fn verdict(policy: &Policy, facts: &Facts) -> Verdict {
    policy.decide(facts, NOW, 2).verdict
}

fn waits(days: u32) -> Verdict {
    Verdict::Stay(Stay::NoRule(Some(DAY * days)))
}

#[test]
fn documents_after_a_year() {
    let policy = shipped("documents-after-a-year.yaml");
    assert_eq!(verdict(&policy, &file("Sales/offer.docx", 366)), TO_SECONDARY);
    assert_eq!(verdict(&policy, &sized(1, 0, file("a", 366))), TO_SECONDARY);
    let left = DAY * 5 + DAY / 4;
    assert_eq!(verdict(&policy, &file("Sales/offer.docx", 360)), Verdict::Stay(Stay::NoRule(Some(left))));
    assert_eq!(verdict(&policy, &file("Sales/~$offer.docx", 900)), EXCLUDED);
    assert_eq!(verdict(&policy, &file("Sales/.~lock.offer.odt#", 900)), EXCLUDED);
    assert_eq!(verdict(&policy, &file("src/.git/objects/aa/1", 900)), EXCLUDED);
    let mut read_again = file("Sales/offer.docx", 900);
    read_again.stat.atime.sec = NOW.sec;
    assert!(matches!(verdict(&policy, &read_again), Verdict::Stay(Stay::NoRule(Some(_)))));
    assert!(policy.ignores(b"updatedb"));
    assert_eq!(policy.promote, Promotion::Never);
}

#[test]
fn media_by_size_and_age() {
    let policy = shipped("media-by-size-and-age.yaml");
    let film = |days| sized(2048 * MIB, 0, file("Films/a.mov", days));
    assert_eq!((verdict(&policy, &film(30)), verdict(&policy, &film(29))), (TO_SECONDARY, waits(1)));
    let picture = |days| sized(5 * MIB, 0, file("Pictures/b.JPG", days));
    assert_eq!(verdict(&policy, &picture(183)), TO_SECONDARY);
    assert!(matches!(verdict(&policy, &picture(40)), Verdict::Stay(Stay::NoRule(Some(_)))));
    assert_eq!(verdict(&policy, &sized(MIB - 1, 0, file("Pictures/icon.png", 999))), Verdict::Stay(Stay::NoRule(None)));
    assert_eq!(verdict(&policy, &sized(1, 0, file("Films/Current/a.mov", 999))), KEPT);
    assert_eq!(verdict(&policy, &file("Films/notes.txt", 999)), Verdict::Stay(Stay::NoRule(None)));
    let window = policy.window.unwrap();
    assert!(window.contains(LocalTime { day: Weekday::Sat, second: 12 * 3600 }));
    assert!(!window.contains(LocalTime { day: Weekday::Wed, second: 12 * 3600 }));
    assert_eq!(policy.limits.bytes_per_sec, Some(80 * MIB));
}

#[test]
fn scratch() {
    let policy = shipped("scratch.yaml");
    assert_eq!(verdict(&policy, &file("run1/out.h5", 7)), TO_SECONDARY);
    assert_eq!(verdict(&policy, &file("run1/out.h5", 6)), waits(1));
    assert_eq!(verdict(&policy, &file("run1/out.h5.part", 700)), EXCLUDED);
    let mut checkpoint = file("run1/checkpoints/0001", 2);
    checkpoint.stat.atime = NOW;
    assert_eq!(verdict(&policy, &checkpoint), TO_SECONDARY);
    let promoted = |facts: Facts| policy.promotion_target(&sized(MIB, 1, facts), NOW, 2);
    let mut read_again = file("run1/out.h5", 100);
    read_again.stat.atime = NOW;
    assert_eq!(promoted(read_again), Some(Rank::PRIMARY));
    assert_eq!(promoted(checkpoint), None);
    assert_eq!(policy.promote, Promotion::Reads { count: 2, within: Duration::from_secs(3600) });
}

#[test]
fn watermarks() {
    let policy = shipped("watermarks.yaml");
    assert_eq!(policy.exceeded(Rank::PRIMARY, Usage { used: 85, total: 100 }), None);
    let (marks, bytes) = policy.exceeded(Rank::PRIMARY, Usage { used: 86 * MIB, total: 100 * MIB }).unwrap();
    assert_eq!(bytes, 16 * MIB);
    let files = [
        file("a", 40),
        file("b.sqlite", 400),
        file("c", 50),
        file("d", 20),
        sized(100, 0, file("e", 400)),
        Facts { pin: Some(Rank::PRIMARY), ..file("f", 400) },
    ];
    let mut relief = Relief::new(&policy, marks, bytes, NOW, 2);
    files.into_iter().for_each(|facts| relief.see(facts, false));
    let plan: Vec<_> = relief.finish().into_iter().map(|(facts, to)| (facts.path.to_string(), to)).collect();
    assert_eq!(plan, [("c".to_owned(), Rank(1)), ("a".to_owned(), Rank(1))]);
}

#[test]
fn legal_hold() {
    let policy = shipped("legal-hold.yaml");
    for rank in [0, 1] {
        assert_eq!(verdict(&policy, &sized(1, rank, file("Legal/Hold/Smith/a.msg", 4000))), KEPT);
        assert_eq!(verdict(&policy, &sized(1, rank, file("Sales/offer.pdf.hold", 4000))), KEPT);
    }
    assert_eq!(verdict(&policy, &file("Legal/Closed/Jones/a.msg", 0)), TO_SECONDARY);
    assert_eq!(verdict(&policy, &sized(1, 1, file("Legal/Closed/Jones/a.msg", 0))), PINNED);
    assert_eq!(verdict(&policy, &file("Sales/offer.pdf", 731)), TO_SECONDARY);
    assert!(matches!(verdict(&policy, &file("Sales/offer.pdf", 700)), Verdict::Stay(Stay::NoRule(Some(_)))));
    let pinned = Facts { pin: Some(Rank::PRIMARY), ..file("Legal/Closed/Jones/a.msg", 0) };
    assert_eq!(verdict(&policy, &pinned), PINNED, "a pin comes before the rule");
}

/// Every policy that is shipped, by its file name, and the example of the README.
fn documents() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".yaml"));
    let mut all: Vec<_> = names.map(|name| (text(&name), name)).map(|(text, name)| (name, text)).collect();
    let readme = text("README.md");
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    all.extend(blocks.map(|block| ("README.md".to_owned(), block.to_owned())));
    all
}

#[test]
fn every_shipped_policy_is_read_and_fits_two_tiers_and_the_schema() {
    let schema = schema();
    let documents = documents();
    assert_eq!(documents.len(), 6, "a policy without a test of what it decides");
    for (name, text) in documents {
        let policy = load::parse(&text, &root_only).unwrap_or_else(|problem| panic!("{name}{}", describe(&problem)));
        assert_eq!(policy.check_tiers(2), Ok(()), "{name}");
        assert_eq!(wrong(&schema, &schema, &yaml::parse(&text).unwrap()), None, "{name}");
        let modeline = text.starts_with("# yaml-language-server: $schema=schema.json\n");
        assert!(modeline || name == "README.md", "{name}");
    }
}

#[test]
fn schema_readme_and_reader_know_the_same_keys() {
    let schema = schema();
    let readme = text("README.md");
    for (pointer, document) in [
        ("", "version: 1\n?: 1"),
        ("/definitions/rule", "version: 1\nrules: [{action: keep, ?: 1}]"),
        ("/definitions/watermarks", "version: 1\nwatermarks: [{?: 1}]"),
        ("/definitions/promote", "version: 1\npromote: {?: 1}"),
        ("/definitions/limits", "version: 1\nlimits: {?: 1}"),
    ] {
        let told = load::parse(&document.replace('?', "unknown"), &root_only).unwrap_err().message;
        let (_, expected) = told.split_once("expected").unwrap();
        let read: BTreeSet<&str> = expected.split('`').skip(1).step_by(2).collect();
        let properties = schema.pointer(&format!("{pointer}/properties")).unwrap().as_object().unwrap();
        let known: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(known, read, "{pointer}");
        for key in read {
            assert!(readme.contains(&format!("| `{key}` | ")), "the README does not explain {key}");
        }
    }
}

#[test]
fn schema_and_reader_agree_on_values() {
    let schema = schema();
    let judge = |body: &str, good: bool| {
        let text = format!("version: 1\n{body}\n");
        let read = load::parse(&text, &root_only).map_err(|problem| describe(&problem));
        let shown = wrong(&schema, &schema, &yaml::parse(&text).unwrap());
        assert_eq!((read.is_ok(), shown.is_none()), (good, good), "{body}\n{read:?}\n{shown:?}");
    };
    for good in [
        "rules: [{older_than: 1y 6mo, action: demote}]",
        "rules: [{older_than: 0, min_size: 1.5 GiB, max_size: 1t, action: promote}]",
        "rules: [{match: 2024, tier: [primary], owner: [0, root], group: 7, action: pin, to: tier7}]",
        "rules:\nlimits:\nsuspend_on_errors: never",
        "window: sat, sun 0:00-24:00",
        "limits: {bandwidth: 1M/s, files: 3, bytes: 1, duration: 90s}",
        "watermarks: [{tier: primary, high: 100%, low: 0%}]",
    ] {
        judge(good, true);
    }
    for bad in [
        "rules: [{older_than: 5m, action: demote}]",
        "rules: [{older_than: 5, action: demote}]",
        "rules: [{min_size: 4MB, action: demote}]",
        "rules: [{match: [], action: keep}]",
        "rules: [{match: '', action: keep}]",
        "rules: [{match: a}]",
        "rules: [{match: a, tier: fast, action: keep}]",
        "watermarks: [{tier: primary, high: 101%, low: 0%}]",
        "watermarks: [{tier: primary, high: 90, low: 0%}]",
        "limits: {files: 0}",
        "limits: {bandwidth: 40MB/s}",
        "ignore_processes: /usr/bin/tar",
        "suspend_on_errors: 10%",
        "window: at night",
        "order: newest",
        "verify: true",
    ] {
        judge(bad, false);
    }
}

fn schema() -> Value {
    serde_json::from_str(&text("schema.json")).unwrap()
}

/// What in `value` the schema does not allow: only the keywords of draft 7 that our schema uses,
/// and any other keyword is a failure of the test.
fn wrong(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let rules = schema.as_object().unwrap();
    // In draft 7 nothing beside a reference counts.
    if let Some(target) = rules.get("$ref") {
        return wrong(root, root.pointer(target.as_str().unwrap().strip_prefix('#').unwrap()).unwrap(), value);
    }
    rules.iter().find_map(|(keyword, rule)| keyword_wrong(root, rules, keyword, rule, value))
}

fn keyword_wrong(
    root: &Value,
    rules: &serde_json::Map<String, Value>,
    keyword: &str,
    rule: &Value,
    value: &Value,
) -> Option<String> {
    let says = || Some(format!("{value}: {keyword} {rule}"));
    let unless = |good: bool| if good { None } else { says() };
    let number = value.as_i64();
    match keyword {
        "$schema" | "title" | "description" | "definitions" => None,
        "const" => unless(value == rule),
        "enum" => unless(rule.as_array().unwrap().contains(value)),
        "type" => {
            let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
            unless(types.iter().any(|name| is_of_type(value, name.as_str().unwrap())))
        }
        "anyOf" => unless(rule.as_array().unwrap().iter().any(|one| wrong(root, one, value).is_none())),
        "pattern" => {
            let regex = Regex::new(rule.as_str().unwrap()).unwrap();
            unless(value.as_str().is_none_or(|text| regex.is_match(text)))
        }
        "minLength" => unless(value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap())),
        "minimum" => unless(number.is_none_or(|number| number >= rule.as_i64().unwrap())),
        "maximum" => unless(number.is_none_or(|number| number <= rule.as_i64().unwrap())),
        "minItems" => unless(value.as_array().is_none_or(|list| list.len() as u64 >= rule.as_u64().unwrap())),
        "items" => value.as_array()?.iter().find_map(|item| wrong(root, rule, item)),
        "required" => {
            let keys = rule.as_array().unwrap().iter().map(|key| key.as_str().unwrap());
            unless(value.as_object().is_none_or(|map| keys.into_iter().all(|key| map.contains_key(key))))
        }
        "properties" => value.as_object()?.iter().find_map(|(key, value)| wrong(root, rule.get(key)?, value)),
        "additionalProperties" => {
            let known = rules["properties"].as_object().unwrap();
            unless(value.as_object().is_none_or(|map| map.keys().all(|key| known.contains_key(key))))
        }
        _ => panic!("this test does not know the keyword {keyword}"),
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{name} is no type"),
    }
}
