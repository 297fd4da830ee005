//! Waits until workloads have their pods, and no others. Refuses to know why.

use std::time::Duration;

use switchyard_cluster::rollout::{RolloutTarget, RolloutWait, WaitEvent};
use switchyard_cluster::workloads::WorkloadKind;
use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::cluster_failure;
use switchyard_manifest::ObjectName;
use switchyard_runner::{Context, Failure, Kind as FailureKind};

use crate::ledger::Ledger;
use crate::sides;

/// How often a wait looks around although nothing is reported: whether it shall stop, how long pods have been unready.
const STEP: Duration = Duration::from_secs(1);

/// Waits for the rollout of workloads. Kinds that have none (CronJobs) are left out.
///
/// # Errors
/// A workload that will not get there, or a deadline that passes.
pub(crate) async fn rollout(
    context: &Context,
    ledger: &Ledger,
    (cluster, deadline): (&Cluster, Deadline),
    workloads: &[ObjectName],
) -> Result<(), Failure> {
    let workloads: Vec<_> = workloads
        .iter()
        .filter(|name| name.kind != "cronjob")
        .map(sides::reference)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|workload| workload.kind != WorkloadKind::Job)
        .collect();
    if workloads.is_empty() {
        return Ok(());
    }
    let target = RolloutTarget {
        workloads,
        selector: None,
        max_restarts: u32::MAX,
    };
    let mut wait = RolloutWait::begin(cluster, target, deadline)
        .await
        .map_err(cluster_failure)?;
    while !wait.is_done() {
        if let Some((workload, failure)) = wait.failure() {
            return Err(Failure::message(
                FailureKind::Gate,
                format!("{workload}: {}", failure.reason),
            ));
        }
        ledger.safe_point("the pods being there")?;
        if deadline.has_passed() {
            return Err(Failure::message(
                FailureKind::Gate,
                format!("the pods were not there in time: {}", open(&wait)),
            )
            .hint("raise `timeout`, or look at the events of these pods"));
        }
        step(context, &mut wait, deadline).await?;
    }
    Ok(())
}

/// Waits for the next thing to happen, a step at the most, and tells it.
///
/// # Errors
/// The cluster cannot be read.
pub(crate) async fn step(
    context: &Context,
    wait: &mut RolloutWait,
    deadline: Deadline,
) -> Result<(), Failure> {
    let next = wait.next(deadline.at_most(STEP)).await;
    match next.map_err(cluster_failure)? {
        WaitEvent::Changed(states) => {
            for state in states {
                context
                    .console
                    .progress(format!("{}: {}", state.workload, state.status));
            }
        }
        WaitEvent::Interrupted(error) => {
            context.console.progress(format!("interrupted: {error}"));
        }
    }
    Ok(())
}

/// What there is of each workload, for a wait that was too short.
pub(crate) fn open(wait: &RolloutWait) -> String {
    let states: Vec<String> = wait
        .states()
        .map(|(workload, status)| format!("{workload}: {status}"))
        .collect();
    states.join("; ")
}
