//! What a load run found, as plain data: counts, quantiles, failures. Sends nothing.

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{KeepAlive, LoadPlan};

/// Failures kept one by one; more are only counted.
const FAILURES_KEPT: usize = 100_000;
/// The version of answers without a version header.
const NO_VERSION: &str = "none";

/// Why a request counts as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// An answer outside of 200 to 299.
    Status,
    /// No connection came about.
    Connect,
    /// The connection broke before the answer was complete.
    ConnectionBroken,
    /// No complete answer within the time limit.
    Timeout,
    /// The answer was not HTTP.
    Protocol,
    /// The generator's own limit of connections was reached: not the server's fault.
    ConnectionLimit,
}

/// One lost request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When it was due.
    pub at: Timestamp,
    /// The same, in milliseconds after the start.
    pub after_ms: u64,
    /// Milliseconds from its due time to its failure.
    pub took_ms: u64,
    /// Why it counts as lost.
    pub kind: FailureKind,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// The version that answered, if it said so.
    pub version: Option<String>,
    /// What was seen.
    pub detail: String,
}

/// What happened to the requests that were due in one second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds after the start.
    pub second: u64,
    /// Answers by version, good or bad.
    pub by_version: BTreeMap<String, u64>,
    /// Lost requests.
    pub lost: u64,
}

/// Latency of complete answers, from the due time, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "quantiles are named by their number")]
pub struct LatencyMilliseconds {
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// The result of a load run. Invariants: `scheduled` = `succeeded` + `lost`; `lost` = the kept
/// `failures` + `failures_omitted`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// The address.
    pub url: String,
    /// The Host header, if one was set.
    pub host: Option<String>,
    /// Requests per second, as planned.
    pub rate: u32,
    /// Whether connections were used again.
    pub keep_alive: bool,
    /// The due time of the first request.
    pub started_at: Timestamp,
    /// How long requests were started.
    pub duration_ms: u64,
    /// Requests that were due.
    pub scheduled: u64,
    /// Answers from 200 to 299.
    pub succeeded: u64,
    /// All others: wrong status, no connection, broken connection, too late.
    pub lost: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Answers by version, good or bad; `none` without a version header.
    pub by_version: BTreeMap<String, u64>,
    /// Of those, the ones outside of 200 to 299.
    pub failed_by_version: BTreeMap<String, u64>,
    /// When the last request was due that a version answered, in milliseconds after the start.
    pub last_ms_by_version: BTreeMap<String, u64>,
    /// Lost requests by reason.
    pub by_failure: BTreeMap<FailureKind, u64>,
    /// Latency of answers, good or bad.
    pub latency_ms: LatencyMilliseconds,
    /// How late the generator itself started a request at worst, in milliseconds: when this is
    /// high, the machine was too busy for the rate.
    pub most_late_ms: u64,
    /// Every second of the run.
    pub seconds: Vec<Second>,
    /// Lost requests by due time.
    pub failures: Vec<Failure>,
    /// Lost requests beyond the number that is kept.
    pub failures_omitted: u64,
}

/// Counts while the load runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    succeeded: u64,
    lost: u64,
    by_status: BTreeMap<u16, u64>,
    by_version: BTreeMap<String, u64>,
    failed_by_version: BTreeMap<String, u64>,
    last_ms_by_version: BTreeMap<String, u64>,
    by_failure: BTreeMap<FailureKind, u64>,
    /// Microseconds: exact quantiles cost four bytes an answer.
    latencies: Vec<u32>,
    seconds: Vec<Second>,
    failures: Vec<Failure>,
    failures_omitted: u64,
}

impl Tally {
    pub(super) fn succeeded(&self) -> u64 {
        self.succeeded
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn answers_of(&self, version: &str) -> u64 {
        self.by_version.get(version).copied().unwrap_or(0)
    }

    /// Of these, the ones outside of 200 to 299.
    pub(super) fn failures_of(&self, version: &str) -> u64 {
        self.failed_by_version.get(version).copied().unwrap_or(0)
    }

    pub(super) fn answered(
        &mut self,
        status: StatusCode,
        version: Option<String>,
        took: Duration,
        due: Duration,
        at: Timestamp,
    ) {
        let code = status.as_u16();
        *self.by_status.entry(code).or_default() += 1;
        let shown = version.as_deref().unwrap_or(NO_VERSION);
        add_one(&mut self.by_version, shown);
        add_one(&mut self.second(due).by_version, shown);
        // Answers come in another order than their requests.
        let last = self.last_ms_by_version.entry(shown.to_owned());
        let last = last.or_default();
        *last = milliseconds(due).max(*last);
        self.latencies
            .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        if status.is_success() {
            self.succeeded += 1;
            return;
        }
        add_one(&mut self.failed_by_version, shown);
        self.lose(Failure {
            at,
            after_ms: milliseconds(due),
            took_ms: milliseconds(took),
            kind: FailureKind::Status,
            status: Some(code),
            version,
            detail: status.to_string(),
        });
    }

    pub(super) fn failed(
        &mut self,
        kind: FailureKind,
        detail: String,
        took: Duration,
        due: Duration,
        at: Timestamp,
    ) {
        self.lose(Failure {
            at,
            after_ms: milliseconds(due),
            took_ms: milliseconds(took),
            kind,
            status: None,
            version: None,
            detail,
        });
    }

    fn lose(&mut self, failure: Failure) {
        self.lost += 1;
        *self.by_failure.entry(failure.kind).or_default() += 1;
        self.second(Duration::from_millis(failure.after_ms)).lost += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(failure);
        } else {
            self.failures_omitted += 1;
        }
    }

