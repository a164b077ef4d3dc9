//! What is told to Prometheus, in its text format. A pure function of what was counted and known.
//!
//! The number of series is bounded: by operation and tier, by reason and trigger, and by the programs
//! that are counted by name. `docs/MONITORING.md` explains each.

use std::fmt::Write;

use crate::control::convert;
use crate::control::status::{Status, TierState};
use crate::control::wire::Text;
use crate::stats::histogram::{self, Histogram};
use crate::stats::snapshot::Requests;
use crate::stats::{Op, Snapshot};
use crate::types::ids::Rank;

/// Of the buckets every second one is told: bounds are powers of four, from a microsecond to 17 s.
const FIRST_BUCKET: usize = 2;
const LAST_BUCKET: usize = 26;

/// Lines with the labels that all of them have.
struct Page {
    text: String,
    mount: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _cannot_fail = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _cannot_fail = write!(self.text, "{name}{{mountpoint=\"{}\"", self.mount);
        for (label, value) in labels {
            let _cannot_fail = write!(self.text, ",{label}=\"{}\"", escape(value));
        }
        let _cannot_fail = writeln!(self.text, "}} {value}");
    }

    /// A family of one number.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// A label's value: a backslash, a quote and the end of a line are written as escapes.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Everything. Without `status`, what is known of the tiers is left out.
pub(super) fn render(mountpoint: &Text, snapshot: &Snapshot, status: Option<&Status>) -> String {
    let mount = escape(&String::from_utf8_lossy(&convert::bytes(mountpoint).unwrap_or_default()));
    let mut page = Page { text: String::new(), mount };
    page.single("tierfs_up", "gauge", "1 while the mount serves.", 1.0);
    page.family("tierfs_build_info", "gauge", "The version of tierfs, as a label.");
    page.sample("tierfs_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    if let Some(status) = status {
        tiers(&mut page, status);
        runs_known(&mut page, snapshot, status);
    }
    let gauges = &snapshot.gauges;
    page.single("tierfs_open_files", "gauge", "Open handles of files.", gauges.open_files as f64);
    page.single(
        "tierfs_passthrough_files",
        "gauge",
        "Open handles whose data the kernel reads and writes past tierfs.",
        gauges.passthrough_files as f64,
    );
    page.single("tierfs_inodes_known", "gauge", "Inodes that the kernel knows.", gauges.inodes as f64);
    requests(&mut page, snapshot);
    moves(&mut page, snapshot);
    page.text
}

fn tiers(page: &mut Page, status: &Status) {
    page.single("tierfs_start_time_seconds", "gauge", "When the mount began.", status.since as f64);
    let down = status.tiers.iter().any(|tier| tier.state != TierState::Serving);
    page.single("tierfs_degraded", "gauge", "1 while a tier is missing, fails or does not answer.", flag(down));
    let tier = |rank: u8| Rank(rank).to_string();
    page.family("tierfs_tier_up", "gauge", "1 while the tier serves.");
    for one in &status.tiers {
        page.sample("tierfs_tier_up", &[("tier", &tier(one.rank))], flag(one.state == TierState::Serving));
    }
    page.family("tierfs_tier_gone_total", "counter", "How often the tier has gone since the mount.");
    for one in &status.tiers {
        page.sample("tierfs_tier_gone_total", &[("tier", &tier(one.rank))], one.times_gone as f64);
    }
    let spaces = || status.tiers.iter().filter_map(|one| Some((tier(one.rank), one.space?)));
    type Pick = fn(&crate::control::status::TierSpace) -> Option<u64>;
    let families: [(&str, &str, Pick); 5] = [
        ("tierfs_tier_size_bytes", "Bytes of the tier, used or free, as df counts.", |space| Some(space.total)),
        ("tierfs_tier_used_bytes", "Bytes in use on the tier.", |space| Some(space.used)),
        ("tierfs_tier_free_bytes", "Bytes free for ordinary users on the tier.", |space| Some(space.free)),
        ("tierfs_tier_inodes", "Inodes of the tier, used or free.", |space| Some(space.inodes?.0)),
        ("tierfs_tier_free_inodes", "Free inodes of the tier.", |space| Some(space.inodes?.1)),
    ];
    for (name, help, pick) in families {
        page.family(name, "gauge", help);
        for (tier, space) in spaces() {
            pick(&space).into_iter().for_each(|value| page.sample(name, &[("tier", &tier)], value as f64));
        }
    }
    page.family("tierfs_tier_low", "gauge", "1 while the tier is below its min_free and new files go elsewhere.");
    for (tier, space) in spaces() {
        page.sample("tierfs_tier_low", &[("tier", &tier)], flag(space.low));
    }
    page.family("tierfs_journal_pending", "gauge", "Records of moves and renames that are not finished, by tier.");
    for one in &status.tiers {
        let Some(own) = one.own else { continue };
        for (kind, count) in [("move", own.moves), ("rename", own.renames)] {
            page.sample("tierfs_journal_pending", &[("tier", &tier(one.rank)), ("kind", kind)], count as f64);
        }
    }
    let held = status.held.as_ref().map_or(0, |held| held.files);
    let help = "Files that cannot be changed since an error has stopped their move halfway.";
    page.single("tierfs_held_files", "gauge", help, held as f64);
    page.family("tierfs_lost_files", "gauge", "Contents that recovery could not give a name, by tier.");
    for one in &status.tiers {
        one.own.iter().for_each(|own| {
            page.sample("tierfs_lost_files", &[("tier", &tier(one.rank))], own.lost as f64);
        });
    }
}

