//! Asks whether the parts of a sandbox are ready, and waits for them. Starts and changes nothing.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Method;

use crate::{
    authority::token_of,
    components::Component,
    error::{Result, SandboxError, read},
    http_client::HttpClient,
    identity,
    instance::{API_SERVER, Layout, NODE_NAME, SANDBOX_NAMESPACE, TRAEFIK_API, User},
    process::ProcessRecord,
};

/// How long a component may take to become ready.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// How often readiness is asked for.
const POLL: Duration = Duration::from_millis(100);

/// Waits for a condition; ends at once when the component dies.
pub(crate) async fn wait(
    layout: &Layout,
    component: Component,
    is_ready: impl AsyncFn() -> bool,
) -> Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    while !is_ready().await {
        refuse_dead(layout, component)?;
        if Instant::now() > deadline {
            return Err(not_ready(layout, component));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Asks the parts of a running cluster whether they are ready.
#[derive(Debug)]
pub(crate) struct Cluster {
    layout: Layout,
    client: HttpClient,
    authorization: String,
}

impl Cluster {
    pub(crate) fn new(layout: &Layout) -> Result<Self> {
        let token = read(&token_of(layout, User::Admin.name()))?;
        Ok(Self {
            layout: layout.clone(),
            client: HttpClient::trusting(&read(&layout.ca_certificate())?)?,
            authorization: format!("Bearer {token}"),
        })
    }

    /// Waits for a condition of a component.
    pub(crate) async fn wait<'a, F>(&'a self, component: Component, is_ready: F) -> Result<()>
    where
        F: AsyncFn(&'a Self) -> bool,
    {
        wait(&self.layout, component, async || is_ready(self).await).await
    }

    async fn object(&self, path: &str) -> Option<serde_json::Value> {
        let url = format!("{API_SERVER}{path}");
        let headers = [("authorization", self.authorization.as_str())];
        let answer = self
            .client
            .send(Method::GET, &url, &headers, Bytes::new())
            .await
            .ok()?;
        if answer.status.is_success() {
            answer.json().ok()
        } else {
            None
        }
    }

    pub(crate) async fn api_is_ready(&self) -> bool {
        let url = format!("{API_SERVER}/readyz");
        let headers = [("authorization", self.authorization.as_str())];
        let answer = self
            .client
            .send(Method::GET, &url, &headers, Bytes::new())
            .await;
        answer.is_ok_and(|answer| answer.status.is_success())
    }

    pub(crate) async fn identity_is_ready(&self) -> bool {
        identity::is_ready(&self.client).await
    }

    pub(crate) async fn node_is_ready(&self) -> bool {
        let node = self.object(&format!("/api/v1/nodes/{NODE_NAME}")).await;
        node.is_some_and(|node| has_condition(&node, "Ready"))
    }

    pub(crate) async fn proxy_is_ready(&self) -> bool {
        let answer = self.client.get("http://127.0.0.1:10256/healthz").await;
        answer.is_ok_and(|answer| answer.status.is_success())
    }

    pub(crate) async fn traefik_is_ready(&self) -> bool {
        let answer = self.client.get(&format!("{TRAEFIK_API}/ping")).await;
        let gateways = "/apis/gateway.networking.k8s.io/v1/namespaces";
        let path = format!("{gateways}/{SANDBOX_NAMESPACE}/gateways/front-door");
        let gateway = self.object(&path).await;
        answer.is_ok_and(|answer| answer.status.is_success())
            && gateway.is_some_and(|gateway| has_condition(&gateway, "Programmed"))
    }
}

fn has_condition(object: &serde_json::Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn refuse_dead(layout: &Layout, component: Component) -> Result<()> {
    let name = component.name();
    if ProcessRecord::load(layout, name).is_some_and(|record| record.is_alive()) {
        return Ok(());
    }
    Err(
        SandboxError::new(format!("{name} ended:\n{}", log_tail(&layout.log(name))))
            .with_hint(format!("the whole log: {}", layout.log(name).display())),
    )
}

fn not_ready(layout: &Layout, component: Component) -> SandboxError {
    let log = layout.log(component.name());
    let (name, seconds) = (component.name(), READY_LIMIT.as_secs());
    SandboxError::new(format!(
        "{name} is not ready after {seconds} s:\n{}",
        log_tail(&log)
    ))
    .with_hint(format!("the whole log: {}", log.display()))
}

fn log_tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// Waits until a Traefik answers at its API's address.
pub(crate) async fn wait_for_ping(layout: &Layout, api: &str) -> Result<()> {
    let url = format!("{api}/ping");
    wait(layout, Component::Traefik, async || {
        HttpClient::plain().get(&url).await.is_ok()
    })
    .await
}
