//! Who a Service really sends traffic to: EndpointSlices read against the pods of one side.
//! Pure, but for the reading itself. It refuses to know providers and weights.
//!
//! Requests are lost where a side gets traffic before its endpoints exist, so nothing here takes
//! a Service's or a Deployment's word for it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{Pod, Service, ServicePort},
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::api::ListParams;

use crate::{
    connect::Cluster,
    error::Result,
    read::Deadline,
    rollout::{is_ready, is_terminating},
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One pod behind a Service, as its EndpointSlices show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// First IP address in the slice.
    pub ip: String,
    /// Port name (empty when it has none) → port number on the pod.
    pub ports: BTreeMap<String, u16>,
    /// UID of the pod; absent for endpoints that are no pods.
    pub pod_uid: Option<String>,
    /// Name of the pod.
    pub pod: Option<String>,
    /// Node it runs on.
    pub node: Option<String>,
    /// Gets new connections from kube-proxy.
    pub is_ready: bool,
    /// Answers, whether or not it is on its way out.
    pub is_serving: bool,
    /// On its way out.
    pub is_terminating: bool,
}

impl Address {
    /// Whether new traffic may be sent here: it answers and is not on its way out.
    pub fn is_routable(&self) -> bool {
        self.is_serving && !self.is_terminating
    }
}

/// All addresses of a Service. A pod with an IPv4 and an IPv6 address counts once.
pub fn addresses(slices: &[EndpointSlice]) -> Vec<Address> {
    let mut found: Vec<Address> = Vec::new();
    for slice in slices {
        let ports: BTreeMap<String, u16> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                let number = u16::try_from(port.port?).ok()?;
                Some((port.name.clone().unwrap_or_default(), number))
            })
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let address = address(endpoint, &ports);
            let is_known = address.pod_uid.is_some()
                && found.iter().any(|known| known.pod_uid == address.pod_uid);
            if is_known {
                merge(&mut found, address);
            } else {
                found.push(address);
            }
        }
    }
    found
}

fn address(endpoint: &Endpoint, ports: &BTreeMap<String, u16>) -> Address {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let target = endpoint.target_ref.as_ref();
    let pod = target.filter(|target| target.kind.as_deref() == Some("Pod"));
    // The API says: unset means ready; serving falls back to ready; terminating to false.
    let is_ready = conditions.ready.unwrap_or(true);
    Address {
        ip: endpoint.addresses.first().cloned().unwrap_or_default(),
        ports: ports.clone(),
        pod_uid: pod.and_then(|pod| pod.uid.clone()),
        pod: pod.and_then(|pod| pod.name.clone()),
        node: endpoint.node_name.clone(),
        is_ready,
        is_serving: conditions.serving.unwrap_or(is_ready),
        is_terminating: conditions.terminating.unwrap_or(false),
    }
}

/// The same pod in a second slice (dual stack, or many ports): the weaker state counts.
fn merge(found: &mut [Address], other: Address) {
    let known = found
        .iter_mut()
        .find(|known| known.pod_uid == other.pod_uid);
    if let Some(known) = known {
        known.is_ready &= other.is_ready;
        known.is_serving &= other.is_serving;
        known.is_terminating |= other.is_terminating;
        known.ports.extend(other.ports);
    }
}

/// A port of a Service by number or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRef {
    /// By number, as clients of the Service use it.
    Number(u16),
    /// By name.
    Name(String),
}

/// What is asked about one side behind one Service.
#[derive(Clone, Copy, Debug)]
pub struct SideQuestion<'objects> {
    /// The Service.
    pub service: &'objects Service,
    /// Its EndpointSlices.
    pub slices: &'objects [EndpointSlice],
    /// Pods of the namespace.
    pub pods: &'objects [Pod],
    /// Labels that all pods of the side carry.
    pub side: &'objects BTreeMap<String, String>,
    /// Service port that traffic will use; the only one when absent.
    pub port: Option<&'objects PortRef>,
    /// Pods that are needed at least; zero is taken as one.
    pub needed: usize,
}

