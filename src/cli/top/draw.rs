//! From what is shown to a frame: a pure function of both.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::bar;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline};

use super::state::{Able, Pane, View};
use super::words;
use crate::cli::output::{age, thousands};
use crate::cli::status::words::{at_work, percent};
use crate::control::status::{Running, TierState, TierStatus};
use crate::types::ids::Rank;
use crate::types::{shown, units};

/// A smaller window holds nothing that helps.
const WIDTH_MIN: u16 = 40;
const HEIGHT_MIN: u16 = 9;

/// From this width on two panes are beside each other.
const WIDE: u16 = 150;

/// Columns of the table of requests.
const REQUESTS_WIDTH: u16 = 78;

/// Columns of a tier's bar.
const BAR_WIDTH: usize = 10;

/// Hundredths in use from which a bar warns.
const NEARLY_FULL: u64 = 90;

const ASCII: bar::Set<'static> = bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "#",
    five_eighths: "=",
    half: "=",
    three_eighths: "-",
    one_quarter: "-",
    one_eighth: ".",
    empty: " ",
};

const KEYS: &str = "q quit   s sort   p pause   1 2 3 or arrows: panes, lines   ? help";

const HELP: &[&str] = &[
    "q          quit",
    "s          sort requests by another column",
    "p, space   pause, and go on",
    "1 2 3      panes: requests; directories and programs; moves and runs",
    "left right the pane before and after; Tab as well",
    "up down    scroll; PgUp and PgDn ten lines",
    "",
    "The tier of a request is the slowest that was asked.",
    "What passthrough reads and writes is not counted.",
    "",
    "Any key closes this.",
];

fn look(able: Able, colour: Color) -> Style {
    if able.colours { Style::new().fg(colour) } else { Style::new() }
}

fn bad(able: Able) -> Style {
    look(able, Color::Red).add_modifier(Modifier::BOLD)
}

fn head() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Draws everything, at the moment `now` (seconds since 1970).
pub(super) fn draw(frame: &mut Frame, view: &View, now: u64) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let line = format!("the window is too small: make it {WIDTH_MIN} columns and {HEIGHT_MIN} lines at least");
        let wrapped = Paragraph::new(line).wrap(ratatui::widgets::Wrap { trim: true });
        return frame.render_widget(wrapped, area);
    }
    let tiers = view.status.as_ref().map_or(0, |status| status.tiers.len());
    let tiers = u16::try_from(tiers).unwrap_or(0).min(area.height / 4);
    let sparkline = if area.height >= 18 { 2 } else { 0 };
    let parts = [1, tiers, 1, sparkline, 1, 1].map(Constraint::Length);
    let parts = parts.into_iter().chain([Constraint::Min(1), Constraint::Length(1)]);
    let [top, tier_area, rates, spark, run, tabs, body, foot] = Layout::vertical(parts).areas(area);
    title(frame, view, now, top);
    tier_lines(frame, view, tier_area);
    frame.render_widget(Line::raw(rate_line(view)), rates);
    draw_history(frame, view, spark);
    run_line(frame, view, now, run);
    tab_line(frame, view, tabs);
    draw_body(frame, view, now, body);
    frame.render_widget(Line::styled(KEYS, look(view.able, Color::DarkGray)), foot);
    if view.help {
        help(frame, area);
    }
}

fn title(frame: &mut Frame, view: &View, now: u64, area: Rect) {
    let point = shown::escape(view.point.as_bytes());
    let mut spans = vec![Span::styled(format!("tierfs top  {point}"), head())];
    match &view.status {
        Some(status) => {
            let since = age(Duration::from_secs(now.saturating_sub(status.since)));
            spans.push(Span::raw(format!("  serving for {since}")));
            if status.tiers.iter().any(|tier| tier.state != TierState::Serving) {
                spans.push(Span::styled("  DEGRADED", bad(view.able)));
            }
        }
        None => spans.push(Span::raw("  asking")),
    }
    if view.unanswered > 1 {
        spans.push(Span::styled("  DOES NOT ANSWER", bad(view.able)));
    }
    if view.paused {
        spans.push(Span::styled("  PAUSED", look(view.able, Color::Yellow).add_modifier(Modifier::BOLD)));
    }
    frame.render_widget(Line::from(spans), area);
}

fn tier_lines(frame: &mut Frame, view: &View, area: Rect) {
    let tiers = view.status.iter().flat_map(|status| &status.tiers);
    let lines: Vec<Line> = tiers.map(|tier| tier_line(view, tier)).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn tier_line(view: &View, tier: &TierStatus) -> Line<'static> {
    let name = Span::raw(format!("{:<10}", Rank(tier.rank).to_string()));
    let word = match tier.state {
        TierState::Serving => None,
        TierState::Missing => Some("MISSING"),
        TierState::Failed => Some("FAILS"),
        TierState::Silent => Some("DOES NOT ANSWER"),
    };
    if let Some(word) = word {
        let why = words::cut(&shown::escape(tier.why.as_bytes()), 60, false, view.able.unicode);
        return Line::from(vec![name, Span::styled(format!("{word}  "), bad(view.able)), Span::raw(why)]);
    }
    let mut spans = vec![name];
    match &tier.space {
        Some(space) => {
            let used = percent(space.used, space.total);
            let style = if used >= NEARLY_FULL { bad(view.able) } else { look(view.able, Color::Green) };
            spans.push(Span::styled(gauge(used, BAR_WIDTH, view.able.unicode), style));
            let free = format!("{} of {} free", units::show_size(space.free), units::show_size(space.total));
            spans.push(Span::raw(format!(" {used:>3}% {free:<23}")));
        }
        None => spans.push(Span::raw(format!("{:<39}", "how full it is cannot be told"))),
    }
    if let Some(rates) = &view.rates {
        let latency = rates.on_tier(Some(tier.rank));
        let each = words::rate(rates.per_second(latency.count()));
        let (p50, p99) = [0.5, 0.99].map(|part| words::quantile(&latency, part, view.able.unicode)).into();
        spans.push(Span::raw(format!("{each:>7}/s p50{p50:>6} p99{p99:>6}")));
    }
    Line::from(spans)
}

