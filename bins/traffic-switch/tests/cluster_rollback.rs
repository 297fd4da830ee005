//! What a way back may be taken for: never a side that holds something else by now, never a part
//! of what was switched, and never a success for what was not done.

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{FrontKind, Shop, assert_nothing_lost, finish, run};
use switchyard_harness::Ended;
use switchyard_record::{ObjectRef, Outcome, Phase, PlannedMutation, Target};
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
    session.close().await;

    let ended = finish(rollback);
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["deployment-id"], deployment.to_string());
    assert_eq!(shop.weights(), json!({"blue": 100}));
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
