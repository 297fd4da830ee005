//! Channel `slack-webhook` against the stand-in for Slack.

mod steps;

use serde_json::json;
use steps::{done, ends_with, notify, slack, with_webhook};
use switchyard_sandbox::standins::{Answer, Fault, FaultRule, Slack};

#[test]
fn a_notice_is_posted_as_blocks_with_a_line_for_notifications() {
    let slack = slack();
    let ended = done(with_webhook(notify("success", "slack-webhook"), &slack));
    let messages = slack.service().messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].text, "✅ Deployed shop 1.1.0 to production");
    insta::assert_snapshot!(messages[0].blocks[0]["text"]["text"].as_str().unwrap());
    assert_eq!(ended.outputs["sent"], "slack-webhook");
    assert_eq!(ended.outputs["failed"], "");
    let exchange = &slack.exchanges()[0];
    assert_eq!(
        exchange.headers["content-type"],
        "application/json; charset=utf-8"
    );
    assert!(exchange.headers["user-agent"].starts_with("switchyard-notify/"));
}

#[test]
fn a_server_error_is_told_with_host_and_status_and_not_repeated() {
    let slack = slack();
    slack.fail(FaultRule::next(
        1,
        Fault::Answer(Answer::text(500, "rollup_error")),
    ));
    let ended = done(with_webhook(notify("success", "slack-webhook"), &slack));
    assert!(
        ended
            .log()
            .contains("::warning title=notify::slack-webhook: 127.0.0.1:"),
        "{}",
        ended.log()
    );
    assert!(
        ended
            .log()
            .contains("answered 500 Internal Server Error: rollup_error"),
        "{}",
        ended.log()
    );
    assert_eq!(ended.outputs["failed"], "slack-webhook");
    assert_eq!(slack.exchanges().len(), 1);
}

#[test]
fn a_required_channel_that_fails_fails_the_step() {
    let slack = slack();
    slack.fail(FaultRule::next(
        1,
        Fault::Answer(Answer::text(500, "rollup_error")),
    ));
    let step =
        with_webhook(notify("success", "slack-webhook"), &slack).input("required", "slack-webhook");
    let ended = ends_with(step, 3);
    assert!(
        ended.log().contains(
            "::error title=notify::required channel `slack-webhook` did not take the notice: "
        ),
        "{}",
        ended.log()
    );
}

#[test]
fn a_rate_limit_is_waited_out() {
    let slack = slack();
    slack.fail(FaultRule::next(2, Slack::rate_limited(1)));
    done(with_webhook(notify("success", "slack-webhook"), &slack));
    let statuses: Vec<_> = slack
        .exchanges()
        .iter()
        .map(|exchange| exchange.status)
        .collect();
    assert_eq!(statuses, [Some(429), Some(429), Some(200)]);
    assert_eq!(slack.service().messages().len(), 1);
}

#[test]
fn a_wait_longer_than_the_timeout_is_not_begun() {
    let slack = slack();
    slack.fail(FaultRule::next(1, Slack::rate_limited(600)));
    let step =
        with_webhook(notify("success", "slack-webhook"), &slack).input("required", "slack-webhook");
    let ended = ends_with(step, 3);
    assert!(ended.log().contains("asks to wait 600s"), "{}", ended.log());
    assert!(
        ended
            .log()
            .contains("hint: the service limits how often it may be called"),
        "{}",
        ended.log()
    );
}

#[test]
fn each_refusal_of_slack_is_told_in_its_words_with_a_hint() {
    for (status, word, hint) in [
        (400, "invalid_payload", "`dry-run: true`"),
        (400, "no_text", "`dry-run: true`"),
        (403, "invalid_token", "create a new one"),
        (404, "no_service", "create a new one"),
        (410, "channel_is_archived", "another channel"),
        (403, "action_prohibited", "ask its administrator"),
    ] {
        let slack = slack();
        slack.fail(FaultRule::next(
            1,
            Fault::Answer(Answer::text(status, word)),
        ));
        let step = with_webhook(notify("success", "slack-webhook"), &slack)
            .input("required", "slack-webhook");
        let ended = ends_with(step, 3);
        assert!(
            ended
                .log()
                .contains(&format!("Slack refused: {word} ({status} ")),
            "{}",
            ended.log()
        );
        assert!(ended.log().contains(hint), "{}", ended.log());
        assert_eq!(slack.exchanges().len(), 1);
    }
}

#[test]
fn a_wrong_webhook_url_is_refused_by_slack_and_never_shown() {
    let slack = slack();
    for path in [
        "/services/T0OTHER/B0YARD/hookhookhookhookhookhook",
        "/services/T0SWITCH/B0YARD/wrongwrongwrong",
    ] {
        let step = notify("success", "slack-webhook")
            .input("slack-webhook-url", format!("{}{path}", slack.base_url()))
            .input("required", "slack-webhook");
        let ended = ends_with(step, 3);
        ended.assert_never_shows(path);
        ended.assert_never_shows("wrongwrongwrong");
    }
}

