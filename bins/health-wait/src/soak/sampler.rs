//! Sends the requests of one look: probes of the front door and every check on its pods.
//! It refuses to count and to judge.

use std::time::Duration;

use futures::{StreamExt, stream};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_http::{Client, Repeat, Request, StatusCode, header};
use tokio::time::Instant;

use super::tally::Sample;
use crate::inputs::WatchInputs;
use switchyard_health::checks::{Answer, Check, Checks, judge, probe, probe_pod, probe_url};
use switchyard_health::version::VersionRule;

/// Requests under way at the same time.
const CONCURRENCY: usize = 8;

/// Sends requests.
pub(super) struct Sampler<'run> {
    pub(super) cluster: &'run Cluster,
    pub(super) http: &'run Client,
    pub(super) inputs: &'run WatchInputs,
    pub(super) version: &'run VersionRule,
}

impl Sampler<'_> {
    /// Sends all requests of one look: the checks at once, the probes spread over `span`.
    pub(super) async fn look(&self, span: Duration) -> Vec<Sample> {
        let (mut front, checks) = tokio::join!(
            self.probe_front_door(span),
            self.run_checks(&self.inputs.checks.checks)
        );
        front.extend(checks);
        front
    }

    /// Each probe leaves at its own time whether or not the one before was answered: a front door
    /// that hangs must not be asked less often.
    async fn probe_front_door(&self, span: Duration) -> Vec<Sample> {
        let Some(url) = &self.inputs.verify_url else {
            return Vec::new();
        };
        let mut request = Request::get(url.0.clone())
            .repeat(Repeat::Never)
            .within(self.inputs.request_timeout);
        if let Some(host) = &self.inputs.verify_host {
            request = request.header(header::HOST, host.clone());
        }
        let begin = Instant::now();
        let every = Duration::from_secs(1) / self.inputs.verify_rate;
        let count = probes_in(span, every);
        stream::iter(0..count)
            .map(|index| {
                let request = &request;
                async move {
                    tokio::time::sleep_until(begin + every * index).await;
                    let answer = probe_url(self.http, request).await;
                    self.sample(answer, |answer| {
                        let status = StatusCode::from_u16(answer.status);
                        let is_good = status
                            .is_ok_and(|status| status.is_success() || status.is_redirection());
                        if !is_good {
                            return Err(format!("front door: status {}", answer.status));
                        }
                        let version = self.version.of(&answer.headers);
                        match self.version.mismatch(version.as_deref()) {
                            Some(mismatch) => Err(format!("front door: {mismatch}")),
                            None => Ok(()),
                        }
                    })
                }
            })
            .buffer_unordered(usize::try_from(count).unwrap_or(1).max(1))
            .collect()
            .await
    }

    async fn run_checks(&self, checks: &Checks) -> Vec<Sample> {
        let each: Vec<_> = checks.iter().map(|check| self.run_check(check)).collect();
        stream::iter(each).buffered(CONCURRENCY).concat().await
    }

    /// One request for the check; with `each-pod`, one for each ready pod.
    async fn run_check(&self, check: &Check) -> Vec<Sample> {
        let deadline = Deadline::after(self.inputs.request_timeout + Duration::from_secs(5));
        let judged = |answer: Result<Answer, String>| {
            self.sample(answer, |answer| judge(check, self.version, answer))
        };
        let is_per_pod = check.each_pod.unwrap_or(self.inputs.checks.each_pod);
        let target = match check.target.in_cluster() {
            Some((target, _)) if is_per_pod => target,
            Some(_) | None => {
                let answer = probe(self.cluster, self.http, check, 0, deadline).await;
                return vec![judged(answer)];
            }
        };
        let pods = match self.cluster.pod_ports(target, deadline).await {
            Ok(pods) => pods,
            Err(error) => return vec![judged(Err(error.to_string()))],
        };
        let each = pods.iter().map(|pod| probe_pod(self.cluster, check, pod));
        let each: Vec<_> = each.collect();
        let answers: Vec<_> = stream::iter(each).buffered(CONCURRENCY).collect().await;
        answers.into_iter().map(judged).collect()
    }

    fn sample(
        &self,
        answer: Result<Answer, String>,
        judge: impl FnOnce(&Answer) -> Result<(), String>,
    ) -> Sample {
        match answer {
            Ok(answer) => Sample {
                version: self.version.of(&answer.headers),
                problem: judge(&answer).err(),
            },
            Err(problem) => Sample {
                version: None,
                problem: Some(problem),
            },
        }
    }
}

/// How many probes leave within `span` when one leaves `every` so often; never none.
fn probes_in(span: Duration, every: Duration) -> u32 {
    let count = span.as_nanos() / every.as_nanos().max(1);
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_fill_their_span_and_there_is_always_one() {
        let every = Duration::from_millis(200);
        assert_eq!(probes_in(Duration::from_secs(5), every), 25);
        assert_eq!(probes_in(Duration::from_millis(10), every), 1);
    }
}
