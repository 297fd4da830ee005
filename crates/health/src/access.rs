//! What this step must be allowed to do, asked for at once and before any waiting.
//! It refuses to know what the step is for.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Resource;
use switchyard_cluster::access::Permission;
use switchyard_cluster::port_forward::{self, ForwardObject, ForwardTarget};
use switchyard_cluster::workloads::{WorkloadKind, WorkloadRef};
use switchyard_cluster::{Cluster, Deadline, Operation, Verb};
use switchyard_runner::{Failure, Kind};

use crate::connection::failure;

/// What a step is going to use.
#[derive(Clone, Debug, Default)]
pub struct Needs<'step> {
    /// Workloads that are watched.
    pub workloads: &'step [WorkloadRef],
    /// Whether workloads are watched by selector.
    pub by_selector: bool,
    /// Targets that are reached through the API server.
    pub targets: Vec<&'step ForwardTarget>,
    /// A workload whose size is changed.
    pub resized: Option<WorkloadRef>,
}

/// Refuses a step that would fail half-way for want of a permission.
///
/// # Errors
/// All gaps in one failure, with the rules that would close them.
pub async fn require_access(
    cluster: &Cluster,
    needs: &Needs<'_>,
    deadline: Deadline,
) -> Result<(), Failure> {
    cluster.require_namespace(deadline).await.map_err(failure)?;
    let permissions = permissions(cluster.namespace(), needs);
    let report = cluster.review_access(&permissions, deadline).await;
    let report = report.map_err(failure)?;
    if report.is_complete() {
        return Ok(());
    }
    let text = format!(
        "not allowed in namespace `{}`: {}",
        cluster.namespace(),
        report.gaps().join("; ")
    );
    let failure = Failure::message(Kind::Remote, text).hint(format!(
        "add these rules to the deployer's role:\n{}",
        report.rules().trim_end()
    ));
    // Where nothing at all is allowed, the name is wrong more often than the role.
    let is_all = report.missing.len() == report.asked;
    Err(failure.maybe_hint(
        is_all.then(|| format!("check that namespace `{}` exists", cluster.namespace())),
    ))
}

fn permissions(namespace: &str, needs: &Needs<'_>) -> Vec<Permission> {
    let mut operations: Vec<Operation> = Vec::new();
    let watched = |kind: WorkloadKind| {
        needs.workloads.iter().any(|workload| workload.kind == kind)
            || (needs.by_selector && kind != WorkloadKind::Job)
    };
    for kind in WorkloadKind::ALL {
        if watched(kind) {
            operations.extend(match kind {
                WorkloadKind::Deployment => watch::<Deployment>(namespace),
                WorkloadKind::StatefulSet => watch::<StatefulSet>(namespace),
                WorkloadKind::DaemonSet => watch::<DaemonSet>(namespace),
                WorkloadKind::Job => watch::<Job>(namespace),
            });
        }
    }
    if watched(WorkloadKind::Deployment) {
        operations.extend(watch::<ReplicaSet>(namespace));
    }
    if !operations.is_empty() {
        operations.extend(watch::<Pod>(namespace));
    }
    for target in &needs.targets {
        operations.extend(of_target(namespace, target));
    }
    if let Some(workload) = &needs.resized {
        operations.extend([Verb::Get, Verb::Patch].map(|verb| {
            let operation = match workload.kind {
                WorkloadKind::Deployment => Operation::on::<Deployment>(verb, namespace),
                WorkloadKind::StatefulSet => Operation::on::<StatefulSet>(verb, namespace),
                WorkloadKind::DaemonSet => Operation::on::<DaemonSet>(verb, namespace),
                WorkloadKind::Job => Operation::on::<Job>(verb, namespace),
            };
            operation.named(&workload.name)
        }));
        operations.push(Operation::on::<HorizontalPodAutoscaler>(
            Verb::List,
            namespace,
        ));
    }
    let mut unique: Vec<Operation> = Vec::new();
    for operation in operations {
        if !unique.contains(&operation) {
            unique.push(operation);
        }
    }
    unique.into_iter().map(Permission::to).collect()
}

fn watch<K: Resource<DynamicType = ()>>(namespace: &str) -> [Operation; 2] {
    [Verb::List, Verb::Watch].map(|verb| Operation::on::<K>(verb, namespace))
}

fn of_target(namespace: &str, target: &ForwardTarget) -> Vec<Operation> {
    let mut operations = port_forward::operations(namespace).to_vec();
    operations.push(match &target.object {
        ForwardObject::Service(name) => Operation::on::<Service>(Verb::Get, namespace).named(name),
        ForwardObject::Pod(name) => Operation::on::<Pod>(Verb::Get, namespace).named(name),
        ForwardObject::Workload(workload) => match workload.kind {
            WorkloadKind::Deployment => Operation::on::<Deployment>(Verb::Get, namespace),
            WorkloadKind::StatefulSet => Operation::on::<StatefulSet>(Verb::Get, namespace),
            WorkloadKind::DaemonSet => Operation::on::<DaemonSet>(Verb::Get, namespace),
            WorkloadKind::Job => Operation::on::<Job>(Verb::Get, namespace),
        }
        .named(&workload.name),
    });
    operations.push(Operation::on::<Pod>(Verb::List, namespace));
    operations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(needs: &Needs<'_>) -> Vec<String> {
        let permissions = permissions("shop", needs);
        let operations = permissions.iter().map(|one| one.operation.to_string());
        operations.collect()
    }

    #[test]
    fn exactly_what_the_step_uses_is_asked_for_and_nothing_twice() {
        let workloads: Vec<WorkloadRef> = ["deployment/a", "deployment/b", "job/m"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let target: ForwardTarget = "service/a:http".parse().unwrap();
        let needs = Needs {
            workloads: &workloads,
            by_selector: false,
            targets: vec![&target, &target],
            ..Needs::default()
        };
        assert_eq!(
            shown(&needs),
            [
                "list deployments.apps in namespace `shop`",
                "watch deployments.apps in namespace `shop`",
                "list jobs.batch in namespace `shop`",
                "watch jobs.batch in namespace `shop`",
                "list replicasets.apps in namespace `shop`",
                "watch replicasets.apps in namespace `shop`",
                "list pods in namespace `shop`",
                "watch pods in namespace `shop`",
                "get pods/portforward in namespace `shop`",
                "create pods/portforward in namespace `shop`",
                "get services `shop/a`",
            ]
        );
    }

    #[test]
    fn a_step_that_only_probes_urls_needs_nothing() {
        assert!(shown(&Needs::default()).is_empty());
    }

    #[test]
    fn a_workload_that_is_resized_is_patched_by_its_name_beside_its_autoscalers() {
        let needs = Needs {
            resized: Some("statefulset/db".parse().unwrap()),
            ..Needs::default()
        };
        assert_eq!(
            shown(&needs),
            [
                "get statefulsets.apps `shop/db`",
                "patch statefulsets.apps `shop/db`",
                "list horizontalpodautoscalers.autoscaling in namespace `shop`",
            ]
        );
    }
}
