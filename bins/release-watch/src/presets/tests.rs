use clap::ValueEnum as _;

use super::*;

fn names(canary: &str, baseline: Option<&str>) -> Names {
    Names {
        canary: canary.parse().unwrap(),
        baseline: baseline.map(|name| name.parse().unwrap()),
        namespace: "shop".to_owned(),
        matchers: "cluster=\"eu\"".to_owned(),
        queue_metric: "rabbitmq_queue_messages".to_owned(),
        window: 60,
        bounds: Bounds {
            error_rate: 0.01,
            p95: 0.5,
            cpu: 0.8,
            memory: 0.9,
            queue: 1000,
            error_tolerance: 1.0,
            latency_tolerance: 1.2,
        },
    }
}

fn queries(preset: Preset, names: &Names) -> Vec<String> {
    let mut queries = Vec::new();
    for written in checks(preset, names) {
        match written.ask {
            Ask::Http(_) => panic!("a preset asks Prometheus"),
            Ask::Value {
                query, baseline, ..
            } => {
                queries.push(query);
                queries.extend(baseline);
            }
            Ask::Counts {
                canary, baseline, ..
            } => {
                for counters in [Some(canary), baseline].into_iter().flatten() {
                    queries.extend([counters.requests, counters.errors]);
                }
            }
        }
    }
    queries
}

#[test]
fn traefik_knows_a_service_by_namespace_name_and_port() {
    let queries = queries(Preset::Traefik, &names("api-canary", None));
    assert_eq!(
        queries[1],
        "traefik_service_requests_total{service=~\"shop-api-canary-[a-z0-9]+@kubernetescrd|\
         .+-svc-shop-api-canary-[0-9]+@kubernetesgateway\",code=~\"5..\",cluster=\"eu\"}"
    );
}

#[test]
fn every_query_has_the_users_matchers_and_counters_are_plain_selectors() {
    for preset in Preset::value_variants() {
        for baseline in [None, Some("api")] {
            let names = names("api-canary", baseline);
            for query in queries(*preset, &names) {
                assert!(query.contains("cluster=\"eu\""), "{query}");
            }
            for written in checks(*preset, &names) {
                if let Ask::Counts { canary, .. } = written.ask {
                    for query in [canary.requests, canary.errors] {
                        assert!(switchyard_prometheus::is_plain_selector(&query), "{query}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_baseline_doubles_the_queries_of_traffic() {
    for preset in [
        Preset::Traefik,
        Preset::Istio,
        Preset::Nginx,
        Preset::Haproxy,
        Preset::Application,
    ] {
        let alone = queries(preset, &names("a", None)).len();
        let compared = queries(preset, &names("a", Some("b"))).len();
        assert_eq!(compared, 2 * alone, "{preset:?}");
    }
}

#[test]
fn names_cannot_leave_their_quotes() {
    for nonsense in ["", "a\"}", "a b", "a{b", "a\\"] {
        assert!(nonsense.parse::<Subject>().is_err(), "{nonsense}");
    }
    let queries = queries(Preset::Resources, &names("v1.0", None));
    assert!(
        queries[0].contains("pod=~\"v1\\\\.0-.+\""),
        "{}",
        queries[0]
    );
}

#[test]
fn names_of_latencies_say_which_percentile_they_are() {
    for preset in [
        Preset::Traefik,
        Preset::Istio,
        Preset::Nginx,
        Preset::Application,
    ] {
        let checks = checks(preset, &names("a", None));
        for percentile in ["p50", "p95", "p99"] {
            assert!(checks.iter().any(|check| check.name.ends_with(percentile)));
        }
    }
    let haproxy = checks(Preset::Haproxy, &names("a/b", None));
    assert!(
        haproxy
            .iter()
            .any(|check| check.name.ends_with("average latency"))
    );
}
