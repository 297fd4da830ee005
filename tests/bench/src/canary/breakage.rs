//! What goes wrong with the pods of a version while it has traffic. Knows nobody who would notice.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use switchyard_sandbox::{HttpClient, TestNamespace, User};

use super::shop::CANARY;
use crate::Bench;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breakage {
    /// They answer every request with 500.
    Failing,
    /// They are not ready any more.
    Unready,
    /// They are deleted without notice; others come in their place.
    Killed,
}

impl Breakage {
    /// The version that is to be left; none where others have come in the place of its pods, which are well.
    pub(crate) fn left(self) -> Option<&'static str> {
        match self {
            Self::Failing | Self::Unready => Some(CANARY),
            Self::Killed => None,
        }
    }

    /// Lets it happen to all pods of a selector at once.
    pub(crate) async fn strike(
        self,
        bench: &Bench,
        namespace: &TestNamespace,
        selector: &str,
    ) -> anyhow::Result<()> {
        match self {
            Self::Failing => order(namespace, selector, json!({"error_rate": 1.0})).await,
            Self::Unready => order(namespace, selector, json!({"ready": false})).await,
            Self::Killed => {
                // One request: kubectl would take them one by one.
                let client = bench.sandbox.client(User::Admin).await;
                let pods: Api<Pod> = Api::namespaced(client, namespace.name());
                let at_once = DeleteParams::default().grace_period(0);
                let selected = ListParams::default().labels(selector);
                pods.delete_collection(&at_once, &selected).await?;
                Ok(())
            }
        }
    }
}

async fn order(namespace: &TestNamespace, selector: &str, fault: Value) -> anyhow::Result<()> {
    let path = "jsonpath={range .items[*]}{.status.podIP} {end}";
    let addresses = namespace.kubectl(&["get", "pods", "--selector", selector, "-o", path])?;
    let mut orders = tokio::task::JoinSet::new();
    for address in addresses.split_whitespace() {
        let url = format!("http://{address}:8081/control");
        let fault = fault.clone();
        orders.spawn(async move { HttpClient::plain().post_json(&url, &fault).await });
    }
    anyhow::ensure!(!orders.is_empty(), "no pod has the labels {selector}");
    while let Some(answer) = orders.join_next().await {
        let answer = answer??;
        anyhow::ensure!(answer.status.is_success(), "{}", answer.text());
    }
    Ok(())
}
