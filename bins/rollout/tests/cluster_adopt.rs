//! `rollout adopt` and the first deployment into a slot beside the adopted side.

mod shop;

use std::collections::BTreeSet;

use shop::Shop;
use switchyard_harness::{expect_code, expect_said};

/// Pods behind the Service, by name.
fn endpoints(shop: &Shop) -> BTreeSet<String> {
    let slices = shop
        .namespace
        .kubectl(&[
            "get",
            "endpointslices",
            "-l",
            "kubernetes.io/service-name=web",
            "-o",
            "jsonpath={range .items[*].endpoints[*]}{.targetRef.name}{\"\\n\"}{end}",
        ])
        .expect("slices");
    slices.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn adopting_loses_nothing_and_the_first_slot_gets_no_traffic() {
    let shop = Shop::open("adopt").await;
    shop.namespace
        .apply(&shop.web("v1.0.0"))
        .expect("a live application");
    shop.namespace
        .apply("apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web}\nspec: {minAvailable: 1, selector: {matchLabels: {app: web}}}\n")
        .expect("with a budget");
    shop.wait_for("web");
    let before = endpoints(&shop);
    assert_eq!(before.len(), 2);
    let not_adopted = shop
        .apply_into_slot(&shop.web("v1.1.0"), "1")
        .input("front", "service/web")
        .run();
    expect_code(&not_adopted, 1);
    expect_said(
        &not_adopted,
        &[
            "service/web (selector app=web) selects the pods",
            "run `rollout adopt` first",
        ],
    );

    let planned = shop
        .recorded("adopt", "1")
        .input("workloads", "deployment/web")
        .input("plan", "true")
        .run();
    expect_code(&planned, 0);
    assert_eq!(planned.outputs["changed"], "2");
    let adopted = shop
        .recorded("adopt", "1")
        .input("workloads", "deployment/web")
        .input("version", "v1.0.0")
        .run();
    expect_code(&adopted, 0);
    expect_said(&adopted, &["service/web: 2 endpoints before, 2 after"]);
    assert_eq!(endpoints(&shop), before, "the same pods, none restarted");
    let hash = shop.get("service/web")["spec"]["selector"]["pod-template-hash"].clone();
    assert!(hash.is_string());
    let again = shop
        .recorded("adopt", "1")
        .input("workloads", "deployment/web")
        .run();
    expect_code(&again, 0);
    assert_eq!(again.outputs["changed"], "0");

    let applied = shop
        .apply_into_slot(&shop.web("v1.1.0"), "1")
        .input("front", "service/web")
        .run();
    expect_code(&applied, 0);
    assert_eq!(applied.outputs["slot"], "blue");
    assert_eq!(applied.outputs["previous-slot"], "unslotted");
    shop.wait_for("web-blue");
    assert_eq!(
        endpoints(&shop),
        before,
        "the first slot's pods get no live traffic"
    );
    let record = shop.record("1");
    assert_eq!(record["sides"]["from"]["side"], "unslotted");
    assert_eq!(
        record["sides"]["from"]["workloads"][0]["workload"]["name"],
        "web"
    );
    assert_eq!(record["sides"]["from"]["workloads"][0]["replicas"], 2);
}

#[tokio::test]
async fn a_deployment_in_the_middle_of_a_rollout_is_not_adopted() {
    let shop = Shop::open("adopt-rolling").await;
    shop.namespace.apply(&shop.web("v1.0.0")).expect("applied");
    shop.wait_for("web");
    shop.namespace
        .apply(&shop.web("never-ready"))
        .expect("applied");
    shop.namespace
        .kubectl(&[
            "wait",
            "deployment/web",
            "--for=jsonpath={.status.updatedReplicas}=1",
            "--timeout=30s",
        ])
        .expect("the rollout has begun");
    let ended = shop
        .recorded("adopt", "1")
        .input("workloads", "deployment/web")
        .run();
    expect_code(&ended, 1);
    expect_said(&ended, &["deployment/web is in the middle of a rollout"]);
    assert!(
        shop.get("service/web")["spec"]["selector"]
            .get("pod-template-hash")
            .is_none()
    );
    let other = shop
        .recorded("adopt", "1")
        .input("workloads", "statefulset/web")
        .run();
    expect_code(&other, 2);
    expect_said(&other, &["only Deployments can be adopted"]);
}
