//! `forward` on a real cluster: the user's command reaches the pods, and its exit code decides.

mod support;

use support::{App, run, step};
use switchyard_harness::{Step, expect_code, expect_said};
use switchyard_sandbox::{Sandbox, TestNamespace};

/// One HTTP request with nothing but bash.
const REQUEST: &str = r#"
request() {
  exec 3<>"/dev/tcp/$API_HOST/$API_PORT"
  printf 'GET %s HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n' "$1" >&3
  cat <&3
  exec 3>&-
}
"#;

fn forward(sandbox: &Sandbox, namespace: &TestNamespace, script: &str) -> Step {
    step(sandbox, namespace)
        .input("command", "forward")
        .input("forwards", "service/api:http")
        .input("run", format!("{REQUEST}\n{script}"))
}

async fn app(sandbox: &Sandbox, prefix: &str) -> TestNamespace {
    let namespace = sandbox.namespace(prefix).await;
    App::new(sandbox, "api").replicas(2).apply(&namespace);
    namespace
        .kubectl(&["rollout", "status", "deployment/api", "--timeout=90s"])
        .unwrap();
    namespace
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_reaches_the_pods_through_its_environment() {
    let sandbox = Sandbox::shared();
    let namespace = app(&sandbox, "forward").await;
    let script =
        r#"request /version | grep '"version":"v1.0.0"'; test "$API_URL" = "http://$API_ADDRESS""#;
    let ended = run(forward(&sandbox, &namespace, script)).await;
    expect_code(&ended, 0);
    expect_said(
        &ended,
        &[
            "service/api:http is at http://127.0.0.1:",
            "::stop-commands::",
        ],
    );
    assert_eq!(ended.outputs["healthy"], "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_exit_code_decides() {
    let sandbox = Sandbox::shared();
    let namespace = app(&sandbox, "forward-fails").await;
    let ended = run(forward(&sandbox, &namespace, "exit 7")).await;
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["failed-check"], "run");
    expect_said(&ended, &["exit code 7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_gets_no_kubeconfig_and_no_command_files() {
    let sandbox = Sandbox::shared();
    let namespace = app(&sandbox, "forward-clean").await;
    let script = r#"test -z "$KUBECONFIG" && test -z "$GITHUB_OUTPUT" && test -z "$INPUT_RUN""#;
    let ended = run(forward(&sandbox, &namespace, script)).await;
    expect_code(&ended, 0);
    let script = r#"test -s "$KUBECONFIG""#;
    let ended = run(forward(&sandbox, &namespace, script).input("pass-kubeconfig", "true")).await;
    expect_code(&ended, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_survives_the_pod_it_led_to() {
    let sandbox = Sandbox::shared();
    let namespace = app(&sandbox, "forward-survives").await;
    let pods = namespace.kubectl(&["get", "pods", "-o", "name"]).unwrap();
    let before: Vec<_> = pods.lines().collect();
    let kubectl = sandbox.kubectl();
    // Deletes every pod, one after the other, and asks for the version after each.
    let script = format!(
        r#"
for pod in {}; do
  request /version | grep -q v1.0.0
  {} --namespace {} delete --wait=true "$pod" >/dev/null
  {} --namespace {} rollout status deployment/api --timeout=60s >/dev/null
  request /version | grep -q v1.0.0
done
"#,
        before.join(" "),
        kubectl.display(),
        namespace.name(),
        kubectl.display(),
        namespace.name(),
    );
    let admin = sandbox.kubeconfig(switchyard_sandbox::User::Admin);
    let ended = run(forward(&sandbox, &namespace, &script)
        .input("kubeconfig", admin.display().to_string())
        .input("pass-kubeconfig", "true"))
    .await;
    expect_code(&ended, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_ended() {
    let sandbox = Sandbox::shared();
    let namespace = app(&sandbox, "forward-slow").await;
    let ended = run(forward(&sandbox, &namespace, "sleep 600").input("timeout", "1s")).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["still running after 1s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_ready_pods_is_refused_before_the_command_runs() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("forward-unready").await;
    App::new(&sandbox, "api")
        .image(sandbox.image("api", "never-ready"))
        .apply(&namespace);
    let ended = run(forward(&sandbox, &namespace, "echo ran-anyway")).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["pods is ready"]);
    assert!(!ended.log().contains("ran-anyway"), "{}", ended.log());
}
