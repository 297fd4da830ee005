//! What `switch`, `rollback` and `rescue` have in common: from inputs to an engine, and its run.

use std::sync::Arc;
use std::time::Duration;

use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::actor;
use switchyard_http::{Client, ClientSettings, ProxySettings};
use switchyard_record::{DeploymentRecord, Session, Side};
use switchyard_runner::{Context, Failure};
use switchyard_traffic::engine::{
    Engine, Front, Note, Notes, Parts, Report, Settings, SidePair, scene_of,
};
use switchyard_traffic::evidence::Level;
use switchyard_traffic::machine::{Course, Machine};
use switchyard_traffic::probe::{ProbePlan, Prober};
use switchyard_traffic::proxies::{KubeProxies, Proxies, ProxySource};

use crate::inputs::{KubeProxyInput, ProofInputs};

/// Where kube-proxy runs as kubeadm and most distributions have it, and its metrics port.
const KUBE_PROXY: &str = "kube-system/daemonset/kube-proxy:10249";
/// The title of warnings.
pub(crate) const TITLE: &str = "traffic-switch";

/// The proxies that can be asked.
///
/// # Errors
/// The environment names a proxy server that is none.
pub(crate) fn proxies(
    context: &Context,
    cluster: &Cluster,
    proof: &ProofInputs,
) -> Result<Proxies, Failure> {
    let kube_proxy = match &proof.kube_proxy_metrics {
        Some(KubeProxyInput::Bypassed) => KubeProxies::Bypassed,
        Some(KubeProxyInput::At(sources)) => KubeProxies::At(sources.to_vec()),
        None => KubeProxies::At(KUBE_PROXY.parse::<ProxySource>().into_iter().collect()),
    };
    Ok(Proxies {
        cluster: cluster.clone(),
        client: client(context)?,
        traefik_api: proof.traefik_api.to_vec(),
        traefik_metrics: proof.traefik_metrics.to_vec(),
        envoy_admin: proof.envoy_admin.to_vec(),
        nginx_status: proof.nginx_status.to_vec(),
        kube_proxy,
    })
}

/// The client for probes, proxies and servers: short limits where a request names none.
pub(crate) fn client(context: &Context) -> Result<Client, Failure> {
    let mut settings = ClientSettings::new("switchyard-traffic-switch", env!("CARGO_PKG_VERSION"));
    settings.attempt_timeout = Duration::from_secs(5);
    settings.total_timeout = Duration::from_secs(5);
    let environment = &context.environment;
    settings.proxy = ProxySettings::from_lookup(|name| environment.get(name).map(str::to_owned));
    Client::new(&settings).map_err(Failure::input)
}

/// Begins to probe the front door, when it was given.
///
/// # Errors
/// The client cannot be built.
pub(crate) fn prober(context: &Context, proof: &ProofInputs) -> Result<Option<Prober>, Failure> {
    let Some(url) = &proof.verify_url else {
        return Ok(None);
    };
    let plan = ProbePlan {
        url: url.0.clone(),
        host: proof.verify_host.clone(),
        rate: proof.verify_rate,
        version_header: Some(proof.version_header.clone()),
    };
    Ok(Some(Prober::start(client(context)?, plan)))
}

/// What the side that is to get traffic answers with, and the one that has it.
pub(crate) fn versions(
    record: &DeploymentRecord,
    course: Course,
    expected: Option<&String>,
) -> SidePair<Option<String>> {
    let of_side = |side: &Option<switchyard_record::SideState>| {
        side.as_ref().and_then(|side| side.version.clone())
    };
    let previous = record
        .previous
        .as_ref()
        .and_then(|previous| previous.version.clone());
    let new = expected
        .cloned()
        .or_else(|| of_side(&record.sides.to))
        .or_else(|| record.version.clone());
    let old = match course {
        Course::Takeover | Course::Canary | Course::Rollback => {
            of_side(&record.sides.from).or(previous)
        }
        // The canary and the main workload run the same.
        Course::Promotion => new.clone(),
    };
    SidePair {
        taking: new,
        giving: old,
    }
}

/// The evidence that is needed: as asked, else as much as the inputs can give.
pub(crate) fn required(proof: &ProofInputs, versions: &SidePair<Option<String>>) -> Level {
    let can_probe = proof.verify_url.is_some() && versions.taking.is_some();
    let fallback = if can_probe {
        Level::FrontDoor
    } else {
        Level::Endpoints
    };
    proof.require_verified.unwrap_or(fallback)
}

/// Everything that an engine is made of, but the session.
pub(crate) struct Preparation<'run> {
    pub(crate) cluster: &'run Cluster,
    pub(crate) sides: SidePair<Side>,
    pub(crate) fronts: Vec<Front>,
    pub(crate) proof: &'run ProofInputs,
    pub(crate) prober: Option<&'run Prober>,
    pub(crate) settings: Settings,
    pub(crate) overall: Option<Deadline>,
}

/// Runs a machine and gives back the fronts as they stand then.
///
/// # Errors
/// The engine cannot be built; what happens in the run is in the report.
pub(crate) async fn drive(
    context: &Context,
    session: &mut Session,
    preparation: Preparation<'_>,
    machine: &mut Machine,
) -> Result<(Report, Vec<Front>), Failure> {
    let mut engine = Engine::new(Parts {
        cluster: preparation.cluster.clone(),
        scene: scene_of(preparation.cluster, &preparation.fronts),
        session,
        sides: preparation.sides,
        fronts: preparation.fronts,
        proxies: proxies(context, preparation.cluster, preparation.proof)?,
        prober: preparation.prober,
        settings: preparation.settings,
        notes: notes(context),
        cancel: context.cancel.token(),
        overall: preparation.overall,
    });
    let mut report = engine.run(machine).await;
    let fronts = engine.into_fronts();
    if let Some(prober) = preparation.prober {
        if context.cancel.requested().is_none() {
            prober.finish().await;
        }
        report.counts = Some(prober.total());
    }
    Ok((report, fronts))
}

/// The settings that all commands share.
pub(crate) fn settings(
    context: &Context,
    proof: &ProofInputs,
    versions: SidePair<Option<String>>,
    step: &str,
) -> Settings {
    Settings {
        min_ready: None,
        hold: Duration::ZERO,
        longest_request: proof.longest_request,
        require: required(proof, &versions),
        wait: proof.timeout,
        retires_new_side: false,
        versions,
        by: actor(&context.environment),
        reason: None,
        step: step.to_owned(),
    }
}

pub(crate) fn notes(context: &Context) -> Notes {
    let console = context.console.clone();
    Arc::new(move |note| match note {
        Note::Progress(line) => console.progress(line),
        Note::Warning(line) => console.warning(TITLE, line),
    })
}
