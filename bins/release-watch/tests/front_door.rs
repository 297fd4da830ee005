//! Watches of a front door and of URLs on loopback, without a cluster and without Prometheus.

mod support;

use std::time::{Duration, Instant};

use support::{App, Prometheus, step};
use switchyard_harness::{expect_code, expect_said, until};

#[test]
fn a_good_front_door_passes_with_a_count() {
    let app = App::start("v2");
    let ended = step()
        .input("verify-url", app.url())
        .input("verify-rate", "50")
        .run();
    expect_code(&ended, 0);
    expect_said(&ended, &["front-door errors: 0 of", "front-door p95: p95"]);
}

#[test]
fn a_front_door_that_fails_rolls_back_at_the_look() {
    let app = App::start("v2");
    app.behave(r#"{"error_rate": 0.2}"#);
    let began = Instant::now();
    let ended = step()
        .input("verify-url", app.url())
        .input("verify-rate", "100")
        .input("duration", "60s")
        .run();
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["action"], "rollback");
    expect_said(&ended, &["front-door errors", "status 500"]);
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "it ended at the breach"
    );
}

#[test]
fn a_front_door_that_is_away_fails_and_says_so() {
    let app = App::start("v2");
    let url = app.url();
    drop(app);
    let ended = step()
        .input("verify-url", url)
        .input("verify-rate", "50")
        .input("duration", "60s")
        .run();
    expect_code(&ended, 1);
    expect_said(&ended, &["(100 %) requests failed", "cannot connect"]);
}

