//! Nonsense in the inputs is refused before anything is touched: exit code 2, and the input's name.

use switchyard_harness::Step;

fn refused(inputs: &[(&str, &str)]) -> String {
    let mut step = Step::new(env!("CARGO_BIN_EXE_release-watch")).input("kubeconfig", "/nowhere");
    for (name, value) in inputs {
        step = step.input(name, *value);
    }
    let ended = step.run();
    assert_eq!(ended.code, Some(2), "{inputs:?}: {}", ended.log());
    ended.log()
}

#[test]
fn every_input_refuses_nonsense_by_its_name() {
    for (input, nonsense, part) in [
        ("workloads", "web", "deployment/web"),
        ("selector", "app in blue", "no label selector"),
        ("side", "red", "blue, green, stable, canary, unslotted"),
        ("checks", "- {name: a}", "it asks nothing"),
        ("preset", "apache", "is no preset"),
        ("canary", "a b", "no name in metrics"),
        ("thresholds", "strict", "runbook"),
        ("max-error-rate", "0.01", "a share is a percentage"),
        ("max-p95", "500", "`90s`"),
        ("latency-tolerance", "0.5", "from 1"),
        ("min-requests", "0", "min-requests"),
        ("consecutive", "0", "consecutive"),
        ("no-data", "pass", "ignore"),
        ("on-error", "pass", "ignore"),
        ("duration", "0", "longer than 0"),
        ("interval", "x", "`90s`"),
        ("prometheus-url", "prometheus", "prometheus-url"),
        ("query-timeout", "0s", "longer than 0"),
        ("verify-url", "ftp://shop.example", "verify-url"),
        ("verify-rate", "0", "verify-rate"),
    ] {
        let log = refused(&[(input, nonsense)]);
        assert!(log.contains(part), "{input}={nonsense}: {log}");
        assert!(log.contains(&format!("input `{input}`")), "{log}");
    }
}

#[test]
fn a_watch_of_nothing_or_without_what_it_needs_is_refused() {
    assert!(refused(&[]).contains("nothing to watch"));
    let log = refused(&[("selector", "app=web"), ("leave-at-once", "true")]);
    assert!(log.contains("give `application`"), "{log}");
    let log = refused(&[("preset", "traefik"), ("canary", "api")]);
    assert!(log.contains("`prometheus-url` is not given"), "{log}");
}