fn gauge(percent: u64, width: usize, unicode: bool) -> String {
    let full = usize::try_from(percent.min(100)).unwrap_or(100) * width / 100;
    let (on, off) = if unicode { ("\u{2588}", "\u{2591}") } else { ("#", ".") };
    format!("{}{}", on.repeat(full), off.repeat(width - full))
}

fn rate_line(view: &View) -> String {
    let Some(rates) = &view.rates else { return "requests/s: counting".into() };
    let each = words::rate(rates.per_second(rates.count()));
    let gauges = &rates.gauges;
    let mut line = format!("requests/s {each}, open files {}", thousands(gauges.open_files));
    if gauges.passthrough_files > 0 {
        line.push_str(&format!(", {} of them past tierfs", thousands(gauges.passthrough_files)));
    }
    let peak = view.history.iter().max().copied().unwrap_or(0);
    let over = age(view.interval * u32::try_from(view.history.len()).unwrap_or(u32::MAX));
    format!("{line}, most {}/s in {over}", thousands(peak))
}

fn draw_history(frame: &mut Frame, view: &View, area: Rect) {
    let newest = view.history.len().saturating_sub(usize::from(area.width));
    let data: Vec<u64> = view.history.iter().skip(newest).copied().collect();
    let set = if view.able.unicode { bar::NINE_LEVELS } else { ASCII };
    let sparkline = Sparkline::default().data(&data).bar_set(set).style(look(view.able, Color::Cyan));
    frame.render_widget(sparkline, area);
}

fn run_line(frame: &mut Frame, view: &View, now: u64, area: Rect) {
    let running = view.status.as_ref().and_then(|status| status.running.as_ref());
    let line = match running {
        Some(running) => {
            let done = done(running);
            let text = format!(" {done:>3}% {}", shown::escape(at_work(running, now).as_bytes()));
            let text = words::cut(&text, usize::from(area.width).saturating_sub(BAR_WIDTH), false, view.able.unicode);
            let bar = gauge(done, BAR_WIDTH, view.able.unicode);
            Line::from(vec![Span::styled(bar, look(view.able, Color::Yellow)), Span::raw(text)])
        }
        None => Line::raw("no run is at work"),
    };
    frame.render_widget(line, area);
}

/// Hundredths of the bytes of a run that are done; 0 while that cannot be told.
fn done(running: &Running) -> u64 {
    if running.planned.1 == 0 { 0 } else { percent(running.copied, running.planned.1).min(100) }
}

fn tab_line(frame: &mut Frame, view: &View, area: Rect) {
    let mut spans = Vec::new();
    for (at, pane) in Pane::ALL.iter().enumerate() {
        let chosen = *pane == view.pane;
        let style = if chosen { head().add_modifier(Modifier::REVERSED) } else { Style::new() };
        spans.push(Span::styled(format!(" {} {} ", at + 1, pane.title()), style));
        spans.push(Span::raw(" "));
    }
    if view.pane == Pane::Requests {
        spans.push(Span::raw(format!(" by {}", view.sort.title())));
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_body(frame: &mut Frame, view: &View, now: u64, area: Rect) {
    let wide = area.width >= WIDE;
    match view.pane {
        Pane::Requests if wide => {
            let widths = [Constraint::Length(REQUESTS_WIDTH), Constraint::Length(2), Constraint::Min(10)];
            let [left, _, right] = Layout::horizontal(widths).areas(area);
            table(frame, &words::requests(view), view.scroll, left);
            hottest(frame, view, right, true);
        }
        Pane::Requests => table(frame, &words::requests(view), view.scroll, area),
        Pane::Hot => hottest(frame, view, area, !wide),
        Pane::Moves => table(frame, &words::moves(view, now), view.scroll, area),
    }
}

/// Directories and programs, one above the other or side by side.
fn hottest(frame: &mut Frame, view: &View, area: Rect, above: bool) {
    let Some(all) = &view.all else { return };
    let halves = [Constraint::Fill(1), Constraint::Length(1), Constraint::Fill(1)];
    let [first, _, second] =
        if above { Layout::vertical(halves).areas(area) } else { Layout::horizontal(halves).areas(area) };
    let directories = words::hot("directory", &all.hot_directories, all, usize::from(first.width), view);
    let programs = words::hot("program", &all.hot_programs, all, usize::from(second.width), view);
    table(frame, &directories, view.scroll, first);
    table(frame, &programs, view.scroll, second);
}

/// Lines under a header that stays when they scroll; never beyond the last.
fn table(frame: &mut Frame, lines: &[String], scroll: usize, area: Rect) {
    let Some((header, rows)) = lines.split_first() else { return };
    let room = usize::from(area.height.saturating_sub(1));
    let scroll = scroll.min(rows.len().saturating_sub(room));
    let rows = rows.iter().skip(scroll).take(room).map(|row| Line::raw(row.as_str()));
    let all: Vec<Line> = [Line::styled(header.as_str(), head())].into_iter().chain(rows).collect();
    frame.render_widget(Paragraph::new(all), area);
}

fn help(frame: &mut Frame, area: Rect) {
    let lines = u16::try_from(HELP.len()).unwrap_or(0) + 2;
    let (width, height) = (area.width.min(74), area.height.min(lines));
    let at = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, at);
    let lines: Vec<Line> = HELP.iter().map(|line| Line::raw(*line)).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), at);
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
