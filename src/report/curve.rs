//! The curve of what each age would free, as SVG.

use std::fmt::Write;
use std::time::Duration;

use super::{Report, words};

const WIDTH: f64 = 1040.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 30.0;

/// Letters of a label take about so much room.
const LABEL_WIDTH: f64 = 64.0;

/// The axis of ages is logarithmic, that of space begins at zero.
struct Axes {
    youngest: f64,
    oldest: f64,
    most: u64,
}

impl Axes {
    fn x(&self, age: Duration) -> f64 {
        let position = (age.as_secs_f64().max(1.0) / self.youngest).ln() / (self.oldest / self.youngest).ln();
        LEFT + position.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, bytes: u64) -> f64 {
        let position = words::percent(bytes, self.most) / 100.0;
        HEIGHT - BOTTOM - position * (HEIGHT - TOP - BOTTOM)
    }
}

/// The picture. The thresholds are marked with what they free.
pub(super) fn draw(report: &Report) -> String {
    let edges = Report::edges();
    let used = report.curve.iter().rposition(|bytes| *bytes > 0).map_or(1, |at| at + 2);
    let last_mark = report.spec.thresholds.last().copied().unwrap_or_default().as_secs_f64();
    let end = edges.get(used.min(edges.len() - 1)).copied().unwrap_or_default().as_secs_f64();
    let axes = Axes { youngest: 86_400.0, oldest: end.max(last_mark * 1.15), most: ceiling(report.curve[0]) };
    let label = "Space on the primary that each age would free";
    let mut svg =
        format!("<svg class=\"curve\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">\n");
    grid(&mut svg, &axes);
    let mut path = String::new();
    for (edge, bytes) in edges.iter().zip(&report.curve).filter(|(edge, _)| edge.as_secs_f64() <= axes.oldest) {
        let _infallible = write!(path, "{:.1},{:.1} ", axes.x(*edge), axes.y(*bytes));
    }
    let base = HEIGHT - BOTTOM;
    let right = path.trim_end().rsplit(' ').next().and_then(|point| point.split(',').next()).unwrap_or("0").to_owned();
    let _infallible = write!(
        svg,
        "<polygon class=\"area\" points=\"{LEFT},{base} {path}{right},{base}\"/>\n<polyline class=\"edge\" points=\"{path}\"/>\n"
    );
    marks(&mut svg, report, &axes);
    svg + "</svg>\n"
}

/// The lines across with their sizes.
fn grid(svg: &mut String, axes: &Axes) {
    for quarter in 0..=4u64 {
        let bytes = axes.most / 4 * quarter;
        let (y, size) = (axes.y(bytes), words::size(bytes));
        let (right, left, low) = (WIDTH - RIGHT, LEFT - 8.0, y + 4.0);
        let _infallible = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{left}\" y=\"{low:.1}\" text-anchor=\"end\">{size}</text>"
        );
    }
    let low = HEIGHT - 10.0;
    let _infallible = writeln!(svg, "<text x=\"{LEFT}\" y=\"{low}\" text-anchor=\"middle\">1d</text>");
}

/// The thresholds: a line, a dot, the age below and what it frees above, where there is room.
fn marks(svg: &mut String, report: &Report, axes: &Axes) {
    let mut free = LEFT + 24.0;
    for (at, threshold) in report.spec.thresholds.iter().enumerate() {
        let bytes = report.all.freed(at).allocated;
        let (x, y, base) = (axes.x(*threshold), axes.y(bytes), HEIGHT - BOTTOM);
        let _infallible = writeln!(
            svg,
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{base}\"/>\
             <circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>"
        );
        if x < free {
            continue;
        }
        free = x + LABEL_WIDTH;
        let (size, age, low, high) = (words::size(bytes), words::short_age(*threshold), HEIGHT - 10.0, TOP - 12.0);
        let _infallible = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{low}\" text-anchor=\"middle\">{age}</text>\
             <text class=\"value\" x=\"{x:.1}\" y=\"{high}\" text-anchor=\"middle\">{size}</text>"
        );
    }
}

/// A round number of a size's own unit at or above `bytes`, that quarters well.
fn ceiling(bytes: u64) -> u64 {
    let unit = 1u64 << (bytes.max(1).ilog2() / 10 * 10);
    let round = [1, 2, 4, 8, 12, 16, 20, 40, 60, 80, 100, 120, 160, 200, 400, 600, 800, 1024];
    let fits = round.iter().map(|number| number * unit).find(|top| *top >= bytes);
    fits.unwrap_or(bytes).max(4)
}
