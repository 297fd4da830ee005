//! An application that was there before its first slot: pinned by its pods' template hash, it
//! gives its traffic to a slot and gets it back.

mod support;

use serde_json::json;
use support::{FrontKind, NEW, OLD, Shop, assert_nothing_lost, run};
use switchyard_record::{Phase, Side};

/// Puts an unslotted `web` in the place of blue, and all traffic on it, pinned.
fn adopt(shop: &Shop) -> String {
    let image = shop.sandbox.image("web", OLD);
    shop.apply(&format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web, tier: front}}}}
  template:
    metadata: {{labels: {{app: web, tier: front}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: {image}
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /health, port: http}}, periodSeconds: 1}}
"#
    ));
    shop.kubectl(&["rollout", "status", "deployment/web"]);
    shop.scale("blue", 0);
    shop.wait_pods("blue", 0);
    let hash = shop.kubectl(&[
        "get",
        "pods",
        "-l",
        "tier=front",
        "-o",
        r"jsonpath={.items[0].metadata.labels.pod-template-hash}",
    ]);
    let selector = match shop.front {
        FrontKind::Service => {
            r#"{"app":"web","switchyard.dev/slot":null,"pod-template-hash":"HASH"}"#
        }
        FrontKind::Traefik
        | FrontKind::Gateway
        | FrontKind::Istio
        | FrontKind::IstioSubsets
        | FrontKind::Nginx => r#"{"app":"web","tier":"front","pod-template-hash":"HASH"}"#,
    }
    .replace("HASH", &hash);
    if shop.front == FrontKind::Service {
        let patch = format!(r#"{{"spec":{{"selector":{selector}}}}}"#);
        shop.kubectl(&["patch", "service/web", "--type", "merge", "-p", &patch]);
    } else {
        shop.apply(&format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"web"}},
                "spec":{{"selector":{selector},"ports":[{{"name":"http","port":80,"targetPort":"http"}}]}}}}"#
        ));
        let patch = r#"{"spec":{"weighted":{"services":[{"name":"web","port":80}]}}}"#;
        shop.kubectl(&[
            "patch",
            "traefikservice/web",
            "--type",
            "merge",
            "-p",
            patch,
        ]);
    }
    hash
}

async fn goes_to_a_slot_and_back(front: FrontKind) {
    let shop = Shop::open_with(front, 1, 2).await;
    let hash = adopt(&shop);
    shop.wait_answers().await;
    let load = shop.load(100);
    let ended = run(shop.switch());
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["previous"], "unslotted");
    assert_eq!(shop.weights(), json!({"green": 100}));
    let record = shop.record().await;
    assert_eq!(record.phase, Phase::Soaking);
    let from = record.sides.from.unwrap();
    assert_eq!(from.side, Side::Unslotted);
    assert_eq!(from.workloads[0].workload.name, "web");
    assert_eq!(from.workloads[0].replicas, Some(2));
    shop.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    let ended = run(shop.proving("rollback"));
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(shop.weights(), json!({"unslotted": 100}));
    let report = load.stop().await.unwrap();
    assert_nothing_lost(&report);
    assert!(report.by_version.contains_key(NEW) && report.by_version.contains_key(OLD));
    if front == FrontKind::Service {
        let selector = &shop.front_object()["spec"]["selector"];
        assert_eq!(*selector, json!({"app": "web", "pod-template-hash": hash}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_service_goes_to_a_slot_and_back_without_a_lost_request() {
    goes_to_a_slot_and_back(FrontKind::Service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_traefik_backend_goes_to_a_slot_and_back_without_a_lost_request() {
    goes_to_a_slot_and_back(FrontKind::Traefik).await;
}
