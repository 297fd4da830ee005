//! `rollout restore`: the previous ReplicaSet, and a backup.

mod shop;

use shop::Shop;
use switchyard_harness::{expect_code, expect_said};

fn image(shop: &Shop) -> String {
    shop.get("deployment/web")["spec"]["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .expect("an image")
        .to_owned()
}

#[tokio::test]
async fn the_previous_replica_set_comes_back_as_kubectl_would_undo_it() {
    let shop = Shop::open("undo").await;
    expect_code(&shop.apply(&shop.web("v1.0.0")).run(), 0);
    shop.wait_for("web");
    let none = shop
        .step("restore")
        .input("workloads", "deployment/web")
        .run();
    expect_code(&none, 1);
    expect_said(&none, &["has no revision before the current one"]);
    expect_code(&shop.apply(&shop.web("v1.1.0")).run(), 0);
    shop.wait_for("web");
    let restored = shop
        .step("restore")
        .input("workloads", "deployment/web")
        .run();
    expect_code(&restored, 0);
    assert_eq!(restored.outputs["revision"], "1");
    assert!(image(&shop).ends_with(":v1.0.0"));
    let again = shop.apply(&shop.web("v1.1.0")).run();
    expect_code(&again, 0);
    assert!(
        image(&shop).ends_with(":v1.1.0"),
        "our own undo is no conflict for the next apply"
    );
    let unknown = shop
        .step("restore")
        .input("workloads", "deployment/web")
        .input("to-revision", "42")
        .run();
    expect_code(&unknown, 1);
    expect_said(
        &unknown,
        &["has no revision 42", "the cluster keeps revisions"],
    );
}

#[tokio::test]
async fn a_failed_deployment_in_place_is_taken_back_from_its_backup() {
    let shop = Shop::open("restore").await;
    let first = shop
        .apply(&shop.web("v1.0.0"))
        .input("application", "web")
        .variable("GITHUB_RUN_ID", "1")
        .input("environment", "production")
        .input("cluster", "sandbox")
        .run();
    expect_code(&first, 0);
    shop.wait_for("web");
    expect_code(&shop.recorded("finish", "1").run(), 0);

    let backup = shop.recorded("backup", "2").run();
    expect_code(&backup, 0);
    let file = std::fs::read_to_string(&backup.outputs["backup"]).expect("saved");
    let keep = tempfile::tempdir().expect("a folder");
    let path = keep.path().join("backup.yaml").display().to_string();
    std::fs::write(&path, &file).expect("kept as an artifact is");
    let broken = shop.web("crashing").replace("hello", "changed");
    let step = shop.recorded("apply", "2");
    let manifests = step.file("web.yaml", &broken);
    expect_code(&step.input("files", manifests).run(), 0);
    assert_eq!(
        shop.get("configmap/web-config")["data"]["GREETING"],
        "changed"
    );

    std::fs::write(&path, file.replace("hello", "forged")).expect("written");
    let forged = shop
        .recorded("restore", "2")
        .input("backup-file", &path)
        .run();
    expect_code(&forged, 1);
    expect_said(
        &forged,
        &["is not the backup that was made", "expected sha256:"],
    );

    std::fs::write(&path, &file).expect("written");
    let restored = shop
        .recorded("restore", "2")
        .input("backup-file", &path)
        .run();
    expect_code(&restored, 0);
    assert_eq!(restored.outputs["changed"], "2");
    assert!(image(&shop).ends_with(":v1.0.0"));
    assert_eq!(
        shop.get("configmap/web-config")["data"]["GREETING"],
        "hello"
    );
    assert_eq!(shop.record("2")["result"]["verdict"], "rolled-back");
    let status = shop.recorded("status", "3").run();
    expect_said(&status, &["live: side unslotted"]);
}

#[tokio::test]
async fn a_clean_up_that_knows_of_a_deployment_does_not_pass_for_done_without_its_record() {
    let shop = Shop::open("restore-none").await;
    let clean_up = || {
        shop.recorded("restore", "7")
            .input("only-under-way", "true")
    };
    let untold = clean_up().run();
    expect_code(&untold, 0);
    expect_said(&untold, &["nothing to do", "it was not taken back"]);
    let told = clean_up().input("expect-deployment", "true").run();
    expect_code(&told, 1);
    expect_said(&told, &["although one was begun", "hint: see that"]);
    let alone = shop
        .recorded("restore", "7")
        .input("workloads", "deployment/web")
        .input("expect-deployment", "true")
        .run();
    expect_code(&alone, 2);
    expect_said(
        &alone,
        &["`expect-deployment` needs input `only-under-way`"],
    );
}

#[tokio::test]
async fn a_backup_without_a_known_digest_is_not_restored() {
    let shop = Shop::open("no-digest").await;
    expect_code(&shop.apply(&shop.web("v1.0.0")).run(), 0);
    let backup = shop
        .step("backup")
        .input("workloads", "deployment/web")
        .run();
    expect_code(&backup, 0);
    let text = std::fs::read_to_string(&backup.outputs["backup"]).expect("saved");
    let step = shop.step("restore");
    let file = step.file("backup.yaml", &text);
    let ended = step.input("backup-file", &file).run();
    expect_code(&ended, 2);
    expect_said(&ended, &["no record tells the digest"]);
}

/// A StatefulSet or DaemonSet `kind` of the web application.
fn other_kind(shop: &Shop, kind: &str, version: &str) -> String {
    let image = shop.sandbox.image("web", version);
    let sized = if kind == "StatefulSet" {
        "\n  serviceName: web\n  replicas: 2"
    } else {
        ""
    };
    format!(
        r#"apiVersion: apps/v1
kind: {kind}
metadata: {{name: web, annotations: {{team: shop}}}}
spec:{sized}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}, annotations: {{of: {version}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {image}
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /health, port: 8080}}, periodSeconds: 1}}
"#
    )
}

