//! What the way to the cluster can do to a step: kubeconfigs that do not work, an API server that
//! goes away, sheds load or says no, and signals.

mod support;

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{App, finish, listen, make_ready, pods_run, run, step, until};
use switchyard_harness::{Ended, Step, expect_code, expect_said};
use switchyard_sandbox::fault_proxy::{Fault, FaultProxy, FaultRule};
use switchyard_sandbox::{BrokenKubeconfig, Sandbox, TestNamespace, User};

/// A step whose application takes a few seconds to become ready.
fn slow_app(sandbox: &Sandbox, namespace: &TestNamespace) {
    App::new(sandbox, "api")
        .variable("START_DELAY_MS", "6000")
        .apply(namespace);
}

/// An application that is not ready before somebody makes it so.
fn waiting_app(sandbox: &Sandbox, namespace: &TestNamespace) {
    App::new(sandbox, "api")
        .image(sandbox.image("api", "never-ready"))
        .apply(namespace);
}

fn through(sandbox: &Sandbox, proxy: &FaultProxy, namespace: &TestNamespace) -> Step {
    let kubeconfig = sandbox.kubeconfig_through(proxy, User::Deployer).unwrap();
    step(sandbox, namespace)
        .input("kubeconfig", kubeconfig.display().to_string())
        .input("workloads", "deployment/api")
}

fn is_watching(proxy: &FaultProxy) -> bool {
    let requests = proxy.requests();
    requests
        .iter()
        .any(|seen| seen.path.contains("pods?") && seen.path.contains("watch=true"))
}

