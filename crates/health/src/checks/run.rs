//! Sends the requests of a check until it passes or its attempts are used up.
//! It refuses to know what happens when a check fails.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, header};
use http_body_util::Full;
use serde::Serialize;
use switchyard_cluster::port_forward::PodPort;
use switchyard_cluster::{Cluster, Deadline, with_causes};
use switchyard_http::{Client, Repeat};
use switchyard_runner::{Console, values};

use super::{Answer, Check, CheckTarget, judge};
use crate::version::VersionRule;

/// Pods checked at the same time.
const CONCURRENCY: usize = 8;

/// What came of one check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// Its name.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// What was seen, or why it failed.
    pub detail: String,
    /// Requests sent.
    pub attempts: u32,
    /// Pods that passed, for checks that look at pods.
    pub pods: Vec<String>,
    /// How long it took.
    pub elapsed_ms: u128,
}

/// What a check needs to be carried out.
#[derive(Clone, Copy)]
pub struct Checker<'step> {
    /// The cluster.
    pub cluster: &'step Cluster,
    /// The client for URLs.
    pub http: &'step Client,
    /// Where progress is told.
    pub console: &'step Console,
    /// Which version must answer.
    pub version: &'step VersionRule,
    /// Whether each pod must pass unless a check says otherwise.
    pub each_pod: bool,
    /// When to give up.
    pub deadline: Deadline,
}

/// What one place (a URL, a pod) made of a check.
struct Place {
    name: String,
    passed: bool,
    detail: String,
    attempts: u32,
}

impl Checker<'_> {
    /// Carries out one check.
    pub async fn run(&self, check: &Check) -> CheckReport {
        let started = Instant::now();
        let is_per_pod = check.each_pod.unwrap_or(self.each_pod);
        let places = match check.target.in_cluster() {
            Some((target, _)) if is_per_pod => {
                let found = self.cluster.pod_ports(target, self.deadline).await;
                match found {
                    Ok(pods) => self.run_on_each(check, pods).await,
                    Err(error) => vec![failed_place(&check.name, error.to_string())],
                }
            }
            Some(_) | None => vec![self.run_anywhere(check).await],
        };
        let attempts = places.iter().map(|place| place.attempts).sum();
        let failed = places.iter().find(|place| !place.passed);
        let pods = places.iter().filter(|place| is_per_pod && place.passed);
        CheckReport {
            name: check.name.clone(),
            passed: failed.is_none(),
            detail: match failed {
                Some(place) if is_per_pod => format!("{}: {}", place.name, place.detail),
                Some(place) => place.detail.clone(),
                None => places
                    .first()
                    .map_or_else(String::new, |place| place.detail.clone()),
            },
            attempts,
            pods: pods.map(|place| place.name.clone()).collect(),
            elapsed_ms: started.elapsed().as_millis(),
        }
    }

    async fn run_on_each(&self, check: &Check, pods: Vec<PodPort>) -> Vec<Place> {
        stream::iter(pods)
            .map(|pod| async move {
                let name = pod.pod.clone();
                self.repeat(check, &name, |_| {
                    let pod = pod.clone();
                    async move { probe_pod(self.cluster, check, &pod).await }
                })
                .await
            })
            .buffered(CONCURRENCY)
            .collect()
            .await
    }

    /// Any ready pod will do, another one each time: a Service would choose no better.
    async fn run_anywhere(&self, check: &Check) -> Place {
        let name = check.target.to_string();
        self.repeat(check, &name, |attempt| async move {
            probe(self.cluster, self.http, check, attempt, self.deadline).await
        })
        .await
    }

    async fn repeat<F, Fut>(&self, check: &Check, name: &str, send: F) -> Place
    where
        F: Fn(u32) -> Fut,
        Fut: Future<Output = Result<Answer, String>>,
    {
        let mut in_a_row = 0;
        let mut problem = "no time was left to try".to_owned();
        for attempt in 0..check.attempts {
            if attempt > 0 {
                let pause = check.interval.min(self.deadline.remaining());
                tokio::time::sleep(pause).await;
            }
            if self.deadline.has_passed() {
                problem = format!("{problem} (time is up)");
                return place(name, false, problem, attempt);
            }
            let answer = send(attempt).await;
            let verdict =
                answer.and_then(|answer| judge(check, self.version, &answer).map(|()| answer));
            match verdict {
                Ok(answer) => {
                    in_a_row += 1;
                    if in_a_row == check.successes {
                        let detail = describe(&answer, self.version);
                        return place(name, true, detail, attempt + 1);
                    }
                }
                Err(reason) => {
                    in_a_row = 0;
                    if reason != problem {
                        self.console.progress(format_args!(
                            "check `{}`, {name}: {reason} (attempt {} of {})",
                            check.name,
                            attempt + 1,
                            check.attempts
                        ));
                    }
                    problem = reason;
                }
            }
        }
        place(name, false, problem, check.attempts)
    }
}

