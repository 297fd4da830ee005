//! Changes of a workload's size: fenced, journalled, preconditioned on what was read, and settled.
//!
//! It refuses to know why a size is wanted and how long pods take to come up.

use serde_json::json;
use switchyard_cluster::scale::{Precondition, ScaleGoal, ScaleState, ScaleWrite, Scaled, plan};
use switchyard_cluster::workloads::WorkloadRef;
use switchyard_cluster::{Cluster, Deadline, with_causes};
use thiserror::Error;

use super::Session;
use crate::error::{RecordError, Result};
use crate::fence::Raised;
use crate::journal::{
    JournalEntry, LiveTarget, ObjectRef, Outcome, PlannedMutation, Settlement, outcomes,
};
use crate::projection::Projection;

/// The journal's word for a change of size.
const OPERATION: &str = "scale";

/// A workload and the size that it is to have.
#[derive(Clone, Copy, Debug)]
pub struct Resize<'a> {
    /// The workload.
    pub workload: &'a WorkloadRef,
    /// What is wanted.
    pub goal: ScaleGoal,
    /// The size that was found, where the change is meant for that one alone; see [`Precondition::own_size`].
    pub own_size: Option<i32>,
    /// How long each read and write may take.
    pub deadline: Deadline,
}

/// Why a workload was not brought to a size.
#[derive(Debug, Error)]
pub enum ResizeError {
    /// The lease is lost, or the record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The workload is gone.
    #[error("{0} does not exist any more")]
    Absent(ObjectRef),
    /// The size cannot be had.
    #[error("{workload}: {problem}")]
    Impossible {
        /// The workload.
        workload: WorkloadRef,
        /// Why, in words.
        problem: String,
    },
    /// Somebody else has changed the workload, or the cluster failed.
    #[error(transparent)]
    Cluster(#[from] switchyard_cluster::Error),
}

/// Brings a workload to a size. With a session it is done under its fence, and under its journal where a
/// deployment is claimed; what an earlier process left open there is settled first. Without a session only the
/// precondition stands between two writers.
///
/// # Errors
/// As [`ResizeError`] says. A change that was written down is settled whatever came of it.
pub async fn resize(
    mut session: Option<&mut Session>,
    cluster: &Cluster,
    order: Resize<'_>,
) -> std::result::Result<Scaled, ResizeError> {
    let Resize {
        workload,
        goal,
        own_size,
        deadline,
    } = order;
    let kind = workload.kind.as_kind();
    let target = ObjectRef::namespaced("apps/v1", kind, cluster.namespace(), &workload.name);
    if let Some(session) = &session {
        match session.raise_fence(&target).await? {
            Raised::Under(_) => {}
            Raised::Absent => return Err(ResizeError::Absent(target)),
        }
    }
    let found = cluster.scale_state(workload, deadline).await?;
    let mut journal = session.as_deref_mut().filter(|it| it.record().is_ok());
    if let Some(session) = &mut journal {
        session.settle_sizes(&target, &found).await?;
    }
    let writes = plan(&found, goal).map_err(|problem| ResizeError::Impossible {
        workload: workload.clone(),
        problem,
    })?;
    if writes.is_empty() && own_size.is_none_or(|own| own == found.replicas) {
        return Ok(Scaled {
            before: found.clone(),
            after: found,
            writes,
        });
    }
    let seq = match &mut journal {
        Some(session) => Some(
            session
                .plan_mutation(planned(&target, &found, &writes))
                .await?,
        ),
        None => None,
    };
    let ours = Precondition {
        uid: Some(found.uid),
        fence: session.as_ref().map(|session| session.fence()),
        own_size,
    };
    let scaled = cluster.scale_if(workload, goal, &ours, deadline).await;
    if let (Some(session), Some(seq)) = (session, seq) {
        let settlement = match &scaled {
            Ok(_) => Outcome::Applied.into(),
            Err(error) => Settlement::failed(Outcome::of_failed(error), &with_causes(error)),
        };
        session.settle(seq, settlement).await?;
    }
    Ok(scaled?)
}

impl Session {
    /// Finds out what became of changes of a workload's size whose writer died, or got no answer.
    ///
    /// # Errors
    /// Nothing is claimed, the lease is lost, or the record cannot be written.
    pub async fn settle_sizes(&mut self, object: &ObjectRef, found: &ScaleState) -> Result<()> {
        let open = self.record()?.open_entries();
        let open = open.filter(|entry| entry.target == *object && entry.operation == OPERATION);
        let open: Vec<JournalEntry> = open.cloned().collect();
        let seen = LiveTarget {
            uid: Some(found.uid.clone()),
            projection: size(found.replicas, floor(found)),
        };
        for (entry, (seq, outcome)) in open.iter().zip(outcomes(&seen, &open)) {
            // What did not agree with either is no reason to stop: an autoscaler has its own mind, and
            // what is live is what counts from here on.
            if is_final(entry, outcome, self.fence()) {
                self.settle(seq, outcome).await?;
            }
        }
        Ok(())
    }
}

/// Whether nothing can change an outcome any more. Pure.
///
/// A write that an earlier process has sent cannot arrive once our fence is on the object; one that
/// this process has sent under the same fence still can.
fn is_final(entry: &JournalEntry, outcome: Outcome, fence: u64) -> bool {
    outcome != Outcome::NotApplied || entry.fence < fence
}

fn planned(target: &ObjectRef, found: &ScaleState, writes: &[ScaleWrite]) -> PlannedMutation {
    let (mut replicas, mut lowest) = (found.replicas, floor(found));
    for write in writes {
        match write {
            ScaleWrite::Replicas { to, .. } => replicas = *to,
            ScaleWrite::MinReplicas { to, .. } => lowest = Some(*to),
        }
    }
    PlannedMutation {
        operation: OPERATION.to_owned(),
        target: target.clone(),
        target_uid: Some(found.uid.clone()),
        precondition_resource_version: Some(found.resource_version.clone()),
        before: size(found.replicas, floor(found)),
        after: size(replicas, lowest),
    }
}

/// The size of a workload as a record keeps it.
fn size(replicas: i32, floor: Option<i32>) -> Projection {
    Projection::shown(&json!({"replicas": replicas, "hpa_min": floor}))
}

fn floor(state: &ScaleState) -> Option<i32> {
    state.autoscaler.as_ref().map(|autoscaler| autoscaler.min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_of_ours_without_an_answer_is_not_called_unwritten_while_it_can_still_arrive() {
        let planned = PlannedMutation {
            operation: OPERATION.to_owned(),
            target: ObjectRef::namespaced("apps/v1", "Deployment", "shop", "web-blue"),
            target_uid: None,
            precondition_resource_version: None,
            before: size(0, None),
            after: size(3, None),
        };
        let entry = JournalEntry::pending(1, 7, planned, jiff::Timestamp::UNIX_EPOCH);
        let seen = |replicas| LiveTarget {
            uid: None,
            projection: size(replicas, None),
        };
        let outcome = |replicas| outcomes(&seen(replicas), std::slice::from_ref(&entry))[0].1;
        assert!(!is_final(&entry, outcome(0), 7), "sent by this process");
        assert!(is_final(&entry, outcome(0), 8), "our fence is newer");
        assert!(is_final(&entry, outcome(3), 7), "it shows");
    }
}
