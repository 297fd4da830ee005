//! The chart for a step's summary. Mermaid's `xychart` has no legend and wants a value for each look, so a line before
//! the chart says which line is which; before the first value of a line it is drawn as 0, between two as the earlier.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use switchyard_runner::summary::cell;

use super::{curves, nice};
use crate::samples::{Panel, Point};

/// Looks drawn at most: more are no picture.
const MOST_LOOKS: usize = 60;

/// Draws every panel that has a point.
pub(crate) fn mermaid(points: &[Point]) -> String {
    let mut text = String::new();
    for panel in Panel::ALL {
        let curves = curves(points, panel);
        if curves.is_empty() {
            continue;
        }
        let times = curves
            .values()
            .flatten()
            .map(|(seconds, _)| millis(*seconds));
        let times: BTreeSet<u64> = times.collect();
        let every = times.len().div_ceil(MOST_LOOKS).max(1);
        let times: Vec<u64> = times.into_iter().step_by(every).collect();
        let values = curves.values().flatten().map(|(_, value)| *value);
        let end = nice(values.fold(0.0, f64::max));
        let names: Vec<_> = curves.keys().map(|series| cell(series)).collect();
        let minutes = times.iter().map(|at| number(*at as f64 / 60_000.0));
        let minutes: Vec<_> = minutes.collect();
        let _ = write!(
            text,
            "**{}**, lines in this order: {}\n\n```mermaid\nxychart-beta\n    x-axis \"minutes\" [{}]\n    \
             y-axis \"{}\" 0 --> {end}\n",
            panel.title(),
            names.join(", "),
            minutes.join(", "),
            panel.title()
        );
        for curve in curves.values() {
            let value = |at: &u64| {
                let mut back = curve.iter().rev();
                let latest = back.find(|(seconds, _)| millis(*seconds) <= *at);
                number(latest.map_or(0.0, |(_, value)| *value))
            };
            let values: Vec<_> = times.iter().map(value).collect();
            let _ = writeln!(text, "    line [{}]", values.join(", "));
        }
        text.push_str("```\n\n");
    }
    text
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

fn number(value: f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0)
}
