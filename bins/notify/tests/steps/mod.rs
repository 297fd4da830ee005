//! Steps of `notify` as a workflow would write them, and what is secret in them.

#![allow(dead_code, reason = "each test file uses its part of it")]

use switchyard_harness::{Ended, Step};
use switchyard_sandbox::standins::{GitHub, PagerDuty, Slack, StandIn};

/// A step that tells an event of a usual deployment, over `channels`.
pub(crate) fn notify(event: &str, channels: &str) -> Step {
    Step::new(env!("CARGO_BIN_EXE_notify"))
        .variable("GITHUB_REPOSITORY", "acme/shop")
        .input("event", event)
        .input("channels", channels)
        .input("application", "shop")
        .input("environment", "production")
        .input("version", "1.1.0")
        .input("image", "registry.test/shop:1.1.0")
        .input("url", "https://shop.test/")
        .input("timeout", "5s")
}

pub(crate) fn slack() -> StandIn<Slack> {
    StandIn::start(Slack::default()).expect("start the stand-in for Slack")
}

pub(crate) fn github() -> StandIn<GitHub> {
    StandIn::start(GitHub::default()).expect("start the stand-in for GitHub")
}

pub(crate) fn pagerduty() -> StandIn<PagerDuty> {
    StandIn::start(PagerDuty::default()).expect("start the stand-in for PagerDuty")
}

/// Gives the step the webhook of the workspace.
pub(crate) fn with_webhook(step: Step, slack: &StandIn<Slack>) -> Step {
    step.input(
        "slack-webhook-url",
        format!("{}{}", slack.base_url(), slack.service().webhook_path),
    )
}

/// Gives the step the bot of the workspace and a channel.
pub(crate) fn with_bot(step: Step, slack: &StandIn<Slack>, channel: &str) -> Step {
    step.input("slack-token", slack.service().bot_token)
        .input("slack-api-url", format!("{}/api", slack.base_url()))
        .input("slack-channel", channel)
}

/// Gives the step the repository's token.
pub(crate) fn with_github(step: Step, github: &StandIn<GitHub>) -> Step {
    step.input("github-token", github.service().token)
        .variable("GITHUB_API_URL", github.base_url())
}

/// Gives the step the integration of the service.
pub(crate) fn with_pagerduty(step: Step, pagerduty: &StandIn<PagerDuty>) -> Step {
    step.input("pagerduty-routing-key", pagerduty.service().routing_key)
        .input("pagerduty-url", pagerduty.base_url())
}

/// Fails where a credential of any stand-in stands in a stream or file of the step.
pub(crate) fn assert_tells_no_secret(ended: &Ended) {
    for secret in [
        Slack::default().webhook_path,
        "hookhookhookhookhookhook",
        Slack::default().bot_token,
        GitHub::default().token,
        PagerDuty::default().routing_key,
    ] {
        ended.assert_never_shows(secret);
    }
}

/// Runs a step that must do its work.
pub(crate) fn done(step: Step) -> Ended {
    let ended = step.run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_tells_no_secret(&ended);
    ended
}

/// Runs a step that must end with `code`.
pub(crate) fn ends_with(step: Step, code: i32) -> Ended {
    let ended = step.run();
    assert_eq!(ended.code, Some(code), "{}", ended.log());
    assert_tells_no_secret(&ended);
    ended
}
