//! One check under way: how its source is measured, and how what comes back becomes a measurement.

use std::time::Duration;

use futures::{StreamExt, stream};
use switchyard_cluster::{Cluster, Deadline};
use switchyard_health::checks::{self, Answer, judge, probe_pod};
use switchyard_health::version::VersionRule;
use switchyard_http::Client;
use switchyard_prometheus::{Counter, Series};
use switchyard_verdict::{Check, Count, Failing, Judgement, Measurement};

use crate::ask::{Asker, Trouble};
use crate::plan::{Planned, Source};
use crate::written::Counters;

/// Pods asked at the same time.
const CONCURRENCY: usize = 8;
/// A request that fails is sent once more after this: a lost packet is no sick pod.
const SECOND_TRY: Duration = Duration::from_secs(1);

/// A check under way.
pub(crate) struct Running {
    pub(crate) planned: Planned,
    pub(crate) check: Check,
    counters: [Counter; 4],
}

/// What a source gave, before it is compared with what it gave at the last look.
pub(crate) enum Raw {
    /// A measurement as it is.
    Measured(Measurement),
    /// The series of requests and errors, and those of the baseline.
    Counters {
        canary: [Vec<Series>; 2],
        baseline: Option<[Vec<Series>; 2]>,
    },
}

/// What measuring needs.
#[derive(Clone, Copy)]
pub(crate) struct Means<'run> {
    pub(crate) cluster: Option<&'run Cluster>,
    pub(crate) http: &'run Client,
    pub(crate) asker: Option<&'run Asker>,
    pub(crate) version: &'run VersionRule,
    pub(crate) limit: Duration,
}

impl Running {
    /// A check that has seen nothing.
    pub(crate) fn new(planned: Planned, alpha: f64) -> Self {
        Self {
            check: Check::new(
                planned.rule.clone(),
                planned.consecutive,
                planned.policies,
                alpha,
            ),
            counters: Default::default(),
            planned,
        }
    }

    /// Takes what its source gave. Of counters the first look only says where they begin.
    pub(crate) fn take(&mut self, raw: Raw) -> Option<(Measurement, Judgement)> {
        let measurement = match raw {
            Raw::Measured(measurement) => measurement,
            Raw::Counters { canary, baseline } => self.grown(canary, baseline)?,
        };
        let judgement = self.check.look(&measurement);
        Some((measurement, judgement))
    }

    fn grown(
        &mut self,
        canary: [Vec<Series>; 2],
        baseline: Option<[Vec<Series>; 2]>,
    ) -> Option<Measurement> {
        let is_empty = canary[0].is_empty();
        let [requests, errors, base_requests, base_errors] = &mut self.counters;
        let [canary_requests, canary_errors] = canary;
        let requests = requests.grown(&canary_requests);
        let errors = errors.grown(&canary_errors);
        let baseline = baseline.map(|[requests, errors]| {
            let (requests, errors) = (base_requests.grown(&requests), base_errors.grown(&errors));
            Count::new(requests.unwrap_or(0), errors.unwrap_or(0))
        });
        if is_empty {
            return Some(Measurement::NoData(
                "no series of requests was found".to_owned(),
            ));
        }
        let canary = Count::new(requests?, errors.unwrap_or(0));
        Some(Measurement::Counts { canary, baseline })
    }

    /// As one of the checks that fail, for the decision.
    pub(crate) fn failing(&self) -> Option<Failing> {
        self.check.is_failing().then(|| self.as_failing())
    }

    /// As one that fails, whether or not it does.
    pub(crate) fn as_failing(&self) -> Failing {
        Failing {
            name: self.planned.name.clone(),
            concern: self.planned.concern,
            is_critical: self.planned.is_critical,
            action: self.planned.action,
        }
    }
}

