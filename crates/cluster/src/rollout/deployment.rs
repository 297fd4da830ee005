//! Deployments: kubectl's and kstatus's rules, and the old pods gone.
//! It refuses to know other kinds.

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Expectation, Observation, Pods, STUCK_GRACE, Status,
    pods::{self, Strictness, hopeless, is_ready, owner_uid, waiting_for},
};

const REVISION: &str = "deployment.kubernetes.io/revision";

pub(super) fn status(
    object: &Deployment,
    observation: &Observation<'_>,
    expectation: &Expectation,
) -> Status {
    let spec = object.spec.as_ref();
    let state = object.status.clone().unwrap_or_default();
    if object.metadata.generation > state.observed_generation {
        return Status::progressing("waiting for the controller to see the change");
    }
    if spec.and_then(|spec| spec.paused) == Some(true) {
        return Status::failed("it is paused, so nothing rolls out");
    }
    let pods = pods(object, observation);
    let failure = hopeless(
        pods.current.iter().copied(),
        Strictness::Service,
        observation.history,
        observation.elapsed,
        expectation,
    );
    if let Some(failure) = failure {
        return Status::Failed(failure);
    }
    if let Some(failure) = condition_failure(object, observation) {
        return failure;
    }
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let counts = [
        ("updated", state.updated_replicas.unwrap_or(0)),
        ("ready", state.ready_replicas.unwrap_or(0)),
        ("available", state.available_replicas.unwrap_or(0)),
    ];
    if let Some((name, count)) = counts.iter().find(|(_, count)| *count < wanted) {
        let why = waiting_for(&pods.current).map_or(String::new(), |why| format!("; {why}"));
        return Status::progressing(format!("{count} of {wanted} replicas {name}{why}"));
    }
    let old = (state.replicas.unwrap_or(0) - state.updated_replicas.unwrap_or(0)).max(0);
    if let Some(reason) = leftovers(usize::try_from(old).unwrap_or(0), &pods) {
        return reason;
    }
    if state.updated_replicas.unwrap_or(0) > wanted {
        return Status::progressing(format!("scaling down to {wanted}"));
    }
    let seen = pods.current.iter().filter(|pod| is_ready(pod)).count();
    if seen < usize::try_from(wanted).unwrap_or(0) {
        // The status may be ahead of the pods that our own watch has shown.
        return Status::progressing(format!("{seen} of {wanted} ready pods seen"));
    }
    settled(object)
}

/// Old replicas in the Deployment's status, then old pods that still exist: those on their way
/// out count as gone in the status while they still serve.
fn leftovers(old_replicas: usize, pods: &Pods<'_>) -> Option<Status> {
    if old_replicas > 0 {
        let reason = format!("{old_replicas} old replicas are still to end");
        return Some(Status::progressing(reason));
    }
    let count = pods.old.len();
    (count > 0).then(|| {
        let names: Vec<_> = pods
            .old
            .iter()
            .take(3)
            .filter_map(|pod| pod.metadata.name.as_deref())
            .collect();
        Status::progressing(format!(
            "{count} old pods are still terminating ({}{})",
            names.join(", "),
            if count > names.len() { ", …" } else { "" }
        ))
    })
}

/// The conditions have the last word: they lag behind the counts by one reconciliation.
fn settled(object: &Deployment) -> Status {
    if condition(object, "Available").is_none_or(|available| available.status != "True") {
        return Status::progressing("waiting for condition Available");
    }
    match condition(object, "Progressing") {
        Some(progressing) if progressing.reason.as_deref() != Some("NewReplicaSetAvailable") => {
            Status::progressing("waiting for the new ReplicaSet to count as available")
        }
        // No such condition: the Deployment has no progress deadline.
        Some(_) | None => Status::Done,
    }
}

fn condition_failure(object: &Deployment, observation: &Observation<'_>) -> Option<Status> {
    let progressing = condition(object, "Progressing");
    if let Some(exceeded) = progressing
        && exceeded.reason.as_deref() == Some("ProgressDeadlineExceeded")
    {
        let message = exceeded.message.as_deref().unwrap_or_default();
        return Some(Status::failed(format!(
            "its progress deadline has passed: {message}"
        )));
    }
    let failure = condition(object, "ReplicaFailure").filter(|failure| failure.status == "True")?;
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let stuck = observation.history.stuck_for(uid, observation.elapsed)?;
    (stuck > STUCK_GRACE).then(|| {
        let message = failure.message.as_deref().unwrap_or("no reason given");
        Status::failed(format!("its pods cannot be created: {message}"))
    })
}

fn condition<'object>(
    object: &'object Deployment,
    kind: &str,
) -> Option<&'object DeploymentCondition> {
    let conditions = object.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the Deployment cannot create its pods just now (quota, admission).
pub(super) fn cannot_create(object: &Deployment) -> bool {
    condition(object, "ReplicaFailure").is_some_and(|failure| failure.status == "True")
}

/// A status that the controller has not brought up to date says nothing yet; by the time it does,
/// the question is asked again.
pub(super) fn needs_pods(object: &Deployment) -> bool {
    let wanted = object.spec.as_ref().and_then(|spec| spec.replicas);
    if wanted != Some(0) {
        return true;
    }
    let Some(state) = object.status.as_ref() else {
        return false;
    };
    let is_observed = state.observed_generation >= object.metadata.generation;
    is_observed && (state.replicas.unwrap_or(0) > 0 || state.terminating_replicas != Some(0))
}

/// The Deployment's own ReplicaSets.
fn own_replica_sets<'objects>(
    object: &Deployment,
    observation: &Observation<'objects>,
) -> Vec<&'objects ObjectMeta> {
    let uid = object.metadata.uid.as_deref();
    let all = observation.replica_sets.iter().copied();
    all.filter(|meta| uid.is_some() && owner_uid(meta) == uid)
        .collect()
}

/// The ReplicaSet that carries the Deployment's own revision, which the controller writes before
/// it acknowledges the generation.
pub(super) fn current_replica_sets<'objects>(
    object: &Deployment,
    observation: &Observation<'objects>,
) -> Vec<&'objects ObjectMeta> {
    let revision = annotation(&object.metadata);
    let own = own_replica_sets(object, observation).into_iter();
    own.filter(|meta| revision.is_some() && annotation(meta) == revision)
        .collect()
}

/// Splits the Deployment's pods by ReplicaSet.
pub(super) fn pods<'objects>(
    object: &Deployment,
    observation: &Observation<'objects>,
) -> Pods<'objects> {
    let own = own_replica_sets(object, observation);
    let current = current_replica_sets(object, observation);
    let is_among = |sets: &[&ObjectMeta], owner: &str| {
        sets.iter().any(|meta| meta.uid.as_deref() == Some(owner))
    };
    let mut split = Pods::default();
    for pod in observation.pods {
        let Some(owner) = owner_uid(&pod.metadata) else {
            continue;
        };
        if is_among(&current, owner) {
            split.current.push(pod);
        } else if is_among(&own, owner) && !pods::is_leftover(pod) {
            split.old.push(pod);
        }
    }
    split
}

fn annotation(meta: &ObjectMeta) -> Option<&str> {
    let annotations = meta.annotations.as_ref()?;
    annotations.get(REVISION).map(String::as_str)
}
