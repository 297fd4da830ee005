//! Probes of the front door, told apart by the version that answered. It refuses to judge them.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, stream};
use switchyard_health::checks::probe_url;
use switchyard_health::version::VersionRule;
use switchyard_http::{Client, Repeat, Request, StatusCode, header};
use switchyard_verdict::{Count, Measurement};
use tokio::time::Instant;

use crate::inputs::ReleaseWatch;
use crate::plan::View;

/// Shown for answers without a version: those of a proxy, and connections that failed.
pub(crate) const UNVERSIONED: &str = "(none)";

/// One probe and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probe {
    /// The version that answered, if one did and said so.
    pub(crate) version: Option<String>,
    /// Why it counts as failed.
    pub(crate) problem: Option<String>,
    /// Seconds that it took.
    pub(crate) seconds: f64,
}

/// The probes of one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Probes(pub(crate) Vec<Probe>);

/// How the probes of a look came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All of them were sent.
    AsPlanned,
    /// They prove enough.
    Early,
}

/// What was seen of one version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OfVersion {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: Vec<f64>,
}

/// Sends the probes of a look, spread evenly over `span`. Each leaves at its own time whether or not the one before was
/// answered: a front door that hangs must not be asked less often.
///
/// After a failed one `is_enough` is asked, with those up to it in the order in which they were sent: what fails fast must
/// not outrun what succeeds slowly. Where it is, the look ends early.
pub(crate) async fn probe(
    http: &Client,
    inputs: &ReleaseWatch,
    span: Duration,
    is_enough: impl Fn(&Probes) -> bool,
) -> (Probes, Ended) {
    let Some(url) = &inputs.verify_url else {
        return (Probes::default(), Ended::AsPlanned);
    };
    let mut request = Request::get(url.0.clone())
        .repeat(Repeat::Never)
        .within(inputs.request_timeout);
    if let Some(host) = &inputs.verify_host {
        request = request.header(header::HOST, host.clone());
    }
    // While a canary takes a share, either version may answer.
    let expected = inputs.expect_version.clone();
    let rule = VersionRule {
        header: inputs.version_header.clone(),
        expected: expected.filter(|_| inputs.all_traffic),
    };
    let begin = Instant::now();
    let every = Duration::from_secs(1) / inputs.verify_rate;
    let count = span.as_nanos() / every.as_nanos().max(1);
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let probes = stream::iter(0..count).map(|index| {
        let (request, rule) = (&request, &rule);
        async move {
            // At a random moment of its slot: in step with the users, or with the turns that a proxy takes, all probes
            // of a look may meet the same side.
            let slot = every * index + every.mul_f64(rand::random::<f64>());
            tokio::time::sleep_until(begin + slot).await;
            let sent = Instant::now();
            match probe_url(http, request).await {
                Ok(answer) => {
                    let version = rule.of(&answer.headers);
                    let problem = problem(answer.status);
                    Probe {
                        problem: problem.or_else(|| rule.mismatch(version.as_deref())),
                        version,
                        seconds: answer.elapsed.as_secs_f64(),
                    }
                }
                Err(problem) => Probe {
                    version: None,
                    problem: Some(problem),
                    seconds: sent.elapsed().as_secs_f64(),
                },
            }
        }
    });
    let at_once = usize::try_from(count).unwrap_or(1);
    let mut probes = pin!(probes.buffered(at_once));
    let mut seen = Probes::default();
    while let Some(probe) = probes.next().await {
        let has_failed = probe.problem.is_some();
        seen.0.push(probe);
        if has_failed && is_enough(&seen) {
            return (seen, Ended::Early);
        }
    }
    (seen, Ended::AsPlanned)
}

fn problem(status: u16) -> Option<String> {
    let read = StatusCode::from_u16(status);
    let is_good = read.is_ok_and(|status| status.is_success() || status.is_redirection());
    (!is_good).then(|| format!("status {status}"))
}

