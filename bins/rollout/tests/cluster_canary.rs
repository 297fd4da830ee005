//! A canary beside its main workload: made, promoted, undone, deleted. Traffic is moved as
//! `traffic-switch` leaves it.

mod shop;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shop::Shop;
use switchyard_harness::{Ended, Step, expect_code, expect_said};
use switchyard_record::{
    ClaimRequest, Freshness, Intent, ObjectRef, Phase, Session, SessionOptions, Stage, Target,
};
use switchyard_sandbox::User;

const OLD: &str = "v1.0.0";
const NEW: &str = "v1.1.0";

/// Live in place at the old version: two pods, and a queue worker without a Service.
async fn live(test: &str) -> Shop {
    let shop = Shop::open(test).await;
    let manifests = manifests(&shop, OLD);
    let step = shop.recorded("apply", "1").input("version", OLD);
    let file = step.file("manifests.yaml", &manifests);
    expect_code(&step.input("files", file).run(), 0);
    shop.wait_for("web");
    expect_code(&shop.recorded("finish", "1").run(), 0);
    shop
}

fn manifests(shop: &Shop, version: &str) -> String {
    let web = shop.web(version).replace("hello", version);
    let image = shop.sandbox.image("web", OLD);
    let worker = format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: mailer}}\nspec:\n  selector: {{matchLabels: {{app: mailer}}}}\n  template:\n    metadata: {{labels: {{app: mailer, of: {version}}}}}\n    spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: mailer, image: {image}}}]}}\n"
    );
    web + &worker + &shop.traefik()
}

fn step(shop: &Shop, command: &str, run: &str) -> Step {
    let step = shop.recorded(command, run).input("version", NEW);
    let file = step.file("manifests.yaml", &manifests(shop, NEW));
    step.input("files", file)
}

fn canary(shop: &Shop, run: &str) -> Step {
    step(shop, "canary", run)
}

fn promote(shop: &Shop, run: &str) -> Ended {
    step(shop, "promote", run).run()
}

fn route_to(shop: &Shop, weights: &[(&str, u32)]) {
    let services: Vec<Value> = weights
        .iter()
        .map(|(name, weight)| json!({"name": name, "port": 80, "weight": weight}))
        .collect();
    let patch = json!({"spec": {"weighted": {"services": services}}}).to_string();
    shop.namespace
        .kubectl(&[
            "patch",
            "traefikservice",
            "shop",
            "--type=merge",
            "-p",
            &patch,
        ])
        .expect("the route is patched");
}

async fn in_record(shop: &Shop, run: &str, change: impl AsyncFnOnce(&mut Session)) {
    let client = shop.sandbox.client(User::Admin).await;
    let mut session = Session::open(client, shop.id(run), SessionOptions::new("test"))
        .await
        .expect("the record opens");
    let request = ClaimRequest {
        intent: Intent::Rescue,
        attempt: 1,
        inputs: None,
        freshness: Freshness::OncePerRun,
    };
    let claimed = session.claim(request).await;
    claimed.expect("the run's deployment is active");
    change(&mut session).await;
    session.close().await;
}

/// The route and the record as a switch to this share leaves them.
async fn switched(shop: &Shop, run: &str, (stage, share): (u16, u8)) {
    let share_of_main = u32::from(100 - share);
    route_to(
        shop,
        &[("web", share_of_main), ("web-canary", u32::from(share))],
    );
    let namespace = shop.namespace.name().to_owned();
    let uid = shop.get("traefikservice/shop")["metadata"]["uid"].clone();
    in_record(shop, run, async |session| {
        let target = Target {
            object: ObjectRef::namespaced(
                "traefik.io/v1alpha1",
                "TraefikService",
                &namespace,
                "shop",
            ),
            uid: uid.as_str().expect("a uid").to_owned(),
            owned_paths: Vec::new(),
            prior: BTreeMap::new(),
        };
        let amended = session.amend(|record| {
            if record.targets.is_empty() {
                record.targets.push(target);
            }
            record.stages.push(Stage {
                index: stage,
                weight: share,
                hold_until: None,
            });
        });
        amended.await.expect("the record takes it");
        for phase in [Phase::Ready, Phase::Switching(stage), Phase::Holding(stage)] {
            session.advance(phase).await.expect("the phase follows");
        }
    })
    .await;
}

fn greeting(shop: &Shop, config: &str) -> Value {
    shop.get(&format!("configmap/{config}"))["data"]["GREETING"].clone()
}

fn image(shop: &Shop, deployment: &str) -> String {
    let live = shop.get(&format!("deployment/{deployment}"));
    let image = &live["spec"]["template"]["spec"]["containers"][0]["image"];
    image.as_str().expect("an image").to_owned()
}

