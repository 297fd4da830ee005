//! What has to be seen before a write counts as in effect, and the judgement of what was seen.
//! Pure: it refuses to fetch anything, and never takes the absence of a contradiction for proof.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envoy::EnvoyExpectation;
use crate::ingress_nginx::NginxExpectation;
use crate::traefik_api::ApiService;

/// How far a switch was verified, or has to be.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing was checked.
    None,
    /// EndpointSlices hold exactly the pods that are to get traffic.
    Endpoints,
    /// Every proxy that could be asked has loaded them.
    DataPlane,
    /// Requests through the front door were answered by the right version, none lost.
    FrontDoor,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Endpoints => "endpoints",
            Self::DataPlane => "data-plane",
            Self::FrontDoor => "front-door",
        })
    }
}

/// What a check came to. There is no fourth value: what was not seen is not reported as true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Verification {
    /// It was seen.
    Verified,
    /// It was looked for and is not so yet.
    Pending {
        /// What is still different.
        waiting_for: String,
    },
    /// It cannot be looked for.
    Unverifiable {
        /// Why not.
        reason: String,
    },
}

impl Verification {
    /// A check that still waits.
    pub fn pending(waiting_for: impl Into<String>) -> Self {
        Self::Pending {
            waiting_for: waiting_for.into(),
        }
    }

    /// A check that cannot be made.
    pub fn unverifiable(reason: impl Into<String>) -> Self {
        Self::Unverifiable {
            reason: reason.into(),
        }
    }

    /// Whether it was seen.
    pub fn is_verified(&self) -> bool {
        *self == Self::Verified
    }

    /// Whether more waiting may turn it into [`Verification::Verified`].
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Pending { .. })
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified => formatter.write_str("verified"),
            Self::Pending { waiting_for } => write!(formatter, "pending: {waiting_for}"),
            Self::Unverifiable { reason } => write!(formatter, "unverifiable: {reason}"),
        }
    }
}

/// What must be seen once a front object's routing is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// A Service whose own EndpointSlices must equal the pods it is to select.
    pub front_service: Option<String>,
    /// Whether clients get there through kube-proxy.
    pub kube_proxy: bool,
    /// The generation that the route's `status.parents` must have accepted.
    pub parents_generation: Option<i64>,
    /// What each Traefik replica must show.
    pub traefik: Option<TraefikExpectation>,
    /// What each Envoy of a mesh must show.
    pub envoy: Option<EnvoyExpectation>,
    /// What each ingress-nginx controller must show.
    pub nginx: Option<NginxExpectation>,
}

/// What each Traefik replica must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraefikExpectation {
    /// The services that divide the traffic.
    pub services: Vec<WeightedService>,
    /// By place: the Services listed, with their weights.
    pub weights: BTreeMap<String, BTreeMap<String, u32>>,
    /// Whether Traefik sends to the Services' virtual addresses instead of the pods.
    pub is_native: bool,
}

/// How a service that divides traffic is found among Traefik's services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightedService {
    /// A TraefikService.
    Crd {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// One rule of an HTTPRoute.
    Route {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The rule's index as of now.
        rule: usize,
        /// The rule's place in the routing.
        place: String,
    },
    /// The locations of a main Ingress beside its canary, as Traefik reads ingress-nginx's annotations.
    Canary {
        /// Their namespace.
        namespace: String,
        /// The Service of the main Ingress.
        main: String,
        /// The Service of the canary Ingress.
        canary: String,
        /// Its place in the routing.
        place: String,
    },
}

impl WeightedService {
    /// The place whose weights it carries.
    pub fn place(&self) -> &str {
        match self {
            Self::Crd { .. } => "services",
            Self::Route { place, .. } | Self::Canary { place, .. } => place,
        }
    }

