//! Channel `pagerduty` against the stand-in for its Events API.

mod steps;

use steps::{done, ends_with, notify, pagerduty, with_pagerduty};
use switchyard_harness::Step;
use switchyard_sandbox::standins::pagerduty::AlertState;
use switchyard_sandbox::standins::{Answer, Fault, FaultRule, PagerDuty, StandIn};

const KEY: &str = "acme/shop/1001/production/shop";

fn step(event: &str, pagerduty: &StandIn<PagerDuty>) -> Step {
    with_pagerduty(notify(event, "pagerduty"), pagerduty).input("required", "pagerduty")
}

#[test]
fn a_failure_triggers_and_success_resolves_the_same_alert() {
    let pagerduty = pagerduty();
    let state = || pagerduty.service().alerts()[KEY].state;
    let ended = done(
        step("failure", &pagerduty)
            .input("error", "image not found")
            .input("pagerduty-severity", "critical"),
    );
    assert_eq!(ended.outputs["dedup-key"], KEY);
    assert_eq!(state(), AlertState::Triggered);
    let mut event = pagerduty.service().alerts()[KEY].events[0].clone();
    event["routing_key"] = "[key]".into();
    insta::assert_snapshot!(format!("{event:#}"));
    done(step("failure", &pagerduty).input("pagerduty-action", "acknowledge"));
    assert_eq!(state(), AlertState::Acknowledged);
    done(step("rolled-back", &pagerduty));
    assert_eq!(state(), AlertState::Resolved);
}

#[test]
fn a_start_pages_nobody() {
    let pagerduty = pagerduty();
    let ended = done(step("started", &pagerduty));
    assert_eq!(ended.outputs["skipped"], "pagerduty");
    assert!(pagerduty.exchanges().is_empty());
}

#[test]
fn limits_errors_and_lost_answers_are_tried_again_without_a_second_alert() {
    for fault in [
        PagerDuty::rate_limited(),
        Fault::Answer(Answer::text(500, "oops")),
        Fault::Cut,
        Fault::CutAfterActing,
        Fault::LateAnswer(10_000),
    ] {
        let pagerduty = pagerduty();
        pagerduty.fail(FaultRule::next(1, fault.clone()));
        done(step("failure", &pagerduty));
        assert_eq!(pagerduty.service().alerts().len(), 1, "{fault:?}");
    }
}

#[test]
fn a_key_that_pagerduty_does_not_know_is_told_with_a_hint() {
    let pagerduty = pagerduty();
    let other = "0123456789abcdef0123456789abcdef";
    let ended = ends_with(
        step("failure", &pagerduty).input("pagerduty-routing-key", other),
        3,
    );
    assert!(
        ended.log().contains("PagerDuty refused: "),
        "{}",
        ended.log()
    );
    assert!(
        ended.log().contains("Invalid routing key"),
        "{}",
        ended.log()
    );
    assert!(
        ended
            .log()
            .contains("hint: is `pagerduty-routing-key` the Integration Key"),
        "{}",
        ended.log()
    );
    ended.assert_never_shows(other);
}

#[test]
fn long_texts_keep_within_pagerdutys_limits_and_the_cut_is_said() {
    let pagerduty = pagerduty();
    let bare = step("failure", &pagerduty);
    let file = bare.file("report.txt", &"a line of the report\n".repeat(40_000));
    let step = bare
        .input("details-file", file)
        .input("title", "{{ application }} ".repeat(400))
        .input("dedup-key", "k".repeat(300));
    let ended = done(step);
    assert!(
        ended.log().contains("the PagerDuty summary was cut"),
        "{}",
        ended.log()
    );
    assert!(
        ended.log().contains("the PagerDuty event was cut"),
        "{}",
        ended.log()
    );
    assert_eq!(ended.outputs["dedup-key"].chars().count(), 255);
}

#[test]
fn nonsense_in_the_inputs_is_refused_before_anything_is_sent() {
    let pagerduty = pagerduty();
    for (step, words) in [
        (
            step("failure", &pagerduty).input("pagerduty-routing-key", "tooshort"),
            "is not an integration key",
        ),
        (
            step("failure", &pagerduty).input("pagerduty-routing-key", ""),
            "needs input `pagerduty-routing-key`",
        ),
        (
            step("failure", &pagerduty).input("pagerduty-severity", "fatal"),
            "input `pagerduty-severity` is `fatal`",
        ),
        (
            step("failure", &pagerduty).input("pagerduty-url", "ftp://x"),
            "input `pagerduty-url` cannot be used: scheme `ftp`",
        ),
    ] {
        let ended = ends_with(step, 2);
        assert!(ended.log().contains(words), "{}", ended.log());
        ended.assert_never_shows("tooshort");
    }
    assert!(pagerduty.exchanges().is_empty());
}
