use super::*;

const WAIT: Policies = Policies {
    no_data: Policy::Wait,
    error: Policy::Wait,
};

fn check(rule: Rule) -> Check {
    Check::new(rule, 1, WAIT, 0.0025)
}

fn rate() -> Rule {
    Rule::Rate {
        limit: Some(0.01),
        tolerance: Some(1.0),
        min_requests: 100,
    }
}

fn counts(canary: (u64, u64), baseline: (u64, u64)) -> Measurement {
    Measurement::Counts {
        canary: Count::new(canary.0, canary.1),
        baseline: Some(Count::new(baseline.0, baseline.1)),
    }
}

fn concluded(check: &Check) -> Judgement {
    match check.conclusion() {
        Conclusion::Judged(judgement) | Conclusion::Ignored(judgement) => judgement,
    }
}

#[test]
fn a_rate_says_what_was_measured_on_how_much_and_against_what() {
    let mut check = check(rate());
    let good = check.look(&counts((200, 1), (1800, 9)));
    assert_eq!(good.verdict, Verdict::Pass);
    assert_eq!(
        good.line,
        "1 of 200 (0.5 %) requests failed, allowed are 1 %; baseline 9 of 1800 (0.5 %); \
         evidence against it none, convincing from 400 : 1"
    );
    let bad = check.look(&counts((200, 20), (1800, 9)));
    assert_eq!(bad.verdict, Verdict::Fail, "{}", bad.line);
    assert!(bad.line.contains("21 of 400 (5.25 %)"), "{}", bad.line);
    check.look(&counts((2000, 0), (1800, 9)));
    assert_eq!(
        concluded(&check).verdict,
        Verdict::Fail,
        "failed once is failed"
    );
}

#[test]
fn a_limit_may_be_proved_broken_in_the_middle_of_a_look_as_the_look_would_say() {
    let mut check = check(rate());
    check.look(&counts((200, 1), (1800, 9)));
    let mut further = Count::default();
    while !check.proves(further) {
        further = further.plus(Count::new(1, 1));
        assert!(further.requests < 20, "every request fails");
    }
    let look = counts((further.requests, further.failed), (0, 0));
    let judged = check.clone().look(&look);
    assert_eq!(judged.verdict, Verdict::Fail, "{}", judged.line);
    assert!(!check.proves(Count::new(further.requests, 1)));

    let too_few = Check::new(rate(), 1, WAIT, 0.0025);
    assert!(!too_few.proves(Count::new(99, 99)));
    assert!(too_few.proves(Count::new(100, 99)));
    let of_health = Check::new(Rule::Health, 1, WAIT, 0.0025);
    assert!(!of_health.proves(Count::new(1000, 1000)));
}

#[test]
fn too_few_requests_are_no_data_and_no_pass() {
    let mut check = check(rate());
    let few = check.look(&counts((50, 0), (1800, 0)));
    assert_eq!(few.verdict, Verdict::NoData);
    assert!(few.line.contains("100 requests are needed"), "{}", few.line);
    assert_eq!(concluded(&check).verdict, Verdict::NoData);
    assert_eq!(
        check.look(&counts((50, 0), (1800, 0))).verdict,
        Verdict::Pass
    );
}

#[test]
fn traffic_that_stops_takes_the_verdict_with_it() {
    let mut check = check(rate());
    check.look(&counts((500, 0), (500, 0)));
    for expected in [Verdict::Pass, Verdict::Pass, Verdict::NoData] {
        let silent = check.look(&counts((0, 0), (500, 0)));
        assert_eq!(silent.verdict, Verdict::NoData);
        assert_eq!(concluded(&check).verdict, expected);
    }
}

#[test]
fn above_the_limit_and_not_proven_is_undecided() {
    let mut check = check(Rule::Rate {
        limit: Some(0.01),
        tolerance: None,
        min_requests: 100,
    });
    let seen = check.look(&counts((100, 3), (0, 0)));
    assert_eq!(seen.verdict, Verdict::Pass, "{}", seen.line);
    let end = concluded(&check);
    assert_eq!(end.verdict, Verdict::NoData);
    assert!(
        end.line.contains("too few requests to be sure"),
        "{}",
        end.line
    );
}

#[test]
fn a_baseline_without_requests_is_no_baseline() {
    let mut check = check(Rule::Rate {
        limit: None,
        tolerance: Some(1.0),
        min_requests: 10,
    });
    let judged = check.look(&counts((500, 0), (0, 0)));
    assert_eq!(judged.verdict, Verdict::NoData);
    assert!(judged.line.contains("baseline had no request"));
}

