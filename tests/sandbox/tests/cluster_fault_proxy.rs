//! The fault proxy does to the API server's clients what each fault is named after, and nothing
//! to other requests. Runs inside the sandbox's network namespace.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use switchyard_sandbox::{
    Sandbox, TestNamespace, User,
    fault_proxy::{Fault, FaultProxy, FaultRule},
};

struct Rig {
    sandbox: Sandbox,
    namespace: TestNamespace,
    proxy: FaultProxy,
    /// Through the proxy.
    faulty: Api<ConfigMap>,
    /// Straight to the API server.
    direct: Api<ConfigMap>,
}

async fn rig() -> Rig {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("faults").await;
    let proxy = FaultProxy::start(&sandbox).await.expect("the proxy starts");
    let through = sandbox.client_through(&proxy, User::Deployer).await;
    Rig {
        faulty: Api::namespaced(through, namespace.name()),
        direct: Api::namespaced(sandbox.client(User::Deployer).await, namespace.name()),
        sandbox,
        namespace,
        proxy,
    }
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).expect("a ConfigMap")
}

async fn create(api: &Api<ConfigMap>, name: &str) -> kube::Result<ConfigMap> {
    api.create(&PostParams::default(), &config_map(name)).await
}

fn status_code(result: kube::Result<ConfigMap>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("not a status of the API: {other:?}"),
    }
}

#[tokio::test]
async fn without_faults_everything_passes_and_is_recorded() {
    let rig = rig().await;
    create(&rig.faulty, "one").await.expect("it passes");
    rig.direct.get("one").await.expect("it was created");
    let requests = rig.proxy.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, Method::POST);
    let path = format!("/api/v1/namespaces/{}/configmaps", rig.namespace.name());
    assert!(requests[0].path.starts_with(&path), "{}", requests[0].path);
    assert_eq!(requests[0].fault, None);
}

