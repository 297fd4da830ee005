//! What every Envoy of an Istio mesh must show once a VirtualService is in effect, and the judgement.
//! Pure: it refuses to fetch anything, and never takes the absence of a contradiction for proof.

use std::collections::{BTreeMap, BTreeSet};

use crate::envoy_admin::{EnvoyRoute, EnvoyState, cluster_name};
use crate::evidence::{Servers, Verification};

/// What each Envoy must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyExpectation {
    /// Namespace of the VirtualService and of the sides' Services.
    pub namespace: String,
    /// Its name; nothing for a delegate, whose routes istiod makes part of another one.
    pub virtual_service: Option<String>,
    /// The sides that are subsets of a host, by what they are called; the others are Services.
    pub subsets: BTreeMap<String, Subset>,
    /// The rules that send to our sides.
    pub routes: Vec<ExpectedRoute>,
}

/// A side that is a subset of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// The Service that is the host.
    pub host: String,
    /// The name of the subset.
    pub name: String,
}

impl EnvoyExpectation {
    /// The side whose cluster this is.
    fn side_of<'sides>(&self, cluster: &str, sides: &'sides Servers) -> Option<&'sides str> {
        let name = cluster_name(cluster).filter(|name| name.namespace == self.namespace)?;
        let is_named = |side: &&String| match self.subsets.get(*side) {
            Some(subset) => subset.host == name.service && subset.name == name.subset,
            None => *side == name.service && name.subset.is_empty(),
        };
        sides.keys().find(is_named).map(String::as_str)
    }
}

/// What one rule must have become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedRoute {
    /// Its place in the routing.
    pub place: String,
    /// Its name, where it has one.
    pub rule: Option<String>,
    /// The sides' Services that it lists, with their weights.
    pub weights: BTreeMap<String, u32>,
    /// The ports that it states for them.
    pub ports: BTreeMap<String, u16>,
}

impl ExpectedRoute {
    /// istiod leaves out what gets nothing.
    fn sent_to(&self) -> BTreeMap<&str, u32> {
        self.weights
            .iter()
            .filter(|(_, weight)| **weight > 0)
            .map(|(service, weight)| (service.as_str(), *weight))
            .collect()
    }

    /// Whether a route of this name may come from this rule: a match's own name follows the rule's.
    fn may_be(&self, route: &EnvoyRoute) -> bool {
        let named = |name: &str| {
            let rest = route.name.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.rule.as_deref().is_none_or(named)
    }
}

/// What one route sends to our sides: weights, and whether everything goes to a single cluster.
struct Sent<'route> {
    weights: BTreeMap<&'route str, u32>,
    is_single: bool,
}

impl Sent<'_> {
    fn agrees_with(&self, expected: &ExpectedRoute) -> bool {
        let wanted = expected.sent_to();
        if self.is_single {
            // Alone, a weight means nothing.
            return wanted.keys().eq(self.weights.keys());
        }
        wanted == self.weights
    }

    fn describe(&self) -> String {
        describe(&self.weights)
    }
}

fn describe(weights: &BTreeMap<&str, u32>) -> String {
    let parts: Vec<_> = weights
        .iter()
        .map(|(service, weight)| format!("{service} {weight}"))
        .collect();
    parts.join(", ")
}

/// Judges what one Envoy shows. `servers` holds the sides' routable endpoints.
pub fn judge_envoy(
    expected: &EnvoyExpectation,
    seen: &EnvoyState,
    servers: &Servers,
) -> Verification {
    let name = expected.virtual_service.as_deref().unwrap_or("(delegate)");
    let of = format!("VirtualService `{}/{name}`", expected.namespace);
    let mut missing: BTreeSet<&str> = expected
        .routes
        .iter()
        .map(|route| route.place.as_str())
        .collect();
    for route in seen.routes.iter().filter(|route| is_of(route, expected)) {
        let sent = sent_by(route, expected, servers);
        if sent.weights.is_empty() {
            continue;
        }
        let mut candidates = expected.routes.iter().filter(|one| one.may_be(route));
        match candidates.find(|one| sent.agrees_with(one)) {
            Some(agreeing) => {
                // Rules that send alike cannot be told apart, and need not be.
                let alike = expected
                    .routes
                    .iter()
                    .filter(|one| one.may_be(route) && one.weights == agreeing.weights);
                for one in alike {
                    missing.remove(one.place.as_str());
                }
            }
            None => {
                return Verification::pending(format!(
                    "{of}: a route sends {} instead of {}",
                    sent.describe(),
                    wanted(expected, route)
                ));
            }
        }
    }
    if let Some(place) = missing.first() {
        return Verification::pending(format!("{of} is not loaded ({place})"));
    }
    match cluster_difference(expected, seen, servers) {
        Some(difference) => Verification::pending(difference),
        None => Verification::Verified,
    }
}

fn wanted(expected: &EnvoyExpectation, route: &EnvoyRoute) -> String {
    let candidates = expected.routes.iter().filter(|one| one.may_be(route));
    let texts: BTreeSet<String> = candidates.map(|one| describe(&one.sent_to())).collect();
    if texts.is_empty() {
        return "nothing of these sides".to_owned();
    }
    texts.into_iter().collect::<Vec<_>>().join(" or ")
}

/// Whether istiod made a route of this VirtualService.
fn is_of(route: &EnvoyRoute, expected: &EnvoyExpectation) -> bool {
    let Some(name) = &expected.virtual_service else {
        return true;
    };
    let end = format!("/namespaces/{}/virtual-service/{name}", expected.namespace);
    route.config.ends_with(&end)
}

fn sent_by<'sides>(
    route: &EnvoyRoute,
    expected: &EnvoyExpectation,
    sides: &'sides Servers,
) -> Sent<'sides> {
    let mut weights = BTreeMap::new();
    let mut is_single = false;
    for (cluster, weight) in &route.clusters {
        let Some(side) = expected.side_of(cluster, sides) else {
            continue;
        };
        is_single |= weight.is_none();
        *weights.entry(side).or_insert(0) += weight.unwrap_or(0);
    }
    Sent { weights, is_single }
}

/// What the sides' clusters show other than their routable endpoints. Also of a side at weight 0:
/// a proxy must know the pods before it sends there.
fn cluster_difference(
    expected: &EnvoyExpectation,
    seen: &EnvoyState,
    servers: &Servers,
) -> Option<String> {
    let nothing = BTreeSet::new();
    for route in &expected.routes {
        for service in route.weights.keys() {
            let wanted = servers.get(service).unwrap_or(&nothing);
            let port = route.ports.get(service);
            let of_service = seen.clusters.iter().filter(|cluster| {
                let is_port = || {
                    cluster_name(&cluster.name)
                        .is_some_and(|name| port.is_none_or(|port| *port == name.port))
                };
                expected.side_of(&cluster.name, servers) == Some(service.as_str()) && is_port()
            });
            let loaded: Vec<_> = of_service.map(|cluster| cluster.open_hosts()).collect();
            if loaded.iter().any(|hosts| hosts == wanted) {
                continue;
            }
            return Some(match loaded.first() {
                None => format!("`{service}` has no cluster"),
                Some(hosts) => format!(
                    "`{service}` has the hosts {} instead of {}",
                    list(hosts),
                    list(wanted)
                ),
            });
        }
    }
    None
}

fn list(hosts: &BTreeSet<String>) -> String {
    if hosts.is_empty() {
        return "(none)".to_owned();
    }
    let names: Vec<_> = hosts.iter().map(String::as_str).collect();
    names.join(", ")
}