impl Means<'_> {
    /// Asks the counters of a check.
    pub(crate) async fn counters(&self, canary: &Counters, baseline: Option<&Counters>) -> Raw {
        let both = async {
            let canary = self.both(canary).await?;
            let baseline = match baseline {
                Some(baseline) => Some(self.both(baseline).await?),
                None => None,
            };
            Ok((canary, baseline))
        };
        match both.await {
            Ok((canary, baseline)) => Raw::Counters { canary, baseline },
            Err(trouble) => Raw::Measured(told(trouble)),
        }
    }

    async fn both(&self, counters: &Counters) -> Result<[Vec<Series>; 2], Trouble> {
        let asker = self.asker()?;
        // Errors first: a failure between the two is then also among the requests.
        let errors = asker.series(&counters.errors).await?;
        let requests = asker.series(&counters.requests).await?;
        Ok([requests, errors])
    }

    /// Asks for one number, and for the baseline's.
    pub(crate) async fn number(&self, query: &str, baseline: Option<&str>) -> Measurement {
        let both = async {
            let asker = self.asker()?;
            let canary = asker.number(query).await?;
            let baseline = match baseline {
                // A baseline that has nothing to say takes nothing from the limit.
                Some(baseline) => match asker.number(baseline).await {
                    Ok(number) => Some(number),
                    Err(Trouble::NoData(_)) => None,
                    Err(error @ Trouble::Error(_)) => return Err(error),
                },
                None => None,
            };
            Ok((canary, baseline))
        };
        match both.await {
            Ok((canary, baseline)) => Measurement::Value { canary, baseline },
            Err(trouble) => told(trouble),
        }
    }

    fn asker(&self) -> Result<&Asker, Trouble> {
        let missing = || Trouble::Error("`prometheus-url` is not given".to_owned());
        self.asker.ok_or_else(missing)
    }

    /// Sends a check's request to its URL, or to each ready pod behind it.
    pub(crate) async fn http(&self, check: &checks::Check) -> Measurement {
        let Some((target, _)) = check.target.in_cluster() else {
            let send = || checks::probe_outside(self.http, check);
            let answer = self.twice(check, send).await;
            return concluded(vec![(check.target.to_string(), answer)]);
        };
        let Some(cluster) = self.cluster else {
            return Measurement::Error("there is no connection to a cluster".to_owned());
        };
        let deadline = Deadline::after(self.limit);
        let pods = match cluster.pod_ports(target, deadline).await {
            Ok(pods) if pods.is_empty() => {
                return Measurement::Unhealthy(format!("no pod behind `{target}` is ready"));
            }
            Ok(pods) => pods,
            Err(error) if error.is_not_found() => {
                return Measurement::Unhealthy(error.to_string());
            }
            Err(error) => return Measurement::Error(error.to_string()),
        };
        let most = if check.each_pod == Some(false) {
            1
        } else {
            pods.len()
        };
        let each = pods.iter().take(most).map(|pod| async move {
            let answer = self.twice(check, || probe_pod(cluster, check, pod)).await;
            (pod.to_string(), answer)
        });
        let each: Vec<_> = each.collect();
        concluded(stream::iter(each).buffered(CONCURRENCY).collect().await)
    }

    async fn twice<F, Fut>(&self, check: &checks::Check, send: F) -> Result<Answer, String>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Answer, String>>,
    {
        let judged = |answer: Result<Answer, String>| {
            let answer = answer?;
            judge(check, self.version, &answer).map(|()| answer)
        };
        match judged(send().await) {
            Ok(answer) => Ok(answer),
            Err(_) => {
                tokio::time::sleep(SECOND_TRY).await;
                judged(send().await)
            }
        }
    }
}

fn concluded(answers: Vec<(String, Result<Answer, String>)>) -> Measurement {
    let asked = answers.len();
    let mut slowest = Duration::ZERO;
    for (place, answer) in &answers {
        match answer {
            Ok(answer) => slowest = slowest.max(answer.elapsed),
            Err(problem) => return Measurement::Unhealthy(format!("{place}: {problem}")),
        }
    }
    Measurement::Healthy(format!(
        "{asked} asked, {asked} good, the slowest in {} ms",
        slowest.as_millis()
    ))
}

fn told(trouble: Trouble) -> Measurement {
    match trouble {
        Trouble::NoData(why) => Measurement::NoData(why),
        Trouble::Error(why) => Measurement::Error(why),
    }
}

/// Measures a source that needs to be asked; pods and the front door are seen elsewhere.
pub(crate) async fn measure(means: Means<'_>, source: &Source) -> Option<Raw> {
    match source {
        Source::Pods(_) | Source::FrontDoor(_) => None,
        Source::Http(check) => Some(Raw::Measured(means.http(check).await)),
        Source::Value { query, baseline } => {
            let measured = means.number(query, baseline.as_deref()).await;
            Some(Raw::Measured(measured))
        }
        Source::Counts { canary, baseline } => {
            Some(means.counters(canary, baseline.as_ref()).await)
        }
    }
}
