//! Whether one side can take traffic through a Service, and why not. Pure.
//! It refuses to know how the objects were read.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};

use super::{Address, PortRef, addresses, service_port};
use crate::rollout::{is_ready, is_terminating};

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
