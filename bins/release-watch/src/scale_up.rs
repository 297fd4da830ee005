//! More pods for a workload that needs them: how many it gets, whose its size is, and whether they came.
//! It refuses to know why they are needed.

use std::time::Duration;

use switchyard_cluster::scale::{AutoscalerState, ScaleState};
use switchyard_cluster::workloads::WorkloadRef;
use switchyard_cluster::{Cluster, Deadline};
use switchyard_deployment::{Recorder, cluster_failure};
use switchyard_runner::{Context, Failure};

/// Most time for reading a size, and for writing one.
const LIMIT: Duration = Duration::from_secs(30);

/// What becomes of a workload that needs more pods.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sizing {
    /// It gets this many.
    Grow(i32),
    /// Its size is an autoscaler's.
    Owned(AutoscalerState),
    /// It has as many as it may.
    AtMost,
    /// What it got last is not ready yet.
    Growing,
    /// Somebody has taken it to 0, and so out of service.
    Idle,
}

/// Decides on the size that was read. Pure.
fn sizing(found: &ScaleState, step: i32, most: i32) -> Sizing {
    match &found.autoscaler {
        Some(autoscaler) => Sizing::Owned(autoscaler.clone()),
        None if found.replicas == 0 => Sizing::Idle,
        None if found.replicas >= most => Sizing::AtMost,
        None if found.ready < found.replicas => Sizing::Growing,
        None => Sizing::Grow(found.replicas.saturating_add(step).min(most)),
    }
}

/// Gives a workload more pods, a step at a time and up to a bound.
pub(crate) struct Scaler<'run> {
    pub(crate) cluster: &'run Cluster,
    pub(crate) recorder: &'run mut Recorder,
    pub(crate) context: &'run Context,
    pub(crate) workload: WorkloadRef,
    pub(crate) step: i32,
    pub(crate) most: i32,
    /// The size that it had, and the one that it was given last.
    pub(crate) grown: Option<(i32, i32)>,
}

impl Scaler<'_> {
    /// Gives it one step more, where that is anybody's but an autoscaler's to decide, and says what became of it.
    ///
    /// # Errors
    /// It cannot be read or written, or somebody else has changed it in the meantime.
    pub(crate) async fn scale_up(&mut self) -> Result<String, Failure> {
        let found = self.read().await?;
        let (workload, replicas) = (&self.workload, found.replicas);
        Ok(match sizing(&found, self.step, self.most) {
            Sizing::Owned(AutoscalerState { name, min, max, .. }) => format!(
                "autoscaler `{name}` owns the size of {workload}, {replicas} pods of {min} to {max}: it is left to it"
            ),
            Sizing::Idle => format!("{workload} has been taken to 0 pods: it is left so"),
            Sizing::AtMost => format!(
                "{workload} has {replicas} pods, and `max-replicas` is {}: it gets no more",
                self.most
            ),
            Sizing::Growing => format!(
                "{workload} has {} of {replicas} pods ready: it gets no more before they are",
                found.ready
            ),
            Sizing::Grow(size) => {
                let places = (self.cluster, Deadline::after(LIMIT));
                let resized = self.recorder.resize(&found, size, places, self.context);
                resized.await?;
                let first = self.grown.map_or(replicas, |(first, _)| first);
                self.grown = Some((first, size));
                format!("{workload}: replicas {replicas} → {size}")
            }
        })
    }

    /// What it was given, and how many of that is there; nothing where it was given nothing.
    pub(crate) async fn standing(&self) -> Option<String> {
        let (first, last) = self.grown?;
        let workload = &self.workload;
        let given = format!("{workload}: replicas {first} → {last}");
        Some(match self.read().await {
            Ok(now) => format!("{given}, {} of {} pods ready", now.ready, now.replicas),
            Err(failure) => format!("{given}, not verified: {}", failure.chain()),
        })
    }

    async fn read(&self) -> Result<ScaleState, Failure> {
        let read = self
            .cluster
            .scale_state(&self.workload, Deadline::after(LIMIT));
        read.await.map_err(cluster_failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(replicas: i32, ready: i32) -> ScaleState {
        ScaleState {
            workload: "deployment/web".parse().unwrap(),
            uid: "u1".to_owned(),
            resource_version: "7".to_owned(),
            fence: None,
            replicas,
            ready,
            autoscaler: None,
        }
    }

    #[test]
    fn a_workload_grows_by_its_step_and_never_beyond_its_bound() {
        assert_eq!(sizing(&found(2, 2), 2, 10), Sizing::Grow(4));
        assert_eq!(sizing(&found(9, 9), 2, 10), Sizing::Grow(10));
        assert_eq!(sizing(&found(10, 10), 2, 10), Sizing::AtMost);
        assert_eq!(sizing(&found(12, 12), 2, 10), Sizing::AtMost);
        let huge = sizing(&found(i32::MAX - 1, i32::MAX - 1), 5, i32::MAX);
        assert_eq!(huge, Sizing::Grow(i32::MAX));
    }

    #[test]
    fn nothing_is_added_before_what_was_added_is_there_and_nothing_to_what_is_out_of_service() {
        assert_eq!(sizing(&found(3, 2), 1, 10), Sizing::Growing);
        assert_eq!(sizing(&found(0, 0), 1, 10), Sizing::Idle);
    }

    #[test]
    fn the_size_of_a_workload_with_an_autoscaler_is_the_autoscalers() {
        let autoscaler = AutoscalerState {
            name: "web".to_owned(),
            uid: "u2".to_owned(),
            resource_version: "9".to_owned(),
            fence: None,
            min: 2,
            max: 5,
        };
        for (replicas, ready) in [(2, 2), (5, 5), (3, 1), (0, 0)] {
            let mut found = found(replicas, ready);
            found.autoscaler = Some(autoscaler.clone());
            assert_eq!(sizing(&found, 1, 10), Sizing::Owned(autoscaler.clone()));
        }
    }
}
