//! The demo application in a cluster.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchyard_sandbox::{HttpClient, Sandbox, TestNamespace};

/// Applies a version of the demo application `api` under a name, with a Service, and waits until it answers through it.
pub(crate) async fn deploy(
    sandbox: &Sandbox,
    namespace: &TestNamespace,
    (name, version): (&str, &str),
    limit: Option<&str>,
) {
    let resources = limit.map_or(json!({}), |memory| json!({"limits": {"memory": memory}}));
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{
                            "name": "app", "image": sandbox.image("api", version), "resources": resources,
                            "ports": [
                                {"name": "http", "containerPort": 8080},
                                {"name": "control", "containerPort": 8081}
                            ],
                            "readinessProbe": {
                                "httpGet": {"path": "/api/health/ready", "port": "http"},
                                "periodSeconds": 1, "failureThreshold": 1
                            }
                        }]
                    }
                }
            }
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {
                "selector": {"app": name},
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "http"},
                    {"name": "control", "port": 81, "targetPort": "control"}
                ]
            }
        }
    ]});
    let applied = namespace.apply(&objects.to_string());
    applied.unwrap_or_else(|error| panic!("{}", error.chain()));
    let rolled_out = format!("deployment/{name}");
    namespace
        .kubectl(&["rollout", "status", &rolled_out, "--timeout=90s"])
        .unwrap();
    for port in [80, 81] {
        let url = address(namespace, name, port);
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = HttpClient::plain().get(&url).await {
            assert!(Instant::now() < deadline, "{}", error.chain());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The address of the Service inside the sandbox's network.
pub(crate) fn address(namespace: &TestNamespace, name: &str, port: u16) -> String {
    let ip = namespace
        .kubectl(&["get", "service", name, "-o", "jsonpath={.spec.clusterIP}"])
        .unwrap();
    format!("http://{ip}:{port}")
}

/// Changes how it behaves. A proxy may still know a pod that an update has replaced: it is asked again then.
pub(crate) async fn control(namespace: &TestNamespace, name: &str, change: Value) {
    let url = format!("{}/control", address(namespace, name, 81));
    let deadline = Instant::now() + Duration::from_secs(60);
    let answer = loop {
        match HttpClient::plain().post_json(&url, &change).await {
            Ok(answer) => break answer,
            Err(error) => assert!(Instant::now() < deadline, "{}", error.chain()),
        }
    };
    assert!(answer.status.is_success(), "{}", answer.text());
}
