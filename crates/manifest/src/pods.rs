//! Finds the pods that a workload makes inside its manifest: template, labels, containers.
//! Refuses to know running pods.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kind::Kind;

/// JSON pointer to the pod template (or to the pod itself) of a workload.
#[must_use]
pub const fn template_pointer(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Deployment
        | Kind::StatefulSet
        | Kind::DaemonSet
        | Kind::ReplicaSet
        | Kind::ReplicationController
        | Kind::Job => Some("/spec/template"),
        Kind::CronJob => Some("/spec/jobTemplate/spec/template"),
        Kind::Pod => Some(""),
        Kind::Namespace
        | Kind::CustomResourceDefinition
        | Kind::ServiceAccount
        | Kind::Rbac
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::PersistentVolumeClaim
        | Kind::Service
        | Kind::HorizontalPodAutoscaler
        | Kind::Autoscaler
        | Kind::PodDisruptionBudget
        | Kind::Ingress
        | Kind::TraefikService
        | Kind::IngressRoute
        | Kind::GatewayRoute
        | Kind::VirtualService
        | Kind::Other => None,
    }
}

/// The pod template of a workload.
#[must_use]
pub fn template(kind: Kind, workload: &Value) -> Option<&Value> {
    workload.pointer(template_pointer(kind)?)
}

/// The pod template of a workload, to be changed.
pub fn template_mut(kind: Kind, workload: &mut Value) -> Option<&mut Value> {
    workload.pointer_mut(template_pointer(kind)?)
}

/// The labels that the workload's pods will have.
#[must_use]
pub fn labels(kind: Kind, workload: &Value) -> BTreeMap<String, String> {
    template(kind, workload)
        .and_then(|template| template.pointer("/metadata/labels"))
        .map(text_map)
        .unwrap_or_default()
}

/// The images of all containers.
#[must_use]
pub fn images(kind: Kind, workload: &Value) -> Vec<String> {
    let mut images = Vec::new();
    if let Some(template) = template(kind, workload) {
        for list in CONTAINER_LISTS {
            let containers = template.pointer(&format!("/spec/{list}"));
            for container in containers.and_then(Value::as_array).into_iter().flatten() {
                images.extend(
                    container
                        .get("image")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
            }
        }
    }
    images
}

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Calls `visit` with every container of a pod template, init and ephemeral ones included.
pub fn each_container_mut(template: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    for list in CONTAINER_LISTS {
        let containers = template.pointer_mut(&format!("/spec/{list}"));
        for container in containers
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            visit(container);
        }
    }
}

/// A JSON map of texts; entries of other types cannot be label values and are left out.
#[must_use]
pub fn text_map(value: &Value) -> BTreeMap<String, String> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
