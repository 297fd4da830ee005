//! What exactly this plan has to be allowed to do, asked for before anything is touched.
//! Refuses to guess: every gap is reported at once, as rules to paste.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use switchyard_cluster::access::Permission;
use switchyard_cluster::port_forward::{self, ForwardObject};
use switchyard_cluster::workloads::WorkloadKind;
use switchyard_cluster::{Cluster, Deadline, Operation, Verb};
use switchyard_deployment::cluster_failure;
use switchyard_record::{application_record_name, lease_name};
use switchyard_runner::{Failure, Kind};
use switchyard_traffic::provider::ProviderKind;
use switchyard_traffic::proxies::ProxySource;
use switchyard_traffic::roles::Target;

/// How long the API server may take to answer all reviews.
const LIMIT: Duration = Duration::from_secs(30);

/// What a plan touches.
pub(crate) struct Plan<'plan> {
    pub(crate) namespace: &'plan str,
    pub(crate) application: &'plan str,
    pub(crate) targets: &'plan [Target],
    pub(crate) proxies: Vec<&'plan ProxySource>,
    pub(crate) writing: Writing,
}

/// Whether a plan is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// It is.
    Yes,
    /// It is only shown.
    No,
}

/// Everything that a plan needs.
pub(crate) fn permissions(plan: &Plan<'_>) -> Vec<Permission> {
    let mut operations = Vec::new();
    let namespace = plan.namespace;
    for target in plan.targets {
        let resource = target.provider.provider().resource();
        let on = |verb| Operation::on_dynamic(verb, &resource, Some(namespace)).named(&target.name);
        operations.push(on(Verb::Get));
        if plan.writing == Writing::Yes {
            operations.push(on(Verb::Patch));
        }
        if target.provider == ProviderKind::Nginx {
            // What the canary stands beside.
            operations.push(Operation::on_dynamic(
                Verb::List,
                &resource,
                Some(namespace),
            ));
        }
        if target.provider != ProviderKind::Service {
            operations.push(Operation::on::<Service>(Verb::Get, namespace));
        }
    }
    for verb in [Verb::List, Verb::Watch] {
        operations.push(Operation::on::<EndpointSlice>(verb, namespace));
        operations.push(Operation::on::<Pod>(verb, namespace));
    }
    let record = application_record_name(plan.application);
    operations.push(Operation::on::<ConfigMap>(Verb::Get, namespace).named(&record));
    if plan.writing == Writing::Yes {
        let lease = lease_name(plan.application);
        operations.push(Operation::on::<ConfigMap>(Verb::Create, namespace));
        operations.push(Operation::on::<ConfigMap>(Verb::Update, namespace).named(&record));
        operations.push(Operation::on::<Lease>(Verb::Create, namespace));
        operations.push(Operation::on::<Lease>(Verb::Get, namespace).named(&lease));
        operations.push(Operation::on::<Lease>(Verb::Update, namespace).named(&lease));
    }
    if plan.writing == Writing::Yes {
        for verb in [Verb::Get, Verb::List, Verb::Patch] {
            operations.push(Operation::on::<Deployment>(verb, namespace));
            operations.push(Operation::on::<StatefulSet>(verb, namespace));
        }
        // Their floors are raised on the way back, and given back after it.
        for verb in [Verb::List, Verb::Patch] {
            operations.push(Operation::on::<HorizontalPodAutoscaler>(verb, namespace));
        }
    }
    for source in &plan.proxies {
        if let ProxySource::Pods { namespace, target } = source {
            operations.extend(to_find_pods(namespace, &target.object));
            operations.extend(port_forward::operations(namespace));
        }
    }
    let mut permissions: Vec<Permission> = Vec::new();
    for operation in operations {
        let permission = Permission::to(operation);
        if !permissions.contains(&permission) {
            permissions.push(permission);
        }
    }
    permissions
}

