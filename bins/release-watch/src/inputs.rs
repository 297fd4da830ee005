//! The inputs of `release-watch`, and nothing but their declaration and their types; `plan` gives them their meaning.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use switchyard_cluster::workloads::{SelectorError, WorkloadRef, parse_selector};
use switchyard_http::{DisplaySafeUrl, HeaderName, HeaderValue, InvalidUrl};
use switchyard_record::Side;
use switchyard_runner::secret::SECRET;
use switchyard_runner::{DeploymentArgs, List, Secret, values};
use switchyard_verdict::{Policy, Thresholds};

use crate::presets::Subject;
use crate::written::WrittenChecks;

/// Watches a version under traffic, compares it with the old one, and says whether it may stay
#[derive(Debug, Parser)]
pub struct ReleaseWatch {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Workloads to watch, such as `deployment/web`: deployments, statefulsets and daemonsets
    ///
    /// Where the deployment's record says that the old side shares the traffic, its workloads are watched as well: one
    /// that has no ready pod any more fails the watch at once.
    #[arg(long, default_value = "")]
    pub(crate) workloads: List<WorkloadRef>,
    /// Label selector for deployments, statefulsets and daemonsets to watch
    #[arg(long)]
    pub(crate) selector: Option<Selector>,
    /// Side whose workloads are meant: `blue`, `green`, `canary`, `stable` or `unslotted`
    ///
    /// With `canary`, `deployment/web` means `deployment/web-canary`, as the sides' objects are named.
    #[arg(long)]
    pub(crate) side: Option<Side>,
    /// Restarts that a container may show since the start
    #[arg(long, default_value = "0")]
    pub(crate) max_restarts: u32,
    /// Lines of a failed container's log to show; `0` shows none
    #[arg(long, default_value = "20")]
    pub(crate) log_lines: u16,

    /// Checks, as a YAML list: HTTP checks, queries of one number, and counts of requests
    ///
    /// An HTTP check has a `target` and what `health-wait` knows besides; each ready pod behind it is asked at every
    /// look. A query has `name` and `query` (PromQL that gives one number), and may have `baseline` (the same of the
    /// old side), `max`, `min` (such as `500ms`, `80%`, `1000`) and `tolerance` (how many times the baseline's). Counts
    /// have `name`, `requests` and `errors` (selectors of counters, such as `http_requests_total{code=~"5.."}`), and may
    /// have `baseline-requests`, `baseline-errors`, `max` (a share, `1%`), `min-requests` and `tolerance`. All may
    /// have `concern` (`health`, `errors`, `performance`, `capacity`, `queue`, `business`), `critical`, `action`,
    /// `consecutive`, `no-data`, `on-error`, and the `item` of the checklist that they see with its `window` (`0-5`,
    /// `5-30`, `30+`).
    #[arg(long, default_value = "[]")]
    pub(crate) checks: WrittenChecks,
    /// Queries that come ready-made, for what `canary` and `baseline` name
    #[arg(long, default_value = "")]
    pub(crate) preset: List<Preset>,
    /// What the presets watch, as their metrics call it: the new side's Service, workload or backend
    ///
    /// The Service for `traefik` and `nginx`, the workload for `istio` and `resources`, `PROXY` or `PROXY/SERVER` for
    /// `haproxy`, the version for `application`, the queue for `queue`. When it is not given: `application` with
    /// `side`, or for the preset `application` the `expect-version`.
    #[arg(long)]
    pub(crate) canary: Option<Subject>,
    /// What the presets compare it with, named in the same way; nothing is compared without it
    ///
    /// For the preset `application`, `baseline-version` when it is not given.
    #[arg(long)]
    pub(crate) baseline: Option<Subject>,
    /// Matchers that every query of a preset gets, such as `cluster="eu-1",job="shop"`
    #[arg(long)]
    pub(crate) matchers: Option<String>,
    /// Metric of the preset `queue`
    #[arg(long, default_value = "rabbitmq_queue_messages")]
    pub(crate) queue_metric: String,

