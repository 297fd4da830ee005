//! Takes out of an object what the API server and its controllers wrote into it. Refuses to know
//! why somebody wants the rest.

use serde_json::Value;

use crate::kind::Kind;
use crate::names;

/// Metadata that the server keeps for itself.
const SERVER_METADATA: [&str; 7] = [
    "managedFields",
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "selfLink",
    "deletionGracePeriodSeconds",
];

/// Annotations that controllers, kubectl or our own lease keep: no part of what somebody wanted.
const KEPT_ANNOTATIONS: [&str; 9] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.daemonset.template.generation",
    "autoscaling.alpha.kubernetes.io/conditions",
    names::FENCE,
    names::SEAL,
];

/// The object as its writers wanted it: without status and what the server or a controller keeps.
/// Two objects that are equal in this form differ in nothing that an apply could change.
#[must_use]
pub fn intent(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.remove("status");
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in SERVER_METADATA {
                metadata.remove(key);
            }
            if let Some(annotations) = metadata
                .get_mut("annotations")
                .and_then(Value::as_object_mut)
            {
                annotations.retain(|key, _| !KEPT_ANNOTATIONS.contains(&key.as_str()));
                if annotations.is_empty() {
                    metadata.remove("annotations");
                }
            }
        }
    }
    value
}

/// The object as it can be created again elsewhere or later: [`intent`] without owners and
/// without the addresses that the cluster handed out.
#[must_use]
pub fn for_backup(kind: Kind, value: &Value) -> Value {
    let mut value = intent(value);
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("ownerReferences");
        metadata.remove("finalizers");
    }
    if kind == Kind::Service {
        clean_service(&mut value);
    }
    if let Some(template) = crate::pods::template_mut(kind, &mut value)
        && let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.remove("creationTimestamp");
    }
    value
}

fn clean_service(service: &mut Value) {
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    // `None` makes a Service headless: that is the writer's choice, not a handed-out address.
    if spec.get("clusterIP").and_then(Value::as_str) != Some("None") {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    spec.remove("healthCheckNodePort");
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_server_keeps_is_taken_out_and_the_rest_stays() {
        let live = json!({
            "metadata": {
                "name": "web", "uid": "1", "resourceVersion": "2", "generation": 3,
                "managedFields": [], "labels": {"app": "web"},
                "annotations": {"deployment.kubernetes.io/revision": "4", "team": "shop"}
            },
            "spec": {"replicas": 3},
            "status": {"replicas": 3}
        });
        assert_eq!(
            intent(&live),
            json!({
                "metadata": {"name": "web", "labels": {"app": "web"}, "annotations": {"team": "shop"}},
                "spec": {"replicas": 3}
            })
        );
    }

    #[test]
    fn a_backup_of_a_service_holds_no_handed_out_address_but_stays_headless() {
        let service = |address: &str| json!({"spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80, "nodePort": 30000}]}});
        assert_eq!(
            for_backup(Kind::Service, &service("10.96.0.7")),
            json!({"spec": {"ports": [{"port": 80}]}})
        );
        assert_eq!(
            for_backup(Kind::Service, &service("None")),
            json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}})
        );
    }
}
