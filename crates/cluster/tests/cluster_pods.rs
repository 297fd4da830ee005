//! Endpoints, sizes and port-forwards of real pods.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use serde_json::json;
use support::{app, apply, connect, rolled_out, soon, until};
use switchyard_cluster::endpoints::{Routable, SideQuestion, routable};
use switchyard_cluster::port_forward::ForwardTarget;
use switchyard_cluster::scale::{Precondition, ScaleGoal, ScaleWrite};
use switchyard_cluster::{Cluster, Error};
use switchyard_sandbox::{Sandbox, User};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(10);

async fn side(cluster: &Cluster, needed: usize) -> Routable {
    let service: Service = cluster.objects().get("api", soon()).await.unwrap();
    let slices = cluster.endpoint_slices("api", soon()).await.unwrap();
    let pods: Vec<Pod> = cluster
        .objects()
        .list(&ListParams::default(), soon())
        .await
        .unwrap();
    let labels = BTreeMap::from([("app".to_owned(), "api".to_owned())]);
    routable(&SideQuestion {
        service: &service,
        slices: &slices,
        pods: &pods,
        side: &labels,
        port: None,
        needed,
    })
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path)
        .header("host", "api")
        .body(Full::default())
        .unwrap()
}

#[tokio::test]
async fn endpoints_become_routable_and_stop_being_so_when_their_pods_drain() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("endpoints").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    apply(&namespace, &app(&sandbox, "draining", 2));
    rolled_out(&namespace);
    let found = until("two routable pods", || async {
        let found = side(&cluster, 2).await;
        found.is_enough().then_some(found)
    })
    .await;
    assert_eq!(found.port, Some(8080));
    assert!(found.is_exclusive());

    let workload = "deployment/api".parse().unwrap();
    cluster
        .scale(&workload, ScaleGoal::Size(0), soon())
        .await
        .unwrap();
    let draining = until("draining pods", || async {
        let found = side(&cluster, 2).await;
        (!found.unroutable.is_empty()).then_some(found)
    })
    .await;
    assert!(!draining.is_enough(), "{draining:?}");
    let leaving = &draining.unroutable[0];
    let pods: Vec<Pod> = cluster
        .objects()
        .list(&ListParams::default(), soon())
        .await
        .unwrap();
    let pod = pods.iter().find(|pod| pod.metadata.uid == leaving.pod_uid);
    assert!(pod.is_none_or(switchyard_cluster::rollout::is_terminating));
}

#[tokio::test]
async fn a_size_is_written_read_back_and_left_alone_when_it_is_right() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("scale").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    apply(&namespace, &app(&sandbox, "v1.0.0", 1));
    let workload = "deployment/api".parse().unwrap();
    let scaled = cluster
        .scale(&workload, ScaleGoal::Size(3), soon())
        .await
        .unwrap();
    assert_eq!(scaled.writes, [ScaleWrite::Replicas { from: 1, to: 3 }]);
    assert_eq!((scaled.before.replicas, scaled.after.replicas), (1, 3));
    let again = cluster
        .scale(&workload, ScaleGoal::Size(3), soon())
        .await
        .unwrap();
    assert!(again.writes.is_empty());
    let error = cluster
        .scale(&"daemonset/x".parse().unwrap(), ScaleGoal::Size(1), soon())
        .await;
    assert!(matches!(error, Err(Error::Unsuitable { .. })));
}

#[tokio::test]
async fn a_workload_that_a_newer_process_has_taken_over_is_not_scaled() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("scale-fence").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    apply(&namespace, &app(&sandbox, "v1.0.0", 1));
    let workload = "deployment/api".parse().unwrap();
    let of = |fence| Precondition {
        uid: None,
        fence: Some(fence),
        own_size: None,
    };
    cluster
        .scale_if(&workload, ScaleGoal::Size(2), &of(8), soon())
        .await
        .unwrap();
    let stale = cluster
        .scale_if(&workload, ScaleGoal::Size(0), &of(7), soon())
        .await
        .unwrap_err();
    assert!(matches!(&stale, Error::Conflict { .. }), "{stale}");
    assert!(
        stale
            .to_string()
            .contains("has fence 8, this process has 7"),
        "{stale}"
    );
    let state = cluster.scale_state(&workload, soon()).await.unwrap();
    assert_eq!((state.replicas, state.fence), (2, Some(8)));
}