#[tokio::test]
async fn a_canary_comes_up_beside_the_main_workload_and_takes_its_place_at_the_end() {
    let shop = live("canary").await;
    let before = shop.get("deployment/web");
    expect_code(
        &shop.recorded("backup", "2").input("slot", "canary").run(),
        0,
    );
    let planned = canary(&shop, "2").input("plan", "true").run();
    expect_code(&planned, 0);
    assert_eq!(shop.names("deployment"), ["mailer", "web"]);

    let made = canary(&shop, "2").run();
    expect_code(&made, 0);
    assert_eq!(made.outputs["slot"], "canary");
    assert_eq!(made.outputs["previous-slot"], "stable");
    shop.wait_for("web-canary");
    assert_eq!(shop.names("deployment"), ["mailer", "web", "web-canary"]);
    let copy = shop.get("deployment/web-canary");
    assert_eq!(copy["spec"]["replicas"], 1);
    assert_eq!(
        copy["spec"]["selector"]["matchLabels"],
        json!({"app": "web-canary", "switchyard.dev/slot": "canary"})
    );
    assert_eq!(shop.get("deployment/web")["spec"], before["spec"]);
    assert_eq!(greeting(&shop, "web-config"), OLD);
    assert_eq!(greeting(&shop, "web-config-canary"), NEW);
    let endpoints = shop.get("endpoints/web");
    let addresses = endpoints["subsets"][0]["addresses"].as_array();
    assert_eq!(
        addresses.map(Vec::len),
        Some(2),
        "the canary is not among them"
    );
    let record = shop.record("2");
    assert_eq!(record["chain"], "canary");
    assert_eq!(record["sides"]["from"]["side"], "stable");
    assert_eq!(record["sides"]["to"]["side"], "canary");
    expect_code(&canary(&shop, "2").run(), 0);

    switched(&shop, "2", (1, 10)).await;
    let early = promote(&shop, "2");
    expect_code(&early, 1);
    expect_said(&early, &["its canary does not take all of the traffic yet"]);
    switched(&shop, "2", (2, 100)).await;
    route_to(&shop, &[("web", 1), ("web-canary", 99)]);
    let by_hand = promote(&shop, "2");
    expect_code(&by_hand, 1);
    expect_said(
        &by_hand,
        &["still takes traffic (traefikservice/shop to service/web)"],
    );
    route_to(&shop, &[("web", 0), ("web-canary", 100)]);
    let undecided = shop.recorded("retire", "2").run();
    expect_code(&undecided, 1);
    expect_said(&undecided, &["still being tried"]);

    let promoted = promote(&shop, "2");
    expect_code(&promoted, 0);
    assert_eq!(image(&shop, "web"), shop.sandbox.image("web", NEW));
    assert_eq!(greeting(&shop, "web-config"), NEW);
    assert_eq!(
        shop.get("deployment/mailer")["spec"]["template"]["metadata"]["labels"]["of"],
        NEW
    );
    let weights = &shop.get("traefikservice/shop")["spec"]["weighted"]["services"];
    assert_eq!(weights[1]["weight"], 100, "the route stays: {weights}");
    assert_eq!(shop.record("2")["promotion"], "done");
    assert_eq!(shop.record("2")["phase"], "promoting");
    expect_code(&promote(&shop, "2"), 0);

    let in_use = shop.recorded("finish", "2").run();
    expect_code(&in_use, 1);
    route_to(&shop, &[("web", 100)]);
    in_record(&shop, "2", async |session| {
        let soaking = session.advance(Phase::Soaking).await;
        soaking.expect("the main workload takes the traffic");
    })
    .await;
    let main = shop.recorded("scale", "2").input("side", "old");
    let main = main.input("replicas", "0").run();
    expect_code(&main, 1);
    expect_said(&main, &["which is never retired"]);
    let retired = shop.recorded("retire", "2").run();
    expect_code(&retired, 0);
    assert_eq!(shop.names("deployment"), ["mailer", "web"]);
    assert!(!shop.names("service").contains(&"web-canary".to_owned()));
    assert!(
        !shop
            .names("configmap")
            .contains(&"web-config-canary".to_owned())
    );
    assert_eq!(shop.record("2")["phase"], "retired");
    expect_code(&shop.recorded("finish", "2").run(), 0);
    let application = shop.get("configmap/switchyard.web");
    let application = application["data"]["record.json"]
        .as_str()
        .expect("a record");
    let application: Value = serde_json::from_str(application).expect("JSON");
    assert_eq!(application["live"]["side"], "stable");
    assert_eq!(application["live"]["version"], NEW);
}

