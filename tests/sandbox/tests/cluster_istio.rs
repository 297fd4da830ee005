//! Meshes of several tests share a cluster, and nothing else.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde_json::json;
use switchyard_sandbox::{HttpClient, Istio, Sandbox};

/// A host that the gateways themselves answer for.
fn route(host: &str, gateways: &[String]) -> String {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "answered"},
        "spec": {
            "hosts": [host],
            "gateways": gateways,
            "http": [{"directResponse": {"status": 200}}],
        },
    })
    .to_string()
}

async fn answers(door: &str, host: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let headers = [("host", host)];
    let client = HttpClient::plain();
    loop {
        let answer = client.send(Method::GET, door, &headers, Bytes::new()).await;
        if answer.is_ok_and(|answer| answer.status == 200) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{door} does not answer for {host}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn gateways_of_two_meshes_listen_at_their_own_addresses_alone() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("meshes").await;
    let host = format!("{}.test", namespace.name());
    let first = Istio::start(&sandbox, 1).await.expect("a mesh");
    let second = Istio::start(&sandbox, 1).await.expect("another mesh");
    // Written after the Gateways of both: who answers for it has been told of those as well.
    let gateways = [first.gateways(), second.gateways()].concat();
    namespace
        .apply(&route(&host, &gateways))
        .expect("a VirtualService");
    for mesh in [&first, &second] {
        let door = mesh.front_door(0);
        answers(&door, &host).await;
        let admin = &mesh.admin()[0];
        let listeners = HttpClient::plain().get(&format!("{admin}/listeners")).await;
        let listeners = listeners.expect("its listeners").text();
        let own = door.trim_start_matches("http://");
        let listens_at: Vec<_> = listeners
            .lines()
            .filter_map(|line| line.split_once("::"))
            .map(|(_, address)| address)
            .collect();
        assert_eq!(listens_at, [own]);
    }
}
