//! Ready-made queries on the metrics of the sandbox's real Traefik, scraped by a real Prometheus: what they count is
//! what was asked, by version.

mod support;

use std::time::Duration;

use serde_json::json;
use support::cluster::{control, deploy};
use support::{Prometheus, counted, has_looked, step};
use switchyard_harness::{Step, until};
use switchyard_sandbox::load::{LoadPlan, LoadReport};
use switchyard_sandbox::{Sandbox, TestNamespace, User};

const OLD: &str = "v1.0.0";
const NEW: &str = "v1.1.0";
/// The check that counts requests.
const CHECK: &str = "traefik errors";

/// A watch of one side that is long enough for all that is sent meanwhile, and tolerates its failures.
fn watch_of(
    side: &str,
    (sandbox, namespace): (&Sandbox, &TestNamespace),
    prometheus: &Prometheus,
) -> Step {
    let kubeconfig = sandbox.kubeconfig(User::Deployer);
    step()
        .input("kubeconfig", kubeconfig.display().to_string())
        .input("namespace", namespace.name())
        .input("preset", "traefik")
        .input("canary", side)
        .input("prometheus-url", prometheus.url())
        .input("max-error-rate", "60%")
        .input("duration", "40s")
}

/// A side's Service behind a TraefikService, and behind an HTTPRoute, with a quarter for the canary.
fn fronts(host: &str) -> String {
    format!(
        r#"
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {{name: api}}
spec: {{weighted: {{services: [{{name: api, port: 80, weight: 75}}, {{name: api-canary, port: 80, weight: 25}}]}}}}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {{name: api}}
spec:
  entryPoints: [web]
  routes: [{{kind: Rule, match: "Host(`crd.{host}`)", services: [{{name: api, kind: TraefikService}}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: api}}
spec:
  parentRefs: [{{name: front-door, namespace: switchyard-sandbox}}]
  hostnames: ["gateway.{host}"]
  rules: [{{backendRefs: [{{name: api, port: 80, weight: 75}}, {{name: api-canary, port: 80, weight: 25}}]}}]
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn traefiks_services_are_told_apart_and_counted_to_the_last_request() {
    let sandbox = Sandbox::shared();
    let namespace = sandbox.namespace("rw-traefik").await;
    let host = format!("{}.test", namespace.name());
    deploy(&sandbox, &namespace, ("api", OLD), None).await;
    deploy(&sandbox, &namespace, ("api-canary", NEW), None).await;
    namespace.apply(&fronts(&host)).unwrap();
    let hosts = [format!("crd.{host}"), format!("gateway.{host}")];
    let load = |host: &str, seconds: u64| {
        let plan = LoadPlan::new(&format!("{}/api", sandbox.front_door()), 50).unwrap();
        let plan = plan.host(host).unwrap().time_limit(Duration::from_secs(40));
        async move { plan.run_for(Duration::from_secs(seconds)).await.unwrap() }
    };
    for host in &hosts {
        let began = std::time::Instant::now();
        loop {
            let report = load(host, 1).await;
            if report.lost == 0 && report.by_version.values().sum::<u64>() > 0 {
                break;
            }
            assert!(
                began.elapsed() < Duration::from_secs(90),
                "{}",
                report.summary()
            );
        }
    }
    control(&namespace, "api-canary", json!({"error_rate": 0.2})).await;
    let metrics = sandbox.traefik_metrics();
    let metrics = metrics
        .trim_start_matches("http://")
        .trim_end_matches("/metrics");
    let prometheus = Prometheus::scraping_at(&[metrics]);
    let watches = ["api-canary", "api"].map(|side| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let step = watch_of(side, (&sandbox, &namespace), &prometheus);
        (step.input("folder", path).start(), folder)
    });
    for (_, folder) in &watches {
        tokio::task::block_in_place(|| {
            until("its first look", || has_looked(folder.path(), CHECK));
        });
    }
    let (by_crd, by_gateway) = tokio::join!(load(&hosts[0], 3), load(&hosts[1], 3));
    let answers = |version: &str| {
        let of = |report: &LoadReport| report.by_version.get(version).copied().unwrap_or(0);
        of(&by_crd) + of(&by_gateway)
    };
    let failed = by_crd.lost + by_gateway.lost;
    let counts = watches.map(|(watch, _folder)| {
        let ended = tokio::task::block_in_place(|| watch.finish());
        assert_ne!(ended.outputs["verdict"], "error", "{}", ended.log());
        counted(&ended, CHECK)
    });
    assert_eq!(counts, [(answers(NEW), failed), (answers(OLD), 0)]);
    assert!(failed > 0, "a fifth of the canary's answers fail");
}