#[tokio::test]
async fn too_many_requests_hits_the_next_matching_ones_only() {
    let rig = rig().await;
    let fault = Fault::TooManyRequests {
        retry_after: Some(1),
    };
    let rule = FaultRule::every(fault)
        .method(Method::POST)
        .path("/configmaps")
        .times(2);
    rig.proxy.inject(rule);
    rig.faulty
        .list(&ListParams::default())
        .await
        .expect("a GET does not match");
    assert_eq!(status_code(create(&rig.faulty, "one").await), 429);
    assert_eq!(status_code(create(&rig.faulty, "two").await), 429);
    create(&rig.faulty, "three")
        .await
        .expect("the third passes");
    let names = rig
        .direct
        .list(&ListParams::default())
        .await
        .expect("a list")
        .items;
    let names: Vec<_> = names
        .iter()
        .filter_map(|map| map.metadata.name.as_deref())
        .collect();
    assert!(
        names.contains(&"three") && !names.contains(&"one"),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_cut_before_leaves_the_server_untouched_and_a_cut_after_does_not() {
    let rig = rig().await;
    rig.proxy.inject(
        FaultRule::every(Fault::CutBefore)
            .method(Method::POST)
            .times(1),
    );
    rig.proxy.inject(
        FaultRule::every(Fault::CutAfter)
            .method(Method::POST)
            .times(1),
    );
    let before = create(&rig.faulty, "before").await;
    assert!(
        !matches!(before, Ok(_) | Err(kube::Error::Api(_))),
        "{before:?}"
    );
    assert!(
        rig.direct
            .get_opt("before")
            .await
            .expect("a look")
            .is_none()
    );
    let after = create(&rig.faulty, "after").await;
    assert!(
        !matches!(after, Ok(_) | Err(kube::Error::Api(_))),
        "{after:?}"
    );
    assert!(rig.direct.get_opt("after").await.expect("a look").is_some());
}

#[tokio::test]
async fn a_late_request_cuts_its_sender_off_at_once_and_arrives_when_it_is_told_to() {
    let rig = rig().await;
    rig.proxy
        .inject(FaultRule::every(Fault::Late).method(Method::POST).times(2));
    for name in ["late", "late"] {
        let cut = create(&rig.faulty, name).await;
        assert!(!matches!(cut, Ok(_) | Err(kube::Error::Api(_))), "{cut:?}");
    }
    create(&rig.faulty, "punctual").await.expect("it passes");
    assert!(rig.direct.get_opt("late").await.expect("a look").is_none());
    assert_eq!(rig.proxy.kept_back(), 2);
    let answers = rig.proxy.deliver().await.expect("the server is there");
    assert_eq!(answers, [StatusCode::CREATED, StatusCode::CONFLICT]);
    assert!(rig.direct.get_opt("late").await.expect("a look").is_some());
    assert_eq!(rig.proxy.kept_back(), 0);
}

#[tokio::test]
async fn a_delay_delays_and_a_hang_never_ends_until_it_is_cut() {
    let rig = rig().await;
    let delay = Duration::from_millis(300);
    rig.proxy
        .inject(FaultRule::every(Fault::Delay(delay)).times(1));
    let before = Instant::now();
    rig.faulty
        .list(&ListParams::default())
        .await
        .expect("it passes");
    assert!(before.elapsed() >= delay);
    rig.proxy.inject(FaultRule::every(Fault::Hang).times(1));
    let hanging = create(&rig.faulty, "hanging");
    tokio::pin!(hanging);
    let short = tokio::time::timeout(Duration::from_millis(500), &mut hanging).await;
    assert!(short.is_err(), "it hangs: {short:?}");
    rig.proxy.cut_connections();
    hanging.await.expect_err("the cut ends it");
    assert!(
        rig.direct
            .get_opt("hanging")
            .await
            .expect("a look")
            .is_none()
    );
}

#[tokio::test]
async fn a_cut_ends_a_watch_and_offline_refuses_until_online() {
    use std::pin::pin;
    let rig = rig().await;
    let events = rig
        .faulty
        .watch(&WatchParams::default(), "0")
        .await
        .expect("a watch");
    let mut events = pin!(events);
    let first = next(&mut events)
        .await
        .expect("the first event")
        .expect("an event");
    assert!(matches!(first, WatchEvent::Added(_)), "{first:?}");
    rig.proxy.go_offline();
    while let Some(Ok(_)) = next(&mut events).await {}
    rig.faulty
        .list(&ListParams::default())
        .await
        .expect_err("nobody is there");
    rig.direct
        .list(&ListParams::default())
        .await
        .expect("the server itself is there");
    rig.proxy.go_online();
    rig.faulty
        .list(&ListParams::default())
        .await
        .expect("it is back");
}

async fn next<S: futures::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    use futures::StreamExt as _;
    let item = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
    item.expect("an event or the end within 30 s")
}

#[tokio::test]
async fn any_status_can_be_ordered_until_the_rules_are_cleared() {
    let rig = rig().await;
    rig.proxy.inject(FaultRule::every(Fault::Status(
        StatusCode::SERVICE_UNAVAILABLE,
    )));
    for _ in 0..3 {
        assert_eq!(status_code(create(&rig.faulty, "one").await), 503);
    }
    rig.proxy.clear();
    create(&rig.faulty, "one").await.expect("it passes");
}

#[tokio::test]
async fn port_forwards_go_through() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let rig = rig().await;
    let image = rig.sandbox.image("api", "v1.0.0");
    let run = ["run", "app", "--image", image.as_str(), "--restart=Never"];
    rig.namespace.kubectl(&run).expect("a pod");
    let wait = ["wait", "pod/app", "--for=condition=Ready", "--timeout=60s"];
    rig.namespace.kubectl(&wait).expect("it becomes Ready");
    let client = rig.sandbox.client_through(&rig.proxy, User::Deployer).await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client, rig.namespace.name());
    // Ready without a probe comes before the port is open.
    let mut answer = String::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while answer.is_empty() && Instant::now() < deadline {
        let mut forwarder = pods
            .portforward("app", &[8080])
            .await
            .expect("a port-forward");
        let mut stream = forwarder.take_stream(8080).expect("a stream");
        let request = b"GET /version HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("a request");
        let _ = stream.read_to_string(&mut answer).await;
    }
    assert!(answer.contains("\"version\":\"v1.0.0\""), "{answer}");
}
