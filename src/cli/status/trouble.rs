//! What somebody has to look after, decided from what was told.

use std::time::Duration;

use super::found::{Found, State, service_name};
use crate::cli::output::age;
use crate::control::status::{Ended, Held, MinFree, Status, TierState, TierStatus, Written};
use crate::doctor::word;
use crate::types::ids::Rank;
use crate::types::units;

/// A record that is older than this, in seconds, while no run is at work was left by a crash, or cannot be
/// finished: a run has one for some seconds.
const PENDING_MAX: u64 = 600;

/// Hundredths of the inodes below which a tier is about to take no more files.
const INODES_MIN_PERCENT: u64 = 1;

/// One line each, at the moment `now` (seconds since 1970).
pub(super) fn of(found: &Found, now: u64) -> Vec<String> {
    let mut lines = match &found.state {
        State::Serving(status) | State::Elsewhere(status) => of_mount(status, now),
        State::Dead => vec![dead(found)],
        State::Silent | State::Unknown(_) => vec![
            "its program does not answer: see `systemctl status` or the system log for what it waits for; if it stays \
             so, kill it, run `tierfs umount`, and mount again"
                .into(),
        ],
        State::Unreadable(line) => vec![line.clone()],
        State::Absent if found.fstab.as_ref().is_some_and(|line| !line.is_at_boot()) => Vec::new(),
        State::Absent => vec![absent(found)],
        State::Wrong(line) if found.fstab.is_some() => {
            vec![format!("its line in /etc/fstab cannot be mounted: {line}")]
        }
        State::Wrong(line) => vec![line.clone()],
        State::Denied(_) | State::Mute => Vec::new(),
    };
    if found.timer.is_some_and(|timer| timer.failed) {
        let name = found.config.as_deref().and_then(service_name).unwrap_or_default();
        lines.push(format!("the last run by the timer has failed: `journalctl -u tierfs-migrate@{name}` says why"));
    }
    lines
}

fn dead(found: &Found) -> String {
    let then = match found.config.as_deref() {
        Some(config) => match service_name(config) {
            _ if found.fstab.is_some() => format!("`mount {}`", word(&found.point)),
            Some(name) => format!("`systemctl restart tierfs@{name}`"),
            None => format!("`tierfs mount --config {}`", word(config)),
        },
        None if found.fstab.is_some() => format!("`mount {}`", word(&found.point)),
        None => "mount again".into(),
    };
    format!("is dead, its program has ended: run `tierfs umount {}`, then {then}", word(&found.point))
}

fn absent(found: &Found) -> String {
    if found.fstab.is_some() {
        return format!(
            "is not mounted: `mount {}` does it by its line in /etc/fstab, or says why not",
            word(&found.point)
        );
    }
    let config = found.config.as_deref().map(word).unwrap_or_default();
    match found.config.as_deref().and_then(service_name) {
        Some(name) => format!("is not mounted: `systemctl start tierfs@{name}`, or `tierfs mount --config {config}`"),
        None => format!("is not mounted: `tierfs mount --config {config}`"),
    }
}

fn of_mount(status: &Status, now: u64) -> Vec<String> {
    let mut lines: Vec<String> = status.tiers.iter().flat_map(|tier| of_tier(tier, status, now)).collect();
    lines.extend(status.held.as_ref().map(|held| of_held(held, now)));
    if let Some(line) = &status.refused {
        lines.push(format!("the policy file is not in force, the one before is: {line}"));
    }
    match (&status.last, &status.written) {
        (Some(last), _) => lines.extend(of_last(last)),
        (None, Some(written)) if status.running.is_none() => lines.extend(of_written(written)),
        (None, _) => {}
    }
    lines
}