    fn matches(&self, service: &ApiService) -> bool {
        match self {
            Self::Crd { namespace, name } => {
                let plain = format!(
                    "{}@kubernetescrd",
                    normalise(&format!("{namespace}-{name}"))
                );
                // Traefik's opt-in safe naming joins the parts with `_`.
                let safe = format!("{namespace}_{name}@kubernetescrd");
                service.name == plain || service.name == safe
            }
            Self::Route {
                namespace,
                name,
                rule,
                ..
            } => {
                let prefix = format!(
                    "{}-gw-",
                    normalise(&format!("httproute-{namespace}-{name}"))
                );
                let inner = service
                    .name
                    .strip_prefix(&prefix)
                    .and_then(|rest| rest.strip_suffix("-wrr@kubernetesgateway"));
                // …-ep-ENTRYPOINT-RULE-HASH
                let index = inner
                    .and_then(|inner| inner.rsplit('-').nth(1))
                    .and_then(|index| index.parse::<usize>().ok());
                index == Some(*rule)
            }
            Self::Canary {
                namespace, main, ..
            } => {
                let name = service.name.strip_suffix("-wrr@kubernetesingressnginx");
                name.is_some_and(|name| is_location(name, namespace, main))
            }
        }
    }

    /// Whether a service that is called like it sends to our sides, where names do not tell.
    fn is_ours(&self, service: &ApiService, seen: &[ApiService], servers: &Servers) -> bool {
        match self {
            Self::Crd { .. } | Self::Route { .. } => true,
            Self::Canary { .. } => service.children.iter().any(|child| {
                let loaded = servers_of(&child.name, seen);
                servers.values().any(|wanted| !wanted.is_disjoint(&loaded))
            }),
        }
    }

    /// What is wrong when no such service is there. Traefik leaves a canary without endpoints out, and
    /// sends everything to the main Service: as it is to be for one that is to get nothing.
    fn absence(
        &self,
        seen: &[ApiService],
        weights: &BTreeMap<String, u32>,
        servers: &Servers,
    ) -> Option<String> {
        let Self::Canary {
            namespace,
            main,
            canary,
            ..
        } = self
        else {
            return Some("is not loaded".to_owned());
        };
        let nothing = BTreeSet::new();
        let of = |service: &String| servers.get(service).unwrap_or(&nothing);
        let gets_nothing = weights.get(canary).is_none_or(|weight| *weight == 0);
        if !gets_nothing || !of(canary).is_empty() {
            return Some("is not loaded".to_owned());
        }
        let is_main = |service: &&ApiService| {
            let name = service.name.strip_suffix("@kubernetesingressnginx");
            name.is_some_and(|name| is_location(name, namespace, main))
                && !service.open_servers().is_disjoint(of(main))
        };
        let mut loaded = seen.iter().filter(is_main).peekable();
        if loaded.peek().is_none() {
            return Some(format!("has no endpoints, and `{main}` is not loaded"));
        }
        let other = loaded.find(|service| service.open_servers() != *of(main))?;
        Some(format!(
            "has no endpoints, and `{main}` has the servers {} instead of {}",
            list(&other.open_servers()),
            list(of(main))
        ))
    }
}

impl fmt::Display for WeightedService {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crd { namespace, name } => {
                write!(formatter, "TraefikService `{namespace}/{name}`")
            }
            Self::Route {
                namespace,
                name,
                place,
                ..
            } => {
                write!(formatter, "HTTPRoute `{namespace}/{name}` ({place})")
            }
            Self::Canary {
                namespace,
                main,
                canary,
                ..
            } => {
                write!(
                    formatter,
                    "the canary `{namespace}/{canary}` beside `{main}`"
                )
            }
        }
    }
}

/// Whether a service of Traefik's is of a location that sends to this Service:
/// `NAMESPACE-INGRESS-SERVICE-PORT`. Names run into each other, so what it sends to has to tell, too.
fn is_location(name: &str, namespace: &str, service: &str) -> bool {
    let start = format!("{}-", normalise(namespace));
    let middle = format!("-{}-", normalise(service));
    name.starts_with(&start) && name.contains(&middle)
}

