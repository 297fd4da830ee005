//! Requests counted by the version that answered, and the verdict over them. Pure.
//!
//! No data is never a pass: too few answers are said to be too few, and zero of zero is no rate.

use std::collections::BTreeMap;

use crate::report::VersionReport;

/// Shown for answers that carry no version: those of a proxy, and connections that failed.
const UNVERSIONED: &str = "(none)";

/// One request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The version that answered, if one did and said so.
    pub(crate) version: Option<String>,
    /// Why it counts as failed.
    pub(crate) problem: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    requests: u64,
    errors: u64,
}

impl Count {
    fn share(self) -> f64 {
        // Counts of a watch are far below 2^52, where the conversion is exact.
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let share = self.errors as f64 / self.requests.max(1) as f64;
        share
    }
}

/// All requests of a watch so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    all: Count,
    by_version: BTreeMap<String, Count>,
    last_problem: Option<String>,
}

/// What is tolerated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Share of failed requests, 0 to 1.
    pub(crate) max_error_rate: f64,
    /// Requests needed before a rate says anything.
    pub(crate) min_samples: u64,
}

impl Tally {
    /// Counts a request.
    pub(crate) fn add(&mut self, sample: &Sample) {
        let version = sample.version.as_deref().unwrap_or(UNVERSIONED);
        let of_version = self.by_version.entry(version.to_owned()).or_default();
        for count in [&mut self.all, of_version] {
            count.requests += 1;
            count.errors += u64::from(sample.problem.is_some());
        }
        if let Some(problem) = &sample.problem {
            self.last_problem = Some(problem.clone());
        }
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.all.requests
    }

    /// Failed requests so far.
    pub(crate) fn errors(&self) -> u64 {
        self.all.errors
    }

    /// The breach that ends the watch now: too many of all requests failed, or too many of one
    /// version's own answers.
    pub(crate) fn breach(&self, limits: &Limits) -> Option<String> {
        let versions = self
            .by_version
            .iter()
            .map(|(version, count)| (format!("version `{version}`"), *count));
        let mut judged = std::iter::once(("all requests".to_owned(), self.all)).chain(versions);
        judged.find_map(|(what, count)| {
            let is_judged = count.requests >= limits.min_samples;
            (is_judged && count.share() > limits.max_error_rate).then(|| {
                let last = self.last_problem.as_deref().unwrap_or_default();
                format!(
                    "{} of {} requests failed ({what}), allowed are {}%; last: {last}",
                    count.errors,
                    count.requests,
                    percent(limits.max_error_rate)
                )
            })
        })
    }

    /// Whether there are enough requests for a verdict at all.
    pub(crate) fn missing(&self, limits: &Limits) -> Option<String> {
        (self.all.requests < limits.min_samples).then(|| {
            format!(
                "no data: {} requests were counted, {} are needed for a verdict",
                self.all.requests, limits.min_samples
            )
        })
    }

    /// An upper bound of the true share of failures at 95 % confidence, when none failed: 3/N.
    pub(crate) fn bound(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let requests = self.all.requests as f64;
        (self.all.errors == 0 && self.all.requests > 0).then(|| (3.0 / requests).min(1.0))
    }

    /// Counts by version.
    pub(crate) fn versions(&self) -> Vec<VersionReport> {
        let versions = self.by_version.iter();
        versions
            .map(|(version, count)| VersionReport {
                version: version.clone(),
                requests: count.requests,
                errors: count.errors,
            })
            .collect()
    }

    /// One short line: `30 requests, 0 failed (v1.1.0: 30/0)`.
    pub(crate) fn line(&self) -> String {
        let versions = self.by_version.iter();
        let versions: Vec<_> = versions
            .map(|(version, count)| format!("{version}: {}/{}", count.requests, count.errors))
            .collect();
        format!(
            "{} requests, {} failed ({})",
            self.all.requests,
            self.all.errors,
            versions.join(", ")
        )
    }
}

fn percent(share: f64) -> f64 {
    (share * 10_000.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_error_rate: 0.01,
        min_samples: 20,
    };

    fn tally(samples: &[(&str, u32, u32)]) -> Tally {
        let mut tally = Tally::default();
        for (version, good, bad) in samples {
            let version = (!version.is_empty()).then(|| (*version).to_owned());
            for index in 0..good + bad {
                tally.add(&Sample {
                    version: version.clone(),
                    problem: (index >= *good).then(|| "status 500".to_owned()),
                });
            }
        }
        tally
    }

    #[test]
    fn a_rate_within_the_limit_is_no_breach() {
        assert_eq!(tally(&[("v2", 99, 1)]).breach(&LIMITS), None);
        assert_eq!(tally(&[("v2", 300, 0)]).breach(&LIMITS), None);
    }

    #[test]
    fn a_rate_above_the_limit_is_a_breach_that_says_what_was_seen() {
        assert_eq!(
            tally(&[("v2", 18, 2)]).breach(&LIMITS).unwrap(),
            "2 of 20 requests failed (all requests), allowed are 1%; last: status 500"
        );
    }

    #[test]
    fn one_versions_failures_do_not_hide_behind_anothers_successes() {
        let breach = tally(&[("v1", 10_000, 0), ("v2", 20, 5)]).breach(&LIMITS);
        assert!(
            breach
                .unwrap()
                .contains("5 of 25 requests failed (version `v2`)")
        );
    }

    #[test]
    fn failures_without_a_version_count_in_full() {
        let breach = tally(&[("v2", 50, 0), ("", 0, 2)]).breach(&LIMITS);
        assert!(
            breach
                .unwrap()
                .contains("2 of 52 requests failed (all requests)")
        );
    }

    #[test]
    fn too_few_requests_are_no_breach_and_no_pass() {
        let few = tally(&[("v2", 0, 19)]);
        assert_eq!(few.breach(&LIMITS), None);
        assert_eq!(
            few.missing(&LIMITS).unwrap(),
            "no data: 19 requests were counted, 20 are needed for a verdict"
        );
        assert!(tally(&[]).missing(&LIMITS).is_some());
        assert_eq!(tally(&[("v2", 20, 0)]).missing(&LIMITS), None);
    }

    #[test]
    fn zero_tolerance_means_zero() {
        let limits = Limits {
            max_error_rate: 0.0,
            min_samples: 1,
        };
        assert!(tally(&[("v2", 9_999, 1)]).breach(&limits).is_some());
        assert!(tally(&[("v2", 9_999, 0)]).breach(&limits).is_none());
    }

    #[test]
    fn clean_requests_bound_the_loss_and_failed_ones_do_not() {
        assert_eq!(tally(&[("v2", 300, 0)]).bound(), Some(0.01));
        assert_eq!(tally(&[("v2", 300, 1)]).bound(), None);
        assert_eq!(tally(&[]).bound(), None);
    }
}