#[test]
fn a_bound_is_broken_only_in_a_row() {
    let rule = Rule::Value {
        limit: Some(Limit::Max(0.5)),
        tolerance: None,
        unit: Unit::Seconds,
    };
    let mut check = Check::new(rule, 2, WAIT, 0.01);
    let at = |canary| Measurement::Value {
        canary,
        baseline: None,
    };
    let first = check.look(&at(0.6));
    assert_eq!(first.verdict, Verdict::Pass);
    assert_eq!(
        first.line,
        "600 ms, allowed are at most 500 ms (1 of 2 in a row that count)"
    );
    assert_eq!(check.look(&at(0.4)).verdict, Verdict::Pass);
    assert_eq!(check.look(&at(0.6)).verdict, Verdict::Pass);
    assert_eq!(
        check.look(&Measurement::NoData("gone".to_owned())).verdict,
        Verdict::NoData,
        "between two breaches nothing is known"
    );
    assert_eq!(check.look(&at(0.6)).verdict, Verdict::Fail);
}

#[test]
fn what_is_no_number_is_no_data() {
    let rule = Rule::Value {
        limit: Some(Limit::Max(0.5)),
        tolerance: None,
        unit: Unit::Plain,
    };
    let mut check = check(rule);
    let judged = check.look(&Measurement::Value {
        canary: f64::NAN,
        baseline: None,
    });
    assert_eq!(judged.verdict, Verdict::NoData);
    assert_eq!(concluded(&check).verdict, Verdict::NoData);
}

#[test]
fn health_fails_at_once_unless_more_in_a_row_are_asked_for() {
    let sick = Measurement::Unhealthy("pod `a` answered 503".to_owned());
    assert_eq!(check(Rule::Health).look(&sick).verdict, Verdict::Fail);
    let mut patient = Check::new(Rule::Health, 2, WAIT, 0.01);
    assert_eq!(patient.look(&sick).verdict, Verdict::Pass);
    assert_eq!(patient.look(&sick).verdict, Verdict::Fail);
}

#[test]
fn policies_decide_over_no_data_and_errors() {
    let away = Measurement::Error("connection refused".to_owned());
    let empty = Measurement::NoData("empty".to_owned());
    let policies = |no_data, error| Policies { no_data, error };
    let mut strict = Check::new(Rule::Health, 1, policies(Policy::Fail, Policy::Fail), 0.01);
    assert_eq!(strict.look(&away).verdict, Verdict::Fail);
    let mut easy = Check::new(
        Rule::Health,
        1,
        policies(Policy::Ignore, Policy::Ignore),
        0.01,
    );
    easy.look(&empty);
    assert!(matches!(easy.conclusion(), Conclusion::Ignored(_)));
    let mut waiting = check(Rule::Health);
    for row in 1..=3 {
        assert_eq!(waiting.look(&away).verdict, Verdict::Error);
        assert_eq!(waiting.errors_in_a_row(), row);
    }
    assert_eq!(concluded(&waiting).verdict, Verdict::Error);
}

#[test]
fn an_error_at_the_end_does_not_undo_what_was_seen() {
    let mut check = check(rate());
    check.look(&counts((500, 0), (500, 0)));
    check.look(&Measurement::Error("connection refused".to_owned()));
    assert_eq!(concluded(&check).verdict, Verdict::Pass);
}

#[test]
fn latencies_name_their_percentile_and_are_judged_by_the_share_that_is_too_slow() {
    let rule = Rule::Latency {
        limit: Some((Percentile::P95, 0.5)),
        tolerance: Some(1.2),
        min_requests: 20,
    };
    let mut check = check(rule);
    let baseline: Vec<f64> = (0..40).map(|index| 0.1 + f64::from(index) / 1e3).collect();
    let good = check.look(&Measurement::Latencies {
        canary: baseline.clone(),
        baseline: baseline.clone(),
    });
    assert_eq!(good.verdict, Verdict::Pass, "{}", good.line);
    assert!(
        good.line.starts_with(
            "p95 137 ms on 40 requests, allowed are 500 ms; 0 of 40 (0 %) took longer"
        ),
        "{}",
        good.line
    );
    let slow = baseline.iter().map(|sample| sample + 0.6).collect();
    let bad = check.look(&Measurement::Latencies {
        canary: slow,
        baseline,
    });
    assert_eq!(bad.verdict, Verdict::Fail, "{}", bad.line);
}

#[test]
fn a_measurement_of_another_kind_is_an_error() {
    let judged = check(Rule::Health).look(&counts((1, 0), (1, 0)));
    assert_eq!(judged.verdict, Verdict::Error);
}

#[test]
fn a_percentile_is_the_nearest_rank() {
    let samples: Vec<f64> = (1..=100).map(f64::from).collect();
    assert_eq!(Percentile::P95.of(&samples), Some(95.0));
    assert_eq!(Percentile::new(99.9).unwrap().of(&samples), Some(100.0));
    assert_eq!(Percentile::P95.of(&[]), None);
    assert_eq!(Percentile::P95.of(&[7.0]), Some(7.0));
    assert!(Percentile::new(0.0).is_none() && Percentile::new(100.0).is_none());
}
