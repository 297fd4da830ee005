//! A canary deployment behind a real Traefik, under load, with pods that end at SIGTERM without
//! draining: shares, promotion and every way back lose nothing, and the main workload never gets
//! traffic as the version that it is not.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::canary::{SIZE, assert_refused};
use support::{FrontKind, NEW, OLD, Shop, assert_nothing_lost, finish, run};
use switchyard_record::{Intent, Phase, Side, Verdict};

/// Requests a second through the front door.
const RATE: u32 = 100;

async fn is_promoted_without_loss(front: FrontKind) {
    let shop = Shop::open_canary(front).await;
    let load = shop.load(RATE);

    let ended = run(shop.stage("10"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["result"], "holding");
    assert_eq!(ended.outputs["weights"], r#"{"stable":90,"canary":10}"#);
    assert_eq!(ended.outputs["verified"], "front-door", "{}", ended.log());
    assert_eq!(shop.weights(), json!({"stable": 90, "canary": 10}));
    shop.stages(&[50, 100]);
    assert_eq!(shop.weights(), json!({"canary": 100}));
    assert_eq!(shop.record().await.phase, Phase::Holding(3));

    // Its pods end without draining, which nobody notices: it is quiet.
    shop.promote().await;
    let ended = run(shop.to_stable());
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["active"], "stable");
    assert_eq!(ended.outputs["previous"], "canary");
    assert_eq!(ended.outputs["weights"], r#"{"stable":100}"#);
    assert_eq!(ended.outputs["verified"], "front-door", "{}", ended.log());
    shop.scale_canary(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_nothing_lost(&load.stop().await.unwrap());

    let phases = [
        "switching(1)",
        "holding(1)",
        "switching(2)",
        "holding(2)",
        "switching(3)",
        "holding(3)",
        "promoting",
        "soaking",
    ];
    assert_eq!(shop.phases_since_tested().await, phases);
    let record = shop.record().await;
    let of_canary: Vec<_> = record
        .weights
        .iter()
        .map(|entry| entry.weights.get(&Side::Canary).copied().unwrap_or(0))
        .collect();
    assert_eq!(of_canary, [10, 50, 100, 0]);
    let live = shop.application().await.live.unwrap();
    assert_eq!(
        (live.side, live.version.as_deref()),
        (Side::Stable, Some(NEW))
    );
    // Run again, its steps find that they are done.
    for step in [shop.stage("10"), shop.stage("100"), shop.to_stable()] {
        let again = run(step);
        assert_eq!(again.code, Some(0), "{}", again.log());
        assert_eq!(again.outputs["changed"], "false", "{}", again.log());
    }
    let status = run(shop.step("status"));
    assert_eq!(status.code, Some(0), "{}", status.log());
    assert_eq!(status.outputs["active"], "stable", "{}", status.log());
    let told = "soaking of a deployment (canary), main workload updated";
    assert!(status.log().contains(told), "{}", status.log());

    // Only the end was missing when the runner died: nothing is taken back.
    let mut shop = shop;
    let mut session = shop.claim(Intent::Continue).await;
    session.advance(Phase::Quieting).await.unwrap();
    session.close().await;
    let rescued = run(shop.proving("rescue"));
    assert_eq!(rescued.code, Some(0), "{}", rescued.log());
    assert_eq!(rescued.outputs["result"], "concluded");
    assert_eq!(rescued.outputs["active"], "stable");
    shop.run_id = "2002".to_owned();
    for plan in ["true", "false"] {
        let late = run(shop.proving("rollback").input("plan", plan));
        assert_refused(&late, 1, &["canary taken away", "rollout restore"]);
    }
    assert_eq!(shop.weights(), json!({"stable": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_behind_a_traefik_service_is_promoted_without_a_lost_request() {
    is_promoted_without_loss(FrontKind::Traefik).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_behind_an_http_route_is_promoted_without_a_lost_request() {
    is_promoted_without_loss(FrontKind::Gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_behind_a_canary_ingress_is_promoted_without_a_lost_request() {
    is_promoted_without_loss(FrontKind::Nginx).await;
}

/// Gives the canary these shares and takes them back, from a main workload that somebody shrank.
async fn goes_back_without_loss(front: FrontKind, weights: &[u32]) {
    let shop = Shop::open_canary(front).await;
    let load = shop.load(RATE);
    shop.stages(weights);
    let share = weights.last().unwrap();
    if *share == 100 {
        // Idle, so even its last pods cost nothing when they end.
        shop.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    }
    let ended = run(shop
        .proving("rollback")
        .input("scale-new-down", "true")
        .input("reason", "the canary sings wrong"));
    assert_eq!(ended.code, Some(0), "{share} %: {}", ended.log());
    assert_eq!(ended.outputs["result"], "rolled-back");
    assert_eq!(ended.outputs["weights"], r#"{"stable":100}"#);
    shop.wait_pods("canary", 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_nothing_lost(&load.stop().await.unwrap());
    assert_eq!(shop.main_size(), SIZE.to_string());
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::RolledBack);
    assert_eq!(record.result.unwrap().verdict, Verdict::RolledBack);
    assert_eq!(shop.application().await.active, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_goes_back_from_its_first_share() {
    goes_back_without_loss(FrontKind::Traefik, &[10]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_goes_back_from_half_of_the_traffic() {
    goes_back_without_loss(FrontKind::Gateway, &[10, 50]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_behind_a_virtual_service_takes_all_and_goes_back_without_a_lost_request() {
    goes_back_without_loss(FrontKind::Istio, &[10, 100]).await;
}

/// The real controller of autoscalers acts without metrics where a size lies outside of its bounds.
#[tokio::test(flavor = "multi_thread")]
async fn a_main_workload_that_its_autoscaler_shrank_has_its_pods_before_it_has_traffic() {
    let shop = Shop::open_canary_with(FrontKind::Traefik, SIZE, SIZE).await;
    let autoscaler = |min: u32, max: u32| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": min, "maxReplicas": max,
            },
        })
        .to_string()
    };
    let load = shop.load(RATE);
    let ended = run(shop.stage("100"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    // It carries nothing, and its autoscaler takes its pods away.
    shop.apply(&autoscaler(1, 1));
    shop.wait_main(1);
    shop.apply(&autoscaler(1, 5));
    assert_eq!(shop.main_size(), "1");
    let ended = run(shop
        .proving("rollback")
        .input("reason", "the canary sings wrong"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["weights"], r#"{"stable":100}"#);
    assert_eq!(shop.main_size(), SIZE.to_string());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_nothing_lost(&load.stop().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_with_all_of_the_traffic_goes_back_to_a_main_workload_that_was_shrunk() {
    goes_back_without_loss(FrontKind::Traefik, &[50, 100]).await;
    goes_back_without_loss(FrontKind::Gateway, &[100]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_updated_main_workload_gets_no_traffic_before_it_is_undone() {
    let shop = Shop::open_canary(FrontKind::Traefik).await;
    let load = shop.load(RATE);
    shop.stages(&[50, 100]);
    shop.begin_promotion().await;
    // Killed in the middle: what main runs is not known.
    shop.update_main(NEW);
    let through = run(shop.proving("rescue"));
    assert_eq!(through.code, Some(0), "{}", through.log());
    assert_eq!(through.outputs["result"], "through-canary");
    assert!(through.log().contains("rollout undo"), "{}", through.log());
    assert_eq!(shop.weights(), json!({"canary": 100}));
    assert_eq!(shop.record().await.phase, Phase::Reverting);
    let refused = run(shop.stage("100").input("to", "auto"));
    assert_refused(&refused, 1, &["on its way back", "rollout undo"]);

    shop.undo().await;
    let ended = run(shop.proving("rescue").input("scale-new-down", "true"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["result"], "rolled-back");
    shop.wait_pods("canary", 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_nothing_lost(&load.stop().await.unwrap());
    assert_eq!(shop.weights(), json!({"stable": 100}));
    assert_eq!(shop.record().await.phase, Phase::RolledBack);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_version_goes_back_through_its_canary_which_comes_to_size_first() {
    let shop = Shop::open_canary(FrontKind::Gateway).await;
    let load = shop.load(RATE);
    shop.stages(&[100]);
    shop.promote().await;
    let ended = run(shop.to_stable());
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    shop.scale_canary(0);

    let mut ordered = shop;
    ordered.run_id = "2002".to_owned();
    let through = run(ordered.proving("rollback"));
    assert_eq!(through.code, Some(0), "{}", through.log());
    assert_eq!(through.outputs["result"], "through-canary");
    assert_eq!(ordered.weights(), json!({"canary": 100}));
    ordered.wait_pods("canary", SIZE);
    let mut shop = ordered;
    shop.run_id = "1001".to_owned();
    shop.undo().await;
    shop.run_id = "2002".to_owned();
    let ended = run(shop.proving("rollback"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["result"], "rolled-back");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let old_before = load.answers_of(OLD);
    let report = load.stop().await.unwrap();
    assert_nothing_lost(&report);
    assert!(old_before > 0);
    assert_eq!(shop.weights(), json!({"stable": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_fails_its_proof_leaves_everything_on_the_canary() {
    let shop = Shop::open_canary_with(FrontKind::Gateway, 2, 2).await;
    let load = shop.load(RATE);
    let ended = run(shop.stage("100"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    shop.promote().await;
    let wrong = shop.to_stable().input("expect-version", "v9.9.9");
    let ended = run(wrong
        .input("timeout", "10s")
        .input("scale-new-down", "true"));
    let parts = [
        "does not answer as it should",
        "on the canary",
        "rollout undo",
    ];
    assert_refused(&ended, 1, &parts);
    assert_eq!(ended.outputs["result"], "through-canary");
    assert_eq!(ended.outputs["weights"], r#"{"canary":100}"#);
    assert_nothing_lost(&load.stop().await.unwrap());
    assert_eq!(shop.weights(), json!({"canary": 100}));
    assert_eq!(shop.record().await.phase, Phase::Reverting);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_canary_an_updated_main_workload_keeps_the_traffic() {
    let shop = Shop::open_canary_with(FrontKind::Traefik, 1, 1).await;
    let ended = run(shop.stage("100"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    shop.promote().await;
    assert_eq!(run(shop.to_stable()).code, Some(0));
    shop.kubectl(&["delete", "deployment/web-canary"]);
    for command in ["rollback", "rescue"] {
        let refused = run(shop.proving(command));
        assert_refused(&refused, 1, &["web-canary` is gone", "rollout restore"]);
        assert_eq!(shop.weights(), json!({"stable": 100}));
        assert_eq!(shop.record().await.phase, Phase::Soaking);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_done_yet_is_refused_with_the_step_that_is_missing() {
    let shop = Shop::open_canary_with(FrontKind::Traefik, 3, 1).await;
    let too_few = run(shop.stage("100"));
    assert_refused(&too_few, 1, &["1 of 3 needed pods", "nothing was switched"]);
    let ended = run(shop.stage("10"));
    assert_eq!(ended.code, Some(0), "one pod is enough: {}", ended.log());
    let early = run(shop.to_stable());
    assert_refused(&early, 1, &["version before", "give the canary 100 %"]);
    let partly = run(shop.to_stable().input("weight", "50"));
    assert_refused(&partly, 2, &["at once"]);
    let slot = run(shop.stage("50").input("to", "green"));
    assert_refused(&slot, 2, &["has no such side"]);
    let binary = run(shop.stage("100").input("targets", "service/web"));
    assert_refused(&binary, 2, &["`service/web`", "weighted"]);
    assert_eq!(shop.weights(), json!({"stable": 90, "canary": 10}));
    shop.stages(&[100]);
    let early = run(shop.to_stable());
    assert_refused(&early, 1, &["run `rollout promote` first"]);
    shop.begin_promotion().await;
    let early = run(shop.to_stable());
    assert_refused(&early, 1, &["is not done", "rollout promote"]);
    assert_eq!(shop.weights(), json!({"canary": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_another_deployment_left_with_traffic_is_given_no_share() {
    let shop = Shop::open_canary_with(FrontKind::Traefik, 1, 1).await;
    let services = json!([{"name": "web-canary", "port": 80, "weight": 100}]);
    let patch = json!({"spec": {"weighted": {"services": services}}}).to_string();
    shop.kubectl(&["patch", "traefikservice/web", "--type=merge", "-p", &patch]);
    let ended = run(shop.stage("10"));
    assert_refused(
        &ended,
        1,
        &["to the canary already", "nothing was switched"],
    );
    assert_eq!(shop.weights(), json!({"canary": 100}));
    assert_eq!(shop.record().await.phase, Phase::Tested);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_of_another_run_stops_a_stage_that_is_held() {
    let mut shop = Shop::open_canary(FrontKind::Traefik).await;
    shop.scale_canary(2);
    let load = shop.load(RATE);
    let step = shop
        .proving("switch")
        .input("targets", "traefik/web")
        .input("steps", "10,50")
        .input("hold", "90s");
    let running = shop.wait_phase_of(step.start(), Phase::Holding(1)).await;
    shop.run_id = "2002".to_owned();
    let ordered = run(shop
        .proving("rollback")
        .variable("GITHUB_ACTOR", "kim")
        .input("reason", "customers complain"));
    assert_eq!(ordered.code, Some(0), "{}", ordered.log());
    assert_eq!(ordered.outputs["active"], "stable");
    let stopped = finish(running);
    assert_refused(&stopped, 1, &["kim (customers complain)"]);
    assert_nothing_lost(&load.stop().await.unwrap());
    shop.run_id = "1001".to_owned();
    assert_eq!(shop.record().await.phase, Phase::RolledBack);
    assert_eq!(shop.weights(), json!({"stable": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_loses_its_pods_while_it_is_held_loses_its_traffic_at_once() {
    for front in [FrontKind::Traefik, FrontKind::Gateway] {
        let shop = Shop::open_canary(front).await;
        let step = shop.stage("10").input("hold", "10m");
        let started = shop.wait_phase_of(step.start(), Phase::Holding(1)).await;
        let vanished = Instant::now();
        shop.scale("canary", 0);
        shop.wait("the way back", || {
            let live = shop.front_object().to_string();
            !live.contains(r#""name":"web-canary""#)
        });
        let taken = vanished.elapsed();
        let ended = finish(started);
        assert_refused(
            &ended,
            1,
            &["lost all of its endpoints", "is back where it was"],
        );
        assert!(
            taken < Duration::from_secs(20),
            "{taken:?}: {}",
            ended.log()
        );
        assert_eq!(shop.weights(), json!({"stable": 100}));
        assert_eq!(shop.record().await.phase, Phase::RolledBack);
        shop.wait_answers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_workload_that_loses_its_pods_while_it_has_a_share_leaves_it_to_its_canary() {
    let shop = Shop::open_canary_with(FrontKind::Traefik, 2, 2).await;
    let load = shop.load(RATE);
    let step = shop.stage("50").input("hold", "10m");
    let started = shop.wait_phase_of(step.start(), Phase::Holding(1)).await;
    let vanished = Instant::now();
    shop.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    shop.wait("all of it on the canary", || {
        shop.weights() == json!({"canary": 100})
    });
    let taken = vanished.elapsed();
    let ended = finish(started);
    assert_refused(
        &ended,
        1,
        &[
            "side `stable` has traffic and lost all of its endpoints",
            "all traffic is on the other side",
        ],
    );
    assert_eq!(ended.outputs["result"], "sheltered");
    assert_eq!(ended.outputs["weights"], r#"{"canary":100}"#);
    let limit = Duration::from_secs(20);
    assert!(taken < limit, "{taken:?}: {}", ended.log());
    // The proxies have confirmed it, so whatever was lost is lost by now.
    let seen = load.stop().await.unwrap();
    assert!(seen.lost < seen.succeeded, "{}", seen.summary());

    let load = shop.load(RATE);
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::Holding(1));
    let confirmed = &record.weights.last().unwrap().weights;
    assert_eq!(confirmed.get(&Side::Canary), Some(&100));
    // The way back brings the main workload to its size before it sends it anything.
    let rescued = run(shop.proving("rescue"));
    assert_eq!(rescued.code, Some(0), "{}", rescued.log());
    assert_eq!(shop.weights(), json!({"stable": 100}));
    assert_eq!(shop.main_size(), "2");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_nothing_lost(&load.stop().await.unwrap());
    assert_eq!(shop.record().await.phase, Phase::RolledBack);
}

/// Between the stages no switch waits: the watch says no, and what follows is the way back.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_to_a_dead_main_workload_shelters_on_the_canary_while_it_comes_up() {
    let shop = Shop::open_canary_with(FrontKind::Traefik, 2, 2).await;
    let ended = run(shop.stage("50"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    shop.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    shop.wait("main has no pods", || {
        let pods = ["get", "pods", "-l", "app=web", "-o", "name"];
        shop.kubectl(&pods).is_empty()
    });
    let rescued = run(shop.proving("rescue"));
    assert_eq!(rescued.code, Some(0), "{}", rescued.log());
    let said = "all of the traffic goes to side `canary` until side `stable` has pods again";
    assert!(rescued.log().contains(said), "{}", rescued.log());
    assert_eq!(rescued.outputs["result"], "rolled-back");
    assert_eq!(shop.weights(), json!({"stable": 100}));
    assert_eq!(shop.main_size(), "2");
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::RolledBack);
    let operations = record.journal.iter().map(|entry| entry.operation.as_str());
    let operations: Vec<_> = operations.collect();
    let place = |op| operations.iter().rposition(|known| *known == op);
    assert!(place("route settle") < place("scale"), "{operations:?}");
    assert!(place("scale") < place("route return"), "{operations:?}");
    shop.wait_answers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_too_small_for_all_of_the_traffic_does_not_get_it_from_a_dead_main_workload() {
    let shop = Shop::open_canary_with(FrontKind::Gateway, 2, 1).await;
    let step = shop.stage("50").input("hold", "10m");
    let started = shop.wait_phase_of(step.start(), Phase::Holding(1)).await;
    shop.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    let ended = finish(started);
    assert_refused(
        &ended,
        1,
        &[
            "lost all of its endpoints, and side `canary` has 1 of 2 pods",
            "is back where it was",
        ],
    );
    assert_eq!(shop.weights(), json!({"stable": 100}));
    assert_eq!(shop.main_size(), "2");
    shop.wait_answers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_somebody_else_has_written_are_left_to_them() {
    let shop = Shop::open_canary(FrontKind::Traefik).await;
    let ended = run(shop.stage("10"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let services = json!([
        {"name": "web", "port": 80, "weight": 70},
        {"name": "web-canary", "port": 80, "weight": 30},
    ]);
    let patch = json!({"spec": {"weighted": {"services": services}}}).to_string();
    shop.kubectl(&["patch", "traefikservice/web", "--type=merge", "-p", &patch]);
    shop.scale_canary(2);
    let ended = run(shop.stage("50"));
    assert_refused(&ended, 1, &["was changed by", "web 70, web-canary 30"]);
    assert_eq!(shop.weights(), json!({"stable": 70, "canary": 30}));
    assert_eq!(shop.record().await.phase, Phase::NeedsPerson);
    // Put right again, a person's order brings it back.
    let patch = patch
        .replace("70", "90")
        .replace("\"weight\":30", "\"weight\":10");
    shop.kubectl(&["patch", "traefikservice/web", "--type=merge", "-p", &patch]);
    let ended = run(shop.proving("rollback"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(shop.weights(), json!({"stable": 100}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_names_the_other_writer_takes_its_weights_back_without_loss() {
    let shop = Shop::open_canary(FrontKind::Traefik).await;
    let load = shop.load(RATE);
    shop.stages(&[50]);
    let services = json!([
        {"name": "web", "port": 80, "weight": 20},
        {"name": "web-canary", "port": 80, "weight": 80},
    ]);
    let patch = json!({"spec": {"weighted": {"services": services}}}).to_string();
    let write = ["patch", "traefikservice/web", "--type=merge", "-p", &patch];
    shop.kubectl(&[&write[..], &["--field-manager", "dashboard"]].concat());
    let rollback = || shop.proving("rollback");
    let ended = run(rollback().input("overrule", "argocd-controller"));
    assert_refused(
        &ended,
        1,
        &["was changed by `dashboard`", "`overrule` names"],
    );
    assert_eq!(shop.weights(), json!({"stable": 20, "canary": 80}));
    let ended = run(rollback().input("overrule", "argocd-controller, dashboard"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let said = "was changed by `dashboard`; it is overwritten, as ordered";
    assert!(ended.log().contains(said), "{}", ended.log());
    assert_eq!(shop.weights(), json!({"stable": 100}));
    assert_eq!(shop.record().await.phase, Phase::RolledBack);
    assert_nothing_lost(&load.stop().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_a_stage_and_of_the_takeover_shows_both_sides_and_changes_nothing() {
    let shop = Shop::open_canary_with(FrontKind::Traefik, 1, 1).await;
    let before = shop.front_object();
    let ended = run(shop.stage("10").input("plan", "true"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    for part in [
        " to canary, from stable",
        "web 90, web-canary 10",
        "phase  holding(1)",
    ] {
        assert!(
            ended.log().contains(part),
            "no `{part}` in:\n{}",
            ended.log()
        );
    }
    assert_eq!(shop.front_object(), before);
    let ended = run(shop.stage("100"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    shop.promote().await;
    let before = shop.front_object();
    let ended = run(shop.to_stable().input("plan", "true"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    for part in [
        " to stable, from canary",
        "web 100, web-canary 0",
        "phase  soaking",
    ] {
        assert!(
            ended.log().contains(part),
            "no `{part}` in:\n{}",
            ended.log()
        );
    }
    let back = run(shop.proving("rollback").input("plan", "true"));
    assert_eq!(back.code, Some(0), "{}", back.log());
    for part in ["through the canary", "all to canary"] {
        assert!(back.log().contains(part), "no `{part}` in:\n{}", back.log());
    }
    assert_eq!(shop.front_object(), before);
}