    /// Which action follows from a check that fails
    #[arg(long, value_enum, default_value = "canary")]
    pub(crate) thresholds: ThresholdChoice,
    /// Deployment or StatefulSet that gets more pods when they are needed, such as `deployment/web`
    ///
    /// Up to `max-replicas`, `scale-up-step` at a time, and never before those of the last time are ready. Where an
    /// autoscaler owns its size it is left to it, and that is told. `side` as with `workloads`.
    #[arg(long)]
    pub(crate) scale_up: Option<WorkloadRef>,
    /// Most pods that `scale-up` gives
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_replicas: Option<u16>,
    /// Pods that `scale-up` adds each time
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) scale_up_step: u16,
    /// Command to run instead when more pods are needed, as a bash script; without either, that is only told
    ///
    /// It finds the check's name in `CHECK` and what was measured in `REASON`, and is given `hook-timeout`.
    #[arg(long)]
    pub(crate) scale_up_run: Option<String>,
    /// How often more pods are asked for at most
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) max_scale_ups: u32,
    /// Command to run instead of taking traffic back when a queue is too long, as a bash script
    ///
    /// It runs once. Where it fails, or the check fails again afterwards, the step ends and says `circuit-break`.
    #[arg(long)]
    pub(crate) circuit_break_run: Option<String>,
    /// Most time for a command of yours
    #[arg(long, default_value = "5m", value_parser = limit)]
    pub(crate) hook_timeout: Duration,
    /// Where both sides share the traffic: send all of it back as soon as the verdict rolls back, by this step
    ///
    /// It writes the routes that the deployment's record names, under its lease, and asks no proxy. `traffic-switch
    /// rescue` has to follow as it does otherwise: it confirms what was written, or does what could not be.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) leave_at_once: bool,
    /// Share of requests that may fail, such as `1%`
    #[arg(long, default_value = "1%")]
    pub(crate) max_error_rate: Share,
    /// Longest 95th percentile (p95) of latency
    #[arg(long, default_value = "500ms", value_parser = limit)]
    pub(crate) max_p95: Duration,
    /// Largest share of the CPU limit, for the preset `resources`
    #[arg(long, default_value = "80%")]
    pub(crate) max_cpu: Share,
    /// Largest share of the memory limit, for the preset `resources`
    #[arg(long, default_value = "90%")]
    pub(crate) max_memory: Share,
    /// Longest queue, for the preset `queue`
    #[arg(long, default_value = "1000")]
    pub(crate) max_queue: u64,
    /// How many times the baseline's latency is tolerated
    #[arg(long, default_value = "1.2", value_parser = times)]
    pub(crate) latency_tolerance: f64,
    /// How many times the baseline's odds of failing are tolerated
    #[arg(long, default_value = "1", value_parser = times)]
    pub(crate) error_tolerance: f64,
    /// Requests that are needed before rates and latencies are judged
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) min_requests: u64,
    /// Breaches in a row before a bound of a number counts as broken
    ///
    /// Health fails at once, and tests of rates and latencies are certain when they say so.
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) consecutive: u32,
    /// What to do where there is no data: wait until the end and fail then, fail at once, or ignore it
    #[arg(long, value_enum, default_value = "wait")]
    pub(crate) no_data: PolicyChoice,
    /// What to do where a measurement fails: wait until the end, fail at once, or ignore it
    #[arg(long, value_enum, default_value = "wait")]
    pub(crate) on_error: PolicyChoice,
    /// Errors of one check in a row that end the watch, because nothing can be judged
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_errors: u32,

    /// Keep a checklist of the first hour: what is to be looked at in minutes 0–5, 5–30 and from 30 on
    ///
    /// Checks see its items, by their concern or by the `item` that they name; the others are for a person. It is told
    /// in the summary and kept in the deployment's record, where a later run of this step goes on from it.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) checklist: bool,
    /// Items of the checklist that a person has looked at and found good
    #[arg(long, default_value = "")]
    pub(crate) checked: List<String>,
    /// How long to watch
    #[arg(long, default_value = "45m", value_parser = limit)]
    pub(crate) duration: Duration,
    /// Time between two looks; what a watch of the cluster reports is looked at at once
    #[arg(long, default_value = "60s", value_parser = limit)]
    pub(crate) interval: Duration,

    /// Base URL of Prometheus, or of what speaks its API
    #[arg(long)]
    pub(crate) prometheus_url: Option<SafeUrl>,
    /// Bearer token for Prometheus
    #[arg(long, value_name = SECRET)]
    pub(crate) prometheus_token: Option<Secret>,
    /// User for Prometheus
    #[arg(long)]
    pub(crate) prometheus_user: Option<String>,
    /// Password for Prometheus
    #[arg(long, value_name = SECRET)]
    pub(crate) prometheus_password: Option<Secret>,
    /// Most time for one query
    #[arg(long, default_value = "10s", value_parser = limit)]
    pub(crate) query_timeout: Duration,
    /// Age from which a sample is stale and so no data
    #[arg(long, default_value = "2m", value_parser = limit)]
    pub(crate) max_age: Duration,
    /// PEM file of certificate authorities to trust besides the system's own
    #[arg(long)]
    pub(crate) extra_ca: Option<PathBuf>,

    /// URL of the front door to probe, as users reach it
    #[arg(long)]
    pub(crate) verify_url: Option<SafeUrl>,
    /// Host header of the probes, where it is not the host of `verify-url`
    #[arg(long)]
    pub(crate) verify_host: Option<HeaderValue>,
    /// Probes of `verify-url` a second, spread evenly
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) verify_rate: u32,
    /// Most time for one request
    #[arg(long, default_value = "5s", value_parser = limit)]
    pub(crate) request_timeout: Duration,
    /// Response header that carries the version
    #[arg(long, default_value = "x-version")]
    pub(crate) version_header: HeaderName,
    /// The new version: its answers at the front door are compared with those of the others
    #[arg(long)]
    pub(crate) expect_version: Option<String>,
    /// Whether the new version has all of the traffic, so that an answer of another one counts as failed
    ///
    /// Nothing is compared then at the front door: there is no other version to compare with.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) all_traffic: bool,
    /// The old version, where not every other one is it
    #[arg(long)]
    pub(crate) baseline_version: Option<String>,

    /// Folder for the samples and the chart; one below `RUNNER_TEMP` when it is not given
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
}

