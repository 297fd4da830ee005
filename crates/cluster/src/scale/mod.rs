//! Sets the size of a workload and reads back what became of it. With an autoscaler its floor is
//! raised instead. It refuses to know why a size is wanted and how long pods take to come up.

mod plan;
mod precondition;

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::Value;

use crate::{
    connect::Cluster,
    error::{Error, Result},
    operation::{Operation, Verb},
    read::Deadline,
    workloads::{WorkloadKind, WorkloadRef},
};

use precondition::fence_of;

pub use plan::{AutoscalerState, ScaleGoal, ScaleState, ScaleWrite, plan};
pub use precondition::Precondition;

/// How often a write that met a newer object is decided anew.
const ATTEMPTS: usize = 5;

/// What a call to [`Cluster::scale`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// Before the first write.
    pub before: ScaleState,
    /// Read back after the last one.
    pub after: ScaleState,
    /// What was written; empty when nothing had to be.
    pub writes: Vec<ScaleWrite>,
}

/// One write of a size.
#[derive(Clone, Copy)]
struct Order<'a> {
    write: &'a ScaleWrite,
    precondition: &'a Precondition,
    deadline: Deadline,
}

impl Cluster {
    /// Reads the size of a Deployment or StatefulSet and of its autoscaler.
    ///
    /// # Errors
    /// [`Error::Unsuitable`] for kinds that have no size, and when two autoscalers claim the
    /// workload.
    pub async fn scale_state(
        &self,
        workload: &WorkloadRef,
        deadline: Deadline,
    ) -> Result<ScaleState> {
        let unsuitable = |problem: &str| Error::Unsuitable {
            object: workload.to_string(),
            problem: problem.to_owned(),
        };
        let (meta, replicas, ready) = match workload.kind {
            WorkloadKind::Deployment => {
                let object: Deployment = self.objects().get(&workload.name, deadline).await?;
                let ready = object.status.and_then(|status| status.ready_replicas);
                let replicas = object.spec.and_then(|spec| spec.replicas);
                (object.metadata, replicas, ready)
            }
            WorkloadKind::StatefulSet => {
                let object: StatefulSet = self.objects().get(&workload.name, deadline).await?;
                let ready = object.status.and_then(|status| status.ready_replicas);
                let replicas = object.spec.and_then(|spec| spec.replicas);
                (object.metadata, replicas, ready)
            }
            WorkloadKind::DaemonSet | WorkloadKind::Job => {
                return Err(unsuitable("only Deployments and StatefulSets have a size"));
            }
        };
        Ok(ScaleState {
            workload: workload.clone(),
            fence: fence_of(&meta),
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            replicas: replicas.unwrap_or(1),
            ready: ready.unwrap_or(0),
            autoscaler: self.autoscaler_of(workload, deadline).await?,
        })
    }

    /// Brings a Deployment or StatefulSet to `goal` and reads it back, whoever else works on it:
    /// for programs without a record. As [`Cluster::scale_if`] otherwise.
    ///
    /// # Errors
    /// As [`Cluster::scale_if`].
    pub async fn scale(
        &self,
        workload: &WorkloadRef,
        goal: ScaleGoal,
        deadline: Deadline,
    ) -> Result<Scaled> {
        self.scale_if(workload, goal, &Precondition::default(), deadline)
            .await
    }

    /// Brings a Deployment or StatefulSet to `goal` and reads it back, as long as `precondition`
    /// holds on everything that is read on the way.
    ///
    /// Each write carries the resourceVersion that was read. When the object has moved on in the
    /// meantime it is read again and decided anew, as long as what somebody else wrote is not
    /// what we are about to change.
    ///
    /// # Errors
    /// [`Error::Conflict`] naming the other writer, or what of the precondition does not hold;
    /// [`Error::Unsuitable`] when the goal cannot be reached or the read-back shows something
    /// else.
    pub async fn scale_if(
        &self,
        workload: &WorkloadRef,
        goal: ScaleGoal,
        precondition: &Precondition,
        deadline: Deadline,
    ) -> Result<Scaled> {
        let before = self.scale_state(workload, deadline).await?;
        self.require(precondition, &before)?;
        let unsuitable = |problem: String| Error::Unsuitable {
            object: workload.to_string(),
            problem,
        };
        let writes = plan(&before, goal).map_err(unsuitable)?;
        let mut state = before.clone();
        for write in &writes {
            let order = Order {
                write,
                precondition,
                deadline,
            };
            state = self.write_scale(state, order).await?;
        }
        let rest = plan(&state, goal).map_err(unsuitable)?;
        if !rest.is_empty() {
            return Err(unsuitable(format!(
                "it was scaled, and somebody changed it again: {rest:?} is left to do"
            )));
        }
        Ok(Scaled {
            before,
            after: state,
            writes,
        })
    }

