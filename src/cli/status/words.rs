//! The answers for people.

use std::time::Duration;

use super::found::{Found, State, path, service_name};
use super::trouble;
use crate::cli::output::{age, thousands};
use crate::control::status::{Ended, MinFree, Running, Status, TierSpace, TierState, TierStatus, Watching, Written};
use crate::doctor::word;
use crate::sys::local;
use crate::types::attr::Time;
use crate::types::ids::Rank;
use crate::types::units;

/// Lines about one mount, without their ends, at the moment `now` (seconds since 1970).
pub(super) fn lines(found: &Found, now: u64) -> Vec<String> {
    let point = found.point.display();
    let mut lines = vec![match &found.state {
        State::Serving(status) => format!("{point}: {}", serving(status, now)),
        State::Elsewhere(status) => format!(
            "{point}: {}; not to be seen from here: mounted in a container, or unmounted while files are open",
            serving(status, now)
        ),
        State::Dead => format!("{point}: DEAD"),
        State::Silent | State::Unknown(_) => format!("{point}: DOES NOT ANSWER"),
        State::Denied(user) if local::own_uid() == 0 => {
            format!("{point}: mounted by {}; its program is not reached from here: ask as that user", user_shown(*user))
        }
        State::Denied(user) => {
            format!(
                "{point}: mounted by {}, and only that user and root may ask it: run this with sudo",
                user_shown(*user)
            )
        }
        State::Mute => format!("{point}: serving; it takes no commands: a view, or its log says at the start why not"),
        State::Unreadable(_) => format!("{point}: cannot be asked"),
        State::Absent => match &found.fstab {
            Some(line) if line.has("x-systemd.automount") => {
                format!("{point}: not mounted; it is when somebody goes there")
            }
            Some(line) if !line.is_at_boot() => {
                format!("{point}: not mounted; `mount {}` does it when it is wanted", word(&found.point))
            }
            _ => format!("{point}: NOT MOUNTED"),
        },
        State::Wrong(_) => format!("{point}: no usable configuration"),
    }];
    let mut put = |label: &str, text: String| lines.push(format!("  {label:<10} {text}"));
    match (&found.config, &found.fstab) {
        (Some(config), None) => put("configured", config.display().to_string()),
        (Some(config), Some(_)) => put("configured", format!("{}, mounted by /etc/fstab", config.display())),
        (None, Some(_)) => put("configured", "by its line in /etc/fstab".into()),
        (None, None) => {}
    }
    if let State::Serving(status) | State::Elsewhere(status) = &found.state {
        for tier in &status.tiers {
            of_tier(tier, now).into_iter().for_each(|(label, text)| put(&label, text));
        }
        put("policy", policy(status));
        put("pending", pending(status, now));
        if let Some(running) = &status.running {
            let done = percent(running.copied, running.planned.1).min(100);
            let done = if running.planned.1 == 0 { String::new() } else { format!(" ({done}%)") };
            put("at work", format!("{}{done}", at_work(running, now)));
        }
        put("last run", last_run(status, now));
        next(found, status, now).into_iter().enumerate().for_each(|(at, text)| {
            put(if at == 0 { "next run" } else { "" }, text);
        });
    }
    for line in trouble::of(found, now) {
        put("TROUBLE", line);
    }
    lines
}

fn user_shown(user: u32) -> String {
    if user == 0 { "root".into() } else { format!("user {user}") }
}

fn moment(seconds: u64) -> String {
    units::show_time(Time { sec: i64::try_from(seconds).unwrap_or(0), nsec: 0 })
}

/// A moment and how long ago it was.
fn since(seconds: u64, now: u64) -> String {
    format!("{} ({} ago)", moment(seconds), age(Duration::from_secs(now.saturating_sub(seconds))))
}

fn serving(status: &Status, now: u64) -> String {
    let for_long = age(Duration::from_secs(now.saturating_sub(status.since)));
    let mut text = format!("serving since {} ({for_long})", moment(status.since));
    if status.read_only {
        text.push_str(", read-only");
    }
    if status.program != env!("CARGO_PKG_VERSION") {
        text.push_str(&format!(", by tierfs {}", status.program));
    }
    text
}