/// Ready-made queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Traefik's metrics of a Service.
    Traefik,
    /// Istio's metrics of a workload.
    Istio,
    /// ingress-nginx' metrics of a canary and its main Service.
    Nginx,
    /// HAProxy's own exporter.
    Haproxy,
    /// `http_requests_total` and `http_request_duration_seconds` of the application itself.
    Application,
    /// CPU and memory of pods against their limits.
    Resources,
    /// Depth of a queue.
    Queue,
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ValueEnum::from_str(text, false).map_err(|_| {
            let known = Self::value_variants().iter();
            let known = known.filter_map(ValueEnum::to_possible_value);
            let known: Vec<_> = known
                .map(|value| format!("`{}`", value.get_name()))
                .collect();
            format!("is no preset; there are {}", known.join(", "))
        })
    }
}

/// Which action follows from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThresholdChoice {
    /// Whatever fails rolls back.
    Canary,
    /// Health and errors roll back, latency alerts, CPU and memory scale up, a long queue breaks the circuit.
    Runbook,
    /// Health and errors roll back, the rest where it is `critical`.
    Deployment,
}

impl From<ThresholdChoice> for Thresholds {
    fn from(choice: ThresholdChoice) -> Self {
        match choice {
            ThresholdChoice::Canary => Self::Canary,
            ThresholdChoice::Runbook => Self::Runbook,
            ThresholdChoice::Deployment => Self::Deployment,
        }
    }
}

/// What to do with an answer that is neither pass nor fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyChoice {
    /// Wait for a better one; at the end it counts.
    Wait,
    /// A breach at once.
    Fail,
    /// Not judged.
    Ignore,
}

impl From<PolicyChoice> for Policy {
    fn from(choice: PolicyChoice) -> Self {
        match choice {
            PolicyChoice::Wait => Self::Wait,
            PolicyChoice::Fail => Self::Fail,
            PolicyChoice::Ignore => Self::Ignore,
        }
    }
}

/// A duration that bounds something: zero would mean never.
fn limit(text: &str) -> Result<Duration, String> {
    let duration = values::duration(text)?;
    if duration.is_zero() {
        return Err("must be longer than 0".to_owned());
    }
    Ok(duration)
}

fn times(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(times) if (1.0..=100.0).contains(&times) => Ok(times),
        Ok(_) | Err(_) => {
            Err("is a number from 1 (nothing more than the baseline) to 100".to_owned())
        }
    }
}

/// A share between 0 and 1, given as a percentage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share(pub(crate) f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Nothing at all is the same in every unit.
        let percent = match text.strip_suffix('%') {
            None if text == "0" => Some(text),
            percent => percent.map(str::trim),
        };
        match percent.map(str::parse::<f64>) {
            Some(Ok(percent)) if (0.0..=100.0).contains(&percent) => Ok(Self(percent / 100.0)),
            Some(Ok(_) | Err(_)) | None => {
                Err("a share is a percentage from `0%` to `100%`, such as `0.5%`".to_owned())
            }
        }
    }
}

/// A label selector that Kubernetes will accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector(pub(crate) String);

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        parse_selector(text).map(|_| Self(text.to_owned()))
    }
}

/// An `http` or `https` URL that may be shown.
#[derive(Clone, Debug)]
pub(crate) struct SafeUrl(pub(crate) DisplaySafeUrl);

impl FromStr for SafeUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        DisplaySafeUrl::parse(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_holds_together() {
        use clap::CommandFactory;
        ReleaseWatch::command().debug_assert();
    }

    #[test]
    fn a_share_is_a_percentage() {
        assert_eq!("0.5%".parse::<Share>().unwrap(), Share(0.005));
        assert_eq!("100 %".parse::<Share>().unwrap(), Share(1.0));
        assert_eq!("0".parse::<Share>().unwrap(), Share(0.0));
        for nonsense in ["1", "0.01", "-1%", "101%", "NaN%", "%"] {
            assert!(nonsense.parse::<Share>().is_err(), "{nonsense}");
        }
    }
}
