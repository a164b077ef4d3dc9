//! Rules of a policy that never decide about a file, or decide against each other. Only what can be proved
//! from the rules themselves is told.

use std::time::Duration;

use crate::policy::{Action, AgeBy, Policy, Promotion, Rule};
use crate::types::glob::{Globs, Pattern};
use crate::types::ids::{Rank, Ranks};

use super::facts::{Machine, Union};
use super::{Book, Finding};

/// Runs of a timer or cron are a day apart: what is given less time moves back and forth.
const DAY: Duration = Duration::from_secs(86_400);

/// Judges the policy of one union.
pub fn judge(union: &Union, _machine: &Machine) -> Vec<Finding> {
    let Some((path, Ok(policy))) = &union.policy else { return Vec::new() };
    let mut book = Book::new(&union.name);
    let file = path.display().to_string();
    let tiers = union.config.as_ref().map_or(0, |config| config.tiers.len());
    let before = book.list.len();
    for (index, rule) in policy.rules.iter().enumerate() {
        let above = policy.rules.get(..index).unwrap_or_default();
        never(&mut book, &file, rule, above, policy);
        nowhere(&mut book, &file, rule, tiers);
        back_and_forth(&mut book, &file, rule, index, policy);
    }
    if book.list.len() == before {
        book.fine("policy-rules", format!("{file}: each of {} rules can decide", policy.rules.len()));
    }
    promotion(&mut book, &file, policy);
    programs(&mut book, &file, policy);
    book.close()
}

fn never(book: &mut Book, file: &str, rule: &Rule, above: &[Rule], policy: &Policy) {
    const CHECK: &str = "policy-rules";
    let name = &rule.name;
    if let Some(first) = above.iter().find(|first| covers(first, rule)) {
        book.warning(
            CHECK,
            format!(
                "{file}: the rule `{name}` never decides: `{}` above it matches every file that it does",
                first.name
            ),
            format!("put `{name}` above `{}`, or take it out", first.name),
        );
    } else if rule.globs.as_ref().is_some_and(|globs| all_within(globs, &rule.not)) {
        let found = format!("{file}: the rule `{name}` never decides: what it matches is in its `not`, too");
        book.warning(CHECK, found, "correct `match` or `not`");
    } else if rule.globs.as_ref().is_some_and(|globs| all_within(globs, &policy.exclude)) {
        let found = format!("{file}: the rule `{name}` never decides: what it matches is in `exclude`");
        book.warning(CHECK, found, format!("take the pattern out of `exclude`, or the rule `{name}` away"));
    }
}

/// Rules that can be read but move nothing on so many tiers.
fn nowhere(book: &mut Book, file: &str, rule: &Rule, tiers: usize) {
    let from = rule.tiers.unwrap_or(Ranks(u8::MAX));
    let slowest = u8::try_from(tiers.saturating_sub(1)).map(Rank).unwrap_or(Rank::PRIMARY);
    let stuck = matches!(rule.action, Action::Demote(None)) && tiers > 0 && from.iter().all(|rank| rank >= slowest);
    if stuck {
        let found = format!("{file}: the rule `{}` demotes from the slowest tier, so nothing moves", rule.name);
        book.warning("policy-rules", found, "write `tier: primary` in it, or take it out");
    }
}

/// A rule that takes files down whose place below another rule takes them up from again.
fn back_and_forth(book: &mut Book, file: &str, down: &Rule, at: usize, policy: &Policy) {
    let Action::Demote(to) = down.action else { return };
    for from in down.tiers.unwrap_or(Ranks::only(Rank::PRIMARY)).iter() {
        let to = to.unwrap_or(Rank(from.0.saturating_add(1)));
        let on = |rank: Rank, rule: &Rule| rule.tiers.is_none_or(|tiers| tiers.has(rank));
        let anywhere = |rule: &Rule| Rule { tiers: None, ..rule.clone() };
        // The first of the rules for the lower tier that certainly matches what has come down.
        let first =
            policy.rules.iter().enumerate().find(|(_, rule)| on(to, rule) && covers(&anywhere(rule), &anywhere(down)));
        let Some((index, up)) = first.filter(|(index, _)| *index != at) else { continue };
        let moves_up = match up.action {
            Action::Promote(target) => target.is_none_or(|target| target < to),
            Action::Pin(target) => target < to,
            Action::Demote(_) | Action::Keep => false,
        };
        // Above the other it would have taken the file already, so that it never came down.
        let decides_above = index < at && on(from, up);
        if moves_up && !decides_above {
            book.warning(
                "policy-rules",
                format!(
                    "{file}: `{}` takes files down and `{}` takes the same up again, run after run",
                    down.name, up.name
                ),
                format!("give `{}` an age or a path that `{}` has not", up.name, down.name),
            );
            return;
        }
    }
}

