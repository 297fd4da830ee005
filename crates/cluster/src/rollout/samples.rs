//! Objects for tests, shaped as a real API server shows them, and the shortest way to judge them.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::{Value, json};

use super::{Expectation, Observation, PodHistory, Status, status};
use crate::workloads::Workload;

pub(super) fn deployment(wanted: i32, state: Value) -> Workload {
    Workload::Deployment(Arc::new(read(json!({
        "metadata": {
            "name": "web", "uid": "d-1", "generation": 2,
            "annotations": {"deployment.kubernetes.io/revision": "2"}
        },
        "spec": {
            "replicas": wanted,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "app", "image": "web:2"}]}}
        },
        "status": state
    }))))
}

/// The status of a Deployment that has `count` new pods, all available, and nothing else.
pub(super) fn settled(count: i32) -> Value {
    json!({
        "observedGeneration": 2,
        "replicas": count, "updatedReplicas": count,
        "readyReplicas": count, "availableReplicas": count,
        "conditions": [
            {"type": "Available", "status": "True"},
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
        ]
    })
}

pub(super) fn replica_set(uid: &str, revision: &str) -> ObjectMeta {
    read(json!({
        "name": uid, "uid": uid,
        "annotations": {"deployment.kubernetes.io/revision": revision},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d-1", "controller": true}
        ]
    }))
}

/// A pod as a value, to be changed before it is read.
pub(super) fn pod(name: &str, owner: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "uid": name, "labels": {"app": "web"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}
            ]
        },
        "spec": {"containers": [{"name": "app", "image": "web:2"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "app", "image": "web:2", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}}
            }]
        }
    })
}

/// A pod whose container waits for `reason`.
pub(super) fn waiting_pod(name: &str, owner: &str, reason: &str, message: &str) -> Value {
    let mut value = pod(name, owner);
    value["status"]["phase"] = json!("Pending");
    value["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    let container = &mut value["status"]["containerStatuses"][0];
    container["ready"] = json!(false);
    container["state"] = json!({"waiting": {"reason": reason, "message": message}});
    value
}

pub(super) fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A judgement being prepared.
pub(super) struct Case {
    pub(super) workload: Workload,
    pub(super) replica_sets: Vec<ObjectMeta>,
    pub(super) pods: Vec<Pod>,
    pub(super) history: PodHistory,
    pub(super) elapsed: Duration,
    pub(super) expectation: Expectation,
}

impl Case {
    pub(super) fn new(workload: Workload, pods: impl IntoIterator<Item = Value>) -> Self {
        let expectation = Expectation::of(&workload, 0);
        Self {
            workload,
            replica_sets: vec![replica_set("rs-1", "1"), replica_set("rs-2", "2")],
            pods: pods.into_iter().map(read).collect(),
            history: PodHistory::default(),
            elapsed: Duration::ZERO,
            expectation,
        }
    }

    pub(super) fn judge(&self) -> Status {
        let replica_sets: Vec<_> = self.replica_sets.iter().collect();
        let pods: Vec<_> = self.pods.iter().collect();
        status(
            &Observation {
                workload: &self.workload,
                replica_sets: &replica_sets,
                pods: &pods,
                history: &self.history,
                elapsed: self.elapsed,
            },
            &self.expectation,
        )
    }

    #[track_caller]
    pub(super) fn is_done(&self) {
        assert_eq!(self.judge(), Status::Done);
    }

    #[track_caller]
    pub(super) fn progresses(&self, part: &str) {
        match self.judge() {
            Status::Progressing { reason } => assert!(reason.contains(part), "{reason}"),
            other @ (Status::Done | Status::Failed(_)) => panic!("expected progress, got: {other}"),
        }
    }

    #[track_caller]
    pub(super) fn fails(&self, part: &str) {
        match self.judge() {
            Status::Failed(failure) => assert!(failure.reason.contains(part), "{failure:?}"),
            other @ (Status::Done | Status::Progressing { .. }) => {
                panic!("expected a failure, got: {other}")
            }
        }
    }
}
