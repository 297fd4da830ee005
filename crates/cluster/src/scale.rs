//! Sets the size of a workload and reads back what became of it. With an autoscaler its floor is
//! raised instead. It refuses to know why a size is wanted and how long pods take to come up.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{
    connect::Cluster,
    error::{Error, Result},
    read::Deadline,
    workloads::{WorkloadKind, WorkloadRef},
};

/// How often a write that met a newer object is decided anew.
const ATTEMPTS: usize = 5;

/// The size of a workload as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleState {
    /// The workload.
    pub workload: WorkloadRef,
    /// Its UID.
    pub uid: String,
    /// The version that was read; the precondition of the write.
    pub resource_version: String,
    /// `spec.replicas`.
    pub replicas: i32,
    /// Pods that are ready, of any version.
    pub ready: i32,
    /// The autoscaler in charge, if any.
    pub autoscaler: Option<AutoscalerState>,
}

/// A HorizontalPodAutoscaler as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoscalerState {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The version that was read.
    pub resource_version: String,
    /// `spec.minReplicas`; 1 when unset, as the API says.
    pub min: i32,
    /// `spec.maxReplicas`.
    pub max: i32,
}

/// One field to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScaleWrite {
    /// `spec.replicas` of the workload.
    Replicas {
        /// What it is now.
        from: i32,
        /// What it shall be.
        to: i32,
    },
    /// `spec.minReplicas` of the autoscaler.
    MinReplicas {
        /// The autoscaler.
        autoscaler: String,
        /// What it is now.
        from: i32,
        /// What it shall be.
        to: i32,
    },
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleGoal {
    /// This many pods. With an autoscaler: at least this many, unless zero.
    Size(i32),
    /// Put the autoscaler's floor back to what it was; without one, nothing to do.
    RestoreMinimum(i32),
}

