//! Watches of pods on a real cluster: a restart, a crash under traffic, memory, a cut API server, and the record.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchyard_harness::{Ended, Started, Step, expect_code, expect_said};
use switchyard_record::{
    Chain, ClaimRequest, DeploymentId, DeploymentIdParts, Freshness, Intent, Kind, Opening, Phase,
    Session, SessionOptions, Verification,
};
use switchyard_sandbox::fault_proxy::FaultProxy;
use switchyard_sandbox::{HttpClient, Sandbox, TestNamespace, User};

/// Far longer than any of these tests may take: a breach has to end the watch before.
const LONG: &str = "10m";

/// Applies the demo application `api` under a name, with a Service, and waits until it answers through it.
async fn deploy(sandbox: &Sandbox, namespace: &TestNamespace, name: &str, limit: Option<&str>) {
    let resources = limit.map_or(json!({}), |memory| json!({"limits": {"memory": memory}}));
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{
                            "name": "app", "image": sandbox.image("api", "v1.0.0"), "resources": resources,
                            "ports": [
                                {"name": "http", "containerPort": 8080},
                                {"name": "control", "containerPort": 8081}
                            ],
                            "readinessProbe": {
                                "httpGet": {"path": "/api/health/ready", "port": "http"},
                                "periodSeconds": 1, "failureThreshold": 1
                            }
                        }]
                    }
                }
            }
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {
                "selector": {"app": name},
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "http"},
                    {"name": "control", "port": 81, "targetPort": "control"}
                ]
            }
        }
    ]});
    let applied = namespace.apply(&objects.to_string());
    applied.unwrap_or_else(|error| panic!("{}", error.chain()));
    let rolled_out = format!("deployment/{name}");
    namespace
        .kubectl(&["rollout", "status", &rolled_out, "--timeout=90s"])
        .unwrap();
    for port in [80, 81] {
        let url = address(namespace, name, port);
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = HttpClient::plain().get(&url).await {
            assert!(Instant::now() < deadline, "{}", error.chain());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The address of the Service inside the sandbox's network.
fn address(namespace: &TestNamespace, name: &str, port: u16) -> String {
    let ip = namespace
        .kubectl(&["get", "service", name, "-o", "jsonpath={.spec.clusterIP}"])
        .unwrap();
    format!("http://{ip}:{port}")
}

async fn control(namespace: &TestNamespace, name: &str, change: Value) {
    let url = format!("{}/control", address(namespace, name, 81));
    let answer = HttpClient::plain().post_json(&url, &change).await.unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
}

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
    deploy(&sandbox, &namespace, "api-canary", None).await;
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
    deploy(&sandbox, &namespace, "api", None).await;
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
async fn a_version_that_crashes_under_traffic_rolls_back() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-crash").await;
    deploy(&sandbox, &namespace, "api", None).await;
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
    deploy(&sandbox, &namespace, "api", Some("40Mi")).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_cut_goes_on_and_still_sees_the_restart() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-cut").await;
    deploy(&sandbox, &namespace, "api", None).await;
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
    deploy(&sandbox, &namespace, "api", None).await;
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
async fn a_watch_moves_the_record_to_soaking_and_leaves_its_evidence_and_its_checklist() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-record").await;
    let client = sandbox.client(User::Deployer).await;
    deploy(&sandbox, &namespace, "api", None).await;
    let id = DeploymentId::new(DeploymentIdParts {
        repository: "example/shop".to_owned(),
        run_id: "1001".to_owned(),
        environment: "staging".to_owned(),
        cluster: "sandbox".to_owned(),
        namespace: namespace.name().to_owned(),
        application: "shop".to_owned(),
    });
    let id = id.unwrap();
    let claim = |intent| ClaimRequest {
        intent,
        attempt: 1,
        inputs: None,
        freshness: Freshness::OncePerRun,
    };
    let open = || Session::open(client.clone(), id.clone(), SessionOptions::new("dana"));
    let mut session = open().await.unwrap();
    let opening = Opening::new(Kind::Deploy, Chain::Slots);
    session.claim(claim(Intent::Deploy(opening))).await.unwrap();
    for phase in [
        Phase::Applied,
        Phase::Ready,
        Phase::Tested,
        Phase::Switching(1),
        Phase::Holding(1),
    ] {
        session.advance(phase).await.unwrap();
    }
    session.close().await;
    let of_deployment = || {
        watch(&sandbox, &namespace)
            .input("application", "shop")
            .input("environment", "staging")
            .input("cluster", "sandbox")
            .input("duration", "3s")
            .input("verify-url", address(&namespace, "api", 80))
            .input("verify-rate", "20")
            .input("checklist", "true")
    };
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
    let mut session = open().await.unwrap();
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
}
