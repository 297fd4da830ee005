//! What a pod says about its rollout: ready, terminating, restarted, or beyond hope.
//! It refuses to know workloads and ReplicaSets.
//!
//! The list of hopeless states is that of Shopify's krane, checked against the kubelet's reasons.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Culprit, Expectation, PodHistory, RolloutFailure, STUCK_GRACE};

/// The pods of one workload, by version.
#[derive(Clone, Debug, Default)]
pub struct Pods<'objects> {
    /// Of the version being rolled out, terminating ones included.
    pub current: Vec<&'objects Pod>,
    /// Of other versions, as long as they exist and may still run.
    pub old: Vec<&'objects Pod>,
}

/// UID of the object that controls this one.
pub fn owner_uid(meta: &ObjectMeta) -> Option<&str> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.as_str())
}

/// Whether the pod was told to end.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the pod has ended for good and nobody is about to remove it (evicted pods stay until
/// they are collected); such a pod serves nobody and is waited for in vain.
pub(crate) fn is_leftover(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed") && !is_terminating(pod)
}

pub(crate) fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// A condition of the pod by type.
pub fn condition<'pod>(pod: &'pod Pod, kind: &str) -> Option<&'pod PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the pod is Ready and not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    !is_terminating(pod)
        && condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Init and main containers, in this order.
pub(crate) fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().flatten().chain(main.into_iter().flatten())
}

/// Restarts of all containers of the pod in its whole life.
pub fn restarts(pod: &Pod) -> u32 {
    let counts = container_statuses(pod).map(|container| container.restart_count);
    u32::try_from(counts.sum::<i32>()).unwrap_or(0)
}

/// The scheduler's reason, when the pod cannot be placed.
pub(crate) fn unschedulable(pod: &Pod) -> Option<&str> {
    if is_terminating(pod) {
        return None;
    }
    let scheduled = condition(pod, "PodScheduled")?;
    let is_stuck =
        scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable");
    is_stuck.then(|| scheduled.message.as_deref().unwrap_or("no reason given"))
}

/// Which of the hopeless states count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// All of them, and restarts above what is allowed.
    Service,
    /// Those that no retry mends; a Job's own controller counts its crashes.
    Job,
}

/// The first reason in `pods` to give up, worst first.
pub(crate) fn hopeless<'pod>(
    pods: impl IntoIterator<Item = &'pod Pod>,
    strictness: Strictness,
    history: &PodHistory,
    elapsed: Duration,
    expectation: &Expectation,
) -> Option<RolloutFailure> {
    let pods = pods.into_iter().filter(|pod| !is_terminating(pod));
    let mut found: Option<RolloutFailure> = None;
    for pod in pods {
        for container in container_statuses(pod) {
            let reason = hopeless_container(container, strictness);
            if let Some(reason) = reason {
                return Some(blame(pod, Some(container), reason));
            }
            let count = history.restarts(pod, container);
            if strictness == Strictness::Service
                && count > expectation.max_restarts
                && found.is_none()
            {
                found = Some(blame(pod, Some(container), restarted(container, count)));
            }
        }
        let stuck = history.stuck_for(pod.metadata.uid.as_deref().unwrap_or_default(), elapsed);
        if let (Some(reason), Some(stuck)) = (unschedulable(pod), stuck)
            && stuck > STUCK_GRACE
            && found.is_none()
        {
            found = Some(blame(pod, None, format!("cannot be scheduled: {reason}")));
        }
        if strictness == Strictness::Service && found.is_none() {
            found = ended(pod).map(|reason| blame(pod, None, reason));
        }
    }
    found
}

fn blame(pod: &Pod, container: Option<&ContainerStatus>, reason: String) -> RolloutFailure {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let reason = match container {
        Some(container) => format!("pod `{name}`, container `{}`: {reason}", container.name),
        None => format!("pod `{name}` {reason}"),
    };
    RolloutFailure {
        reason,
        culprit: Some(Culprit {
            pod: name,
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            container: container.map(|container| container.name.clone()),
            has_previous_log: container.is_some_and(|container| container.restart_count > 0),
        }),
    }
}

