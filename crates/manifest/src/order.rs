//! The order in which objects are written, so that what others refer to is there first.

use crate::kind::Kind;
use crate::object::Object;

/// The rank of a kind: lower ranks are written first. Routes come last, so that no proxy is told
/// of a Service that is not there yet.
#[must_use]
pub const fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Namespace => 0,
        Kind::CustomResourceDefinition => 1,
        Kind::ServiceAccount => 2,
        Kind::Rbac => 3,
        Kind::ConfigMap => 4,
        Kind::Secret => 5,
        Kind::PersistentVolumeClaim => 6,
        Kind::Service => 7,
        Kind::Other => 8,
        Kind::StatefulSet => 9,
        Kind::DaemonSet => 10,
        Kind::Deployment => 11,
        Kind::ReplicaSet => 12,
        Kind::ReplicationController => 13,
        Kind::Pod => 14,
        Kind::Job => 15,
        Kind::CronJob => 16,
        Kind::HorizontalPodAutoscaler => 17,
        Kind::Autoscaler => 18,
        Kind::PodDisruptionBudget => 19,
        Kind::TraefikService => 20,
        Kind::Ingress => 21,
        Kind::IngressRoute => 22,
        Kind::GatewayRoute => 23,
        Kind::VirtualService => 24,
    }
}

/// Sorts objects into the order of writing; objects of one kind keep the manifest's order.
pub fn sort(objects: &mut [Object]) {
    objects.sort_by_key(|object| rank(object.kind()));
}