async fn goes_back_a_revision(kind: &str) {
    let workload = format!("{}/web", kind.to_lowercase());
    let shop = Shop::open("undo-others").await;
    let roll_out = |version: &str| {
        expect_code(&shop.apply(&other_kind(&shop, kind, version)).run(), 0);
        let status = ["rollout", "status", &workload, "--timeout=60s"];
        shop.namespace.kubectl(&status).expect("rolled out");
    };
    let template = || shop.get(&workload)["spec"]["template"].clone();
    let undo = || shop.step("restore").input("workloads", &workload);
    roll_out("v1.0.0");
    let first = template();
    let none = undo().run();
    expect_code(&none, 1);
    expect_said(&none, &["has no revision before the current one"]);
    roll_out("v1.1.0");

    let planned = undo().input("plan", "true").run();
    expect_code(&planned, 0);
    expect_said(&planned, &[":v1.0.0", "nothing was changed"]);
    assert_ne!(template(), first);
    let restored = undo().run();
    expect_code(&restored, 0);
    assert_eq!(restored.outputs["revision"], "1");
    assert_eq!(restored.outputs["changed"], "1");
    assert_eq!(template(), first);
    assert_eq!(
        shop.get(&workload)["metadata"]["annotations"]["team"],
        "shop"
    );
    let pods = "jsonpath={.items[*].spec.containers[0].image}";
    let pods = ["get", "pods", "-l", "app=web", "-o", pods];
    let images = shop.namespace.kubectl(&pods).expect("pods");
    assert!(
        images.split(' ').all(|image| image.ends_with(":v1.0.0")),
        "it waits until the pods are back too: {images}"
    );

    // The revision that was left is the one before now; asked for by number it comes again.
    let forth = undo().input("to-revision", "2").run();
    expect_code(&forth, 0);
    assert!(
        template()["spec"]["containers"][0]["image"]
            .as_str()
            .is_some_and(|image| image.ends_with(":v1.1.0"))
    );
    let unknown = undo().input("to-revision", "42").run();
    expect_code(&unknown, 1);
    expect_said(&unknown, &["has no revision 42", "the cluster keeps"]);
    // Our own undo is no conflict for the next apply.
    roll_out("v1.2.0");
}

#[tokio::test]
async fn a_stateful_set_goes_back_to_the_revision_before() {
    goes_back_a_revision("StatefulSet").await;
}

#[tokio::test]
async fn a_daemon_set_goes_back_to_the_revision_before() {
    goes_back_a_revision("DaemonSet").await;
}
