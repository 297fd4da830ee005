//! `rollout` on a real cluster: what it takes to be done, and every way not to get there.

mod support;

use serde_json::json;
use support::{App, VERSION_HEADER, apply, run, step};
use switchyard_harness::{expect_code, expect_said};
use switchyard_sandbox::{Sandbox, User};

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_with_its_checks_is_healthy() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rollout").await;
    App::new(&sandbox, "api").replicas(2).apply(&namespace);
    let checks = "
- {name: live, target: 'service/api:http/api/health/live', json: {status: ok}, successes: 2, interval: 200ms}
- {name: ready, target: 'deployment/api:8080/api/health/ready', each-pod: true, json: {version: v1.0.0}}
- {name: front, target: 'service/api:80/', body: v1.0.0, max-time: 2s}
";
    let ended = run(step(&sandbox, &namespace)
        .input("workloads", "deployment/api")
        .input("start-delay", "1s")
        .input("checks", checks)
        .input("version-header", VERSION_HEADER)
        .input("expect-version", "v1.0.0")
        .input("warm-up", "5"))
    .await;
    expect_code(&ended, 0);
    expect_said(
        &ended,
        &[
            "deployment/api: done",
            "check `ready` passed",
            "5 of 5 requests",
        ],
    );
    assert_eq!(ended.outputs["healthy"], "true");
    assert_eq!(ended.outputs["restarts"], "0");
    assert_eq!(ended.outputs["failed-check"], "");
    let report: serde_json::Value = serde_json::from_str(&ended.outputs["report"]).unwrap();
    assert_eq!(
        report["checks"][1]["pods"].as_array().unwrap().len(),
        2,
        "{report}"
    );
    assert_eq!(report["workloads"][0]["ready"], 2);
    assert!(
        ended.summary.contains("health-wait rollout: ✅ healthy"),
        "{}",
        ended.summary
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_fails_fast_and_shows_the_events() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("no-image").await;
    App::new(&sandbox, "api")
        .image(sandbox.image("api", "v0.0.0-missing"))
        .apply(&namespace);
    let ended = run(step(&sandbox, &namespace).input("workloads", "deployment/api")).await;
    expect_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "cannot be pulled",
            "v0.0.0-missing",
            "last events",
            "Failed",
        ],
    );
    assert_eq!(ended.outputs["healthy"], "false");
    assert_eq!(ended.outputs["failed-check"], "deployment/api");
    assert!(
        ended.summary.contains("❌ not healthy"),
        "{}",
        ended.summary
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_start_fails_fast_and_shows_the_log() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("crash").await;
    App::new(&sandbox, "api")
        .image(sandbox.image("api", "crashing"))
        .apply(&namespace);
    let ended = run(step(&sandbox, &namespace).input("workloads", "deployment/api")).await;
    expect_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "container `app`",
            "code 1",
            "log of the previous run",
            "::stop-commands::",
        ],
    );
    assert_ne!(ended.outputs["restarts"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_not_shown_when_it_is_not_wanted() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("crash-quiet").await;
    App::new(&sandbox, "api")
        .image(sandbox.image("api", "crashing"))
        .apply(&namespace);
    let ended = run(step(&sandbox, &namespace)
        .input("workloads", "deployment/api")
        .input("log-lines", "0"))
    .await;
    expect_code(&ended, 1);
    assert!(
        !ended.log().contains("log of the previous run"),
        "{}",
        ended.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_that_never_passes_ends_at_the_time_limit_and_says_what_waits() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("never-ready").await;
    App::new(&sandbox, "api")
        .image(sandbox.image("api", "never-ready"))
        .apply(&namespace);
    let ended = run(step(&sandbox, &namespace)
        .input("workloads", "deployment/api")
        .input("timeout", "8s"))
    .await;
    expect_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "not done within 8s",
            "0 of 1 replicas ready",
            "app is not ready",
            "Unhealthy",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_is_named() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("quota").await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "0"}}
    });
    apply(&namespace, &[quota]);
    App::new(&sandbox, "api").apply(&namespace);
    let ended = run(step(&sandbox, &namespace).input("workloads", "deployment/api")).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["cannot be created", "exceeded quota: small"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_no_node_can_take_is_named() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("unschedulable").await;
    App::new(&sandbox, "api")
        .with(
            "/spec/template/spec/nodeSelector",
            json!({"disk": "none-has-this"}),
        )
        .apply(&namespace);
    let ended = run(step(&sandbox, &namespace).input("workloads", "deployment/api")).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["cannot be scheduled", "nodes are available"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_not_done_while_an_old_pod_still_drains() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("draining").await;
    let app = App::new(&sandbox, "api").variable("DRAIN_MS", "4000");
    app.apply(&namespace);
    let ended = run(step(&sandbox, &namespace).input("workloads", "deployment/api")).await;
    expect_code(&ended, 0);
    app.image(sandbox.image("api", "v1.1.0")).apply(&namespace);
    let ended = run(step(&sandbox, &namespace).input("workloads", "deployment/api")).await;
    expect_code(&ended, 0);
    expect_said(&ended, &["1 old pods are still terminating"]);
    let pods = namespace.kubectl(&["get", "pods", "-o", "name"]).unwrap();
    assert_eq!(pods.lines().count(), 1, "{pods}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_workloads_are_waited_for_at_once() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("kinds").await;
    let app = App::new(&sandbox, "api");
    let template = app.deployment()["spec"]["template"].clone();
    let labelled = |name: &str| {
        let mut template = template.clone();
        template["metadata"]["labels"]["app"] = json!(name);
        template
    };
    let stateful = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                 "template": labelled("db")}
    });
    let daemon = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": labelled("agent")}
    });
    let mut once = labelled("migrate");
    once["spec"]["restartPolicy"] = json!("Never");
    once["spec"]["containers"][0]["image"] = json!(sandbox.image("api", "crashing"));
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"},
        "spec": {"backoffLimit": 0, "template": once}
    });
    apply(&namespace, &[app.deployment(), stateful, daemon]);
    let ended =
        run(step(&sandbox, &namespace).input("workloads", "deployment/api, sts/db\nds/agent"))
            .await;
    expect_code(&ended, 0);
    expect_said(&ended, &["3 workloads rolled out"]);
    apply(&namespace, &[job]);
    let ended = run(step(&sandbox, &namespace).input("workloads", "job/migrate")).await;
    assert_eq!(
        ended.code,
        Some(1),
        "the job's command fails: {}",
        ended.log()
    );
    expect_said(&ended, &["job/migrate", "BackoffLimitExceeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_waits_for_all_it_matches_and_never_passes_on_nothing() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("selector").await;
    for name in ["one", "two"] {
        let app = App::new(&sandbox, name).with("/metadata/labels", json!({"part-of": "shop"}));
        apply(&namespace, &[app.deployment()]);
    }
    let ended = run(step(&sandbox, &namespace).input("selector", "part-of=shop")).await;
    expect_code(&ended, 0);
    expect_said(&ended, &["2 workloads rolled out"]);
    let ended = run(step(&sandbox, &namespace).input("selector", "part-of=bakery")).await;
    assert_ne!(ended.code, Some(0));
    expect_said(
        &ended,
        &["no Deployment, StatefulSet or DaemonSet matches selector `part-of=bakery`"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_fails_is_named_and_ends_the_step() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("check").await;
    App::new(&sandbox, "api").apply(&namespace);
    let checks = "
- {name: version, target: 'service/api:http/version', json: {version: v9.9.9}, attempts: 2, interval: 100ms}
- {name: never-reached, target: 'service/api:http/'}
";
    let ended = run(step(&sandbox, &namespace)
        .input("workloads", "deployment/api")
        .input("start-delay", "0")
        .input("checks", checks))
    .await;
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["failed-check"], "version");
    expect_said(&ended, &["`version` is \"v1.0.0\", expected \"v9.9.9\""]);
    assert!(!ended.log().contains("never-reached"), "{}", ended.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_workload_that_is_not_there_is_refused() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("missing").await;
    let ended = run(step(&sandbox, &namespace).input("workloads", "deployment/gone")).await;
    expect_code(&ended, 2);
    expect_said(&ended, &["/gone` does not exist"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_deployments_at_zero_are_waited_for_with_one_watch() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("many").await;
    let proxy = switchyard_sandbox::fault_proxy::FaultProxy::start(&sandbox)
        .await
        .unwrap();
    let kubeconfig = sandbox.kubeconfig_through(&proxy, User::Deployer).unwrap();
    let names: Vec<_> = (0..40).map(|index| format!("app-{index}")).collect();
    let objects: Vec<_> = names
        .iter()
        .map(|name| App::new(&sandbox, name).replicas(0).deployment())
        .collect();
    apply(&namespace, &objects);
    let workloads: Vec<_> = names
        .iter()
        .map(|name| format!("deployment/{name}"))
        .collect();
    let ended = run(step(&sandbox, &namespace)
        .input("kubeconfig", kubeconfig.display().to_string())
        .input("workloads", workloads.join("\n")))
    .await;
    expect_code(&ended, 0);
    expect_said(&ended, &["40 workloads rolled out"]);
    let requests = proxy.requests();
    let watches = requests
        .iter()
        .filter(|seen| seen.path.contains("watch=true"));
    let watches: Vec<_> = watches.map(|seen| seen.path.as_str()).collect();
    assert!(watches.len() <= 1, "{watches:?}");
    let pods = requests.iter().filter(|seen| seen.path.contains("/pods"));
    assert_eq!(pods.count(), 0, "no pod needs to be read");
}
