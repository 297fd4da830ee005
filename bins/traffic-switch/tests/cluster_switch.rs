//! A switch and the way back on every provider's real data plane, under load, with pods that end
//! at SIGTERM without draining: nothing is lost, and what is reported is so.

mod support;

use std::time::Duration;

use support::{FrontKind, NEW, OLD, Shop, assert_nothing_lost, run};
use switchyard_harness::Ended;
use switchyard_record::{Phase, Side, Verdict};

/// Requests a second through the front door.
const RATE: u32 = 100;

fn counted(ended: &Ended, output: &str) -> u64 {
    ended.outputs[output].parse().unwrap()
}

async fn loses_nothing_there_and_back(front: FrontKind) {
    let shop = Shop::open(front).await;
    let prior = shop.front_object()["spec"].clone();
    let load = shop.load(RATE);

    let ended = run(shop.switch());
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["active"], "green");
    assert_eq!(ended.outputs["previous"], "blue");
    assert_eq!(ended.outputs["weights"], r#"{"green":100}"#);
    assert_eq!(ended.outputs["verified"], "front-door", "{}", ended.log());
    assert!(counted(&ended, "probes") > 0, "{}", ended.log());
    assert_no_probe_was_refused(&ended);
    assert_eq!(ended.outputs["changed"], "true");
    let bound: f64 = ended.outputs["loss-bound"].parse().unwrap();
    assert!(bound > 0.0 && bound < 0.2, "{bound}");
    assert_eq!(shop.record().await.phase, Phase::Soaking);

    // The switch says that blue is quiet; its pods end at once when they are told to.
    shop.scale("blue", 0);
    shop.wait_pods("blue", 0);
    let old_answers = load.answers_of(OLD);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        load.answers_of(OLD),
        old_answers,
        "the old version still answers"
    );
    assert!(load.answers_of(NEW) > 0);

    // Back onto a side that was shrunk to nothing: it comes up first.
    let ended = run(shop
        .proving("rollback")
        .input("scale-new-down", "true")
        .input("reason", "v1.1.0 is wrong"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["result"], "rolled-back");
    assert_eq!(ended.outputs["active"], "blue", "{}", ended.log());
    shop.wait_pods("green", 0);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let report = load.stop().await.unwrap();
    assert_nothing_lost(&report);
    let live = shop.front_object();
    assert_same_traffic(front, &live["spec"], &prior);
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::RolledBack);
    let result = record.result.unwrap();
    assert_eq!(result.verdict, Verdict::RolledBack);
    assert_eq!(result.cause.as_deref(), Some("v1.1.0 is wrong"));
    assert!(record.journal.iter().all(|entry| !entry.is_open()));
    assert!(shop.application().await.active.is_none());
}

/// Every probe was answered well, or was late: a probe counts as lost after five seconds, which a starved
/// machine can take. A late request that was lost is told by the load, which waits longer.
fn assert_no_probe_was_refused(ended: &Ended) {
    let evidence: serde_json::Value = serde_json::from_str(&ended.outputs["evidence"]).unwrap();
    let lost = evidence["answers"]["lost"].as_object().unwrap();
    let refused: Vec<_> = lost
        .keys()
        .filter(|seen| !seen.starts_with("no answer from"))
        .collect();
    assert!(refused.is_empty(), "{refused:?}\n{}", ended.log());
}