fn place(name: &str, passed: bool, detail: String, attempts: u32) -> Place {
    Place {
        name: name.to_owned(),
        passed,
        detail,
        attempts,
    }
}

fn failed_place(name: &str, problem: String) -> Place {
    place(name, false, problem, 0)
}

fn describe(answer: &Answer, version: &VersionRule) -> String {
    let by = version.of(&answer.headers);
    let by = by.map_or(String::new(), |version| format!(" from {version}"));
    let elapsed = values::show_duration(Duration::from_millis(
        u64::try_from(answer.elapsed.as_millis()).unwrap_or(u64::MAX),
    ));
    format!("status {}{by} in {elapsed}", answer.status)
}

/// Sends one request of a check to its URL, or to one of its ready pods.
///
/// # Errors
/// Words for why there is no answer.
pub async fn probe(
    cluster: &Cluster,
    http: &Client,
    check: &Check,
    attempt: u32,
    deadline: Deadline,
) -> Result<Answer, String> {
    let target = match &check.target {
        CheckTarget::Url(_) => return probe_outside(http, check).await,
        CheckTarget::InCluster { target, .. } => target,
    };
    let pods = cluster.pod_ports(target, deadline.at_most(Duration::from_secs(15)));
    let pods = pods.await.map_err(|error| error.to_string())?;
    let choice = usize::try_from(attempt).unwrap_or(0) % pods.len().max(1);
    match pods.get(choice) {
        Some(pod) => probe_pod(cluster, check, pod).await,
        None => Err("no pod is ready".to_owned()),
    }
}

/// Sends one request of a check to its URL, where it has one.
///
/// # Errors
/// Words for why there is no answer.
pub async fn probe_outside(http: &Client, check: &Check) -> Result<Answer, String> {
    let CheckTarget::Url(url) = &check.target else {
        return Err("the check has no URL".to_owned());
    };
    let mut request = switchyard_http::Request::new(check.method.clone(), url.clone())
        .repeat(Repeat::Never)
        .within(check.max_time);
    for (name, value) in &check.headers {
        request = request.header(name.clone(), value.clone());
    }
    probe_url(http, &request).await
}

/// Sends a request to a URL and takes its time.
///
/// # Errors
/// Words for why there is no answer.
pub async fn probe_url(
    http: &Client,
    request: &switchyard_http::Request,
) -> Result<Answer, String> {
    let started = Instant::now();
    let response = http.send(request).await;
    let response = response.map_err(|error| with_causes(&error))?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.body().clone(),
        elapsed: started.elapsed(),
    })
}

/// Sends one request of a check to a pod, through the API server.
///
/// # Errors
/// Words for why there is no answer.
pub async fn probe_pod(cluster: &Cluster, check: &Check, pod: &PodPort) -> Result<Answer, String> {
    let Some((target, path)) = check.target.in_cluster() else {
        return Err("the check has no target in the cluster".to_owned());
    };
    let mut request = Request::builder()
        .method(check.method.clone())
        .uri(path)
        .header(header::HOST, host_of(target))
        .header(header::USER_AGENT, "switchyard")
        .header(header::CONNECTION, "close");
    for (name, value) in &check.headers {
        request = request.header(name.clone(), value.clone());
    }
    let request = request
        .body(Full::<Bytes>::default())
        .map_err(|error| error.to_string())?;
    let started = Instant::now();
    let response = cluster.http_through_pod(pod, request, check.max_time).await;
    let response = response.map_err(|error| with_causes(&error))?;
    let (parts, body) = response.into_parts();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
        elapsed: started.elapsed(),
    })
}

/// The name under which clients inside the cluster reach the target.
fn host_of(target: &switchyard_cluster::port_forward::ForwardTarget) -> String {
    let object = target.object.to_string();
    object.rsplit('/').next().unwrap_or("localhost").to_owned()
}
