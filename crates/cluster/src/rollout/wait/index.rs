//! The objects of a wait by their owner. It refuses to judge them.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::RolloutWait;
use crate::{
    rollout::{Observation, PodHistory, owner_uid},
    watch::KindWatch,
    workloads::Workload,
};

/// Pods and ReplicaSets by their owner, so that judging many workloads does not take a look at
/// every pod for each of them.
pub(super) struct Index<'wait> {
    replica_sets: HashMap<&'wait str, Vec<&'wait ObjectMeta>>,
    pods: HashMap<&'wait str, Vec<&'wait Pod>>,
}

impl<'wait> Index<'wait> {
    pub(super) fn new(wait: &'wait RolloutWait) -> Self {
        let mut replica_sets: HashMap<&str, Vec<&ObjectMeta>> = HashMap::new();
        for set in wait.replica_sets.iter().flat_map(KindWatch::objects) {
            if let Some(owner) = owner_uid(&set.metadata) {
                replica_sets.entry(owner).or_default().push(&set.metadata);
            }
        }
        let mut pods: HashMap<&str, Vec<&Pod>> = HashMap::new();
        for pod in wait.pods.iter().flat_map(KindWatch::objects) {
            if let Some(owner) = owner_uid(&pod.metadata) {
                pods.entry(owner).or_default().push(pod);
            }
        }
        Self { replica_sets, pods }
    }

    /// Hands everything that concerns `workload` to `judge`.
    pub(super) fn observe<T>(
        &self,
        workload: &Workload,
        history: &PodHistory,
        elapsed: Duration,
        judge: impl FnOnce(&Observation<'_>) -> T,
    ) -> T {
        let of = |owner: &str| self.pods.get(owner).into_iter().flatten().copied();
        let replica_sets = self.replica_sets.get(workload.uid());
        let replica_sets = replica_sets.cloned().unwrap_or_default();
        let by_set = replica_sets
            .iter()
            .flat_map(|set| of(set.uid.as_deref().unwrap_or_default()));
        let pods: Vec<&Pod> = of(workload.uid()).chain(by_set).collect();
        judge(&Observation {
            workload,
            replica_sets: &replica_sets,
            pods: &pods,
            history,
            elapsed,
        })
    }
}
