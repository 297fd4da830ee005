//! ingress-nginx: requests of a canary carry the main Service's name, and the canary's in a label of their own.

use super::{Metrics, Names, Subject, escaped};

pub(super) fn metrics(names: &Names) -> Metrics {
    let namespace = &names.namespace;
    let canary = format!(
        "namespace=\"{namespace}\",canary=~\"{}-{}-[a-z0-9]+\"",
        escaped(namespace),
        escaped(&names.canary.0)
    );
    let main = |subject: &Subject| {
        format!(
            "namespace=\"{namespace}\",service=\"{}\",canary=\"\"",
            subject.0
        )
    };
    Metrics {
        requests: "nginx_ingress_controller_requests",
        buckets: "nginx_ingress_controller_request_duration_seconds_bucket",
        scale: 1.0,
        failed: "status=~\"5..\"",
        canary,
        baseline: names.baseline.as_ref().map(main),
    }
}
