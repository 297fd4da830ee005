//! CPU and memory of pods against their limits: the kubelet's cAdvisor, and kube-state-metrics for the limits.

use switchyard_verdict::Concern;
use switchyard_verdict::rule::Unit;

use super::{Names, Written, bounded, escaped, joined};

pub(super) fn checks(names: &Names) -> Vec<Written> {
    let pods = format!(
        "namespace=\"{}\",pod=~\"{}-.+\"",
        names.namespace,
        escaped(&names.canary.0)
    );
    let pods = joined(&pods, names);
    let limit = |resource: &str| {
        format!("sum(kube_pod_container_resource_limits{{{pods},resource=\"{resource}\"}})")
    };
    let cpu = format!(
        "sum(rate(container_cpu_usage_seconds_total{{{pods},container!=\"\"}}[{}s])) / {}",
        names.window,
        limit("cpu")
    );
    let memory = format!(
        "sum(container_memory_working_set_bytes{{{pods},container!=\"\"}}) / {}",
        limit("memory")
    );
    let bounds = names.bounds;
    vec![
        bounded("cpu", Concern::Capacity, cpu, (bounds.cpu, Unit::Share)),
        bounded(
            "memory",
            Concern::Capacity,
            memory,
            (bounds.memory, Unit::Share),
        ),
    ]
}
