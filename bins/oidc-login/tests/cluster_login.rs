//! Logins to the real API server, used by the clients that people have: kubectl, and our own programs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{World, cache_file, kubeconfig};
use switchyard_sandbox::standins::arm::UserKind;
use switchyard_sandbox::{DIRECT_AUDIENCE, Sandbox};

/// What kubectl says in a later step of the job, with the kubeconfig of the login.
fn kubectl(world: &World, config: &Path, arguments: &[&str]) -> Result<String, String> {
    client(&Sandbox::shared().kubectl(), world, config, arguments)
}

/// The same of helm, which keeps its releases where the deployer may write.
fn helm(world: &World, config: &Path, arguments: &[&str]) -> Result<String, String> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/tools");
    let output = Command::new(tools).arg("helm").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let folder = String::from_utf8(output.stdout).unwrap();
    client(
        &Path::new(folder.trim()).join("helm"),
        world,
        config,
        arguments,
    )
}

fn client(
    program: &Path,
    world: &World,
    config: &Path,
    arguments: &[&str],
) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", config)
        .env("GITHUB_ACTIONS", "true")
        .env("INPUT_EVENT", "of the step that runs the client")
        .env("HELM_DRIVER", "configmap")
        .env("HOME", world.own.path())
        .envs(world.variables())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let log = format!("{}{}", text(&output.stdout), text(&output.stderr));
    for token in world.tokens() {
        assert!(!log.contains(&token), "the client shows a token");
    }
    output
        .status
        .success()
        .then(|| text(&output.stdout))
        .ok_or(log)
}

const WHO: [&str; 5] = [
    "auth",
    "whoami",
    "--output",
    "jsonpath={.status.userInfo.username}",
    "--request-timeout=20s",
];

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_is_who_the_login_said_and_rbac_decides() {
    let sandbox = Sandbox::shared();
    let world = World::in_sandbox(&sandbox);
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(ended.stdout.contains(&world.object), "{}", ended.stdout);
    let config = kubeconfig(&ended);
    assert_eq!(kubectl(&world, &config, &WHO).unwrap(), world.object);
    let namespace = sandbox.namespace("login").await;
    let list = ["get", "services", "--namespace", namespace.name()];
    let denied = kubectl(&world, &config, &list).unwrap_err();
    assert!(
        denied.contains("Forbidden") || denied.contains("forbidden"),
        "{denied}"
    );
    namespace.grant_deployer(&world.object).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(log) = kubectl(&world, &config, &list) {
        assert!(Instant::now() < deadline, "{log}");
    }
    world.assert_no_secret_in(&ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_after_every_token_of_the_login_has_ended() {
    let sandbox = Sandbox::shared();
    let world = World::in_sandbox(&sandbox);
    world.github.service().set_life(5);
    world.entra.service().tokens.set_life(5);
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let config = kubeconfig(&ended);
    let first = std::fs::read_to_string(cache_file(&world)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert_eq!(kubectl(&world, &config, &WHO).unwrap(), world.object);
        if std::fs::read_to_string(cache_file(&world)).unwrap() != first {
            break;
        }
        assert!(Instant::now() < deadline, "the token is not replaced");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_trusts_github_takes_the_jobs_own_token() {
    let sandbox = Sandbox::shared();
    let world = World::in_sandbox(&sandbox);
    let ended = world.direct().input("audience", DIRECT_AUDIENCE).run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let name = "github:repo:acme/shop:environment:production";
    assert!(ended.stdout.contains(name), "{}", ended.stdout);
    assert_eq!(kubectl(&world, &kubeconfig(&ended), &WHO).unwrap(), name);
    let ended = world
        .direct()
        .input("audience", "https://other.example.test")
        .run();
    assert_eq!(ended.code, Some(3));
    assert!(ended.stdout.contains("401"), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_refuses_a_token_from_the_future_or_the_past() {
    let sandbox = Sandbox::shared();
    for seconds in [4_000, -4_000] {
        let world = World::in_sandbox(&sandbox);
        world.github.service().clock.skew(seconds);
        let ended = world.direct().input("audience", DIRECT_AUDIENCE).run();
        assert_eq!(ended.code, Some(3), "{}", ended.log());
        for words in ["401", "about 67 min"] {
            assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_installs_as_the_one_whom_the_login_said() {
    let sandbox = Sandbox::shared();
    let world = World::in_sandbox(&sandbox);
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let config = kubeconfig(&ended);
    let (own, other) = (
        sandbox.namespace("helm").await,
        sandbox.namespace("helm").await,
    );
    own.grant_deployer(&world.object).unwrap();
    let chart = world.own.path().join("chart");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(
        chart.join("Chart.yaml"),
        "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
    )
    .unwrap();
    let template =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: greeting}\ndata: {text: hello}\n";
    std::fs::write(chart.join("templates/greeting.yaml"), template).unwrap();
    let chart = chart.display().to_string();
    let install = |namespace: &str| {
        let arguments = ["install", "shop", &chart, "--namespace", namespace];
        helm(&world, &config, &arguments)
    };
    install(own.name()).unwrap();
    let text = own.kubectl(&[
        "get",
        "configmap",
        "greeting",
        "-o",
        "jsonpath={.data.text}",
    ]);
    assert_eq!(text.unwrap(), "hello");
    let refused = install(other.name()).unwrap_err();
    let who = format!("User \"{}\" cannot", world.object);
    assert!(refused.contains(&who), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_works_where_it_was_asked_for() {
    let sandbox = Sandbox::shared();
    let world = World::in_sandbox(&sandbox);
    let (certificate, key) = world.authority.client_identity("masterclient").unwrap();
    let body = key.lines().nth(1).unwrap().to_owned();
    world.add_cluster("local", UserKind::ClientCertificate { certificate, key });
    let ended = world
        .azure()
        .input("cluster", "local")
        .input("admin", "true")
        .run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(ended.stdout.contains("masterclient"), "{}", ended.stdout);
    ended.assert_never_shows(&body);
    assert_eq!(
        kubectl(&world, &kubeconfig(&ended), &WHO).unwrap(),
        "masterclient"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn our_programs_start_our_plugin_only_from_what_the_login_wrote() {
    let sandbox = Sandbox::shared();
    let world = World::in_sandbox(&sandbox);
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let config = kubeconfig(&ended);
    let namespace = sandbox.namespace("login").await;
    namespace.grant_deployer(&world.object).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_oidc-login")).with_file_name("health-wait");
    assert!(
        program.exists(),
        "build `health-wait` first: cargo build -p health-wait"
    );
    let wait = |config: &Path| {
        world
            .step_of(&program)
            .input("command", "rollout")
            .input("kubeconfig", config.display().to_string())
            .input("namespace", namespace.name())
            .input("workloads", "deployment/none")
            .input("timeout", "10s")
            .run()
    };
    let ended = wait(&config);
    // It came as far as asking the cluster, which let it in.
    assert!(
        ended.log().contains("/none` does not exist"),
        "{}",
        ended.log()
    );
    world.assert_no_secret_in(&ended);
    let copied = world.own.path().join("config");
    std::fs::copy(&config, &copied).unwrap();
    let ended = wait(&copied);
    assert_eq!(ended.code, Some(2), "{}", ended.log());
    assert!(
        ended.log().contains("which is not allowed"),
        "{}",
        ended.log()
    );
}