/// What is known of runs, also of those before this mount.
fn runs_known(page: &mut Page, snapshot: &Snapshot, status: &Status) {
    page.single("tierfs_migrate_running", "gauge", "1 while a run is at work.", flag(status.running.is_some()));
    let written = status.written.as_ref().and_then(|run| {
        let end = run.end.filter(|end| end.failed == 0)?;
        Some(run.started.saturating_add(end.took.as_secs()))
    });
    let name = "tierfs_migrate_last_success_timestamp_seconds";
    page.family(name, "gauge", "When a run last ended without a failure, in seconds since 1970.");
    if let Some(last) = snapshot.last_success.max(written) {
        page.sample(name, &[], last as f64);
    }
    page.family("tierfs_migrate_last_run_success", "gauge", "1 if the last run since the mount went well.");
    if let Some(last) = &status.last {
        page.sample("tierfs_migrate_last_run_success", &[], flag(last.well));
    }
}

fn tier_label(requests: &Requests) -> String {
    requests.tier.map_or_else(|| "none".to_owned(), |rank| Rank(rank).to_string())
}

fn requests(page: &mut Page, snapshot: &Snapshot) {
    type Pick = fn(&Requests) -> u64;
    let families: [(&str, &str, Pick); 4] = [
        ("tierfs_requests_total", "Requests by operation and by the slowest tier that was asked.", Requests::count),
        ("tierfs_request_errors_total", "Answers that were an error, absence not counted.", |one| one.errors),
        ("tierfs_request_faults_total", "Answers that say that storage failed, as EIO does.", |one| one.faults),
        ("tierfs_request_bytes_total", "Bytes read, written or copied through tierfs.", |one| one.bytes),
    ];
    for (name, help, pick) in families {
        page.family(name, "counter", help);
        let moves_bytes = |op: Op| matches!(op, Op::Read | Op::Write | Op::CopyFileRange);
        for one in &snapshot.requests {
            if name != "tierfs_request_bytes_total" || moves_bytes(one.op) {
                page.sample(name, &[("op", one.op.name()), ("tier", &tier_label(one))], pick(one) as f64);
            }
        }
    }
    page.family("tierfs_request_seconds", "histogram", "How long requests took until their answer was known.");
    for one in &snapshot.requests {
        latency(page, one.op.name(), &tier_label(one), &one.latency);
    }
}

fn latency(page: &mut Page, op: &str, tier: &str, latency: &Histogram) {
    let mut below = 0;
    for bucket in 0..=LAST_BUCKET {
        below += latency.counts.get(bucket).copied().unwrap_or(0);
        if bucket >= FIRST_BUCKET && (bucket - FIRST_BUCKET).is_multiple_of(2) {
            let bound = (histogram::bound(bucket) as f64 / 1e9).to_string();
            page.sample("tierfs_request_seconds_bucket", &[("op", op), ("tier", tier), ("le", &bound)], below as f64);
        }
    }
    let all = latency.count() as f64;
    page.sample("tierfs_request_seconds_bucket", &[("op", op), ("tier", tier), ("le", "+Inf")], all);
    page.sample("tierfs_request_seconds_sum", &[("op", op), ("tier", tier)], latency.sum_ns as f64 / 1e9);
    page.sample("tierfs_request_seconds_count", &[("op", op), ("tier", tier)], all);
}

