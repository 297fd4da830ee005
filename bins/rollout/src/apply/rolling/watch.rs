//! Watches a rolling update pod by pod, until all of it is done or the first new pod is bad. Refuses to
//! know what follows.

use std::time::{Duration, Instant};

use switchyard_cluster::rollout::{RolloutTarget, RolloutWait};
use switchyard_cluster::workloads::WorkloadRef;
use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::cluster_failure;
use switchyard_runner::{Context, Failure, values};

use super::start_up::StartUps;
use crate::ledger::Ledger;
use crate::waiting;

/// How an update went.
pub(super) enum Course {
    /// Every workload has its new pods, and no others.
    Done,
    /// It must not go on.
    Bad(Box<Bad>),
}

/// Why an update must not go on.
pub(super) struct Bad {
    /// The workload to blame; nothing where it is only the time that is over.
    pub workload: Option<WorkloadRef>,
    /// In a sentence.
    pub reason: String,
    /// What was seen, for those who look into it.
    pub wait: RolloutWait,
}

/// Watches until the end of the update.
///
/// # Errors
/// A run that was told to stop, or a cluster that cannot be read.
pub(super) async fn watch(
    context: &Context,
    ledger: &Ledger,
    (cluster, deadline): (&Cluster, Deadline),
    (workloads, ready_within): (Vec<WorkloadRef>, Duration),
) -> Result<Course, Failure> {
    let target = RolloutTarget {
        workloads: workloads.clone(),
        selector: None,
        // A new pod that restarts is bad: that it might catch itself is no reason to replace a good one.
        max_restarts: 0,
    };
    let mut wait = RolloutWait::begin(cluster, target, deadline)
        .await
        .map_err(cluster_failure)?;
    let began = Instant::now();
    let mut start_ups = StartUps::default();
    loop {
        if let Some((workload, reason)) =
            first_bad(&wait, &workloads, &mut start_ups, |ups, pods| {
                ups.look(pods, began.elapsed(), ready_within)
            })
        {
            return Ok(Course::Bad(Box::new(Bad {
                workload: Some(workload),
                reason,
                wait,
            })));
        }
        if wait.is_done() {
            return Ok(Course::Done);
        }
        ledger.safe_point("the update being done")?;
        if deadline.has_passed() {
            let reason = format!(
                "the update was not done within {}: {}",
                values::show_duration(deadline.allowed()),
                waiting::open(&wait)
            );
            return Ok(Course::Bad(Box::new(Bad {
                workload: None,
                reason,
                wait,
            })));
        }
        waiting::step(context, &mut wait, deadline).await?;
    }
}

/// The first workload that is lost, with the reason: by its pods' states, or because one takes too long.
fn first_bad(
    wait: &RolloutWait,
    workloads: &[WorkloadRef],
    start_ups: &mut StartUps,
    look: impl Fn(&mut StartUps, Vec<&k8s_openapi::api::core::v1::Pod>) -> Option<String>,
) -> Option<(WorkloadRef, String)> {
    if let Some((workload, failure)) = wait.failure() {
        return Some((workload.clone(), failure.reason.clone()));
    }
    workloads.iter().find_map(|workload| {
        let pods = wait.pods_of(workload);
        let late = look(start_ups, pods.iter().map(|pod| &**pod).collect());
        late.map(|reason| (workload.clone(), reason))
    })
}
