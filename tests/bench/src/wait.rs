//! Waiting for 300 Deployments at once: one watch against 300 calls of `kubectl rollout status`.
//!
//! Both are started when the cluster has carried the change out: how long its controllers take is the
//! same for both and would hide what the waiting itself costs.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};
use switchyard_sandbox::{TestNamespace, User};

use crate::measure::{self, Cost};
use crate::table::Figure;
use crate::{Bench, progress};

const DEPLOYMENTS: usize = 300;

/// Without pods nothing is started: what is measured is the waiting.
fn manifests(generation: u32) -> String {
    let mut text = String::new();
    for number in 0..DEPLOYMENTS {
        let _ = write!(
            text,
            "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: bench-{number}, labels: {{bench: wait}}}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: bench-{number}}}}}
  template:
    metadata: {{labels: {{app: bench-{number}}}, annotations: {{generation: 'g{generation}'}}}}
    spec: {{containers: [{{name: app, image: 'registry.invalid/none:1'}}]}}
"
        );
    }
    text
}

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let namespace = bench.sandbox.namespace("bench-wait").await;
    progress("creating 300 deployments");
    namespace.apply(&manifests(0))?;
    progress("waiting for 300 changed deployments with health-wait");
    change(bench, &namespace, 1).await?;
    let ours = health_wait(bench, &namespace)?;
    progress("waiting for 300 changed deployments with kubectl rollout status, eight at a time");
    change(bench, &namespace, 2).await?;
    let peer = kubectl(bench, &namespace)?;
    let figure = |what: &str, ours: f64, peer: f64| Figure {
        what: format!("{DEPLOYMENTS} deployments waited for, {what}"),
        ours: format!("{ours:.2} s"),
        peer: format!("{peer:.2} s (`kubectl rollout status`, 8 at a time)"),
        measured: ours / peer,
        goal: 0.05,
        unit: "",
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "a process's memory fits a float's mantissa"
    )]
    let megabytes = ours.peak_memory as f64 / 1e6;
    Ok(vec![
        figure("wall", ours.wall.as_secs_f64(), peer.wall.as_secs_f64()),
        figure(
            "processor",
            ours.processor.as_secs_f64(),
            peer.processor.as_secs_f64(),
        ),
        Figure {
            what: format!("{DEPLOYMENTS} deployments waited for, peak memory"),
            ours: format!("{megabytes:.1} MB"),
            peer: "–".into(),
            measured: megabytes,
            goal: 60.0,
            unit: "MB",
        },
    ])
}

/// Changes all of them and waits until the cluster has taken note of each.
async fn change(bench: &Bench, namespace: &TestNamespace, generation: u32) -> anyhow::Result<()> {
    namespace.apply(&manifests(generation))?;
    let client = bench.sandbox.client(User::Admin).await;
    let deployments: Api<Deployment> = Api::namespaced(client, namespace.name());
    loop {
        let listed = deployments
            .list(&ListParams::default().labels("bench=wait"))
            .await?;
        let is_noted = |deployment: &Deployment| {
            let observed = deployment
                .status
                .as_ref()
                .and_then(|status| status.observed_generation);
            observed.is_some() && observed == deployment.metadata.generation
        };
        if listed.items.iter().all(is_noted) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn health_wait(bench: &Bench, namespace: &TestNamespace) -> anyhow::Result<Cost> {
    let mut command = Command::new(bench.binaries.join("health-wait"));
    command.env_clear();
    command.args([
        "rollout",
        "--selector",
        "bench=wait",
        "--start-delay",
        "0",
        "--timeout",
        "5m",
    ]);
    command.arg("--namespace").arg(namespace.name());
    command
        .arg("--kubeconfig")
        .arg(bench.sandbox.kubeconfig(User::Deployer));
    Ok(measure::run(&mut command)?.0)
}

fn kubectl(bench: &Bench, namespace: &TestNamespace) -> anyhow::Result<Cost> {
    let script = "\"$KUBECTL\" -n \"$NAMESPACE\" get deployments -l bench=wait -o name \
        | xargs -P 8 -n 1 \"$KUBECTL\" -n \"$NAMESPACE\" rollout status --timeout=5m";
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]);
    command.env("KUBECTL", bench.sandbox.kubectl());
    command.env("KUBECONFIG", bench.sandbox.kubeconfig(User::Deployer));
    command.env("NAMESPACE", namespace.name());
    Ok(measure::run(&mut command)?.0)
}
