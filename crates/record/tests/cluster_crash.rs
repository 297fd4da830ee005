//! Processes that die at every point of a journalled switch, and those that come after them.

mod support;

use std::process::Command;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use support::{Application, deploy, options, short};
use switchyard_record::{
    Advance, Chain, DeploymentId, DeploymentRecord, DeploymentResult, Intent, LiveTarget,
    ObjectRef, Outcome, Phase, PlannedMutation, Projection, RecordError, Resume, Session,
    SessionOptions, Side, SideState, Verdict, WayBack, resume,
};
use switchyard_sandbox::{Sandbox, User};

/// Tells the test below that it is the process that dies: namespace and fault point.
const CHILD: &str = "SWITCHYARD_TEST_CHILD";
/// The name of that test.
const STEPS: &str = "the_steps_end_in_success_when_nothing_dies";

/// One process of run 1001: switches Service `web` from blue to green, or goes on with that.
async fn steps(
    client: kube::Client,
    id: DeploymentId,
    options: SessionOptions,
) -> Result<(), RecordError> {
    let namespace = id.namespace().to_owned();
    let mut session = Session::open(client.clone(), id, options).await?;
    session.claim(deploy()).await?;
    session
        .amend(|record| record.sides.to = Some(SideState::new(Side::GREEN)))
        .await?;
    session.advance(Phase::Switching(1)).await?;
    move_to(&mut session, &client, &namespace, "green").await?;
    session.advance(Phase::Soaking).await?;
    let result = DeploymentResult {
        verdict: Verdict::Succeeded,
        cause: None,
        by: "test".to_owned(),
    };
    session.finish(result).await?;
    session.close().await;
    Ok(())
}

/// What `rescue` does: takes the deployment back from its record alone.
async fn rescue(
    client: kube::Client,
    id: DeploymentId,
    options: SessionOptions,
) -> Option<Verdict> {
    let namespace = id.namespace().to_owned();
    let mut session = Session::open(client.clone(), id, options).await.unwrap();
    let request = switchyard_record::ClaimRequest {
        intent: Intent::Rescue,
        ..deploy()
    };
    if let switchyard_record::Claimed::NothingToDo { verdict } =
        session.claim(request).await.unwrap()
    {
        session.close().await;
        return verdict;
    }
    let (phase, verdict) = match session.record().unwrap().way_back() {
        WayBack::Abandon => (Phase::Abandoning, Verdict::Abandoned),
        WayBack::Revert => (Phase::Reverting, Verdict::RolledBack),
        WayBack::Ended(_) | WayBack::NeedsPerson => panic!("there is no way back"),
    };
    session
        .advance_because(phase, "its runner died")
        .await
        .unwrap();
    if verdict == Verdict::RolledBack {
        move_to(&mut session, &client, &namespace, "blue")
            .await
            .unwrap();
    }
    let result = DeploymentResult {
        verdict,
        cause: Some("its runner died".to_owned()),
        by: "rescue".to_owned(),
    };
    assert!(matches!(
        session.finish(result).await.unwrap(),
        Advance::Enter(_)
    ));
    session.close().await;
    Some(verdict)
}

/// Moves the Service under the journal, whatever the process before has left open.
async fn move_to(
    session: &mut Session,
    client: &kube::Client,
    namespace: &str,
    slot: &str,
) -> Result<(), RecordError> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let target = ObjectRef::namespaced("v1", "Service", namespace, "web");
    session.raise_fence(&target).await?;
    let live = services.get("web").await.unwrap();
    let seen = LiveTarget {
        uid: live.metadata.uid.clone(),
        projection: Projection::shown(&selector(&live)),
    };
    let open: Vec<_> = session.record()?.open_entries().cloned().collect();
    for entry in open {
        let outcome = match resume(&seen, &entry) {
            Resume::Do => Outcome::NotApplied,
            Resume::MarkApplied => Outcome::Applied,
            Resume::NeedsPerson { disagreement } => return Err(disagreement.into()),
        };
        session.settle(entry.seq, outcome).await?;
    }
    let after = json!({"app": "web", "switchyard.dev/slot": slot});
    let planned = PlannedMutation {
        operation: "switch".to_owned(),
        target,
        target_uid: live.metadata.uid.clone(),
        precondition_resource_version: live.metadata.resource_version.clone(),
        before: seen.projection,
        after: Projection::shown(&after),
    };
    if planned.before.agrees_with(&planned.after) {
        return Ok(());
    }
    let seq = session.plan_mutation(planned).await?;
    let patch = json!({
        "metadata": {"resourceVersion": live.metadata.resource_version},
        "spec": {"selector": after},
    });
    services
        .patch("web", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    session.settle(seq, Outcome::Applied).await
}

fn selector(service: &Service) -> Value {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
    json!(selector.unwrap_or_default())
}