async fn with_kubeconfig(path: &Path) -> Ended {
    run(Step::new(env!("CARGO_BIN_EXE_health-wait"))
        .input("kubeconfig", path.display().to_string())
        .input("namespace", "default")
        .input("workloads", "deployment/api"))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kubeconfig_that_does_not_work_has_its_own_reason_and_hint() {
    let sandbox = Sandbox::shared();
    for (broken, code, parts) in [
        (BrokenKubeconfig::UnknownToken, 3, ["(401)", "log in again"]),
        (
            BrokenKubeconfig::ExpiredCertificate,
            3,
            ["(401)", "log in again"],
        ),
        (
            BrokenKubeconfig::WrongAuthority,
            3,
            ["certificate is not trusted", "certificate-authority-data"],
        ),
        (
            BrokenKubeconfig::UnknownContext,
            2,
            ["no context `gone`", "it has: deployer"],
        ),
        (
            BrokenKubeconfig::NobodyListens,
            3,
            ["connection to the API server failed", "can be reached"],
        ),
    ] {
        let kubeconfig = sandbox.broken_kubeconfig(broken).unwrap();
        let step = Step::new(env!("CARGO_BIN_EXE_health-wait"))
            .input("kubeconfig", kubeconfig.display().to_string())
            .input("namespace", "default")
            .input("timeout", "5s")
            .input("workloads", "deployment/api");
        let ended = run(step).await;
        assert_eq!(ended.code, Some(code), "{broken:?}: {}", ended.log());
        expect_said(&ended, &parts);
        expect_said(&ended, &["hint: "]);
    }
    let ended = with_kubeconfig(Path::new("/nowhere/kubeconfig")).await;
    expect_code(&ended, 2);
    expect_said(&ended, &["`/nowhere/kubeconfig` does not exist"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_not_there_is_named() {
    let sandbox = Sandbox::shared();
    let ended = run(Step::new(env!("CARGO_BIN_EXE_health-wait"))
        .input(
            "kubeconfig",
            sandbox.kubeconfig(User::Admin).display().to_string(),
        )
        .input("namespace", "no-such-namespace")
        .input("workloads", "deployment/api"))
    .await;
    expect_code(&ended, 2);
    expect_said(
        &ended,
        &[
            "namespace `no-such-namespace` does not exist",
            "kubectl create namespace",
        ],
    );
    let ended = run(Step::new(env!("CARGO_BIN_EXE_health-wait"))
        .input(
            "kubeconfig",
            sandbox.kubeconfig(User::Deployer).display().to_string(),
        )
        .input("namespace", "no-such-namespace")
        .input("workloads", "deployment/api"))
    .await;
    expect_code(&ended, 3);
    expect_said(
        &ended,
        &[
            "not allowed",
            "check that namespace `no-such-namespace` exists",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_missing_permissions_are_told_at_once_with_the_rules_that_grant_them() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("access").await;
    App::new(&sandbox, "api").apply(&namespace);
    let ended = run(step(&sandbox, &namespace)
        .input(
            "kubeconfig",
            sandbox.kubeconfig(User::Reader).display().to_string(),
        )
        .input("workloads", "deployment/api")
        .input("checks", "- service/api:http/"))
    .await;
    expect_code(&ended, 3);
    expect_said(
        &ended,
        &[
            "create pods/portforward in namespace",
            "resources: [\"pods/portforward\"]",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_goes_away_in_mid_wait_is_waited_for() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("outage").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    waiting_app(&sandbox, &namespace);
    let mut started = through(&sandbox, &proxy, &namespace).start();
    let said = listen(&mut started);
    until("the watch", || is_watching(&proxy)).await;
    pods_run(&namespace, 1).await;
    proxy.go_offline();
    until("word of the outage", || {
        said.lock().unwrap().contains("the watch is interrupted")
    })
    .await;
    make_ready(&namespace).await;
    namespace
        .kubectl(&["rollout", "status", "deployment/api", "--timeout=60s"])
        .unwrap();
    proxy.go_online();
    let ended = finish(started).await;
    let said = said.lock().unwrap();
    assert_eq!(ended.code, Some(0), "{said}");
    assert!(said.contains("deployment/api: done"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_do_not_hide_what_happens_meanwhile() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("cut").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    waiting_app(&sandbox, &namespace);
    let started = through(&sandbox, &proxy, &namespace).start();
    for _ in 0..5 {
        proxy.forget_requests();
        until("a watch", || {
            proxy.cut_connections();
            proxy
                .requests()
                .iter()
                .any(|seen| seen.path.contains("watch=true"))
        })
        .await;
    }
    pods_run(&namespace, 1).await;
    make_ready(&namespace).await;
    let ended = finish(started).await;
    expect_code(&ended, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_stays_away_is_not_reported_as_an_unhealthy_application() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("stays-away").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    slow_app(&sandbox, &namespace);
    let started = through(&sandbox, &proxy, &namespace)
        .input("timeout", "8s")
        .start();
    until("the watch", || is_watching(&proxy)).await;
    proxy.go_offline();
    let ended = finish(started).await;
    expect_code(&ended, 3);
    expect_said(&ended, &["the API server could not be watched"]);
    assert_eq!(ended.outputs["healthy"], "false");
}

#[tokio::test(flavor = "multi_thread")]
async fn shed_load_is_waited_out_as_long_as_the_server_asks() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("shed").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    App::new(&sandbox, "api").apply(&namespace);
    for path in ["selfsubjectaccessreviews", "/deployments", "/pods"] {
        let fault = Fault::TooManyRequests {
            retry_after: Some(1),
        };
        proxy.inject(FaultRule::every(fault).path(path).times(2));
    }
    let ended = run(through(&sandbox, &proxy, &namespace)).await;
    expect_code(&ended, 0);
    let shed = proxy.requests();
    let shed = shed.iter().filter(|seen| seen.fault.is_some()).count();
    assert_eq!(shed, 6, "every fault was met");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_that_is_shed_for_ever_ends_with_its_own_reason() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("shed-for-ever").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    App::new(&sandbox, "api").apply(&namespace);
    proxy.inject(FaultRule::every(Fault::TooManyRequests {
        retry_after: Some(1),
    }));
    let ended = run(through(&sandbox, &proxy, &namespace).input("timeout", "4s")).await;
    expect_code(&ended, 3);
    expect_said(&ended, &["sheds load (429)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_comes_does_not_hang_the_step() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("hang").await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    App::new(&sandbox, "api").apply(&namespace);
    proxy.inject(FaultRule::every(Fault::Hang).path("/deployments"));
    let ended = run(through(&sandbox, &proxy, &namespace).input("timeout", "4s")).await;
    expect_code(&ended, 3);
    expect_said(&ended, &["no answer within 4s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_step_in_order() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("signal").await;
    App::new(&sandbox, "api")
        .image(sandbox.image("api", "never-ready"))
        .apply(&namespace);
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let proxy = FaultProxy::start(&sandbox).await.unwrap();
        let started = through(&sandbox, &proxy, &namespace).start();
        until("the watch", || is_watching(&proxy)).await;
        let pid = Pid::from_raw(i32::try_from(started.id()).unwrap());
        kill(pid, signal).unwrap();
        let ended = finish(started).await;
        expect_code(&ended, code);
        expect_said(&ended, &[signal.as_str()]);
        assert_eq!(ended.outputs["healthy"], "false");
        assert!(ended.summary.contains("not healthy"), "{}", ended.summary);
    }
}
