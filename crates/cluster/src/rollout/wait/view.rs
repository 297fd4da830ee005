//! What a wait shows of what it has seen. It refuses to send requests.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;

use super::{RolloutWait, index::Index};
use crate::{
    rollout::{
        Observation, RolloutFailure, Size, Status, current_pods, current_replica_sets, size,
    },
    watch::KindWatch,
    workloads::{Workload, WorkloadKind, WorkloadRef},
};

impl RolloutWait {
    /// All workloads with their states, by kind and name.
    pub fn states(&self) -> impl Iterator<Item = (&WorkloadRef, &Status)> {
        self.states.iter()
    }

    /// Whether everything is done at this moment.
    pub fn is_done(&self) -> bool {
        !self.states.is_empty() && self.states.values().all(|status| *status == Status::Done)
    }

    /// The first workload that is lost.
    pub fn failure(&self) -> Option<(&WorkloadRef, &RolloutFailure)> {
        self.states
            .iter()
            .find_map(|(workload, status)| match status {
                Status::Failed(failure) => Some((workload, failure)),
                Status::Done | Status::Progressing { .. } => None,
            })
    }

    /// Every workload that is lost.
    pub fn failures(&self) -> impl Iterator<Item = (&WorkloadRef, &RolloutFailure)> {
        self.states
            .iter()
            .filter_map(|(workload, status)| match status {
                Status::Failed(failure) => Some((workload, failure)),
                Status::Done | Status::Progressing { .. } => None,
            })
    }

    /// Pods of the version being rolled out, without those on their way out, by name.
    pub fn pods_of(&self, workload: &WorkloadRef) -> Vec<Arc<Pod>> {
        let names = self.observe(workload, |observation| {
            current_pods(observation)
                .into_iter()
                .filter_map(|pod| pod.metadata.name.clone())
                .collect::<BTreeSet<_>>()
        });
        let names = names.unwrap_or_default();
        let watch = self.pods.as_ref();
        let pods = names.iter().filter_map(|name| watch?.get(name).cloned());
        pods.collect()
    }

    /// How many pods a workload wants and how many of them are ready.
    pub fn size_of(&self, workload: &WorkloadRef) -> Size {
        self.observe(workload, size).unwrap_or_default()
    }

    /// Objects other than pods whose events tell about a workload: itself and its ReplicaSet, as
    /// (`kind/name`, UID).
    pub fn related_objects(&self, workload: &WorkloadRef) -> Vec<(String, String)> {
        let related = self.observe(workload, |observation| {
            let itself = (workload.to_string(), observation.workload.uid().to_owned());
            let sets = current_replica_sets(observation).into_iter();
            let sets = sets.map(|(name, uid)| (format!("replicaset/{name}"), uid));
            std::iter::once(itself).chain(sets).collect()
        });
        related.unwrap_or_default()
    }

    fn observe<T>(
        &self,
        workload: &WorkloadRef,
        look: impl FnOnce(&Observation<'_>) -> T,
    ) -> Option<T> {
        let object = self.workload(workload)?;
        let index = Index::new(self);
        Some(index.observe(&object, &self.history, self.started.elapsed(), look))
    }

    /// The workload as last seen.
    pub fn workload(&self, workload: &WorkloadRef) -> Option<Workload> {
        let name = workload.name.as_str();
        match workload.kind {
            WorkloadKind::Deployment => {
                let object = self.deployments.as_ref()?.get(name)?;
                Some(Workload::Deployment(object.clone()))
            }
            WorkloadKind::StatefulSet => {
                let object = self.stateful_sets.as_ref()?.get(name)?;
                Some(Workload::StatefulSet(object.clone()))
            }
            WorkloadKind::DaemonSet => {
                let object = self.daemon_sets.as_ref()?.get(name)?;
                Some(Workload::DaemonSet(object.clone()))
            }
            WorkloadKind::Job => {
                let object = self.jobs.as_ref()?.get(name)?;
                Some(Workload::Job(object.clone()))
            }
        }
    }

    /// For how long the wait has been blind: since when one of its watches is interrupted.
    pub fn blind_for(&self) -> Option<Duration> {
        let since = [
            self.deployments
                .as_ref()
                .and_then(KindWatch::interrupted_since),
            self.stateful_sets
                .as_ref()
                .and_then(KindWatch::interrupted_since),
            self.daemon_sets
                .as_ref()
                .and_then(KindWatch::interrupted_since),
            self.jobs.as_ref().and_then(KindWatch::interrupted_since),
            self.replica_sets
                .as_ref()
                .and_then(KindWatch::interrupted_since),
            self.pods.as_ref().and_then(KindWatch::interrupted_since),
        ];
        since
            .into_iter()
            .flatten()
            .min()
            .map(|since| since.elapsed())
    }

    /// Restarts of all pods of the versions being rolled out, since the wait began.
    pub fn restarts(&self) -> u32 {
        let pods = self
            .states
            .keys()
            .filter(|workload| workload.kind != WorkloadKind::Job);
        let pods = pods.flat_map(|workload| self.pods_of(workload));
        pods.map(|pod| self.history.restarts_of(&pod)).sum()
    }

    /// Restarts of one pod since the wait began.
    pub fn restarts_of(&self, pod: &Pod) -> u32 {
        self.history.restarts_of(pod)
    }
}
