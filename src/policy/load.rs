//! From the text of a policy file to a [`Policy`].

use std::time::Duration;

use crate::config::load::suggested;
use crate::config::schema::Plain;
use crate::policy::schema::{self, File, List, VERSION};
use crate::policy::window::Window;
use crate::policy::words::{ActionWord, When, Who};
use crate::policy::{Action, AgeBy, ERRORS_MAX, Limits, Order, Policy, Promotion, Rule, Watermarks};
use crate::types::glob::{Globs, Pattern};
use crate::types::ids::{Rank, Ranks};
use crate::yaml::{self, Problem, Step};

/// A name whose number the caller looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account<'a> {
    /// Of a user.
    User(&'a str),
    /// Of a group.
    Group(&'a str),
}

/// Tells the number of an account; `None` if there is no such account.
pub type Resolve<'a> = &'a dyn Fn(Account<'_>) -> Option<u32>;

/// Reads the text of a policy file. `config::load::read` gets it, `config::load::describe` writes a
/// problem as one line.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(text: &str, resolve: Resolve<'_>) -> Result<Policy, Problem> {
    let file: File = yaml::parse(text).map_err(|problem| quoted(suggested(problem)))?;
    policy(file, resolve).map_err(|wrong| Problem {
        at: yaml::place(text, &wrong.at),
        message: format!("{}{}", dotted(&wrong.at), wrong.message),
    })
}

/// Whether a file with these keys at its top was written as a policy, and not as a configuration.
pub fn is_policy(keys: &[String]) -> bool {
    let has = |words: &[&str]| keys.iter().any(|key| words.contains(&key.as_str()));
    has(&["rules", "watermarks", "promote"]) && !has(&["tiers", "primary", "secondary"])
}

/// What can be seen to be wrong only when the file is read.
struct Wrong {
    at: Vec<Step>,
    message: String,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Wrong {
        Wrong { at: Vec::new(), message: message.into() }
    }

    fn at(key: &'static str, message: impl Into<String>) -> Wrong {
        Wrong { at: vec![Step::Key(key)], message: message.into() }
    }

    /// The same, seen from the file.
    fn within(mut self, key: &'static str, index: Option<usize>) -> Wrong {
        let outer = [Step::Key(key)].into_iter().chain(index.map(Step::Index));
        self.at.splice(0..0, outer);
        self
    }
}

/// `rules[0].to: `, as the YAML package writes it.
fn dotted(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Key(key) if out.is_empty() => out.push_str(key),
            Step::Key(key) => out.extend([".", key]),
            Step::Index(index) => out.push_str(&format!("[{index}]")),
        }
    }
    if out.is_empty() { out } else { format!("{out}: ") }
}

/// `*.pdf` without quotes is a reference to something called `.pdf`: nobody guesses that from the
/// message of the YAML package.
fn quoted(mut problem: Problem) -> Problem {
    if problem.message.contains("unknown anchor") || problem.message.contains("scanning an alias") {
        problem.message = "`*` begins a reference in YAML: a pattern that begins with it needs quotes: '*.pdf'".into();
    }
    problem
}

fn policy(file: File, resolve: Resolve<'_>) -> Result<Policy, Wrong> {
    if file.version != VERSION {
        let says = format!("version {} is not known: this tierfs reads version 1", file.version);
        return Err(Wrong::at("version", says));
    }
    let age_by = value(file.age_by).unwrap_or_default();
    let min_size = value(file.min_size).map_or(0, |size| size.0);
    let mut rules: Vec<Rule> = Vec::new();
    for (index, raw) in file.rules.unwrap_or_default().into_iter().enumerate() {
        let made = Draft { index, age_by, min_size, resolve, above: &rules }.rule(raw);
        rules.push(made.map_err(|wrong| wrong.within("rules", Some(index)))?);
    }
    let mut watermarks = Vec::new();
    for (index, raw) in file.watermarks.unwrap_or_default().into_iter().enumerate() {
        let made = marks(&raw, age_by, &watermarks).map_err(|wrong| wrong.within("watermarks", Some(index)))?;
        watermarks.push(made);
    }
    let exclude = list(file.exclude);
    Ok(Policy {
        rules,
        exclude: Globs::with_below(exclude).map_err(|line| Wrong::at("exclude", line))?,
        age_by,
        min_size,
        watermarks,
        promote: file.promote.map_or(Ok(Promotion::Never), promote).map_err(|wrong| wrong.within("promote", None))?,
        ignore_processes: list(file.ignore_processes).into_iter().map(|program| program.0).collect(),
        window: Window::new(list(file.window)),
        limits: file.limits.map_or(Ok(Limits::default()), limits).map_err(|wrong| wrong.within("limits", None))?,
        verify: value(file.verify).unwrap_or_default(),
        order: value(file.order).unwrap_or_default(),
        suspend_on_errors: value(file.suspend_on_errors).map_or(Some(ERRORS_MAX), |errors| errors.0),
    })
}

