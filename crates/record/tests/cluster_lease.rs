//! The lease on a real API server: live holders, dead ones, and those that wake up.

mod support;

use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use support::{Application, asleep, cancelled, deploy, mutation, options, short, until};
use switchyard_record::{
    ErrorClass, Phase, Raised, RecordError, Session, SessionOptions, fence_of, lease_name,
};

fn times(options: SessionOptions, times: switchyard_record::LeaseTimes) -> SessionOptions {
    SessionOptions { times, ..options }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_session_waits_for_the_first_and_names_it() {
    let app = Application::new("lease-two").await;
    let first = app.open("1001").await;
    let (waiting, said) = options("1002");
    let error = app.try_open("1002", waiting).await.unwrap_err();
    assert!(matches!(error, RecordError::LeaseHeld { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Gate);
    let url = "https://github.com/acme/shop/actions/runs/1001";
    assert!(
        error
            .to_string()
            .contains(&format!("is held by ann ({url})")),
        "{error}"
    );
    assert!(said.contains(&format!(
        "waiting for lease `switchyard-web`, held by ann ({url})"
    )));
    first.close().await;
    app.open("1002").await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_session_gets_the_lease_when_it_is_released() {
    let app = Application::new("lease-wait").await;
    let first = app.open("1001").await;
    let (mut waiting, said) = options("1002");
    waiting.wait = support::LIMIT;
    let client = app.client().await;
    let second = tokio::spawn(Session::open(client, app.id("1002"), waiting));
    until("waiting", || said.contains("waiting for lease")).await;
    let fence = first.fence();
    first.close().await;
    let second = second.await.unwrap().unwrap();
    assert!(second.fence() > fence);
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_wait_ends_as_cancelled() {
    let app = Application::new("lease-cancel").await;
    let first = app.open("1001").await;
    let (mut waiting, said) = options("1002");
    waiting.wait = support::LIMIT;
    let cancel = waiting.cancel.clone();
    let second = tokio::spawn(Session::open(app.client().await, app.id("1002"), waiting));
    until("waiting", || said.contains("waiting for lease")).await;
    cancel.cancel();
    let error = second.await.unwrap().unwrap_err();
    assert_eq!(error.class(), ErrorClass::Cancelled);
    first.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_holder_keeps_its_lease_beyond_its_duration() {
    let app = Application::new("lease-live").await;
    let first = app
        .try_open("1001", times(options("1001").0, short()))
        .await
        .unwrap();
    let (mut waiting, _) = options("1002");
    waiting.wait = short().duration * 3;
    let error = app.try_open("1002", waiting).await.unwrap_err();
    assert!(matches!(error, RecordError::LeaseHeld { .. }), "{error}");
    first.ensure_held().unwrap();
    first.close().await;
}

/// A session whose process dies: its tasks are gone without a word.
fn dead_session(
    client_of: impl Future<Output = kube::Client> + Send + 'static,
    app: &Application,
) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (id, options) = (app.id("1001"), times(options("1001").0, short()));
    let fence = std::thread::spawn(move || {
        let session = runtime.block_on(async {
            let mut session = Session::open(client_of.await, id, options).await.unwrap();
            session.claim(deploy()).await.unwrap();
            session
        });
        let fence = session.fence();
        // The tasks must not get the chance to release anything.
        runtime.shutdown_background();
        std::mem::forget(session);
        fence
    });
    fence.join().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_dead_holder_is_taken_over_and_its_deployment_is_not_guessed_dead() {
    let app = Application::new("lease-dead").await;
    let sandbox = switchyard_sandbox::Sandbox::shared();
    let fence = dead_session(
        async move { sandbox.client(switchyard_sandbox::User::Deployer).await },
        &app,
    );
    let (mut waiting, said) = options("1002");
    waiting.wait = support::LIMIT;
    let mut second = app.try_open("1002", waiting).await.unwrap();
    assert!(
        said.contains("was not renewed and has expired, taking it over"),
        "{:?}",
        said.lines()
    );
    assert!(second.fence() > fence);
    // No process runs, yet the application is claimed until somebody rescues it.
    let error = second.claim(deploy()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is claimed by deployment `acme/shop/1001/"),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Gate);
    assert!(error.hint().unwrap().contains("traffic-switch rescue"));
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_holder_that_wakes_up_can_write_nothing() {
    let app = Application::new("lease-stale").await;
    let service = app.service("web");
    let mut stale = app
        .try_open("1001", times(options("1001").0, asleep()))
        .await
        .unwrap();
    stale.claim(deploy()).await.unwrap();
    let seq = stale
        .plan_mutation(mutation(&json!(1), &json!(2)))
        .await
        .unwrap();
    let Raised::Under(before) = stale.raise_fence(&service).await.unwrap() else {
        panic!("the service is absent");
    };

    let (mut waiting, _) = options("1001");
    waiting.wait = support::LIMIT;
    let fresh = app.try_open("1001", waiting).await.unwrap();
    let Raised::Under(live) = fresh.raise_fence(&service).await.unwrap() else {
        panic!("the service is absent");
    };
    assert_eq!(fence_of(&live.metadata), Some(fresh.fence()));

    // Its own records.
    for error in [
        stale
            .settle(seq, switchyard_record::Outcome::Applied)
            .await
            .unwrap_err(),
        stale
            .plan_mutation(mutation(&json!(2), &json!(3)))
            .await
            .unwrap_err(),
        stale.advance(Phase::BackedUp).await.unwrap_err(),
    ] {
        assert!(matches!(error, RecordError::Stale(_)), "{error}");
        assert_eq!(error.class(), ErrorClass::Gate);
    }
    // The object: both a raise of the old fence and a write conditional on the old version.
    assert!(matches!(
        stale.raise_fence(&service).await,
        Err(RecordError::Stale(_))
    ));
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(app.client().await, app.namespace.name());
    let patch = json!({"metadata": {"resourceVersion": before.metadata.resource_version}, "spec": {"selector": {"app": "stale"}}});
    let refused = services
        .patch("web", &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 409));

    let record = app
        .store()
        .await
        .deployment(&app.id("1001"))
        .await
        .unwrap()
        .unwrap()
        .record;
    assert_eq!(record.phase, Phase::Claimed);
    assert_eq!(record.journal.len(), 1);
    fresh.close().await;
    // Its release must not free a lease that is no longer its own.
    let third = app.open("1001").await;
    stale.close().await;
    third.ensure_held().unwrap();
    let lease = app.namespace.kubectl(&[
        "get",
        "lease",
        &lease_name("web"),
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ]);
    assert!(lease.unwrap().starts_with("switchyard-"));
    third.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_lease_was_given_to_another_is_told_and_stops_writing() {
    let app = Application::new("lease-other").await;
    let mut session = app
        .try_open("1001", times(options("1001").0, short()))
        .await
        .unwrap();
    let patch = json!({"spec": {"holderIdentity": "another"}}).to_string();
    let words = [
        "patch",
        "lease",
        &lease_name("web"),
        "--type=merge",
        "-p",
        &patch,
    ];
    app.namespace.kubectl(&words).unwrap();
    cancelled("the loss", session.lost()).await;
    let error = session.claim(deploy()).await.unwrap_err();
    assert!(matches!(&error, RecordError::LeaseLost { .. }), "{error}");
    assert!(error.to_string().contains("has taken it over"), "{error}");
    session.close().await;
    let holder = app.namespace.kubectl(&[
        "get",
        "lease",
        &lease_name("web"),
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ]);
    assert_eq!(holder.unwrap(), "another");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_somebody_deletes_is_put_back_by_its_holder() {
    let app = Application::new("lease-gone").await;
    let session = app
        .try_open("1001", times(options("1001").0, short()))
        .await
        .unwrap();
    let name = lease_name("web");
    app.namespace.kubectl(&["delete", "lease", &name]).unwrap();
    // The API server creates a lease on an update; nobody else can have had it in between.
    until("the lease", || {
        app.namespace.kubectl(&["get", "lease", &name]).is_ok()
    })
    .await;
    let error = app.try_open("1002", options("1002").0).await.unwrap_err();
    assert!(matches!(error, RecordError::LeaseHeld { .. }), "{error}");
    session.ensure_held().unwrap();
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_somebody_puts_on_the_lease_do_not_lose_it() {
    let app = Application::new("lease-label").await;
    let session = app
        .try_open("1001", times(options("1001").0, short()))
        .await
        .unwrap();
    let renewed = || {
        let lease = lease_name("web");
        app.namespace
            .kubectl(&["get", "lease", &lease, "-o", "jsonpath={.spec.renewTime}"])
            .unwrap()
    };
    app.namespace
        .kubectl(&["label", "lease", &lease_name("web"), "owner=somebody"])
        .unwrap();
    let labelled = renewed();
    until("a renewal", || renewed() != labelled).await;
    session.ensure_held().unwrap();
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_dropped_releases_its_lease() {
    let app = Application::new("lease-drop").await;
    drop(app.open("1001").await);
    let (mut waiting, _) = options("1002");
    // Less than the fifteen seconds after which it would have expired.
    waiting.wait = Duration::from_secs(10);
    app.try_open("1002", waiting).await.unwrap().close().await;
}