#[tokio::test]
async fn with_an_autoscaler_its_floor_is_raised_and_restored() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("autoscaler").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    let mut objects = app(&sandbox, "v1.0.0", 1);
    objects.push(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "api"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"},
            "minReplicas": 1, "maxReplicas": 4,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}
            }}]
        }
    }));
    apply(&namespace, &objects);
    let workload = "deployment/api".parse().unwrap();
    let raised = cluster
        .scale(&workload, ScaleGoal::Size(3), soon())
        .await
        .unwrap();
    assert_eq!(
        raised.writes,
        [ScaleWrite::MinReplicas {
            autoscaler: "api".to_owned(),
            from: 1,
            to: 3
        }]
    );
    // The real autoscaler follows its floor.
    until("three replicas", || async {
        let deployment: Deployment = cluster.objects().get("api", soon()).await.unwrap();
        (deployment.spec.unwrap().replicas == Some(3)).then_some(())
    })
    .await;
    let restored = cluster
        .scale(&workload, ScaleGoal::RestoreMinimum(1), soon())
        .await
        .unwrap();
    assert_eq!(restored.after.autoscaler.unwrap().min, 1);
    let error = cluster
        .scale(&workload, ScaleGoal::Size(9), soon())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("more than the 4"), "{error}");
}

#[tokio::test]
async fn a_request_goes_through_the_api_server_to_each_pod() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("forward").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    apply(&namespace, &app(&sandbox, "v1.0.0", 2));
    rolled_out(&namespace);
    for target in [
        "service/api:http",
        "service/api:80",
        "deployment/api:http",
        "deployment/api:8080",
    ] {
        let target: ForwardTarget = target.parse().unwrap();
        let pods = cluster.pod_ports(&target, soon()).await.unwrap();
        assert_eq!(pods.len(), 2, "{target}");
        for pod in &pods {
            assert_eq!(pod.port, 8080);
            let answer = cluster
                .http_through_pod(pod, get("/version"), LIMIT)
                .await
                .unwrap();
            let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(
                body["pod"],
                json!(pod.pod),
                "the very pod that was asked for"
            );
        }
    }
}

#[tokio::test]
async fn a_target_that_leads_nowhere_says_why() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("nowhere").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    apply(&namespace, &app(&sandbox, "v1.0.0", 1));
    rolled_out(&namespace);
    for (target, part) in [
        ("service/api:grpc", "has no port `grpc`"),
        ("service/api:8080", "has no port 8080"),
        ("service/gone:80", "does not exist"),
        ("deployment/api:metrics", "has no port `metrics`"),
    ] {
        let target: ForwardTarget = target.parse().unwrap();
        let error = cluster.pod_ports(&target, soon()).await.unwrap_err();
        assert!(error.to_string().contains(part), "{target}: {error}");
    }
    let target: ForwardTarget = "deployment/api:9999".parse().unwrap();
    let pods = cluster.pod_ports(&target, soon()).await.unwrap();
    let error = cluster
        .http_through_pod(&pods[0], get("/"), LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PortForward { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("slow").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    apply(&namespace, &app(&sandbox, "v1.0.0", 1));
    rolled_out(&namespace);
    let target: ForwardTarget = "service/api:http".parse().unwrap();
    let pods = cluster.pod_ports(&target, soon()).await.unwrap();
    let limit = Duration::from_millis(500);
    let answer = cluster
        .http_through_pod(&pods[0], get("/slow?ms=20000"), limit)
        .await;
    assert!(matches!(answer, Err(Error::TimedOut { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_held_port_leads_to_a_ready_pod_and_outlives_it() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("held").await;
    let cluster = connect(&sandbox, &namespace, User::Deployer).await;
    apply(&namespace, &app(&sandbox, "v1.0.0", 1));
    rolled_out(&namespace);
    let target: ForwardTarget = "service/api:http".parse().unwrap();
    let held = cluster.hold_forward(&target, None, soon()).await.unwrap();
    assert!(held.local_addr().ip().is_loopback());
    let before = version(held.local_addr()).await.unwrap();
    namespace
        .kubectl(&["delete", "pod", &before, "--wait=true"])
        .unwrap();
    rolled_out(&namespace);
    let after = until("an answer from the new pod", || version(held.local_addr())).await;
    assert_ne!(before, after);
    let address = held.local_addr();
    drop(held);
    until("the port to close", || async {
        tokio::net::TcpStream::connect(address)
            .await
            .is_err()
            .then_some(())
    })
    .await;
}

/// The name of the pod that answers at a local port.
async fn version(address: std::net::SocketAddr) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = b"GET /version HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let body = answer.split("\r\n\r\n").nth(1)?;
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(body["pod"].as_str()?.to_owned())
}
