//! Jobs: done means Complete, not started (kstatus calls a Job current as soon as it runs, which
//! is wrong for a migration). It refuses to know other kinds.

use k8s_openapi::api::batch::v1::{Job, JobCondition};

use super::{
    Expectation, Observation, Pods, Status,
    pods::{Strictness, hopeless, owner_uid},
};

pub(super) fn status(object: &Job, observation: &Observation<'_>) -> Status {
    if let Some(failed) = condition(object, "Failed") {
        return Status::failed(format!(
            "{}: {}",
            failed.reason.as_deref().unwrap_or("no reason given"),
            failed.message.as_deref().unwrap_or("no message"),
        ));
    }
    if condition(object, "Complete").is_some() {
        return Status::Done;
    }
    if object.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        return Status::progressing("it is suspended");
    }
    let failure = hopeless(
        pods(object, observation).current,
        Strictness::Job,
        observation.history,
        observation.elapsed,
        &Expectation::default(),
    );
    if let Some(failure) = failure {
        return Status::Failed(failure);
    }
    let spec = object.spec.as_ref();
    let state = object.status.clone().unwrap_or_default();
    let wanted = spec.and_then(|spec| spec.completions).unwrap_or(1);
    Status::progressing(format!(
        "{} of {wanted} completions, {} active, {} failed",
        state.succeeded.unwrap_or(0),
        state.active.unwrap_or(0),
        state.failed.unwrap_or(0),
    ))
}

fn condition<'object>(object: &'object Job, kind: &str) -> Option<&'object JobCondition> {
    let conditions = object.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == "True")
}

pub(super) fn pods<'objects>(object: &Job, observation: &Observation<'objects>) -> Pods<'objects> {
    let uid = object.metadata.uid.as_deref();
    let own = observation.pods.iter().copied();
    Pods {
        current: own
            .filter(|pod| uid.is_some() && owner_uid(&pod.metadata) == uid)
            .collect(),
        old: Vec::new(),
    }
}