/// Files whose move was stopped halfway.
fn of_held(held: &Held, now: u64) -> String {
    let files = if held.files == 1 { "1 file".to_owned() } else { format!("{} files", held.files) };
    let tiers: Vec<String> = held.ranks.iter().map(|rank| format!("the {}", Rank(*rank))).collect();
    let for_long = age(Duration::from_secs(now.saturating_sub(held.since)));
    format!(
        "{files} can be read but not changed, for {for_long}: {} failed ({}) just when {files} moved, and that is not \
         finished: look at the disk or server, then unmount and mount again, which finishes it",
        tiers.join(" or "),
        held.why
    )
}

fn of_last(last: &Ended) -> Option<String> {
    let why = match (&last.stopped, last.failed) {
        (_, _) if last.well => return None,
        (Some(why), _) => why.clone(),
        (None, 1) => "1 file could not be moved".into(),
        (None, many) => format!("{many} files could not be moved"),
    };
    Some(format!("the last run ({}) has failed: {why}", last.what))
}

fn of_written(written: &Written) -> Option<String> {
    let run = &written.run;
    match &written.end {
        None => Some(format!("the run {run} was cut short; what it had moved is listed by `tierfs history {run}`")),
        Some(end) if end.failed > 0 => Some(format!("in the run {run} {} files could not be moved", end.failed)),
        Some(_) => None,
    }
}

fn of_tier(tier: &TierStatus, status: &Status, now: u64) -> Vec<String> {
    let name = Rank(tier.rank);
    let mut lines = Vec::new();
    if tier.state != TierState::Serving {
        let word = match tier.state {
            TierState::Silent => "does not answer",
            TierState::Failed => "fails",
            TierState::Missing | TierState::Serving => "is missing",
        };
        let why = if tier.why.is_empty() { String::new() } else { format!(" ({})", tier.why) };
        lines.push(format!(
            "the {name} {word}{why}: what is only there cannot be read, and no names can be changed: look at its disk \
             or server"
        ));
    }
    if let Some(space) = &tier.space {
        let is_last = usize::from(tier.rank) + 1 == status.tiers.len();
        let free = units::show_size(space.free);
        if space.low {
            let keeps = match tier.min_free {
                MinFree::Bytes(bytes) => units::show_size(bytes),
                MinFree::Percent(percent) => format!("{percent}%"),
            };
            let to = if is_last { "" } else { ": new files go to a slower tier" };
            lines.push(format!("the {name} has only {free} free of the {keeps} that it is to keep{to}"));
        } else if space.free == 0 {
            let then = if is_last {
                "delete some files, or give it a larger disk"
            } else {
                "move files down, as with `tierfs migrate --older-than 30d`"
            };
            lines.push(format!("the {name} is full: {then}"));
        }
        if let Some((all, left)) = space.inodes
            && left.saturating_mul(100) < all.saturating_mul(INODES_MIN_PERCENT)
        {
            lines.push(format!("the {name} has only {left} inodes left: it takes no more files than that"));
        }
    }
    if let Some(own) = &tier.own {
        let records = own.moves + own.renames;
        let old = own.oldest.is_some_and(|oldest| now.saturating_sub(oldest) > PENDING_MAX);
        if records > 0 && old && status.running.is_none() {
            lines.push(format!(
                "{records} moves or renames that were cut short are still on record on the {name}: unmount and mount \
                 again, which finishes them, and look into the log if they stay"
            ));
        }
        if own.lost > 0 {
            let path = super::found::path(&tier.path);
            lines.push(format!(
                "{} files whose name went while they moved lie in {}/.tierfs/lost: see `tierfs check`",
                own.lost,
                path.display()
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_move_holds_are_told_with_what_to_do() {
        let held = Held { files: 2, since: 1000, ranks: vec![0, 1], why: "Input/output error".into() };
        let line = of_held(&held, 1060);
        for part in
            ["2 files can be read but not changed", "the primary or the secondary", "Input/output", "mount again"]
        {
            assert!(line.contains(part), "{line}");
        }
        assert!(of_held(&Held { files: 1, ..held }, 1060).starts_with("1 file can"));
    }
}