/// What could make endpoints say more than they can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// `publishNotReadyAddresses`: readiness says nothing here.
    PublishesNotReady,
    /// A traffic policy `Local`: nodes without a pod of this side drop the traffic they get.
    /// Compare [`Routable::nodes`] of both sides before switching.
    LocalTrafficPolicy {
        /// `internalTrafficPolicy` or `externalTrafficPolicy`.
        policy: &'static str,
    },
    /// `sessionAffinity: ClientIP`: clients stick to pods, so shares cannot be verified.
    SessionAffinity,
    /// The Service has no selector: somebody writes its slices by hand.
    NoSelector,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PublishesNotReady => formatter.write_str(
                "publishNotReadyAddresses is set: pods get traffic whether they are ready or not",
            ),
            Self::LocalTrafficPolicy { policy } => write!(
                formatter,
                "{policy} is Local: nodes without a pod of this side drop their traffic"
            ),
            Self::SessionAffinity => formatter.write_str(
                "sessionAffinity is ClientIP: clients stick to pods, so shares cannot be verified",
            ),
            Self::NoSelector => formatter
                .write_str("the Service has no selector: its endpoints are written by hand"),
        }
    }
}

/// Whether a side can take traffic through a Service, and why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routable {
    /// Pods of the side that take new traffic.
    pub addresses: Vec<Address>,
    /// Pods of the side that are in the slices and on their way out or not answering.
    pub unroutable: Vec<Address>,
    /// Ready pods of the side that the slices do not show yet.
    pub missing: Vec<String>,
    /// Endpoints that are not this side's: the other side's pods, foreign pods, addresses that are
    /// no pods.
    pub others: Vec<Address>,
    /// Pods needed.
    pub needed: usize,
    /// Port of the pods that the Service port leads to, where all agree.
    pub port: Option<u16>,
    /// What to tell the user.
    pub warnings: Vec<Warning>,
}

impl Routable {
    /// Whether the side can take traffic: enough pods, none missing from the slices, and a port.
    pub fn is_enough(&self) -> bool {
        self.addresses.len() >= self.needed && self.missing.is_empty() && self.port.is_some()
    }

    /// Why the side cannot take traffic.
    pub fn problem(&self) -> Option<String> {
        if self.is_enough() {
            return None;
        }
        let count = self.addresses.len();
        let needed = self.needed;
        if count < needed {
            let leaving = self.unroutable.len();
            let more = if leaving > 0 {
                format!(" ({leaving} more not serving or terminating)")
            } else {
                String::new()
            };
            return Some(format!(
                "{count} of {needed} needed pods are routable{more}"
            ));
        }
        if !self.missing.is_empty() {
            return Some(format!(
                "ready pods are not in its EndpointSlices yet: {}",
                self.missing.join(", ")
            ));
        }
        Some("the Service port leads to no single port of these pods".to_owned())
    }

    /// Nodes with at least one routable pod of the side.
    pub fn nodes(&self) -> BTreeSet<&str> {
        let nodes = self.addresses.iter();
        nodes
            .filter_map(|address| address.node.as_deref())
            .collect()
    }

    /// UIDs of the routable pods.
    pub fn pod_uids(&self) -> BTreeSet<&str> {
        let addresses = self.addresses.iter();
        addresses
            .filter_map(|address| address.pod_uid.as_deref())
            .collect()
    }

    /// Whether exactly the side's pods are routable and nobody else is.
    pub fn is_exclusive(&self) -> bool {
        !self.others.iter().any(Address::is_routable)
    }
}

/// Reads the slices of a Service against the pods of one side.
pub fn routable(question: &SideQuestion<'_>) -> Routable {
    let pods: Vec<&Pod> = question
        .pods
        .iter()
        .filter(|pod| has_labels(pod, question.side))
        .collect();
    let is_of_side = |address: &Address| {
        let uid = address.pod_uid.as_deref();
        uid.is_some() && pods.iter().any(|pod| pod.metadata.uid.as_deref() == uid)
    };
    let all = addresses(question.slices);
    let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_of_side);
    let (routable, unroutable): (Vec<_>, Vec<_>) = own.into_iter().partition(|address| {
        // The pod knows of its deletion before the slices do.
        let pod = pods.iter().find(|pod| pod.metadata.uid == address.pod_uid);
        address.is_routable() && pod.is_some_and(|pod| !is_terminating(pod))
    });
    let missing = pods
        .iter()
        .filter(|pod| is_ready(pod))
        .filter(|pod| {
            let uid = &pod.metadata.uid;
            let known = routable.iter().chain(&unroutable);
            !known.into_iter().any(|address| address.pod_uid == *uid)
        })
        .filter_map(|pod| pod.metadata.name.clone())
        .collect();
    Routable {
        port: target_port(question.service, question.port, &routable),
        addresses: routable,
        unroutable,
        missing,
        others,
        needed: question.needed.max(1),
        warnings: warnings(question.service),
    }
}

