//! The report as one page that needs nothing but itself: CSS and SVG inline, no scripts, no network.
//!
//! All that is drawn is SVG, since a printer leaves the backgrounds of HTML out.

use std::fmt::Write;

use super::{Group, Labels, Report, Sums, TierLabel, curve, text, words};
use crate::types::ids::Rank;

const STYLE: &str = include_str!("page.css");

/// Rows of a table; the rest is summed up.
const ROWS_MAX: usize = 20;

/// Colours there are for ages, in the classes `a0` to `a7`.
const COLOURS: usize = 8;

/// Writes to a `String` cannot fail.
macro_rules! put {
    ($out:expr, $($part:tt)*) => {{ let _infallible = writeln!($out, $($part)*); }};
}

/// The page.
pub fn render(report: &Report, labels: &Labels) -> String {
    let mut out = String::new();
    let subject = escape(&labels.subject);
    put!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
    put!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    // Even a mistake in this file could not make a browser ask anybody for anything.
    put!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    );
    put!(out, "<title>Storage report: {subject}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>");
    put!(out, "<header>\n<h1>Storage report: {subject}</h1>");
    let (made, age_by) = (escape(&labels.made), escape(&labels.age_by));
    put!(out, "<p class=\"soft\">{made}. The age of a file is counted from {age_by}.</p>\n</header>");
    for note in super::notes(report, labels) {
        put!(out, "<p class=\"note\">{}</p>", escape(&note));
    }
    cards(&mut out, report, labels);
    if report.is_empty() {
        put!(out, "<section><h2>There are no files here</h2>");
        put!(out, "<p class=\"soft\">Once the tree has files, this page shows how old they are.</p></section>");
    } else {
        freed(&mut out, report, labels);
        curve_section(&mut out, report);
        tiers(&mut out, report, labels);
        details(&mut out, report, labels);
    }
    put!(out, "<footer>Space is what files take on their tier; a file with several hard links counts once. ");
    put!(out, "1 GiB is 1024 MiB. Made by tierfs report.</footer>\n</main>\n</body>\n</html>");
    out
}

/// The numbers to remember.
fn cards(out: &mut String, report: &Report, labels: &Labels) {
    let all = report.all.total();
    put!(out, "<div class=\"cards\">");
    let mut card = |class: &str, value: &str, about: &str| {
        put!(out, "<div class=\"card{class}\"><b>{}</b><span>{}</span></div>", escape(value), escape(about));
    };
    if !report.is_empty() {
        let at = text::year(report);
        let (freed, here) = (report.all.freed(at), report.tier(Rank::PRIMARY));
        let age = words::age(report.spec.thresholds[at]);
        let share = words::percent(freed.allocated, here.allocated);
        let idle = if labels.age_by.contains("access") { "untouched" } else { "unchanged" };
        let about = format!("could leave the primary: {share:.0}% of its space is in files {idle} for {age}");
        card(" main", &words::size(freed.allocated), &about);
    }
    let bytes = words::size(all.bytes);
    card("", &words::count(all.files), &format!("files, {bytes} in all"));
    for (tier, ages) in labels.tiers.iter().zip(&report.tiers) {
        let here: Sums = ages.iter().sum();
        let full = tier.used_of().map(|(used, all)| {
            format!(" The disk is {} ({} of {}).", words::full(used, all), words::size(used), words::size(all))
        });
        let about = format!("on the {}: {}.{}", tier.name, tier.path, full.unwrap_or_default());
        card("", &words::size(here.allocated), &about);
    }
    put!(out, "</div>");
}