/// Evicted and preempted pods are replaced by their controller; others that failed stay failed.
fn ended(pod: &Pod) -> Option<String> {
    if phase(pod) != "Failed" {
        return None;
    }
    let status = pod.status.as_ref()?;
    let reason = status.reason.as_deref().unwrap_or("no reason given");
    let is_transient = matches!(
        reason,
        "Evicted" | "Preempting" | "Preempted" | "Terminated" | "NodeShutdown" | "NodeLost"
    );
    let message = status.message.as_deref().unwrap_or_default();
    (!is_transient).then(|| format!("failed: {reason} {message}").trim_end().to_owned())
}

fn restarted(container: &ContainerStatus, count: u32) -> String {
    let times = if count == 1 { "once" } else { "times" };
    let count = if count == 1 {
        times.to_owned()
    } else {
        format!("{count} {times}")
    };
    format!(
        "restarted {count} since the wait began{}",
        last_exit(container)
    )
}

fn last_exit(container: &ContainerStatus) -> String {
    let last = container.last_state.as_ref();
    let Some(ended) = last.and_then(|state| state.terminated.as_ref()) else {
        return String::new();
    };
    let reason = ended.reason.as_deref().unwrap_or("no reason given");
    format!(" (last exit: {reason}, code {})", ended.exit_code)
}

fn hopeless_container(container: &ContainerStatus, strictness: Strictness) -> Option<String> {
    cannot_run(container).or_else(|| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        let message = waiting.message.as_deref().unwrap_or_default();
        let image = &container.image;
        match reason {
            "CrashLoopBackOff" if strictness == Strictness::Service => {
                Some(format!("crashes again and again{}", last_exit(container)))
            }
            "ErrImagePull" if is_missing_image(message) => {
                Some(format!("image `{image}` cannot be pulled: {message}"))
            }
            "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => Some(format!(
                "image `{image}` cannot be pulled: {reason}: {message}"
            )),
            // The kubelet's cache catches up by itself.
            "CreateContainerConfigError"
                if message.contains("failed to sync") && message.contains("cache") =>
            {
                None
            }
            "CreateContainerConfigError" => {
                Some(format!("its configuration cannot be made: {message}"))
            }
            _ => None,
        }
    })
}

fn is_missing_image(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["not found", "manifest unknown", "does not exist"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// The runtime could not start the container. Exit 128 is left out: containerd gives it for
/// races that the next try wins.
fn cannot_run(container: &ContainerStatus) -> Option<String> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let ended = states
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_ref())
        .find(|ended| {
            ended.reason.as_deref() == Some("ContainerCannotRun") && ended.exit_code != 128
        })?;
    let message = ended.message.as_deref().unwrap_or("no reason given");
    Some(format!(
        "cannot be started (exit code {}): {message}",
        ended.exit_code
    ))
}

/// What the pods that are not ready wait for, one short reason.
pub(crate) fn waiting_for(pods: &[&Pod]) -> Option<String> {
    let waiting = pods
        .iter()
        .filter(|pod| !is_ready(pod) && !is_terminating(pod));
    waiting
        .filter_map(|pod| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            if let Some(reason) = unschedulable(pod) {
                return Some(format!("pod `{name}` cannot be scheduled yet: {reason}"));
            }
            let container = container_statuses(pod).find_map(|container| {
                let state = container.state.as_ref()?;
                if let Some(reason) = state.waiting.as_ref().and_then(|w| w.reason.as_deref()) {
                    return Some(format!("{} is {reason}", container.name));
                }
                let is_unready = state.running.is_some() && !container.ready;
                is_unready.then(|| format!("{} is not ready", container.name))
            });
            container.map(|what| format!("pod `{name}`: {what}"))
        })
        .next()
}
