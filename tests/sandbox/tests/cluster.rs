//! The shared sandbox is a real cluster: users, namespaces, applications, routes. Runs inside its
//! network namespace: `scripts/cluster exec -- cargo test -p switchyard-sandbox`.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use serde_json::json;
use switchyard_sandbox::{
    BrokenKubeconfig, HttpAnswer, HttpClient, Sandbox, TestNamespace, User, load::LoadPlan,
};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until the answer is something.
async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn deployment(image: &str, environment: serde_json::Value) -> String {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app"}},
                "spec": {
                    "containers": [{
                        "name": "app",
                        "image": image,
                        "env": environment,
                        "readinessProbe": {
                            "httpGet": {"path": "/api/health/ready", "port": 8080},
                            "periodSeconds": 1,
                            "failureThreshold": 1,
                        },
                    }],
                    "terminationGracePeriodSeconds": 2,
                },
            },
        },
    })
    .to_string()
}

async fn pods(sandbox: &Sandbox, namespace: &TestNamespace) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(sandbox.client(User::Admin).await, namespace.name());
    pods.list(&ListParams::default())
        .await
        .expect("pods can be listed")
        .items
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// The address of the only pod, once it is Ready.
async fn ready_address(sandbox: &Sandbox, namespace: &TestNamespace) -> String {
    eventually("a Ready pod", async || {
        let pods = pods(sandbox, namespace).await;
        let pod = pods.iter().find(|pod| is_ready(pod))?;
        pod.status.as_ref()?.pod_ip.clone()
    })
    .await
}

async fn get(address: &str, path: &str) -> HttpAnswer {
    let url = format!("http://{address}:8080{path}");
    HttpClient::plain()
        .get(&url)
        .await
        .expect("the application answers")
}

async fn control(address: &str, change: serde_json::Value) -> HttpAnswer {
    let url = format!("http://{address}:8081/control");
    HttpClient::plain()
        .post_json(&url, &change)
        .await
        .expect("the control port answers")
}

fn header(answer: &HttpAnswer, name: &str) -> String {
    let value = answer
        .headers
        .get(name)
        .unwrap_or_else(|| panic!("no header {name}"));
    value.to_str().expect("text").to_owned()
}

#[tokio::test]
async fn the_deployer_may_deploy_in_its_namespace_and_nowhere_else() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rights").await;
    let deployer = sandbox.client(User::Deployer).await;
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "app"}})).expect("a secret");
    let own: Api<Secret> = Api::namespaced(deployer.clone(), namespace.name());
    own.create(&PostParams::default(), &secret)
        .await
        .expect("its own namespace is allowed");
    let forbidden = |result: Result<(), kube::Error>| match result {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 403),
        other => panic!("not refused: {other:?}"),
    };
    let list = own.list(&ListParams::default()).await;
    forbidden(list.map(drop));
    let elsewhere: Api<Secret> = Api::namespaced(deployer.clone(), "default");
    forbidden(
        elsewhere
            .create(&PostParams::default(), &secret)
            .await
            .map(drop),
    );
    let everything: Api<Namespace> = Api::all(deployer);
    forbidden(everything.list(&ListParams::default()).await.map(drop));
    let reader: Client = sandbox.client(User::Reader).await;
    let readable: Api<Pod> = Api::namespaced(reader.clone(), namespace.name());
    readable
        .list(&ListParams::default())
        .await
        .expect("the reader may view");
    let unreadable: Api<Secret> = Api::namespaced(reader, namespace.name());
    forbidden(
        unreadable
            .create(&PostParams::default(), &secret)
            .await
            .map(drop),
    );
}