fn promotion(book: &mut Book, file: &str, policy: &Policy) {
    const CHECK: &str = "policy-promotion";
    let young = policy.rules.iter().filter(|rule| matches!(rule.action, Action::Demote(_)));
    let youngest = young.filter(|rule| rule.age_by != AgeBy::Mtime).filter_map(|rule| rule.older_than).min();
    match (policy.promote, youngest) {
        (Promotion::Reads { .. } | Promotion::Write, Some(age)) if age < DAY => book.hint(
            CHECK,
            format!("{file}: files that are used come up, and go down again within a day"),
            "give the rules that demote an `older_than` of several days",
        ),
        _ => book.fine(CHECK, format!("{file}: what comes up stays for a while")),
    }
}

/// Programs that read every file make every file young.
fn programs(book: &mut Book, file: &str, policy: &Policy) {
    const CHECK: &str = "ignore-processes";
    let counts = policy.rules.iter().any(|rule| rule.older_than.is_some() && rule.age_by != AgeBy::Mtime);
    let counts = counts || policy.watermarks.iter().any(|marks| marks.age_by != AgeBy::Mtime);
    if counts && policy.ignore_processes.is_empty() {
        book.hint(
            CHECK,
            format!("{file}: a backup or virus scanner that reads every file through the mount makes every file young"),
            "name them: ignore_processes: [restic, borg, rsync, clamd, clamscan], or write age_by: mtime",
        );
    } else {
        book.fine(CHECK, format!("{file}: programs that read everything are named, or do not count"));
    }
}

/// Whether every file that `rule` matches is one that `first` matches. `false` where that cannot be proved.
fn covers(first: &Rule, rule: &Rule) -> bool {
    let is_not = |pattern: &Pattern| rule.not.patterns().iter().any(|other| other.text() == pattern.text());
    let paths = match (&first.globs, &rule.globs) {
        (None, _) => true,
        (Some(first), Some(globs)) => all_within(globs, first),
        (Some(first), None) => first.patterns().iter().any(is_everything),
    };
    paths
        && first.not.patterns().iter().all(is_not)
        && is_as_old(first, rule)
        && is_as_young(first, rule)
        && first.min_size <= rule.min_size
        && first.max_size.is_none_or(|most| rule.max_size.is_some_and(|max| max <= most))
        && are_among(&first.uids, &rule.uids)
        && are_among(&first.gids, &rule.gids)
        && first.tiers.is_none_or(|tiers| rule.tiers.is_some_and(|ranks| ranks.0 & !tiers.0 == 0))
}

/// The age by the newest of the times is the least of all.
fn is_as_old(first: &Rule, rule: &Rule) -> bool {
    let same = first.age_by == rule.age_by || rule.age_by == AgeBy::Newest;
    first.older_than.is_none_or(|least| same && rule.older_than.is_some_and(|age| age >= least))
}

fn is_as_young(first: &Rule, rule: &Rule) -> bool {
    let same = first.age_by == rule.age_by || first.age_by == AgeBy::Newest;
    first.younger_than.is_none_or(|most| same && rule.younger_than.is_some_and(|age| age <= most))
}

/// Ids: none means everybody.
fn are_among(first: &[u32], ids: &[u32]) -> bool {
    first.is_empty() || (!ids.is_empty() && ids.iter().all(|id| first.contains(id)))
}

