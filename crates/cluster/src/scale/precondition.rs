//! What must still hold when a size is written. Pure.
//! It refuses to know who gives out the numbers of fences.

use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::plan::{ScaleState, ScaleWrite};
use crate::names;

/// Holds a write of a size back once the workload is another one, or another writer's.
///
/// Without it a writer that was frozen between its decision and its write would read the object
/// anew after a conflict, and scale what somebody else has put under traffic in the meantime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// The workload's UID; nothing when any object of that name is meant.
    pub uid: Option<String>,
    /// The writer's fence. An object with a greater one belongs to a newer writer; every object
    /// that is written gets this one.
    pub fence: Option<u64>,
    /// The `spec.replicas` that the decision was made on, with no autoscaler in charge of it; nothing
    /// when the size is wanted whatever it is now.
    pub own_size: Option<i32>,
}

impl Precondition {
    /// Tells why a write must not be made on what was read.
    pub(super) fn refusal(&self, state: &ScaleState) -> Option<String> {
        if let Some(uid) = self.uid.as_ref().filter(|uid| **uid != state.uid) {
            return Some(format!(
                "it was deleted and made anew (uid {}, expected {uid})",
                state.uid
            ));
        }
        let autoscaler = state.autoscaler.as_ref();
        let seen = state
            .fence
            .max(autoscaler.and_then(|autoscaler| autoscaler.fence));
        match (seen, self.fence) {
            (Some(seen), Some(ours)) if seen > ours => {
                return Some(format!(
                    "it has fence {seen}, this process has {ours}: a newer process has taken over"
                ));
            }
            (Some(_) | None, Some(_) | None) => {}
        }
        let expected = self.own_size?;
        match autoscaler {
            Some(autoscaler) => Some(format!(
                "autoscaler `{}` is in charge of its size now",
                autoscaler.name
            )),
            None => (state.replicas != expected).then(|| {
                format!(
                    "it has {} replicas, and had {expected} when this was decided",
                    state.replicas
                )
            }),
        }
    }

    /// The merge patch that makes `write` on exactly the state that was read, under the fence.
    /// Nothing when the autoscaler that it is about is gone.
    pub(super) fn patch(&self, state: &ScaleState, write: &ScaleWrite) -> Option<Value> {
        let (uid, version, spec) = match write {
            ScaleWrite::Replicas { to, .. } => {
                (&state.uid, &state.resource_version, json!({"replicas": to}))
            }
            ScaleWrite::MinReplicas { to, .. } => {
                let autoscaler = state.autoscaler.as_ref()?;
                (
                    &autoscaler.uid,
                    &autoscaler.resource_version,
                    json!({"minReplicas": to}),
                )
            }
        };
        let mut patch = json!({
            "metadata": {"uid": uid, "resourceVersion": version},
            "spec": spec,
        });
        if let Some(fence) = self.fence {
            patch["metadata"]["annotations"] = json!({names::FENCE: fence.to_string()});
        }
        Some(patch)
    }
}

/// The fence on an object; nothing when there is none, or one that is no number.
pub(super) fn fence_of(metadata: &ObjectMeta) -> Option<u64> {
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(names::FENCE)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::AutoscalerState;

    fn state(fence: Option<u64>) -> ScaleState {
        ScaleState {
            workload: "deployment/web".parse().unwrap(),
            uid: "u1".to_owned(),
            resource_version: "7".to_owned(),
            fence,
            replicas: 3,
            ready: 3,
            autoscaler: None,
        }
    }

    fn ours() -> Precondition {
        Precondition {
            uid: Some("u1".to_owned()),
            fence: Some(7),
            own_size: None,
        }
    }

    #[test]
    fn a_size_that_was_decided_on_another_one_is_not_written() {
        let of = |own_size| Precondition {
            own_size: Some(own_size),
            ..ours()
        };
        assert_eq!(of(3).refusal(&state(None)), None);
        assert_eq!(
            of(2).refusal(&state(None)).unwrap(),
            "it has 3 replicas, and had 2 when this was decided"
        );
        let mut scaled = state(None);
        scaled.autoscaler = Some(AutoscalerState {
            name: "web".to_owned(),
            uid: "u2".to_owned(),
            resource_version: "9".to_owned(),
            fence: None,
            min: 1,
            max: 4,
        });
        assert!(of(3).refusal(&scaled).unwrap().contains("`web`"));
    }

    #[test]
    fn a_workload_under_the_fence_of_a_newer_process_is_not_scaled() {
        assert_eq!(ours().refusal(&state(None)), None);
        assert_eq!(ours().refusal(&state(Some(7))), None);
        assert_eq!(
            ours().refusal(&state(Some(8))).unwrap(),
            "it has fence 8, this process has 7: a newer process has taken over"
        );
        // Without a record there are no fences to obey.
        assert_eq!(Precondition::default().refusal(&state(Some(8))), None);
    }

    #[test]
    fn the_autoscaler_of_a_newer_process_is_not_written() {
        let mut state = state(Some(7));
        state.autoscaler = Some(AutoscalerState {
            name: "web".to_owned(),
            uid: "u2".to_owned(),
            resource_version: "9".to_owned(),
            fence: Some(8),
            min: 1,
            max: 4,
        });
        assert!(ours().refusal(&state).unwrap().contains("fence 8"));
    }

    #[test]
    fn a_workload_that_was_made_anew_is_not_scaled() {
        let mut state = state(None);
        state.uid = "u9".to_owned();
        assert_eq!(
            ours().refusal(&state).unwrap(),
            "it was deleted and made anew (uid u9, expected u1)"
        );
    }

    #[test]
    fn a_write_carries_what_was_read_and_the_fence() {
        let write = ScaleWrite::Replicas { from: 3, to: 0 };
        assert_eq!(
            ours().patch(&state(None), &write),
            Some(json!({
                "metadata": {
                    "uid": "u1",
                    "resourceVersion": "7",
                    "annotations": {"switchyard.dev/fence": "7"},
                },
                "spec": {"replicas": 0},
            }))
        );
        let unfenced = Precondition::default().patch(&state(None), &write).unwrap();
        assert!(unfenced.pointer("/metadata/annotations").is_none());
        let raise = ScaleWrite::MinReplicas {
            autoscaler: "web".to_owned(),
            from: 1,
            to: 3,
        };
        assert_eq!(ours().patch(&state(None), &raise), None);
    }
}
