//! The inputs of `health-wait`, and nothing but their declaration and their types.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use switchyard_cluster::workloads::{SelectorError, WorkloadRef, parse_selector};
use switchyard_http::HeaderName;
use switchyard_runner::{DeploymentArgs, List, values};

use crate::forward::ForwardSpec;
use switchyard_health::checks::Checks;

/// Waits until a version is healthy, and runs tests against it
#[derive(Debug, Parser)]
pub struct HealthWait {
    #[command(subcommand)]
    pub(crate) command: HealthCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum HealthCommand {
    /// Wait until workloads are rolled out, then until their HTTP checks pass
    Rollout(Box<RolloutInputs>),
    /// Hold port-forwards open while a command of yours runs; its exit code decides
    Forward(Box<ForwardInputs>),
}

/// Which workloads are meant.
#[derive(Debug, Args)]
pub(crate) struct WorkloadInputs {
    /// Workloads, such as `deployment/web`: deployments, statefulsets, daemonsets and jobs
    #[arg(long, default_value = "")]
    pub(crate) workloads: List<WorkloadRef>,
    /// Label selector for deployments, statefulsets and daemonsets
    #[arg(long)]
    pub(crate) selector: Option<Selector>,
    /// Restarts that a container may show since the step began
    #[arg(long, default_value = "0")]
    pub(crate) max_restarts: u32,
    /// Lines of a failed container's log to show; `0` shows none
    ///
    /// They are shown fenced, in the log and in the summary, and go nowhere else.
    #[arg(long, default_value = "20")]
    pub(crate) log_lines: u16,
}

/// What HTTP checks have in common.
#[derive(Debug, Args)]
pub(crate) struct CheckInputs {
    /// HTTP checks, as a YAML list
    ///
    /// Each has a `target` (a URL, or `service|deployment|statefulset|daemonset|pod/NAME:PORT/PATH`,
    /// which is reached through the API server) and may have `name`, `method`, `headers`, `status` (a
    /// number, a list, or such as `2xx`; default 200), `json` (paths such as `checks.db.status` with
    /// their values), `body` (a text that must occur), `max-time` (default 5s), `version-header`,
    /// `version`, `successes` (in a row, default 1), `attempts` (default 10), `interval` (default 3s)
    /// and `each-pod`. A list item may be just a target. They run in the order given.
    #[arg(long, default_value = "[]")]
    pub(crate) checks: Checks,
    /// Make every check of a service or workload pass on each of its ready pods
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) each_pod: bool,
    /// Response header that carries the version
    #[arg(long, default_value = "x-version")]
    pub(crate) version_header: HeaderName,
    /// Version that must answer
    #[arg(long)]
    pub(crate) expect_version: Option<String>,
}

/// Inputs of `rollout`.
#[derive(Debug, Args)]
pub(crate) struct RolloutInputs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    #[command(flatten)]
    pub(crate) workloads: WorkloadInputs,
    #[command(flatten)]
    pub(crate) checks: CheckInputs,
    /// Most time for everything together
    #[arg(long, default_value = "5m", value_parser = limit)]
    pub(crate) timeout: Duration,
    /// How long to wait between the end of the rollout and the first check
    #[arg(long, default_value = "30s", value_parser = values::duration)]
    pub(crate) start_delay: Duration,
    /// Requests to send to each new pod before it gets traffic, after the checks have passed
    ///
    /// They go to the paths of the checks that have a target in the cluster, in turn.
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) warm_up: u32,
}

/// Inputs of `forward`.
#[derive(Debug, Args)]
pub(crate) struct ForwardInputs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// What to forward, such as `api=service/api-green:http`
    ///
    /// The command finds the address in `API_URL`, `API_ADDRESS`, `API_HOST` and `API_PORT`. Without a
    /// name the object's own is taken.
    #[arg(long)]
    pub(crate) forwards: List<ForwardSpec>,
    /// Command to run, as a bash script
    #[arg(long)]
    pub(crate) run: String,
    /// Most time for the command
    #[arg(long, default_value = "10m", value_parser = limit)]
    pub(crate) timeout: Duration,
    /// Let the command use the kubeconfig
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) pass_kubeconfig: bool,
}

/// A duration that bounds something: zero would mean never.
fn limit(text: &str) -> Result<Duration, String> {
    let duration = values::duration(text)?;
    if duration.is_zero() {
        return Err("must be longer than 0".to_owned());
    }
    Ok(duration)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_holds_together() {
        use clap::CommandFactory;
        HealthWait::command().debug_assert();
    }
}
