//! What a check asks, what a look measured, and the four answers, as plain data.
//!
//! Four answers, never two: `pass`, `fail`, `no-data` and `error`. What was not seen is not 0 and is no pass.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rates::Count;

/// The four answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Measured, and within what is allowed.
    Pass,
    /// Measured, and outside.
    Fail,
    /// Not measured: nothing there, not a number, stale, or too little to tell.
    NoData,
    /// The measurement itself failed.
    Error,
}

impl Verdict {
    /// The word in outputs and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NoData => "no-data",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What to do with an answer that is neither pass nor fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Wait for a better one until the end; then it counts.
    #[default]
    Wait,
    /// It is a breach at once.
    Fail,
    /// The check says nothing; the report says so.
    Ignore,
}

/// What to do with each answer that is neither pass nor fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Of no data.
    pub no_data: Policy,
    /// Of an error.
    pub error: Policy,
}

/// A bound of one number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// At most this.
    Max(f64),
    /// At least this.
    Min(f64),
}

impl Limit {
    pub(crate) fn allows(self, value: f64) -> bool {
        match self {
            Self::Max(limit) => value <= limit,
            Self::Min(limit) => value >= limit,
        }
    }
}

/// What a number is counted in, for the line that tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Nothing named.
    #[default]
    Plain,
    /// A time.
    Seconds,
    /// A share, 0 to 1, shown as a percentage.
    Share,
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        let round = |value: f64| format!("{}", (value * 1000.0).round() / 1000.0);
        match self {
            Self::Plain => round(value),
            Self::Seconds if value.abs() < 10.0 => format!("{} ms", round(value * 1000.0)),
            Self::Seconds => format!("{} s", round(value)),
            Self::Share => percent(value),
        }
    }
}

/// A percentile, always named where it is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentile(f64);

impl Percentile {
    /// The 95th.
    pub const P95: Self = Self(95.0);

    /// Of a number above 0 and below 100.
    #[must_use]
    pub fn new(percent: f64) -> Option<Self> {
        (percent > 0.0 && percent < 100.0).then_some(Self(percent))
    }

    /// The share of requests that may be slower.
    pub(crate) fn share_above(self) -> f64 {
        1.0 - self.0 / 100.0
    }

    /// Of samples, by nearest rank; nothing of none.
    #[must_use]
    pub fn of(self, samples: &[f64]) -> Option<f64> {
        let mut sorted: Vec<f64> = samples
            .iter()
            .copied()
            .filter(|one| one.is_finite())
            .collect();
        sorted.sort_by(f64::total_cmp);
        let rank = (self.0 / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied()
    }
}

impl fmt::Display for Percentile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "p{}", self.0)
    }
}

/// What a check asks of what is measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Everything that can be healthy is.
    Health,
    /// Few requests fail.
    Rate {
        /// The share that may, 0 to 1.
        limit: Option<f64>,
        /// How many times the baseline's odds it may be; no baseline is asked for without it.
        tolerance: Option<f64>,
        /// Requests before anything is judged.
        min_requests: u64,
    },
    /// A number keeps within a bound.
    Value {
        /// The bound.
        limit: Option<Limit>,
        /// How many times the baseline's values it may be.
        tolerance: Option<f64>,
        /// What it is counted in.
        unit: Unit,
    },
    /// Requests are answered in time; samples are seconds of single requests.
    Latency {
        /// The percentile and its limit in seconds.
        limit: Option<(Percentile, f64)>,
        /// How many times the baseline's latencies they may be.
        tolerance: Option<f64>,
        /// Requests before anything is judged.
        min_requests: u64,
    },
}

impl Rule {
    /// Whether it is about times, in seconds.
    #[must_use]
    pub fn is_in_seconds(&self) -> bool {
        match self {
            Self::Latency { .. } => true,
            Self::Value { unit, .. } => *unit == Unit::Seconds,
            Self::Health | Self::Rate { .. } => false,
        }
    }
}

/// What one look measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Measurement {
    /// Nothing was there, and why.
    NoData(String),
    /// The measurement failed, and how.
    Error(String),
    /// All is well, and what was seen.
    Healthy(String),
    /// Something is not, and what.
    Unhealthy(String),
    /// Requests since the last look.
    Counts {
        /// Of the new side.
        canary: Count,
        /// Of the old one.
        baseline: Option<Count>,
    },
    /// A number.
    Value {
        /// Of the new side.
        canary: f64,
        /// Of the old one.
        baseline: Option<f64>,
    },
    /// Seconds that single requests took since the last look.
    Latencies {
        /// Of the new side.
        canary: Vec<f64>,
        /// Of the old one.
        baseline: Vec<f64>,
    },
}

/// A share as a percentage, to a thousandth.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", (share * 100_000.0).round() / 1000.0)
}