fn has_labels(pod: &Pod, wanted: &BTreeMap<String, String>) -> bool {
    let Some(labels) = pod.metadata.labels.as_ref() else {
        return wanted.is_empty();
    };
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// The Service port that is meant: the named or numbered one, else the only one.
pub fn service_port<'service>(
    service: &'service Service,
    port: Option<&PortRef>,
) -> Option<&'service ServicePort> {
    let ports = service.spec.as_ref()?.ports.as_deref()?;
    match port {
        Some(PortRef::Number(number)) => ports.iter().find(|port| port.port == i32::from(*number)),
        Some(PortRef::Name(name)) => ports
            .iter()
            .find(|port| port.name.as_deref() == Some(name.as_str())),
        None if ports.len() == 1 => ports.first(),
        None => None,
    }
}

/// The pod port behind the Service port; `None` while slices disagree, which they do while a
/// named port changes its number.
fn target_port(service: &Service, port: Option<&PortRef>, addresses: &[Address]) -> Option<u16> {
    let port = service_port(service, port)?;
    let name = port.name.clone().unwrap_or_default();
    let numbers: BTreeSet<u16> = addresses
        .iter()
        .filter_map(|address| address.ports.get(&name).copied())
        .collect();
    let all_have_one = addresses
        .iter()
        .all(|address| address.ports.contains_key(&name));
    match (numbers.len(), all_have_one) {
        (1, true) => numbers.first().copied(),
        (_, _) => None,
    }
}

/// What the Service's own settings take away from what endpoints can tell.
pub fn warnings(service: &Service) -> Vec<Warning> {
    let Some(spec) = service.spec.as_ref() else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    if spec.publish_not_ready_addresses == Some(true) {
        warnings.push(Warning::PublishesNotReady);
    }
    if spec.internal_traffic_policy.as_deref() == Some("Local") {
        warnings.push(Warning::LocalTrafficPolicy {
            policy: "internalTrafficPolicy",
        });
    }
    if spec.external_traffic_policy.as_deref() == Some("Local") {
        warnings.push(Warning::LocalTrafficPolicy {
            policy: "externalTrafficPolicy",
        });
    }
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        warnings.push(Warning::SessionAffinity);
    }
    if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
        warnings.push(Warning::NoSelector);
    }
    warnings
}

impl Cluster {
    /// The EndpointSlices of a Service.
    ///
    /// # Errors
    /// [`crate::Error::Forbidden`] and those of the connection.
    pub async fn endpoint_slices(
        &self,
        service: &str,
        deadline: Deadline,
    ) -> Result<Vec<EndpointSlice>> {
        let params = ListParams::default().labels(&format!("{SERVICE_NAME}={service}"));
        self.objects().list(&params, deadline).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        let mut value = json!({
            "metadata": {"name": "web"},
            "spec": {
                "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}]
            }
        });
        if let Value::Object(fields) = spec {
            for (key, field) in fields {
                value["spec"][key] = field;
            }
        }
        serde_json::from_value(value).unwrap()
    }

