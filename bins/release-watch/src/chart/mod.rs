//! The course of a watch as pictures: shares, rates, errors and latencies by version. Pure: points in, text out.

mod mermaid;
mod svg;

use std::collections::BTreeMap;

pub(crate) use mermaid::mermaid;
pub(crate) use svg::svg;

use crate::samples::{Panel, Point};

impl Panel {
    /// All of them, from above.
    const ALL: [Self; 4] = [Self::Share, Self::Rate, Self::Errors, Self::Latency];

    fn title(self) -> &'static str {
        match self {
            Self::Share => "share of answers, %",
            Self::Rate => "requests a second",
            Self::Errors => "failed requests, %",
            Self::Latency => "latency, ms (the front door's is p95)",
        }
    }
}

/// Seconds and value.
type Curve = Vec<(f64, f64)>;

/// The curves of a panel, by series.
fn curves(points: &[Point], panel: Panel) -> BTreeMap<&str, Curve> {
    let mut curves: BTreeMap<&str, Curve> = BTreeMap::new();
    for point in points.iter().filter(|point| point.panel == panel) {
        let curve = curves.entry(point.series.as_str()).or_default();
        curve.push((point.seconds, point.value));
    }
    curves
}

/// The end of an axis: the next of 1, 2, 5, 10, 20 … that holds everything.
fn nice(largest: f64) -> f64 {
    let largest = largest.max(1e-3);
    let power = 10_f64.powf(largest.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|end| *end >= largest)
        .unwrap_or(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<Point> {
        let point = |panel, series: &str, seconds, value| Point {
            panel,
            series: series.to_owned(),
            seconds,
            value,
        };
        vec![
            point(Panel::Share, "v1", 60.0, 90.0),
            point(Panel::Share, "v1", 120.0, 91.0),
            point(Panel::Share, "<v2>", 60.0, 10.0),
            point(Panel::Share, "<v2>", 120.0, 9.0),
            point(Panel::Errors, "v1", 60.0, 0.5),
        ]
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (largest, end) in [
            (0.0, 0.001),
            (0.7, 1.0),
            (1.0, 1.0),
            (91.0, 100.0),
            (420.0, 500.0),
        ] {
            assert!(
                (nice(largest) - end).abs() < 1e-9,
                "{largest}: {}",
                nice(largest)
            );
        }
    }

    #[test]
    fn the_svg_has_a_panel_for_each_kind_and_a_curve_for_each_version() {
        let drawn = svg(&points());
        assert!(drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"));
        assert_eq!(drawn.matches("<polyline").count(), 3);
        assert!(
            drawn.contains("&lt;v2&gt;") && !drawn.contains("<v2>"),
            "{drawn}"
        );
        assert!(drawn.contains("share of answers") && drawn.contains("failed requests"));
        assert!(!drawn.contains("latency"), "no panel without a point");
    }

    #[test]
    fn mermaid_names_what_each_line_is() {
        let drawn = mermaid(&points());
        assert!(drawn.contains("```mermaid\nxychart-beta\n"), "{drawn}");
        assert!(drawn.contains("line [10, 9]"), "{drawn}");
        assert!(drawn.contains("line [90, 91]"), "{drawn}");
        assert_eq!(drawn.matches("```").count() % 2, 0);
        assert!(!drawn.contains("<v2>"), "{drawn}");
    }

    #[test]
    fn a_curve_that_begins_later_is_drawn_from_nothing() {
        let mut points = points();
        points.push(Point {
            panel: Panel::Share,
            series: "v3".to_owned(),
            seconds: 120.0,
            value: 1.0,
        });
        let drawn = mermaid(&points);
        assert!(drawn.contains("line [0, 1]"), "{drawn}");
    }
}