/// The routes as before, weights spelled out or not.
fn assert_same_traffic(front: FrontKind, live: &serde_json::Value, prior: &serde_json::Value) {
    match front {
        FrontKind::Service => assert_eq!(live["selector"], prior["selector"]),
        FrontKind::Traefik => {
            let services = live["weighted"]["services"].as_array().unwrap();
            assert_eq!(services.len(), 1, "{services:?}");
            assert_eq!(services[0]["name"], "web-blue");
        }
        FrontKind::Gateway => {
            let references = live["rules"][0]["backendRefs"].as_array().unwrap();
            assert_eq!(references.len(), 1, "{references:?}");
            assert_eq!(references[0]["name"], "web-blue");
        }
        FrontKind::Istio | FrontKind::IstioSubsets => {
            let route = live["http"][0]["route"].as_array().unwrap();
            assert_eq!(route.len(), 1, "{route:?}");
            assert_eq!(
                route[0]["destination"],
                prior["http"][0]["route"][0]["destination"]
            );
        }
        FrontKind::Nginx => assert_eq!(live, prior),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_switched_and_back_without_a_lost_request() {
    loses_nothing_there_and_back(FrontKind::Service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traefik_service_is_switched_and_back_without_a_lost_request() {
    loses_nothing_there_and_back(FrontKind::Traefik).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_route_is_switched_and_back_without_a_lost_request() {
    loses_nothing_there_and_back(FrontKind::Gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_service_is_switched_and_back_without_a_lost_request() {
    loses_nothing_there_and_back(FrontKind::Istio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weighted_targets_go_through_steps_and_hold_in_between() {
    for front in FrontKind::ALL
        .into_iter()
        .filter(|front| front.is_weighted())
    {
        let shop = Shop::open(front).await;
        let load = shop.load(RATE);
        let ended = run(shop
            .switch()
            .input("steps", "10,50,100")
            .input("hold", "2s"));
        assert_eq!(ended.code, Some(0), "{front:?}: {}", ended.log());
        assert_nothing_lost(&load.stop().await.unwrap());
        let record = shop.record().await;
        let phases: Vec<_> = record
            .phases
            .iter()
            .map(|entry| entry.name.to_string())
            .collect();
        assert_eq!(
            phases,
            [
                "claimed",
                "switching(1)",
                "holding(1)",
                "switching(2)",
                "holding(2)",
                "switching(3)",
                "soaking"
            ]
        );
        let confirmed: Vec<_> = record
            .weights
            .iter()
            .map(|entry| entry.weights.get(&Side::GREEN).copied())
            .collect();
        assert_eq!(confirmed, [Some(10), Some(50), Some(100)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_given_call_by_call_go_on_from_the_call_before_and_a_rerun_is_a_no_op() {
    let shop = Shop::open(FrontKind::Traefik).await;
    let call = |weight: &str| run(shop.switch().input("weight", weight));
    let ended = call("10");
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["result"], "holding");
    assert_eq!(ended.outputs["weights"], r#"{"blue":90,"green":10}"#);
    let again = call("10");
    assert_eq!(
        (again.code, again.outputs["changed"].as_str()),
        (Some(0), "false"),
        "{}",
        again.log()
    );
    assert_eq!(call("100").code, Some(0));
    assert_eq!(shop.weights(), serde_json::json!({"green": 100}));
    let late = call("100");
    assert_eq!(
        (late.code, late.outputs["changed"].as_str()),
        (Some(0), "false"),
        "{}",
        late.log()
    );
    assert_eq!(late.outputs["active"], "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_the_patches_and_changes_nothing() {
    for front in FrontKind::ALL {
        let shop = Shop::open_with(front, 1, 1).await;
        let before = shop.front_object();
        let ended = run(shop.switch().input("plan", "true"));
        assert_eq!(ended.code, Some(0), "{}", ended.log());
        assert_eq!(ended.outputs["result"], "planned");
        assert!(ended.log().contains(r#""op":"test""#), "{}", ended.log());
        if front == FrontKind::Traefik {
            let lines = ended.log();
            let plan: Vec<_> = lines
                .lines()
                .skip_while(|line| !line.starts_with("check"))
                .take_while(|line| !line.starts_with("::"))
                .collect();
            insta::assert_snapshot!(plan.join("\n"), @r#"
            check  new side has ready, routable pods for 100 %
            phase  switching(1)
            write  traefik/web (prepare): web-blue 100, web-green 0
                     {"op":"test","path":"/spec/weighted/services/0","value":{"name":"web-blue","port":80}}
                     {"op":"add","path":"/spec/weighted/services/0/weight","value":100}
                     {"op":"add","path":"/spec/weighted/services/-","value":{"name":"web-green","port":80,"weight":0}}
            check  every proxy knows both sides
            write  traefik/web (switch): web-blue 0, web-green 100
                     {"op":"test","path":"/spec/weighted/services/0","value":{"name":"web-blue","port":80,"weight":100}}
                     {"op":"test","path":"/spec/weighted/services/1","value":{"name":"web-green","port":80,"weight":0}}
                     {"op":"add","path":"/spec/weighted/services/0/weight","value":0}
                     {"op":"add","path":"/spec/weighted/services/1/weight","value":100}
            check  every proxy sends 100 % to the new side
            check  front door answers with 100 % of the new version, none lost
            check  old side is quiet
            write  traefik/web (settle): web-green 100
                     {"op":"test","path":"/spec/weighted/services/0","value":{"name":"web-blue","port":80,"weight":0}}
                     {"op":"test","path":"/spec/weighted/services/1","value":{"name":"web-green","port":80,"weight":100}}
                     {"op":"remove","path":"/spec/weighted/services/0"}
            check  every proxy sends 100 % to the new side
            phase  soaking
            "#);
        }
        assert_eq!(shop.front_object(), before);
        assert!(
            shop.kubectl(&["get", "configmaps,leases", "-o", "name"])
                .lines()
                .all(|line| !line.contains("switchyard"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_deployment_is_undone_by_one_of_its_own_that_says_so() {
    let mut shop = Shop::open(FrontKind::Traefik).await;
    assert_eq!(run(shop.switch()).code, Some(0));
    shop.succeed().await;
    shop.scale("blue", 1);
    shop.wait_pods("blue", 1);
    let load = shop.load(RATE);
    shop.run_id = "2002".to_owned();
    let ended = run(shop.proving("rollback").input("scale-new-down", "true"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["active"], "blue");
    shop.wait_pods("green", 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_nothing_lost(&load.stop().await.unwrap());
    let record = shop.record().await;
    assert_eq!(record.reverts, Some(shop.id_of("1001")));
    assert_eq!(record.phase, Phase::Succeeded);
    assert_eq!(
        shop.kubectl(&[
            "get",
            "deployment/web-blue",
            "-o",
            "jsonpath={.spec.replicas}"
        ]),
        "3"
    );
    let live = shop.application().await.live.unwrap();
    assert_eq!(live.side, Side::BLUE);
    // Once more there is nothing to undo: the run has had its rollback.
    let again = run(shop.proving("rollback"));
    assert_eq!(again.outputs["result"], "nothing-to-do", "{}", again.log());
}
