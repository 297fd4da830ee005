//! Who a Service really sends traffic to: EndpointSlices read against the pods of one side.
//! Pure, but for the reading itself. It refuses to know providers and weights.
//!
//! Requests are lost where a side gets traffic before its endpoints exist, so nothing here takes
//! a Service's or a Deployment's word for it.

mod side;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::api::ListParams;

use crate::{connect::Cluster, error::Result, read::Deadline};

pub use side::{Routable, SideQuestion, Warning, routable, warnings};

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
