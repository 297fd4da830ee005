//! Watches against a real Prometheus that scrapes the demo application, and against what is none.

mod support;

use std::time::Duration;

use support::{App, Prometheus, Traffic, Wrong, step};
use switchyard_harness::{Ended, Step, expect_code, expect_said};

/// A new version beside an old one under traffic, watched by the application's own metrics.
fn compared(canary: &App, baseline: &App, prometheus: &Prometheus) -> Step {
    let _ = (canary, baseline);
    step()
        .input("preset", "application")
        .input("canary", "v2")
        .input("baseline", "v1")
        .input("prometheus-url", prometheus.url())
}

fn sides() -> (App, App) {
    (App::start("v2"), App::start("v1"))
}

fn check(ended: &Ended, name: &str) -> String {
    let checks = &ended.outputs["checks"];
    let at = checks
        .find(&format!("\"name\":\"{name}\""))
        .unwrap_or_else(|| panic!("{checks}"));
    checks[at..]
        .split('}')
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_good_version_passes_and_every_check_says_what_it_measured() {
    let (canary, baseline) = sides();
    let prometheus = Prometheus::scraping(&[&canary, &baseline]);
    let _traffic = Traffic::to(&[&canary, &baseline]);
    let ended = compared(&canary, &baseline, &prometheus)
        .input("verify-url", canary.url())
        .input("verify-rate", "50")
        .run();
    expect_code(&ended, 0);
    assert_eq!(ended.outputs["verdict"], "pass");
    assert_eq!(ended.outputs["action"], "none");
    let errors = check(&ended, "application errors");
    assert!(
        errors.contains("(0 %) requests failed, allowed are 1 %; baseline 0 of"),
        "{errors}"
    );
    let p95 = check(&ended, "application p95");
    assert!(
        p95.contains("allowed are at most 500 ms; baseline"),
        "{p95}"
    );
    let samples = std::fs::read_to_string(&ended.outputs["evidence"]).unwrap();
    assert!(samples.lines().count() > 20, "{samples}");
    for line in samples.lines() {
        assert!(
            line.starts_with("{\"at\":\"") && line.ends_with('}'),
            "{line}"
        );
    }
    let chart = std::fs::read_to_string(&ended.outputs["chart"]).unwrap();
    assert!(
        chart.contains("requests a second") && chart.contains("latency"),
        "{chart}"
    );
    assert!(ended.summary.contains("xychart-beta"), "{}", ended.summary);
    assert!(
        ended
            .summary
            .contains("| application errors | errors | pass |"),
        "{}",
        ended.summary
    );
}

#[test]
fn two_percent_errors_roll_back_before_the_time_is_over() {
    let (canary, baseline) = sides();
    canary.behave(r#"{"error_rate": 0.02}"#);
    let prometheus = Prometheus::scraping(&[&canary, &baseline]);
    let _traffic = Traffic::to(&[&canary, &baseline]);
    let ended = compared(&canary, &baseline, &prometheus)
        .input("duration", "60s")
        .run();
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["verdict"], "fail");
    assert_eq!(ended.outputs["action"], "rollback");
    assert!(
        ended.outputs["reason"].starts_with("application errors: "),
        "{:?}",
        ended.outputs
    );
    expect_said(
        &ended,
        &["requests failed, allowed are 1 %", "convincing from"],
    );
}

#[test]
fn a_slow_version_rolls_back_by_its_p95() {
    let (canary, baseline) = sides();
    canary.behave(r#"{"latency_ms": 800}"#);
    let prometheus = Prometheus::scraping(&[&canary, &baseline]);
    let _traffic = Traffic::to(&[&canary, &baseline]);
    let ended = compared(&canary, &baseline, &prometheus)
        .input("duration", "60s")
        .run();
    expect_code(&ended, 1);
    assert!(
        ended.outputs["reason"].starts_with("application p95: "),
        "{:?}",
        ended.outputs
    );
    expect_said(&ended, &["allowed are at most 500 ms"]);
}

#[test]
fn memory_that_grows_fails_its_item_of_the_checklist_and_takes_nothing_back() {
    let app = App::start("v2");
    let prometheus = Prometheus::scraping(&[&app]);
    let watch = || {
        step()
            .input("prometheus-url", prometheus.url())
            .input("thresholds", "deployment")
            .input("interval", "3s")
            .input("duration", "15s")
            .input("checklist", "true")
            .input(
                "checks",
                "- name: memory slope\n  query: deriv(process_resident_memory_bytes[3s])\n  max: 1000000\n  \
                 concern: capacity\n  item: heap\n  window: 0-5",
            )
    };
    let steady = watch().run();
    expect_code(&steady, 0);
    assert_eq!(steady.outputs["action"], "none", "{}", steady.log());
    app.behave(r#"{"memory_growth_mib": 8}"#);
    let leaking = watch().run();
    expect_code(&leaking, 0);
    assert_eq!(leaking.outputs["action"], "alert", "{}", leaking.log());
    expect_said(&leaking, &["release-watch%3A alert::memory slope: "]);
    let line = "heap: **failed**: memory slope";
    assert!(leaking.summary.contains(line), "{}", leaking.summary);
}

#[test]
fn no_traffic_is_no_data_and_no_pass() {
    let (canary, baseline) = sides();
    let prometheus = Prometheus::scraping(&[&canary, &baseline]);
    let ended = compared(&canary, &baseline, &prometheus)
        .input("duration", "4s")
        .run();
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["verdict"], "no-data");
    assert_eq!(ended.outputs["action"], "rollback");
    expect_said(&ended, &["no data"]);
}

#[test]
fn a_prometheus_that_goes_away_cannot_be_judged() {
    let (canary, baseline) = sides();
    let mut prometheus = Prometheus::scraping(&[&canary, &baseline]);
    let _traffic = Traffic::to(&[&canary, &baseline]);
    let started = compared(&canary, &baseline, &prometheus)
        .input("duration", "60s")
        .input("max-errors", "2")
        .start();
    prometheus.end();
    let ended = started.finish();
    expect_code(&ended, 3);
    assert_eq!(ended.outputs["verdict"], "error");
    assert_eq!(ended.outputs["action"], "none");
    expect_said(
        &ended,
        &["could not be measured", "cannot connect", "prometheus-url"],
    );
}

/// One check, one query.
fn query(prometheus: &str, check: &str) -> Step {
    step()
        .input("duration", "2s")
        .input("interval", "1s")
        .input("consecutive", "1")
        .input("prometheus-url", prometheus)
        .input("checks", format!("[{{name: it, {check}}}]"))
}

#[test]
fn answers_of_a_real_prometheus_are_told_apart() {
    let (canary, baseline) = sides();
    let prometheus = Prometheus::scraping(&[&canary, &baseline]);
    let url = prometheus.url();
    for (asked, verdict, code, said) in [
        (
            "query: 'sum(up)', min: 2",
            "pass",
            0,
            "2, wanted are at least 2",
        ),
        (
            "query: 'count(up)', max: 1",
            "fail",
            1,
            "2, allowed are at most 1",
        ),
        (
            "query: 'scalar(sum(up))', min: 2",
            "pass",
            0,
            "wanted are at least 2",
        ),
        (
            "query: 'app_info{version=\"v2\"}', min: 1",
            "pass",
            0,
            "wanted are at least 1",
        ),
        ("query: up, min: 1", "error", 3, "2 series, not one"),
        (
            "query: nothing_of_the_kind, min: 1",
            "no-data",
            1,
            "the query gives nothing",
        ),
        (
            "query: 'sum(nothing_of_the_kind)', min: 1",
            "no-data",
            1,
            "the query gives nothing",
        ),
        (
            "query: 'sum(up) * NaN', max: 1",
            "no-data",
            1,
            "the query gives NaN",
        ),
        (
            "query: 'sum(up) / 0', max: 1",
            "no-data",
            1,
            "the query gives inf",
        ),
        ("query: '\"text\"', max: 1", "error", 3, "gives a text"),
        (
            "query: 'sum(', max: 1",
            "error",
            3,
            "refused the query: bad_data",
        ),
    ] {
        let ended = query(&url, asked).run();
        assert_eq!(
            ended.outputs["verdict"],
            verdict,
            "{asked}: {}",
            ended.log()
        );
        assert_eq!(ended.code, Some(code), "{asked}: {}", ended.log());
        expect_said(&ended, &[said]);
    }
}

#[test]
fn samples_that_are_too_old_are_no_data() {
    let canary = App::start("v2");
    let prometheus = Prometheus::scraping(&[&canary]);
    let asked = "query: 'app_info{version=\"v2\"}', min: 1";
    expect_code(&query(&prometheus.url(), asked).run(), 0);
    // Prometheus would still give the last value for a while, under the time of the question.
    drop(canary);
    switchyard_harness::until("the application to be gone", || {
        prometheus.ask("up == 0").contains("\"value\"")
    });
    let ended = query(&prometheus.url(), asked)
        .input("max-age", "1s")
        .input("duration", "4s")
        .run();
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["verdict"], "no-data", "{}", ended.log());
}

#[test]
fn what_is_no_prometheus_is_an_error_and_no_number() {
    let at_once = Duration::ZERO;
    for (wrong, said) in [
        (
            Wrong::answering("200 OK", "<html>welcome</html>", at_once),
            "no answer of Prometheus",
        ),
        (
            Wrong::answering("500 Internal Server Error", "oops", at_once),
            "answered 500 with what is no answer of Prometheus",
        ),
        (
            Wrong::answering("401 Unauthorized", "", at_once),
            "wants credentials",
        ),
        (
            Wrong::answering(
                "200 OK",
                r#"{"status":"success","warnings":["a store is away"],"data":{"resultType":"scalar","result":[1,"1"]}}"#,
                at_once,
            ),
            "the answer may be a part",
        ),
        (
            Wrong::answering("200 OK", "{}", Duration::from_secs(5)),
            "no answer from",
        ),
    ] {
        let ended = query(&wrong.url(), "query: 'sum(up)', min: 1")
            .input("query-timeout", "1s")
            .run();
        expect_code(&ended, 3);
        assert_eq!(ended.outputs["verdict"], "error");
        expect_said(&ended, &[said]);
    }
}

#[test]
fn a_stale_instant_vector_is_no_data() {
    let old = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"1"]}]}}"#;
    let wrong = Wrong::answering("200 OK", old, Duration::ZERO);
    let ended = query(&wrong.url(), "query: 'sum(up)', min: 1").run();
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["verdict"], "no-data");
    expect_said(&ended, &["its last sample is"]);
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let answer = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    for (inputs, header) in [
        (
            &[("prometheus-token", "tok-8472-secret")][..],
            "authorization: bearer tok-8472-secret",
        ),
        (
            &[
                ("prometheus-user", "dana"),
                ("prometheus-password", "pass-8472-secret"),
            ],
            // dana:pass-8472-secret
            "authorization: basic zgfuytpwyxnzltg0nzitc2vjcmv0",
        ),
    ] {
        let wrong = Wrong::answering("200 OK", answer, Duration::ZERO);
        let mut step = query(&wrong.url(), "query: 'sum(up)', min: 1");
        for (name, value) in inputs {
            step = step.input(name, *value);
        }
        let ended = step.run();
        expect_code(&ended, 1);
        let sent = wrong.requests().join("\n").to_lowercase();
        assert!(sent.contains(header), "{sent}");
        assert!(sent.starts_with("post /api/v1/query http/1.1"), "{sent}");
        for secret in ["tok-8472-secret", "pass-8472-secret"] {
            ended.assert_never_shows(secret);
        }
    }
}

#[test]
fn no_data_and_errors_follow_their_policies() {
    let canary = App::start("v2");
    let prometheus = Prometheus::scraping(&[&canary]);
    let nothing = |policy: &str| {
        let checks = format!(
            "[{{name: it, query: nothing_of_the_kind, min: 1, no-data: {policy}}}, {{name: up, query: 'sum(up)', min: 1}}]"
        );
        query(&prometheus.url(), "query: up, min: 1").input("checks", checks)
    };
    let ignored = nothing("ignore").run();
    expect_code(&ignored, 0);
    assert!(
        ignored.summary.contains("no-data (ignored)"),
        "{}",
        ignored.summary
    );
    let failed = nothing("fail").input("duration", "60s").run();
    expect_code(&failed, 1);
    assert_eq!(failed.outputs["verdict"], "fail");
}
