//! Behaviour of the judgement, kind by kind and state by state.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::samples::{Case, deployment, pod, read, settled, waiting_pod};
use crate::workloads::Workload;

fn two_new_pods() -> Vec<Value> {
    vec![pod("a", "rs-2"), pod("b", "rs-2")]
}

#[test]
fn a_deployment_is_done_when_everything_is_new_available_and_settled() {
    Case::new(deployment(2, settled(2)), two_new_pods()).is_done();
}

#[test]
fn a_deployment_at_zero_is_done_without_pods() {
    Case::new(deployment(0, settled(0)), []).is_done();
}

#[test]
fn an_unseen_generation_is_waited_for() {
    let mut state = settled(2);
    state["observedGeneration"] = json!(1);
    Case::new(deployment(2, state), two_new_pods()).progresses("controller");
}

#[test]
fn counts_below_the_wanted_size_are_waited_for_one_by_one() {
    for (field, word) in [
        ("updatedReplicas", "updated"),
        ("readyReplicas", "ready"),
        ("availableReplicas", "available"),
    ] {
        let mut state = settled(2);
        state[field] = json!(1);
        Case::new(deployment(2, state), two_new_pods())
            .progresses(&format!("1 of 2 replicas {word}"));
    }
}

#[test]
fn old_replicas_are_waited_for() {
    let mut state = settled(2);
    state["replicas"] = json!(3);
    Case::new(deployment(2, state), two_new_pods()).progresses("1 old replicas");
}

#[test]
fn an_old_pod_that_still_terminates_is_waited_for() {
    let mut old = pod("old", "rs-1");
    old["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut pods = two_new_pods();
    pods.push(old);
    Case::new(deployment(2, settled(2)), pods).progresses("1 old pods are still terminating (old)");
}

#[test]
fn an_old_pod_that_has_ended_holds_nothing_up() {
    let mut old = pod("old", "rs-1");
    old["status"]["phase"] = json!("Failed");
    old["status"]["reason"] = json!("Evicted");
    let mut pods = two_new_pods();
    pods.push(old);
    Case::new(deployment(2, settled(2)), pods).is_done();
}

#[test]
fn a_status_that_is_ahead_of_the_pods_seen_is_not_believed() {
    let case = Case::new(deployment(2, settled(2)), [pod("a", "rs-2")]);
    case.progresses("1 of 2 ready pods seen");
}

#[test]
fn conditions_have_the_last_word() {
    let mut state = settled(2);
    state["conditions"][0]["status"] = json!("False");
    Case::new(deployment(2, state), two_new_pods()).progresses("Available");
    let mut state = settled(2);
    state["conditions"][1]["reason"] = json!("ReplicaSetUpdated");
    Case::new(deployment(2, state), two_new_pods()).progresses("new ReplicaSet");
}

#[test]
fn a_deployment_without_a_progress_deadline_has_no_such_condition_and_is_done() {
    let mut state = settled(2);
    state["conditions"].as_array_mut().unwrap().pop();
    Case::new(deployment(2, state), two_new_pods()).is_done();
}

#[test]
fn a_progress_deadline_that_has_passed_is_final() {
    let mut state = settled(0);
    state["conditions"][1] = json!({
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "message": "ReplicaSet \"web-2\" has timed out progressing."
    });
    Case::new(deployment(2, state), []).fails("timed out progressing");
}

#[test]
fn a_paused_deployment_is_lost_at_once() {
    let Workload::Deployment(object) = deployment(2, settled(2)) else {
        unreachable!()
    };
    let mut object = Arc::unwrap_or_clone(object);
    object.spec.as_mut().unwrap().paused = Some(true);
    Case::new(Workload::Deployment(Arc::new(object)), two_new_pods()).fails("paused");
}

#[test]
fn hopeless_pods_of_the_new_version_fail_fast() {
    for (reason, message, part) in [
        (
            "CrashLoopBackOff",
            "back-off 10s",
            "crashes again and again",
        ),
        (
            "ErrImagePull",
            "failed to resolve reference \"r/web:9\": r/web:9: not found",
            "cannot be pulled",
        ),
        (
            "ImagePullBackOff",
            "Back-off pulling image",
            "ImagePullBackOff",
        ),
        ("InvalidImageName", "couldn't parse", "InvalidImageName"),
        (
            "CreateContainerConfigError",
            "secret \"db\" not found",
            "secret \"db\" not found",
        ),
    ] {
        let bad = waiting_pod("bad", "rs-2", reason, message);
        let case = Case::new(deployment(2, settled(0)), [bad]);
        case.fails(part);
        case.fails("pod `bad`, container `app`");
    }
}

#[test]
fn passing_troubles_are_waited_for() {
    for (reason, message) in [
        ("ErrImagePull", "dial tcp: i/o timeout"),
        (
            "CreateContainerConfigError",
            "failed to sync configmap cache: timed out waiting for the condition",
        ),
        ("ContainerCreating", ""),
        ("PodInitializing", ""),
    ] {
        let slow = waiting_pod("slow", "rs-2", reason, message);
        Case::new(deployment(1, settled(0)), [slow]).progresses(reason);
    }
}

#[test]
fn hopeless_pods_of_the_old_version_are_not_this_rollouts_fault() {
    let old = waiting_pod("old", "rs-1", "CrashLoopBackOff", "");
    Case::new(deployment(2, settled(0)), [old]).progresses("0 of 2");
}

#[test]
fn a_container_that_the_runtime_cannot_start_is_lost_unless_the_next_try_may_win() {
    for (code, is_lost) in [(127, true), (128, false)] {
        let mut bad = waiting_pod("bad", "rs-2", "ContainerCreating", "");
        bad["status"]["containerStatuses"][0]["lastState"] = json!({
            "terminated": {"reason": "ContainerCannotRun", "exitCode": code, "message": "no such file"}
        });
        let case = Case::new(deployment(1, settled(0)), [bad]);
        if is_lost {
            case.fails("no such file");
        } else {
            case.progresses("0 of 1");
        }
    }
}

#[test]
fn restarts_count_from_the_start_of_the_wait() {
    let mut restarted = pod("a", "rs-2");
    restarted["status"]["containerStatuses"][0]["restartCount"] = json!(3);
    let mut case = Case::new(deployment(1, settled(1)), [restarted]);
    case.history.begin(&case.pods.clone());
    case.is_done();
    case.pods[0]
        .status
        .as_mut()
        .unwrap()
        .container_statuses
        .as_mut()
        .unwrap()[0]
        .restart_count = 4;
    case.fails("restarted once since the wait began");
    case.expectation.max_restarts = 1;
    case.is_done();
}

#[test]
fn a_pod_that_came_up_during_the_wait_starts_at_zero() {
    let mut restarted = pod("a", "rs-2");
    restarted["status"]["containerStatuses"][0]["restartCount"] = json!(1);
    restarted["status"]["containerStatuses"][0]["lastState"] =
        json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
    let mut case = Case::new(deployment(1, settled(1)), [restarted]);
    case.history.begin([]);
    case.fails("last exit: OOMKilled, code 137");
}

#[test]
fn unschedulable_is_lost_after_a_grace_and_not_before() {
    let mut stuck = waiting_pod("stuck", "rs-2", "x", "");
    stuck["status"] = json!({
        "phase": "Pending",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu."
        }]
    });
    let mut case = Case::new(deployment(1, settled(0)), [stuck]);
    case.history
        .observe(&case.pods[0].clone(), Duration::from_secs(3));
    case.elapsed = Duration::from_secs(18);
    case.progresses("Insufficient cpu");
    assert_eq!(
        case.history
            .next_expiry(super::STUCK_GRACE, Duration::from_secs(4)),
        Some(Duration::from_secs(18))
    );
    case.elapsed = Duration::from_millis(18_001);
    case.fails("Insufficient cpu");
}

