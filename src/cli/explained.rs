//! What `explain` says of one file: from what was seen to lines.

use std::path::PathBuf;

use crate::cli::output;
use crate::cli::where_is::FileCopy;
use crate::control::wire::{Outlook, Probed};
use crate::policy::watermark::Usage;
use crate::policy::window::Closed;
use crate::policy::{self, Decision, Policy, Stay, Verdict, Watermarks, reasons};
use crate::sys::users_of;
use crate::types::attr::Time;
use crate::types::facts::Facts;
use crate::types::ids::Rank;
use crate::types::units;

/// A policy, and what to call it.
#[derive(Debug)]
pub struct By {
    /// Decides.
    pub policy: Policy,
    /// The file that it is in, or the option.
    pub origin: String,
    /// Whether `origin` is a file, and not the command line.
    pub from_file: bool,
    /// How many tiers the mount has.
    pub tiers: u8,
}

/// All that is looked at of one file.
#[derive(Debug)]
pub struct Seen {
    /// Where it is, the visible copy first.
    pub copies: Vec<FileCopy>,
    /// What the policy decides by.
    pub facts: Facts,
    /// The path that carries the pin.
    pub pinned_at: Option<PathBuf>,
    /// Who has it open.
    pub users: Vec<users_of::User>,
    /// Processes that an ordinary user cannot look into.
    pub closed: usize,
}

/// What the policy says of it.
#[derive(Debug)]
pub struct Judged {
    decision: Decision,
    /// The watermarks of its tier, where they matter, and where they may take it or why not.
    watermark: Option<(Watermarks, Result<Rank, String>)>,
}

/// All that is told.
#[derive(Debug)]
pub struct Explained {
    /// The file.
    pub seen: Seen,
    /// The policy.
    pub by: By,
    /// What it says.
    pub judged: Judged,
    /// What a run would find.
    pub probed: Probed,
    /// The window, if it is closed.
    pub closed: Option<Closed>,
    /// Ages are counted to here.
    pub now: Time,
}

