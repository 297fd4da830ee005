//! The kinds of objects that a delivery treats in a way of their own, told apart by API group
//! and kind. What is done with them is decided elsewhere.

/// A kind that this project handles, or [`Kind::Other`] for everything that is applied as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1 Namespace`
    Namespace,
    /// `apiextensions.k8s.io CustomResourceDefinition`
    CustomResourceDefinition,
    /// `v1 ServiceAccount`
    ServiceAccount,
    /// `rbac.authorization.k8s.io Role`, `RoleBinding`, `ClusterRole`, `ClusterRoleBinding`
    Rbac,
    /// `v1 ConfigMap`
    ConfigMap,
    /// `v1 Secret`
    Secret,
    /// `v1 PersistentVolumeClaim`
    PersistentVolumeClaim,
    /// `v1 Service`
    Service,
    /// `apps Deployment`
    Deployment,
    /// `apps StatefulSet`
    StatefulSet,
    /// `apps DaemonSet`
    DaemonSet,
    /// `apps ReplicaSet`
    ReplicaSet,
    /// `v1 ReplicationController`
    ReplicationController,
    /// `v1 Pod`
    Pod,
    /// `batch Job`
    Job,
    /// `batch CronJob`
    CronJob,
    /// `autoscaling HorizontalPodAutoscaler`
    HorizontalPodAutoscaler,
    /// Other objects that scale or size one workload: KEDA's `ScaledObject`, `VerticalPodAutoscaler`.
    Autoscaler,
    /// `policy PodDisruptionBudget`
    PodDisruptionBudget,
    /// `networking.k8s.io Ingress`
    Ingress,
    /// `traefik.io TraefikService`
    TraefikService,
    /// `traefik.io IngressRoute`, `IngressRouteTCP`, `IngressRouteUDP`
    IngressRoute,
    /// `gateway.networking.k8s.io HTTPRoute`, `GRPCRoute`, `TCPRoute`, `TLSRoute`, `UDPRoute`
    GatewayRoute,
    /// `networking.istio.io VirtualService`
    VirtualService,
    /// Everything else.
    Other,
}

impl Kind {
    /// Tells the kind from an `apiVersion` and a `kind` as a manifest spells them.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Self {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        match group {
            "" => Self::of_core(kind),
            "apps" => Self::of_apps(kind),
            "batch" => Self::of_batch(kind),
            _ => Self::of_other_group(group, kind),
        }
    }

    fn of_core(kind: &str) -> Self {
        match kind {
            "Namespace" => Self::Namespace,
            "ServiceAccount" => Self::ServiceAccount,
            "ConfigMap" => Self::ConfigMap,
            "Secret" => Self::Secret,
            "PersistentVolumeClaim" => Self::PersistentVolumeClaim,
            "Service" => Self::Service,
            "Pod" => Self::Pod,
            "ReplicationController" => Self::ReplicationController,
            _ => Self::Other,
        }
    }

    fn of_apps(kind: &str) -> Self {
        match kind {
            "Deployment" => Self::Deployment,
            "StatefulSet" => Self::StatefulSet,
            "DaemonSet" => Self::DaemonSet,
            "ReplicaSet" => Self::ReplicaSet,
            _ => Self::Other,
        }
    }

    fn of_batch(kind: &str) -> Self {
        match kind {
            "Job" => Self::Job,
            "CronJob" => Self::CronJob,
            _ => Self::Other,
        }
    }

    fn of_other_group(group: &str, kind: &str) -> Self {
        match (group, kind) {
            ("apiextensions.k8s.io", "CustomResourceDefinition") => Self::CustomResourceDefinition,
            ("rbac.authorization.k8s.io", _) => Self::Rbac,
            ("autoscaling", "HorizontalPodAutoscaler") => Self::HorizontalPodAutoscaler,
            ("keda.sh", "ScaledObject") | ("autoscaling.k8s.io", "VerticalPodAutoscaler") => {
                Self::Autoscaler
            }
            ("policy", "PodDisruptionBudget") => Self::PodDisruptionBudget,
            ("networking.k8s.io", "Ingress") => Self::Ingress,
            ("traefik.io", "TraefikService") => Self::TraefikService,
            ("traefik.io", "IngressRoute" | "IngressRouteTCP" | "IngressRouteUDP") => {
                Self::IngressRoute
            }
            (
                "gateway.networking.k8s.io",
                "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "TLSRoute" | "UDPRoute",
            ) => Self::GatewayRoute,
            ("networking.istio.io", "VirtualService") => Self::VirtualService,
            _ => Self::Other,
        }
    }

    /// Whether objects of this kind run pods of their own.
    #[must_use]
    pub const fn is_workload(self) -> bool {
        matches!(
            self,
            Self::Deployment
                | Self::StatefulSet
                | Self::DaemonSet
                | Self::ReplicaSet
                | Self::ReplicationController
                | Self::Pod
                | Self::Job
                | Self::CronJob
        )
    }

    /// Whether objects of this kind always decide where traffic goes, and so are never slotted.
    /// A Service can be a front as well, but only when it is declared as one.
    #[must_use]
    pub const fn is_route(self) -> bool {
        matches!(
            self,
            Self::Ingress
                | Self::TraefikService
                | Self::IngressRoute
                | Self::GatewayRoute
                | Self::VirtualService
        )
    }

    /// Whether `spec.replicas` of this kind is a size that can be set and scaled.
    #[must_use]
    pub const fn has_replicas(self) -> bool {
        matches!(
            self,
            Self::Deployment | Self::StatefulSet | Self::ReplicaSet | Self::ReplicationController
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_by_its_group_as_well_as_its_name() {
        assert_eq!(Kind::of("v1", "Service"), Kind::Service);
        assert_eq!(
            Kind::of("serving.knative.dev/v1", "Service"),
            Kind::Other,
            "Knative's Service is not Kubernetes' Service"
        );
        assert_eq!(
            Kind::of("traefik.containo.us/v1alpha1", "TraefikService"),
            Kind::Other,
            "Traefik 3 dropped the old group"
        );
        assert_eq!(
            Kind::of("gateway.networking.k8s.io/v1", "HTTPRoute"),
            Kind::GatewayRoute
        );
    }
}