/// What finding the pods behind an object needs in its namespace.
fn to_find_pods(namespace: &str, object: &ForwardObject) -> Vec<Operation> {
    let (object, name) = match object {
        ForwardObject::Pod(name) => {
            return vec![Operation::on::<Pod>(Verb::Get, namespace).named(name)];
        }
        ForwardObject::Service(name) => (Operation::on::<Service>(Verb::Get, namespace), name),
        ForwardObject::Workload(workload) => {
            let get = match workload.kind {
                WorkloadKind::Deployment => Operation::on::<Deployment>(Verb::Get, namespace),
                WorkloadKind::StatefulSet => Operation::on::<StatefulSet>(Verb::Get, namespace),
                WorkloadKind::DaemonSet => Operation::on::<DaemonSet>(Verb::Get, namespace),
                WorkloadKind::Job => Operation::on::<Job>(Verb::Get, namespace),
            };
            (get, &workload.name)
        }
    };
    vec![
        object.named(name),
        Operation::on::<Pod>(Verb::List, namespace),
    ]
}

/// Asks for everything at once and reports all gaps together.
///
/// # Errors
/// A failure of kind remote: what is missing, and the rules that would allow it.
pub(crate) async fn require(cluster: &Cluster, plan: &Plan<'_>) -> Result<(), Failure> {
    let permissions = permissions(plan);
    let report = cluster
        .review_access(&permissions, Deadline::after(LIMIT))
        .await
        .map_err(cluster_failure)?;
    if report.is_complete() {
        return Ok(());
    }
    let gaps = report.gaps();
    let text = format!(
        "{} of {} permissions are missing, nothing was changed: {}",
        gaps.len(),
        report.asked,
        gaps.join(", ")
    );
    Err(Failure::message(Kind::Remote, text).hint(format!(
        "give the deployer's role these rules:\n{}",
        report.rules().trim_end()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_plan_is_asked_for() {
        let targets: Vec<Target> = vec![
            "traefik/shop:web".parse().unwrap(),
            "service/api".parse().unwrap(),
        ];
        let plan = |writing| Plan {
            namespace: "shop",
            application: "web",
            targets: &targets,
            proxies: Vec::new(),
            writing,
        };
        let lines = |writing| {
            let permissions = permissions(&plan(writing));
            let lines: Vec<_> = permissions
                .iter()
                .map(|permission| permission.operation.to_string())
                .collect();
            lines.join("\n")
        };
        insta::assert_snapshot!(lines(Writing::Yes), @r"
        get traefikservices.traefik.io `shop/shop`
        patch traefikservices.traefik.io `shop/shop`
        get services in namespace `shop`
        get services `shop/api`
        patch services `shop/api`
        list endpointslices.discovery.k8s.io in namespace `shop`
        list pods in namespace `shop`
        watch endpointslices.discovery.k8s.io in namespace `shop`
        watch pods in namespace `shop`
        get configmaps `shop/switchyard.web`
        create configmaps in namespace `shop`
        update configmaps `shop/switchyard.web`
        create leases.coordination.k8s.io in namespace `shop`
        get leases.coordination.k8s.io `shop/switchyard-web`
        update leases.coordination.k8s.io `shop/switchyard-web`
        get deployments.apps in namespace `shop`
        get statefulsets.apps in namespace `shop`
        list deployments.apps in namespace `shop`
        list statefulsets.apps in namespace `shop`
        patch deployments.apps in namespace `shop`
        patch statefulsets.apps in namespace `shop`
        list horizontalpodautoscalers.autoscaling in namespace `shop`
        patch horizontalpodautoscalers.autoscaling in namespace `shop`
        ");
        assert!(!lines(Writing::No).contains("patch"));
    }

    #[test]
    fn proxies_are_found_and_reached_in_their_own_namespace() {
        let asked = |source: &str| {
            let source: ProxySource = source.parse().unwrap();
            let permissions = permissions(&Plan {
                namespace: "shop",
                application: "web",
                targets: &[],
                proxies: vec![&source],
                writing: Writing::No,
            });
            let lines = permissions
                .iter()
                .map(|permission| permission.operation.to_string());
            let lines: Vec<_> = lines.filter(|line| line.contains("traefik")).collect();
            lines.join("\n")
        };
        insta::assert_snapshot!(asked("traefik/deployment/proxy:8080"), @r"
        get deployments.apps `traefik/proxy`
        list pods in namespace `traefik`
        get pods/portforward in namespace `traefik`
        create pods/portforward in namespace `traefik`
        ");
        assert!(asked("traefik/service/proxy:api").starts_with("get services `traefik/proxy`"));
        assert!(!asked("traefik/pod/proxy-0:8080").contains("list"));
        assert_eq!(asked("http://traefik.test:8080"), "");
    }
}