#[test]
fn failures_that_prove_enough_end_the_watch_in_the_middle_of_a_look() {
    let app = App::start("v2");
    app.behave(r#"{"error_rate": 0.5}"#);
    let began = Instant::now();
    let ended = step()
        .input("verify-url", app.url())
        .input("verify-rate", "50")
        .input("interval", "60s")
        .input("duration", "10m")
        .run();
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["action"], "rollback");
    let reason = &ended.outputs["reason"];
    assert!(reason.starts_with("front-door errors: "), "{reason}");
    assert!(reason.contains("evidence against it"), "{reason}");
    assert!(began.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_slow_front_door_is_found_by_its_percentile() {
    let app = App::start("v2");
    app.behave(r#"{"latency_ms": 700}"#);
    let ended = step()
        .input("verify-url", app.url())
        .input("verify-rate", "50")
        .input("duration", "60s")
        .run();
    expect_code(&ended, 1);
    assert!(
        ended.outputs["reason"].starts_with("front-door p95: p95 7"),
        "{:?}",
        ended.outputs
    );
}

#[test]
fn a_health_check_that_fails_rolls_back_at_once_whatever_the_interval() {
    let app = App::start("v2");
    app.behave(r#"{"ready": false}"#);
    let began = Instant::now();
    let ended = step()
        .input("checks", format!("[{}api/health/ready]", app.url()))
        .input("interval", "60s")
        .input("duration", "10m")
        .run();
    expect_code(&ended, 1);
    expect_said(&ended, &["status 503, expected 200"]);
    assert!(began.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_version_that_nobody_sees_is_no_data() {
    let app = App::start("v1");
    let ended = step()
        .input("verify-url", app.url())
        .input("verify-rate", "50")
        .input("expect-version", "v2")
        .input("duration", "4s")
        .run();
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["verdict"], "no-data");
    assert!(
        ended.outputs["reason"].contains("by version"),
        "{:?}",
        ended.outputs
    );
}

#[test]
fn an_answer_of_another_version_fails_once_the_new_one_has_all_of_the_traffic() {
    let app = App::start("v1");
    let watch = |version: &str| {
        step()
            .input("verify-url", app.url())
            .input("verify-rate", "50")
            .input("expect-version", version)
            .input("all-traffic", "true")
    };
    let ended = watch("v2").input("duration", "60s").run();
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["action"], "rollback");
    expect_said(&ended, &["version `v1` answered, expected `v2`"]);
    let ended = watch("v1").run();
    expect_code(&ended, 0);
    expect_said(&ended, &["none lost: loss below", "at 95% confidence"]);
    assert!(!ended.summary.contains("by version"), "{}", ended.summary);
}

#[test]
fn too_few_answers_are_never_a_pass() {
    let app = App::start("v2");
    let ended = step()
        .input("verify-url", app.url())
        .input("min-requests", "1000")
        .run();
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["verdict"], "no-data");
    expect_said(&ended, &["1000 requests are needed"]);
}

#[test]
fn latency_that_is_not_certain_takes_no_deployment_back() {
    let app = App::start("v2");
    app.behave(r#"{"latency_ms": 700}"#);
    let ended = step()
        .input("verify-url", app.url())
        .input("verify-rate", "20")
        .input("min-requests", "20")
        .input("thresholds", "deployment")
        .input("duration", "2s")
        .run();
    expect_code(&ended, 0);
    assert_eq!(ended.outputs["action"], "alert");
}

#[test]
fn the_runbook_alerts_where_only_latency_suffers() {
    let app = App::start("v2");
    app.behave(r#"{"latency_ms": 700}"#);
    let ended = step()
        .input("verify-url", app.url())
        .input("verify-rate", "50")
        .input("thresholds", "runbook")
        .run();
    expect_code(&ended, 0);
    assert_eq!(ended.outputs["verdict"], "pass");
    assert_eq!(ended.outputs["action"], "alert");
    expect_said(
        &ended,
        &["::warning title=release-watch%3A alert::front-door p95"],
    );
}

#[test]
fn a_cancelled_watch_ends_in_order() {
    let app = App::start("v2");
    let started = step()
        .input("verify-url", app.url())
        .input("duration", "10m")
        .start();
    until("the first probe", || app.has_served());
    let id = nix::unistd::Pid::from_raw(i32::try_from(started.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = started.finish();
    expect_code(&ended, 143);
}

/// A queue that is too long from the beginning, as the application's own number of requests.
fn long_queue(prometheus: &Prometheus) -> switchyard_harness::Step {
    step()
        .input("prometheus-url", prometheus.url())
        .input("thresholds", "runbook")
        .input("interval", "1s")
        .input("duration", "60s")
        .input("consecutive", "1")
        .input(
            "checks",
            "[{name: depth, query: 'sum(up)', max: 0, concern: queue}]",
        )
}

#[test]
fn a_long_queue_breaks_the_circuit_once_by_the_users_command_and_then_by_the_exit_code() {
    let app = App::start("v2");
    let prometheus = Prometheus::scraping(&[&app]);
    let ended = long_queue(&prometheus).run();
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["action"], "circuit-break");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("hook");
    let script = format!("echo \"$CHECK $REASON\" >> {}", log.display());
    let ended = long_queue(&prometheus)
        .input("circuit-break-run", script)
        .run();
    let hooked = std::fs::read_to_string(&log).unwrap();
    assert_eq!(hooked, "depth depth: 1, allowed are at most 0\n");
    expect_code(&ended, 1);
    assert_eq!(ended.outputs["action"], "circuit-break");
    expect_said(
        &ended,
        &["::warning title=release-watch%3A circuit-break::depth"],
    );
    let failing = long_queue(&prometheus)
        .input("circuit-break-run", "exit 3")
        .run();
    expect_code(&failing, 1);
    expect_said(&failing, &["its command ended with 3"]);
}

#[test]
fn more_pods_are_asked_for_a_bounded_number_of_times_and_the_version_stays() {
    let app = App::start("v2");
    let prometheus = Prometheus::scraping(&[&app]);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("hook");
    let ended = long_queue(&prometheus)
        .input("duration", "9s")
        .input("max-scale-ups", "2")
        .input(
            "checks",
            "[{name: busy, query: 'sum(up)', max: 0, concern: capacity}, {name: up, query: 'sum(up)', min: 1}]",
        )
        .input("scale-up-run", format!("echo \"$CHECK\" >> {}", log.display()))
        .run();
    expect_code(&ended, 0);
    assert_eq!(ended.outputs["action"], "scale-up");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "busy\nbusy\n");
}

#[test]
fn a_checklist_ticks_what_checks_saw_and_leaves_the_rest_to_a_person() {
    let app = App::start("v2");
    let ended = step()
        .input("verify-url", app.url())
        .input("verify-rate", "50")
        .input("checklist", "true")
        .input("checked", "complaints")
        .input(
            "checks",
            format!(
                "[{{target: '{}version', name: orders, item: critical-paths}}]",
                app.url()
            ),
        )
        .run();
    expect_code(&ended, 0);
    for line in [
        "- [x] no-500s: seen by checklist: no 500s",
        "- [x] p95: seen by front-door p95",
        "- [ ] database-connections: for a person",
        "- [ ] errors: its time has not come",
        "- [ ] critical-paths: its time has not come",
        "- [x] complaints: a person has looked",
    ] {
        assert!(ended.summary.contains(line), "{line}: {}", ended.summary);
    }
    app.behave(r#"{"error_rate": 0.005}"#);
    let ended = step()
        .input("verify-url", app.url())
        .input("verify-rate", "100")
        .input("checklist", "true")
        .run();
    expect_code(&ended, 0);
    assert!(
        ended.summary.contains("- [ ] no-500s: **failed**"),
        "{}",
        ended.summary
    );
    let refused = step()
        .input("verify-url", app.url())
        .input("checklist", "true")
        .input("checked", "compliments")
        .run();
    expect_code(&refused, 2);
    expect_said(&refused, &["no item of the checklist", "complaints"]);
}

#[test]
fn a_url_may_be_answered_by_either_version_unless_its_check_wants_one() {
    let app = App::start("v1");
    let watch = |check: String| {
        step()
            .input("checks", check)
            .input("expect-version", "v2")
            .input("duration", "2s")
    };
    let either = watch(format!("- {}version", app.url())).run();
    expect_code(&either, 0);
    let one = watch(format!("- {{target: '{}version', version: v2}}", app.url())).run();
    expect_code(&one, 1);
    expect_said(&one, &["version `v1` answered, expected `v2`"]);
}
