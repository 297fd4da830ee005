//! `rollout apply` on a real cluster, by the least-privilege deployer.

mod shop;

use shop::Shop;
use switchyard_harness::{expect_code, expect_said};

#[tokio::test]
async fn a_manifest_is_applied_in_place_and_a_second_time_changes_nothing() {
    let shop = Shop::open("apply-in-place").await;
    let ended = shop.apply(&shop.web("v1.0.0")).run();
    expect_code(&ended, 0);
    assert_eq!(ended.outputs["applied"], "3");
    assert_eq!(ended.outputs["changed"], "3");
    assert_eq!(ended.outputs["slot"], "none");
    let again = shop.apply(&shop.web("v1.0.0")).run();
    expect_code(&again, 0);
    assert_eq!(again.outputs["changed"], "0");
    let next = shop
        .apply(&shop.web("v1.0.0"))
        .input(
            "images",
            format!(
                "{}=:v1.1.0",
                shop.sandbox.image("web", "v1.0.0").replace(":v1.0.0", "")
            ),
        )
        .run();
    expect_code(&next, 0);
    assert_eq!(next.outputs["changed"], "1");
    expect_said(
        &next,
        &[
            "deployment/web: changed",
            "service/web: unchanged",
            ":v1.1.0",
        ],
    );
}

/// What was applied is applied: a step that fails over its summary would have it undone.
#[tokio::test]
async fn a_summary_that_cannot_be_written_is_warned_of_and_fails_nothing() {
    let shop = Shop::open("apply-summary").await;
    let step = shop.apply(&shop.web("v1.0.0"));
    let ended = step.variable("GITHUB_STEP_SUMMARY", "/").run();
    expect_code(&ended, 0);
    assert_eq!(ended.outputs["applied"], "3");
    expect_said(&ended, &["the summary could not be written"]);
}

#[tokio::test]
async fn auto_takes_blue_at_first_then_green_and_applying_the_front_again_moves_nothing() {
    let shop = Shop::open("apply-slots").await;
    let manifests = shop.web("v1.0.0") + &shop.traefik();
    let first = shop.apply(&manifests).input("slot", "auto").run();
    expect_code(&first, 0);
    assert_eq!(first.outputs["slot"], "blue");
    assert_eq!(
        shop.get("traefikservice/shop")["spec"]["weighted"]["services"][0]["name"],
        "web-blue"
    );
    assert_eq!(
        shop.names("configmap"),
        ["kube-root-ca.crt", "web-config-blue"]
    );
    let front = shop.get("traefikservice/shop");
    let second = shop
        .apply(&manifests.replace("v1.0.0", "v1.1.0"))
        .input("slot", "auto")
        .run();
    expect_code(&second, 0);
    assert_eq!(second.outputs["slot"], "green");
    assert_eq!(shop.names("deployment"), ["web-blue", "web-green"]);
    assert_eq!(shop.get("traefikservice/shop")["spec"], front["spec"]);
    let onto_live = shop.apply(&manifests).input("slot", "blue").run();
    expect_code(&onto_live, 1);
    expect_said(
        &onto_live,
        &[
            "slot `blue` takes live traffic (by traefikservice/shop)",
            "slot: auto",
        ],
    );
}

#[tokio::test]
async fn a_worker_is_left_until_after_the_switch() {
    let shop = Shop::open("after-switch").await;
    let worker = shop
        .web("v1.0.0")
        .split("---\n")
        .nth(2)
        .expect("the Deployment")
        .replace("web}", "worker}")
        .replace(
            "readinessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 1}",
            "",
        );
    let worker = worker.replace(
        "configMapRef: {name: worker}",
        "configMapRef: {name: web-config}",
    );
    let manifests = format!("{}---\n{worker}{}", shop.web("v1.0.0"), shop.traefik());
    let step = |stage: &str| {
        shop.apply(&manifests)
            .input("slot", "blue")
            .input("after-switch", "deployment/worker")
            .input("stage", stage)
            .run()
    };
    expect_code(&step("before-switch"), 0);
    assert_eq!(shop.names("deployment"), ["web-blue"]);
    let shop_after = shop
        .apply(&manifests)
        .input("slot", "green")
        .input("after-switch", "deployment/worker")
        .input("stage", "after-switch")
        .run();
    expect_code(&shop_after, 0);
    assert_eq!(shop.names("deployment"), ["web-blue", "worker"]);
    assert_eq!(
        shop.names("configmap"),
        ["kube-root-ca.crt", "web-config", "web-config-blue"],
        "the worker reads its own copy"
    );
}

const ROUTE: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop}\nspec:\n  parentRefs: [{name: front-door, namespace: switchyard-sandbox}]\n  hostnames: [HOSTNAME]\n  rules:\n  - matches: [{path: {type: PathPrefix, value: /}}]\n    backendRefs: [{name: web, port: 80}]\n";

#[tokio::test]
async fn a_route_and_a_front_service_keep_the_traffic_that_a_switch_gave_them() {
    let shop = Shop::open("fronts").await;
    let route = ROUTE.replace("HOSTNAME", &format!("{}.example", shop.namespace.name()));
    let manifests = shop.web("v1.0.0") + &route;
    let apply = |slot: &str, manifests: &str| {
        let ended = shop
            .apply(manifests)
            .input("slot", slot)
            .input("front", "service/web")
            .run();
        expect_code(&ended, 0);
        ended
    };
    apply("auto", &manifests);
    let backends = || shop.get("httproute/shop")["spec"]["rules"][0]["backendRefs"].clone();
    assert_eq!(backends()[0]["name"], "web-blue");
    // As a switch leaves them: half the traffic on each side of the route, the Service on green.
    shop.namespace
        .kubectl(&["patch", "httproute/shop", "--field-manager=switchyard",
            "--type=json", "-p", "[{\"op\":\"replace\",\"path\":\"/spec/rules/0/backendRefs\",\"value\":[{\"name\":\"web-blue\",\"port\":80,\"weight\":0},{\"name\":\"web-green\",\"port\":80,\"weight\":100}]}]"])
        .expect("patched");
    shop.namespace
        .kubectl(&[
            "patch",
            "service/web",
            "--field-manager=switchyard",
            "-p",
            "{\"spec\":{\"selector\":{\"switchyard.dev/slot\":\"green\"}}}",
        ])
        .expect("patched");
    let (routed, selector) = (
        backends(),
        shop.get("service/web")["spec"]["selector"].clone(),
    );
    // A change of the fronts themselves (a timeout, a second port) is applied; their traffic stays.
    let changed = manifests
        .replace("ports: [{name: http, port: 80, targetPort: 8080}]", "ports: [{name: http, port: 80, targetPort: 8080}, {name: extra, port: 81, targetPort: 8081}]")
        .replace("    backendRefs:", "    timeouts: {request: 9s}\n    backendRefs:");
    let ended = apply("auto", &changed);
    assert_eq!(ended.outputs["slot"], "blue", "green takes the traffic now");
    assert_eq!(backends(), routed);
    let front = shop.get("service/web");
    assert_eq!(front["spec"]["selector"], selector);
    assert_eq!(front["spec"]["ports"][1]["port"], 81);
    assert_eq!(
        shop.get("httproute/shop")["spec"]["rules"][0]["timeouts"]["request"],
        "9s"
    );
}