/// The line of a tier, and a second one of what is seldom looked for.
fn of_tier(tier: &TierStatus, now: u64) -> Vec<(String, String)> {
    let state = match tier.state {
        TierState::Serving => "serving",
        TierState::Missing => "MISSING",
        TierState::Failed => "FAILS",
        TierState::Silent => "SILENT",
    };
    let space = tier.space.as_ref().map_or_else(|| "how full it is cannot be told".into(), how_full);
    let mut kind = vec![tier.filesystem.clone().unwrap_or_else(|| "unknown filesystem".into())];
    if tier.encrypted {
        kind.push("encrypted".into());
    }
    let first = format!("{state}  {space}  {} ({})", path(&tier.path).display(), kind.join(", "));
    let mut more = Vec::new();
    if tier.state != TierState::Serving {
        more.extend(tier.since.map(|then| format!("so since {}", since(then, now))));
    }
    match tier.min_free {
        MinFree::Bytes(0) | MinFree::Percent(0) => {}
        MinFree::Bytes(bytes) => more.push(format!("keeps {} free", units::show_size(bytes))),
        MinFree::Percent(percent) => more.push(format!("keeps {percent}% free")),
    }
    if let Some((_, left)) = tier.space.and_then(|space| space.inodes) {
        more.push(format!("{} inodes free", thousands(left)));
    }
    more.push(match tier.watch {
        Watching::Whole => "changes beside the mount are seen at once".into(),
        Watching::ByDirectory => "changes beside the mount are seen at once where directories are in use".into(),
        Watching::After(time) => {
            format!("changes beside the mount are seen after {}", units::show_duration(time))
        }
        Watching::Never => "nothing changes it beside the mount, says the configuration".into(),
    });
    vec![(Rank(tier.rank).to_string(), first), (String::new(), more.join(", "))]
}

fn how_full(space: &TierSpace) -> String {
    let (free, total) = (units::show_size(space.free), units::show_size(space.total));
    format!("{:>3}% used, {free} of {total} free", percent(space.used, space.total))
}

