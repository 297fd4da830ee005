//! Watches of pods on a real cluster: a restart, a crash under traffic, memory, a cut API server, and the record.

mod support;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use support::cluster::{address, control, deploy};
use switchyard_harness::{Ended, Started, Step, expect_code, expect_said};
use switchyard_record::{
    Chain, ClaimRequest, DeploymentId, DeploymentIdParts, DeploymentRecord, DeploymentResult,
    Freshness, Intent, Kind, ObjectRef, Opening, Outcome, Phase, Session, SessionOptions, Side,
    SideState, Store, Verdict, Verification, WeightsEntry, WorkloadState,
};
use switchyard_sandbox::fault_proxy::FaultProxy;
use switchyard_sandbox::{HttpClient, Sandbox, TestNamespace, User};

/// Far longer than any of these tests may take: a breach has to end the watch before.
const LONG: &str = "10m";

fn watch(sandbox: &Sandbox, namespace: &TestNamespace) -> Step {
    Step::new(env!("CARGO_BIN_EXE_release-watch"))
        .input(
            "kubeconfig",
            sandbox.kubeconfig(User::Deployer).display().to_string(),
        )
        .input("namespace", namespace.name())
        .input("workloads", "deployment/api")
        .input("interval", "1s")
        .input("version-header", "x-app-version")
        .input("min-requests", "20")
}

/// The deployment of the run that the harness pretends to be.
fn id(namespace: &TestNamespace) -> DeploymentId {
    let id = DeploymentId::new(DeploymentIdParts {
        repository: "example/shop".to_owned(),
        run_id: "1001".to_owned(),
        environment: "staging".to_owned(),
        cluster: "sandbox".to_owned(),
        namespace: namespace.name().to_owned(),
        application: "shop".to_owned(),
    });
    id.unwrap()
}

/// A step of that deployment's application.
fn named(step: Step) -> Step {
    step.input("application", "shop")
        .input("environment", "staging")
        .input("cluster", "sandbox")
}

async fn open(client: &kube::Client, id: &DeploymentId) -> Session {
    let opened = Session::open(client.clone(), id.clone(), SessionOptions::new("dana"));
    opened.await.unwrap()
}

fn claim(intent: Intent) -> ClaimRequest {
    ClaimRequest {
        intent,
        attempt: 1,
        inputs: None,
        freshness: Freshness::OncePerRun,
    }
}

async fn advance(session: &mut Session, phases: impl IntoIterator<Item = Phase>) {
    for phase in phases {
        session.advance(phase).await.unwrap();
    }
}

async fn run(step: Step) -> Ended {
    tokio::task::spawn_blocking(|| step.run()).await.unwrap()
}

async fn finish(started: Started) -> Ended {
    let ended = tokio::task::spawn_blocking(|| started.finish());
    ended.await.unwrap()
}

/// Waits until the step behind the proxy watches pods.
async fn watches(proxy: &FaultProxy) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let requests = proxy.requests();
        let mut requests = requests.iter();
        if requests.any(|seen| seen.path.contains("pods?") && seen.path.contains("watch=true")) {
            return;
        }
        assert!(Instant::now() < deadline, "the watch never began");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A step that goes through a proxy of its own, so that its watch is seen to begin.
