//! `run` as a step of a deployment: what it does is in the record, which outlives the runner.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::time::{Duration, Instant};

use kube::Client;
use switchyard_harness::{Ended, Started, Step, expect_code, expect_said};
use switchyard_record::{
    Chain, ClaimRequest, DeploymentId, DeploymentIdParts, DeploymentRecord, Freshness, Intent,
    Kind, MigrationEvent, Opening, Phase, PreemptOrder, Session, SessionOptions, Store,
    open_migrations, request_preempt,
};
use switchyard_sandbox::fault_proxy::FaultProxy;
use switchyard_sandbox::{Sandbox, TestNamespace, User};
use switchyard_test_postgres::{Database, PASSWORD, Prisma, Server};

const BEFORE: &str = "20251231000000_before";
const FIRST: &str = "20260101000000_first";
const SECOND: &str = "20260102000000_second";
const PRISMA: &str = "node node_modules/prisma/build/index.js";
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'switchyard migrate-gate run'";

/// The deployment of a run; the harness pretends to be run 1001.
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

/// Begins the run's deployment and goes through phases, as the steps before would have.
async fn begin(client: &Client, namespace: &TestNamespace, phases: &[Phase]) {
    let options = SessionOptions::new("dana");
    let session = Session::open(client.clone(), id(namespace, "1001"), options).await;
    let mut session = session.unwrap();
    let request = ClaimRequest {
        intent: Intent::Deploy(Opening::new(Kind::Deploy, Chain::Slots)),
        attempt: 1,
        inputs: None,
        freshness: Freshness::OncePerRun,
    };
    session.claim(request).await.unwrap();
    for phase in phases {
        session.advance(*phase).await.unwrap();
    }
    session.close().await;
}

async fn record(client: &Client, namespace: &TestNamespace) -> DeploymentRecord {
    let store = Store::new(client.clone(), namespace.name());
    let stored = store.deployment(&id(namespace, "1001")).await.unwrap();
    stored.expect("the deployment has a record").record.clone()
}

/// A run with real Prisma.
fn plain_run(project: &Prisma, database: &Database) -> Step {
    let folder = project.folder().display().to_string();
    let mut step = Step::new(env!("CARGO_BIN_EXE_migrate-gate"))
        .input("command", "run")
        .input("path", &folder)
        .input("directory", &folder)
        .input("prisma", PRISMA)
        .input("database-url", database.url())
        .input("lock-timeout", "60s");
    let variables = Prisma::variables();
    let names: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
    for (name, value) in variables {
        step = step.variable(name, value);
    }
    step.input("variables", names.join("\n"))
}

/// A run with real Prisma, on the deployment.
fn run(
    kubeconfig: &Path,
    namespace: &TestNamespace,
    project: &Prisma,
    database: &Database,
) -> Step {
    plain_run(project, database)
        .input("application", "shop")
        .input("environment", "staging")
        .input("cluster", "sandbox")
        .input("namespace", namespace.name())
        .input("kubeconfig", kubeconfig.display().to_string())
}

/// A project that is live, with two migrations to come, the first of which somebody can make wait.
async fn two_pending(database: &Database) -> Prisma {
    let project = Prisma::new();
    project.migration(BEFORE, "CREATE TABLE item (id int);\n");
    let ended = finish(plain_run(&project, database).start()).await;
    expect_code(&ended, 0);
    project.migration(FIRST, "ALTER TABLE item ADD COLUMN price int;\n");
    project.migration(SECOND, "ALTER TABLE item ADD COLUMN weight int;\n");
    project
}

