//! Ways to a pod through the API server: a local port held open, or one HTTP request over the
//! stream. It refuses to know what is asked of the pod and what its answer means.

mod held;
mod stream;
mod target;

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::api::ListParams;

use crate::{
    connect::Cluster,
    endpoints::{PortRef, service_port},
    error::{Error, Result},
    operation::{Operation, Verb},
    read::Deadline,
    rollout::{is_ready, is_terminating},
    workloads::{Workload, WorkloadKind, WorkloadRef, selector_text},
};

pub use held::HeldForward;
pub use stream::{BODY_LIMIT, PodStream};
pub use target::{ForwardObject, ForwardTarget, ForwardTargetError};

/// A pod and the port of it that a target leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// Pod name.
    pub pod: String,
    /// Pod UID.
    pub uid: String,
    /// Port number.
    pub port: u16,
}

impl fmt::Display for PodPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "pod/{}:{}", self.pod, self.port)
    }
}

/// What an account needs to be allowed for a port-forward.
///
/// The WebSocket upgrade is a GET; API servers from 1.35 on ask for `create` as well.
pub fn operations(namespace: &str) -> [Operation; 2] {
    [Verb::Get, Verb::Create]
        .map(|verb| Operation::on::<Pod>(verb, namespace).subresource("portforward"))
}

/// The number behind a port of a pod. Pure.
pub fn pod_port(pod: &Pod, port: &PortRef) -> Option<u16> {
    match port {
        PortRef::Number(number) => Some(*number),
        PortRef::Name(name) => {
            let spec = pod.spec.as_ref()?;
            // Sidecars are init containers that stay.
            let init = spec.init_containers.iter().flatten();
            let mut ports = spec.containers.iter().chain(init).flat_map(container_ports);
            let (_, number) = ports.find(|(known, _)| known == name)?;
            Some(number)
        }
    }
}

fn container_ports(container: &Container) -> impl Iterator<Item = (&str, u16)> {
    container.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.container_port).ok()?;
        Some((port.name.as_deref()?, number))
    })
}

/// The port of a pod that a Service port leads to. Pure.
pub fn service_target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok().filter(|port| *port > 0),
        Some(IntOrString::String(name)) => pod_port(pod, &PortRef::Name(name.clone())),
        None => u16::try_from(port.port).ok(),
    }
}

impl Cluster {
    /// All ready pods behind a target, by name, with their port.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the object, [`Error::Unsuitable`] when it has no such port, no
    /// selector or no ready pod.
    pub async fn pod_ports(
        &self,
        target: &ForwardTarget,
        deadline: Deadline,
    ) -> Result<Vec<PodPort>> {
        let unsuitable = |problem: String| Error::Unsuitable {
            object: target.object.to_string(),
            problem,
        };
        let (selector, service) = match &target.object {
            ForwardObject::Pod(name) => {
                let pod: Pod = self.objects().get(name, deadline).await?;
                if is_terminating(&pod) {
                    return Err(unsuitable("it is terminating".to_owned()));
                }
                let port = pod_port(&pod, &target.port)
                    .ok_or_else(|| unsuitable(format!("it has no port {}", show(&target.port))))?;
                return Ok(vec![port_of(&pod, port)]);
            }
            ForwardObject::Service(name) => {
                let service: Service = self.objects().get(name, deadline).await?;
                let selector = service_selector(&service)
                    .ok_or_else(|| unsuitable("it has no selector".to_owned()))?;
                let port = service_port(&service, Some(&target.port)).cloned();
                let port = port
                    .ok_or_else(|| unsuitable(format!("it has no port {}", show(&target.port))))?;
                (selector, Some(port))
            }
            ForwardObject::Workload(workload) => {
                let workload = self.workload(workload, deadline).await?;
                let selector = workload.selector().map(selector_text);
                let selector =
                    selector.ok_or_else(|| unsuitable("it has no selector".to_owned()))?;
                (selector, None)
            }
        };
        let params = ListParams::default().labels(&selector);
        let pods = self.objects::<Pod>().list(&params, deadline).await?;
        let mut ready: Vec<_> = pods.iter().filter(|pod| is_ready(pod)).collect();
        ready.sort_by_key(|pod| pod.metadata.name.clone());
        if ready.is_empty() {
            return Err(unsuitable(format!(
                "none of its {} pods is ready",
                pods.len()
            )));
        }
        ready
            .into_iter()
            .map(|pod| {
                let port = match &service {
                    Some(port) => service_target(port, pod),
                    None => pod_port(pod, &target.port),
                };
                port.map(|port| port_of(pod, port)).ok_or_else(|| {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    unsuitable(format!("pod `{name}` has no port {}", show(&target.port)))
                })
            })
            .collect()
    }

    /// Reads a workload of any kind.
    ///
    /// # Errors
    /// [`Error::NotFound`] and those of the connection.
    pub async fn workload(&self, workload: &WorkloadRef, deadline: Deadline) -> Result<Workload> {
        let name = &workload.name;
        Ok(match workload.kind {
            WorkloadKind::Deployment => {
                Workload::Deployment(Arc::new(self.objects().get(name, deadline).await?))
            }
            WorkloadKind::StatefulSet => {
                Workload::StatefulSet(Arc::new(self.objects().get(name, deadline).await?))
            }
            WorkloadKind::DaemonSet => {
                Workload::DaemonSet(Arc::new(self.objects().get(name, deadline).await?))
            }
            WorkloadKind::Job => Workload::Job(Arc::new(self.objects().get(name, deadline).await?)),
        })
    }
}

fn show(port: &PortRef) -> String {
    match port {
        PortRef::Number(number) => number.to_string(),
        PortRef::Name(name) => format!("`{name}`"),
    }
}

fn port_of(pod: &Pod, port: u16) -> PodPort {
    PodPort {
        pod: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        port,
    }
}

fn service_selector(service: &Service) -> Option<String> {
    let selector: &BTreeMap<String, String> = service.spec.as_ref()?.selector.as_ref()?;
    let pairs = selector.iter().map(|(key, value)| format!("{key}={value}"));
    let text = pairs.collect::<Vec<_>>().join(",");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_port_leads_to_the_pods_port_by_number_by_name_or_unchanged() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "spec": {"containers": [
                {"name": "sidecar", "ports": [{"name": "metrics", "containerPort": 9090}]},
                {"name": "app", "ports": [{"name": "web", "containerPort": 8080}]}
            ]}
        }))
        .unwrap();
        let port = |value: serde_json::Value| serde_json::from_value::<ServicePort>(value).unwrap();
        let by_number = port(serde_json::json!({"port": 80, "targetPort": 8080}));
        let by_name = port(serde_json::json!({"port": 80, "targetPort": "web"}));
        let same = port(serde_json::json!({"port": 80}));
        let unknown = port(serde_json::json!({"port": 80, "targetPort": "grpc"}));
        assert_eq!(service_target(&by_number, &pod), Some(8080));
        assert_eq!(service_target(&by_name, &pod), Some(8080));
        assert_eq!(service_target(&same, &pod), Some(80));
        assert_eq!(service_target(&unknown, &pod), None);
    }
}