    async fn write_scale(&self, mut state: ScaleState, order: Order<'_>) -> Result<ScaleState> {
        let Order {
            write,
            precondition,
            deadline,
        } = order;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            self.require(precondition, &state)?;
            let result = match precondition.patch(&state, write) {
                Some(patch) => self.send_scale(&state, write, patch).await,
                None => Ok(()),
            };
            state = match (self.scale_state(&state.workload, deadline).await, &result) {
                (Ok(state), _) => state,
                // Why it cannot be read must not hide that it may have been written.
                (Err(_), Err(error)) if error.leaves_outcome_unknown() => {
                    return result.map(|()| state);
                }
                (Err(unread), _) => return Err(unread),
            };
            match (result, value_of(&state, write)) {
                (_, live) if live == Some(to(write)) => return Ok(state),
                // Only other fields have moved (pods becoming ready move the status).
                (Err(error @ Error::Conflict { .. }), live) if live == Some(from(write)) => {
                    last = Some(error);
                }
                // It was not carried out, or not yet: the error tells which. The caller decides.
                (Err(error), _) => return Err(error),
                (Ok(()), live) => {
                    return Err(Error::Unsuitable {
                        object: state.workload.to_string(),
                        problem: format!("{write:?} was accepted and reads back as {live:?}"),
                    });
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(last.unwrap_or_else(|| Error::TimedOut {
            what: format!("scale {}", state.workload),
            after: deadline.allowed(),
        }))
    }

    async fn send_scale(&self, state: &ScaleState, write: &ScaleWrite, patch: Value) -> Result<()> {
        let params = PatchParams {
            field_manager: Some(crate::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        let name = &state.workload.name;
        match (write, state.workload.kind) {
            (ScaleWrite::Replicas { .. }, WorkloadKind::Deployment) => {
                let objects = self.objects::<Deployment>();
                objects.patch(name, &patch, &params).await.map(drop)
            }
            (ScaleWrite::Replicas { .. }, WorkloadKind::StatefulSet) => {
                let objects = self.objects::<StatefulSet>();
                objects.patch(name, &patch, &params).await.map(drop)
            }
            (ScaleWrite::Replicas { .. }, WorkloadKind::DaemonSet | WorkloadKind::Job) => Ok(()),
            (ScaleWrite::MinReplicas { autoscaler, .. }, _any_kind) => {
                let objects = self.objects::<HorizontalPodAutoscaler>();
                objects.patch(autoscaler, &patch, &params).await.map(drop)
            }
        }
    }

    /// Refuses to write on what was read when the precondition does not hold on it.
    fn require(&self, precondition: &Precondition, state: &ScaleState) -> Result<()> {
        let Some(message) = precondition.refusal(state) else {
            return Ok(());
        };
        let namespace = self.namespace();
        let operation = match state.workload.kind {
            WorkloadKind::StatefulSet => Operation::on::<StatefulSet>(Verb::Patch, namespace),
            WorkloadKind::Deployment | WorkloadKind::DaemonSet | WorkloadKind::Job => {
                Operation::on::<Deployment>(Verb::Patch, namespace)
            }
        };
        Err(Error::Conflict {
            operation: Box::new(operation.named(&state.workload.name)),
            managers: Vec::new(),
            message,
        })
    }

    async fn autoscaler_of(
        &self,
        workload: &WorkloadRef,
        deadline: Deadline,
    ) -> Result<Option<AutoscalerState>> {
        let all = self
            .objects::<HorizontalPodAutoscaler>()
            .list(&ListParams::default(), deadline)
            .await?;
        let mut own = all.into_iter().filter(|autoscaler| {
            let target = &autoscaler.spec.scale_target_ref;
            target.kind == workload.kind.as_kind() && target.name == workload.name
        });
        let Some(autoscaler) = own.next() else {
            return Ok(None);
        };
        let fence = fence_of(&autoscaler.metadata);
        let name = autoscaler.metadata.name.unwrap_or_default();
        if let Some(second) = own.next() {
            return Err(Error::Unsuitable {
                object: workload.to_string(),
                problem: format!(
                    "two autoscalers claim it: `{name}` and `{}`",
                    second.metadata.name.unwrap_or_default()
                ),
            });
        }
        let spec = autoscaler.spec;
        Ok(Some(AutoscalerState {
            name,
            uid: autoscaler.metadata.uid.unwrap_or_default(),
            resource_version: autoscaler.metadata.resource_version.unwrap_or_default(),
            fence,
            min: spec.min_replicas.unwrap_or(1),
            max: spec.max_replicas,
        }))
    }
}

fn value_of(state: &ScaleState, write: &ScaleWrite) -> Option<i32> {
    match write {
        ScaleWrite::Replicas { .. } => Some(state.replicas),
        ScaleWrite::MinReplicas { .. } => state.autoscaler.as_ref().map(|scaler| scaler.min),
    }
}

fn from(write: &ScaleWrite) -> i32 {
    match write {
        ScaleWrite::Replicas { from, .. } | ScaleWrite::MinReplicas { from, .. } => *from,
    }
}

fn to(write: &ScaleWrite) -> i32 {
    match write {
        ScaleWrite::Replicas { to, .. } | ScaleWrite::MinReplicas { to, .. } => *to,
    }
}