/// Decides what to write. Pure.
///
/// With an autoscaler `replicas` is the autoscaler's and only its floor is raised. Zero is the
/// exception that Kubernetes makes itself: at zero replicas an autoscaler is switched off, so
/// going there and coming back is done by `replicas`.
///
/// # Errors
/// Words for a goal that cannot be reached.
pub fn plan(state: &ScaleState, goal: ScaleGoal) -> Result<Vec<ScaleWrite>, String> {
    let replicas = |to: i32| {
        let from = state.replicas;
        (from != to).then_some(ScaleWrite::Replicas { from, to })
    };
    let minimum = |autoscaler: &AutoscalerState, to: i32| {
        (autoscaler.min != to).then(|| ScaleWrite::MinReplicas {
            autoscaler: autoscaler.name.clone(),
            from: autoscaler.min,
            to,
        })
    };
    let writes = match (goal, &state.autoscaler) {
        (ScaleGoal::Size(wanted), _) if wanted < 0 => {
            return Err(format!("{wanted} is no number of replicas"));
        }
        (ScaleGoal::Size(wanted), None) => vec![replicas(wanted)],
        (ScaleGoal::Size(0), Some(_)) => vec![replicas(0)],
        (ScaleGoal::Size(wanted), Some(autoscaler)) => {
            if wanted > autoscaler.max {
                return Err(format!(
                    "{wanted} replicas are more than the {} that autoscaler `{}` allows",
                    autoscaler.max, autoscaler.name
                ));
            }
            let wake = (state.replicas == 0).then(|| replicas(wanted)).flatten();
            let raise = (autoscaler.min < wanted)
                .then(|| minimum(autoscaler, wanted))
                .flatten();
            // The floor first: once awake, the autoscaler must not shrink what was just set.
            vec![raise, wake]
        }
        (ScaleGoal::RestoreMinimum(_), None) => Vec::new(),
        (ScaleGoal::RestoreMinimum(min), Some(autoscaler)) => vec![minimum(autoscaler, min)],
    };
    Ok(writes.into_iter().flatten().collect())
}

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
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            replicas: replicas.unwrap_or(1),
            ready: ready.unwrap_or(0),
            autoscaler: self.autoscaler_of(workload, deadline).await?,
        })
    }

    /// Brings a Deployment or StatefulSet to `goal` and reads it back.
    ///
    /// Each write carries the resourceVersion that was read. When the object has moved on in the
    /// meantime it is read again and decided anew, as long as what somebody else wrote is not
    /// what we are about to change.
    ///
    /// # Errors
    /// [`Error::Conflict`] naming the other writer; [`Error::Unsuitable`] when the goal cannot be
    /// reached or the read-back shows something else.
    pub async fn scale(
        &self,
        workload: &WorkloadRef,
        goal: ScaleGoal,
        deadline: Deadline,
    ) -> Result<Scaled> {
        let before = self.scale_state(workload, deadline).await?;
        let unsuitable = |problem: String| Error::Unsuitable {
            object: workload.to_string(),
            problem,
        };
        let writes = plan(&before, goal).map_err(unsuitable)?;
        let mut state = before.clone();
        for write in &writes {
            state = self.write_scale(state, write, deadline).await?;
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

    async fn write_scale(
        &self,
        mut state: ScaleState,
        write: &ScaleWrite,
        deadline: Deadline,
    ) -> Result<ScaleState> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let result = self.send_scale(&state, write).await;
            state = self.scale_state(&state.workload, deadline).await?;
            match (result, value_of(&state, write)) {
                (_, live) if live == Some(to(write)) => return Ok(state),
                // Only other fields have moved (pods becoming ready move the status).
                (Err(error @ Error::Conflict { .. }), live) if live == Some(from(write)) => {
                    last = Some(error);
                }
                // Whether it was carried out is known now: it was not. The caller decides.
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

    async fn send_scale(&self, state: &ScaleState, write: &ScaleWrite) -> Result<()> {
        let params = PatchParams {
            field_manager: Some(crate::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let name = &state.workload.name;
        match write {
            ScaleWrite::Replicas { to, .. } => {
                let patch = Patch::Merge(json!({
                    "metadata": {"uid": state.uid, "resourceVersion": state.resource_version},
                    "spec": {"replicas": to},
                }));
                match state.workload.kind {
                    WorkloadKind::Deployment => {
                        let objects = self.objects::<Deployment>();
                        objects.patch(name, &patch, &params).await.map(drop)
                    }
                    WorkloadKind::StatefulSet => {
                        let objects = self.objects::<StatefulSet>();
                        objects.patch(name, &patch, &params).await.map(drop)
                    }
                    WorkloadKind::DaemonSet | WorkloadKind::Job => Ok(()),
                }
            }
            ScaleWrite::MinReplicas { to, .. } => {
                let Some(autoscaler) = &state.autoscaler else {
                    return Ok(());
                };
                let patch = Patch::Merge(json!({
                    "metadata": {
                        "uid": autoscaler.uid,
                        "resourceVersion": autoscaler.resource_version,
                    },
                    "spec": {"minReplicas": to},
                }));
                let objects = self.objects::<HorizontalPodAutoscaler>();
                let patched = objects.patch(&autoscaler.name, &patch, &params).await;
                patched.map(drop)
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state(replicas: i32, autoscaler: Option<(i32, i32)>) -> ScaleState {
        ScaleState {
            workload: "deployment/web".parse().unwrap(),
            uid: "uid".to_owned(),
            resource_version: "1".to_owned(),
            replicas,
            ready: replicas,
            autoscaler: autoscaler.map(|(min, max)| AutoscalerState {
                name: "web".to_owned(),
                uid: "uid-2".to_owned(),
                resource_version: "2".to_owned(),
                min,
                max,
            }),
        }
    }

    fn raise(from: i32, to: i32) -> ScaleWrite {
        ScaleWrite::MinReplicas {
            autoscaler: "web".to_owned(),
            from,
            to,
        }
    }

    #[test]
    fn without_an_autoscaler_replicas_are_written_and_only_when_they_differ() {
        assert_eq!(
            plan(&state(1, None), ScaleGoal::Size(3)).unwrap(),
            [ScaleWrite::Replicas { from: 1, to: 3 }]
        );
        assert_eq!(plan(&state(3, None), ScaleGoal::Size(3)).unwrap(), []);
        assert_eq!(
            plan(&state(3, None), ScaleGoal::RestoreMinimum(1)).unwrap(),
            []
        );
        assert!(plan(&state(3, None), ScaleGoal::Size(-1)).is_err());
    }

    #[test]
    fn with_an_autoscaler_its_floor_is_raised_and_replicas_are_left_alone() {
        let goal = ScaleGoal::Size(4);
        assert_eq!(plan(&state(2, Some((1, 10))), goal).unwrap(), [raise(1, 4)]);
        assert_eq!(plan(&state(6, Some((5, 10))), goal).unwrap(), []);
        let goal = ScaleGoal::RestoreMinimum(1);
        assert_eq!(plan(&state(6, Some((4, 10))), goal).unwrap(), [raise(4, 1)]);
    }

    #[test]
    fn a_floor_above_the_autoscalers_ceiling_is_refused() {
        let problem = plan(&state(2, Some((1, 3))), ScaleGoal::Size(4)).unwrap_err();
        assert_eq!(
            problem,
            "4 replicas are more than the 3 that autoscaler `web` allows"
        );
    }

    #[test]
    fn zero_switches_the_autoscaler_off_and_coming_back_wakes_it() {
        assert_eq!(
            plan(&state(3, Some((2, 5))), ScaleGoal::Size(0)).unwrap(),
            [ScaleWrite::Replicas { from: 3, to: 0 }]
        );
        assert_eq!(
            plan(&state(0, Some((1, 5))), ScaleGoal::Size(3)).unwrap(),
            [raise(1, 3), ScaleWrite::Replicas { from: 0, to: 3 }]
        );
    }
}