#[test]
fn a_late_answer_is_not_followed_by_a_second_message() {
    for fault in [Fault::LateAnswer(3_000), Fault::CutAfterActing] {
        let slack = slack();
        slack.fail(FaultRule::next(1, fault));
        let step = with_webhook(notify("success", "slack-webhook"), &slack)
            .input("timeout", "1s")
            .input("required", "slack-webhook");
        let ended = ends_with(step, 3);
        assert!(
            ended.log().contains("Slack may or may not have taken it"),
            "{}",
            ended.log()
        );
        assert!(
            ended.log().contains("it was not sent again"),
            "{}",
            ended.log()
        );
        assert_eq!(slack.service().messages().len(), 1);
    }
}

#[test]
fn a_service_that_cannot_be_reached_is_told_without_the_urls_path() {
    let step = notify("success", "slack-webhook")
        .input(
            "slack-webhook-url",
            "http://127.0.0.1:9/services/T0SWITCH/B0YARD/hookhookhookhookhookhook",
        )
        .input("timeout", "1s")
        .input("required", "slack-webhook");
    let ended = ends_with(step, 3);
    assert!(
        ended.log().contains("cannot connect to 127.0.0.1:9"),
        "{}",
        ended.log()
    );
}

#[test]
fn a_long_message_is_split_into_sections_or_cut_and_said() {
    let slack = slack();
    let step = with_webhook(notify("failure", "slack-webhook"), &slack)
        .input("error", "a line of the error\n".repeat(300));
    done(step);
    let step = with_webhook(notify("failure", "slack-webhook"), &slack)
        .input("error", "a line of the error\n".repeat(1_000));
    done(step);
    let step = with_webhook(notify("failure", "slack-webhook"), &slack)
        .input("error", "a line of the error\n".repeat(5_000));
    let ended = done(step);
    assert!(
        ended
            .log()
            .contains("the Slack message was cut to the service's limit of 40000 characters"),
        "{}",
        ended.log()
    );
    let messages = slack.service().messages();
    assert_eq!(messages[0].blocks.as_array().map(Vec::len), Some(3));
    assert_eq!(messages[1].blocks, json!([]));
    assert!(messages[1].text.chars().count() > 20_000);
    assert!(messages[2].text.chars().count() <= 40_000);
    assert!(messages[2].text.ends_with("… (cut)"));
}

#[test]
fn facts_mention_nobody_and_an_ordered_mention_does() {
    let slack = slack();
    let step = with_webhook(notify("failure", "slack-webhook"), &slack)
        .input("error", "<!channel> & <@U012AB3CD>")
        .input("slack-mention", "!subteam^S012AB3CD, @U012AB3CD");
    done(step);
    let text = slack.service().messages()[0].blocks[0]["text"]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        text.starts_with("<!subteam^S012AB3CD> <@U012AB3CD>\n"),
        "{text}"
    );
    assert!(
        text.contains("&lt;!channel&gt; &amp; &lt;@U012AB3CD&gt;"),
        "{text}"
    );
    assert_eq!(text.matches("<@").count(), 1);
}

#[test]
fn a_secret_in_a_fact_is_not_sent() {
    let slack = slack();
    let path = slack.service().webhook_path;
    let step = with_webhook(notify("failure", "slack-webhook"), &slack)
        .input("error", format!("curl {}{path} failed", slack.base_url()));
    let ended = step.run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(
        !slack.exchanges()[0].body.contains("hookhookhook"),
        "{}",
        slack.exchanges()[0].body
    );
}

#[test]
fn an_empty_or_unusable_url_is_refused_before_anything_is_sent() {
    let slack = slack();
    for (url, words) in [
        (
            "",
            "channel `slack-webhook` needs input `slack-webhook-url`",
        ),
        (
            "hooks.slack.com/services/T0/B0/hookhookhookhookhookhook",
            "input `slack-webhook-url` cannot be used: not a URL",
        ),
        (
            "https://a b/hookhookhookhookhookhook",
            "holds characters that no credential has",
        ),
    ] {
        let step = with_webhook(notify("success", "slack-webhook, summary"), &slack)
            .input("slack-webhook-url", url);
        let ended = ends_with(step, 2);
        assert!(ended.log().contains(words), "{}", ended.log());
        assert_eq!(ended.summary, "");
    }
    assert!(slack.exchanges().is_empty());
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let proxy = slack();
    let url = format!("http://hooks.test{}", proxy.service().webhook_path);
    let step = notify("success", "slack-webhook")
        .input("slack-webhook-url", url)
        .input("required", "slack-webhook");
    done(step.variable("HTTP_PROXY", proxy.base_url()));
    assert_eq!(proxy.exchanges()[0].headers["host"], "hooks.test");
}
