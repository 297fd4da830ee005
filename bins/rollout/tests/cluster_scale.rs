//! `rollout scale` on a real cluster: plain workloads, autoscalers, waits.

mod shop;

use shop::Shop;
use switchyard_harness::{expect_code, expect_said};

const AUTOSCALER: &str = "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: web}\nspec:\n  minReplicas: 1\n  maxReplicas: 4\n  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}\n  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]\n";

#[tokio::test]
async fn named_workloads_are_scaled_and_waited_for() {
    let shop = Shop::open("scale").await;
    expect_code(&shop.apply(&shop.web("v1.0.0")).run(), 0);
    let scale = |replicas: &str| {
        shop.step("scale")
            .input("workloads", "deployment/web")
            .input("replicas", replicas)
            .run()
    };
    let up = scale("3");
    expect_code(&up, 0);
    expect_said(&up, &["deployment/web: replicas 2 → 3"]);
    assert_eq!(shop.get("deployment/web")["status"]["readyReplicas"], 3);
    let again = scale("3");
    expect_code(&again, 0);
    assert_eq!(again.outputs["changed"], "0");
    let live = scale("0");
    expect_code(&live, 1);
    expect_said(
        &live,
        &["deployment/web takes live traffic (through service/web)"],
    );
    let missing = shop
        .step("scale")
        .input("workloads", "deployment/wep")
        .input("replicas", "1")
        .run();
    expect_code(&missing, 3);
    expect_said(&missing, &["deployments.apps `", "/wep` does not exist"]);
}

#[tokio::test]
async fn an_autoscalers_floor_is_raised_and_its_replicas_are_left_alone() {
    let shop = Shop::open("scale-hpa").await;
    let manifests = shop.web("v1.0.0") + AUTOSCALER;
    expect_code(&shop.apply(&manifests).run(), 0);
    shop.wait_for("web");
    let again = shop.apply(&manifests).run();
    expect_code(&again, 0);
    assert_eq!(again.outputs["changed"], "0");
    assert_eq!(shop.get("deployment/web")["spec"]["replicas"], 2);
    let raised = shop
        .step("scale")
        .input("workloads", "deployment/web")
        .input("replicas", "3")
        .input("wait", "false")
        .run();
    expect_code(&raised, 0);
    expect_said(&raised, &["minReplicas of autoscaler web 1 → 3"]);
    assert_eq!(shop.get("hpa/web")["spec"]["minReplicas"], 3);
    let too_many = shop
        .step("scale")
        .input("workloads", "deployment/web")
        .input("replicas", "9")
        .run();
    expect_code(&too_many, 1);
    expect_said(&too_many, &["more than the 4 that autoscaler `web` allows"]);
}

#[tokio::test]
async fn a_slots_autoscaler_gets_the_live_sides_size_as_its_floor() {
    let shop = Shop::open("slot-hpa").await;
    let manifests = shop.web("v1.0.0") + AUTOSCALER + &shop.traefik();
    expect_code(&shop.apply(&manifests).input("slot", "auto").run(), 0);
    shop.namespace
        .kubectl(&["scale", "deployment/web-blue", "--replicas=3"])
        .expect("scaled");
    shop.wait_for("web-blue");
    let second = shop.apply(&manifests).input("slot", "auto").run();
    expect_code(&second, 0);
    expect_said(
        &second,
        &[
            "horizontalpodautoscaler/web-green gets minReplicas 3 instead of 1 until the deployment is finished",
        ],
    );
    let autoscaler = shop.get("hpa/web-green");
    assert_eq!(autoscaler["spec"]["minReplicas"], 3);
    assert_eq!(autoscaler["spec"]["scaleTargetRef"]["name"], "web-green");
    assert_eq!(shop.get("deployment/web-green")["spec"]["replicas"], 3);
}

#[tokio::test]
async fn a_cancelled_wait_ends_in_order_and_frees_the_lease() {
    let shop = Shop::open("cancel").await;
    shop.namespace
        .apply(&shop.web("never-ready"))
        .expect("applied");
    let mut started = shop
        .recorded("scale", "1")
        .input("workloads", "deployment/web")
        .input("replicas", "3")
        .start();
    shop.namespace
        .kubectl(&[
            "wait",
            "deployment/web",
            "--for=jsonpath={.spec.replicas}=3",
            "--timeout=30s",
        ])
        .expect("it was scaled and waits");
    let _ = started.child();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(started.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signalled");
    let ended = started.finish();
    expect_code(&ended, 143);
    let lease = shop.get("lease/switchyard-web");
    assert!(
        lease["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .is_empty(),
        "{lease}"
    );
}
