//! The answers for programs: one JSON object for each mount.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::found::{Found, State, path, service_name};
use super::{trouble, words};
use crate::cli::named;
use crate::control::status::{Ended, MinFree, Running, Status, TierState, TierStatus, Watching, Written};
use crate::types::ids::Rank;

/// The object, at the moment `now` (seconds since 1970).
pub(super) fn of(found: &Found, now: u64) -> Value {
    let mut object = named("mountpoint", found.point.as_os_str().as_bytes());
    let (word, more) = match &found.state {
        State::Serving(_) => ("serving", None),
        State::Elsewhere(_) => ("elsewhere", None),
        State::Dead => ("dead", None),
        State::Silent | State::Unknown(_) => ("silent", None),
        State::Denied(_) => ("denied", None),
        State::Mute => ("no_commands", None),
        State::Unreadable(line) => ("unreadable", Some(line)),
        State::Absent => ("not_mounted", None),
        State::Wrong(line) => ("wrong_configuration", Some(line)),
    };
    object["state"] = json!(word);
    object["reason"] = json!(more);
    put_path(&mut object, "config", found.config.as_deref());
    object["name"] = json!(found.config.as_deref().and_then(service_name));
    object["timer"] = json!(found.timer.map(|timer| json!({
        "active": timer.active, "next": timer.next, "last_failed": timer.failed,
    })));
    object["fstab"] = json!(found.fstab.as_ref().map(|line| json!({
        "options": line.options.to_string_lossy(), "at_boot": line.is_at_boot(),
    })));
    object["cron"] = found
        .cron
        .iter()
        .map(|job| {
            json!({
                "file": job.file.to_string_lossy(), "times": job.times(), "line": job.line,
            })
        })
        .collect();
    if let State::Denied(user) = &found.state {
        object["user"] = json!(user);
    }
    if let State::Serving(status) | State::Elsewhere(status) = &found.state {
        put_mount(&mut object, status, now);
    }
    object["troubles"] = json!(trouble::of(found, now));
    object
}

fn put_path(object: &mut Value, key: &str, path: Option<&Path>) {
    let Some(path) = path else {
        object[key] = Value::Null;
        return;
    };
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), named(key, path.as_os_str().as_bytes())) {
        object.extend(fields);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn put_mount(object: &mut Value, status: &Status, now: u64) {
    object["since"] = json!(status.since);
    object["uptime_secs"] = json!(now.saturating_sub(status.since));
    object["pid"] = json!(status.pid);
    object["program"] = json!(status.program);
    object["read_only"] = json!(status.read_only);
    object["degraded"] = json!(status.tiers.iter().any(|tier| tier.state != TierState::Serving));
    object["tiers"] = status.tiers.iter().map(tier).collect();
    put_path(object, "policy", status.policy.as_ref().map(path).as_deref());
    object["policy_refused"] = json!(status.refused);
    object["running"] = json!(status.running.as_ref().map(running));
    object["held"] = json!(status.held.as_ref().map(|held| json!({
        "files": held.files, "since": held.since, "reason": held.why,
        "tiers": held.ranks.iter().map(|rank| Rank(*rank).to_string()).collect::<Vec<_>>(),
    })));
    object["last_run"] = json!(status.last.as_ref().map(last));
    object["last_run_written"] = json!(status.written.as_ref().map(written));
    let next = &status.next;
    let closed = next.closed.as_ref();
    object["next"] = json!({
        "watermarks": next.watermarks.iter().map(|mark| json!({
            "tier": Rank(mark.rank).to_string(), "high_percent": mark.high, "low_percent": mark.low,
        })).collect::<Vec<_>>(),
        "promotes": next.promotes,
        "window": next.window,
        "window_open": next.window.as_ref().map(|_| closed.is_none()),
        "window_opens_in_secs": closed.map(|closed| closed.wait.as_secs()),
    });
}

fn tier(tier: &TierStatus) -> Value {
    let mut object = json!({
        "tier": Rank(tier.rank).to_string(), "rank": tier.rank,
        "filesystem": tier.filesystem, "encrypted": tier.encrypted,
        "state": match tier.state {
            TierState::Serving => "serving",
            TierState::Missing => "missing",
            TierState::Failed => "failed",
            TierState::Silent => "silent",
        },
        "since": tier.since, "reason": tier.why, "times_gone": tier.times_gone,
        "watch": match tier.watch {
            Watching::Whole => "whole",
            Watching::ByDirectory => "by_directory",
            Watching::After(_) => "none",
            Watching::Never => "never",
        },
        "changes_seen_after_ms": match tier.watch {
            Watching::Whole | Watching::ByDirectory => Some(0),
            Watching::After(time) => Some(millis(time)),
            Watching::Never => None,
        },
        "space": tier.space.map(|space| json!({
            "used_bytes": space.used, "total_bytes": space.total, "free_bytes": space.free,
            "used_percent": words::percent(space.used, space.total), "below_min_free": space.low,
            "inodes": space.inodes.map(|(all, _)| all), "inodes_free": space.inodes.map(|(_, free)| free),
        })),
        "pending": tier.own.map(|own| json!({
            "moves": own.moves, "renames": own.renames, "oldest": own.oldest, "lost": own.lost,
        })),
    });
    match tier.min_free {
        MinFree::Bytes(bytes) => object["min_free_bytes"] = json!(bytes),
        MinFree::Percent(percent) => object["min_free_percent"] = json!(percent),
    }
    put_path(&mut object, "path", Some(&path(&tier.path)));
    object
}

fn running(running: &Running) -> Value {
    json!({
        "what": running.what, "by_itself": running.by_itself, "dry_run": running.dry_run, "started": running.started,
        "scanned": running.scanned, "planned_files": running.planned.0, "planned_bytes": running.planned.1,
        "copied_bytes": running.copied, "moved": running.moved.0, "bytes": running.moved.1, "failed": running.failed,
    })
}

fn last(last: &Ended) -> Value {
    json!({
        "what": last.what, "by_itself": last.by_itself, "started": last.started, "took_ms": millis(last.took),
        "moved": last.moved.0, "bytes": last.moved.1, "failed": last.failed, "stopped": last.stopped,
        "well": last.well,
    })
}

fn written(written: &Written) -> Value {
    json!({
        "run": written.run, "started": written.started, "what": written.what, "finished": written.end.is_some(),
        "stopped": written.end.map(|end| !end.done), "moved": written.end.map(|end| end.moved.0),
        "bytes": written.end.map(|end| end.moved.1), "failed": written.end.map(|end| end.failed),
        "took_ms": written.end.map(|end| millis(end.took)),
    })
}
