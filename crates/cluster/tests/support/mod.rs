//! What the tests on a real cluster share.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchyard_cluster::{Cluster, ConnectOptions, Deadline};
use switchyard_sandbox::fault_proxy::FaultProxy;
use switchyard_sandbox::{Sandbox, TestNamespace, User};

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

pub(crate) async fn connect(sandbox: &Sandbox, namespace: &TestNamespace, user: User) -> Cluster {
    let options = ConnectOptions {
        kubeconfig: Some(sandbox.kubeconfig(user)),
        namespace: Some(namespace.name().to_owned()),
        ..ConnectOptions::default()
    };
    Cluster::connect(&options).await.unwrap()
}

pub(crate) async fn connect_through(
    sandbox: &Sandbox,
    proxy: &FaultProxy,
    namespace: &TestNamespace,
) -> Cluster {
    let options = ConnectOptions {
        kubeconfig: Some(sandbox.kubeconfig_through(proxy, User::Deployer).unwrap()),
        namespace: Some(namespace.name().to_owned()),
        ..ConnectOptions::default()
    };
    Cluster::connect(&options).await.unwrap()
}

/// The `api` application with a Service in front.
pub(crate) fn app(sandbox: &Sandbox, tag: &str, replicas: u32) -> Vec<Value> {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "api"}},
            "template": {
                "metadata": {"labels": {"app": "api"}},
                "spec": {
                    "terminationGracePeriodSeconds": 30,
                    "containers": [{
                        "name": "app", "image": sandbox.image("api", tag),
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "readinessProbe": {
                            "httpGet": {"path": "/api/health/ready", "port": "http"},
                            "periodSeconds": 1
                        }
                    }]
                }
            }
        }
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"},
        "spec": {
            "selector": {"app": "api"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}]
        }
    });
    vec![deployment, service]
}

pub(crate) fn apply(namespace: &TestNamespace, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let applied = namespace.apply(&list.to_string());
    applied.unwrap_or_else(|error| panic!("{}", error.chain()));
}

pub(crate) fn rolled_out(namespace: &TestNamespace) {
    let status = ["rollout", "status", "deployment/api", "--timeout=90s"];
    namespace.kubectl(&status).unwrap();
}

/// Waits until `look` gives something; a limit ends a test that would wait for ever.
pub(crate) async fn until<T, Fut>(what: &str, mut look: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} never happened");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