fn moves(page: &mut Page, snapshot: &Snapshot) {
    page.family("tierfs_migrate_runs_total", "counter", "Runs that have ended since the mount, by what began them.");
    for (trigger, runs) in &snapshot.runs {
        let well = runs.ended.saturating_sub(runs.failed);
        for (result, count) in [("ok", well), ("failed", runs.failed)] {
            page.sample("tierfs_migrate_runs_total", &[("trigger", trigger), ("result", result)], count as f64);
        }
    }
    let files = "tierfs_migrate_files_total";
    page.family(files, "counter", "Files that were to move, by what became of them and why.");
    let moved: u64 = snapshot.moves.iter().map(|moves| moves.files).sum();
    page.sample(files, &[("result", "moved"), ("reason", "")], moved as f64);
    page.sample(files, &[("result", "failed"), ("reason", "")], snapshot.move_failures as f64);
    for (why, count) in &snapshot.move_skips {
        page.sample(files, &[("result", "skipped"), ("reason", why)], *count as f64);
    }
    for (name, help) in [
        ("tierfs_migrate_moved_files_total", "Files that have moved, by tiers."),
        ("tierfs_migrate_moved_bytes_total", "Bytes that have moved, by tiers."),
    ] {
        page.family(name, "counter", help);
        for moves in &snapshot.moves {
            let (from, to) = (Rank(moves.from).to_string(), Rank(moves.to).to_string());
            let value = if name.contains("files") { moves.files } else { moves.bytes };
            page.sample(name, &[("from", &from), ("to", &to)], value as f64);
        }
    }
    for (name, help) in [
        ("tierfs_recall_total", "Files promoted because a program has used them, by program."),
        ("tierfs_recall_bytes_total", "Bytes of these, by program."),
    ] {
        page.family(name, "counter", help);
        for recalls in &snapshot.recalls {
            let value = if name.contains("bytes") { recalls.bytes } else { recalls.files };
            page.sample(name, &[("process", &recalls.program)], value as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::stats::snapshot::{Moves, Recalls, Runs};

    fn snapshot() -> Snapshot {
        let read = Requests {
            bytes: 7,
            errors: 2,
            latency: Histogram::new(&[1, 1, 1, 1, 0, 4], 9_000),
            ..Requests::none(Op::Read, Some(1))
        };
        let lookup = Requests { latency: Histogram::new(&[3], 30), ..Requests::none(Op::Lookup, None) };
        Snapshot {
            over: Duration::from_secs(9),
            requests: vec![lookup, read],
            moves: vec![Moves { from: 0, to: 1, files: 2, bytes: 20 }],
            move_skips: [("in use".to_owned(), 3)].into(),
            runs: [("command".to_owned(), Runs { ended: 3, failed: 1 })].into(),
            recalls: vec![Recalls { program: "a\"b\\c\nd".into(), files: 1, bytes: 8 }],
            last_success: Some(100),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_page_tells_requests_by_operation_and_tier() {
        let page = render(&Text::Plain("/m".into()), &snapshot(), None);
        for line in [
            "tierfs_up{mountpoint=\"/m\"} 1",
            "tierfs_requests_total{mountpoint=\"/m\",op=\"read\",tier=\"secondary\"} 8",
            "tierfs_requests_total{mountpoint=\"/m\",op=\"lookup\",tier=\"none\"} 3",
            "tierfs_request_errors_total{mountpoint=\"/m\",op=\"read\",tier=\"secondary\"} 2",
            "tierfs_request_seconds_bucket{mountpoint=\"/m\",op=\"read\",tier=\"secondary\",le=\"0.000001024\"} 3",
            "tierfs_request_seconds_bucket{mountpoint=\"/m\",op=\"read\",tier=\"secondary\",le=\"0.000004096\"} 4",
            "tierfs_request_seconds_bucket{mountpoint=\"/m\",op=\"read\",tier=\"secondary\",le=\"+Inf\"} 8",
            "tierfs_request_seconds_sum{mountpoint=\"/m\",op=\"read\",tier=\"secondary\"} 0.000009",
            "tierfs_migrate_files_total{mountpoint=\"/m\",result=\"skipped\",reason=\"in use\"} 3",
            "tierfs_migrate_runs_total{mountpoint=\"/m\",trigger=\"command\",result=\"failed\"} 1",
            "tierfs_recall_total{mountpoint=\"/m\",process=\"a\\\"b\\\\c\\nd\"} 1",
        ] {
            assert!(page.lines().any(|one| one == line), "{line}\n{page}");
        }
    }

    #[test]
    fn every_line_is_a_comment_or_a_sample_of_a_family_that_was_named_before() {
        let page = render(&Text::Plain("/m".into()), &snapshot(), None);
        let mut families = HashSet::new();
        let mut seen = HashSet::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(families.insert(rest.split(' ').next().unwrap().to_owned()), "twice: {line}");
            } else if !line.starts_with('#') {
                let (name, value) = line.split_once('{').unwrap();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
                assert!(families.contains(name) || families.contains(base), "{line}");
                let (labels, value) = value.rsplit_once("} ").unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(seen.insert((name.to_owned(), labels.to_owned())), "twice: {line}");
            }
        }
        assert!(page.ends_with('\n'));
    }
}