/// Traefik's way of making names of its services: runs of other characters become one hyphen.
fn normalise(name: &str) -> String {
    let parts: Vec<_> = name
        .split(|character: char| !character.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("-")
}

/// Servers (`address:port`) of each side's Service.
pub type Servers = BTreeMap<String, BTreeSet<String>>;

/// Judges what one Traefik replica shows. `servers` holds the sides' routable endpoints.
pub fn judge_traefik(
    expected: &TraefikExpectation,
    seen: &[ApiService],
    servers: &Servers,
) -> Verification {
    if expected.is_native {
        return Verification::unverifiable(
            "the route uses nativeLB, so Traefik shows Services and not pods",
        );
    }
    for weighted in &expected.services {
        let found: Vec<_> = seen
            .iter()
            .filter(|service| weighted.matches(service) && weighted.is_ours(service, seen, servers))
            .collect();
        let nothing = BTreeMap::new();
        let weights = expected.weights.get(weighted.place()).unwrap_or(&nothing);
        if let (true, Some(problem)) = (found.is_empty(), weighted.absence(seen, weights, servers))
        {
            return Verification::pending(format!("{weighted} {problem}"));
        }
        for service in found {
            if let Some(difference) = difference(service, seen, weights, servers) {
                return Verification::pending(format!("{weighted}: {difference}"));
            }
        }
    }
    Verification::Verified
}

/// What one weighted service shows other than expected. Children are told apart by the pods
/// they send to, so that no naming scheme of Traefik's is relied on.
fn difference(
    service: &ApiService,
    seen: &[ApiService],
    weights: &BTreeMap<String, u32>,
    servers: &Servers,
) -> Option<String> {
    let mut missing: BTreeSet<&String> = weights.keys().collect();
    for child in &service.children {
        let loaded = servers_of(&child.name, seen);
        let Some(side) = side_of(&loaded, &child.name, weights, servers) else {
            continue;
        };
        let Some(weight) = weights.get(side) else {
            return Some(format!("`{side}` is still listed"));
        };
        if child.weight != *weight {
            return Some(format!(
                "`{side}` has weight {} instead of {weight}",
                child.weight
            ));
        }
        let wanted = servers.get(side).cloned().unwrap_or_default();
        if loaded != wanted {
            return Some(format!(
                "`{side}` has the servers {} instead of {}",
                list(&loaded),
                list(&wanted)
            ));
        }
        missing.remove(side);
    }
    missing
        .first()
        .map(|side| format!("`{side}` is not listed"))
}

/// The side whose pods these servers are; for a child without servers, the one that its name
/// mentions.
fn side_of<'sides>(
    loaded: &BTreeSet<String>,
    child: &str,
    weights: &'sides BTreeMap<String, u32>,
    servers: &'sides Servers,
) -> Option<&'sides String> {
    let by_servers = servers
        .iter()
        .find(|(_, wanted)| !loaded.is_disjoint(wanted))
        .map(|(side, _)| side);
    by_servers.or_else(|| {
        let is_named = |side: &&String| {
            child.contains(&format!("-{side}-")) || child.contains(&format!("_{side}_"))
        };
        weights
            .keys()
            .filter(is_named)
            .max_by_key(|side| side.len())
    })
}

/// The servers of the load balancer called `name`, without those that are on their way out.
fn servers_of(name: &str, seen: &[ApiService]) -> BTreeSet<String> {
    let found = seen
        .iter()
        .find(|service| service.name == name || service.name.split('@').next() == Some(name));
    found.map(ApiService::open_servers).unwrap_or_default()
}

fn list(servers: &BTreeSet<String>) -> String {
    if servers.is_empty() {
        return "(none)".to_owned();
    }
    let names: Vec<_> = servers.iter().map(String::as_str).collect();
    names.join(", ")
}

