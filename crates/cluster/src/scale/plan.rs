//! What to write to bring a workload to a size. Pure.
//! It refuses to know how it is written.

use crate::workloads::WorkloadRef;

/// The size of a workload as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleState {
    /// The workload.
    pub workload: WorkloadRef,
    /// Its UID.
    pub uid: String,
    /// The version that was read; the precondition of the write.
    pub resource_version: String,
    /// The fence on it: the highest number of a writer.
    pub fence: Option<u64>,
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
    /// The fence on it.
    pub fence: Option<u64>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state(replicas: i32, autoscaler: Option<(i32, i32)>) -> ScaleState {
        ScaleState {
            workload: "deployment/web".parse().unwrap(),
            uid: "uid".to_owned(),
            resource_version: "1".to_owned(),
            fence: None,
            replicas,
            ready: replicas,
            autoscaler: autoscaler.map(|(min, max)| AutoscalerState {
                name: "web".to_owned(),
                uid: "uid-2".to_owned(),
                resource_version: "2".to_owned(),
                fence: None,
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