fn freed(out: &mut String, report: &Report, labels: &Labels) {
    let here = report.tier(Rank::PRIMARY).allocated;
    let disk = labels.tiers.first().and_then(TierLabel::used_of);
    let room = labels.tiers.get(1).and_then(|tier| tier.used_of()).map(|(used, all)| all.saturating_sub(used));
    put!(out, "<section id=\"freed\"><h2>What moving old files down would free</h2>");
    put!(out, "<p class=\"hint\">If every file that is as old or older moved from the primary to the secondary. ");
    put!(out, "Each file keeps its path: programs and people see no difference.</p>");
    put!(
        out,
        "<div class=\"scroll\"><table><tr><th>Older than</th><th class=\"bar\">share of the primary's files</th>"
    );
    put!(
        out,
        "<th>frees</th><th></th><th>files</th>{}</tr>",
        if disk.is_some() { "<th>disk is then</th>" } else { "" }
    );
    for (at, threshold) in report.spec.thresholds.iter().enumerate() {
        let sums = report.all.freed(at);
        let share = words::percent(sums.allocated, here);
        put!(
            out,
            "<tr><td class=\"short\">{}</td><td class=\"bar\">{}</td>",
            words::age(*threshold),
            simple_bar(share)
        );
        put!(out, "<td><strong>{}</strong></td><td>{share:.0}%</td>", words::size(sums.allocated));
        put!(out, "<td>{}</td>", words::count(sums.files));
        if let Some((used, all)) = disk {
            let then = words::full(used.saturating_sub(sums.allocated), all);
            put!(out, "<td>{then}</td>");
        }
        put!(out, "</tr>");
    }
    put!(out, "</table></div>");
    let most = report.all.freed(0).allocated;
    if let Some(room) = room.filter(|room| *room < most && !labels.one_filesystem()) {
        let room = words::size(room);
        put!(out, "<p class=\"note\">The secondary has {room} free: not enough for all of this.</p>");
    }
    put!(out, "</section>");
}

fn curve_section(out: &mut String, report: &Report) {
    if report.curve.first().is_none_or(|most| *most == 0) {
        return;
    }
    put!(out, "<section id=\"curve\"><h2>What each age would free</h2>");
    put!(out, "<p class=\"hint\">Space on the primary in files that are at least as old as the axis says. ");
    put!(
        out,
        "A steep fall means that many files share this age.</p>\n<div class=\"scroll\">{}</div></section>",
        curve::draw(report)
    );
}

fn tiers(out: &mut String, report: &Report, labels: &Labels) {
    put!(out, "<section id=\"ages\"><h2>How old the files are</h2>");
    put!(out, "<p class=\"hint\">Space by age, tier by tier.</p>{}", legend(report));
    let most = report.tiers.iter().map(|ages| ages.iter().sum::<Sums>().allocated).max().unwrap_or(0);
    put!(out, "<div class=\"scroll\"><table><tr><th>Tier</th><th class=\"bar\">age</th>");
    put!(out, "<th>files</th><th>contents</th><th>space</th></tr>");
    for (tier, ages) in labels.tiers.iter().zip(&report.tiers) {
        let sums: Sums = ages.iter().sum();
        put!(out, "<tr><td>{}</td><td class=\"bar\">{}</td>", escape(&tier.name), stacked(report, ages, most));
        put!(out, "<td>{}</td><td>{}</td>", words::count(sums.files), words::size(sums.bytes));
        put!(out, "<td>{}</td></tr>", words::size(sums.allocated));
    }
    put!(out, "</table></div>\n<div class=\"scroll\"><table><tr><th>Age</th><th>files</th>");
    labels.tiers.iter().for_each(|tier| put!(out, "<th>on the {}</th>", escape(&tier.name)));
    put!(out, "<th>share</th></tr>");
    let all = report.all.total().allocated;
    for (bucket, sums) in report.all.ages.iter().enumerate() {
        let span = words::span(&report.spec.thresholds, bucket);
        put!(out, "<tr><td class=\"short\">{span}</td><td>{}</td>", words::count(sums.files));
        report.tiers.iter().for_each(|ages| put!(out, "<td>{}</td>", words::size(ages[bucket].allocated)));
        put!(out, "<td>{:.1}%</td></tr>", words::percent(sums.allocated, all));
    }
    put!(out, "</table></div></section>");
}