async fn through_proxy(sandbox: &Sandbox, step: Step) -> (FaultProxy, Started) {
    let proxy = FaultProxy::start(sandbox).await.unwrap();
    let kubeconfig = sandbox.kubeconfig_through(&proxy, User::Deployer).unwrap();
    let started = step
        .input("kubeconfig", kubeconfig.display().to_string())
        .start();
    watches(&proxy).await;
    (proxy, started)
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_pods_pass_and_each_is_asked() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-quiet").await;
    deploy(&sandbox, &namespace, ("api-canary", "v1.0.0"), None).await;
    let ended = run(watch(&sandbox, &namespace)
        .input("side", "canary")
        .input("duration", "4s")
        .input("verify-url", address(&namespace, "api-canary", 80))
        .input("verify-rate", "20")
        .input("checks", "- service/api-canary:http/api/health/ready"))
    .await;
    expect_code(&ended, 0);
    assert_eq!(ended.outputs["verdict"], "pass");
    expect_said(
        &ended,
        &[
            "deployment/api-canary 1 of 1 pods ready, 0 restarts since the start",
            "1 asked, 1 good",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_rolls_back_at_once_whatever_the_interval() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-restart").await;
    deploy(&sandbox, &namespace, ("api", "v1.0.0"), None).await;
    let step = watch(&sandbox, &namespace)
        .input("interval", "5m")
        .input("duration", LONG);
    let (_proxy, started) = through_proxy(&sandbox, step).await;
    let killed = Instant::now();
    control(&namespace, "api", json!({"exit_after_requests": 0})).await;
    // The request that kills it gets no answer.
    let _ = HttpClient::plain()
        .get(&address(&namespace, "api", 80))
        .await;
    let ended = finish(started).await;
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["action"], "rollback");
    assert!(
        ended.outputs["reason"].starts_with("pods: deployment/api: "),
        "{:?}",
        ended.outputs
    );
    let log = ended.log();
    assert!(
        log.contains("restarted once since") || log.contains("0 of 1 pods are ready"),
        "{log}"
    );
    assert!(
        killed.elapsed() < Duration::from_secs(60),
        "{:?}",
        killed.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_that_is_lost_and_a_pod_that_liveness_kills_end_the_watch_at_once() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-probes").await;
    deploy(&sandbox, &namespace, ("ready", "v1.0.0"), None).await;
    deploy(&sandbox, &namespace, ("live", "v1.0.0"), None).await;
    let probe = json!({"httpGet": {"path": "/api/health/live", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1});
    let patch = json!([{"op": "add", "path": "/spec/template/spec/containers/0/livenessProbe", "value": probe}]);
    let patch = patch.to_string();
    namespace
        .kubectl(&["patch", "deployment/live", "--type=json", "-p", &patch])
        .unwrap();
    for name in ["deployment/ready", "deployment/live"] {
        namespace
            .kubectl(&["rollout", "status", name, "--timeout=90s"])
            .unwrap();
    }
    let watches = ["ready", "live"].map(|name| {
        let step = watch(&sandbox, &namespace)
            .input("workloads", format!("deployment/{name}"))
            .input("interval", "5m")
            .input("duration", LONG);
        through_proxy(&sandbox, step)
    });
    let [ready, live] = watches;
    let ((_first, ready), (_second, live)) = tokio::join!(ready, live);
    control(&namespace, "ready", json!({"ready": false})).await;
    control(&namespace, "live", json!({"live": false})).await;
    let ready = finish(ready).await;
    expect_code(&ready, 1);
    expect_said(&ready, &["0 of 1 pods are ready"]);
    let live = finish(live).await;
    expect_code(&live, 1);
    expect_said(&live, &["pods: deployment/live: "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_an_autoscaler_adds_or_takes_away_are_no_breach_and_none_cannot_pass() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-resize").await;
    deploy(&sandbox, &namespace, ("api", "v1.0.0"), None).await;
    let step = watch(&sandbox, &namespace).input("duration", "8s");
    let (_proxy, started) = through_proxy(&sandbox, step).await;
    for size in ["3", "1"] {
        let replicas = format!("--replicas={size}");
        namespace
            .kubectl(&["scale", "deployment/api", &replicas])
            .unwrap();
        namespace
            .kubectl(&["rollout", "status", "deployment/api", "--timeout=90s"])
            .unwrap();
    }
    expect_code(&finish(started).await, 0);
    namespace
        .kubectl(&["scale", "deployment/api", "--replicas=0"])
        .unwrap();
    namespace
        .kubectl(&[
            "wait",
            "--for=delete",
            "pod",
            "-l",
            "app=api",
            "--timeout=90s",
        ])
        .unwrap();
    let ended = run(watch(&sandbox, &namespace).input("duration", "1s")).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["nothing to watch"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_crashes_under_traffic_rolls_back() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-crash").await;
    deploy(&sandbox, &namespace, ("api", "v1.0.0"), None).await;
    control(&namespace, "api", json!({"exit_after_requests": 40})).await;
    let ended = run(watch(&sandbox, &namespace)
        .input("duration", LONG)
        .input("verify-url", address(&namespace, "api", 80))
        .input("verify-rate", "20"))
    .await;
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["action"], "rollback");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leak_that_is_killed_for_its_memory_rolls_back() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-memory").await;
    deploy(&sandbox, &namespace, ("api", "v1.0.0"), Some("40Mi")).await;
    let step = watch(&sandbox, &namespace).input("duration", LONG);
    let (_proxy, started) = through_proxy(&sandbox, step).await;
    control(&namespace, "api", json!({"memory_growth_mib": 30})).await;
    let ended = finish(started).await;
    expect_code(&ended, 1);
    assert!(
        ended.outputs["reason"].starts_with("pods: "),
        "{:?}",
        ended.outputs
    );
}

/// The size of a deployment.
fn size(namespace: &TestNamespace, name: &str) -> String {
    let path = "jsonpath={.spec.replicas}";
    namespace
        .kubectl(&["get", &format!("deployment/{name}"), "-o", path])
        .unwrap()
}

/// A watch of a deployment whose answers take too long, which asks for more pods.
fn short_of_pods(sandbox: &Sandbox, namespace: &TestNamespace) -> Step {
    watch(sandbox, namespace)
        .input("thresholds", "runbook")
        .input(
            "checks",
            "- {target: 'service/api:http/api', name: load, max-time: 300ms, concern: capacity}",
        )
        .input("scale-up", "deployment/api")
        .input("max-replicas", "2")
        .input("scale-up-step", "3")
        .input("duration", "15s")
}

#[tokio::test(flavor = "multi_thread")]
async fn more_pods_come_up_to_their_bound_and_are_in_the_journal() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-scale").await;
    let client = sandbox.client(User::Deployer).await;
    deploy(&sandbox, &namespace, ("api", "v1.0.0"), None).await;
    control(&namespace, "api", json!({"latency_ms": 900})).await;
    let id = id(&namespace);
    let mut session = open(&client, &id).await;
    let opening = Opening::new(Kind::Deploy, Chain::Slots);
    session.claim(claim(Intent::Deploy(opening))).await.unwrap();
    advance(&mut session, [Phase::Applied, Phase::Ready, Phase::Tested]).await;
    advance(&mut session, [Phase::Switching(1), Phase::Holding(1)]).await;
    session.close().await;
    let ended = run(named(short_of_pods(&sandbox, &namespace))).await;
    expect_code(&ended, 0);
    assert_eq!(ended.outputs["action"], "scale-up");
    assert_eq!(size(&namespace, "api"), "2");
    expect_said(
        &ended,
        &[
            "deployment/api: replicas 1 → 2",
            "deployment/api has 2 pods, and `max-replicas` is 2: it gets no more",
        ],
    );
    let reason = &ended.outputs["reason"];
    assert!(reason.ends_with("1 → 2, 2 of 2 pods ready"), "{reason}");
    let store = Store::new(client, namespace.name());
    let record = store.deployment(&id).await.unwrap().unwrap().record;
    let [entry] = &record.journal[..] else {
        panic!("{:?}", record.journal);
    };
    assert_eq!(
        (entry.operation.as_str(), entry.outcome),
        ("scale", Outcome::Applied)
    );
    assert!(entry.precondition_resource_version.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_an_autoscaler_owns_is_left_to_it() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-hpa").await;
    deploy(&sandbox, &namespace, ("api", "v1.0.0"), None).await;
    control(&namespace, "api", json!({"latency_ms": 900})).await;
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "of-api"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"},
            "minReplicas": 1, "maxReplicas": 3,
            "metrics": [{
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
            }]
        }
    });
    namespace.apply(&autoscaler.to_string()).unwrap();
    let version = |kind: &str| {
        let path = "jsonpath={.spec}";
        namespace.kubectl(&["get", kind, "-o", path]).unwrap()
    };
    let before = version("hpa/of-api");
    let ended = run(short_of_pods(&sandbox, &namespace).input("duration", "3s")).await;
    expect_code(&ended, 0);
    expect_said(
        &ended,
        &[
            "autoscaler `of-api` owns the size of deployment/api, 1 pods of 1 to 3: it is left to it",
        ],
    );
    assert_eq!(size(&namespace, "api"), "1");
    assert_eq!(version("hpa/of-api"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_cut_goes_on_and_still_sees_the_restart() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-cut").await;
    deploy(&sandbox, &namespace, ("api", "v1.0.0"), None).await;
    let step = watch(&sandbox, &namespace).input("duration", LONG);
    let (proxy, started) = through_proxy(&sandbox, step).await;
    proxy.forget_requests();
    proxy.cut_connections();
    watches(&proxy).await;
    control(&namespace, "api", json!({"exit_after_requests": 0})).await;
    let _ = HttpClient::plain()
        .get(&address(&namespace, "api", 80))
        .await;
    let ended = finish(started).await;
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["action"], "rollback");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_cannot_be_seen_cannot_be_judged() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-blind").await;
    deploy(&sandbox, &namespace, ("api", "v1.0.0"), None).await;
    let step = watch(&sandbox, &namespace)
        .input("duration", LONG)
        .input("max-errors", "3");
    let (proxy, started) = through_proxy(&sandbox, step).await;
    proxy.go_offline();
    proxy.cut_connections();
    let ended = finish(started).await;
    expect_code(&ended, 3);
    assert_eq!(ended.outputs["verdict"], "error");
    expect_said(&ended, &["could not be watched for the last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_side_that_loses_its_last_pod_while_it_shares_the_traffic_ends_the_watch_at_once() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-old-side").await;
    let client = sandbox.client(User::Deployer).await;
    deploy(&sandbox, &namespace, ("api", "v1.0.0"), None).await;
    deploy(&sandbox, &namespace, ("api-canary", "v1.1.0"), None).await;
    let mut session = open(&client, &id(&namespace)).await;
    let opening = Opening::new(Kind::Deploy, Chain::Canary);
    session.claim(claim(Intent::Deploy(opening))).await.unwrap();
    let object = |kind, name| ObjectRef::namespaced("apps/v1", kind, namespace.name(), name);
    let side = |side: Side, name| SideState {
        side,
        version: None,
        workloads: vec![WorkloadState {
            workload: object("Deployment", name),
            uid: None,
            revision: None,
            replicas: Some(1),
            hpa_min: None,
        }],
    };
    let target = object("TraefikService", "api");
    let amended = session.amend(|record| {
        record.sides.from = Some(side(Side::Stable, "api"));
        record.sides.to = Some(side(Side::Canary, "api-canary"));
        record.weights.push(WeightsEntry {
            at: Timestamp::now(),
            target,
            weights: [(Side::Stable, 90), (Side::Canary, 10)].into(),
        });
    });
    amended.await.unwrap();
    advance(
        &mut session,
        [
            Phase::Applied,
            Phase::Ready,
            Phase::Tested,
            Phase::Switching(1),
            Phase::Holding(1),
        ],
    )
    .await;
    session.close().await;
    let step = named(watch(&sandbox, &namespace))
        .input("workloads", "deployment/api-canary")
        .input("interval", LONG)
        .input("duration", LONG);
    let (_proxy, started) = through_proxy(&sandbox, step).await;
    namespace
        .kubectl(&["scale", "deployment/api", "--replicas=0"])
        .unwrap();
    let ended = finish(started).await;
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["verdict"], "fail");
    let reason = "old side's pods: deployment/api: none of its pods is ready";
    assert!(ended.outputs["reason"].contains(reason), "{}", ended.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_moves_the_record_to_soaking_and_leaves_a_checklist_that_goes_on_after_the_end() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-record").await;
    let client = sandbox.client(User::Deployer).await;
    deploy(&sandbox, &namespace, ("api", "v1.0.0"), None).await;
    let id = id(&namespace);
    let open = || open(&client, &id);
    let of_deployment = || {
        named(watch(&sandbox, &namespace))
            .input("duration", "3s")
            .input("verify-url", address(&namespace, "api", 80))
            .input("verify-rate", "20")
            .input("checklist", "true")
    };
    let mut session = open().await;
    let mut opening = Opening::new(Kind::Deploy, Chain::Slots);
    opening.version = Some("v1.0.0".to_owned());
    session.claim(claim(Intent::Deploy(opening))).await.unwrap();
    let side = SideState {
        side: Side::GREEN,
        version: Some("v1.0.0".to_owned()),
        workloads: Vec::new(),
    };
    let amended = session.amend(|record| record.sides.to = Some(side));
    amended.await.unwrap();
    session.advance(Phase::Applied).await.unwrap();
    session.close().await;
    let early = run(of_deployment()).await;
    expect_code(&early, 1);
    expect_said(&early, &["cannot enter `soaking`"]);
    assert!(
        !early.log().contains("pods ready"),
        "nothing was watched: {}",
        early.log()
    );
    let mut session = open().await;
    session.claim(claim(Intent::Continue)).await.unwrap();
    advance(
        &mut session,
        [
            Phase::Ready,
            Phase::Tested,
            Phase::Switching(1),
            Phase::Holding(1),
        ],
    )
    .await;
    session.close().await;
    let ended = run(of_deployment()).await;
    expect_code(&ended, 0);
    let health = "- [x] health: seen by ";
    assert!(ended.summary.contains(health), "{}", ended.summary);
    // A later run that looks at no pod goes on from what this one saw of them.
    let later = of_deployment()
        .input("workloads", "")
        .input("checked", "complaints");
    let later = run(later).await;
    expect_code(&later, 0);
    assert!(later.summary.contains(health), "{}", later.summary);
    let mut session = open().await;
    session.claim(claim(Intent::Continue)).await.unwrap();
    let record = session.record().unwrap().clone();
    session.close().await;
    assert_eq!(record.phase, Phase::Soaking);
    let state = |item: &str| {
        let mut entries = record.checklist.iter();
        let entry = entries.find(|entry| entry.item == item).unwrap();
        entry.state.clone()
    };
    assert_eq!(
        (state("health"), state("complaints")),
        ("passed".into(), "confirmed".into())
    );
    let evidence = record.evidence.last().unwrap();
    assert_eq!(evidence.verification, Verification::Verified);
    assert!(evidence.probes >= 40 && evidence.lost == 0, "{evidence:?}");

    // Its last windows come when the deployment has ended: another run goes on with them.
    let mut session = open().await;
    session.claim(claim(Intent::Continue)).await.unwrap();
    advance(&mut session, [Phase::Quieting, Phase::Retired]).await;
    let result = DeploymentResult {
        verdict: Verdict::Succeeded,
        cause: None,
        by: "dana".to_owned(),
    };
    session.finish(result).await.unwrap();
    session.close().await;
    let ended = shift_back(&namespace, &id, "40m");
    let later_run = || {
        let step = watch(&sandbox, &namespace).variable("GITHUB_RUN_ID", "2002");
        named(step)
    };
    let watched = later_run()
        .input("duration", "2s")
        .input("checklist", "true")
        .input(
            "checks",
            "- {target: 'service/api:http/api/health/live', name: memory, item: leaks}",
        );
    let watched = run(watched).await;
    expect_code(&watched, 0);
    expect_said(&watched, &["which has ended, goes on in its record"]);
    for line in [health, "- [x] leaks: seen by memory"] {
        assert!(
            watched.summary.contains(line),
            "{line}: {}",
            watched.summary
        );
    }
    let store = Store::new(client.clone(), namespace.name());
    let record = store.deployment(&id).await.unwrap().unwrap().record;
    let of = |record: &DeploymentRecord, item: &str| {
        let mut entries = record.checklist.iter();
        let entry = entries.find(|entry| entry.item == item).unwrap();
        entry.state.clone()
    };
    assert_eq!(of(&record, "leaks"), "passed");
    assert_eq!(of(&record, "p95"), "passed");
    // Nothing else of it has changed.
    let without = |record: &DeploymentRecord| DeploymentRecord {
        checklist: Vec::new(),
        ..record.clone()
    };
    assert_eq!(without(&record), without(&ended));
    let other = run(later_run()
        .input("duration", "2s")
        .input("checklist", "true")
        .input("expect-version", "v9")
        .input("verify-url", address(&namespace, "api", 80)))
    .await;
    expect_code(&other, 1);
    expect_said(&other, &["version `v9` is watched", "`v1.0.0` live"]);
}

/// Lets all of a record have been so long ago, and gives what it is then.
fn shift_back(namespace: &TestNamespace, id: &DeploymentId, ago: &str) -> DeploymentRecord {
    let name = format!("configmap/{}", id.record_name());
    let text = namespace
        .kubectl(&["get", &name, "-o", r"jsonpath={.data.record\.json}"])
        .unwrap();
    let mut record: DeploymentRecord = serde_json::from_str(&text).unwrap();
    let ago: jiff::SignedDuration = ago.parse().unwrap();
    for entry in &mut record.phases {
        entry.at = entry.at.checked_sub(ago).unwrap();
    }
    let patch = json!({"data": {"record.json": serde_json::to_string(&record).unwrap()}});
    namespace
        .kubectl(&["patch", &name, "--type=merge", "-p", &patch.to_string()])
        .unwrap();
    record
}
