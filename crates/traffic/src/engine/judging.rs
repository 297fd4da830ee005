//! The judgement of one target, of what endpoints and proxies show at one moment. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Front;
use super::write::front_servers;
use crate::envoy::judge_envoy;
use crate::envoy_admin::EnvoyState;
use crate::evidence::{
    Expectation, KubeProxySample, Replicas, Servers, TargetEvidence, Verification,
    judge_kube_proxy, judge_parents, judge_plain, judge_traefik, plain_services,
};
use crate::ingress_nginx::{NginxBackend, judge_nginx};
use crate::machine::Aim;
use crate::proxies::KubeProxies;
use crate::routing::Routing;
use crate::scene::Snapshot;
use crate::traefik_api::ApiService;

/// What all proxies said at one moment.
pub(crate) struct Seen {
    pub(crate) traefik: Vec<(String, Result<Vec<ApiService>, String>)>,
    pub(crate) envoy: Vec<(String, Result<EnvoyState, String>)>,
    pub(crate) nginx: Vec<(String, Result<Vec<NginxBackend>, String>)>,
    pub(crate) kube: Vec<(String, Result<KubeProxySample, String>)>,
}

/// Judges one target. The flag: all that is pending are proxies that gave no answer.
pub(crate) fn judge(
    front: &mut Front,
    aim: Aim,
    snapshot: &Snapshot,
    seen: &Seen,
    kube: &KubeProxies,
) -> (TargetEvidence, bool) {
    let provider = front.target.provider.provider();
    let expected = provider.expectation(&front.object, &front.routing, &front.roles);
    let endpoints = judge_endpoints(front, aim, snapshot);
    let mut proxies = Vec::new();
    let mut is_silence = !endpoints.is_pending();
    // Where the controller itself is asked, Traefik's reading of its annotations carries nothing.
    if let (Some(nginx), false) = (&expected.nginx, seen.nginx.is_empty()) {
        let servers = side_servers(front, snapshot);
        let (replicas, is_only_silence) = collect("ingress-nginx", &seen.nginx, |backends| {
            judge_nginx(nginx, backends, &servers)
        });
        is_silence &= is_only_silence;
        proxies.push(replicas);
    } else if let Some((replicas, is_only_silence)) =
        judge_traefik_replicas(front, &expected, snapshot, seen)
    {
        is_silence &= is_only_silence;
        proxies.push(replicas);
    }
    if let (Some(envoy), false) = (&expected.envoy, seen.envoy.is_empty()) {
        let servers = side_servers(front, snapshot);
        let (replicas, is_only_silence) = collect("envoy", &seen.envoy, |state| {
            judge_envoy(envoy, state, &servers)
        });
        is_silence &= is_only_silence;
        proxies.push(replicas);
    }
    if expected.kube_proxy && *kube != KubeProxies::Bypassed {
        let (replicas, is_only_silence) = judge_kube_proxies(front, snapshot, seen);
        is_silence &= is_only_silence;
        proxies.push(replicas);
    }
    let accepted = expected
        .parents_generation
        .map(|generation| judge_parents(&front.object, generation));
    is_silence &= !accepted.as_ref().is_some_and(Verification::is_pending);
    let evidence = TargetEvidence {
        target: front.target.to_string(),
        endpoints,
        proxies,
        accepted,
    };
    (evidence, is_silence)
}

/// Whether EndpointSlices hold what they are to hold.
fn judge_endpoints(front: &Front, aim: Aim, snapshot: &Snapshot) -> Verification {
    if let Some(reason) = &snapshot.interrupted {
        return Verification::pending(format!("the watch of endpoints is interrupted: {reason}"));
    }
    if front.is_service() {
        return judge_front_slices(front, aim, snapshot);
    }
    let answer = front.views.taking.routable(snapshot, 1);
    match answer.problem() {
        Some(problem) => Verification::pending(format!(
            "service `{}`: {problem}",
            front.views.taking.service_name()
        )),
        None => Verification::Verified,
    }
}

