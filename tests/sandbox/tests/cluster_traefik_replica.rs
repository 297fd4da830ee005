//! A second Traefik serves the same routes, and can be made to lag behind.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde_json::json;
use switchyard_sandbox::{HttpClient, Sandbox, TraefikReplica};

async fn status(door: &str, host: &str) -> Option<u16> {
    let headers = [("host", host)];
    let request = HttpClient::plain()
        .send(Method::GET, door, &headers, Bytes::new())
        .await;
    Some(request.ok()?.status.as_u16())
}

async fn wait_for(door: &str, host: &str, wanted: u16) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while status(door, host).await != Some(wanted) {
        assert!(
            Instant::now() < deadline,
            "{door} does not answer {wanted} for {host}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn route(host: &str) -> String {
    json!({
        "apiVersion": "traefik.io/v1alpha1",
        "kind": "IngressRoute",
        "metadata": {"name": host.replace('.', "-")},
        "spec": {
            "entryPoints": ["web"],
            "routes": [{
                "kind": "Rule",
                "match": format!("Host(`{host}`)"),
                "services": [{"kind": "TraefikService", "name": "ping@internal"}],
            }],
        },
    })
    .to_string()
}

#[tokio::test]
async fn a_frozen_replica_stays_behind_until_it_thaws() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("replica").await;
    let host = |name: &str| format!("{name}.{}.test", namespace.name());
    let replica = TraefikReplica::start(&sandbox).await.expect("a replica");
    namespace.apply(&route(&host("first"))).expect("a route");
    wait_for(sandbox.front_door(), &host("first"), 200).await;
    wait_for(&replica.front_door(), &host("first"), 200).await;

    replica.freeze().expect("it stops");
    namespace.apply(&route(&host("second"))).expect("a route");
    wait_for(sandbox.front_door(), &host("second"), 200).await;
    let frozen = async { status(&replica.front_door(), &host("second")).await };
    let answer = tokio::time::timeout(Duration::from_millis(300), frozen).await;
    assert!(
        answer.is_err(),
        "a frozen replica does not answer: {answer:?}"
    );

    replica.thaw().expect("it goes on");
    wait_for(&replica.front_door(), &host("second"), 200).await;
    let api = replica.api();
    drop(replica);
    HttpClient::plain()
        .get(&format!("{api}/ping"))
        .await
        .expect_err("it has ended");
}
