//! The chart as one SVG file without scripts, fonts or anything from elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Curve, curves, nice};
use crate::samples::{Panel, Point};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 240.0;
const GAP: f64 = 50.0;
/// Told apart by people who see few colours as well (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

/// Draws every panel that has a point.
pub(crate) fn svg(points: &[Point]) -> String {
    let panels = Panel::ALL.map(|panel| (panel, curves(points, panel)));
    let panels: Vec<_> = panels
        .iter()
        .filter(|(_, curves)| !curves.is_empty())
        .collect();
    let last = points.iter().map(|point| point.seconds).fold(1.0, f64::max);
    let count = panels.len();
    #[expect(clippy::cast_precision_loss, reason = "four at most")]
    let height = count as f64 * (HEIGHT + GAP) + GAP;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let mut top = GAP;
    for (panel, curves) in panels {
        draw(&mut text, *panel, curves, (top, last));
        top += HEIGHT + GAP;
    }
    text.push_str("</svg>\n");
    text
}

fn draw(text: &mut String, panel: Panel, curves: &BTreeMap<&str, Curve>, (top, last): (f64, f64)) {
    let values = curves.values().flatten().map(|(_, value)| *value);
    let end = nice(values.fold(0.0, f64::max));
    let (right, bottom) = (WIDTH - RIGHT, top + HEIGHT);
    let x = |seconds: f64| LEFT + (right - LEFT) * seconds / last;
    let y = |value: f64| bottom - HEIGHT * (value / end).clamp(0.0, 1.0);
    let _ = write!(
        text,
        "<text x=\"{LEFT}\" y=\"{:.0}\" font-weight=\"bold\">{}</text>\n\
         <path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>\n\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{end}</text>\n\
         <text x=\"{:.0}\" y=\"{bottom:.0}\" text-anchor=\"end\">0</text>\n\
         <text x=\"{right:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\n",
        top - 10.0,
        escaped(panel.title()),
        LEFT - 6.0,
        top + 4.0,
        LEFT - 6.0,
        bottom + 14.0,
        clock(last)
    );
    for (index, (series, curve)) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points = curve
            .iter()
            .map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)));
        let points: Vec<_> = points.collect();
        #[expect(clippy::cast_precision_loss, reason = "a legend is short")]
        let line = top + 14.0 * index as f64;
        let _ = write!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n\
             <text x=\"{:.0}\" y=\"{line:.0}\" fill=\"{colour}\">{}</text>\n",
            points.join(" "),
            right + 10.0,
            escaped(series)
        );
    }
}

fn clock(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time since the start"
    )]
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&quot;");
    text.chars()
        .filter(|character| !character.is_control())
        .collect()
}