/// The slices of a front Service must equal the pods that it is to select, no more and no less.
fn judge_front_slices(front: &Front, aim: Aim, snapshot: &Snapshot) -> Verification {
    let mut wanted = front.views.taking.ready_uids(snapshot);
    let is_overlap = aim == Aim::Prepare
        && matches!(&front.routing, Routing::Selector { keys } if keys.is_empty());
    if is_overlap {
        wanted.extend(front.views.giving.ready_uids(snapshot));
    }
    let answer = front.views.taking.routable(snapshot, 1);
    let routable = answer
        .addresses
        .iter()
        .chain(answer.others.iter().filter(|address| address.is_routable()));
    let seen: BTreeSet<String> = routable
        .filter_map(|address| address.pod_uid.clone())
        .collect();
    let name = front.views.taking.service_name();
    if wanted.is_empty() {
        Verification::pending(format!(
            "service `{name}`: no pod of side `{}` is ready",
            front.roles.taking.side
        ))
    } else if seen != wanted {
        let missing = wanted.difference(&seen).count();
        let strange = seen.difference(&wanted).count();
        Verification::pending(format!(
            "service `{name}`: its EndpointSlices lack {missing} pods and hold {strange} others"
        ))
    } else if answer.port.is_none() {
        Verification::pending(format!(
            "service `{name}`: its port leads to no single port of these pods"
        ))
    } else {
        Verification::Verified
    }
}

fn judge_traefik_replicas(
    front: &mut Front,
    expected: &Expectation,
    snapshot: &Snapshot,
    seen: &Seen,
) -> Option<(Replicas, bool)> {
    if seen.traefik.is_empty() {
        return None;
    }
    let plain = |services: &[ApiService], front: &Front, wanted: &BTreeSet<String>| {
        let ports = port_names(front);
        let found = plain_services(
            services,
            &front.roles.namespace,
            front.views.taking.service_name(),
            &ports,
        );
        (
            !found.is_empty(),
            judge_plain(&found, front.views.taking.service_name(), wanted),
        )
    };
    if expected.front_service.is_some() {
        let wanted = front_servers(front, snapshot);
        let is_found = seen.traefik.iter().any(|(_, services)| {
            services
                .as_ref()
                .is_ok_and(|services| plain(services, front, &wanted).0)
        });
        // Known from the first look on: a Service that Traefik does not use has no such proxy.
        let is_behind = *front.is_behind_traefik.get_or_insert(is_found);
        if !is_behind {
            return None;
        }
        return Some(collect("traefik", &seen.traefik, |services| {
            plain(services, front, &wanted).1
        }));
    }
    let traefik = expected.traefik.as_ref()?;
    let servers = side_servers(front, snapshot);
    Some(collect("traefik", &seen.traefik, |services| {
        judge_traefik(traefik, services, &servers)
    }))
}

/// The routable endpoints of both sides, by Service.
fn side_servers(front: &Front, snapshot: &Snapshot) -> Servers {
    BTreeMap::from([
        (
            front.roles.taking.service.clone(),
            front.views.taking.servers(snapshot),
        ),
        (
            front.roles.giving.service.clone(),
            front.views.giving.servers(snapshot),
        ),
    ])
}

fn judge_kube_proxies(front: &Front, snapshot: &Snapshot, seen: &Seen) -> (Replicas, bool) {
    // Without a change of endpoints kube-proxy is told nothing, so nothing can be waited for.
    let has_changed =
        front_servers(front, snapshot) != front.servers_before && !front.kube_before.is_empty();
    let judgements = seen.kube.iter().map(|(name, sample)| match sample {
        Ok(sample) => {
            let before = front.kube_before.get(name).filter(|_| has_changed);
            (name.clone(), judge_kube_proxy(before, sample))
        }
        Err(problem) => (name.clone(), Verification::unverifiable(problem.clone())),
    });
    (Replicas::collect("kube-proxy", judgements.collect()), false)
}

/// Judges each replica; one that gave no answer may still give one.
fn collect<T>(
    proxy: &str,
    answers: &[(String, Result<T, String>)],
    judge: impl Fn(&T) -> Verification,
) -> (Replicas, bool) {
    let mut is_only_silence = true;
    let judgements = answers.iter().map(|(name, answer)| match answer {
        Ok(answer) => {
            let judgement = judge(answer);
            is_only_silence &= !judgement.is_pending();
            (name.clone(), judgement)
        }
        Err(problem) => (
            name.clone(),
            Verification::pending(format!("it cannot be asked: {problem}")),
        ),
    });
    let judgements = judgements.collect();
    (Replicas::collect(proxy, judgements), is_only_silence)
}

/// Numbers and names of a front Service's ports, as Traefik puts them into names.
fn port_names(front: &Front) -> Vec<String> {
    let spec = front.views.taking.service.spec.as_ref();
    let ports = spec
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    ports
        .iter()
        .flat_map(|port| [Some(port.port.to_string()), port.name.clone()])
        .flatten()
        .collect()
}
