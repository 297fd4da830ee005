//! Tokens in files, which the kubelet (or whoever else keeps them fresh) replaces while we run.

mod support;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use serde_json::json;
use support::soon;
use switchyard_cluster::{Cluster, ConnectOptions, Error};
use switchyard_sandbox::{Sandbox, TestNamespace, User};

/// A token of the deployer's account in this namespace, for as long as the Secret exists.
fn token(namespace: &TestNamespace, secret: &str) -> String {
    namespace
        .kubectl(&["create", "secret", "generic", secret])
        .unwrap();
    let bound = ["--bound-object-kind=Secret", "--bound-object-name", secret];
    let create = ["create", "token", "switchyard-deployer"];
    let token = namespace.kubectl(&[&create[..], &bound].concat()).unwrap();
    token.trim().to_owned()
}

/// A pod's token is read through the same setting as a kubeconfig's `tokenFile`.
#[tokio::test]
async fn a_token_that_is_replaced_in_its_file_is_read_again_within_a_minute() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("token-file").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, token(&namespace, "first")).unwrap();
    let text = std::fs::read_to_string(sandbox.kubeconfig(User::Deployer)).unwrap();
    let mut kubeconfig: serde_json::Value = serde_json::from_str(&text).unwrap();
    kubeconfig["users"][0]["user"] = json!({"tokenFile": file});
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    let cluster = Cluster::connect(&ConnectOptions {
        kubeconfig: Some(path),
        namespace: Some(namespace.name().to_owned()),
        ..ConnectOptions::default()
    })
    .await
    .unwrap();
    let maps = cluster.objects::<ConfigMap>();
    maps.list(&ListParams::default(), soon()).await.unwrap();

    std::fs::write(&file, token(&namespace, "second")).unwrap();
    namespace.kubectl(&["delete", "secret", "first"]).unwrap();
    // The old one is refused as soon as the API server has forgotten that it knew it.
    let started = Instant::now();
    let mut was_refused = false;
    loop {
        match maps.list(&ListParams::default(), soon()).await {
            Ok(_) if was_refused => break,
            Ok(_) => {}
            Err(Error::Unauthorized { .. }) => was_refused = true,
            Err(error) => panic!("{error}"),
        }
        assert!(
            started.elapsed() < Duration::from_secs(75),
            "refused: {was_refused}"
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