async fn finish(started: Started) -> Ended {
    let ended = tokio::task::spawn_blocking(|| started.finish());
    let ended = ended.await.unwrap();
    ended.assert_never_shows(PASSWORD);
    ended
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn applied(database: &Database) -> String {
    database.read(
        "SELECT coalesce(string_agg(migration_name, ' ' ORDER BY migration_name), '') FROM _prisma_migrations WHERE finished_at IS NOT NULL",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_runner_is_gone_is_gone_on_with_from_the_record() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("migrate").await;
    let client = sandbox.client(User::Deployer).await;
    let kubeconfig = sandbox.kubeconfig(User::Deployer);
    let database = Server::shared().database();
    let (name, role) = (database.name(), "CURRENT_USER");
    database.run(&format!(
        "ALTER ROLE {role} IN DATABASE {name} SET lock_timeout = '7s';"
    ));
    let project = two_pending(&database).await;
    begin(&client, &namespace, &[Phase::BackedUp]).await;
    // Each runner has a disk of its own, and with it a journal.
    let runners = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let on = |runner: usize| {
        run(&kubeconfig, &namespace, &project, &database)
            .input("limits", "role")
            .input(
                "journal",
                runners[runner].path().join("journal").display().to_string(),
            )
    };
    let mut holder = database.session();
    let _ = holder.run("BEGIN; LOCK TABLE item IN ACCESS SHARE MODE;");
    let mut killed = on(0).start();
    until("the first migration waits", async || {
        database.read(WAITING) == "1"
    })
    .await;
    killed.child().kill().unwrap();
    let _ = finish(killed).await;
    let left = record(&client, &namespace).await;
    let open = left
        .migrations
        .iter()
        .map(|entry| entry.database.as_str())
        .next();
    let open = open_migrations(&left.migrations, open.expect("the record knows it"));
    assert!(
        matches!(open.last(), Some(MigrationEvent::Attempt { pending, .. }) if *pending == [FIRST]),
        "{open:?}"
    );
    drop(holder);

    let ended = finish(on(1).start()).await;
    expect_code(&ended, 0);
    expect_said(
        &ended,
        &[
            "time limits of role",
            "an earlier run was killed or stopped",
            FIRST,
        ],
    );
    assert_eq!(applied(&database), format!("{BEFORE} {FIRST} {SECOND}"));
    assert_eq!(
        database.read("SELECT setconfig FROM pg_db_role_setting WHERE setrole <> 0 AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"),
        "{lock_timeout=7s}"
    );
    let record = record(&client, &namespace).await;
    assert_eq!(record.phase, Phase::Migrated);
    let last = record.migrations.last().map(|entry| &entry.event);
    assert_eq!(last, Some(&MigrationEvent::Done));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_rollback_stops_the_run_before_its_next_migration() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("migrate-stop").await;
    let client = sandbox.client(User::Deployer).await;
    let database = Server::shared().database();
    let project = two_pending(&database).await;
    begin(&client, &namespace, &[Phase::BackedUp]).await;
    let proxy = FaultProxy::start(&sandbox).await.unwrap();
    let kubeconfig = sandbox.kubeconfig_through(&proxy, User::Deployer).unwrap();
    let mut holder = database.session();
    let _ = holder.run("BEGIN; LOCK TABLE item IN ACCESS SHARE MODE;");
    let started = run(&kubeconfig, &namespace, &project, &database).start();
    until("the first migration waits", async || {
        database.read(WAITING) == "1"
    })
    .await;
    let store = Store::new(client.clone(), namespace.name());
    let order = PreemptOrder {
        by: "sam".to_owned(),
        run_url: None,
        reason: "customers complain".to_owned(),
    };
    let options = SessionOptions::new("sam");
    request_preempt(&store, &id(&namespace, "2002"), &options, order)
        .await
        .unwrap();
    let looks = || {
        let requests = proxy.requests();
        let looks = requests.iter().filter(|seen| {
            seen.method == "GET" && seen.path.ends_with("/configmaps/switchyard.shop")
        });
        looks.count()
    };
    // A look that was under way may have missed the order; the one after it cannot.
    let before = looks();
    until("the run has looked for orders", async || {
        looks() >= before + 2
    })
    .await;
    drop(holder);
    let ended = finish(started).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["rolled back by "]);
    assert_eq!(applied(&database), format!("{BEFORE} {FIRST}"));
    assert_eq!(record(&client, &namespace).await.phase, Phase::BackedUp);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_taken_back_migrates_nothing() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("migrate-back").await;
    let client = sandbox.client(User::Deployer).await;
    let database = Server::shared().database();
    let project = two_pending(&database).await;
    begin(&client, &namespace, &[Phase::Abandoning]).await;
    let kubeconfig = sandbox.kubeconfig(User::Deployer);
    let step = run(&kubeconfig, &namespace, &project, &database);
    let ended = finish(step.start()).await;
    expect_code(&ended, 1);
    expect_said(&ended, &["migrated"]);
    assert_eq!(applied(&database), BEFORE);
}
