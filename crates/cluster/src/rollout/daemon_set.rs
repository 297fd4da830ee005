//! DaemonSets: one pod per node.
//! It refuses to know other kinds.

use k8s_openapi::api::apps::v1::DaemonSet;

use super::{
    Expectation, Observation, Pods, Status,
    pods::{self, Strictness, hopeless, owner_uid, waiting_for},
};

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const POD_TEMPLATE_GENERATION: &str = "pod-template-generation";

pub(super) fn status(
    object: &DaemonSet,
    observation: &Observation<'_>,
    expectation: &Expectation,
) -> Status {
    let Some(state) = object.status.as_ref() else {
        return Status::progressing("waiting for the controller to see it");
    };
    if object.metadata.generation > state.observed_generation {
        return Status::progressing("waiting for the controller to see the change");
    }
    let spec = object.spec.as_ref();
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref());
    if strategy == Some("OnDelete") {
        return Status::failed(
            "its update strategy is OnDelete: nothing rolls out until somebody deletes its pods",
        );
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
    let wanted = state.desired_number_scheduled;
    let counts = [
        ("updated", state.updated_number_scheduled.unwrap_or(0)),
        ("ready", state.number_ready),
        ("available", state.number_available.unwrap_or(0)),
    ];
    if let Some((name, count)) = counts.iter().find(|(_, count)| *count < wanted) {
        let why = waiting_for(&pods.current).map_or(String::new(), |why| format!("; {why}"));
        return Status::progressing(format!("{count} of {wanted} nodes {name}{why}"));
    }
    if state.number_misscheduled > 0 {
        let count = state.number_misscheduled;
        return Status::progressing(format!("{count} pods run on nodes where none should"));
    }
    if !pods.old.is_empty() {
        let count = pods.old.len();
        return Status::progressing(format!("{count} old pods are still terminating"));
    }
    Status::Done
}

/// Splits pods by template generation: the controller's own way to tell, and the only one that
/// needs no ControllerRevisions.
pub(super) fn pods<'objects>(
    object: &DaemonSet,
    observation: &Observation<'objects>,
) -> Pods<'objects> {
    let uid = object.metadata.uid.as_deref();
    let annotations = object.metadata.annotations.as_ref();
    let generation = annotations.and_then(|annotations| annotations.get(TEMPLATE_GENERATION));
    let mut split = Pods::default();
    for pod in observation.pods {
        if uid.is_none() || owner_uid(&pod.metadata) != uid {
            continue;
        }
        let labels = pod.metadata.labels.as_ref();
        let of_pod = labels.and_then(|labels| labels.get(POD_TEMPLATE_GENERATION));
        if generation.is_none() || of_pod == generation {
            split.current.push(pod);
        } else if !pods::is_leftover(pod) {
            split.old.push(pod);
        }
    }
    split
}
