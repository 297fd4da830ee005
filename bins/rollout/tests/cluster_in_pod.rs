//! The program in a pod of the cluster, as on a runner that lives there: nothing but the pod's
//! service account leads to the API server.

mod shop;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use shop::Shop;
use switchyard_harness::expect_code;

/// How a pod may get at the API server.
#[derive(Clone, Copy)]
enum Token {
    Mounted,
    Withheld,
}

/// Runs the program in a pod to its end. Gives its exit code and what it said.
async fn run_in_pod(shop: &Shop, account: (&str, Token), words: &[&str]) -> (i64, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_rollout"));
    let image = shop.sandbox.publish("rollout", program).await;
    let image = image.unwrap_or_else(|error| panic!("{}", error.chain()));
    let (account, token) = account;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "runner"},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": matches!(token, Token::Mounted),
            "restartPolicy": "Never",
            "containers": [{"name": "runner", "image": image, "args": words}],
        },
    });
    shop.namespace.apply(&pod.to_string()).expect("applied");
    let deadline = Instant::now() + Duration::from_secs(120);
    let code = loop {
        let pod = shop.get("pod/runner");
        let code = &pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
        if let Some(code) = code.as_i64() {
            break code;
        }
        assert!(Instant::now() < deadline, "it does not end: {pod:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let log = shop.namespace.kubectl(&["logs", "runner"]).expect("a log");
    let delete = ["delete", "pod", "runner", "--grace-period=0"];
    shop.namespace.kubectl(&delete).expect("deleted");
    (code, log)
}

#[tokio::test]
async fn the_service_account_of_the_pod_leads_to_the_cluster() {
    let shop = Shop::open("in-pod").await;
    expect_code(&shop.apply(&shop.web("v1.0.0")).run(), 0);
    shop.wait_for("web");
    // The account of docs/rbac/deployer.yaml. Nothing names server, namespace or credential.
    let deployer = ("switchyard-deployer", Token::Mounted);
    let scale = [
        "scale",
        "--workloads=deployment/web",
        "--replicas=1",
        "--wait",
    ];
    let (code, log) = run_in_pod(&shop, deployer, &scale).await;
    assert_eq!(code, 0, "{log}");
    assert_eq!(shop.get("deployment/web")["spec"]["replicas"], 1);
    let (code, log) = run_in_pod(&shop, deployer, &["status", "--application=web"]).await;
    assert_eq!(code, 0, "{log}");

    let (code, log) = run_in_pod(&shop, ("default", Token::Mounted), &scale).await;
    assert_eq!(code, 3, "{log}");
    assert!(log.contains("patch deployments.apps"), "{log}");
    let (code, log) = run_in_pod(&shop, ("default", Token::Withheld), &scale).await;
    assert_eq!(code, 2, "{log}");
    for part in ["of the pod's service account", "No such file", "hint: "] {
        assert!(log.contains(part), "no `{part}`: {log}");
    }
}
