//! The report as a picture in a terminal.

use std::fmt::Write;

use super::{By, Group, Labels, Report, Sums, words};

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// Colours and block letters; without, plain text for pipes and logs.
    pub rich: bool,
}

/// Columns of a bar: what the numbers leave, within reason.
const BAR_MIN: usize = 10;
const BAR_MAX: usize = 60;

/// Rows of a table of directories, types or owners; the rest is summed up.
const ROWS_MAX: usize = 25;

/// Writes to a `String` cannot fail.
macro_rules! line {
    ($out:expr $(, $part:expr)* $(,)?) => {{ let _infallible = writeln!($out $(, $part)*); }};
}

/// All of it, ended by a newline.
pub fn render(report: &Report, labels: &Labels, by: By, style: Style) -> String {
    let mut out = String::new();
    head(&mut out, report, labels, style);
    if report.is_empty() {
        return out;
    }
    line!(out);
    match by {
        By::Age => ages(&mut out, report, labels, style),
        By::Dir => groups(&mut out, report, "Directory", &rows(&report.dirs, words::dir), style),
        By::Type => groups(&mut out, report, "Type", &rows(&report.types, |kind| words::kind(kind)), style),
        By::Owner => {
            groups(&mut out, report, "Owner", &rows(&report.owners, |uid| words::plain(&labels.owner(*uid))), style)
        }
    }
    line!(out);
    freed(&mut out, report, labels, style);
    out
}

fn head(out: &mut String, report: &Report, labels: &Labels, style: Style) {
    let all = report.all.total();
    line!(out, "{}", bold(&words::plain(&labels.subject), style));
    if report.is_empty() {
        line!(out, "No files.");
        for note in super::notes(report, labels) {
            line!(out, "{note}");
        }
        return;
    }
    let (files, bytes) = (words::count(all.files), words::size(all.bytes));
    line!(out, "{files} files, {bytes}; age counted from {}", labels.age_by);
    for (tier, ages) in labels.tiers.iter().zip(&report.tiers) {
        let here: Sums = ages.iter().sum();
        let full = tier.used_of().map(|(used, all)| format!(", {}", words::full(used, all)));
        let full = full.unwrap_or_default();
        let (files, taken) = (words::count(here.files), words::size(here.allocated));
        line!(out, "  {:<9}  {:>10}  {files} files  ({}{full})", tier.name, taken, words::plain(&tier.path));
    }
}

/// Names a tier in a column.
fn short(name: &str) -> String {
    name.chars().take(9).collect()
}

fn ages(out: &mut String, report: &Report, labels: &Labels, style: Style) {
    let names: Vec<String> = labels.tiers.iter().map(|tier| format!("{:>12}", short(&tier.name))).collect();
    let title = format!("{:<12}{:>13}{}", "Age", "files", names.concat());
    line!(out, "{}", bold(&title, style));
    let width = bar_width(title.chars().count(), style);
    let most = report.all.ages.iter().map(|sums| sums.allocated).max().unwrap_or(0);
    for (bucket, sums) in report.all.ages.iter().enumerate() {
        let span = words::span(&report.spec.thresholds, bucket);
        let sizes = report.tiers.iter().map(|tier| format!("{:>12}", words::size(tier[bucket].allocated)));
        let sizes = sizes.collect::<String>();
        let bar = bar(sums.allocated, most, width, style);
        line!(out, "{}", format!("{span:<12}{:>13}{sizes}  {bar}", words::count(sums.files)).trim_end());
    }
}

type Row<'a> = (String, &'a Group);

fn rows<K>(groups: &[(K, Group)], show: impl Fn(&K) -> String) -> Vec<Row<'_>> {
    groups.iter().map(|(key, group)| (show(key), group)).collect()
}