/// The load balancers through which Traefik sends to a Service directly (an IngressRoute, an
/// Ingress or an HTTPRoute that names it), by Traefik's service names.
pub fn plain_services<'seen>(
    seen: &'seen [ApiService],
    namespace: &str,
    service: &str,
    ports: &[String],
) -> Vec<&'seen ApiService> {
    let stem = normalise(&format!("{namespace}-{service}"));
    let is_plain = |candidate: &&ApiService| {
        let name = candidate.name.split('@').next().unwrap_or_default();
        let suffix = match name.rfind(&format!("-svc-{stem}-")) {
            // Gateway: …-svc-NAMESPACE-SERVICE-INDEX
            Some(start) => name.get(start + stem.len() + 6..),
            None => name.strip_prefix(&format!("{stem}-")),
        };
        let Some(suffix) = suffix else { return false };
        let is_index = !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit());
        !candidate.servers.is_empty()
            && (is_index || ports.iter().any(|port| normalise(port) == suffix))
    };
    seen.iter().filter(is_plain).collect()
}

/// Judges whether one Traefik replica sends to exactly `wanted` through a Service.
pub fn judge_plain(
    found: &[&ApiService],
    service: &str,
    wanted: &BTreeSet<String>,
) -> Verification {
    if found.is_empty() {
        return Verification::pending(format!("no load balancer for `{service}` is loaded"));
    }
    for balancer in found {
        let loaded = balancer.open_servers();
        if loaded != *wanted {
            return Verification::pending(format!(
                "`{service}` has the servers {} instead of {}",
                list(&loaded),
                list(wanted)
            ));
        }
    }
    Verification::Verified
}

/// Judges `status.parents` of an HTTPRoute. Necessary, not sufficient: Traefik writes them before
/// its data plane changes.
pub fn judge_parents(object: &Value, generation: i64) -> Verification {
    let parents = object
        .pointer("/status/parents")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if parents.is_empty() {
        return Verification::pending("no Gateway has accepted the HTTPRoute");
    }
    for parent in parents {
        let name = parent
            .pointer("/parentRef/name")
            .and_then(Value::as_str)
            .unwrap_or("?");
        for kind in ["Accepted", "ResolvedRefs"] {
            if let Some(problem) = condition_problem(parent, kind, generation) {
                return Verification::pending(format!("Gateway `{name}`: {problem}"));
            }
        }
    }
    Verification::Verified
}

fn condition_problem(parent: &Value, kind: &str, generation: i64) -> Option<String> {
    let conditions = parent
        .get("conditions")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let Some(condition) = conditions
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
    else {
        return Some(format!("no condition {kind}"));
    };
    let seen = condition
        .get("observedGeneration")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let status = condition
        .get("status")
        .and_then(Value::as_str)
        .unwrap_or("Unknown");
    if seen < generation {
        return Some(format!("{kind} is of generation {seen}, not {generation}"));
    }
    if status != "True" {
        let message = condition
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        return Some(
            format!("{kind} is {status} {message}")
                .trim_end()
                .to_owned(),
        );
    }
    None
}

/// What one kube-proxy says of its own synchronisation. Times are its own clock's seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KubeProxySample {
    /// When it last wrote its rules.
    pub last_synced: f64,
    /// When a change last asked for a write.
    pub last_queued: f64,
    /// Endpoint changes not written yet, where it tells.
    pub pending_changes: Option<f64>,
}

impl KubeProxySample {
    /// Reads it out of kube-proxy's metrics.
    pub fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            crate::metrics::samples(text, name)
                .map(|sample| sample.value)
                .reduce(f64::max)
        };
        Some(Self {
            last_synced: value("kubeproxy_sync_proxy_rules_last_timestamp_seconds")?,
            last_queued: value("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds")?,
            pending_changes: value("kubeproxy_sync_proxy_rules_endpoint_changes_pending"),
        })
    }
}

/// Judges whether a kube-proxy has written a change that happened after `before` was taken.
///
/// That a change was queued since then has to be seen too: one that has not arrived yet looks
/// exactly like one that is done.
pub fn judge_kube_proxy(before: Option<&KubeProxySample>, now: &KubeProxySample) -> Verification {
    if let Some(before) = before
        && now.last_queued <= before.last_queued
    {
        return Verification::pending("the change has not reached it");
    }
    if now.last_synced < now.last_queued || now.pending_changes.is_some_and(|pending| pending > 0.0)
    {
        return Verification::pending("it has the change and has not written its rules");
    }
    Verification::Verified
}

