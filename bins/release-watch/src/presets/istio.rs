//! Istio's standard metrics, as the destination's proxy reports them.

use super::{Metrics, Names, Subject};

pub(super) fn metrics(names: &Names) -> Metrics {
    let side = |subject: &Subject| {
        format!(
            "reporter=\"destination\",destination_workload_namespace=\"{}\",destination_workload=\"{}\"",
            names.namespace, subject.0
        )
    };
    Metrics {
        requests: "istio_requests_total",
        buckets: "istio_request_duration_milliseconds_bucket",
        scale: 1000.0,
        // 0: the connection broke before there was an answer.
        failed: "response_code=~\"5..|0\"",
        canary: side(&names.canary),
        baseline: names.baseline.as_ref().map(side),
    }
}