#[tokio::test]
async fn a_main_workload_that_was_updated_is_undone_behind_its_canary() {
    for with_backup in [true, false] {
        let shop = live("canary-undo").await;
        let backup = shop.recorded("backup", "2").input("slot", "canary").run();
        expect_code(&backup, 0);
        expect_code(&canary(&shop, "2").input("canary-pods", "2").run(), 0);
        shop.wait_for("web-canary");
        switched(&shop, "2", (1, 100)).await;
        expect_code(&promote(&shop, "2"), 0);
        let undo = || {
            let step = shop.recorded("undo", "2");
            if with_backup {
                step.input("backup-file", &backup.outputs["backup"]).run()
            } else {
                step.run()
            }
        };
        let forward = undo();
        expect_code(&forward, 1);
        expect_said(&forward, &["has not turned back"]);
        in_record(&shop, "2", async |session| {
            session
                .advance(Phase::Reverting)
                .await
                .expect("it goes back");
        })
        .await;
        route_to(&shop, &[("web", 50), ("web-canary", 50)]);
        expect_code(&undo(), 1);
        let needed = shop.recorded("retire", "2").run();
        expect_code(&needed, 1);
        expect_said(&needed, &["run `rollout undo`"]);
        route_to(&shop, &[("web", 0), ("web-canary", 100)]);
        let undone = undo();
        expect_code(&undone, 0);
        assert_eq!(image(&shop, "web"), shop.sandbox.image("web", OLD));
        let config = if with_backup { OLD } else { NEW };
        assert_eq!(greeting(&shop, "web-config"), config);
        let weights = &shop.get("traefikservice/shop")["spec"]["weighted"]["services"];
        assert_eq!(weights[1]["weight"], 100, "the route stays: {weights}");
        assert_eq!(shop.record("2")["promotion"], "undone");
        let again = undo();
        expect_code(&again, 0);
        assert_eq!(again.outputs["changed"], "0");
    }
}

#[tokio::test]
async fn a_promotion_that_is_killed_goes_on_and_may_be_undone_half_way() {
    let shop = live("canary-killed").await;
    expect_code(&canary(&shop, "2").run(), 0);
    shop.wait_for("web-canary");
    switched(&shop, "2", (1, 100)).await;
    for fault in ["plan:1", "mutation:2"] {
        let killed = step(&shop, "promote", "2")
            .variable("SWITCHYARD_FAULT_ABORT_AFTER", fault)
            .run();
        assert_eq!(killed.code, None, "{fault}: {}", killed.log());
        assert_eq!(shop.record("2")["promotion"], "begun");
    }
    expect_code(&promote(&shop, "2"), 0);
    assert_eq!(shop.record("2")["promotion"], "done");
    in_record(&shop, "2", async |session| {
        session
            .advance(Phase::Reverting)
            .await
            .expect("it goes back");
    })
    .await;
    let killed = shop.recorded("undo", "2");
    let killed = killed.variable("SWITCHYARD_FAULT_ABORT_AFTER", "mutation:1");
    assert_eq!(killed.run().code, None);
    expect_code(&shop.recorded("undo", "2").run(), 0);
    assert_eq!(image(&shop, "web"), shop.sandbox.image("web", OLD));
    assert_eq!(shop.record("2")["promotion"], "undone");
}

#[tokio::test]
async fn a_canary_that_nothing_could_be_compared_with_is_refused() {
    let shop = Shop::open("canary-alone").await;
    let alone = canary(&shop, "1").run();
    expect_code(&alone, 1);
    expect_said(
        &alone,
        &["would stand alone", "deploy the application in place first"],
    );
    assert!(shop.names("deployment").is_empty());
    let no_record = shop.step("canary").run();
    expect_code(&no_record, 2);
    expect_said(&no_record, &["input `application` is required"]);
    let file = shop.step("apply").input("slot", "canary").run();
    expect_code(&file, 2);
    expect_said(&file, &["use the command `canary`"]);
}

#[tokio::test]
async fn a_canary_that_takes_traffic_already_is_not_applied_over() {
    let shop = live("canary-busy").await;
    expect_code(&canary(&shop, "2").run(), 0);
    route_to(&shop, &[("web", 90), ("web-canary", 10)]);
    let before = shop.get("deployment/web-canary")["metadata"]["generation"].clone();
    let other = canary(&shop, "3").input("new-deployment", "true").run();
    expect_code(&other, 1);
    let plan = step(&shop, "canary", "3").input("plan", "true").run();
    expect_code(&plan, 1);
    expect_said(
        &plan,
        &["still takes traffic (traefikservice/shop to service/web-canary)"],
    );
    assert_eq!(
        shop.get("deployment/web-canary")["metadata"]["generation"],
        before
    );
}

#[tokio::test]
async fn a_service_that_would_send_the_canary_traffic_at_once_is_refused() {
    let shop = live("canary-selected").await;
    let greedy = "{apiVersion: v1, kind: Service, metadata: {name: greedy}, spec: {selector: {switchyard.dev/application: web}, ports: [{port: 80}]}}";
    shop.namespace.apply(greedy).expect("somebody's Service");
    let refused = canary(&shop, "2").run();
    expect_code(&refused, 1);
    expect_said(
        &refused,
        &[
            "service/greedy",
            "they would get live traffic as soon as they are ready",
        ],
    );
    assert_eq!(shop.names("deployment"), ["mailer", "web"]);
}
