//! Moving the traffic with `traffic-switch`, as a release does: switch, and roll back.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::loss::application::Application;
use crate::{Bench, measure};

/// Switches and rolls back; returns how long each write took to be confirmed by every proxy.
pub(crate) fn there_and_back(
    bench: &Bench,
    application: &Application,
) -> anyhow::Result<Vec<Duration>> {
    let mut switch = application.step(bench, "traffic-switch", "switch", "v1.1.0");
    switch.args(["--targets", application.target(), "--longest-request", "1s"]);
    let mut rollback = application.step(bench, "traffic-switch", "rollback", "v1.1.0");
    rollback.args(["--longest-request", "1s"]);
    let mut confirmed = Vec::new();
    for mut command in [switch, rollback] {
        proof(bench, &mut command);
        let (_, output) = measure::run(&mut command)?;
        confirmed.extend(confirmation(&String::from_utf8_lossy(&output.stdout)));
    }
    Ok(confirmed)
}

/// Where the data plane is asked.
pub(crate) fn proof(bench: &Bench, command: &mut Command) {
    command.args(["--traefik-api", bench.sandbox.traefik_api()]);
    command.args(["--traefik-metrics", bench.sandbox.traefik_metrics()]);
    // Traefik goes to the pods, not through kube-proxy.
    command.args(["--kube-proxy-metrics", "none"]);
}

fn confirmation(outputs: &str) -> Option<Duration> {
    let outputs: BTreeMap<&str, &str> = outputs
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let evidence: serde_json::Value = serde_json::from_str(outputs.get("evidence")?).ok()?;
    evidence
        .get("decision_to_evidence_ms")?
        .as_u64()
        .map(Duration::from_millis)
}