    fn slice(endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1"},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": endpoints
        }))
        .unwrap()
    }

    fn endpoint(pod: &str, conditions: Value) -> Value {
        json!({
            "addresses": [format!("10.0.0.{}", pod.len())],
            "conditions": conditions,
            "nodeName": format!("node-of-{pod}"),
            "targetRef": {"kind": "Pod", "name": pod, "uid": pod}
        })
    }

    fn ready() -> Value {
        json!({"ready": true, "serving": true, "terminating": false})
    }

    fn pod(name: &str, slot: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "labels": {"app": "web", "slot": slot}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}
        }))
        .unwrap()
    }

    fn asked(service: &Service, slices: &[EndpointSlice], pods: &[Pod], needed: usize) -> Routable {
        let side = BTreeMap::from([("slot".to_owned(), "green".to_owned())]);
        routable(&SideQuestion {
            service,
            slices,
            pods,
            side: &side,
            port: None,
            needed,
        })
    }

    #[test]
    fn a_side_is_routable_when_enough_of_its_own_pods_serve() {
        let slices = [slice(json!([
            endpoint("g1", ready()),
            endpoint("g2", ready()),
            endpoint("b1", ready())
        ]))];
        let pods = [pod("g1", "green"), pod("g2", "green"), pod("b1", "blue")];
        let found = asked(&service(json!({})), &slices, &pods, 2);
        assert!(found.is_enough(), "{found:?}");
        assert_eq!(found.port, Some(8080));
        assert_eq!(found.pod_uids(), BTreeSet::from(["g1", "g2"]));
        assert_eq!(found.nodes(), BTreeSet::from(["node-of-g1", "node-of-g2"]));
        assert!(!found.is_exclusive(), "blue is still behind it");
        let found = asked(&service(json!({})), &slices, &pods, 3);
        assert_eq!(found.problem().unwrap(), "2 of 3 needed pods are routable");
    }

    #[test]
    fn no_endpoints_are_never_enough_even_when_none_are_needed() {
        let found = asked(&service(json!({})), &[], &[], 0);
        assert_eq!(found.problem().unwrap(), "0 of 1 needed pods are routable");
    }

    #[test]
    fn terminating_endpoints_do_not_count_although_they_serve() {
        let leaving = json!({"ready": false, "serving": true, "terminating": true});
        let slices = [slice(json!([endpoint("g1", leaving)]))];
        let found = asked(&service(json!({})), &slices, &[pod("g1", "green")], 1);
        assert_eq!(
            found.problem().unwrap(),
            "0 of 1 needed pods are routable (1 more not serving or terminating)"
        );
    }

    #[test]
    fn a_pod_that_knows_of_its_deletion_before_the_slices_do_does_not_count() {
        let slices = [slice(json!([endpoint("g1", ready())]))];
        let mut pod = pod("g1", "green");
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(!asked(&service(json!({})), &slices, &[pod], 1).is_enough());
    }

    #[test]
    fn an_endpoint_of_a_pod_that_is_gone_does_not_count() {
        let slices = [slice(json!([endpoint("g1", ready())]))];
        let found = asked(&service(json!({})), &slices, &[], 1);
        assert!(!found.is_enough());
        assert_eq!(found.others.len(), 1);
    }

    #[test]
    fn ready_pods_that_the_slices_do_not_show_yet_are_waited_for() {
        let slices = [slice(json!([endpoint("g1", ready())]))];
        let pods = [pod("g1", "green"), pod("g2", "green")];
        let found = asked(&service(json!({})), &slices, &pods, 1);
        assert_eq!(
            found.problem().unwrap(),
            "ready pods are not in its EndpointSlices yet: g2"
        );
    }

    #[test]
    fn a_pod_in_two_slices_counts_once_and_in_its_weaker_state() {
        let down = json!({"ready": false, "serving": false, "terminating": false});
        let slices = [
            slice(json!([endpoint("g1", ready())])),
            slice(json!([endpoint("g1", down)])),
        ];
        let all = addresses(&slices);
        assert_eq!(all.len(), 1);
        assert!(!all[0].is_routable());
    }

    #[test]
    fn unset_conditions_mean_what_the_api_says() {
        let slices = [slice(json!([{"addresses": ["10.0.0.1"]}]))];
        let all = addresses(&slices);
        assert!(all[0].is_ready && all[0].is_serving && !all[0].is_terminating);
    }

    #[test]
    fn slices_that_disagree_on_the_port_are_not_enough() {
        let mut other = slice(json!([endpoint("g2", ready())]));
        other.ports.as_mut().unwrap()[0].port = Some(9090);
        let slices = [slice(json!([endpoint("g1", ready())])), other];
        let pods = [pod("g1", "green"), pod("g2", "green")];
        let found = asked(&service(json!({})), &slices, &pods, 2);
        assert_eq!(
            found.problem().unwrap(),
            "the Service port leads to no single port of these pods"
        );
    }

    #[test]
    fn settings_that_weaken_what_endpoints_say_are_warned_of() {
        let service = service(json!({
            "publishNotReadyAddresses": true,
            "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Local",
            "sessionAffinity": "ClientIP",
            "selector": {}
        }));
        assert_eq!(
            warnings(&service),
            [
                Warning::PublishesNotReady,
                Warning::LocalTrafficPolicy {
                    policy: "internalTrafficPolicy"
                },
                Warning::LocalTrafficPolicy {
                    policy: "externalTrafficPolicy"
                },
                Warning::SessionAffinity,
                Warning::NoSelector,
            ]
        );
    }
}