impl Probes {
    /// Counts by version.
    pub(crate) fn by_version(&self) -> BTreeMap<String, OfVersion> {
        let mut versions: BTreeMap<String, OfVersion> = BTreeMap::new();
        for probe in &self.0 {
            let version = probe.version.as_deref().unwrap_or(UNVERSIONED);
            let one = versions.entry(version.to_owned()).or_default();
            one.requests += 1;
            one.failed += u64::from(probe.problem.is_some());
            one.seconds.push(probe.seconds);
        }
        versions
    }

    /// What a view of them measures. Failures without a version are nobody's: they count among all, and against neither
    /// side.
    pub(crate) fn measured(
        &self,
        view: View,
        canary: Option<&str>,
        baseline: Option<&str>,
    ) -> Measurement {
        if self.0.is_empty() {
            return Measurement::NoData("no probe was sent".to_owned());
        }
        let is_canary = |probe: &&Probe| match (canary, probe.version.as_deref()) {
            (Some(canary), version) => version == Some(canary),
            (None, _) => true,
        };
        let is_baseline = |probe: &&Probe| match (canary, baseline, probe.version.as_deref()) {
            (_, Some(baseline), version) => version == Some(baseline),
            (Some(canary), None, Some(version)) => version != canary,
            (Some(_), None, None) | (None, None, _) => false,
        };
        let seconds = |probe: &Probe| probe.seconds;
        match view {
            View::All => Measurement::Counts {
                canary: count(self.0.iter()),
                baseline: None,
            },
            View::Versions => Measurement::Counts {
                canary: count(self.0.iter().filter(is_canary)),
                baseline: Some(count(self.0.iter().filter(is_baseline))),
            },
            View::Latency => Measurement::Latencies {
                canary: self.0.iter().filter(is_canary).map(seconds).collect(),
                baseline: self.0.iter().filter(is_baseline).map(seconds).collect(),
            },
        }
    }

    /// The last thing that went wrong.
    pub(crate) fn last_problem(&self) -> Option<&str> {
        let mut latest = self.0.iter().rev();
        latest.find_map(|probe| probe.problem.as_deref())
    }
}

fn count<'probes>(probes: impl Iterator<Item = &'probes Probe>) -> Count {
    probes.fold(Count::default(), |sum, probe| {
        sum.plus(Count::new(1, u64::from(probe.problem.is_some())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes() -> Probes {
        let probe = |version: Option<&str>, fails: bool, seconds| Probe {
            version: version.map(str::to_owned),
            problem: fails.then(|| "status 500".to_owned()),
            seconds,
        };
        Probes(vec![
            probe(Some("v2"), false, 0.2),
            probe(Some("v2"), true, 0.3),
            probe(Some("v1"), false, 0.1),
            probe(Some("v0"), false, 0.1),
            probe(None, true, 5.0),
        ])
    }

    #[test]
    fn sides_are_told_apart_by_version_and_failures_of_nobody_count_among_all() {
        let measured = |view, baseline| probes().measured(view, Some("v2"), baseline);
        let all = Measurement::Counts {
            canary: Count::new(5, 2),
            baseline: None,
        };
        assert_eq!(measured(View::All, None), all);
        let versions = |baseline| Measurement::Counts {
            canary: Count::new(2, 1),
            baseline: Some(baseline),
        };
        assert_eq!(measured(View::Versions, None), versions(Count::new(2, 0)));
        assert_eq!(
            measured(View::Versions, Some("v1")),
            versions(Count::new(1, 0))
        );
        let latencies = Measurement::Latencies {
            canary: vec![0.2, 0.3],
            baseline: vec![0.1, 0.1],
        };
        assert_eq!(measured(View::Latency, None), latencies);
        assert_eq!(probes().last_problem(), Some("status 500"));
    }

    #[test]
    fn without_a_version_to_expect_all_are_the_new_one() {
        let Measurement::Latencies { canary, baseline } =
            probes().measured(View::Latency, None, None)
        else {
            panic!("no latencies");
        };
        assert_eq!((canary.len(), baseline.len()), (5, 0));
    }

    #[test]
    fn no_probe_is_no_data() {
        let none = Probes::default().measured(View::All, None, None);
        assert!(matches!(none, Measurement::NoData(_)));
    }
}
