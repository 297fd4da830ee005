//! The inputs of `traffic-switch`, and nothing but their declaration and their types.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use switchyard_http::{DisplaySafeUrl, HeaderName, HeaderValue};
use switchyard_record::Side;
use switchyard_runner::{DeploymentArgs, List, values};
use switchyard_traffic::evidence::Level;
use switchyard_traffic::proxies::ProxySource;
use switchyard_traffic::roles::Target;
use switchyard_traffic::share::Percent;

use crate::servers::inputs::{ServersInputs, WeightsInputs};

/// Moves traffic to another version without losing a request, and back
#[derive(Debug, Parser)]
pub struct TrafficSwitch {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Move traffic to the new side, all at once or in steps
    Switch(Box<SwitchInputs>),
    /// Show where traffic goes; reads the targets and the record, and nothing else
    Status(Box<StatusInputs>),
    /// Move traffic back to the side that had it before
    Rollback(Box<RollbackInputs>),
    /// Take this run's own deployment back, if a step of it failed, was cancelled or died
    Rescue(Box<RescueInputs>),
    /// Update servers behind HAProxy one after the other, without losing a request
    Servers(Box<ServersInputs>),
    /// Give servers behind HAProxy a share of the traffic by their weights, or the configured weights back
    ServerWeights(Box<WeightsInputs>),
}

/// How it is verified that a write is in effect.
#[derive(Debug, Args)]
pub(crate) struct ProofInputs {
    /// Where every Traefik replica answers its API
    ///
    /// A URL for each replica, or `NAMESPACE/KIND/NAME:PORT` (kind service, deployment or daemonset):
    /// all ready pods behind it are asked through port-forwards, for which the deployer needs the rights
    /// of `docs/rbac/proxies.yaml` in that namespace.
    #[arg(long, default_value = "")]
    pub(crate) traefik_api: List<ProxySource>,
    /// Where every Traefik replica answers `/metrics`; as `traefik-api` when it is not given
    #[arg(long, default_value = "")]
    pub(crate) traefik_metrics: List<ProxySource>,
    /// Where the admin API of every Envoy answers that sends this traffic in an Istio mesh, in the forms
    /// of `traefik-api`
    ///
    /// The ingress gateways, such as `istio-system/deployment/istio-ingressgateway:15000`: they must show
    /// the weights and healthy endpoints of `istio` targets, and they tell what is in flight. Without it
    /// the data plane of these targets is unverifiable.
    #[arg(long, default_value = "")]
    pub(crate) envoy_admin: List<ProxySource>,
    /// Where the status server of every ingress-nginx controller answers, in the forms of `traefik-api`
    ///
    /// Such as `ingress-nginx/deployment/ingress-nginx-controller:10246`, which answers inside its pod only:
    /// every controller must show the weight and the endpoints of `nginx` targets. Without it `traefik-api` is
    /// asked for Traefik's reading of the same annotations (`kubernetesIngressNGINX`), and the evidence says
    /// which of the two confirmed. What is in flight only Traefik tells.
    #[arg(long, default_value = "")]
    pub(crate) nginx_status: List<ProxySource>,
    /// Where every kube-proxy answers `/metrics`, in the forms of `traefik-api`, or `none`
    ///
    /// `none` says that nobody reaches the targets through kube-proxy. Without it the pods of
    /// `kube-system/daemonset/kube-proxy` are tried, and a kube-proxy that cannot be asked makes the
    /// data plane of `service` targets unverifiable.
    #[arg(long)]
    pub(crate) kube_proxy_metrics: Option<KubeProxyInput>,
    /// URL behind the front door, probed before, during and after the switch
    #[arg(long)]
    pub(crate) verify_url: Option<Url>,
    /// Host header of the probes, where it is not the host of `verify-url`
    ///
    /// For a front door that is asked by address and chooses the route by its Host header.
    #[arg(long)]
    pub(crate) verify_host: Option<HeaderValue>,
    /// Probes a second
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) verify_rate: u32,
    /// Response header that carries the version
    #[arg(long, default_value = "x-version")]
    pub(crate) version_header: HeaderName,
    /// Version that must answer after the switch; the record's when it is not given
    #[arg(long)]
    pub(crate) expect_version: Option<String>,
    /// Evidence without which the step fails and traffic goes back
    ///
    /// `none`, `endpoints` (EndpointSlices equal the pods), `data-plane` (every proxy shows them) or
    /// `front-door` (probes answered by the right version). `front-door` when `verify-url` and a
    /// version to expect are known, else `endpoints`.
    #[arg(long, value_enum)]
    pub(crate) require_verified: Option<Level>,
    /// The longest that a request takes; the old side is quiet when none has ended for so long
    #[arg(long, default_value = "30s", value_parser = values::duration)]
    pub(crate) longest_request: Duration,
    /// The longest that any one wait may take
    #[arg(long, default_value = "2m", value_parser = limit)]
    pub(crate) timeout: Duration,
}