fn value<T>(plain: Option<Plain<T>>) -> Option<T> {
    plain.map(|Plain(value)| value)
}

fn list<T>(list: Option<List<T>>) -> Vec<T> {
    list.map(|List(values)| values).unwrap_or_default()
}

/// What a rule takes from outside of itself.
struct Draft<'a> {
    index: usize,
    age_by: AgeBy,
    min_size: u64,
    resolve: Resolve<'a>,
    above: &'a [Rule],
}

impl Draft<'_> {
    fn rule(&self, raw: schema::Rule) -> Result<Rule, Wrong> {
        let tiers = full(raw.tier, "tier")?.map(|ranks| ranks.into_iter().fold(Ranks::NONE, Ranks::with));
        let action = action(raw.action.0, value(raw.to), tiers)?;
        let moves = matches!(action, Action::Demote(_) | Action::Promote(_));
        let rule = Rule {
            name: value(raw.name).unwrap_or_else(|| format!("rule {}", self.index + 1)),
            globs: full(raw.globs, "match")?.map(|patterns| globs(patterns, "match")).transpose()?,
            not: globs(list(raw.not), "not")?,
            older_than: value(raw.older_than),
            younger_than: value(raw.younger_than),
            age_by: value(raw.age_by).unwrap_or(self.age_by),
            // A file that is kept or pinned is so however small it is.
            min_size: value(raw.min_size).map_or(if moves { self.min_size } else { 0 }, |size| size.0),
            max_size: value(raw.max_size).map(|size| size.0),
            uids: self.ids(raw.owner, "owner", "user", |name| Account::User(name))?,
            gids: self.ids(raw.group, "group", "group", |name| Account::Group(name))?,
            tiers,
            action,
        };
        self.check(&rule)?;
        Ok(rule)
    }

    fn ids(
        &self,
        raw: Option<List<Who>>,
        key: &'static str,
        kind: &str,
        account: fn(&str) -> Account<'_>,
    ) -> Result<Vec<u32>, Wrong> {
        let id = |who: Who| match who {
            Who::Id(id) => Ok(id),
            Who::Name(name) => (self.resolve)(account(&name)).ok_or_else(|| {
                Wrong::at(key, format!("there is no {kind} `{name}` on this machine: correct it or write the number"))
            }),
        };
        full(raw, key)?.unwrap_or_default().into_iter().map(id).collect()
    }

    /// What cannot be meant, though every value alone is right.
    fn check(&self, rule: &Rule) -> Result<(), Wrong> {
        if let (Some(older), Some(younger)) = (rule.older_than, rule.younger_than)
            && older >= younger
        {
            return Err(Wrong::at("younger_than", "no file is that young and as old as `older_than` says"));
        }
        if rule.max_size.is_some_and(|max| max < rule.min_size) {
            return Err(Wrong::at("max_size", "it is below `min_size`, so no file matches"));
        }
        let held = matches!(rule.action, Action::Keep | Action::Pin(_));
        if !held && rule.chooses_nothing() {
            return Err(Wrong::new("this moves every file: write `match: '**'` if it is meant to"));
        }
        if let Some(other) = self.above.iter().position(|other| other.name == rule.name) {
            return Err(Wrong::at("name", format!("rule {} has the same name", other + 1)));
        }
        match self.above.iter().find(|above| above.matches_all()) {
            Some(above) => Err(Wrong::new(format!("never reached: `{}` above matches every file", above.name))),
            None => Ok(()),
        }
    }
}

impl Rule {
    /// Whether no condition picks files out, apart from what tier they are on.
    fn chooses_nothing(&self) -> bool {
        self.globs.is_none()
            && self.not.is_empty()
            && self.older_than.is_none()
            && self.younger_than.is_none()
            && self.min_size == 0
            && self.max_size.is_none()
            && self.uids.is_empty()
            && self.gids.is_empty()
    }

    fn matches_all(&self) -> bool {
        let every_path = self
            .globs
            .as_ref()
            .is_none_or(|globs| globs.patterns().iter().any(|pattern| ["*", "**"].contains(&pattern.text())));
        let rest = Rule { globs: None, ..self.clone() };
        every_path && rest.chooses_nothing() && self.tiers.is_none()
    }
}

