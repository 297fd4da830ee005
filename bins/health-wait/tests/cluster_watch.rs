//! `watch` on a real cluster: it passes on data alone and ends at the first breach.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{App, VERSION_HEADER, apply, finish, run, step, until};
use switchyard_harness::{Step, expect_code, expect_said};
use switchyard_sandbox::fault_proxy::FaultProxy;
use switchyard_sandbox::{HttpClient, Sandbox, TestNamespace, User};

/// Far longer than any of these tests may take: a breach has to end the watch before.
const LONG: &str = "10m";

/// Waits until the application is rolled out and kube-proxy leads to it.
async fn ready(namespace: &TestNamespace) {
    namespace
        .kubectl(&["rollout", "status", "deployment/api", "--timeout=90s"])
        .unwrap();
    let client = HttpClient::plain();
    for port in [80, 81] {
        let url = address(namespace, port);
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = client.get(&url).await {
            assert!(Instant::now() < deadline, "{}", error.chain());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn watch(sandbox: &Sandbox, namespace: &TestNamespace) -> Step {
    step(sandbox, namespace)
        .input("command", "watch")
        .input("workloads", "deployment/api")
        .input("interval", "500ms")
        .input("version-header", VERSION_HEADER)
        .input("verify-rate", "20")
}

/// The address of the Service inside the sandbox's network.
fn address(namespace: &TestNamespace, port: u16) -> String {
    let ip = namespace
        .kubectl(&["get", "service", "api", "-o", "jsonpath={.spec.clusterIP}"])
        .unwrap();
    format!("http://{ip}:{port}")
}

/// Changes the behaviour of the one pod behind the Service.
async fn control(namespace: &TestNamespace, change: serde_json::Value) {
    let url = format!("{}/control", address(namespace, 81));
    let answer = HttpClient::plain().post_json(&url, &change).await.unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_watch_passes_and_counts_by_version() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("watch").await;
    App::new(&sandbox, "api").replicas(2).apply(&namespace);
    ready(&namespace).await;
    let ended = run(watch(&sandbox, &namespace)
        .input("duration", "3s")
        .input("verify-url", address(&namespace, 80))
        .input("expect-version", "v1.0.0")
        .input(
            "checks",
            "- {target: 'service/api:http/api/health/ready', each-pod: true}",
        ))
    .await;
    expect_code(&ended, 0);
    assert_eq!(ended.outputs["healthy"], "true");
    expect_said(
        &ended,
        &[
            "deployment/api 2/2 ready",
            "0 failed (v1.0.0:",
            "at 95% confidence",
        ],
    );
    let report: serde_json::Value = serde_json::from_str(&ended.outputs["report"]).unwrap();
    assert_eq!(report["versions"][0]["version"], "v1.0.0");
    assert!(ended.summary.contains("| v1.0.0 |"), "{}", ended.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_liveness_kills_ends_the_watch() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("liveness").await;
    let liveness = json!({
        "httpGet": {"path": "/api/health/live", "port": "http"},
        "periodSeconds": 1, "failureThreshold": 1
    });
    App::new(&sandbox, "api")
        .with("/spec/template/spec/containers/0/livenessProbe", liveness)
        .with(
            "/spec/template/spec/terminationGracePeriodSeconds",
            json!(1),
        )
        .apply(&namespace);
    ready(&namespace).await;
    let started = watch(&sandbox, &namespace).input("duration", LONG).start();
    control(&namespace, json!({"live": false})).await;
    let ended = finish(started).await;
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["failed-check"], "deployment/api");
    expect_said(&ended, &["Unhealthy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_a_breach_unless_it_is_allowed() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("restart").await;
    App::new(&sandbox, "api").apply(&namespace);
    ready(&namespace).await;
    let started = watch(&sandbox, &namespace).input("duration", LONG).start();
    control(&namespace, json!({"exit_after_requests": 0})).await;
    // The request that kills it gets no answer.
    let _ = HttpClient::plain().get(&address(&namespace, 80)).await;
    let ended = finish(started).await;
    expect_code(&ended, 1);
    let log = ended.log();
    assert!(
        log.contains("restarted once since the wait began")
            || log.contains("0 of 1 pods are ready"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_that_is_lost_ends_the_watch() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("unready").await;
    App::new(&sandbox, "api").apply(&namespace);
    ready(&namespace).await;
    let started = watch(&sandbox, &namespace).input("duration", LONG).start();
    control(&namespace, json!({"ready": false})).await;
    let ended = finish(started).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["0 of 1 pods are ready"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_failed_requests_end_the_watch() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("errors").await;
    App::new(&sandbox, "api")
        .image(sandbox.image("api", "failing"))
        .apply(&namespace);
    ready(&namespace).await;
    let begun = Instant::now();
    let ended = run(watch(&sandbox, &namespace)
        .input("duration", LONG)
        .input("max-error-rate", "5%")
        .input("verify-url", address(&namespace, 80)))
    .await;
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["failed-check"], "max-error-rate");
    expect_said(&ended, &["requests failed", "allowed are 5", "status 500"]);
    assert!(
        begun.elapsed() < Duration::from_secs(300),
        "it ended at the breach"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_version_counts_as_failed() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("version").await;
    App::new(&sandbox, "api").apply(&namespace);
    ready(&namespace).await;
    let ended = run(watch(&sandbox, &namespace)
        .input("duration", LONG)
        .input("expect-version", "v1.1.0")
        .input("verify-url", address(&namespace, 80)))
    .await;
    expect_code(&ended, 1);
    expect_said(&ended, &["version `v1.0.0` answered, expected `v1.1.0`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_data_is_never_a_pass() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("no-data").await;
    App::new(&sandbox, "api").apply(&namespace);
    ready(&namespace).await;
    let ended = run(watch(&sandbox, &namespace)
        .input("duration", "1s")
        .input("min-samples", "1000")
        .input("verify-url", address(&namespace, 80)))
    .await;
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["failed-check"], "min-samples");
    expect_said(&ended, &["no data", "1000 are needed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_without_pods_cannot_pass() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("empty").await;
    let app = App::new(&sandbox, "api").replicas(0);
    apply(&namespace, &[app.deployment()]);
    let ended = run(watch(&sandbox, &namespace).input("duration", "1s")).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["nothing to watch"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_an_autoscaler_adds_or_takes_away_are_no_breach() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("resize").await;
    App::new(&sandbox, "api").replicas(2).apply(&namespace);
    ready(&namespace).await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    let kubeconfig = sandbox.kubeconfig_through(&proxy, User::Deployer).unwrap();
    let started = watch(&sandbox, &namespace)
        .input("kubeconfig", kubeconfig.display().to_string())
        .input("duration", "6s")
        .start();
    until("the watch", || {
        let requests = proxy.requests();
        requests
            .iter()
            .any(|seen| seen.path.contains("pods?") && seen.path.contains("watch=true"))
    })
    .await;
    namespace
        .kubectl(&["scale", "deployment/api", "--replicas=3"])
        .unwrap();
    until("the third pod", || {
        let ready = namespace.kubectl(&[
            "get",
            "deployment/api",
            "-o",
            "jsonpath={.status.readyReplicas}",
        ]);
        ready.unwrap() == "3"
    })
    .await;
    namespace
        .kubectl(&["scale", "deployment/api", "--replicas=1"])
        .unwrap();
    let ended = finish(started).await;
    expect_code(&ended, 0);
}
