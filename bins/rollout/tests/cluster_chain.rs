//! The steps of a blue-green chain that this program does, against one record.

mod shop;

use shop::Shop;
use switchyard_harness::{expect_code, expect_said};

#[tokio::test]
async fn two_deployments_go_through_backup_apply_annotate_scale_and_finish() {
    let shop = Shop::open("chain").await;
    let manifests = shop.web("v1.0.0") + &shop.traefik();
    let backup = shop.recorded("backup", "1").input("slot", "auto").run();
    expect_code(&backup, 0);
    expect_said(&backup, &["nothing is live yet"]);
    let first = shop
        .apply_into_slot(&manifests, "1")
        .input("version", "v1.0.0")
        .run();
    expect_code(&first, 0);
    assert_eq!(first.outputs["slot"], "blue");
    assert_eq!(shop.record("1")["phase"], "applied");
    assert_eq!(shop.record("1")["sides"]["to"]["side"], "blue");
    shop.wait_for("web-blue");
    shop.switch_to("blue", "1").await;
    let finished = shop.recorded("finish", "1").run();
    expect_code(&finished, 0);
    assert_eq!(shop.record("1")["result"]["verdict"], "succeeded");
    assert!(finished.summary.contains("gantt"), "{}", finished.summary);

    let backup = shop.recorded("backup", "2").input("slot", "auto").run();
    expect_code(&backup, 0);
    let saved = std::fs::read_to_string(&backup.outputs["backup"]).expect("the file is there");
    assert!(
        saved.contains("name: web-blue") && !saved.contains("kind: Secret"),
        "{saved}"
    );
    assert_eq!(backup.outputs["previous-slot"], "blue");
    shop.namespace
        .kubectl(&["scale", "deployment/web-blue", "--replicas=3"])
        .expect("somebody scales the live side by hand");
    shop.wait_for("web-blue");
    let second = shop
        .apply_into_slot(&manifests.replace("v1.0.0", "v1.1.0"), "2")
        .input("version", "v1.1.0")
        .run();
    expect_code(&second, 0);
    assert_eq!(second.outputs["slot"], "green");
    assert_eq!(second.outputs["previous-slot"], "blue");
    expect_said(
        &second,
        &["deployment/web-green gets 3 replicas, as many as the live side has ready (manifest: 2)"],
    );
    let annotated = shop.recorded("annotate", "2").run();
    expect_code(&annotated, 0);
    assert_eq!(annotated.outputs["revision"], "1");
    let green = shop.get("deployment/web-green");
    let annotations = &green["metadata"]["annotations"];
    assert_eq!(annotations["switchyard.dev/version"], "v1.1.0");
    assert_eq!(
        annotations["kubernetes.io/change-cause"],
        "v1.1.0, commit 0123456789ab, by dana, https://github.com/example/shop/actions/runs/2"
    );
    shop.wait_for("web-green");
    let too_early = shop
        .recorded("scale", "2")
        .input("side", "old")
        .input("replicas", "0")
        .run();
    expect_code(&too_early, 1);
    expect_said(
        &too_early,
        &["takes live traffic (through traefikservice/shop)"],
    );
    shop.switch_to("green", "2").await;
    let scaled = shop
        .recorded("scale", "2")
        .input("side", "old")
        .input("replicas", "0")
        .run();
    expect_code(&scaled, 0);
    assert_eq!(shop.get("deployment/web-blue")["spec"]["replicas"], 0);
    assert_eq!(shop.record("2")["phase"], "retired");
    let finished = shop.recorded("finish", "2").run();
    expect_code(&finished, 0);
    let status = shop.recorded("status", "3").run();
    expect_code(&status, 0);
    expect_said(
        &status,
        &["live: side green, version v1.1.0", "traefikservice/shop"],
    );
}

/// Where both Ingresses send, and the canary's weight.
fn standing(shop: &Shop) -> [String; 3] {
    let (main, canary) = (shop.get("ingress/shop"), shop.get("ingress/shop-next"));
    let service = "/spec/rules/0/http/paths/0/backend/service/name";
    let weight = "/metadata/annotations/nginx.ingress.kubernetes.io~1canary-weight";
    [(&main, service), (&canary, service), (&canary, weight)].map(|(object, pointer)| {
        object
            .pointer(pointer)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    })
}

#[tokio::test]
async fn slots_behind_two_ingresses_keep_their_places_the_weight_and_a_pod() {
    let shop = Shop::open("ingresses").await;
    let manifests = shop.web("v1.0.0") + &shop.ingresses();
    let first = shop.apply_into_slot(&manifests, "1").run();
    expect_code(&first, 0);
    assert_eq!(first.outputs["slot"], "blue");
    assert_eq!(standing(&shop), ["web-blue", "web-green", "0"]);
    shop.wait_for("web-blue");
    shop.soak("1").await;
    expect_code(&shop.recorded("finish", "1").run(), 0);

    let second = shop.apply_into_slot(&manifests, "2").run();
    expect_code(&second, 0);
    assert_eq!(second.outputs["slot"], "green");
    shop.wait_for("web-green");
    let retire = |run: &str| {
        let step = shop.recorded("scale", run).input("side", "old");
        step.input("replicas", "0").run()
    };
    let too_early = retire("2");
    expect_code(&too_early, 1);
    expect_said(&too_early, &["takes live traffic (through ingress/shop)"]);
    let all = r#"{"metadata":{"annotations":{"nginx.ingress.kubernetes.io/canary-weight":"100"}}}"#;
    shop.namespace
        .kubectl(&["patch", "ingress", "shop-next", "--type=merge", "-p", all])
        .expect("the weight is patched");
    shop.soak("2").await;
    let retired = retire("2");
    expect_code(&retired, 0);
    expect_said(
        &retired,
        &[
            "deployment/web-blue keeps one pod: ingress/shop sends to it beside the canary ingress/shop-next",
        ],
    );
    assert_eq!(shop.get("deployment/web-blue")["spec"]["replicas"], 1);
    expect_code(&shop.recorded("finish", "2").run(), 0);
    let asked_for = shop
        .step("scale")
        .input("workloads", "deployment/web-blue")
        .input("replicas", "0")
        .run();
    expect_code(&asked_for, 1);
    expect_said(&asked_for, &["deployment/web-blue may not be without pods"]);

    let third = shop.apply_into_slot(&manifests, "3").run();
    expect_code(&third, 0);
    assert_eq!(third.outputs["slot"], "blue");
    assert_eq!(standing(&shop), ["web-blue", "web-green", "100"]);
}

