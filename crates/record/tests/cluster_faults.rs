//! Records over a bad connection: answers that are lost, refusals for load, an API server that is away.

mod support;

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use support::{Application, deploy, mutation, options, short, until};
use switchyard_record::{
    Claimed, ErrorClass, Outcome, Phase, RecordError, Session, SessionOptions,
};
use switchyard_sandbox::User;
use switchyard_sandbox::fault_proxy::{Fault, FaultProxy, FaultRule};

async fn session_through(app: &Application, proxy: &FaultProxy) -> (Session, support::Said) {
    let client = app.sandbox.client_through(proxy, User::Deployer).await;
    let (options, said) = options("1001");
    let options = SessionOptions {
        times: short(),
        ..options
    };
    let mut session = Session::open(client, app.id("1001"), options)
        .await
        .unwrap();
    assert_eq!(session.claim(deploy()).await.unwrap(), Claimed::New);
    (session, said)
}

fn on_write_of(name: &str, fault: Fault) -> FaultRule {
    FaultRule::every(fault)
        .method(Method::PUT)
        .path(format!("configmaps/{name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_is_not_made_twice() {
    let app = Application::new("fault-lost").await;
    let proxy = FaultProxy::start(&app.sandbox).await.unwrap();
    let (mut session, _) = session_through(&app, &proxy).await;
    let name = app.id("1001").record_name();
    proxy.inject(on_write_of(&name, Fault::CutAfter).times(1));
    let seq = session
        .plan_mutation(mutation(&json!(1), &json!(2)))
        .await
        .unwrap();
    proxy.inject(on_write_of(&name, Fault::CutAfter).times(1));
    session.settle(seq, Outcome::Applied).await.unwrap();
    proxy.inject(on_write_of(&name, Fault::CutAfter).times(1));
    session.advance(Phase::BackedUp).await.unwrap();
    session.close().await;
    let record = app
        .store()
        .await
        .deployment(&app.id("1001"))
        .await
        .unwrap()
        .unwrap()
        .record;
    assert_eq!(record.journal.len(), 1);
    assert_eq!(record.phases.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_never_arrived_is_made_again() {
    let app = Application::new("fault-cut").await;
    let proxy = FaultProxy::start(&app.sandbox).await.unwrap();
    let (mut session, said) = session_through(&app, &proxy).await;
    let name = app.id("1001").record_name();
    for fault in [
        Fault::CutBefore,
        Fault::TooManyRequests {
            retry_after: Some(1),
        },
        Fault::Status(StatusCode::SERVICE_UNAVAILABLE),
    ] {
        proxy.inject(on_write_of(&name, fault).times(1));
        let seq = session
            .plan_mutation(mutation(&json!(1), &json!(2)))
            .await
            .unwrap();
        session.settle(seq, Outcome::NotApplied).await.unwrap();
    }
    assert!(said.contains("trying again"));
    assert_eq!(session.record().unwrap().journal.len(), 3);
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_given_up_and_arrives_late_is_not_taken_for_somebody_elses() {
    let app = Application::new("fault-late").await;
    let proxy = FaultProxy::start(&app.sandbox).await.unwrap();
    let client = app.sandbox.client_through(&proxy, User::Deployer).await;
    let (options, _) = options("1001");
    let cancel = options.cancel.clone();
    let mut session = Session::open(client, app.id("1001"), options)
        .await
        .unwrap();
    assert_eq!(session.claim(deploy()).await.unwrap(), Claimed::New);
    let name = app.id("1001").record_name();
    // Once it is told to end, a session gives a write up after three seconds.
    cancel.cancel();
    proxy.inject(on_write_of(&name, Fault::Late).times(1));
    proxy.inject(
        FaultRule::every(Fault::Status(StatusCode::SERVICE_UNAVAILABLE))
            .path(format!("configmaps/{name}")),
    );
    let planned = session.plan_mutation(mutation(&json!(1), &json!(2))).await;
    assert_eq!(planned.unwrap_err().class(), ErrorClass::Remote);
    proxy.clear();
    assert_eq!(proxy.deliver().await.unwrap(), [StatusCode::OK]);

    session.advance(Phase::BackedUp).await.unwrap();
    session.close().await;
    let store = app.store().await;
    let stored = store.deployment(&app.id("1001")).await.unwrap().unwrap();
    assert_eq!(stored.record.phase, Phase::BackedUp);
    assert_eq!(
        stored.record.journal,
        [],
        "a mutation whose entry could not be written was not made"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_tried_again() {
    let app = Application::new("fault-refused").await;
    let proxy = FaultProxy::start(&app.sandbox).await.unwrap();
    let (mut session, _) = session_through(&app, &proxy).await;
    proxy.forget_requests();
    proxy.inject(on_write_of(
        "switchyard.web",
        Fault::Status(StatusCode::FORBIDDEN),
    ));
    let error = session.advance(Phase::BackedUp).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Remote);
    let writes = proxy
        .requests()
        .into_iter()
        .filter(|seen| seen.method == Method::PUT && seen.path.contains("configmaps/"));
    assert_eq!(writes.count(), 1);
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_was_away_longer_than_the_lease_lasts_ends_nothing() {
    let app = Application::new("fault-away").await;
    let proxy = FaultProxy::start(&app.sandbox).await.unwrap();
    let (mut session, _) = session_through(&app, &proxy).await;
    proxy.go_offline();
    // The outage itself, longer than the lease lasts.
    tokio::time::sleep(short().duration * 2).await;
    proxy.go_online();
    proxy.forget_requests();
    until("a renewal", || {
        proxy.requests().iter().any(|seen| {
            seen.method == Method::PUT && seen.path.contains("/leases/") && seen.fault.is_none()
        })
    })
    .await;
    session.ensure_held().unwrap();
    session.advance(Phase::BackedUp).await.unwrap();
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_without_contact_for_too_long_gives_up() {
    let app = Application::new("fault-silent").await;
    let proxy = FaultProxy::start(&app.sandbox).await.unwrap();
    let client = app.sandbox.client_through(&proxy, User::Deployer).await;
    let (options, _) = options("1001");
    let times = switchyard_record::LeaseTimes {
        contact_limit: Duration::from_secs(3),
        ..short()
    };
    let session = Session::open(client, app.id("1001"), SessionOptions { times, ..options })
        .await
        .unwrap();
    proxy.go_offline();
    support::cancelled("the loss", session.lost()).await;
    let error = session.ensure_held().unwrap_err();
    assert!(matches!(&error, RecordError::LeaseLost { .. }), "{error}");
    assert!(
        error.to_string().contains("could not be renewed for"),
        "{error}"
    );
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_lease_was_taken_while_it_had_no_contact_learns_it_first_of_all() {
    let app = Application::new("fault-taken").await;
    let proxy = FaultProxy::start(&app.sandbox).await.unwrap();
    let (mut cut_off, _) = session_through(&app, &proxy).await;
    proxy.go_offline();
    let (mut waiting, _) = options("1001");
    waiting.wait = support::LIMIT;
    let fresh = app.try_open("1001", waiting).await.unwrap();
    proxy.go_online();
    let error = cut_off
        .plan_mutation(mutation(&json!(1), &json!(2)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, RecordError::Stale(_) | RecordError::LeaseLost { .. }),
        "{error}"
    );
    fresh.close().await;
    cut_off.close().await;
}
