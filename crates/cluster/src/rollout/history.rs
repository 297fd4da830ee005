//! What was seen of pods since the wait began: restart baselines and how long something is stuck.
//! It refuses to read a clock: times come in as durations since the start.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::pods;

/// Memory of one wait. Restarts count against what a pod showed when it was first seen in the
/// initial listing; a pod that came up later starts at zero.
#[derive(Clone, Debug, Default)]
pub struct PodHistory {
    baselines: HashMap<(String, String), i32>,
    stuck_since: HashMap<String, Duration>,
    is_started: bool,
}

impl PodHistory {
    /// Takes the pods that exist when the wait begins as the baseline for restarts.
    pub fn begin<'pods>(&mut self, pods: impl IntoIterator<Item = &'pods Pod>) {
        for pod in pods {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            for container in pods::container_statuses(pod) {
                let key = (uid.to_owned(), container.name.clone());
                self.baselines.insert(key, container.restart_count);
            }
        }
        self.is_started = true;
    }

    /// Whether [`PodHistory::begin`] was called.
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// Notes what `pod` shows at `elapsed`.
    pub fn observe(&mut self, pod: &Pod, elapsed: Duration) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.note(uid, pods::unschedulable(pod).is_some(), elapsed);
    }

    /// Notes whether `key` (a UID) is stuck at `elapsed`.
    pub fn note(&mut self, key: &str, is_stuck: bool, elapsed: Duration) {
        if is_stuck {
            self.stuck_since.entry(key.to_owned()).or_insert(elapsed);
        } else {
            self.stuck_since.remove(key);
        }
    }

    /// Forgets a pod that is gone.
    pub fn forget(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.stuck_since.remove(uid);
        self.baselines.retain(|(known, _), _| known != uid);
    }

    /// How long `key` has been stuck at `elapsed`.
    pub fn stuck_for(&self, key: &str, elapsed: Duration) -> Option<Duration> {
        let since = self.stuck_since.get(key)?;
        Some(elapsed.saturating_sub(*since))
    }

    /// The next point in time at which something that is stuck has been so for `grace`.
    pub fn next_expiry(&self, grace: Duration, elapsed: Duration) -> Option<Duration> {
        let expiries = self.stuck_since.values().map(|since| *since + grace);
        expiries.filter(|expiry| *expiry > elapsed).min()
    }

    /// Restarts of a container since the wait began.
    pub fn restarts(&self, pod: &Pod, container: &ContainerStatus) -> u32 {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let baseline = self.baselines.get(&(uid, container.name.clone()));
        let rise = container.restart_count - baseline.copied().unwrap_or(0);
        u32::try_from(rise).unwrap_or(0)
    }

    /// Restarts of all containers of a pod since the wait began.
    pub fn restarts_of(&self, pod: &Pod) -> u32 {
        let containers = pods::container_statuses(pod);
        containers
            .map(|container| self.restarts(pod, container))
            .sum()
    }
}