/// Hundredths, a begun one as a whole, as `df` counts.
pub(in crate::cli) fn percent(part: u64, whole: u64) -> u64 {
    let percent = (u128::from(part) * 100).div_ceil(u128::from(whole.max(1)));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

fn policy(status: &Status) -> String {
    match (&status.policy, &status.refused) {
        (None, _) => "none: only commands such as `tierfs migrate --older-than 1y` move files".into(),
        (Some(file), None) => format!("{}, in force", path(file).display()),
        (Some(file), Some(_)) => format!("{}, REFUSED as it is now; the one before is in force", path(file).display()),
    }
}

fn pending(status: &Status, now: u64) -> String {
    let mut told = Vec::new();
    for tier in &status.tiers {
        let Some(own) = &tier.own else { continue };
        let name = Rank(tier.rank);
        let when = own.oldest.map(|oldest| format!(", the oldest of {}", since(oldest, now))).unwrap_or_default();
        match (own.moves, own.renames) {
            (0, 0) => {}
            (moves, 0) => told.push(format!("{moves} records of moves on the {name}{when}")),
            (0, renames) => told.push(format!("{renames} records of renames on the {name}{when}")),
            (moves, renames) => {
                told.push(format!("{moves} records of moves and {renames} of renames on the {name}{when}"));
            }
        }
        if own.lost > 0 {
            told.push(format!("{} files without a name on the {name}", own.lost));
        }
    }
    if told.is_empty() { "nothing".into() } else { told.join("; ") }
}

/// A run and how far it is.
pub(in crate::cli) fn at_work(running: &Running, now: u64) -> String {
    let time = age(Duration::from_secs(now.saturating_sub(running.started)));
    let mut text = running.what.clone();
    if running.dry_run {
        text.push_str(" (dry run)");
    }
    text.push_str(&format!(", for {time}: "));
    match running.planned {
        (0, 0) => text.push_str(&format!("{} files looked at", thousands(running.scanned))),
        (files, bytes) => text.push_str(&format!(
            "{} of {} files, {} of {} copied",
            thousands(running.moved.0),
            thousands(files),
            units::show_size(running.copied),
            units::show_size(bytes),
        )),
    }
    if running.failed > 0 {
        text.push_str(&format!("; {} failed", thousands(running.failed)));
    }
    text
}

/// The last run and what it came to.
pub(in crate::cli) fn last_run(status: &Status, now: u64) -> String {
    match (&status.last, &status.written) {
        (Some(last), _) => of_last(last, now),
        (None, Some(written)) => of_written(written, status.running.is_some(), now),
        (None, None) => "none is written down".into(),
    }
}

fn result((files, bytes): (u64, u64), failed: u64, took: Duration) -> String {
    let moved = match files {
        0 => "moved nothing".to_owned(),
        1 => format!("1 file, {}", units::show_size(bytes)),
        many => format!("{} files, {}", thousands(many), units::show_size(bytes)),
    };
    let failed = if failed == 0 { String::new() } else { format!("; {} failed", thousands(failed)) };
    format!("{moved} in {}{failed}", crate::cli::output::took(took))
}

fn of_last(last: &Ended, now: u64) -> String {
    let stopped = last.stopped.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
    let result = result(last.moved, last.failed, last.took);
    format!("{}: {}: {result}{stopped}", since(last.started, now), last.what)
}

fn of_written(written: &Written, at_work: bool, now: u64) -> String {
    let end = match &written.end {
        Some(end) => {
            let stopped = if end.done { "" } else { "; stopped before its end" };
            format!("{}{stopped}", result(end.moved, end.failed, end.took))
        }
        None if at_work => "at work".into(),
        None => "cut short".into(),
    };
    format!("{}: {}: {end}", since(written.started, now), written.what)
}

fn next(found: &Found, status: &Status, now: u64) -> Vec<String> {
    let mut lines = scheduled(found, now);
    for mark in &status.next.watermarks {
        let space = status.tiers.iter().find(|tier| tier.rank == mark.rank).and_then(|tier| tier.space);
        let now = space.map(|space| format!(", now {}%", percent(space.used, space.total))).unwrap_or_default();
        lines.push(format!(
            "by itself when the {} is above {}%{now}, down to {}%",
            Rank(mark.rank),
            mark.high,
            mark.low
        ));
    }
    lines.extend(status.next.promotes.as_ref().map(|which| format!("by itself for {which}: they are promoted")));
    if let Some(window) = &status.next.window {
        let closed = status.next.closed.as_ref();
        let when = closed.map(|closed| format!("; opens {}, in {}", closed.opens, age(closed.wait)));
        lines.push(format!("only within {window}{}", when.unwrap_or_else(|| ", as now".into())));
    }
    let point = word(&found.point);
    let is_whole = status.tiers.iter().all(|tier| tier.state == TierState::Serving);
    lines.push(match &status.policy {
        _ if !is_whole => "nothing moves while a tier is away".into(),
        _ if status.read_only => "nothing moves: the mount is read-only".into(),
        Some(_) => format!("`tierfs migrate -n -v {point}` tells what would move now"),
        None => format!("`tierfs report {point}` tells what is old, and what moving it would free"),
    });
    lines
}

/// What begins runs from outside: the timer, and cron.
fn scheduled(found: &Found, now: u64) -> Vec<String> {
    let name = found.config.as_deref().and_then(service_name);
    let mut lines = Vec::new();
    if let (Some(name), Some(timer)) = (name, found.timer.filter(|timer| timer.active)) {
        let when = match timer.next {
            Some(next) => format!("{} (in {})", moment(next), age(Duration::from_secs(next.saturating_sub(now)))),
            None => "started".into(),
        };
        lines.push(format!("{when}, by tierfs-migrate@{name}.timer"));
    }
    lines.extend(found.cron.iter().map(|job| {
        let times = job.times().map(|times| format!(" at `{times}`")).unwrap_or_default();
        format!("by cron{times} ({})", job.file.display())
    }));
    if lines.is_empty() {
        // Only root may read all that cron does.
        let cron = if local::own_uid() == 0 { "cron has no run of it" } else { "cron is not to be read by this user" };
        lines.push(match (name, &found.timer) {
            (Some(name), Some(_)) => format!("none: tierfs-migrate@{name}.timer is off, and {cron}"),
            (Some(_), None) => format!("none that is known: systemd does not answer, and {cron}"),
            (None, _) => format!("none: it has no timer, and {cron}"),
        });
    }
    lines
}