/// Inputs of `switch`.
#[derive(Debug, Args)]
pub(crate) struct SwitchInputs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Front objects to switch, all or none
    ///
    /// `service/NAME` (its selector), `traefik/NAME` (a TraefikService), `gateway/NAME` (an HTTPRoute),
    /// `istio/NAME` (a VirtualService whose destinations are the sides' Services, or the subsets `blue` and
    /// `green`, `stable` and `canary` of one) or `nginx/NAME` (the canary
    /// Ingress beside a main one: its `canary-weight` is switched). `:BASE` after the name when the Services of
    /// the sides are not called like the front object, and `:BASE:PORT` when their port is not the one in the
    /// route.
    #[arg(long)]
    pub(crate) targets: List<Target>,
    /// Side that is to get the traffic, or `auto` for the one that the record names
    ///
    /// In a canary deployment `canary` gets its shares, one step after the other, and `stable` takes
    /// over from it once `rollout promote` has updated the main workload.
    #[arg(long, default_value = "auto")]
    pub(crate) to: ToSide,
    /// Percentage of the traffic that the new side is to get
    #[arg(long)]
    pub(crate) weight: Option<Percent>,
    /// Rising percentages to go through, such as `10,50,100`
    #[arg(long, default_value = "")]
    pub(crate) steps: List<Percent>,
    /// How long each step but the last is held and watched
    #[arg(long, default_value = "0s", value_parser = values::duration)]
    pub(crate) hold: Duration,
    /// Ready pods that all of the traffic needs, instead of as many as the old side has
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) min_ready: Option<u32>,
    #[command(flatten)]
    pub(crate) proof: ProofInputs,
    /// What becomes of the new side when traffic has gone back
    #[command(flatten)]
    pub(crate) after: AfterInputs,
    /// Print the patches and checks, and change nothing
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) plan: bool,
}

/// What becomes of the new side when traffic has gone back.
#[derive(Debug, Args)]
pub(crate) struct AfterInputs {
    /// Scale the new side to 0 once traffic is back and it is quiet
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) scale_new_down: bool,
}

/// Inputs of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusInputs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Front objects to show, in the forms of `switch`; those of the record when none is given
    #[arg(long, default_value = "")]
    pub(crate) targets: List<Target>,
}

/// Inputs of `rollback`.
#[derive(Debug, Args)]
pub(crate) struct RollbackInputs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Front objects to move back, in the forms of `switch`; those of the record when none is given
    #[arg(long, default_value = "")]
    pub(crate) targets: List<Target>,
    #[command(flatten)]
    pub(crate) proof: ProofInputs,
    #[command(flatten)]
    pub(crate) after: AfterInputs,
    /// Field managers whose writes of a route are overwritten, as the refusal names them
    ///
    /// What somebody else has written since is left alone otherwise, and named. A controller that writes it again
    /// stops the rollback as before: let it go first.
    #[arg(long, default_value = "")]
    pub(crate) overrule: List<String>,
    /// Why, for the record and for the run that is told to stop
    #[arg(long, default_value = "a rollback was ordered")]
    pub(crate) reason: String,
    /// Print what would be done, and change nothing
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) plan: bool,
}

/// Inputs of `rescue`.
#[derive(Debug, Args)]
pub(crate) struct RescueInputs {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    #[command(flatten)]
    pub(crate) proof: ProofInputs,
    #[command(flatten)]
    pub(crate) after: AfterInputs,
    /// Fail when no record tells of a deployment of this run
    ///
    /// The record lives in the namespace, so a wrong `namespace` or cluster looks as if nothing had been
    /// begun, while traffic may stand half moved elsewhere. Say `true` wherever something outlives a dead
    /// runner and tells that a deployment was begun, such as the artifact of its backup; a `deployment-id`
    /// says as much. Without either, a run that failed before its first step has nothing to do, which is
    /// no failure.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) expect_deployment: bool,
    /// Why, for the record
    #[arg(long, default_value = "the run did not come to its end")]
    pub(crate) reason: String,
}

/// Which side is to get the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToSide {
    /// The one that the record names.
    Auto,
    /// This one.
    Side(Side),
}

impl FromStr for ToSide {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            other => match other.parse::<Side>() {
                Ok(side) => Ok(Self::Side(side)),
                Err(_) => Err(
                    "allowed are `auto`, `blue`, `green`, `stable`, `canary` and `unslotted`"
                        .to_owned(),
                ),
            },
        }
    }
}

/// Where kube-proxies are asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KubeProxyInput {
    /// Nowhere: they are not in the way.
    Bypassed,
    /// At these places.
    At(List<ProxySource>),
}

impl FromStr for KubeProxyInput {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "none" => Ok(Self::Bypassed),
            other => other.parse().map(Self::At),
        }
    }
}

/// A URL that may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url(pub(crate) DisplaySafeUrl);

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        DisplaySafeUrl::parse(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

/// A time limit: at least a second.
pub(crate) fn limit(text: &str) -> Result<Duration, String> {
    match values::duration(text)? {
        short if short < Duration::from_secs(1) => Err("at least 1s".to_owned()),
        long => Ok(long),
    }
}
