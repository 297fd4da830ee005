//! Sessions on a real API server: claims, the journal, orders to stop, foreign hands.

mod support;

use serde_json::json;
use support::{Application, cancelled, deploy, mutation, options, roll_back, short};
use switchyard_record::{
    Claimed, DeploymentResult, ErrorClass, Freshness, Intent, Kind, Outcome, Phase, PreemptAnswer,
    PreemptOrder, RecordError, Session, SessionOptions, Side, SideState, Verdict, WayBack,
    application_record_name, request_preempt,
};

fn succeeded() -> DeploymentResult {
    DeploymentResult {
        verdict: Verdict::Succeeded,
        cause: None,
        by: "finish".to_owned(),
    }
}

async fn go_through(session: &mut Session) {
    for phase in [
        Phase::BackedUp,
        Phase::Applied,
        Phase::Ready,
        Phase::Tested,
        Phase::Switching(1),
        Phase::Soaking,
    ] {
        session.advance(phase).await.unwrap();
    }
}

fn order() -> PreemptOrder {
    PreemptOrder {
        by: "bob".to_owned(),
        run_url: Some("https://github.com/acme/shop/actions/runs/1002".to_owned()),
        reason: "errors\nrise".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_steps_is_one_deployment_from_claim_to_end() {
    let app = Application::new("session-chain").await;
    let mut session = app.deploying("1001").await;
    let seq = session
        .plan_mutation(mutation(
            &json!({"slot": "blue"}),
            &json!({"slot": "green"}),
        ))
        .await
        .unwrap();
    session.settle(seq, Outcome::Applied).await.unwrap();
    session.advance(Phase::Applied).await.unwrap();
    session.close().await;

    // The next step is another process of the same run.
    let mut session = app.open("1001").await;
    let next = deploy();
    let next = switchyard_record::ClaimRequest {
        intent: Intent::Continue,
        ..next
    };
    assert_eq!(
        session.claim(next).await.unwrap(),
        Claimed::Resumed {
            phase: Phase::Applied
        }
    );
    go_through(&mut session).await;
    assert_eq!(
        session.application().live.as_ref().unwrap().side,
        Side::GREEN
    );
    session.finish(succeeded()).await.unwrap();
    session.close().await;

    let store = app.store().await;
    let application = store.application("web").await.unwrap().unwrap().record;
    assert_eq!(application.active, None);
    assert_eq!(application.last_good, application.live);
    let record = store
        .deployment(&app.id("1001"))
        .await
        .unwrap()
        .unwrap()
        .record;
    assert_eq!(record.result.unwrap().verdict, Verdict::Succeeded);
    assert_eq!(record.journal[0].outcome, Outcome::Applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_re_run_of_an_ended_run_is_refused_unless_asked_anew() {
    let app = Application::new("session-rerun").await;
    let mut session = app.deploying("1001").await;
    go_through(&mut session).await;
    session.finish(succeeded()).await.unwrap();
    session.close().await;

    let mut again = app.open("1001").await;
    let request = switchyard_record::ClaimRequest {
        attempt: 2,
        ..deploy()
    };
    let error = again.claim(request.clone()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("of this run has ended: succeeded"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("new-deployment: true"));
    let anew = switchyard_record::ClaimRequest {
        freshness: Freshness::NewDeployment,
        ..request
    };
    assert_eq!(again.claim(anew).await.unwrap(), Claimed::New);
    assert_eq!(again.id().repeat(), 2);
    again.close().await;
    // Later steps of the run find it by the run's own id.
    let mut later = app.open("1001").await;
    let request = switchyard_record::ClaimRequest {
        intent: Intent::Continue,
        ..deploy()
    };
    assert_eq!(
        later.claim(request).await.unwrap(),
        Claimed::Resumed {
            phase: Phase::Claimed
        }
    );
    assert_eq!(later.id().repeat(), 2);
    later.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_attempt_goes_on_and_leaves_its_name() {
    let app = Application::new("session-attempt").await;
    let session = app.deploying("1001").await;
    session.close().await;
    let mut again = app.open("1001").await;
    let request = switchyard_record::ClaimRequest {
        attempt: 2,
        ..deploy()
    };
    assert_eq!(
        again.claim(request).await.unwrap(),
        Claimed::Resumed {
            phase: Phase::Claimed
        }
    );
    assert_eq!(again.record().unwrap().attempt(), 2);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_holder_is_told_to_stop_and_the_rollback_takes_over() {
    let app = Application::new("session-preempt").await;
    let mut first = app.deploying("1001").await;
    first.advance(Phase::Switching(1)).await.unwrap();
    let (mut waiting, _) = options("1002");
    waiting.wait = support::LIMIT;
    let client = app.client().await;
    let second = tokio::spawn(Session::open_preempting(
        client,
        app.id("1002"),
        waiting,
        order(),
    ));

    cancelled("the order", first.preempted()).await;
    let preempt = first.preempt_requested().unwrap();
    assert_eq!(
        (preempt.by.as_str(), preempt.reason.as_str()),
        ("bob", "errors rise")
    );
    // The safe point: the record may still be written, then the lease is released.
    let seq = first
        .plan_mutation(mutation(&json!(1), &json!(2)))
        .await
        .unwrap();
    first.settle(seq, Outcome::Applied).await.unwrap();
    first.close().await;

    let mut second = second.await.unwrap().unwrap();
    let claimed = second.claim(roll_back()).await.unwrap();
    assert_eq!(
        claimed,
        Claimed::TakenOver {
            phase: Phase::Switching(1)
        }
    );
    assert_eq!(second.application().preempt, None);
    // The order that it carries out does not stop the rollback itself.
    assert_eq!(second.preempt_requested(), None);
    assert!(!second.preempted().is_cancelled());
    assert_eq!(second.record().unwrap().way_back(), WayBack::Revert);
    second
        .advance_because(Phase::Reverting, "errors rise")
        .await
        .unwrap();
    let rolled_back = DeploymentResult {
        verdict: Verdict::RolledBack,
        cause: Some("errors rise".to_owned()),
        by: "bob".to_owned(),
    };
    second.finish(rolled_back).await.unwrap();
    assert_eq!(second.application().active, None);
    assert_eq!(second.application().live, None);
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_does_not_stop_is_dispossessed_and_fenced() {
    let app = Application::new("session-force").await;
    let (first, _) = options("1001");
    let mut first = app
        .try_open(
            "1001",
            SessionOptions {
                times: short(),
                ..first
            },
        )
        .await
        .unwrap();
    first.claim(deploy()).await.unwrap();
    let (second, said) = options("1002");
    let second = SessionOptions {
        times: short(),
        wait: support::LIMIT,
        ..second
    };
    let second = Session::open_preempting(app.client().await, app.id("1002"), second, order())
        .await
        .unwrap();
    assert!(said.contains("did not stop, taking lease `switchyard-web` over"));
    let error = first.advance(Phase::BackedUp).await.unwrap_err();
    assert!(
        matches!(error, RecordError::Stale(_) | RecordError::LeaseLost { .. }),
        "{error}"
    );
    cancelled("the loss", first.lost()).await;
    first.close().await;
    second.ensure_held().unwrap();
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_step_of_a_run_that_was_told_to_stop_is_refused() {
    let app = Application::new("session-told").await;
    app.deploying("1001").await.close().await;
    let (ordering, _) = options("1002");
    let store = app.store().await;
    let answer = request_preempt(&store, &app.id("1002"), &ordering, order())
        .await
        .unwrap();
    assert_eq!(answer, PreemptAnswer::Ordered);
    let mut next = app.open("1001").await;
    let error = next.claim(deploy()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("was told to stop by bob: errors rise"),
        "{error}"
    );
    next.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_not_written_when_nobody_is_to_stop() {
    let app = Application::new("session-none").await;
    let (ordering, _) = options("1002");
    let store = app.store().await;
    let answer = request_preempt(&store, &app.id("1002"), &ordering, order())
        .await
        .unwrap();
    assert_eq!(answer, PreemptAnswer::NothingActive);
    let mut session = app.deploying("1001").await;
    session
        .advance_because(Phase::Abandoning, "tests failed")
        .await
        .unwrap();
    let answer = request_preempt(&store, &app.id("1002"), &ordering, order())
        .await
        .unwrap();
    assert_eq!(answer, PreemptAnswer::AlreadyGoingBack);
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_stopped_half_way_is_finished_by_another_order() {
    let app = Application::new("session-half").await;
    let mut first = app.deploying("1001").await;
    go_through(&mut first).await;
    first.finish(succeeded()).await.unwrap();
    first.close().await;
    let mut second = app.open("1002").await;
    assert_eq!(second.claim(roll_back()).await.unwrap(), Claimed::New);
    second.advance(Phase::Switching(1)).await.unwrap();
    second.close().await;

    let (third, _) = options("1003");
    let third = Session::open_preempting(app.client().await, app.id("1003"), third, order());
    let mut third = third.await.unwrap();
    assert_eq!(third.application().preempt, None);
    assert_eq!(
        third.claim(roll_back()).await.unwrap(),
        Claimed::TakenOver {
            phase: Phase::Switching(1)
        }
    );
    assert_eq!(third.record().unwrap().kind, Kind::Rollback);
    third.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_somebody_edits_under_the_holder_stops_it_by_name() {
    let app = Application::new("session-edit").await;
    let mut session = app.deploying("1001").await;
    app.edit(&app.id("1001").record_name(), |record| {
        record["version"] = json!("9.9.9")
    });
    let error = session.advance(Phase::BackedUp).await.unwrap_err();
    assert!(matches!(&error, RecordError::Changed { .. }), "{error}");
    assert!(
        error.to_string().contains("was changed by `kubectl-patch`"),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Gate);
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_somebody_puts_on_a_record_stop_nobody() {
    let app = Application::new("session-labels").await;
    let mut session = app.deploying("1001").await;
    for name in [app.id("1001").record_name(), application_record_name("web")] {
        app.namespace
            .kubectl(&["label", "configmap", &name, "owner=somebody"])
            .unwrap();
    }
    go_through(&mut session).await;
    session.finish(succeeded()).await.unwrap();
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_somebody_else_edited_in_stops_the_holder() {
    let app = Application::new("session-claim").await;
    let mut session = app.deploying("1001").await;
    app.edit(&application_record_name("web"), |record| {
        record["active"] = json!(null);
        record["index"][0]["verdict"] = json!("abandoned");
    });
    session.advance(Phase::Switching(1)).await.unwrap();
    let error = session.advance(Phase::Soaking).await.unwrap_err();
    assert!(matches!(&error, RecordError::Changed { .. }), "{error}");
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_cannot_be_believed_are_refused_with_what_to_do() {
    let app = Application::new("session-nonsense").await;
    app.deploying("1001").await.close().await;
    let name = application_record_name("web");
    let object = format!("ConfigMap `{}/{name}`", app.namespace.name());
    let cases = [
        (
            "{\"schema\": 7}",
            format!("{object} has schema 7, this version knows 1"),
        ),
        (
            "{}",
            format!("{object} has schema none, this version knows 1"),
        ),
        ("not json", format!("{object} cannot be read as a record")),
        (
            "{\"schema\": 1, \"app\": \"web\", \"fence\": 3, \"surprise\": 1}",
            format!("{object} cannot be read as a record"),
        ),
        (
            "{\"schema\": 1, \"app\": \"other\", \"fence\": 3}",
            format!("{object} says something impossible"),
        ),
    ];
    for (text, message) in cases {
        app.write_text(&name, text);
        let error = app.try_open("1001", options("1001").0).await.unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(error.hint().is_some());
    }
    // A refused session leaves no lease behind.
    app.write_text(&name, "{\"schema\": 1, \"app\": \"web\", \"fence\": 3}");
    app.open("1001").await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_record_was_deleted_is_said_not_guessed() {
    let app = Application::new("session-deleted").await;
    app.deploying("1001").await.close().await;
    let name = app.id("1001").record_name();
    app.namespace
        .kubectl(&["delete", "configmap", &name])
        .unwrap();
    let error = app.try_open("1001", options("1001").0).await.unwrap_err();
    assert!(matches!(&error, RecordError::Missing { .. }), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_would_not_fit_is_refused_before_it_starts() {
    let app = Application::new("session-size").await;
    let mut session = app.deploying("1001").await;
    session.reserve(300).unwrap();
    let error = session.reserve(5_000).unwrap_err();
    assert!(
        matches!(
            &error,
            RecordError::TooLarge {
                limit: 1_000_000,
                ..
            }
        ),
        "{error}"
    );
    // A record that is too large is never sent, and what is stored stays as it was.
    let huge = "x".repeat(1_100_000);
    let error = session
        .amend(|record| record.version = Some(huge))
        .await
        .unwrap_err();
    assert!(matches!(&error, RecordError::TooLarge { .. }), "{error}");
    session.advance(Phase::BackedUp).await.unwrap();
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_journal_is_compacted_and_still_fits() {
    let app = Application::new("session-long").await;
    let mut session = app.deploying("1001").await;
    let long = |text: &str| json!({"selector": text.repeat(400)});
    session
        .amend(|record| {
            // Nearly full of things that may not be dropped.
            record
                .notify_keys
                .insert("slack".to_owned(), "k".repeat(985_000));
        })
        .await
        .unwrap();
    for _ in 0..4 {
        let seq = session
            .plan_mutation(mutation(&long("blue"), &long("green")))
            .await
            .unwrap();
        session.settle(seq, Outcome::Applied).await.unwrap();
    }
    let record = session.record().unwrap();
    assert_eq!(record.journal.len(), 4);
    assert_eq!(record.journal[0].after.value(), None);
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolved_side_is_never_another_one_later() {
    let app = Application::new("session-side").await;
    let mut session = app.deploying("1001").await;
    let error = session
        .amend(|record| record.sides.to = Some(SideState::new(Side::BLUE)))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        RecordError::Protected { field: "sides.to" }
    ));
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_between_two_writes_left_is_completed_by_the_next_process() {
    let app = Application::new("session-heal").await;
    let mut session = app.deploying("1001").await;
    session.advance(Phase::Switching(1)).await.unwrap();
    session.close().await;
    // The deployment's record says soaking, the application's does not know yet.
    app.edit(&app.id("1001").record_name(), |record| {
        record["phase"] = json!("soaking");
        let mut entry = record["phases"][1].clone();
        entry["name"] = json!("soaking");
        record["phases"].as_array_mut().unwrap().push(entry);
    });
    let session = app.open("1001").await;
    assert_eq!(
        session.application().live.as_ref().unwrap().side,
        Side::GREEN
    );
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_a_crash_left_without_a_claim_is_taken() {
    let app = Application::new("session-orphan").await;
    app.deploying("1001").await.close().await;
    app.write_text(
        &application_record_name("web"),
        "{\"schema\": 1, \"app\": \"web\", \"fence\": 3}",
    );
    let mut session = app.open("1001").await;
    assert_eq!(session.claim(deploy()).await.unwrap(), Claimed::New);
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_records_are_deleted_and_the_live_one_stays() {
    let app = Application::new("session-prune").await;
    let runs = switchyard_record::MAX_RECORDS + 3;
    for run in 1..=runs {
        let mut session = app.deploying(&run.to_string()).await;
        session.advance(Phase::Switching(1)).await.unwrap();
        session.advance(Phase::Soaking).await.unwrap();
        session.finish(succeeded()).await.unwrap();
        session.close().await;
    }
    let names = app
        .namespace
        .kubectl(&[
            "get",
            "configmaps",
            "-l",
            "switchyard.dev/record=deployment",
            "-o",
            "name",
        ])
        .unwrap();
    assert_eq!(names.lines().count(), switchyard_record::MAX_RECORDS);
    assert!(names.contains(&app.id(&runs.to_string()).record_name()));
    assert!(!names.contains(&app.id("1").record_name()));
    // Its record is gone, its end is not forgotten.
    let mut again = app.open("1").await;
    let error = again.claim(deploy()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("of this run has ended: succeeded"),
        "{error}"
    );
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_needs_a_person_ends_when_a_new_one_is_ordered() {
    ends_when_a_new_one_is_ordered("session-stuck", Phase::NeedsPerson).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_does_not_come_back_ends_when_a_new_one_is_ordered() {
    ends_when_a_new_one_is_ordered("session-lame", Phase::Reverting).await;
}

async fn ends_when_a_new_one_is_ordered(prefix: &str, phase: Phase) {
    let app = Application::new(prefix).await;
    let mut session = app.deploying("1001").await;
    session.advance(Phase::Switching(1)).await.unwrap();
    session
        .advance_because(phase, "Service `web` was changed")
        .await
        .unwrap();
    session.close().await;
    let mut next = app.open("1002").await;
    assert!(matches!(
        next.claim(deploy()).await,
        Err(RecordError::Refused(_))
    ));
    let anew = switchyard_record::ClaimRequest {
        freshness: Freshness::NewDeployment,
        ..deploy()
    };
    assert_eq!(next.claim(anew).await.unwrap(), Claimed::New);
    assert_eq!(next.id(), &app.id("1002"));
    next.close().await;
    let stuck = app
        .store()
        .await
        .deployment(&app.id("1001"))
        .await
        .unwrap()
        .unwrap()
        .record;
    assert_eq!(stuck.phase, Phase::Superseded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_without_rights_is_told_which_ones_are_needed() {
    let app = Application::new("session-rbac").await;
    let client = app.sandbox.client(switchyard_sandbox::User::Reader).await;
    let error = Session::open(client, app.id("1001"), options("1001").0)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Remote);
    assert!(
        error
            .hint()
            .unwrap()
            .contains("leases (coordination.k8s.io)"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_notice_is_remembered_while_somebody_works_and_after_the_end() {
    let app = Application::new("session-notice").await;
    let mut session = app.deploying("1001").await;
    let store = app.store().await;
    store
        .remember_notice(session.id(), "slack", "C1/17.1")
        .await
        .unwrap();
    session.advance(Phase::BackedUp).await.unwrap();
    assert_eq!(session.record().unwrap().notify_keys["slack"], "C1/17.1");
    session.advance(Phase::Switching(1)).await.unwrap();
    session.advance(Phase::Soaking).await.unwrap();
    session.finish(succeeded()).await.unwrap();
    session.close().await;
    store
        .remember_notice(&app.id("1001"), "github", "41")
        .await
        .unwrap();
    let record = store
        .latest_of_run(&app.id("1001"))
        .await
        .unwrap()
        .unwrap()
        .record;
    let keys: Vec<_> = record
        .notify_keys
        .iter()
        .map(|(channel, key)| (channel.as_str(), key.as_str()))
        .collect();
    assert_eq!(keys, [("github", "41"), ("slack", "C1/17.1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rollback_restores_cannot_be_overwritten_by_a_resumed_step() {
    let app = Application::new("session-prior").await;
    let mut session = app.deploying("1001").await;
    let target = |slot: &str| switchyard_record::Target {
        object: switchyard_record::ObjectRef::namespaced("v1", "Service", "shop", "web"),
        uid: "u1".to_owned(),
        owned_paths: vec!["/spec/selector".to_owned()],
        prior: [("/spec/selector".to_owned(), json!({"slot": slot}))].into(),
    };
    session
        .amend(|record| record.targets.push(target("blue")))
        .await
        .unwrap();
    let error = session
        .amend(|record| record.targets = vec![target("green")])
        .await
        .unwrap_err();
    assert!(matches!(error, RecordError::Protected { field: "targets" }));
    assert_eq!(error.class(), ErrorClass::Bug);
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_fails_releases_the_lease() {
    let app = Application::new("session-scope").await;
    let session = app.open("1001").await;
    let failed: Result<(), RecordError> = session
        .scope(async |session: &mut Session| session.advance(Phase::BackedUp).await.map(drop))
        .await;
    assert!(matches!(failed, Err(RecordError::NotClaimed)));
    app.open("1002").await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_does_not_exist_is_said() {
    let app = Application::new("session-nowhere").await;
    let id: switchyard_record::DeploymentId = "acme/shop/1/production/sandbox/there-is-no-such/web"
        .parse()
        .unwrap();
    let error = Session::open(app.client().await, id, options("1").0)
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Remote);
    assert!(error.hint().is_some(), "{error}");
}
