//! Metrics that the application exports itself, with a label `version` and the status in `code`.

use super::{Metrics, Names, Subject};

pub(super) fn metrics(names: &Names) -> Metrics {
    let side = |subject: &Subject| format!("version=\"{}\"", subject.0);
    Metrics {
        requests: "http_requests_total",
        buckets: "http_request_duration_seconds_bucket",
        scale: 1.0,
        failed: "code=~\"5..\"",
        canary: side(&names.canary),
        baseline: names.baseline.as_ref().map(side),
    }
}
