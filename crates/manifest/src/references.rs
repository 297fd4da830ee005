//! What an object refers to by name: a pod's ConfigMaps and Secrets, an autoscaler's workload, a
//! StatefulSet's Service. Refuses to know which of these exist.

use serde_json::Value;

use crate::kind::Kind;
use crate::pods;

/// The kinds of objects that pods read by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl ConfigKind {
    /// The kind of object that is read, when it is one of these.
    #[must_use]
    pub fn of(kind: Kind) -> Option<Self> {
        if kind == Kind::ConfigMap {
            Some(Self::ConfigMap)
        } else if kind == Kind::Secret {
            Some(Self::Secret)
        } else {
            None
        }
    }
}

/// Calls `visit` with every name of a ConfigMap or Secret that the pods of this workload read:
/// environment, volumes (projected ones included), image pull secrets.
pub fn each_config_mut(
    kind: Kind,
    workload: &mut Value,
    visit: &mut dyn FnMut(ConfigKind, &mut String),
) {
    let Some(template) = pods::template_mut(kind, workload) else {
        return;
    };
    pods::each_container_mut(template, &mut |container| {
        for source in items_mut(container, "/envFrom") {
            visit_name(source, "/configMapRef/name", ConfigKind::ConfigMap, visit);
            visit_name(source, "/secretRef/name", ConfigKind::Secret, visit);
        }
        for variable in items_mut(container, "/env") {
            let from = "/valueFrom/configMapKeyRef/name";
            visit_name(variable, from, ConfigKind::ConfigMap, visit);
            visit_name(
                variable,
                "/valueFrom/secretKeyRef/name",
                ConfigKind::Secret,
                visit,
            );
        }
    });
    for volume in items_mut(template, "/spec/volumes") {
        visit_volume(volume, visit);
    }
    for secret in items_mut(template, "/spec/imagePullSecrets") {
        visit_name(secret, "/name", ConfigKind::Secret, visit);
    }
}

fn visit_volume(volume: &mut Value, visit: &mut dyn FnMut(ConfigKind, &mut String)) {
    visit_name(volume, "/configMap/name", ConfigKind::ConfigMap, visit);
    for pointer in [
        "/secret/secretName",
        "/azureFile/secretName",
        "/csi/nodePublishSecretRef/name",
        "/flexVolume/secretRef/name",
        "/cephfs/secretRef/name",
        "/rbd/secretRef/name",
        "/iscsi/secretRef/name",
    ] {
        visit_name(volume, pointer, ConfigKind::Secret, visit);
    }
    for source in items_mut(volume, "/projected/sources") {
        visit_name(source, "/configMap/name", ConfigKind::ConfigMap, visit);
        visit_name(source, "/secret/name", ConfigKind::Secret, visit);
    }
}

fn items_mut<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    value
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn visit_name(
    value: &mut Value,
    pointer: &str,
    kind: ConfigKind,
    visit: &mut dyn FnMut(ConfigKind, &mut String),
) {
    if let Some(Value::String(name)) = value.pointer_mut(pointer) {
        visit(kind, name);
    }
}

/// The ConfigMaps and Secrets that the pods of this workload read, in order of appearance.
#[must_use]
pub fn configs(kind: Kind, workload: &Value) -> Vec<(ConfigKind, String)> {
    let mut found = Vec::new();
    each_config_mut(kind, &mut workload.clone(), &mut |config, name| {
        found.push((config, name.clone()));
    });
    found
}

/// JSON pointer to the reference of an autoscaler to the workload that it sizes.
#[must_use]
pub fn scale_target_pointer(kind: Kind, object: &Value) -> Option<&'static str> {
    let pointer = match kind {
        Kind::HorizontalPodAutoscaler => "/spec/scaleTargetRef",
        Kind::Autoscaler if object.pointer("/spec/scaleTargetRef").is_some() => {
            "/spec/scaleTargetRef"
        }
        Kind::Autoscaler => "/spec/targetRef",
        Kind::Namespace
        | Kind::CustomResourceDefinition
        | Kind::ServiceAccount
        | Kind::Rbac
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::PersistentVolumeClaim
        | Kind::Service
        | Kind::Deployment
        | Kind::StatefulSet
        | Kind::DaemonSet
        | Kind::ReplicaSet
        | Kind::ReplicationController
        | Kind::Pod
        | Kind::Job
        | Kind::CronJob
        | Kind::PodDisruptionBudget
        | Kind::Ingress
        | Kind::TraefikService
        | Kind::IngressRoute
        | Kind::GatewayRoute
        | Kind::VirtualService
        | Kind::Other => return None,
    };
    object.pointer(pointer).map(|_| pointer)
}

/// The workload that an autoscaler sizes: its kind (KEDA's default is Deployment) and name.
#[must_use]
pub fn scale_target(kind: Kind, object: &Value) -> Option<(Kind, String)> {
    let target = object.pointer(scale_target_pointer(kind, object)?)?;
    let text = |key: &str| target.get(key).and_then(Value::as_str);
    let target_kind = Kind::of(
        text("apiVersion").unwrap_or("apps/v1"),
        text("kind").unwrap_or("Deployment"),
    );
    Some((target_kind, text("name")?.to_owned()))
}

/// Whether an object that makes no pods names a ConfigMap or Secret: a certificate of an Ingress,
/// the pull secret of a ServiceAccount. Custom resources spell such references in many ways, so
/// any text below a key that speaks of secrets, config maps or certificates counts.
#[must_use]
pub fn mentions_config(value: &Value, name: &str) -> bool {
    mentions(value, name, Below::Anything)
}

#[derive(Clone, Copy)]
enum Below {
    Anything,
    ConfigKey,
}

fn mentions(value: &Value, name: &str, below: Below) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, entry)| {
            let key = key.to_lowercase();
            let speaks = ["secret", "configmap", "certificate"]
                .iter()
                .any(|word| key.contains(word));
            let below = if speaks { Below::ConfigKey } else { below };
            key != "metadata" && mentions(entry, name, below)
        }),
        Value::Array(items) => items.iter().any(|item| mentions(item, name, below)),
        Value::String(text) => matches!(below, Below::ConfigKey) && text == name,
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