fn all_within(inner: &Globs, outer: &Globs) -> bool {
    let within = |pattern: &Pattern| outer.patterns().iter().any(|other| is_within(pattern.text(), other));
    !inner.is_empty() && inner.patterns().iter().all(within)
}

fn is_everything(pattern: &Pattern) -> bool {
    ["*", "**"].contains(&pattern.text())
}

/// Whether all that the pattern `inner` matches, `outer` matches as well, as far as the words tell.
fn is_within(inner: &str, outer: &Pattern) -> bool {
    if is_everything(outer) || inner == outer.text() {
        return true;
    }
    let from_root = |text: &str| text.trim_start_matches('/').trim_end_matches("/**").trim_end_matches('/').to_owned();
    let is_plain = |text: &str| !text.is_empty() && !text.contains(['*', '?', '[', '{', '\\']);
    let is_anchored = |text: &str| text.trim_end_matches('/').contains('/');
    let takes_below = outer.text().ends_with("/**") || outer.text().ends_with('/');
    let dir = from_root(outer.text());
    // `docs/**` has all that begins with `docs/`, if both begin at the root and no letter means others.
    takes_below
        && is_anchored(outer.text())
        && is_plain(&dir)
        && is_anchored(inner)
        && !inner.starts_with("**")
        && inner.trim_start_matches('/').starts_with(&format!("{dir}/"))
        && !has_slash_in_braces(inner)
}