fn groups(out: &mut String, report: &Report, title: &str, rows: &[Row<'_>], style: Style) {
    let thresholds = &report.spec.thresholds;
    let at = year(report);
    let frees = format!("frees at {}", thresholds.get(at).copied().map(words::short_age).unwrap_or_default());
    let name_width = (style.width / 3).clamp(12, 40);
    let title = format!("{title:<name_width$}{:>13}{:>12}{frees:>14}", "files", "space");
    line!(out, "{}", bold(&title, style));
    let width = bar_width(title.chars().count(), style);
    let most = rows.iter().map(|(_, group)| group.total().allocated).max().unwrap_or(0);
    let mut row = |name: &str, group: &Group| {
        let (total, freed) = (group.total(), words::size(group.freed(at).allocated));
        let (files, space) = (words::count(total.files), words::size(total.allocated));
        let bar = bar(total.allocated, most, width, style);
        let name = words::fit(name, name_width - 1);
        let pad = " ".repeat(name_width - name.chars().count());
        line!(out, "{}", format!("{name}{pad}{files:>13}{space:>12}{freed:>14}  {bar}").trim_end());
    };
    for (name, group) in rows.iter().take(ROWS_MAX) {
        row(name, group);
    }
    if let Some(rest) = rows.get(ROWS_MAX..).filter(|rest| !rest.is_empty()) {
        let mut sum = Group::new(thresholds.len() + 1);
        rest.iter().for_each(|(_, group)| sum.add(group));
        row(&format!("{} more", words::count(rest.len() as u64)), &sum);
    }
}

/// The threshold nearest to a year, for the one column that has room.
pub(super) fn year(report: &Report) -> usize {
    let year = std::time::Duration::from_secs(31_557_600);
    let distance = |at: &usize| report.spec.thresholds[*at].abs_diff(year);
    (0..report.spec.thresholds.len()).min_by_key(distance).unwrap_or(0)
}

fn freed(out: &mut String, report: &Report, labels: &Labels, style: Style) {
    let title = format!("{:<15}{:>10}{:>13}{:>8}", "Older than", "frees", "files", "share");
    line!(out, "{}", bold("What would be free on the primary if older files moved down", style));
    line!(out, "{}", bold(&title, style));
    let here = report.tier(crate::types::ids::Rank::PRIMARY).allocated;
    let space = labels.tiers.first().and_then(super::TierLabel::used_of);
    let room = if space.is_some() { title.chars().count() + "  leaves it 100% full".len() } else { title.len() };
    let width = bar_width(room, style);
    for (at, threshold) in report.spec.thresholds.iter().enumerate() {
        let sums = report.all.freed(at);
        let share = format!("{:.0}%", words::percent(sums.allocated, here));
        let (size, files) = (words::size(sums.allocated), words::count(sums.files));
        let after = space
            .map(|(used, all)| format!("  leaves it {:>9}", words::full(used.saturating_sub(sums.allocated), all)));
        let (after, bar) = (after.unwrap_or_default(), bar(sums.allocated, here, width, style));
        let age = words::age(*threshold);
        line!(out, "{}", format!("{age:<15}{size:>10}{files:>13}{share:>8}{after}  {bar}").trim_end());
    }
    for note in super::notes(report, labels) {
        line!(out, "{note}");
    }
}

fn bar_width(taken: usize, style: Style) -> usize {
    style.width.saturating_sub(taken + 3).clamp(BAR_MIN, BAR_MAX)
}

/// A bar of at most `width` columns, in eighths of a column where block letters can be shown.
fn bar(part: u64, whole: u64, width: usize, style: Style) -> String {
    if part == 0 || whole == 0 {
        return String::new();
    }
    let steps = u128::from(part) * (width as u128) * 8 / u128::from(whole);
    // What is there at all is seen.
    let steps = usize::try_from(steps).unwrap_or(usize::MAX).clamp(1, width * 8);
    if !style.rich {
        return "#".repeat(steps.div_ceil(8));
    }
    let mut bar = "\u{2588}".repeat(steps / 8);
    let rest = ["", "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}"];
    bar.push_str(rest[steps % 8]);
    format!("\u{1b}[36m{bar}\u{1b}[0m")
}

fn bold(text: &str, style: Style) -> String {
    if style.rich { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}
