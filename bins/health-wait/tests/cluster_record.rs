//! Steps of a deployment move its record on, and stop when a rollback is ordered.

mod support;

use kube::Client;
use support::{App, finish, run, step, until};
use switchyard_harness::{Step, expect_code, expect_said};
use switchyard_record::{
    Chain, ClaimRequest, DeploymentId, DeploymentIdParts, DeploymentRecord, Freshness, Intent,
    Kind, Opening, Phase, PreemptAnswer, PreemptOrder, Session, SessionOptions, request_preempt,
};
use switchyard_sandbox::fault_proxy::FaultProxy;
use switchyard_sandbox::{Sandbox, TestNamespace, User};

/// The run that the harness pretends to be.
fn id(namespace: &TestNamespace, run: &str) -> DeploymentId {
    DeploymentId::new(DeploymentIdParts {
        repository: "example/shop".to_owned(),
        run_id: run.to_owned(),
        environment: "staging".to_owned(),
        cluster: "sandbox".to_owned(),
        namespace: namespace.name().to_owned(),
        application: "shop".to_owned(),
    })
    .unwrap()
}

/// A session of the run, as `rollout apply` opens it.
async fn session(client: &Client, namespace: &TestNamespace, run: &str) -> Session {
    let options = SessionOptions::new("dana");
    Session::open(client.clone(), id(namespace, run), options)
        .await
        .unwrap()
}

fn claim(intent: Intent) -> ClaimRequest {
    ClaimRequest {
        intent,
        attempt: 1,
        inputs: None,
        freshness: Freshness::OncePerRun,
    }
}

/// Begins a deployment and goes through phases, as the steps before would have.
async fn begin(client: &Client, namespace: &TestNamespace, run: &str, phases: &[Phase]) {
    let mut session = session(client, namespace, run).await;
    let opening = Opening::new(Kind::Deploy, Chain::Slots);
    session.claim(claim(Intent::Deploy(opening))).await.unwrap();
    go_through(session, phases).await;
}

async fn go_through(mut session: Session, phases: &[Phase]) {
    for phase in phases {
        session.advance(*phase).await.unwrap();
    }
    session.close().await;
}

async fn record(client: &Client, namespace: &TestNamespace) -> DeploymentRecord {
    let mut session = session(client, namespace, "1001").await;
    session.claim(claim(Intent::Continue)).await.unwrap();
    let record = session.record().unwrap().clone();
    session.close().await;
    record
}

fn of_deployment(sandbox: &Sandbox, namespace: &TestNamespace) -> Step {
    step(sandbox, namespace)
        .input("application", "shop")
        .input("environment", "staging")
        .input("cluster", "sandbox")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_that_passes_moves_the_record_on() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("record").await;
    let client = sandbox.client(User::Deployer).await;
    App::new(&sandbox, "api").apply(&namespace);
    begin(&client, &namespace, "1001", &[Phase::Applied]).await;

    let rollout = of_deployment(&sandbox, &namespace).input("workloads", "deployment/api");
    expect_code(&run(rollout).await, 0);
    assert_eq!(record(&client, &namespace).await.phase, Phase::Ready);

    let forward = |script: &str| {
        of_deployment(&sandbox, &namespace)
            .input("command", "forward")
            .input("forwards", "service/api:http")
            .input("run", script)
    };
    expect_code(&run(forward("exit 1")).await, 1);
    assert_eq!(record(&client, &namespace).await.phase, Phase::Ready);
    expect_code(&run(forward("true")).await, 0);
    assert_eq!(record(&client, &namespace).await.phase, Phase::Tested);
    let again = run(forward("echo ran-twice; exit 1")).await;
    expect_code(&again, 0);
    expect_said(&again, &["an earlier attempt of this run has tested"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_runs_deployment_is_in_the_way_and_none_at_all_is_not() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("other-run").await;
    let client = sandbox.client(User::Deployer).await;
    App::new(&sandbox, "api").apply(&namespace);
    let rollout = || of_deployment(&sandbox, &namespace).input("workloads", "deployment/api");
    let ended = run(rollout()).await;
    expect_code(&ended, 0);
    expect_said(&ended, &["nothing is recorded"]);
    begin(&client, &namespace, "2002", &[Phase::Applied]).await;
    let ended = run(rollout()).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["has not begun a deployment"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_rollback_ends_the_wait_at_once_and_frees_the_application() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("preempt").await;
    let client = sandbox.client(User::Deployer).await;
    App::new(&sandbox, "api")
        .image(sandbox.image("api", "never-ready"))
        .apply(&namespace);
    begin(&client, &namespace, "1001", &[Phase::Applied]).await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    let kubeconfig = sandbox.kubeconfig_through(&proxy, User::Deployer).unwrap();
    let started = of_deployment(&sandbox, &namespace)
        .input("kubeconfig", kubeconfig.display().to_string())
        .input("workloads", "deployment/api")
        .start();
    until("the watch", || {
        let requests = proxy.requests();
        requests
            .iter()
            .any(|seen| seen.path.contains("pods?") && seen.path.contains("watch=true"))
    })
    .await;
    let store = switchyard_record::Store::new(client.clone(), namespace.name());
    let order = PreemptOrder {
        by: "sam".to_owned(),
        run_url: None,
        reason: "customers complain".to_owned(),
    };
    let options = SessionOptions::new("sam");
    let answer = request_preempt(&store, &id(&namespace, "2002"), &options, order)
        .await
        .unwrap();
    assert_eq!(answer, PreemptAnswer::Ordered);
    let ended = finish(started).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["rolled back by sam: customers complain"]);
    // The lease is free: another session opens without waiting for it to run out.
    let mut options = SessionOptions::new("sam");
    options.wait = std::time::Duration::from_secs(1);
    let opened = Session::open(client, id(&namespace, "2002"), options).await;
    opened.unwrap().close().await;
}