fn has_slash_in_braces(text: &str) -> bool {
    text.contains('{') && text.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::policy::load;

    fn judged(text: &str) -> Vec<Finding> {
        let policy = load::parse(&format!("version: 1\n{text}"), &|_| Some(7)).map_err(|wrong| format!("{wrong:?}"));
        let config =
            crate::config::load::parse("version: 1\nmountpoint: /m\nprimary: {path: /a}\nsecondary: {path: /b}\n");
        let config = crate::config::check::finish(config.unwrap()).unwrap();
        let union =
            Union { config: Some(config), policy: Some(("p.yaml".into(), Ok(policy.unwrap()))), ..Union::default() };
        judge(&union, &Machine::default())
    }

    fn told(text: &str, check: &str) -> Vec<String> {
        let found = judged(text).into_iter().filter(|finding| finding.check == check && finding.level > Level::Fine);
        found.map(|finding| finding.found).collect()
    }

    #[test]
    fn a_rule_below_one_that_matches_all_it_does_is_told() {
        for (first, second) in [
            ("older_than: 30d", "older_than: 1y"),
            ("match: '*.pdf'", "match: '*.pdf', older_than: 1y"),
            ("match: ['*.pdf', '*.doc']", "match: '*.doc', min_size: 1MiB"),
            ("match: 'docs/**'", "match: 'docs/a/*.pdf'"),
            ("match: '/docs/'", "match: 'docs/x/**'"),
            ("older_than: 30d, age_by: mtime", "older_than: 31d, age_by: newest"),
            ("owner: [alice, 8]", "owner: alice, older_than: 1d"),
            ("tier: [primary, secondary], older_than: 1d", "tier: primary, older_than: 1d"),
            ("max_size: 1GiB", "max_size: 1MiB"),
            ("match: 'a/**', not: 'a/b/**'", "match: 'a/c/**', not: ['a/b/**', '*.x']"),
        ] {
            let text =
                format!("rules:\n- {{name: one, {first}, action: demote}}\n- {{name: two, {second}, action: keep}}\n");
            let told = told(&text, "policy-rules");
            assert!(
                told.len() == 1 && told[0].contains("`two` never decides: `one` above"),
                "{first} / {second}: {told:?}"
            );
        }
    }

    #[test]
    fn a_rule_that_may_decide_is_not_told() {
        for (first, second) in [
            ("older_than: 1y", "older_than: 30d"),
            ("match: '*.pdf'", "match: '*.doc'"),
            ("match: 'docs/a/**'", "match: 'docs/**'"),
            ("match: 'docs/**'", "match: 'docs2/**'"),
            ("match: 'docs/'", "match: 'docs/a'"),
            ("match: 'docs/**'", "match: '**/docs/a'"),
            ("match: 'docs/**'", "match: '{docs/a,x/b}'"),
            ("older_than: 30d, age_by: newest", "older_than: 31d, age_by: mtime"),
            ("younger_than: 30d, age_by: mtime", "younger_than: 20d, age_by: newest"),
            ("owner: 8", "older_than: 1d"),
            ("min_size: 1MiB", "older_than: 1d"),
            ("tier: primary, older_than: 1d", "older_than: 1d"),
            ("match: '*.pdf', not: 'a/**'", "match: '*.pdf'"),
        ] {
            let text =
                format!("rules:\n- {{name: one, {first}, action: demote}}\n- {{name: two, {second}, action: keep}}\n");
            assert_eq!(told(&text, "policy-rules"), [""; 0], "{first} / {second}");
        }
    }

    #[test]
    fn a_rule_that_can_move_nothing_is_told() {
        for (text, says) in [
            ("rules: [{match: '*.a', not: '*.a', action: keep}]", "in its `not`"),
            ("exclude: ['*.a', '*.b']\nrules: [{match: '*.a', action: demote}]", "in `exclude`"),
            ("rules: [{match: '*.a', tier: secondary, action: demote}]", "from the slowest tier"),
        ] {
            let told = told(text, "policy-rules");
            assert!(told.len() == 1 && told[0].contains(says), "{text}: {told:?}");
        }
        assert_eq!(told("exclude: '*.b'\nrules: [{match: ['*.a', '*.b'], action: demote}]", "policy-rules"), [""; 0]);
    }

    #[test]
    fn rules_that_take_files_down_and_up_again_are_told() {
        let both = |down: &str, up: &str| {
            format!("rules:\n- {{name: down, {down}, action: demote}}\n- {{name: up, {up}, action: promote}}\n")
        };
        let text = both("tier: primary, older_than: 30d", "tier: secondary, older_than: 10d");
        let told_of = told(&text, "policy-rules");
        assert!(told_of.len() == 1 && told_of[0].contains("takes the same up again"), "{told_of:?}");
        for (down, up) in [
            ("tier: primary, older_than: 30d", "tier: secondary, younger_than: 10d"),
            ("tier: primary, older_than: 30d", "tier: secondary, match: '*.pdf'"),
            ("older_than: 30d", "tier: secondary, older_than: 30d, min_size: 1MiB"),
        ] {
            let told = told(&both(down, up), "policy-rules");
            assert!(told.iter().all(|line| !line.contains("up again")), "{down} / {up}: {told:?}");
        }
    }

    #[test]
    fn promotion_and_demotion_within_a_day_are_told() {
        let with = |age: &str| format!("promote: {{when: write}}\nrules: [{{older_than: {age}, action: demote}}]\n");
        assert_eq!(told(&with("1h"), "policy-promotion").len(), 1);
        assert_eq!(told(&with("30d"), "policy-promotion").len(), 0);
    }

    #[test]
    fn programs_that_read_everything_should_be_named() {
        assert_eq!(told("rules: [{older_than: 1y, action: demote}]", "ignore-processes").len(), 1);
        let named = "ignore_processes: [restic]\nrules: [{older_than: 1y, action: demote}]";
        assert_eq!(told(named, "ignore-processes").len(), 0);
        assert_eq!(told("rules: [{older_than: 1y, age_by: mtime, action: demote}]", "ignore-processes").len(), 0);
    }

    #[test]
    fn the_shipped_policies_have_nothing_to_tell_of_their_rules() {
        let home = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        for name in ["documents-after-a-year", "legal-hold", "media-by-size-and-age", "scratch", "watermarks"] {
            let text = std::fs::read_to_string(home.join(name).with_extension("yaml")).unwrap();
            let found = told(&text.replacen("version: 1", "", 1), "policy-rules");
            assert_eq!(found, [""; 0], "{name}");
        }
    }
}
