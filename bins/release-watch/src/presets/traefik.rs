//! Traefik: `metrics.prometheus.addServicesLabels`, its default. A Service is known by namespace, name and port where
//! custom resources lead to it, and by its route where the Gateway API does.

use super::{Metrics, Names, Subject, escaped};

pub(super) fn metrics(names: &Names) -> Metrics {
    let side = |subject: &Subject| {
        let (namespace, name) = (escaped(&names.namespace), escaped(&subject.0));
        format!(
            "service=~\"{namespace}-{name}-[a-z0-9]+@kubernetescrd|.+-svc-{namespace}-{name}-[0-9]+@kubernetesgateway\""
        )
    };
    Metrics {
        requests: "traefik_service_requests_total",
        buckets: "traefik_service_request_duration_seconds_bucket",
        scale: 1.0,
        failed: "code=~\"5..\"",
        canary: side(&names.canary),
        baseline: names.baseline.as_ref().map(side),
    }
}
