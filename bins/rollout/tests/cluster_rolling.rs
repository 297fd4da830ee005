//! A rolling update behind a front door under load: a good one, one whose first pod is bad, and one whose
//! process dies on its way.

mod shop;

use serde_json::{Value, json};
use shop::Shop;
use switchyard_harness::{Ended, Step, expect_code, expect_said};
use switchyard_sandbox::load::{KeepAlive, LoadPlan, RunningLoad};

const OLD: &str = "v1.0.0";
const NEW: &str = "v1.1.0";

/// The shop's manifests: three pods that are lost when they are told to end while proxies still send to
/// them, behind Traefik.
fn manifests(shop: &Shop, version: &str) -> String {
    let host = host(shop);
    let route = format!(
        "---\napiVersion: traefik.io/v1alpha1\nkind: IngressRoute\nmetadata: {{name: web}}\nspec:\n  entryPoints: [web]\n  routes: [{{kind: Rule, match: Host(`{host}`), services: [{{name: web, port: 80}}]}}]\n"
    );
    let budget = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web}\nspec: {minAvailable: 2, selector: {matchLabels: {app: web}}}\n";
    let web = shop.web(version).replace("hello", version);
    web.replace("replicas: 2", "replicas: 3") + budget + &route
}

fn host(shop: &Shop) -> String {
    format!("{}.example.com", shop.namespace.name())
}

fn roll(shop: &Shop, run: &str, version: &str) -> Step {
    let step = shop.recorded("roll", run).input("version", version);
    let file = step.file("manifests.yaml", &manifests(shop, version));
    step.input("files", file)
        .input("pre-stop-sleep", "5s")
        .input("max-unavailable", "0")
}

/// Runs a step without blocking the load beside it.
async fn ended(step: Step) -> Ended {
    tokio::task::spawn_blocking(move || step.run())
        .await
        .expect("the step")
}

/// Live at the old version, with pods that serve on after they are told to end.
async fn live(test: &str) -> Shop {
    let shop = Shop::open(test).await;
    let first = ended(roll(&shop, "1", OLD)).await;
    expect_code(&first, 0);
    assert_eq!(first.outputs["result"], "updated");
    expect_code(&shop.recorded("finish", "1").run(), 0);
    shop
}

fn load(shop: &Shop) -> RunningLoad {
    let url = format!("{}/", shop.sandbox.front_door());
    let plan = LoadPlan::new(&url, 100).expect("a plan");
    let plan = plan.host(&host(shop)).expect("a host");
    plan.keep_alive(KeepAlive::Off).start()
}

/// Waits until the route is there: until then everything is answered with 404.
async fn until_routed(shop: &Shop) {
    let url = format!("{}/", shop.sandbox.front_door());
    for _ in 0..120 {
        let plan = LoadPlan::new(&url, 20).expect("a plan");
        let plan = plan.host(&host(shop)).expect("a host");
        let report = plan
            .run_for(std::time::Duration::from_millis(500))
            .await
            .expect("a report");
        if report.lost == 0 {
            return;
        }
    }
    panic!("the front door never led to the shop");
}

fn web(shop: &Shop) -> Value {
    shop.get("deployment/web")
}

