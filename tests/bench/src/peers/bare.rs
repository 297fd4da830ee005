//! A writer with nothing to decide, to record or to confirm: it watches the pods of a canary, and sends the traffic
//! away with one patch when none of them is ready. No tool that acts on what it sees is faster, so what is lost here
//! is the proxy's own.

use std::collections::BTreeMap;
use std::pin::pin;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};
use switchyard_sandbox::User;

use super::{Plane, START, settle};
use crate::Bench;
use crate::canary::breakage::Breakage;
use crate::canary::ours::{CALM, OBSERVED, PODS, Seen, share, users};
use crate::canary::shop::Shop;

/// Breaks the pods of a canary with half of the traffic.
pub(super) async fn play(bench: &Bench, plane: Plane, breakage: Breakage) -> anyhow::Result<Seen> {
    let shop = Shop::with_canary(bench, plane.route(), START).await?;
    tokio::task::block_in_place(|| {
        share(bench, &shop, 10)?;
        share(bench, &shop, 50)
    })?;
    let load = users(bench, shop.door())?;
    let client = bench.sandbox.client(User::Admin).await;
    let namespace = shop.namespace().name().to_owned();
    let writer = tokio::spawn(async move {
        until_unready(client.clone(), &namespace).await?;
        send_away(client, plane, &namespace).await
    });
    tokio::time::sleep(CALM).await;
    anyhow::ensure!(
        !writer.is_finished(),
        "the canary was left before anything was wrong"
    );
    let struck = load.elapsed();
    breakage.strike(bench, shop.namespace(), PODS).await?;
    tokio::time::timeout(OBSERVED, writer)
        .await
        .context("the pods of the canary stayed ready")???;
    settle(&load, breakage.left()).await;
    Seen::of(load, struck, breakage.left()).await
}

/// Ends when pods of the canary have been seen and none of them is ready any more.
async fn until_unready(client: Client, namespace: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let mut events = pin!(watcher(pods, watcher::Config::default().labels(PODS)));
    let mut ready = BTreeMap::new();
    while let Some(event) = events.try_next().await? {
        match event {
            Event::Init | Event::InitDone => {}
            Event::InitApply(pod) | Event::Apply(pod) => {
                ready.insert(pod.name_any(), is_ready(&pod));
            }
            Event::Delete(pod) => {
                ready.insert(pod.name_any(), false);
            }
        }
        if !ready.is_empty() && !ready.values().any(|&is_ready| is_ready) {
            return Ok(());
        }
    }
    anyhow::bail!("the watch of the pods has ended")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    let is_true = conditions
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    is_true && pod.metadata.deletion_timestamp.is_none()
}

async fn send_away(client: Client, plane: Plane, namespace: &str) -> anyhow::Result<()> {
    let route: Api<DynamicObject> = Api::namespaced_with(client, namespace, &plane.kind());
    // Without the canary's Service: Traefik drops a whole route for a Service without endpoints, whatever its weight.
    let weights = plane.weights(&[("api", 100)]);
    route
        .patch("api", &PatchParams::default(), &Patch::Merge(weights))
        .await?;
    Ok(())
}