/// A list that is there must not be empty: it could mean everything as well as nothing.
fn full<T>(raw: Option<List<T>>, key: &'static str) -> Result<Option<Vec<T>>, Wrong> {
    match raw {
        Some(List(values)) if values.is_empty() => {
            Err(Wrong::at(key, "the list is empty: leave the key out if it is not to matter"))
        }
        raw => Ok(raw.map(|List(values)| values)),
    }
}

fn globs(patterns: Vec<Pattern>, key: &'static str) -> Result<Globs, Wrong> {
    Globs::new(patterns).map_err(|line| Wrong::at(key, line))
}

fn action(word: ActionWord, to: Option<Rank>, tiers: Option<Ranks>) -> Result<Action, Wrong> {
    let from = tiers.unwrap_or(Ranks(u8::MAX));
    let no_way =
        |way: &str| Err(Wrong::at("to", format!("no tier that this rule is for is {way}, so nothing would move")));
    match (word, to) {
        (ActionWord::Demote, Some(to)) if from.iter().all(|from| from >= to) => no_way("faster than that"),
        (ActionWord::Promote, Some(to)) if from.iter().all(|from| from <= to) => no_way("slower than that"),
        (ActionWord::Promote, None) if from == Ranks::only(Rank::PRIMARY) => {
            Err(Wrong::at("tier", "no tier is faster than the primary, so nothing would move"))
        }
        (ActionWord::Demote, to) => Ok(Action::Demote(to)),
        (ActionWord::Promote, to) => Ok(Action::Promote(to)),
        (ActionWord::Pin, Some(to)) => Ok(Action::Pin(to)),
        (ActionWord::Pin, None) => Err(Wrong::at("action", "`pin` needs the tier: add for example `to: primary`")),
        (ActionWord::Keep, None) => Ok(Action::Keep),
        (ActionWord::Keep, Some(_)) => {
            Err(Wrong::at("to", "`keep` leaves a file where it is: take `to` out, or write `action: pin`"))
        }
    }
}

fn marks(raw: &schema::Watermarks, age_by: AgeBy, above: &[Watermarks]) -> Result<Watermarks, Wrong> {
    let (tier, high, low) = (raw.tier.0, raw.high.0.0, raw.low.0.0);
    if low >= high {
        return Err(Wrong::at("low", "it must be below `high`"));
    }
    if above.iter().any(|other| other.tier == tier) {
        return Err(Wrong::at("tier", format!("the tier `{tier}` has watermarks above already")));
    }
    let never_younger_than = raw.never_younger_than.as_ref().map_or(Duration::ZERO, |plain| plain.0);
    let order = raw.order.as_ref().map_or(Order::Oldest, |plain| plain.0);
    Ok(Watermarks { tier, high, low, never_younger_than, age_by, order })
}

fn promote(raw: schema::Promote) -> Result<Promotion, Wrong> {
    let (reads, within) = (value(raw.reads), value(raw.within));
    match raw.when.0 {
        When::Reads => {
            let (Some(reads), Some(within)) = (reads, within) else {
                return Err(Wrong::at("when", "`reads` needs both `reads: 3` and `within: 1h`, with your numbers"));
            };
            if within.is_zero() {
                return Err(Wrong::at("within", "no time at all: write for example 1h"));
            }
            let count = u32::try_from(reads.0).map_err(|_| Wrong::at("reads", "at most 4294967295"))?;
            Ok(Promotion::Reads { count, within })
        }
        _ if reads.is_some() || within.is_some() => {
            Err(Wrong::at("when", "`reads` and `within` belong to `when: reads`: take them out or change this"))
        }
        When::Write => Ok(Promotion::Write),
        When::Never => Ok(Promotion::Never),
    }
}

fn limits(raw: schema::Limits) -> Result<Limits, Wrong> {
    let limits = Limits {
        files: value(raw.files).map(|count| count.0),
        bytes: value(raw.bytes).map(|size| size.0),
        duration: value(raw.duration),
        bytes_per_sec: value(raw.bandwidth).map(|rate| rate.0),
    };
    let nothing = "nothing would ever move: leave the key out for no limit";
    if limits.bytes == Some(0) {
        return Err(Wrong::at("bytes", nothing));
    }
    if limits.duration.is_some_and(|duration| duration.is_zero()) {
        return Err(Wrong::at("duration", nothing));
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            (texts(&rule.not), texts(&policy.exclude)),
            (vec!["a.pdf".into()], vec!["*.tmp".into(), ".git".into()])
        );
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
            (
                "rules: [{match: {a, b}, action: keep}]",
                ":2:17: rules[0].match: invalid type: map, expected one value or",
            ),
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
            (
                "rules:\n- {name: x, match: a, action: keep}\n- {name: x, match: b, action: keep}",
                ":4:10: rules[1].name",
            ),
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
}
