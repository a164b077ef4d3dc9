//! Numbers and lines of the screen as text.

use super::state::{Sort, View};
use crate::cli::output::thousands;
use crate::stats::Snapshot;
use crate::stats::histogram::Histogram;
use crate::stats::snapshot::{Hot, Requests};
use crate::types::ids::Rank;
use crate::types::{shown, units};

/// A time in nanoseconds, to three digits.
pub(super) fn time(ns: u64, unicode: bool) -> String {
    let micro = if unicode { "\u{b5}s" } else { "us" };
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, micro),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    if value < 10.0 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// A part of all times, `-` where there is none.
pub(super) fn quantile(latency: &Histogram, part: f64, unicode: bool) -> String {
    latency.quantile(part).map_or_else(|| "-".into(), |ns| time(ns, unicode))
}

/// A rate, with one decimal below ten.
pub(super) fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 { format!("{rate:.1}") } else { thousands(rate.round() as u64) }
}

/// The tier of a request.
fn tier(tier: Option<u8>) -> String {
    tier.map_or_else(|| "-".into(), |rank| Rank(rank).to_string())
}

/// Cut at `width`, with a mark where something is missing; the end is kept where `tail` says so.
pub(super) fn cut(text: &str, width: usize, tail: bool, unicode: bool) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let mark = if unicode { "\u{2026}" } else { "~" };
    let kept = width.saturating_sub(1);
    if tail {
        let end: String = text.chars().skip(count - kept).collect();
        format!("{mark}{end}")
    } else {
        let start: String = text.chars().take(kept).collect();
        format!("{start}{mark}")
    }
}

/// Requests by operation and tier, the header first.
pub(super) fn requests(view: &View) -> Vec<String> {
    let unicode = view.able.unicode;
    let row = |fields: [String; 7]| {
        let [op, tier, rate, p50, p99, errors, bytes] = fields;
        format!("{op:<16}{tier:<10}{rate:>10}{p50:>9}{p99:>9}{errors:>10}{bytes:>12}")
    };
    let head = ["operation", "tier", "requests/s", "p50", "p99", "faults/s", "bytes/s"];
    let mut lines = vec![row(head.map(String::from))];
    let Some(rates) = &view.rates else { return lines };
    let mut all: Vec<&Requests> = rates.requests.iter().collect();
    match view.sort {
        Sort::Rate => all.sort_by_key(|one| std::cmp::Reverse(one.count())),
        Sort::Tail => all.sort_by_key(|one| std::cmp::Reverse(one.latency.quantile(0.99))),
        Sort::Bytes => all.sort_by_key(|one| std::cmp::Reverse(one.bytes)),
        Sort::Name => all.sort_by_key(|one| (one.op.name(), one.tier)),
    }
    lines.extend(all.into_iter().map(|one| {
        let per_second = |count| if count == 0 { String::new() } else { rate(rates.per_second(count)) };
        let bytes = rates.per_second(one.bytes) as u64;
        row([
            one.op.name().into(),
            tier(one.tier),
            per_second(one.count()),
            quantile(&one.latency, 0.5, unicode),
            quantile(&one.latency, 0.99, unicode),
            per_second(one.faults),
            if bytes == 0 { String::new() } else { units::show_size(bytes) },
        ])
    }));
    lines
}

/// What is used much, the header first. A directory is shown by its end.
pub(super) fn hot(title: &str, all: &[Hot], counts: &Snapshot, width: usize, view: &View) -> Vec<String> {
    let seconds = counts.hot_over.as_secs_f64().max(1.0);
    let name_width = width.saturating_sub(30).clamp(8, 64);
    let row =
        |name: &str, each: &str, opens: &str, slow: &str| format!("{name:<name_width$}{each:>11}{opens:>9}{slow:>9}");
    let mut lines = vec![row(title, "requests/s", "opens/s", "slow/s")];
    let per_second = |count: u64| if count == 0 { String::new() } else { rate(count as f64 / seconds) };
    lines.extend(all.iter().map(|hot| {
        let name = if hot.name.is_empty() { "/".to_owned() } else { shown::escape(hot.name.as_bytes()) };
        let name = cut(&name, name_width - 1, true, view.able.unicode);
        row(&name, &per_second(hot.requests), &per_second(hot.opens), &per_second(hot.slow))
    }));
    lines
}

/// Moves between tiers, who has brought files back, and the runs.
pub(super) fn moves(view: &View, now: u64) -> Vec<String> {
    let Some(all) = &view.all else { return Vec::new() };
    let mut lines = vec![format!("{:<26}{:>12}{:>12}{:>14}", "moved since the mount", "files", "bytes", "bytes/s")];
    let speed = |from: u8, to: u8| {
        let rates = view.rates.as_ref()?;
        let moved = rates.moves.iter().find(|moved| (moved.from, moved.to) == (from, to))?;
        Some(units::show_size(rates.per_second(moved.bytes) as u64))
    };
    for moved in &all.moves {
        let way = format!("{} to {}", Rank(moved.from), Rank(moved.to));
        let (files, bytes) = (thousands(moved.files), units::show_size(moved.bytes));
        lines.push(format!("{way:<26}{files:>12}{bytes:>12}{:>14}", speed(moved.from, moved.to).unwrap_or_default()));
    }
    if all.moves.is_empty() {
        lines.push("nothing".into());
    }
    if all.move_failures > 0 {
        lines.push(format!("{:<26}{:>12}", "could not be moved", thousands(all.move_failures)));
    }
    lines.push(String::new());
    lines.push(format!("{:<26}{:>12}{:>12}", "promoted for program", "files", "bytes"));
    for recalls in &all.recalls {
        let program = shown::escape(recalls.program.as_bytes());
        lines.push(format!("{program:<26}{:>12}{:>12}", thousands(recalls.files), units::show_size(recalls.bytes)));
    }
    if all.recalls.is_empty() {
        lines.push("none".into());
    }
    lines.push(String::new());
    lines.push(format!("{:<26}{:>12}{:>12}", "runs begun by", "ended", "failed"));
    for (trigger, runs) in &all.runs {
        lines.push(format!("{trigger:<26}{:>12}{:>12}", thousands(runs.ended), thousands(runs.failed)));
    }
    if let Some(status) = &view.status {
        lines.push(String::new());
        lines.push(format!("last run: {}", crate::cli::status::words::last_run(status, now)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_have_few_digits() {
        let times = [5, 1_500, 12_345, 999_999, 1_000_000, 45_600_000, 2_500_000_000];
        let shown = times.map(|ns| time(ns, false));
        assert_eq!(shown, ["5ns", "1.5us", "12us", "1000us", "1.0ms", "46ms", "2.5s"]);
        assert_eq!([0.0, 0.04, 3.21, 9.96, 12_345.6].map(rate), ["0", "0.0", "3.2", "10", "12,346"]);
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(cut("a/long/path", 6, true, false), "~/path");
        assert_eq!(cut("a/long/path", 6, false, true), "a/lon\u{2026}");
        assert_eq!(cut("short", 6, true, false), "short");
    }
}
