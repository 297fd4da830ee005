//! StatefulSets: one pod at a time, partitions respected.
//! It refuses to know other kinds.

use k8s_openapi::api::apps::v1::StatefulSet;

use super::{
    Expectation, Observation, Pods, Status,
    pods::{self, Strictness, hopeless, is_terminating, owner_uid, waiting_for},
};

const REVISION: &str = "controller-revision-hash";

pub(super) fn status(
    object: &StatefulSet,
    observation: &Observation<'_>,
    expectation: &Expectation,
) -> Status {
    let spec = object.spec.as_ref();
    let Some(state) = object.status.as_ref() else {
        return Status::progressing("waiting for the controller to see it");
    };
    if object.metadata.generation > state.observed_generation {
        return Status::progressing("waiting for the controller to see the change");
    }
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
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
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let why = || waiting_for(&pods.current).map_or(String::new(), |why| format!("; {why}"));
    let ready = state.ready_replicas.unwrap_or(0);
    if ready < wanted {
        return Status::progressing(format!("{ready} of {wanted} replicas ready{}", why()));
    }
    let partition = strategy
        .and_then(|strategy| strategy.rolling_update.as_ref()?.partition)
        .unwrap_or(0);
    // Pods below the partition keep the old version on purpose.
    let to_update = (wanted - partition).max(0);
    let updated = state.updated_replicas.unwrap_or(0);
    if updated < to_update {
        return Status::progressing(format!(
            "{updated} of {to_update} replicas updated{}",
            why()
        ));
    }
    if partition == 0 && state.current_revision != state.update_revision {
        return Status::progressing("waiting for the new revision to become the current one");
    }
    let available = state.available_replicas.unwrap_or(0);
    if available < wanted {
        return Status::progressing(format!("{available} of {wanted} replicas available"));
    }
    if state.replicas > wanted {
        return Status::progressing(format!("scaling down to {wanted}"));
    }
    let leaving = leaving(&pods, partition);
    if leaving > 0 {
        return Status::progressing(format!("{leaving} old pods are still terminating"));
    }
    Status::Done
}

/// Old pods that the update should have removed, and pods on their way out after a scale-down.
fn leaving(pods: &Pods<'_>, partition: i32) -> usize {
    let old = pods.old.iter();
    let old = old.filter(|pod| partition == 0 || is_terminating(pod));
    let current = pods.current.iter().filter(|pod| is_terminating(pod));
    old.count() + current.count()
}

pub(super) fn pods<'objects>(
    object: &StatefulSet,
    observation: &Observation<'objects>,
) -> Pods<'objects> {
    let uid = object.metadata.uid.as_deref();
    let state = object.status.as_ref();
    let update = state.and_then(|state| state.update_revision.as_deref());
    let mut split = Pods::default();
    for pod in observation.pods {
        if uid.is_none() || owner_uid(&pod.metadata) != uid {
            continue;
        }
        let labels = pod.metadata.labels.as_ref();
        let revision = labels.and_then(|labels| labels.get(REVISION));
        if revision.map(String::as_str) == update {
            split.current.push(pod);
        } else if !pods::is_leftover(pod) {
            split.old.push(pod);
        }
    }
    split
}
