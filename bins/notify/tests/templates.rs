//! The built-in messages, event by event and channel by channel, as people will see them.

mod steps;

use steps::{done, notify};

/// Everything a dry run shows of one channel, without the lines that fence it.
fn shown(event: &str, channel: &str) -> String {
    let step = notify(event, channel)
        .input("dry-run", "true")
        .input("slack-channel", "deploys")
        .input("deployer", "ann")
        .input(
            "error",
            "deployment `shop/web`: 0 of 3 replicas are ready\n<!channel> ImagePullBackOff",
        )
        .input("rollback-status", "done, verified at the data plane")
        .input("on-call", "Berta <berta@shop.test>")
        .on_a_laptop();
    let ended = done(step);
    ended.stderr
}

#[test]
fn messages_are_as_designed() {
    for channel in ["slack", "github-issue", "pagerduty", "summary"] {
        for event in ["started", "success", "failure", "rolled-back"] {
            insta::assert_snapshot!(format!("{channel}-{event}"), shown(event, channel));
        }
    }
}