#[test]
fn pods_that_cannot_be_created_are_lost_after_a_grace() {
    let mut state = settled(0);
    state["conditions"] = json!([
        {"type": "Available", "status": "False"},
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
         "message": "pods \"web-2-x\" is forbidden: exceeded quota: pods"}
    ]);
    let mut case = Case::new(deployment(1, state), []);
    case.history.note("d-1", true, Duration::ZERO);
    case.elapsed = Duration::from_secs(15);
    case.progresses("0 of 1");
    case.elapsed = Duration::from_secs(16);
    case.fails("exceeded quota");
}

#[test]
fn a_failed_pod_is_lost_unless_it_was_evicted() {
    let mut failed = pod("a", "rs-2");
    failed["status"]["phase"] = json!("Failed");
    failed["status"]["conditions"] = json!([]);
    failed["status"]["reason"] = json!("UnexpectedAdmissionError");
    Case::new(deployment(1, settled(0)), [failed.clone()]).fails("UnexpectedAdmissionError");
    failed["status"]["reason"] = json!("Evicted");
    Case::new(deployment(1, settled(0)), [failed]).progresses("0 of 1");
}

#[test]
fn somebody_elses_deployment_in_the_middle_of_the_wait_is_noticed() {
    let mut case = Case::new(deployment(2, settled(2)), two_new_pods());
    case.expectation
        .images
        .insert("app".to_owned(), "web:1".to_owned());
    case.fails("container `app` has image `web:2`, expected `web:1`");
    let mut case = Case::new(deployment(2, settled(2)), two_new_pods());
    case.expectation.uid = Some("d-0".to_owned());
    case.fails("made anew");
}

fn stateful_set(spec: Value, state: Value) -> Workload {
    let mut object = json!({
        "metadata": {"name": "db", "uid": "s-1", "generation": 2},
        "spec": {
            "replicas": 2, "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"spec": {"containers": [{"name": "app", "image": "db:2"}]}},
            "updateStrategy": {"type": "RollingUpdate"}
        },
        "status": {
            "observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "availableReplicas": 2,
            "updatedReplicas": 2, "currentRevision": "new", "updateRevision": "new"
        }
    });
    merge(&mut object["spec"], spec);
    merge(&mut object["status"], state);
    Workload::StatefulSet(Arc::new(read(object)))
}

