//! What a way back may be taken for: never a side that holds something else by now, never a part
//! of what was switched, and never a success for what was not done.

mod support;

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use support::{FrontKind, Shop, assert_nothing_lost, finish, run};
use switchyard_harness::Ended;
use switchyard_record::{ObjectRef, Outcome, Phase, PlannedMutation, Session, Target};
use switchyard_sandbox::fault_proxy::{Fault, FaultProxy, FaultRule};
use switchyard_traffic::routing::Routing;

fn assert_gate(ended: &Ended, part: &str) {
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    assert!(
        ended.log().contains(part),
        "no `{part}` in:\n{}",
        ended.log()
    );
}

fn weights_of(shop: &Shop, targets: &str) -> String {
    let ended = shop.step("status").input("targets", targets).run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    ended.outputs["weights"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_deployed_over_is_not_gone_back_to_and_nobody_is_locked_out() {
    let mut shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    assert_eq!(run(shop.switch()).code, Some(0));
    shop.succeed().await;
    shop.kubectl(&["set", "env", "deployment/web-blue", "ANOTHER=version"]);
    shop.run_id = "2002".to_owned();
    for _ in 0..2 {
        let ended = run(shop.proving("rollback"));
        assert_gate(&ended, "stands at revision 2 instead of 1");
        assert_eq!(shop.weights(), json!({"green": 100}));
        assert_eq!(shop.application().await.active, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_of_one_target_takes_back_all_that_were_switched() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    shop.apply(
        r"
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {name: second}
spec: {weighted: {services: [{name: web-blue, port: 80}]}}
",
    );
    let both = "traefik/web\ntraefik/second:web";
    let load = shop.load(50);
    let ended = run(shop.switch().input("targets", both));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(weights_of(&shop, both), r#"{"green":100}"#);
    let ended = run(shop
        .proving("rollback")
        .input("targets", "traefik/second:web"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(weights_of(&shop, both), r#"{"blue":100}"#);
    assert_eq!(shop.record().await.phase, Phase::RolledBack);
    assert_nothing_lost(&load.stop().await.unwrap());
}

fn backends(service: &str) -> Value {
    let places = json!({"services": {service: {"weight": 1, "port": 80}}});
    json!({"kind": "backends", "places": places})
}

/// A deployment that has switched the shop to green since it was read as not having begun to.
async fn switch_by_hand(shop: &Shop, session: &mut Session) {
    let object = ObjectRef::namespaced(
        "traefik.io/v1alpha1",
        "TraefikService",
        shop.namespace.name(),
        "web",
    );
    let uid = shop.front_object()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let target = Target {
        object: object.clone(),
        uid: uid.clone(),
        owned_paths: vec!["/spec/weighted/services".to_owned()],
        prior: BTreeMap::from([("/spec/weighted/services".to_owned(), backends("web-blue"))]),
    };
    let side = |side| switchyard_record::SideState::new(side);
    let amended = session.amend(|record| {
        record.targets.push(target);
        record.sides.from = Some(side(switchyard_record::Side::BLUE));
        record.sides.to = Some(side(switchyard_record::Side::GREEN));
    });
    amended.await.unwrap();
    session.advance(Phase::Switching(1)).await.unwrap();
    let state = |service| {
        Routing::from_value(&backends(service))
            .unwrap()
            .projection()
    };
    let planned = PlannedMutation {
        operation: "route switch".to_owned(),
        target: object,
        target_uid: Some(uid),
        precondition_resource_version: None,
        before: state("web-blue"),
        after: state("web-green"),
    };
    let seq = session.plan_mutation(planned).await.unwrap();
    let patch = json!({"spec": {"weighted": {"services": [{"name": "web-green", "port": 80, "weight": 1}]}}});
    shop.kubectl(&[
        "patch",
        "traefikservice/web",
        "--type",
        "merge",
        "-p",
        &patch.to_string(),
    ]);
    session.settle(seq, Outcome::Applied).await.unwrap();
}

/// The order is given before the first switch and gets the lease after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_takes_back_what_was_switched_while_it_waited_for_the_lease() {
    let mut shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let mut session = shop.session().await;
    session.advance(Phase::Tested).await.unwrap();
    let deployment = shop.id();
    shop.run_id = "2002".to_owned();
    let rollback = shop.proving("rollback").input("scale-new-down", "true");
    let rollback = rollback.start();
    // It has read the record once it orders the holder to stop.
    session.preempted().cancelled().await;
    switch_by_hand(&shop, &mut session).await;
    session.close().await;

    let ended = finish(rollback);
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["deployment-id"], deployment.to_string());
    assert_eq!(shop.weights(), json!({"blue": 100}));
}

/// What it finds under the lease it may not be allowed to write: that is said before it begins to.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_may_not_write_what_it_finds_under_the_lease_says_so_before_it_writes() {
    let mut shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let mut session = shop.session().await;
    session.advance(Phase::Tested).await.unwrap();
    let deployment = shop.id();
    let role = shop.kubectl(&["get", "role/switchyard-deployer", "-o", "json"]);
    let mut rules = serde_json::from_str::<Value>(&role).unwrap()["rules"].clone();
    for rule in rules.as_array_mut().unwrap() {
        if rule["apiGroups"] == json!(["traefik.io"]) {
            rule["verbs"] = json!(["list"]);
        }
    }
    shop.kubectl(&[
        "patch",
        "role/switchyard-deployer",
        "--type",
        "merge",
        "-p",
        &json!({"rules": rules}).to_string(),
    ]);
    shop.run_id = "2002".to_owned();
    let rollback = shop.proving("rollback").start();
    session.preempted().cancelled().await;
    switch_by_hand(&shop, &mut session).await;
    session.close().await;
    let before = shop.front_object();

    let ended = finish(rollback);
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    for part in [
        "2 of ",
        "get traefikservices.traefik.io",
        "patch traefikservices.traefik.io",
        "nothing was changed",
    ] {
        assert!(
            ended.log().contains(part),
            "no `{part}` in:\n{}",
            ended.log()
        );
    }
    assert_eq!(shop.front_object(), before);
    let active = shop.application().await.active.unwrap();
    assert_eq!(active.deployment, deployment);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_asks_for_what_a_switch_did_not_do_is_told_so() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    shop.apply(
        r"
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {name: second}
spec: {weighted: {services: [{name: web-blue, port: 80}]}}
",
    );
    let half = run(shop.switch().input("weight", "50"));
    assert_eq!(half.code, Some(0), "{}", half.log());
    let less = run(shop.switch().input("weight", "10"));
    assert_gate(&less, "was asked for, and this deployment has reached");
    let other = run(shop.switch().input("targets", "traefik/second:web"));
    assert_eq!(other.code, Some(2), "{}", other.log());
    assert_eq!(run(shop.switch()).code, Some(0));
    let late = "traefik/web\ntraefik/second:web";
    let late = run(shop.switch().input("targets", late));
    assert_gate(&late, "`traefik/second:web` was not switched");
    assert_eq!(weights_of(&shop, "traefik/second:web"), r#"{"blue":100}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_by_hand_is_carried_out_although_there_was_one_before() {
    let mut shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    for run_id in ["1001", "1002"] {
        shop.run_id = run_id.to_owned();
        let ended = run(shop.switch());
        assert_eq!(ended.code, Some(0), "{}", ended.log());
        shop.succeed().await;
        shop.run_id = "local".to_owned();
        let ended = run(shop.proving("rollback"));
        assert_eq!(ended.code, Some(0), "{}", ended.log());
        assert_eq!(ended.outputs["result"], "rolled-back", "{}", ended.log());
        assert_eq!(shop.weights(), json!({"blue": 100}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_could_not_begin_gives_its_claim_up_and_can_be_run_again() {
    let mut shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    assert_eq!(run(shop.switch()).code, Some(0));
    shop.succeed().await;
    shop.run_id = "2002".to_owned();
    let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
    proxy.inject(
        FaultRule::every(Fault::Status(StatusCode::FORBIDDEN))
            .method(Method::PATCH)
            .path("/traefikservices/web"),
    );
    let ended = run(shop.through(shop.proving("rollback"), &proxy));
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert_eq!(shop.record().await.phase, Phase::Abandoned);
    assert_eq!(shop.application().await.active, None);
    assert_eq!(shop.weights(), json!({"green": 100}));
    let again = run(shop.proving("rollback"));
    assert_eq!(again.code, Some(0), "{}", again.log());
    assert_eq!(shop.weights(), json!({"blue": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_cannot_be_read_stop_a_switch_before_it_begins() {
    let shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let proxy = FaultProxy::start(&shop.sandbox).await.unwrap();
    proxy.inject(
        FaultRule::every(Fault::Status(StatusCode::FORBIDDEN))
            .method(Method::GET)
            .path("/horizontalpodautoscalers"),
    );
    let ended = run(shop.through(shop.switch(), &proxy));
    assert_gate(&ended, "nothing was switched");
    assert_eq!(shop.weights(), json!({"blue": 100}));
    assert_eq!(run(shop.switch()).code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_deployment_that_fails_needs_a_person_and_makes_room_for_a_new_one() {
    let mut shop = Shop::open_with(FrontKind::Traefik, 1, 1).await;
    let patch = json!({"spec": {"weighted": {"services": [{"name": "web-green", "port": 80}]}}});
    shop.kubectl(&[
        "patch",
        "traefikservice/web",
        "--type",
        "merge",
        "-p",
        &patch.to_string(),
    ]);
    let wrong = shop.switch().input("expect-version", "v9.9.9");
    let ended = run(wrong.input("timeout", "10s"));
    assert_gate(&ended, "no other side was there to go back to");
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::NeedsPerson);
    assert_eq!(record.sides.from, None);
    assert_eq!(shop.weights(), json!({"green": 100}));
    shop.run_id = "2002".to_owned();
    let ended = run(shop.switch().input("new-deployment", "true"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
}
