//! Ready-made queries, on a real Prometheus: what they count of a real HAProxy is what it was asked. Proxies that cannot
//! be run here are told apart by the labels that they expose.

mod support;

use support::{App, Exporter, HaProxy, Prometheus, counted, has_looked, step};
use switchyard_harness::{Step, until};

/// A watch of one side that is long enough for all that is sent meanwhile, and tolerates its failures.
fn watch_of(side: &str, prometheus: &Prometheus) -> Step {
    step()
        .input("preset", "haproxy")
        .input("canary", side)
        .input("prometheus-url", prometheus.url())
        .input("max-error-rate", "60%")
        .input("interval", "2s")
        .input("duration", "25s")
}

#[test]
fn haproxys_servers_are_told_apart_and_counted_to_the_last_request() {
    let (new, old) = (App::start("v2"), App::start("v1"));
    new.behave(r#"{"error_rate": 0.2}"#);
    let proxy = HaProxy::before(&new, &old);
    let prometheus = Prometheus::scraping_at(&[&proxy.metrics]);
    let watches = ["shop/new", "shop/old"].map(|side| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        (
            watch_of(side, &prometheus).input("folder", path).start(),
            folder,
        )
    });
    for (_, folder) in &watches {
        until("its first look", || {
            has_looked(folder.path(), "haproxy errors")
        });
    }
    let asked = proxy.ask(200);
    for ((watch, _folder), version) in watches.into_iter().zip(["v2", "v1"]) {
        let ended = watch.finish();
        assert_ne!(ended.outputs["verdict"], "error", "{}", ended.log());
        assert_eq!(
            counted(&ended, "haproxy errors"),
            asked[version],
            "{version}"
        );
        let checks = &ended.outputs["checks"];
        assert!(checks.contains("haproxy average latency"), "{checks}");
    }
    assert_eq!(
        asked["v2"],
        (50, 10),
        "a quarter by weight, and every fifth of it fails"
    );
}

/// The counters of one side as a proxy exposes them that cannot be run here: so many requests, and those of them that
/// failed, the rest being faster than a tenth of a second.
fn exposed(preset: &str, side: &str, (requests, failed): (u64, u64)) -> String {
    let good = requests - failed;
    match (preset, side) {
        // The standard metrics of Istio 1.31, as the destination's proxy and the source's both report them.
        ("istio", workload) => {
            let of = |reporter: &str, code: &str| {
                format!(
                    "reporter=\"{reporter}\",source_workload=\"istio-ingressgateway\",\
                     source_workload_namespace=\"istio-system\",destination_workload=\"{workload}\",\
                     destination_workload_namespace=\"shop\",destination_service=\"api.shop.svc.cluster.local\",\
                     request_protocol=\"http\",response_code=\"{code}\",response_flags=\"-\""
                )
            };
            let mut text = String::new();
            for reporter in ["destination", "source"] {
                for (code, count) in [
                    ("200", good),
                    ("503", failed / 2),
                    ("0", failed - failed / 2),
                ] {
                    let labels = of(reporter, code);
                    text.push_str(&format!("istio_requests_total{{{labels}}} {count}\n"));
                    for bound in ["100", "250", "+Inf"] {
                        text.push_str(&format!(
                            "istio_request_duration_milliseconds_bucket{{{labels},le=\"{bound}\"}} {count}\n"
                        ));
                    }
                }
            }
            text
        }
        // ingress-nginx 1.15: a canary's requests carry the main Service in `service`.
        (_, service) => {
            let canary = if service == "api" {
                String::new()
            } else {
                format!("shop-{service}-80")
            };
            let mut text = String::new();
            for (code, count) in [("200", good), ("502", failed)] {
                let labels = format!(
                    "canary=\"{canary}\",controller_class=\"k8s.io/ingress-nginx\",controller_namespace=\"ingress-nginx\",\
                     controller_pod=\"ingress-nginx-controller-0\",host=\"shop.example.com\",ingress=\"api\",method=\"GET\",\
                     namespace=\"shop\",path=\"/\",service=\"api\",status=\"{code}\""
                );
                text.push_str(&format!(
                    "nginx_ingress_controller_requests{{{labels}}} {count}\n"
                ));
                for bound in ["0.1", "0.25", "+Inf"] {
                    text.push_str(&format!(
                        "nginx_ingress_controller_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count}\n"
                    ));
                }
            }
            text
        }
    }
}

#[test]
fn sides_are_told_apart_by_the_labels_of_istio_and_of_ingress_nginx() {
    let presets = ["istio", "nginx"];
    let told = |of: [(u64, u64); 2]| {
        let sides = ["api-canary", "api"];
        let texts = presets.map(|preset| {
            let texts = sides.iter().zip(of);
            let texts: Vec<_> = texts
                .map(|(side, count)| exposed(preset, side, count))
                .collect();
            texts.concat()
        });
        texts.concat()
    };
    let exporter = Exporter::telling(&told([(1000, 7), (9000, 9)]));
    let prometheus = Prometheus::scraping_at(&[&exporter.address]);
    let watches = presets.map(|preset| {
        let folder = tempfile::tempdir().unwrap();
        let watch = watch_of("api-canary", &prometheus)
            .input("preset", preset)
            .input("baseline", "api")
            .input("error-tolerance", "100")
            .input("namespace", "shop")
            .input("duration", "12s")
            .input("folder", folder.path().display().to_string());
        (watch.start(), folder, preset)
    });
    for (_, folder, preset) in &watches {
        until("its first look", || {
            has_looked(folder.path(), &format!("{preset} errors"))
        });
    }
    exporter.tell(&told([(1200, 31), (9600, 12)]));
    for (watch, _folder, preset) in watches {
        let ended = watch.finish();
        assert_ne!(ended.outputs["verdict"], "error", "{}", ended.log());
        let counts = counted(&ended, &format!("{preset} errors"));
        assert_eq!(counts, (200, 24), "{preset}");
        let line = "24 of 200 (12 %) requests failed, allowed are 60 %; baseline 3 of 600";
        let samples = std::fs::read_to_string(&ended.outputs["evidence"]).unwrap();
        assert!(samples.contains(line), "{preset}: {samples}");
    }
}