type Lines = Vec<(&'static str, String)>;

impl By {
    /// What becomes of a file.
    pub fn judge(&self, facts: &Facts, now: Time) -> Judged {
        let decision = self.policy.decide(facts, now, self.tiers);
        let free = matches!(decision.verdict, Verdict::Stay(Stay::NoRule(_) | Stay::Placed));
        let marks = self.policy.watermarks.iter().find(|marks| free && marks.tier == facts.rank);
        let watermark = marks.map(|marks| {
            let why = reasons::why_not_by_watermark(&self.policy, marks, facts, now, self.tiers);
            (*marks, why.map_or(Ok(Rank(marks.tier.0.saturating_add(1))), Err))
        });
        Judged { decision, watermark }
    }
}

impl Judged {
    /// Where it would go.
    pub fn to(&self) -> Option<Rank> {
        match (self.decision.verdict, &self.watermark) {
            (Verdict::Move(to), _) => Some(to),
            (Verdict::Stay(_), watermark) => watermark.as_ref().and_then(|(_, to)| to.as_ref().ok()).copied(),
        }
    }
}

/// Line by line.
pub fn describe(explained: &Explained) -> Lines {
    let Explained { seen, by, judged, now, .. } = explained;
    let mut lines = of_file(seen, judged.decision, *now);
    lines.extend(rules(by, &seen.facts, judged.decision, *now).into_iter().map(|text| ("rule", text)));
    if let Some((marks, _)) = &judged.watermark {
        lines.push(("watermark", reasons::watermark(marks, usage(explained, marks.tier))));
    }
    lines.extend(users(seen).into_iter().map(|text| ("in use", text)));
    if seen.facts.stat.nlink > 1 {
        let text = format!("has {} hard links: moves only together with all of them", seen.facts.stat.nlink);
        lines.push(("links", text));
    }
    if let Some(closed) = &explained.closed {
        let (opens, wait) = (closed.opens, output::age(closed.wait));
        lines.push(("window", format!("{} is closed and opens {opens}, in {wait}", closed.window)));
    }
    lines.push(("next", next(explained)));
    lines
}

fn of_file(seen: &Seen, decision: Decision, now: Time) -> Lines {
    let facts = &seen.facts;
    let mut lines = Vec::new();
    for (at, copy) in seen.copies.iter().enumerate() {
        let what = if at == 0 { "on" } else { "hides" };
        lines.push((what, format!("{} ({})", copy.tier, copy.path.display())));
    }
    lines.push(("size", units::show_size(facts.stat.size)));
    let age = |time| output::age(policy::since(time, now));
    let (read, changed) = (age(facts.stat.atime), age(facts.stat.mtime));
    lines.push(("age", format!("{} counts; read {read} ago, changed {changed} ago", output::age(decision.age))));
    if let (Some(rank), Some(at)) = (facts.pin, &seen.pinned_at) {
        lines.push(("pin", format!("to {rank}, set on {}", at.display())));
    }
    lines
}

/// Which rule matches, and why those before it do not.
fn rules(by: &By, facts: &Facts, decision: Decision, now: Time) -> Vec<String> {
    if facts.pin.is_some() {
        return vec!["none is asked: the pin comes first".into()];
    }
    if decision.verdict == Verdict::Stay(Stay::Excluded) {
        let what = if by.from_file { format!("`exclude` of {}", by.origin) } else { "--exclude".into() };
        return vec![format!("none is asked: {what} matches its path")];
    }
    let name = |at: usize, name: &str| match by.from_file {
        true => format!("`{name}`, number {} of {},", at + 1, by.origin),
        false => by.origin.clone(),
    };
    let asked = by.policy.rules.iter().enumerate().take(decision.rule.map_or(usize::MAX, |at| at + 1));
    let mut lines: Vec<String> = asked
        .map(|(at, rule)| match reasons::why_not(rule, facts, now) {
            Some(why) => format!("{} does not match: {why}", name(at, &rule.name)),
            None => format!("{} matches", name(at, &rule.name)),
        })
        .collect();
    if lines.is_empty() {
        lines.push(format!("there is none in {}", by.origin));
    }
    lines
}

fn users(seen: &Seen) -> Vec<String> {
    let users = seen.users.iter().map(|user| format!("by {} (process {})", user.name, user.pid));
    let hidden = (seen.closed > 0)
        .then(|| format!("not known of {} processes that could not be looked into: run this with sudo", seen.closed));
    users.chain(hidden).collect()
}

fn usage(explained: &Explained, rank: Rank) -> Option<Usage> {
    let usage = explained.probed.usage.get(rank.index()).copied().flatten()?;
    Some(Usage { used: usage.used, total: usage.total })
}

/// What the next run does.
fn next(explained: &Explained) -> String {
    let pin = explained.seen.facts.pin;
    match explained.judged.decision.verdict {
        // A run scans only the tiers that its rules take files from, so it may not come by.
        Verdict::Move(to) if pin == Some(to) && explained.probed.outlook == Outlook::Clear => {
            format!("is pinned to {to}, but not there: `tierfs recall --to {to}` brings it at once")
        }
        Verdict::Move(to) => match &explained.probed.outlook {
            Outlook::Clear if explained.closed.is_some() => {
                format!("moves to {to} with the first run after the window has opened")
            }
            Outlook::Clear => format!("moves to {to} with the next run"),
            Outlook::Blocked(why) => format!("would move to {to}, but stays: {why}"),
            Outlook::Unknown(why) => format!("would move to {to}; {why}"),
        },
        Verdict::Stay(stay) => stays(explained, stay),
    }
}

fn stays(explained: &Explained, stay: Stay) -> String {
    let rest = match stay {
        Stay::Pinned => match explained.seen.facts.pin {
            Some(rank) => return format!("stays: it is pinned to {rank}; `tierfs unpin` ends that"),
            None => return "stays: the rule pins it to where it is".into(),
        },
        Stay::Excluded => return "stays: the policy excludes its path".into(),
        Stay::Kept => return "stays: the rule says keep".into(),
        Stay::Placed => "stays: it is where the rule wants it".into(),
        Stay::NoRule(Some(wait)) => {
            format!("stays: too young; moves in {} if nobody uses it meanwhile", output::age(wait))
        }
        Stay::NoRule(None) if explained.judged.watermark.is_some() => "stays: no rule matches".into(),
        Stay::NoRule(None) => "stays: no rule matches, whatever its age".into(),
    };
    let Some((marks, target)) = &explained.judged.watermark else { return rest };
    let Watermarks { tier, high, low, .. } = marks;
    let above = usage(explained, *tier).is_some_and(|usage| marks.excess(usage).is_some());
    match (target, &explained.probed.outlook) {
        (Err(why), _) => format!("{rest}; the watermark does not take it: {why}"),
        (Ok(to), Outlook::Blocked(why)) => format!("{rest}; the watermark would take it to {to}, but for this: {why}"),
        (Ok(to), _) if above => {
            format!("no rule moves it, but the watermark may: {tier} gives files to {to} until {low}% are in use")
        }
        (Ok(to), _) => format!("{rest}; above {high}% in use the watermark may take it to {to}"),
    }
}

#[cfg(test)]
#[path = "explained_tests.rs"]
mod tests;
