//! Why a rule does not match a file, or a watermark does not take it, in words.

use std::time::Duration;

use crate::policy::evaluate::Miss;
use crate::policy::watermark::Usage;
use crate::policy::{Order, Policy, Rule, Watermarks, age};
use crate::types::attr::Time;
use crate::types::facts::Facts;
use crate::types::units;

/// The first condition of a rule that the file does not fulfil; `None` if it matches.
pub fn why_not(rule: &Rule, facts: &Facts, now: Time) -> Option<String> {
    let stat = &facts.stat;
    let size = units::show_size;
    Some(match rule.miss(facts, now)? {
        Miss::Tier => {
            let ranks = rule.tiers.into_iter().flat_map(|tiers| tiers.iter().collect::<Vec<_>>());
            let ranks: Vec<String> = ranks.map(|rank| rank.to_string()).collect();
            format!("it is on {}, and the rule is for {}", facts.rank, ranks.join(", "))
        }
        Miss::Owner if !rule.uids.is_empty() && !rule.uids.contains(&stat.uid) => {
            format!("its owner, user {}, is none of the rule's", stat.uid)
        }
        Miss::Owner => format!("its group, {}, is none of the rule's", stat.gid),
        Miss::TooSmall => format!("it is smaller than {}", size(rule.min_size)),
        Miss::TooLarge => format!("it is larger than {}", rule.max_size.map(size).unwrap_or_default()),
        Miss::Path if rule.not.matches(&facts.path) => "its path matches a pattern under `not`".into(),
        Miss::Path => "its path matches no pattern under `match`".into(),
        Miss::TooOld => format!("it is not younger than {}", rule.younger_than.map(days).unwrap_or_default()),
        Miss::TooYoung(left) => {
            let limit = rule.older_than.map(days).unwrap_or_default();
            format!("it is younger than {limit}, for {} more", days(left))
        }
    })
}

/// Why the watermark of its tier leaves a file that no rule moves where it is, however full the tier is;
/// `None` if it can take it.
pub fn why_not_by_watermark(
    policy: &Policy,
    marks: &Watermarks,
    facts: &Facts,
    now: Time,
    tiers: u8,
) -> Option<String> {
    if policy.watermark_target(marks, facts, now, tiers).is_some() {
        return None;
    }
    let left = marks.never_younger_than.saturating_sub(age(facts, marks.age_by, now));
    Some(if facts.stat.size < policy.min_size {
        format!("it is smaller than {}", units::show_size(policy.min_size))
    } else if !left.is_zero() {
        format!("it is younger than {}, for {} more", days(marks.never_younger_than), days(left))
    } else {
        "a rule holds it or would bring it back".into()
    })
}

/// What a watermark does, and how full its tier is.
pub fn watermark(marks: &Watermarks, usage: Option<Usage>) -> String {
    let order = match marks.order {
        Order::Tree => "directory by directory",
        Order::Oldest => "the oldest first",
        Order::Largest => "the largest first",
        Order::Smallest => "the smallest first",
    };
    let mut text = format!("above {}% in use, files leave {} until {}%, {order}", marks.high, marks.tier, marks.low);
    if !marks.never_younger_than.is_zero() {
        text.push_str(&format!(", none younger than {}", days(marks.never_younger_than)));
    }
    if let Some(usage) = usage {
        text.push_str(&format!("; {}% are in use now", usage.percent()));
    }
    text
}

/// In the largest unit that leaves a whole number to read.
fn days(duration: Duration) -> String {
    let secs = duration.as_secs();
    match (secs / 86400, secs / 3600, secs / 60) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, minutes) => format!("{minutes}min"),
        (0, hours, _) => format!("{hours}h"),
        (days, ..) => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::evaluate::tests::{DAY, NOW, file};
    use crate::policy::{Action, AgeBy};
    use crate::types::glob::{Globs, Pattern};
    use crate::types::ids::{Rank, Ranks};

    fn every() -> Rule {
        Rule::every("x", Action::Demote(None))
    }

    #[test]
    fn each_condition_has_its_words() {
        let globs = |text: &str| Globs::new(vec![Pattern::new(text).unwrap()]).unwrap();
        let facts = file("docs/a", 10);
        let uid = facts.stat.uid + 1;
        for (rule, says) in [
            (every(), None),
            (
                Rule { tiers: Some(Ranks::only(Rank(1))), ..every() },
                Some("it is on primary, and the rule is for secondary"),
            ),
            (Rule { uids: vec![uid], ..every() }, Some("its owner, user")),
            (Rule { gids: vec![facts.stat.gid + 1], ..every() }, Some("its group")),
            (Rule { min_size: 1 << 30, ..every() }, Some("it is smaller than 1GiB")),
            (Rule { max_size: Some(1), ..every() }, Some("it is larger than 1B")),
            (Rule { globs: Some(globs("*.pdf")), ..every() }, Some("no pattern under `match`")),
            (Rule { not: globs("docs/**"), ..every() }, Some("a pattern under `not`")),
            (Rule { younger_than: Some(7 * DAY), ..every() }, Some("it is not younger than 7d")),
            (Rule { older_than: Some(30 * DAY), ..every() }, Some("it is younger than 30d, for 20d more")),
        ] {
            match (why_not(&rule, &facts, NOW), says) {
                (None, None) => {}
                (Some(text), Some(says)) => assert!(text.contains(says), "{text}"),
                (text, says) => panic!("{text:?}, not {says:?}"),
            }
        }
    }

    #[test]
    fn a_watermark_says_what_it_does_and_what_it_leaves() {
        let marks = Watermarks {
            tier: Rank::PRIMARY,
            high: 85,
            low: 70,
            never_younger_than: 30 * DAY,
            age_by: AgeBy::Newest,
            order: Order::Oldest,
        };
        let text = watermark(&marks, Some(Usage { used: 851, total: 1000 }));
        assert_eq!(
            text,
            "above 85% in use, files leave primary until 70%, the oldest first, none younger than 30d; 86% are in use now"
        );
        let policy = |min_size, rules| Policy { min_size, rules, watermarks: vec![marks], ..Policy::default() };
        let why = |policy: &Policy, days| why_not_by_watermark(policy, &marks, &file("a", days), NOW, 2);
        assert_eq!(why(&policy(0, vec![]), 31), None);
        assert_eq!(why(&policy(0, vec![]), 10).as_deref(), Some("it is younger than 30d, for 20d more"));
        assert_eq!(why(&policy(1 << 40, vec![]), 31).as_deref(), Some("it is smaller than 1TiB"));
        let back = Rule { tiers: Some(Ranks::only(Rank(1))), ..Rule::every("x", Action::Promote(None)) };
        assert!(why(&policy(0, vec![back]), 31).is_some_and(|why| why.contains("bring it back")));
    }
}
