//! Clocks that are off: this machine's against everybody else's, and GitHub's against everybody else's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use jiff::Timestamp;
use serde_json::Value;
use support::aws::Aws;
use support::{World, kubeconfig};
use switchyard_harness::Ended;

/// Seconds until the client of the plugin shall ask again.
fn left(ended: &Ended) -> i64 {
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    let until = answer["status"]["expirationTimestamp"].as_str().unwrap();
    let until: Timestamp = until.parse().unwrap();
    until.as_second() - Timestamp::now().as_second()
}

#[test]
fn a_runner_whose_clock_is_an_hour_off_logs_in_and_keeps_tokens_as_long_as_they_live() {
    for seconds in [3_600, -3_600] {
        let world = World::new();
        world.skew(seconds);
        let ended = world.azure().run();
        assert_eq!(ended.code, Some(0), "{seconds}: {}", ended.log());
        let words = if seconds > 0 { "ahead of" } else { "behind" };
        assert!(ended.stdout.contains(words), "{}", ended.stdout);
        let exchanges = world.entra.exchanges().len();
        let call = world.plugin(&kubeconfig(&ended)).run();
        assert!((60..=3_600).contains(&left(&call)), "{seconds}");
        assert_eq!(world.entra.exchanges().len(), exchanges, "not kept");

        let ended = world.direct().run();
        assert_eq!(ended.code, Some(0), "{seconds}: {}", ended.log());
        let call = world.plugin(&kubeconfig(&ended)).run();
        assert!((1..=300).contains(&left(&call)), "{seconds}");
    }
}

#[test]
fn a_token_from_the_past_or_the_future_is_refused_by_entra_and_the_clock_is_named() {
    for (seconds, words) in [
        (-1_000, "about 17 min behind"),
        (1_000, "about 17 min ahead of"),
    ] {
        let world = World::new();
        world.github.service().clock.skew(seconds);
        let ended = world.azure().run();
        assert_eq!(ended.code, Some(3), "{seconds}: {}", ended.log());
        for words in ["AADSTS700024", words] {
            assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
        }
        assert!(!ended.outputs.contains_key("kubeconfig"));
        world.assert_no_secret_in(&ended);
    }
}

#[test]
fn a_token_from_the_past_or_the_future_is_refused_by_aws_and_the_clock_is_named() {
    for (seconds, code, words) in [
        (-1_000, "ExpiredTokenException", "about 17 min behind"),
        (1_000, "InvalidIdentityToken", "about 17 min ahead of"),
    ] {
        let aws = Aws::new();
        aws.github.service().clock.skew(seconds);
        let ended = aws.login().run();
        assert_eq!(ended.code, Some(3), "{seconds}: {}", ended.log());
        for words in [code, words] {
            assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
        }
        aws.assert_no_secret_in(&ended);
    }
}

#[test]
fn a_token_from_the_past_or_the_future_is_refused_by_the_cluster_and_the_clock_is_named() {
    for (seconds, words) in [
        (-1_000, "about 17 min behind"),
        (1_000, "about 17 min ahead of"),
    ] {
        let world = World::new();
        world.github.service().clock.skew(seconds);
        let ended = world.direct().run();
        assert_eq!(ended.code, Some(3), "{seconds}: {}", ended.log());
        for words in ["401", words] {
            assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
        }
        world.assert_no_secret_in(&ended);
    }
}