fn assert_is_live(shop: &Shop, version: &str) {
    let live = web(shop);
    let container = &live["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], shop.sandbox.image("web", version));
    assert_eq!(live["spec"]["paused"], Value::Null);
    assert_eq!(live["status"]["readyReplicas"], 3);
    assert_eq!(live["status"]["updatedReplicas"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_update_replaces_every_pod_and_one_whose_first_pod_is_bad_is_undone_and_neither_loses_a_request()
 {
    let shop = live("rolling").await;
    let container = &web(&shop)["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["lifecycle"]["preStop"],
        json!({"sleep": {"seconds": 5}})
    );
    assert_eq!(
        web(&shop)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
        6
    );
    until_routed(&shop).await;
    let plan = ended(roll(&shop, "2", NEW).input("plan", "true")).await;
    expect_code(&plan, 0);
    assert_eq!(plan.outputs["result"], "planned");
    expect_said(
        &plan,
        &[
            "deployment/web: 3 pods, at most 4 at once (maxSurge 25%), at least 3 available (maxUnavailable 0)",
            "poddisruptionbudget/web: 2 of 3 pods have to be there, 1 may be evicted",
            "preStop: `web` sleeps 5s",
        ],
    );
    assert_is_live(&shop, OLD);

    let running = load(&shop);
    let good = ended(roll(&shop, "2", NEW)).await;
    let report = running.stop().await.expect("a report");
    expect_code(&good, 0);
    assert_eq!(report.lost, 0, "{}\n{}", report.summary(), good.log());
    assert!(
        report.by_version[OLD] > 0 && report.by_version[NEW] > 0,
        "{}",
        report.summary()
    );
    expect_said(&good, &["3 of 3 pods run the new template"]);
    assert_is_live(&shop, NEW);
    assert_eq!(shop.record("2")["phase"], "ready");
    expect_code(&ended(roll(&shop, "2", NEW)).await, 0);
    expect_code(&shop.recorded("finish", "2").run(), 0);

    let backup = shop.recorded("backup", "3").run();
    expect_code(&backup, 0);
    let running = load(&shop);
    let bad = roll_crashing(&shop, "3").input("backup-file", &backup.outputs["backup"]);
    let bad = ended(bad).await;
    let report = running.stop().await.expect("a report");
    expect_code(&bad, 1);
    assert_eq!(report.lost, 0, "{}\n{}", report.summary(), bad.log());
    assert_eq!(
        report.by_version.keys().collect::<Vec<_>>(),
        [NEW],
        "{}",
        report.summary()
    );
    expect_said(
        &bad,
        &[
            "deployment/web: paused, no further new pod comes",
            "container `web`: ",
            "the version before is back, with all of its pods ready",
        ],
    );
    assert!(!bad.log().contains("progress deadline"), "{}", bad.log());
    assert_eq!(bad.outputs["result"], "undone");
    assert!(bad.outputs["reason"].starts_with("deployment/web: pod `web-"));
    assert_is_live(&shop, NEW);
    let greeting = &shop.get("configmap/web-config")["data"]["GREETING"];
    assert_eq!(greeting, NEW, "what is no pod came back too");
    let record = shop.record("3");
    assert_eq!(record["result"]["verdict"], "rolled-back");
    let operations: Vec<&str> = record["journal"]
        .as_array()
        .expect("a journal")
        .iter()
        .filter_map(|entry| entry["op"].as_str())
        .collect();
    assert!(operations.contains(&"pause"), "{operations:?}");
    let after = shop
        .recorded("restore", "3")
        .input("only-under-way", "true");
    let after = after.run();
    expect_code(&after, 0);
    expect_said(&after, &["nothing to do"]);
}

/// An update whose pods end as soon as they begin.
fn roll_crashing(shop: &Shop, run: &str) -> Step {
    let image = shop.sandbox.image("crashing", NEW);
    let text = manifests(shop, "broken").replace(&shop.sandbox.image("web", "broken"), &image);
    let step = shop.recorded("roll", run).input("version", "broken");
    let file = step.file("manifests.yaml", &text);
    step.input("files", file)
        .input("pre-stop-sleep", "5s")
        .input("max-unavailable", "0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_is_killed_goes_on_or_is_brought_back_from_where_it_was() {
    let shop = live("rolling-killed").await;
    // Killed in the middle of a good update, the next attempt watches it to its end.
    let killed = roll(&shop, "2", NEW).variable("SWITCHYARD_FAULT_ABORT_AFTER", "mutation:2");
    assert_eq!(ended(killed).await.code, None);
    let again = roll(&shop, "2", NEW).variable("GITHUB_RUN_ATTEMPT", "2");
    let again = ended(again).await;
    expect_code(&again, 0);
    expect_said(&again, &["3 of 3 pods run the new template"]);
    expect_code(&shop.recorded("finish", "2").run(), 0);

    // Killed between the pause and the way back, by revision: what cleans up ends the pause too.
    let mutations = shop.record("2")["journal"].as_array().map_or(0, Vec::len);
    let fault = format!("mutation:{}", mutations + 1);
    let killed = roll_crashing(&shop, "3").variable("SWITCHYARD_FAULT_ABORT_AFTER", &fault);
    let killed = ended(killed).await;
    assert_eq!(killed.code, None, "{}", killed.log());
    assert_eq!(web(&shop)["spec"]["paused"], true, "{}", killed.log());
    assert_eq!(shop.record("3")["phase"], "reverting");
    let restored = shop
        .recorded("restore", "3")
        .input("workloads", "deployment/web")
        .run();
    expect_code(&restored, 0);
    assert_is_live(&shop, NEW);
    assert_eq!(shop.record("3")["result"]["verdict"], "rolled-back");

    // By order of a person what is live goes back once more; an order while an update is under way takes that
    // one back. Neither knows more than the record.
    let status = shop.recorded("status", "4").run();
    assert_eq!(status.outputs["chain"], "in-place");
    let reverted = ended(shop.recorded("revert", "4")).await;
    expect_code(&reverted, 0);
    assert_is_live(&shop, OLD);
    let record = shop.record("4");
    assert_eq!(record["kind"], "rollback");
    assert_eq!(record["result"]["verdict"], "succeeded");
    let killed = roll(&shop, "5", NEW).variable("SWITCHYARD_FAULT_ABORT_AFTER", "settle:2");
    assert_eq!(ended(killed).await.code, None);
    let reverted = ended(
        shop.recorded("revert", "6")
            .input("reason", "the till is broken"),
    )
    .await;
    expect_code(&reverted, 0);
    assert_is_live(&shop, OLD);
    let result = &shop.record("5")["result"];
    assert_eq!(result["verdict"], "rolled-back");
    assert_eq!(result["cause"], "the till is broken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_never_gets_ready_and_a_first_deployment_that_fails_are_not_waited_for() {
    let shop = live("rolling-slow").await;
    let text = manifests(&shop, NEW).replace("path: /health", "path: /nowhere");
    let step = shop.recorded("roll", "2").input("version", NEW);
    let file = step.file("manifests.yaml", &text);
    let step = step
        .input("files", file)
        .input("pre-stop-sleep", "5s")
        .input("max-unavailable", "0")
        .input("ready-within", "3s");
    let slow = ended(step).await;
    expect_code(&slow, 1);
    expect_said(
        &slow,
        &["has run for 3s without being ready; the version before is back"],
    );
    assert_is_live(&shop, OLD);

    let paused = shop
        .namespace
        .kubectl(&["rollout", "pause", "deployment/web"]);
    paused.expect("somebody pauses it");
    let refused = ended(roll(&shop, "3", NEW)).await;
    expect_code(&refused, 1);
    expect_said(&refused, &["is paused, so nothing would be rolled out"]);

    let empty = Shop::open("rolling-first").await;
    let first = ended(roll_crashing(&empty, "1")).await;
    expect_code(&first, 1);
    expect_said(&first, &["it is paused: nothing was live before it"]);
    assert_eq!(first.outputs["result"], "paused");
    assert_eq!(web(&empty)["spec"]["paused"], true);
    assert_eq!(empty.record("1")["phase"], "needs_person");
}
