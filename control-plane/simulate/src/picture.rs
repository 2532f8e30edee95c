//! Load and overflow over time as a picture (SVG).

use crate::replay::Moment;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 180.0;
const MARGIN: f64 = 60.0;
/// More points than pixels show nothing more.
const POINTS: usize = 960;

/// Two curves, one above the other: the share of the fleet that is sold, and what an hour of overflow costs.
#[must_use]
pub fn svg(curve: &[Moment]) -> String {
    let height = 2.0 * HEIGHT + 3.0 * MARGIN;
    let width = WIDTH + 2.0 * MARGIN;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">"#
    );
    let dearest = curve.iter().map(|moment| moment.overflow_per_hour).fold(0.0, f64::max);
    panel(&mut svg, MARGIN, "load of the fullest dimension", "100 %", curve, |moment| moment.load);
    let scale = if dearest > 0.0 { dearest } else { 1.0 };
    let top = format!("{dearest:.2}/h");
    panel(&mut svg, HEIGHT + 2.0 * MARGIN, "overflow, money per hour", &top, curve, |moment| {
        moment.overflow_per_hour / scale
    });
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, top: f64, title: &str, most: &str, curve: &[Moment], of: impl Fn(&Moment) -> f64) {
    let (first, last) = (curve.first().map_or(0.0, |m| m.t), curve.last().map_or(1.0, |m| m.t));
    let span = (last - first).max(1.0);
    let bottom = top + HEIGHT;
    let mut path = format!("M{MARGIN:.1} {bottom:.1}");
    let step = curve.len().div_ceil(POINTS).max(1);
    for part in curve.chunks(step) {
        // The highest of what falls on one pixel, so that no peak is lost.
        let value = part.iter().map(&of).fold(0.0, f64::max).min(1.0);
        let x = MARGIN + (part[0].t - first) / span * WIDTH;
        path += &format!("H{x:.1}V{:.1}", bottom - value * HEIGHT);
    }
    path += &format!("H{:.1}V{bottom:.1}Z", MARGIN + WIDTH);
    *svg += &format!(
        r##"<rect x="{MARGIN}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/><path d="{path}" fill="#4a7ebb" fill-opacity="0.6"/><text x="{MARGIN}" y="{}">{title}</text><text x="4" y="{}">{most}</text><text x="{MARGIN}" y="{}">{:.1} h</text>"##,
        top - 8.0,
        top + 12.0,
        bottom + 18.0,
        span / 3_600.0,
    );
}
