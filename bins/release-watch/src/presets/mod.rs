//! Ready-made queries, one file for each thing that has metrics. Pure: names in, checks out.

mod application;
mod haproxy;
mod istio;
mod nginx;
mod queue;
mod resources;
mod traefik;

use std::str::FromStr;

use switchyard_verdict::rule::{Limit, Unit};
use switchyard_verdict::{Concern, Policy};

use crate::inputs::Preset;
use crate::written::{Ask, Common, Counters, Written};

/// What metrics call a side: a Service, a workload, a backend, a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject(pub(crate) String);

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain =
            |character: char| character.is_ascii_alphanumeric() || "._-/+:@".contains(character);
        if text.is_empty() || !text.chars().all(is_plain) {
            return Err(format!(
                "`{text}` is no name in metrics: letters, digits and `. _ - / + : @`"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// What the presets are made for.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) canary: Subject,
    pub(crate) baseline: Option<Subject>,
    pub(crate) namespace: String,
    /// Matchers for every selector, without braces; may be empty.
    pub(crate) matchers: String,
    pub(crate) queue_metric: String,
    /// Seconds that rates are taken over: one interval, so that no two looks share samples.
    pub(crate) window: u64,
    pub(crate) bounds: Bounds,
}

/// The limits that presets hold their numbers against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) error_rate: f64,
    pub(crate) p95: f64,
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
    pub(crate) queue: u64,
    pub(crate) error_tolerance: f64,
    pub(crate) latency_tolerance: f64,
}

/// The checks of a preset.
pub(crate) fn checks(preset: Preset, names: &Names) -> Vec<Written> {
    match preset {
        Preset::Traefik => traffic("traefik", names, &traefik::metrics(names)),
        Preset::Istio => traffic("istio", names, &istio::metrics(names)),
        Preset::Nginx => traffic("nginx", names, &nginx::metrics(names)),
        Preset::Haproxy => haproxy::checks(names),
        Preset::Application => traffic("application", names, &application::metrics(names)),
        Preset::Resources => resources::checks(names),
        Preset::Queue => queue::checks(names),
    }
}

/// Metrics of requests with a histogram of their durations.
struct Metrics {
    requests: &'static str,
    buckets: &'static str,
    /// Buckets a second.
    scale: f64,
    /// Matchers of a failed request.
    failed: &'static str,
    canary: String,
    baseline: Option<String>,
}

/// Rate, errors, p50, p95 and p99 of requests.
fn traffic(preset: &str, names: &Names, metrics: &Metrics) -> Vec<Written> {
    let selector = |metric: &str, parts: &[&str]| {
        let parts: Vec<_> = parts
            .iter()
            .copied()
            .chain([names.matchers.as_str()])
            .collect();
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        format!("{metric}{{{}}}", parts.join(","))
    };
    let counters = |side: &String| Counters {
        requests: selector(metrics.requests, &[side]),
        errors: selector(metrics.requests, &[side, metrics.failed]),
    };
    let window = names.window;
    let rate = |side: &String| {
        let requests = selector(metrics.requests, &[side]);
        format!("sum(rate({requests}[{window}s]))")
    };
    let quantile = |quantile: &str, side: &String| {
        let buckets = selector(metrics.buckets, &[side]);
        let seconds =
            format!("histogram_quantile({quantile}, sum by (le) (rate({buckets}[{window}s])))");
        if metrics.scale == 1.0 {
            seconds
        } else {
            format!("{seconds} / {}", metrics.scale)
        }
    };
    let (canary, baseline) = (&metrics.canary, metrics.baseline.as_ref());
    let shown = |name: &str, query: &dyn Fn(&String) -> String, unit| {
        observed(
            &format!("{preset} {name}"),
            query(canary),
            baseline.map(query),
            unit,
        )
    };
    vec![
        errors(preset, names, counters(canary), baseline.map(counters)),
        p95(
            &format!("{preset} p95"),
            names,
            quantile("0.95", canary),
            baseline.map(|side| quantile("0.95", side)),
        ),
        shown("rate", &rate, Unit::Plain),
        shown("p50", &|side| quantile("0.5", side), Unit::Seconds),
        shown("p99", &|side| quantile("0.99", side), Unit::Seconds),
    ]
}

fn errors(preset: &str, names: &Names, canary: Counters, baseline: Option<Counters>) -> Written {
    Written {
        name: format!("{preset} errors"),
        common: of(Concern::Errors),
        ask: Ask::Counts {
            canary,
            limit: Some(names.bounds.error_rate),
            tolerance: baseline.is_some().then_some(names.bounds.error_tolerance),
            baseline,
            min_requests: None,
        },
    }
}

fn p95(name: &str, names: &Names, query: String, baseline: Option<String>) -> Written {
    Written {
        name: name.to_owned(),
        common: of(Concern::Performance),
        ask: Ask::Value {
            query,
            limit: Some(Limit::Max(names.bounds.p95)),
            unit: Unit::Seconds,
            tolerance: baseline.is_some().then_some(names.bounds.latency_tolerance),
            baseline,
        },
    }
}

/// A number that is written down and held against nothing.
fn observed(name: &str, query: String, baseline: Option<String>, unit: Unit) -> Written {
    Written {
        name: name.to_owned(),
        common: Common {
            no_data: Some(Policy::Ignore),
            on_error: Some(Policy::Ignore),
            ..of(Concern::Business)
        },
        ask: Ask::Value {
            query,
            baseline,
            limit: None,
            unit,
            tolerance: None,
        },
    }
}

fn bounded(name: &str, concern: Concern, query: String, (max, unit): (f64, Unit)) -> Written {
    Written {
        name: name.to_owned(),
        common: of(concern),
        ask: Ask::Value {
            query,
            baseline: None,
            limit: Some(Limit::Max(max)),
            unit,
            tolerance: None,
        },
    }
}

fn of(concern: Concern) -> Common {
    Common {
        concern: Some(concern),
        ..Common::default()
    }
}

/// A name inside a regular expression inside a text of PromQL.
fn escaped(name: &str) -> String {
    name.replace('.', "\\\\.").replace('+', "\\\\+")
}

/// Matchers of a preset's own and of the user's.
fn joined(own: &str, names: &Names) -> String {
    if names.matchers.is_empty() {
        own.to_owned()
    } else {
        format!("{own},{}", names.matchers)
    }
}

#[cfg(test)]
mod tests;
