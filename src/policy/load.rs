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
#[path = "load_tests.rs"]
mod tests;
