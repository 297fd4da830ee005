//! What a command needs to be allowed, asked before it begins, with all gaps in one report.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use switchyard_cluster::access::Permission;
use switchyard_cluster::{Cluster, Deadline, DynamicKind, Operation, Verb};
use switchyard_deployment::cluster_failure;
use switchyard_runner::{Failure, Kind};

/// Asks for all permissions at once.
///
/// # Errors
/// A remote failure that names every gap, with rules to paste.
pub(crate) async fn check(
    cluster: &Cluster,
    mut wanted: Vec<Permission>,
    deadline: Deadline,
) -> Result<(), Failure> {
    let mut seen: Vec<Permission> = Vec::new();
    wanted.retain(|permission| {
        let is_new = !seen.contains(permission);
        if is_new {
            seen.push(permission.clone());
        }
        is_new
    });
    let report = cluster
        .review_access(&wanted, deadline)
        .await
        .map_err(cluster_failure)?;
    if report.is_complete() {
        return Ok(());
    }
    let is_all = report.missing.len() == report.asked;
    let failure = Failure::message(
        Kind::Remote,
        format!(
            "{} of {} permissions that this plan needs are missing: {}",
            report.missing.len(),
            report.asked,
            report.gaps().join("; ")
        ),
    );
    // Where nothing at all is allowed, the name is wrong more often than the role.
    let elsewhere = is_all.then(|| {
        format!(
            "nothing is allowed in namespace `{}`: is that its name?",
            cluster.namespace()
        )
    });
    Err(failure.maybe_hint(elsewhere).hint(format!(
        "add these rules to the role of this user, then run the step again:\n{}",
        report.rules()
    )))
}

/// What doing something with one object needs.
pub(crate) fn on(
    kind: &DynamicKind,
    (namespace, name): (&str, &str),
    verbs: &[Verb],
) -> Vec<Permission> {
    let namespace = kind.is_namespaced.then_some(namespace);
    verbs
        .iter()
        .map(|verb| {
            let operation = Operation::on_dynamic(*verb, &kind.resource, namespace);
            // A rule for named objects never covers creating them, so no name is asked for.
            Permission::to(if *verb == Verb::Create {
                operation
            } else {
                operation.named(name)
            })
        })
        .collect()
}

/// What keeping the record needs: its ConfigMaps and its Lease.
pub(crate) fn to_record(namespace: &str) -> Vec<Permission> {
    let records = [Verb::Get, Verb::Create, Verb::Update]
        .map(|verb| Permission::to(Operation::on::<ConfigMap>(verb, namespace)));
    let leases = [Verb::Get, Verb::Create, Verb::Update]
        .map(|verb| Permission::to(Operation::on::<Lease>(verb, namespace)));
    records.into_iter().chain(leases).collect()
}

/// What watching an update pod by pod, and taking it back, needs beyond applying it.
pub(crate) fn to_roll(namespace: &str) -> Vec<Permission> {
    let mut wanted = to_survey(namespace);
    wanted.push(Permission::to(Operation::on::<Deployment>(
        Verb::Update,
        namespace,
    )));
    for verb in [Verb::List, Verb::Watch] {
        wanted.push(Permission::to(Operation::on::<Pod>(verb, namespace)));
        wanted.push(Permission::to(Operation::on::<ReplicaSet>(verb, namespace)));
        wanted.push(Permission::to(Operation::on::<Deployment>(verb, namespace)));
    }
    wanted
}

/// What seeing all selectors of a namespace needs.
pub(crate) fn to_survey(namespace: &str) -> Vec<Permission> {
    vec![
        Permission::to(Operation::on::<Service>(Verb::List, namespace)),
        Permission::to(Operation::on::<PodDisruptionBudget>(Verb::List, namespace)),
        Permission::to(Operation::on::<HorizontalPodAutoscaler>(
            Verb::List,
            namespace,
        )),
        Permission::to(Operation::on::<Deployment>(Verb::List, namespace)),
        Permission::to(Operation::on::<StatefulSet>(Verb::List, namespace)),
        Permission::to(Operation::on::<DaemonSet>(Verb::List, namespace)),
    ]
}