#[tokio::test]
async fn namespaces_are_fresh_and_end_with_their_owner() {
    let sandbox = Sandbox::shared();
    let (one, two) = tokio::join!(sandbox.namespace("twin"), sandbox.namespace("twin"));
    assert_ne!(one.name(), two.name());
    let name = one.name().to_owned();
    drop(one);
    two.delete().expect("it can be deleted by hand");
    let namespaces: Api<Namespace> = Api::all(sandbox.client(User::Admin).await);
    eventually("the namespace is gone", async || {
        let found = namespaces
            .get_opt(&name)
            .await
            .expect("namespaces can be read");
        found.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn broken_kubeconfigs_break_as_named() {
    let sandbox = Sandbox::shared();
    let look = |broken: BrokenKubeconfig| {
        let path = sandbox
            .broken_kubeconfig(broken)
            .expect("the file can be made");
        let output = std::process::Command::new(sandbox.kubectl())
            .args(["get", "pods", "--request-timeout=5s", "--kubeconfig"])
            .arg(path)
            .output()
            .expect("kubectl runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let expected = [
        (BrokenKubeconfig::UnknownToken, "must be logged in"),
        (BrokenKubeconfig::ExpiredCertificate, "must be logged in"),
        (
            BrokenKubeconfig::WrongAuthority,
            "certificate signed by unknown authority",
        ),
        (BrokenKubeconfig::UnknownContext, "gone"),
        (BrokenKubeconfig::NobodyListens, "refused"),
    ];
    for (broken, words) in expected {
        let message = look(broken);
        assert!(message.contains(words), "{broken:?}: {message}");
    }
}

#[tokio::test]
async fn an_application_obeys_its_environment_and_its_control_port() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("app").await;
    let environment = json!([{"name": "ERROR_RATE", "value": "0.5"}]);
    let manifest = deployment(&sandbox.image("api", "v1.1.0"), environment);
    namespace
        .apply(&manifest)
        .expect("the manifest is accepted");
    let address = ready_address(&sandbox, &namespace).await;

    let version = get(&address, "/version").await;
    assert_eq!(version.json().expect("JSON")["version"], "v1.1.0");
    assert_eq!(header(&version, "x-app-version"), "v1.1.0");
    assert!(header(&version, "x-app-pod").starts_with("app-"));
    let statuses = [
        get(&address, "/").await.status,
        get(&address, "/").await.status,
    ];
    assert_eq!(statuses.map(|status| status.as_u16()), [200, 500]);
    let metrics = get(&address, "/metrics").await.text();
    assert!(
        metrics.contains("http_requests_total{code=\"500\",version=\"v1.1.0\"} 1"),
        "{metrics}"
    );

    let refused = control(&address, json!({"errorrate": 1})).await;
    assert_eq!(refused.status, 400);
    let changed = control(
        &address,
        json!({"error_rate": 0, "ready": false, "latency_ms": 50}),
    );
    assert_eq!(changed.await.json().expect("JSON")["ready"], false);
    assert_eq!(get(&address, "/api/health/ready").await.status, 503);
    assert_eq!(get(&address, "/api/health/live").await.status, 200);
    let before = Instant::now();
    assert_eq!(get(&address, "/").await.status, 200);
    assert!(
        before.elapsed() >= Duration::from_millis(50),
        "the ordered latency is added"
    );
    eventually("the pod is not Ready", async || {
        let pods = pods(&sandbox, &namespace).await;
        pods.iter().all(|pod| !is_ready(pod)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_application_dies_after_its_last_request_and_is_restarted() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("mortal").await;
    let environment = json!([{"name": "EXIT_AFTER_REQUESTS", "value": "2"}]);
    let manifest = deployment(&sandbox.image("api", "v1.0.0"), environment);
    namespace
        .apply(&manifest)
        .expect("the manifest is accepted");
    let address = ready_address(&sandbox, &namespace).await;
    for _ in 0..2 {
        assert_eq!(get(&address, "/").await.status, 200);
    }
    let url = format!("http://{address}:8080/");
    HttpClient::plain()
        .get(&url)
        .await
        .expect_err("the third request gets no answer");
    eventually("one restart with the ordered exit code", async || {
        let pods = pods(&sandbox, &namespace).await;
        let status = pods
            .first()?
            .status
            .as_ref()?
            .container_statuses
            .as_ref()?
            .first()?;
        let ended = status.last_state.as_ref()?.terminated.as_ref()?;
        (status.restart_count == 1 && ended.exit_code == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_reported_by_the_kubelet() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("no-image").await;
    let manifest = deployment(&sandbox.image("api", "v9.9.9"), json!([]));
    namespace
        .apply(&manifest)
        .expect("the manifest is accepted");
    eventually("ErrImagePull or ImagePullBackOff", async || {
        let pods = pods(&sandbox, &namespace).await;
        let status = pods
            .first()?
            .status
            .as_ref()?
            .container_statuses
            .as_ref()?
            .first()?;
        let reason = status.state.as_ref()?.waiting.as_ref()?.reason.clone()?;
        ["ErrImagePull", "ImagePullBackOff"]
            .contains(&reason.as_str())
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_provider_of_the_front_door_routes_and_loses_nothing() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("routes").await;
    let name = namespace.name();
    let manifest = deployment(&sandbox.image("api", "v1.0.0"), json!([]));
    namespace
        .apply(&manifest)
        .expect("the deployment is accepted");
    namespace
        .apply(&routes(name))
        .expect("the routes are accepted");
    ready_address(&sandbox, &namespace).await;
    for kind in ["gateway", "traefik", "nginx"] {
        let host = format!("{kind}.{name}.test");
        let url = sandbox.front_door().to_owned();
        eventually(&format!("the {kind} route"), async || {
            let headers = [("host", host.as_str())];
            let client = HttpClient::plain();
            let answer = client
                .send(http::Method::GET, &url, &headers, bytes::Bytes::new())
                .await;
            answer
                .is_ok_and(|answer| answer.status == 200)
                .then_some(())
        })
        .await;
        let plan = LoadPlan::new(&url, 200)
            .and_then(|plan| plan.host(&host))
            .expect("a plan");
        let report = plan
            .run_for(Duration::from_secs(1))
            .await
            .expect("a report");
        assert_eq!(report.lost, 0, "{kind}: {}", report.summary());
        assert_eq!(report.by_version["v1.0.0"], report.scheduled);
    }
}

/// The rig can see a loss: without this, a report of zero would prove nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_goes_away_loses_requests_and_the_report_shows_them() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("loss").await;
    let manifest = deployment(&sandbox.image("api", "v1.0.0"), json!([]));
    namespace
        .apply(&manifest)
        .expect("the deployment is accepted");
    namespace
        .apply(&routes(namespace.name()))
        .expect("the routes are accepted");
    ready_address(&sandbox, &namespace).await;
    let host = format!("traefik.{}.test", namespace.name());
    let plan = LoadPlan::new(sandbox.front_door(), 300).and_then(|plan| plan.host(&host));
    let load = plan.expect("a plan").start();
    eventually("answers of the only pod", async || {
        (load.answers_of("v1.0.0") > 300).then_some(())
    })
    .await;
    let lost_before = load.counts().1;
    // Nothing replaces it: a pod that is only deleted may have a successor before it ends.
    namespace
        .kubectl(&["scale", "deployment", "app", "--replicas=0"])
        .expect("scaled");
    eventually("lost requests", async || {
        (load.counts().1 > lost_before).then_some(())
    })
    .await;
    let report = load.stop().await.expect("a report");
    let last = report.failures.last().expect("failures are kept");
    assert!(
        last.at > report.started_at && !last.detail.is_empty(),
        "{last:?}"
    );
    assert_eq!(report.succeeded + report.lost, report.scheduled);
}

fn routes(namespace: &str) -> String {
    let host = |kind: &str| format!("{kind}.{namespace}.test");
    let port = json!({"port": 80, "targetPort": 8080});
    let backend = json!({"service": {"name": "app", "port": {"number": 80}}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    let objects = json!([
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "app"},
            "spec": {"selector": {"app": "app"}, "ports": [port]},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "app"},
            "spec": {
                "parentRefs": [{"name": "front-door", "namespace": "switchyard-sandbox"}],
                "hostnames": [host("gateway")],
                "rules": [{"backendRefs": [{"name": "app", "port": 80}]}],
            },
        },
        {
            "apiVersion": "traefik.io/v1alpha1",
            "kind": "IngressRoute",
            "metadata": {"name": "app"},
            "spec": {
                "entryPoints": ["web"],
                "routes": [{
                    "kind": "Rule",
                    "match": format!("Host(`{}`)", host("traefik")),
                    "services": [{"name": "app", "port": 80}],
                }],
            },
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "app"},
            "spec": {
                "ingressClassName": "nginx",
                "rules": [{"host": host("nginx"), "http": {"paths": [path]}}],
            },
        },
    ]);
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}
