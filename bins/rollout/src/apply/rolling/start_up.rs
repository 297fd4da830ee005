//! How long a new pod may take to be ready once its containers run. Pure: times are handed in.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use switchyard_cluster::rollout::{is_ready, is_terminating};
use switchyard_runner::values::show_duration;

/// Since when pods run without being ready, by UID, on the clock of one watch.
#[derive(Debug, Default)]
pub(super) struct StartUps(BTreeMap<String, Duration>);

impl StartUps {
    /// Takes down how the pods of one workload look at `now`; gives the first that has taken too long.
    pub(super) fn look<'pods>(
        &mut self,
        pods: impl IntoIterator<Item = &'pods Pod>,
        now: Duration,
        ready_within: Duration,
    ) -> Option<String> {
        let mut late = None;
        for pod in pods {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            if is_ready(pod) || is_terminating(pod) || !is_running(pod) {
                self.0.remove(&uid);
                continue;
            }
            let since = *self.0.entry(uid).or_insert(now);
            let limit = limit(pod, ready_within);
            if now.saturating_sub(since) > limit && late.is_none() {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                late = Some(format!(
                    "pod `{name}` has run for {} without being ready",
                    show_duration(limit)
                ));
            }
        }
        late
    }
}

/// The longest that the pod's own probes allow, where a startup probe says so; never less than what the
/// input allows.
fn limit(pod: &Pod, ready_within: Duration) -> Duration {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .filter_map(own_limit)
        .max()
        .map_or(ready_within, |own| own.max(ready_within))
}

/// Until its startup probe gives up, and then its readiness probe for the first time.
fn own_limit(container: &Container) -> Option<Duration> {
    let startup = window(container.startup_probe.as_ref()?);
    Some(
        startup
            + container
                .readiness_probe
                .as_ref()
                .map_or(Duration::ZERO, window),
    )
}

/// How long a probe may fail before it counts, by Kubernetes' defaults.
fn window(probe: &Probe) -> Duration {
    let field = |value: Option<i32>, default: u32| {
        let value = value.and_then(|value| u32::try_from(value).ok());
        Duration::from_secs(u64::from(
            value.filter(|value| *value > 0).unwrap_or(default),
        ))
    };
    let failures = u32::try_from(probe.failure_threshold.unwrap_or(3)).unwrap_or(3);
    field(probe.initial_delay_seconds, 0)
        + field(probe.period_seconds, 10) * failures
        + field(probe.timeout_seconds, 1)
}

/// Whether all containers of the pod run: before that it waits for its node, its image or its volumes.
fn is_running(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses.is_some_and(|statuses| {
        !statuses.is_empty()
            && statuses.iter().all(|container| {
                let state = container.state.as_ref();
                state.is_some_and(|state| state.running.is_some())
            })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pod(ready: &str, state: &Value, probes: &Value) -> Pod {
        let mut container = json!({"name": "web"});
        for (key, probe) in probes.as_object().expect("probes") {
            container[key] = probe.clone();
        }
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "uid": "1"},
            "spec": {"containers": [container]},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{
                    "name": "web", "ready": ready == "True", "restartCount": 0, "image": "web", "imageID": "",
                    "state": state,
                }],
            },
        }))
        .expect("a pod")
    }

    fn running(ready: &str) -> Pod {
        pod(ready, &json!({"running": {}}), &json!({}))
    }

    #[test]
    fn a_pod_that_runs_unready_for_too_long_is_late_and_one_that_gets_ready_starts_anew() {
        let mut start_ups = StartUps::default();
        let mut look = |pod: &Pod, at: u32| start_ups.look([pod], SECOND * at, 10 * SECOND);
        assert_eq!(look(&running("False"), 5), None);
        assert_eq!(look(&running("False"), 15), None);
        assert_eq!(look(&running("True"), 16), None);
        assert_eq!(look(&running("False"), 20), None);
        assert_eq!(
            look(&running("False"), 31).as_deref(),
            Some("pod `web-1` has run for 10s without being ready")
        );
    }

    #[test]
    fn a_pod_whose_image_is_being_pulled_has_not_begun() {
        let mut start_ups = StartUps::default();
        let waiting = pod(
            "False",
            &json!({"waiting": {"reason": "ContainerCreating"}}),
            &json!({}),
        );
        for at in [0, 1000] {
            assert_eq!(start_ups.look([&waiting], SECOND * at, SECOND), None);
        }
    }

    #[test]
    fn a_startup_probe_allows_what_it_says() {
        let probes = json!({
            "startupProbe": {"initialDelaySeconds": 20, "periodSeconds": 10, "failureThreshold": 30},
            "readinessProbe": {"periodSeconds": 5, "failureThreshold": 2},
        });
        let slow = pod("False", &json!({"running": {}}), &probes);
        // 20 + 10 × 30 + 1, then 5 × 2 + 1.
        assert_eq!(limit(&slow, 10 * SECOND), 332 * SECOND);
        assert_eq!(limit(&slow, 400 * SECOND), 400 * SECOND);
        assert_eq!(limit(&running("False"), 10 * SECOND), 10 * SECOND);
    }
}