fn merge(into: &mut Value, from: Value) {
    let Value::Object(fields) = from else { return };
    for (key, value) in fields {
        into[key] = value;
    }
}

fn of_stateful_set(name: &str, revision: &str) -> Value {
    let mut value = pod(name, "s-1");
    value["metadata"]["labels"]["controller-revision-hash"] = json!(revision);
    value
}

#[test]
fn a_stateful_set_is_done_when_its_update_is_its_current_revision() {
    let pods = || {
        [
            of_stateful_set("db-0", "new"),
            of_stateful_set("db-1", "new"),
        ]
    };
    Case::new(stateful_set(json!({}), json!({})), pods()).is_done();
    let behind = json!({"currentRevision": "old"});
    Case::new(stateful_set(json!({}), behind), pods()).progresses("new revision");
    let updating = json!({"updatedReplicas": 1, "currentRevision": "old"});
    Case::new(stateful_set(json!({}), updating), pods()).progresses("1 of 2 replicas updated");
}

#[test]
fn a_partition_keeps_old_pods_on_purpose() {
    let partition =
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}});
    let state = json!({"updatedReplicas": 1, "currentRevision": "old"});
    let pods = [
        of_stateful_set("db-0", "old"),
        of_stateful_set("db-1", "new"),
    ];
    Case::new(stateful_set(partition, state), pods).is_done();
}

#[test]
fn a_stateful_set_that_waits_for_somebody_to_delete_pods_is_lost() {
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    Case::new(stateful_set(on_delete, json!({})), []).fails("OnDelete");
}

fn daemon_set(state: Value) -> Workload {
    let mut object = json!({
        "metadata": {
            "name": "agent", "uid": "ds-1", "generation": 2,
            "annotations": {"deprecated.daemonset.template.generation": "2"}
        },
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {"spec": {"containers": [{"name": "app", "image": "agent:2"}]}},
            "updateStrategy": {"type": "RollingUpdate"}
        },
        "status": {
            "observedGeneration": 2, "desiredNumberScheduled": 1, "currentNumberScheduled": 1,
            "updatedNumberScheduled": 1, "numberReady": 1, "numberAvailable": 1, "numberMisscheduled": 0
        }
    });
    merge(&mut object["status"], state);
    Workload::DaemonSet(Arc::new(read(object)))
}

fn of_daemon_set(name: &str, generation: &str) -> Value {
    let mut value = pod(name, "ds-1");
    value["metadata"]["labels"]["pod-template-generation"] = json!(generation);
    value
}

#[test]
fn a_daemon_set_is_done_when_every_node_has_the_new_pod_and_no_old_one_is_left() {
    Case::new(daemon_set(json!({})), [of_daemon_set("a", "2")]).is_done();
    let updating = json!({"updatedNumberScheduled": 0});
    Case::new(daemon_set(updating), [of_daemon_set("a", "1")]).progresses("0 of 1 nodes updated");
    let pods = [of_daemon_set("a", "2"), of_daemon_set("old", "1")];
    Case::new(daemon_set(json!({})), pods).progresses("1 old pods");
}

fn job(state: Value) -> Workload {
    Workload::Job(Arc::new(read(json!({
        "metadata": {"name": "migrate", "uid": "j-1"},
        "spec": {
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "j-1"}},
            "template": {"spec": {"containers": [{"name": "app", "image": "migrate:2"}]}}
        },
        "status": state
    }))))
}

#[test]
fn a_job_is_done_when_complete_and_not_when_it_runs() {
    Case::new(job(json!({"active": 1})), [pod("a", "j-1")])
        .progresses("0 of 1 completions, 1 active");
    let complete = json!({"succeeded": 1, "conditions": [
        {"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}
    ]});
    Case::new(job(complete), []).is_done();
}

#[test]
fn a_failed_job_is_lost_with_its_own_words() {
    let failed = json!({"failed": 1, "conditions": [{
        "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
        "message": "Job has reached the specified backoff limit"
    }]});
    Case::new(job(failed), []).fails("BackoffLimitExceeded: Job has reached");
}

#[test]
fn a_jobs_crashes_are_its_own_controllers_to_count_but_a_missing_image_is_not() {
    let crashing = waiting_pod("a", "j-1", "CrashLoopBackOff", "");
    Case::new(job(json!({"active": 1})), [crashing]).progresses("1 active");
    let missing = waiting_pod("a", "j-1", "ImagePullBackOff", "");
    Case::new(job(json!({"active": 1})), [missing]).fails("cannot be pulled");
}

#[test]
fn only_a_deployment_at_zero_without_terminating_pods_needs_no_pods() {
    assert!(super::needs_pods(&deployment(1, settled(1))));
    assert!(
        super::needs_pods(&deployment(0, settled(0))),
        "an old server tells nothing"
    );
    let mut state = settled(0);
    state["terminatingReplicas"] = json!(0);
    assert!(!super::needs_pods(&deployment(0, state.clone())));
    state["terminatingReplicas"] = json!(1);
    assert!(super::needs_pods(&deployment(0, state.clone())));
    state["observedGeneration"] = json!(1);
    assert!(
        !super::needs_pods(&deployment(0, state)),
        "asked again once it is observed"
    );
}