#[tokio::test]
async fn a_re_run_of_last_weeks_run_is_refused_and_changes_nothing() {
    let shop = Shop::open("last-week").await;
    let manifests = shop.web("v1.0.0") + &shop.traefik();
    expect_code(&shop.apply_into_slot(&manifests, "1").run(), 0);
    shop.wait_for("web-blue");
    shop.switch_to("blue", "1").await;
    expect_code(&shop.recorded("finish", "1").run(), 0);
    let before = shop.get("deployment/web-blue")["metadata"]["resourceVersion"].clone();
    let again = shop
        .apply_into_slot(&manifests, "1")
        .variable("GITHUB_RUN_ATTEMPT", "2")
        .run();
    expect_code(&again, 1);
    expect_said(
        &again,
        &[
            "of this run has ended: succeeded",
            "start a new workflow run",
        ],
    );
    assert_eq!(shop.names("deployment"), ["web-blue"]);
    assert_eq!(
        shop.get("deployment/web-blue")["metadata"]["resourceVersion"],
        before
    );
}

#[tokio::test]
async fn of_two_runs_at_once_one_goes_on_and_the_other_is_told_who() {
    let shop = Shop::open("two-runs").await;
    let manifests = shop.web("v1.0.0") + &shop.traefik();
    let started = ["1", "2"].map(|run| shop.apply_into_slot(&manifests, run).start());
    let mut codes: Vec<Option<i32>> = Vec::new();
    let mut said = String::new();
    for step in started {
        let ended = step.finish();
        codes.push(ended.code);
        said.push_str(&ended.stdout);
    }
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)], "{said}");
    assert!(said.contains("is claimed by deployment"), "{said}");
    assert_eq!(shop.names("deployment"), ["web-blue"]);
}

#[tokio::test]
async fn a_run_that_is_killed_in_mid_apply_goes_on_into_the_same_slot() {
    let shop = Shop::open("killed").await;
    let manifests = shop.web("v1.0.0") + &shop.traefik();
    for fault in ["plan:2", "mutation:2"] {
        let killed = shop
            .apply_into_slot(&manifests, "1")
            .variable("SWITCHYARD_FAULT_ABORT_AFTER", fault)
            .run();
        assert_eq!(killed.code, None, "{fault}: {}", killed.stdout);
    }
    let ended = shop
        .apply_into_slot(&manifests, "1")
        .variable("GITHUB_RUN_ATTEMPT", "2")
        .run();
    expect_code(&ended, 0);
    assert_eq!(ended.outputs["slot"], "blue");
    let record = shop.record("1");
    assert_eq!(record["phase"], "applied");
    let open: Vec<_> = record["journal"]
        .as_array()
        .expect("a journal")
        .iter()
        .filter(|entry| entry["outcome"] == "pending")
        .collect();
    assert!(open.is_empty(), "{open:?}");
    let other_inputs = shop
        .apply_into_slot(&manifests.replace("v1.0.0", "v1.1.0"), "1")
        .run();
    expect_code(&other_inputs, 1);
    expect_said(&other_inputs, &["are not those deployment"]);
}

#[tokio::test]
async fn a_notice_is_remembered_in_the_record_and_told_to_the_next_attempt() {
    let shop = Shop::open("notice").await;
    let remember = |run: &str, notices: &str| {
        shop.recorded("remember", run)
            .input("notices", notices)
            .run()
    };
    let too_early = remember("1", "slack=C0DEPLOYS01/1790000000.000100");
    expect_code(&too_early, 1);
    expect_said(&too_early, &["run 1 has no deployment of `web`"]);

    let backup = shop.recorded("backup", "1").input("slot", "auto").run();
    expect_code(&backup, 0);
    assert_eq!(backup.outputs["notices"], "{}");
    let remembered = remember("1", "slack=C0DEPLOYS01/1790000000.000100");
    expect_code(&remembered, 0);
    assert_eq!(
        remembered.outputs["deployment-id"],
        shop.id("1").to_string()
    );
    let again = shop.recorded("backup", "1").input("slot", "auto").run();
    expect_code(&again, 0);
    assert_eq!(
        again.outputs["notices"],
        r#"{"slack":"C0DEPLOYS01/1790000000.000100"}"#
    );
    for wrong in ["slack", "slack=two words", ""] {
        expect_code(&remember("1", wrong), 2);
    }
}
