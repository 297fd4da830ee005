//! When is a rollout done, and when is it lost? Pure functions over objects that somebody else
//! read. It refuses to know how they were read and how long we are willing to wait.
//!
//! Done is stricter than `kubectl rollout status`: everything updated and available, the old
//! pods gone (kubectl counts no terminating pods: kubernetes/kubectl#1284), the image still the
//! one we wait for, and no container restarted more often than allowed since the wait began.

mod daemon_set;
mod deployment;
mod history;
mod job;
mod pods;
mod stateful_set;
mod wait;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use crate::workloads::Workload;

pub use history::PodHistory;
pub use pods::{Pods, condition, is_ready, is_terminating, owner_uid, restarts};
pub use wait::{RolloutTarget, RolloutWait, WaitEvent, WorkloadState};

/// How long a pod may stay unschedulable, and a Deployment unable to create pods, before that
/// counts as lost: an autoscaler or a freed quota needs a moment. From Shopify's krane.
pub const STUCK_GRACE: Duration = Duration::from_secs(15);

/// The state of one rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not there yet.
    Progressing {
        /// What is being waited for.
        reason: String,
    },
    /// Everything that was asked for is there and nothing else.
    Done,
    /// It will not get there by waiting.
    Failed(RolloutFailure),
}

impl Status {
    /// A status that waits for `reason`.
    pub(crate) fn progressing(reason: impl Into<String>) -> Self {
        Self::Progressing {
            reason: reason.into(),
        }
    }

    /// A status that failed for a reason of the workload itself.
    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(RolloutFailure {
            reason: reason.into(),
            culprit: None,
        })
    }

    /// Whether waiting is over.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Progressing { .. } => false,
            Self::Done | Self::Failed(_) => true,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Progressing { reason } => formatter.write_str(reason),
            Self::Done => formatter.write_str("done"),
            Self::Failed(failure) => write!(formatter, "failed: {}", failure.reason),
        }
    }
}

/// Why a rollout is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutFailure {
    /// One sentence, naming pod and container where there is one to blame.
    pub reason: String,
    /// The pod to look at.
    pub culprit: Option<Culprit>,
}

/// A pod that shows why a rollout failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Pod name.
    pub pod: String,
    /// Pod UID.
    pub uid: String,
    /// Container, when one is to blame.
    pub container: Option<String>,
    /// Whether the log of the container's previous run tells more than that of the current one.
    pub has_previous_log: bool,
}

/// What we wait for and what we tolerate on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// UID the workload must keep; a Job that was made anew is another Job.
    pub uid: Option<String>,
    /// Container name → image that the template must keep.
    pub images: BTreeMap<String, String>,
    /// Restarts a container may show since the wait began.
    pub max_restarts: u32,
}

impl Expectation {
    /// Expects `workload` to stay what it is now.
    pub fn of(workload: &Workload, max_restarts: u32) -> Self {
        Self {
            uid: Some(workload.uid().to_owned()),
            images: workload.images(),
            max_restarts,
        }
    }
}

/// Everything that a judgement is made from.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'objects> {
    /// The workload.
    pub workload: &'objects Workload,
    /// Metadata of ReplicaSets in the namespace; those of others are ignored. Deployments only.
    pub replica_sets: &'objects [&'objects ObjectMeta],
    /// Pods in the namespace; those of others are ignored.
    pub pods: &'objects [&'objects Pod],
    /// What was seen of the pods before.
    pub history: &'objects PodHistory,
    /// Time since the wait began, on a monotonic clock.
    pub elapsed: Duration,
}

/// Judges a rollout.
pub fn status(observation: &Observation<'_>, expectation: &Expectation) -> Status {
    if let Some(failure) = replaced(observation.workload, expectation) {
        return failure;
    }
    match observation.workload {
        Workload::Deployment(object) => deployment::status(object, observation, expectation),
        Workload::StatefulSet(object) => stateful_set::status(object, observation, expectation),
        Workload::DaemonSet(object) => daemon_set::status(object, observation, expectation),
        Workload::Job(object) => job::status(object, observation),
    }
}

/// The pods that belong to the version being rolled out, terminating ones left out.
pub fn current_pods<'objects>(observation: &Observation<'objects>) -> Vec<&'objects Pod> {
    let pods = match observation.workload {
        Workload::Deployment(object) => deployment::pods(object, observation),
        Workload::StatefulSet(object) => stateful_set::pods(object, observation),
        Workload::DaemonSet(object) => daemon_set::pods(object, observation),
        Workload::Job(object) => job::pods(object, observation),
    };
    let current = pods.current.into_iter();
    current.filter(|pod| !is_terminating(pod)).collect()
}

/// How many pods a workload wants and how many serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Pods that the spec wants (nodes, for a DaemonSet).
    pub wanted: usize,
    /// Ready pods of the version being rolled out.
    pub ready: usize,
}

/// Counts the pods of the version being rolled out.
pub fn size(observation: &Observation<'_>) -> Size {
    let wanted = match observation.workload {
        Workload::Deployment(object) => object
            .spec
            .as_ref()
            .map_or(0, |spec| spec.replicas.unwrap_or(1)),
        Workload::StatefulSet(object) => object
            .spec
            .as_ref()
            .map_or(0, |spec| spec.replicas.unwrap_or(1)),
        Workload::DaemonSet(object) => object
            .status
            .as_ref()
            .map_or(0, |status| status.desired_number_scheduled),
        Workload::Job(object) => object
            .spec
            .as_ref()
            .map_or(0, |spec| spec.parallelism.unwrap_or(1)),
    };
    let pods = current_pods(observation);
    Size {
        wanted: usize::try_from(wanted).unwrap_or(0),
        ready: pods.iter().filter(|pod| is_ready(pod)).count(),
    }
}

/// The ReplicaSets that make the pods of the version being rolled out, by name and UID. Their
/// events tell why pods cannot be created.
pub fn current_replica_sets(observation: &Observation<'_>) -> Vec<(String, String)> {
    let Workload::Deployment(object) = observation.workload else {
        return Vec::new();
    };
    deployment::current_replica_sets(object, observation)
        .into_iter()
        .filter_map(|meta| Some((meta.name.clone()?, meta.uid.clone()?)))
        .collect()
}

/// Whether judging this workload takes a look at its pods.
///
/// A Deployment at zero that has no terminating pods either needs none: hundreds of those are
/// judged by one watch.
pub fn needs_pods(workload: &Workload) -> bool {
    match workload {
        Workload::Deployment(object) => deployment::needs_pods(object),
        Workload::StatefulSet(_) | Workload::DaemonSet(_) | Workload::Job(_) => true,
    }
}

/// Somebody else deployed in the middle of our wait.
fn replaced(workload: &Workload, expectation: &Expectation) -> Option<Status> {
    let meta = workload.meta();
    if let Some(uid) = &expectation.uid
        && uid != workload.uid()
    {
        return Some(Status::failed(
            "it was deleted and made anew during the wait",
        ));
    }
    if meta.deletion_timestamp.is_some() {
        return Some(Status::failed("it is being deleted"));
    }
    let images = workload.images();
    expectation.images.iter().find_map(|(container, expected)| {
        let now = images.get(container).map_or("nothing", String::as_str);
        (now != expected).then(|| {
            Status::failed(format!(
                "somebody changed it during the wait: container `{container}` has image `{now}`, expected `{expected}`"
            ))
        })
    })
}
