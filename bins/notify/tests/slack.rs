//! Channel `slack`, the bot, against the stand-in for Slack.

mod steps;

use steps::{done, ends_with, notify, slack, with_bot};
use switchyard_sandbox::standins::{Answer, Fault, FaultRule, Slack};

#[test]
fn later_events_bring_the_same_message_up_to_date() {
    let slack = slack();
    let started = done(with_bot(notify("started", "slack"), &slack, "deploys"));
    assert_eq!(started.outputs["slack-ts"], "C0DEPLOYS01/1790000000.000001");
    let step = with_bot(notify("success", "slack"), &slack, "deploys")
        .input("slack-ts", &started.outputs["slack-ts"]);
    let ended = done(step);
    assert_eq!(ended.outputs["slack-ts"], started.outputs["slack-ts"]);
    let messages = slack.service().messages();
    assert_eq!((messages.len(), messages[0].edits), (1, 1));
    assert_eq!(messages[0].text, "✅ Deployed shop 1.1.0 to production");
}

#[test]
fn a_failure_is_answered_in_the_thread_because_an_edit_notifies_nobody() {
    let slack = slack();
    let started = done(with_bot(notify("started", "slack"), &slack, "#deploys"));
    let failure = || {
        with_bot(notify("failure", "slack"), &slack, "#deploys")
            .input("slack-ts", &started.outputs["slack-ts"])
            .input("slack-mention", "!here")
    };
    done(failure());
    let messages = slack.service().messages();
    assert_eq!(messages[1].thread_ts.as_deref(), Some("1790000000.000001"));
    assert_eq!(
        messages[1].text,
        "<!here> ❌ Deployment of shop 1.1.0 to production failed"
    );
    done(failure().input("slack-reply", "false"));
    assert_eq!(slack.service().messages().len(), 2);
}

#[test]
fn a_message_that_is_gone_is_replaced_by_a_new_one() {
    let slack = slack();
    let step = with_bot(notify("success", "slack"), &slack, "deploys")
        .input("slack-ts", "C0DEPLOYS01/1600000000.000001");
    let ended = done(step);
    assert!(
        ended
            .log()
            .contains("could not be updated (message_not_found), so a new one was posted"),
        "{}",
        ended.log()
    );
    assert_eq!(slack.service().messages().len(), 1);
}

#[test]
fn each_refusal_is_told_in_slacks_words_with_a_hint() {
    let slack = slack();
    for (channel, word, hint) in [
        (
            "nowhere",
            "channel_not_found",
            "names no channel that the bot can see",
        ),
        ("private", "not_in_channel", "invite the bot"),
        ("archive", "is_archived", "choose another one"),
    ] {
        let ended = ends_with(
            with_bot(notify("success", "slack"), &slack, channel).input("required", "slack"),
            3,
        );
        assert!(
            ended.log().contains(&format!("Slack refused: {word}")),
            "{}",
            ended.log()
        );
        assert!(ended.log().contains(hint), "{}", ended.log());
    }
    let step = with_bot(notify("success", "slack"), &slack, "deploys")
        .input("slack-token", "xoxb-wrong")
        .input("required", "slack");
    let ended = ends_with(step, 3);
    assert!(
        ended.log().contains("Slack refused: invalid_auth"),
        "{}",
        ended.log()
    );
    ended.assert_never_shows("xoxb-wrong");
    assert!(slack.service().messages().is_empty());
}

#[test]
fn an_answer_that_is_not_slacks_is_told() {
    let slack = slack();
    slack.fail(FaultRule::next(
        1,
        Fault::Answer(Answer::text(200, "<html>captive portal</html>")),
    ));
    let ended = ends_with(
        with_bot(notify("success", "slack"), &slack, "deploys").input("required", "slack"),
        3,
    );
    assert!(
        ended
            .log()
            .contains("with a body that cannot be understood: <html>captive portal</html>"),
        "{}",
        ended.log()
    );
}

#[test]
fn a_rate_limit_is_waited_out_and_an_ambiguous_end_is_not_repeated() {
    let slack = slack();
    slack.fail(FaultRule::next(1, Slack::rate_limited(1)));
    done(with_bot(notify("success", "slack"), &slack, "deploys"));
    assert_eq!(slack.service().messages().len(), 1);
    slack.fail(FaultRule::next(1, Fault::CutAfterActing));
    let ended = ends_with(
        with_bot(notify("success", "slack"), &slack, "deploys").input("required", "slack"),
        3,
    );
    assert!(
        ended.log().contains("Slack may or may not have taken it"),
        "{}",
        ended.log()
    );
    assert_eq!(slack.service().messages().len(), 2);
}

#[test]
fn an_edit_is_repeated_because_that_does_no_harm() {
    let slack = slack();
    let started = done(with_bot(notify("started", "slack"), &slack, "deploys"));
    slack.fail(FaultRule::next(1, Fault::CutAfterActing).path("chat.update"));
    let step = with_bot(notify("success", "slack"), &slack, "deploys")
        .input("slack-ts", &started.outputs["slack-ts"]);
    done(step);
    let messages = slack.service().messages();
    assert_eq!((messages.len(), messages[0].edits), (1, 2));
}

#[test]
fn an_edit_with_a_long_text_keeps_within_slacks_limits() {
    let slack = slack();
    let started = done(with_bot(notify("started", "slack"), &slack, "deploys"));
    let step = with_bot(notify("failure", "slack"), &slack, "deploys")
        .input("slack-ts", &started.outputs["slack-ts"])
        .input(
            "error",
            "ein längerer Fehler mit Umlauten äöü\n".repeat(2_000),
        );
    let ended = done(step);
    assert!(
        ended.log().contains("the Slack message was cut"),
        "{}",
        ended.log()
    );
    assert_eq!(slack.service().messages()[0].edits, 1);
}

#[test]
fn nonsense_in_the_inputs_is_refused_before_anything_is_sent() {
    let slack = slack();
    let good = || with_bot(notify("success", "slack"), &slack, "deploys");
    for (step, words) in [
        (
            good().input("slack-ts", "yesterday"),
            "input `slack-ts` is `yesterday`",
        ),
        (
            good().input("slack-channel", ""),
            "channel `slack` needs input `slack-channel`",
        ),
        (
            good().input("slack-token", ""),
            "channel `slack` needs input `slack-token`",
        ),
        (
            good().input("slack-api-url", "slack.com"),
            "input `slack-api-url` cannot be used",
        ),
        (
            good().input("slack-mention", "everybody"),
            "input `slack-mention`",
        ),
        (
            good().input("required", "pagerduty"),
            "input `required` names `pagerduty`",
        ),
        (good().input("timeout", "0"), "input `timeout` is `0`"),
    ] {
        let ended = ends_with(step, 2);
        assert!(ended.log().contains(words), "{}", ended.log());
    }
    assert!(slack.exchanges().is_empty());
}