fn details(out: &mut String, report: &Report, labels: &Labels) {
    group_table(out, report, ("dirs", "By directory", "Directory"), &report.dirs, true, words::dir);
    put!(out, "<div class=\"two\">");
    group_table(out, report, ("types", "By type", "Type"), &report.types, false, |kind| words::kind(kind));
    group_table(out, report, ("owners", "By owner", "Owner"), &report.owners, false, |uid| labels.owner(*uid));
    put!(out, "</div>");
}

fn group_table<K>(
    out: &mut String,
    report: &Report,
    (id, title, column): (&str, &str, &str),
    groups: &[(K, Group)],
    wide: bool,
    show: impl Fn(&K) -> String,
) {
    let at = text::year(report);
    let age = words::short_age(report.spec.thresholds[at]);
    put!(out, "<section id=\"{id}\"><h2>{title}</h2>{}", if wide { legend(report) } else { String::new() });
    put!(out, "<div class=\"scroll\"><table><tr><th>{column}</th><th class=\"bar\">space by age</th>");
    put!(out, "{}<th>space</th><th>frees at {age}</th></tr>", if wide { "<th>files</th>" } else { "" });
    let most = groups.iter().map(|(_, group)| group.total().allocated).max().unwrap_or(0);
    let mut row = |name: &str, group: &Group| {
        let total = group.total();
        put!(out, "<tr><td>{}</td><td class=\"bar\">{}</td>", escape(name), stacked(report, &group.ages, most));
        if wide {
            put!(out, "<td>{}</td>", words::count(total.files));
        }
        put!(out, "<td>{}</td>", words::size(total.allocated));
        put!(out, "<td><strong>{}</strong></td></tr>", words::size(group.freed(at).allocated));
    };
    for (key, group) in groups.iter().take(ROWS_MAX) {
        row(&show(key), group);
    }
    if let Some(rest) = groups.get(ROWS_MAX..).filter(|rest| !rest.is_empty()) {
        let mut sum = Group::new(report.spec.thresholds.len() + 1);
        rest.iter().for_each(|(_, group)| sum.add(group));
        row(&format!("{} more", words::count(rest.len() as u64)), &sum);
    }
    put!(out, "</table></div></section>");
}

/// The class of a bucket: the youngest has the warmest colour, the oldest the coldest.
fn colour(bucket: usize, buckets: usize) -> usize {
    if buckets < 2 { 0 } else { (bucket * (COLOURS - 2) + (buckets - 1) / 2) / (buckets - 1) }
}

fn legend(report: &Report) -> String {
    let buckets = report.all.ages.len();
    let one = |bucket: usize| {
        let (class, span) = (colour(bucket, buckets), words::span(&report.spec.thresholds, bucket));
        format!("<span><svg viewBox=\"0 0 1 1\"><rect class=\"a{class}\" width=\"1\" height=\"1\"/></svg>{span}</span>")
    };
    format!("<div class=\"legend\">{}</div>", (0..buckets).map(one).collect::<String>())
}

/// A bar of as many parts as there are ages; `most` is the whole width.
fn stacked(report: &Report, ages: &[Sums], most: u64) -> String {
    let mut bar = "<svg class=\"bar\"><rect class=\"track\" width=\"100%\" height=\"16\"/>".to_owned();
    let mut x = 0.0;
    for (bucket, sums) in ages.iter().enumerate().filter(|(_, sums)| sums.allocated > 0) {
        let width = words::percent(sums.allocated, most);
        let (class, span) = (colour(bucket, ages.len()), words::span(&report.spec.thresholds, bucket));
        let size = words::size(sums.allocated);
        put!(bar, "<rect class=\"a{class}\" x=\"{x:.2}%\" width=\"{width:.2}%\" height=\"16\">");
        put!(bar, "<title>{span}: {size}</title></rect>");
        x += width;
    }
    bar + "</svg>"
}

fn simple_bar(percent: f64) -> String {
    format!(
        "<svg class=\"bar\"><rect class=\"track\" width=\"100%\" height=\"16\"/>\
         <rect class=\"frees\" width=\"{percent:.2}%\" height=\"16\"/></svg>"
    )
}

/// Text as HTML: names of files are what strangers choose.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