/// A check made at each of several proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicas {
    /// What was asked: `traefik`, `envoy`, `kube-proxy`.
    pub proxy: String,
    /// How many confirmed.
    pub confirmed: usize,
    /// How many there are.
    pub of: usize,
    /// All of them together.
    pub verification: Verification,
}

impl Replicas {
    /// Puts the judgements of all replicas together. None at all is unverifiable, never verified.
    pub fn collect(proxy: &str, judgements: Vec<(String, Verification)>) -> Self {
        let of = judgements.len();
        let confirmed = judgements
            .iter()
            .filter(|(_, judgement)| judgement.is_verified())
            .count();
        let pending = judgements
            .iter()
            .find(|(_, judgement)| judgement.is_pending());
        let other = judgements
            .iter()
            .find(|(_, judgement)| !judgement.is_verified());
        let verification = match (of, pending.or(other)) {
            (0, _) => Verification::unverifiable(format!("no {proxy} could be asked")),
            (_, None) => Verification::Verified,
            (_, Some((replica, Verification::Pending { waiting_for }))) => {
                Verification::pending(format!("{proxy} {replica}: {waiting_for}"))
            }
            (_, Some((replica, Verification::Unverifiable { reason }))) => {
                Verification::unverifiable(format!("{proxy} {replica}: {reason}"))
            }
            (_, Some((_, Verification::Verified))) => Verification::Verified,
        };
        Self {
            proxy: proxy.to_owned(),
            confirmed,
            of,
            verification,
        }
    }
}

/// What was seen of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetEvidence {
    /// The target as written.
    pub target: String,
    /// Whether the EndpointSlices hold what they are to hold.
    pub endpoints: Verification,
    /// Each kind of proxy in the way of this target's traffic.
    pub proxies: Vec<Replicas>,
    /// Conditions of the route, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Verification>,
}

impl TargetEvidence {
    /// The data plane as a whole: the worst of its proxies; unverifiable when none was asked.
    pub fn data_plane(&self) -> Verification {
        let all = self
            .proxies
            .iter()
            .map(|replicas| &replicas.verification)
            .chain(self.accepted.iter());
        let pending = all.clone().find(|verification| verification.is_pending());
        let unverifiable = all.clone().find(|verification| !verification.is_verified());
        match (pending.or(unverifiable), self.proxies.is_empty()) {
            (Some(worst), _) => worst.clone(),
            (None, true) => Verification::unverifiable("no proxy was given to ask"),
            (None, false) => Verification::Verified,
        }
    }

    /// The level that this target alone has reached, without the front door.
    pub fn level(&self) -> Level {
        match (
            self.endpoints.is_verified(),
            self.data_plane().is_verified(),
        ) {
            (false, _) => Level::None,
            (true, false) => Level::Endpoints,
            (true, true) => Level::DataPlane,
        }
    }

    /// What is still waited for, if anything.
    pub fn pending(&self) -> Option<String> {
        let waiting = |verification: &Verification| match verification {
            Verification::Pending { waiting_for } => Some(waiting_for.clone()),
            Verification::Verified | Verification::Unverifiable { .. } => None,
        };
        waiting(&self.endpoints)
            .or_else(|| waiting(&self.data_plane()))
            .map(|text| format!("{}: {text}", self.target))
    }
}

/// The level that all targets have reached; the front door counts only on top of endpoints.
pub fn overall(targets: &[TargetEvidence], front_door: &Verification) -> Level {
    let lowest = targets
        .iter()
        .map(TargetEvidence::level)
        .min()
        .unwrap_or(Level::None);
    if lowest >= Level::Endpoints && front_door.is_verified() {
        Level::FrontDoor
    } else {
        lowest
    }
}
