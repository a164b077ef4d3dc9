//! Numbers as readers of a report want them.

use std::time::Duration;

use crate::types::shown;
use crate::types::units::{show_duration, show_size};

const DAY: u64 = 86_400;
/// As `parse_duration` counts them.
const MONTH: u64 = 2_630_016;
const YEAR: u64 = 31_557_600;

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
    let shown = show_size(bytes);
    let unit = shown.find(|letter: char| letter.is_alphabetic()).unwrap_or(shown.len());
    format!("{} {}", &shown[..unit], &shown[unit..])
}

/// Whole units of one kind, if it is that.
fn whole(age: Duration) -> Option<(u64, &'static str)> {
    let seconds = Some(age.as_secs()).filter(|seconds| *seconds > 0 && age.subsec_nanos() == 0)?;
    let units = [(YEAR, "year"), (MONTH, "month"), (DAY, "day")];
    units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).map(|(unit, word)| (seconds / unit, word))
}

/// `90 days`, `1 year`.
pub(super) fn age(age: Duration) -> String {
    match whole(age) {
        Some((1, word)) => format!("1 {word}"),
        Some((number, word)) => format!("{number} {word}s"),
        None => show_duration(age),
    }
}

/// `90d`, `1y`: what `--older-than` takes.
pub(super) fn short_age(age: Duration) -> String {
    match whole(age) {
        Some((number, "year")) => format!("{number}y"),
        Some((number, "month")) => format!("{number}mo"),
        Some((number, _)) => format!("{number}d"),
        None => show_duration(age).replace(' ', ""),
    }
}

/// The span between two thresholds: `under 30d`, `30d to 90d`, `over 5y`.
pub(super) fn span(thresholds: &[Duration], bucket: usize) -> String {
    let from = bucket.checked_sub(1).and_then(|at| thresholds.get(at)).copied().map(short_age);
    let to = thresholds.get(bucket).copied().map(short_age);
    match (from, to) {
        (None, Some(to)) => format!("under {to}"),
        (Some(from), Some(to)) => format!("{from} to {to}"),
        (Some(from), None) => format!("over {from}"),
        (None, None) => "any age".into(),
    }
}

/// `part` of `whole` in hundredths.
#[expect(clippy::cast_precision_loss, reason = "shown with at most one decimal")]
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// How full a filesystem is: a begun hundredth as a whole, as `df` and `tierfs status` tell it.
pub(super) fn full(used: u64, all: u64) -> String {
    format!("{:.0}% full", percent(used, all).ceil())
}

/// The name of a type.
pub(super) fn kind(ending: &str) -> String {
    if ending.is_empty() { "no ending".into() } else { format!(".{ending}") }
}

/// A directory as a path from the root of the union.
pub(super) fn dir(path: &crate::types::path::UnionPath) -> String {
    format!("/{}", shown::escape(path.as_bytes()))
}

/// A text that a stranger may have chosen.
pub(super) fn plain(text: &str) -> String {
    shown::escape(text.as_bytes())
}

/// Part of a text that fits `width` letters; what is cut off is at the front.
pub(super) fn fit(text: &str, width: usize) -> String {
    let letters = text.chars().count();
    if letters <= width {
        return text.to_owned();
    }
    let kept = text.chars().skip(letters - width.saturating_sub(1));
    std::iter::once('\u{2026}').chain(kept).collect()
}
