//! HAProxy's own exporter. It has no histogram: of latencies it knows the average of the last 1,024 requests, so that is
//! what is named and judged.

use switchyard_verdict::rule::Unit;

use super::{Names, Subject, Written, errors, escaped, joined, observed, p95};
use crate::written::Counters;

pub(super) fn checks(names: &Names) -> Vec<Written> {
    let canary = Side::new(&names.canary, names);
    let baseline = names.baseline.as_ref().map(|side| Side::new(side, names));
    let baseline = baseline.as_ref();
    let rate = |side: &Side| format!("sum(rate({}[{}s]))", side.responses(""), names.window);
    vec![
        errors(
            "haproxy",
            names,
            canary.counters(),
            baseline.map(Side::counters),
        ),
        p95(
            "haproxy average latency",
            names,
            canary.average(),
            baseline.map(Side::average),
        ),
        observed(
            "haproxy rate",
            rate(&canary),
            baseline.map(rate),
            Unit::Plain,
        ),
    ]
}

/// A backend, or servers of one.
struct Side {
    object: &'static str,
    matchers: String,
}

impl Side {
    fn new(Subject(name): &Subject, names: &Names) -> Self {
        match name.split_once('/') {
            Some((proxy, server)) => Self {
                object: "server",
                matchers: joined(
                    &format!("proxy=\"{proxy}\",server=~\"{}.*\"", escaped(server)),
                    names,
                ),
            },
            None => Self {
                object: "backend",
                matchers: joined(&format!("proxy=\"{name}\""), names),
            },
        }
    }

    fn responses(&self, more: &str) -> String {
        format!(
            "haproxy_{}_http_responses_total{{{}{more}}}",
            self.object, self.matchers
        )
    }

    fn counters(&self) -> Counters {
        Counters {
            requests: self.responses(""),
            errors: self.responses(",code=\"5xx\""),
        }
    }

    fn average(&self) -> String {
        format!(
            "avg(haproxy_{}_response_time_average_seconds{{{}}})",
            self.object, self.matchers
        )
    }
}