    fn second(&mut self, due: Duration) -> &mut Second {
        let index = usize::try_from(due.as_secs()).unwrap_or(usize::MAX);
        while self.seconds.len() <= index {
            let second = self.seconds.len() as u64;
            self.seconds.push(Second {
                second,
                ..Second::default()
            });
        }
        &mut self.seconds[index]
    }

    pub(super) fn into_report(
        mut self,
        plan: &LoadPlan,
        started_at: Timestamp,
        duration: Duration,
        scheduled: u64,
        most_late: Duration,
    ) -> LoadReport {
        self.latencies.sort_unstable();
        self.failures.sort_by_key(|failure| failure.at);
        let host = plan.headers.get(http::header::HOST);
        LoadReport {
            url: plan.uri.to_string(),
            host: host.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            rate: plan.rate,
            keep_alive: plan.keep_alive == KeepAlive::On,
            started_at,
            duration_ms: milliseconds(duration),
            scheduled,
            succeeded: self.succeeded,
            lost: self.lost,
            by_status: self.by_status,
            by_version: self.by_version,
            failed_by_version: self.failed_by_version,
            last_ms_by_version: self.last_ms_by_version,
            by_failure: self.by_failure,
            latency_ms: quantiles(&self.latencies),
            most_late_ms: milliseconds(most_late),
            seconds: self.seconds,
            failures: self.failures,
            failures_omitted: self.failures_omitted,
        }
    }
}

impl LoadReport {
    /// The report in a few lines, for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let list = |counts: &mut dyn Iterator<Item = String>| counts.collect::<Vec<_>>().join(", ");
        let latency = &self.latency_ms;
        let mut text = format!(
            "{} requests in {:.1} s, {} lost\n  versions: {}\n  statuses: {}\n  \
             latency ms: p50 {:.1}, p99 {:.1}, max {:.1}; generator late by at most {} ms",
            self.scheduled,
            Duration::from_millis(self.duration_ms).as_secs_f64(),
            self.lost,
            list(
                &mut self
                    .by_version
                    .iter()
                    .map(|(version, n)| format!("{version} {n}"))
            ),
            list(
                &mut self
                    .by_status
                    .iter()
                    .map(|(status, n)| format!("{status} {n}"))
            ),
            latency.p50,
            latency.p99,
            latency.max,
            self.most_late_ms,
        );
        for failure in self.failures.iter().take(5) {
            let (ms, detail) = (failure.after_ms, &failure.detail);
            text.push_str(&format!(
                "\n  lost at {ms} ms: {:?}, {detail}",
                failure.kind
            ));
        }
        text
    }
}

fn add_one(counts: &mut BTreeMap<String, u64>, key: &str) {
    match counts.get_mut(key) {
        Some(count) => *count += 1,
        None => {
            counts.insert(key.to_owned(), 1);
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Exact quantiles of sorted microseconds, by the nearest rank.
fn quantiles(sorted: &[u32]) -> LatencyMilliseconds {
    let rank = |per_mille: usize| {
        let rank = (sorted.len() * per_mille).div_ceil(1000).max(1) - 1;
        sorted
            .get(rank)
            .map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    };
    LatencyMilliseconds {
        min: rank(0),
        p50: rank(500),
        p90: rank(900),
        p99: rank(990),
        p999: rank(999),
        max: rank(1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_ranks() {
        let micros: Vec<u32> = (1..=1000).map(|ms| ms * 1000).collect();
        let expected = LatencyMilliseconds {
            min: 1.0,
            p50: 500.0,
            p90: 900.0,
            p99: 990.0,
            p999: 999.0,
            max: 1000.0,
        };
        assert_eq!(quantiles(&micros), expected);
        assert_eq!(quantiles(&[]), LatencyMilliseconds::default());
    }

    #[test]
    fn a_wrong_status_counts_as_answer_and_as_loss() {
        let mut tally = Tally::default();
        let due = Duration::from_millis(1500);
        let took = Duration::from_millis(3);
        let bad = StatusCode::BAD_GATEWAY;
        tally.answered(bad, Some("v1".into()), took, due, Timestamp::UNIX_EPOCH);
        tally.answered(StatusCode::OK, None, took, due, Timestamp::UNIX_EPOCH);
        assert_eq!((tally.succeeded(), tally.lost()), (1, 1));
        assert_eq!(
            (tally.answers_of("v1"), tally.answers_of(NO_VERSION)),
            (1, 1)
        );
        assert_eq!(
            (tally.failures_of("v1"), tally.failures_of(NO_VERSION)),
            (1, 0)
        );
        assert_eq!(tally.seconds[1].lost, 1);
        assert_eq!(tally.failures[0].status, Some(502));
    }
}