/// Patient options with a lease that runs out soon.
fn patient() -> SessionOptions {
    SessionOptions {
        times: short(),
        wait: support::LIMIT,
        ..options("1001").0
    }
}

async fn application(prefix: &str) -> Application {
    let app = Application::new(prefix).await;
    app.service("web");
    let patch =
        json!({"spec": {"selector": {"app": "web", "switchyard.dev/slot": "blue"}}}).to_string();
    app.namespace
        .kubectl(&["patch", "service", "web", "-p", &patch])
        .unwrap();
    app
}

/// Runs the steps in a process of its own, which must die at the fault point.
fn die(app: &Application, fault: &str) {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program);
    child
        .args(["--exact", STEPS])
        .env(CHILD, format!("{} {fault}", app.namespace.name()));
    let output = child.output().unwrap();
    let died = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert!(
        died.is_some(),
        "at `{fault}` it lived: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

fn slot(app: &Application) -> String {
    let path = "jsonpath={.spec.selector.switchyard\\.dev/slot}";
    app.namespace
        .kubectl(&["get", "service", "web", "-o", path])
        .unwrap()
}

async fn record(app: &Application) -> DeploymentRecord {
    app.store()
        .await
        .deployment(&app.id("1001"))
        .await
        .unwrap()
        .unwrap()
        .record
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_end_in_success_when_nothing_dies() {
    if let Ok(child) = std::env::var(CHILD) {
        let (namespace, fault) = child.split_once(' ').unwrap();
        let client = Sandbox::shared().client(User::Deployer).await;
        let id = format!("acme/shop/1001/production/sandbox/{namespace}/web");
        let options = SessionOptions {
            fault: Some(fault.parse().unwrap()),
            ..patient()
        };
        return steps(client, id.parse().unwrap(), options).await.unwrap();
    }
    let app = application("crash-none").await;
    steps(app.client().await, app.id("1001"), patient())
        .await
        .unwrap();
    assert_eq!(slot(&app), "green");
    let record = record(&app).await;
    assert_eq!((record.phase, record.journal.len()), (Phase::Succeeded, 1));
}

/// Every point at which the steps can die, with the slot that is live then.
const DEATHS: [(&str, &str); 5] = [
    ("phase:switching(1)", "blue"),
    ("plan:1", "blue"),
    ("mutation:1", "green"),
    ("settle:1", "green"),
    ("phase:soaking", "green"),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_dies_at_the_step_run_again_goes_on_and_ends_in_success() {
    for (fault, left) in DEATHS {
        let app = application("crash-again").await;
        die(&app, fault);
        assert_eq!(slot(&app), left, "{fault}");
        steps(app.client().await, app.id("1001"), patient())
            .await
            .unwrap();
        assert_eq!(slot(&app), "green", "{fault}");
        let record = record(&app).await;
        assert_eq!(record.phase, Phase::Succeeded, "{fault}");
        assert_eq!(record.open_entries().count(), 0, "{fault}");
        let applied = record
            .journal
            .iter()
            .filter(|entry| entry.outcome == Outcome::Applied);
        assert_eq!(applied.count(), 1, "{fault}: it was switched twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_dies_at_a_rescue_takes_it_back() {
    for (fault, left) in DEATHS {
        let app = application("crash-rescue").await;
        die(&app, fault);
        assert_eq!(slot(&app), left, "{fault}");
        let verdict = rescue(app.client().await, app.id("1001"), patient()).await;
        assert_eq!(verdict, Some(Verdict::RolledBack), "{fault}");
        assert_eq!(slot(&app), "blue", "{fault}");
        let record = record(&app).await;
        assert_eq!(record.open_entries().count(), 0, "{fault}");
        // A second rescue finds nothing to do.
        let again = rescue(app.client().await, app.id("1001"), patient()).await;
        assert_eq!(again, Some(Verdict::RolledBack), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_before_the_first_switch_abandons() {
    let app = application("crash-before").await;
    let mut session = app.deploying("1001").await;
    session.advance(Phase::Applied).await.unwrap();
    assert_eq!(session.record().unwrap().chain, Chain::Slots);
    session.close().await;
    let verdict = rescue(app.client().await, app.id("1001"), patient()).await;
    assert_eq!(verdict, Some(Verdict::Abandoned));
    assert_eq!(slot(&app), "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_wrote_after_the_death_is_shown_not_overwritten() {
    let app = application("crash-foreign").await;
    die(&app, "plan:1");
    let patch =
        json!({"spec": {"selector": {"app": "web", "switchyard.dev/slot": "red"}}}).to_string();
    app.namespace
        .kubectl(&["patch", "service", "web", "-p", &patch])
        .unwrap();
    let error = steps(app.client().await, app.id("1001"), patient())
        .await
        .unwrap_err();
    assert!(matches!(error, RecordError::Disagreement(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("\"switchyard.dev/slot\":\"red\""),
        "{error}"
    );
    assert_eq!(slot(&app), "red");
}
