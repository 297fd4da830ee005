//! Several channels at once, templates, dry runs, cancellation.

mod steps;

use steps::{
    assert_tells_no_secret, done, ends_with, github, notify, pagerduty, slack, with_bot,
    with_github, with_pagerduty, with_webhook,
};
use switchyard_sandbox::standins::{Answer, Fault, FaultRule};

#[test]
fn a_channel_that_fails_is_named_and_stops_no_other() {
    let (slack, github, pagerduty) = (slack(), github(), pagerduty());
    slack.fail(
        FaultRule::next(1, Fault::Answer(Answer::text(400, "invalid_payload"))).path("/services"),
    );
    let all = || {
        let step = notify(
            "failure",
            "slack-webhook, slack\ngithub-issue, pagerduty, summary",
        )
        .input("error", "image not found");
        with_pagerduty(
            with_github(
                with_bot(with_webhook(step, &slack), &slack, "deploys"),
                &github,
            ),
            &pagerduty,
        )
    };
    let ended = done(all());
    assert_eq!(
        ended.outputs["sent"],
        "slack,github-issue,pagerduty,summary"
    );
    assert_eq!(ended.outputs["failed"], "slack-webhook");
    assert!(
        ended
            .log()
            .contains("::warning title=notify::slack-webhook: Slack refused: invalid_payload"),
        "{}",
        ended.log()
    );
    assert_eq!(slack.service().messages().len(), 1);
    assert_eq!(github.service().issues().len(), 1);
    assert_eq!(pagerduty.service().alerts().len(), 1);
    insta::assert_snapshot!(ended.summary);

    slack.fail(
        FaultRule::next(1, Fault::Answer(Answer::text(500, "rollup_error"))).path("/services"),
    );
    done(all().input("required", "slack, pagerduty"));
    slack.fail(
        FaultRule::next(1, Fault::Answer(Answer::text(500, "rollup_error"))).path("/services"),
    );
    pagerduty.fail(FaultRule::next(1, Fault::Answer(Answer::text(400, "no"))));
    let ended = ends_with(all().input("required", "slack-webhook, pagerduty"), 3);
    assert!(ended.log().contains("::error title=notify::required channels `slack-webhook`, `pagerduty` did not take the notice"), "{}", ended.log());
    assert_eq!(ended.outputs["failed"], "slack-webhook,pagerduty");
}

#[test]
fn a_channel_that_hangs_costs_no_more_than_its_own_time() {
    let slack = slack();
    slack.fail(FaultRule::next(1, Fault::LateAnswer(60_000)));
    let step =
        with_webhook(notify("success", "slack-webhook, summary"), &slack).input("timeout", "1s");
    let ended = done(step);
    assert_eq!(ended.outputs["failed"], "slack-webhook");
    assert!(ended.summary.contains("Deployed shop 1.1.0 to production"));
}

#[test]
fn a_dry_run_shows_everything_and_sends_nothing_even_without_secrets() {
    let step = notify(
        "failure",
        "slack-webhook, slack, github-issue, pagerduty, summary",
    )
    .input("dry-run", "true")
    .input("slack-channel", "deploys")
    .input("error", "image not found");
    let ended = done(step);
    for channel in [
        "slack-webhook",
        "slack",
        "github-issue",
        "pagerduty",
        "summary",
    ] {
        assert!(
            ended
                .stdout
                .contains(&format!("::group::{channel}: would send")),
            "{}",
            ended.log()
        );
    }
    assert_eq!(
        ended.stdout.matches("image not found").count(),
        5,
        "{}",
        ended.log()
    );
    assert_eq!(ended.summary, "");
    assert!(!ended.outputs.contains_key("sent"));
}

#[test]
fn the_users_own_template_is_rendered_for_each_channel() {
    let (slack, github) = (slack(), github());
    let step = notify("failure", "slack-webhook, github-issue, summary");
    let file = step.file(
        "notice.jinja",
        "{{ bold(title) }} by {{ deployer }}: {{ link(workflow_url, 'run') }} {{ code(error) }}",
    );
    let step = with_github(with_webhook(step, &slack), &github)
        .input("template-file", file)
        .input("title", "{{ application }} is down in {{ environment }}")
        .input("deployer", "@ann")
        .input("error", "<b>`x`</b>");
    let ended = done(step);
    let text = slack.service().messages()[0].blocks[0]["text"]["text"].clone();
    assert_eq!(
        text,
        "*shop is down in production* by @ann: <https://github.com/acme/shop/actions/runs/1001|run> `&lt;b&gt;ˋxˋ&lt;/b&gt;`"
    );
    let markdown = "**shop is down in production** by @\u{200b}ann: [run](https://github.com/acme/shop/actions/runs/1001) `` <b>`x`</b> ``";
    assert!(
        github.service().issues()[0]
            .body
            .as_ref()
            .unwrap()
            .ends_with(markdown)
    );
    assert_eq!(ended.summary.trim(), markdown);
    assert_eq!(
        github.service().issues()[0].title,
        "shop is down in production"
    );
}

#[test]
fn an_unusable_template_is_refused_before_anything_is_sent() {
    let slack = slack();
    let good = || with_webhook(notify("success", "slack-webhook"), &slack);
    for (step, words) in [
        (
            good().input("template", "{{ verison }}"),
            "input `template` uses the unknown variable `verison`%0Ahint: did you mean `version`?",
        ),
        (
            good().input("title", "{{ zzz }}"),
            "input `title` uses the unknown variable `zzz`%0Ahint: variables are: application, ",
        ),
        (
            good().input("template", "{% if %}"),
            "input `template` cannot be rendered (line 1)",
        ),
        (
            good().input("template", "{{ error }}"),
            "input `template` renders to nothing",
        ),
        (
            good().input("template", "x").input("template-file", "y"),
            "inputs `template` and `template-file` are both given",
        ),
        (
            good().input("template-file", "/nowhere/notice.jinja"),
            "cannot read `/nowhere/notice.jinja`",
        ),
        (
            good().input("details-file", "/nowhere/report.txt"),
            "cannot read `/nowhere/report.txt`",
        ),
        (
            good().input("extra-ca", "/nowhere/ca.pem"),
            "cannot read the CA file `/nowhere/ca.pem`",
        ),
    ] {
        let ended = ends_with(step, 2);
        assert!(ended.log().contains(words), "{}", ended.log());
    }
    assert!(slack.exchanges().is_empty());
}

#[test]
fn nonsense_in_the_inputs_is_refused_with_what_is_allowed() {
    for (step, words) in [
        (notify("success", ""), "input `channels` is required"),
        (
            notify("success", "carrier-pigeon"),
            "a channel is one of slack-webhook, slack, github-issue, pagerduty, summary",
        ),
        (notify("succes", "summary"), "input `event` is `succes`"),
        (notify("", "summary"), "input `event` is required"),
        (
            notify("success", "summary").input("dry-run", "yes"),
            "a boolean is `true` or `false`",
        ),
        (
            notify("success", "summary").input("chanels", "summary"),
            "unknown input `chanels`",
        ),
        (
            notify("success", "summary").argument("--slack-token=xoxb-1"),
            "`--slack-token` is a secret",
        ),
    ] {
        let ended = ends_with(step, 2);
        assert!(ended.log().contains(words), "{}", ended.log());
    }
}

#[test]
fn on_a_laptop_outputs_go_to_standard_output_and_flags_are_inputs() {
    let slack = slack();
    let step = with_webhook(notify("success", "slack-webhook, summary"), &slack)
        .argument("--version")
        .argument("9.9.9")
        .on_a_laptop();
    let ended = done(step);
    assert!(
        ended.stdout.contains("skipped=summary\n"),
        "{}",
        ended.log()
    );
    assert!(
        ended.stdout.contains("sent=slack-webhook\n"),
        "{}",
        ended.stdout
    );
    assert_eq!(
        slack.service().messages()[0].text,
        "✅ Deployed shop 9.9.9 to production"
    );
}

#[test]
fn a_cancelled_step_ends_in_order() {
    let slack = slack();
    slack.fail(FaultRule::next(1, Fault::LateAnswer(60_000)));
    let step = with_webhook(notify("success", "slack-webhook"), &slack).input("timeout", "50s");
    let mut started = step.start();
    while slack.exchanges().is_empty() {
        let ended = started.child().try_wait().expect("look at the step");
        assert_eq!(ended, None, "the step ended before it sent anything");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let id = started.id().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status()
        .expect("run kill");
    assert!(killed.success());
    let ended = started.finish();
    assert_eq!(ended.code, Some(130), "{}", ended.log());
    assert!(
        ended
            .log()
            .contains("SIGINT while the notices were being sent"),
        "{}",
        ended.log()
    );
    assert_tells_no_secret(&ended);
}

#[test]
fn a_summary_that_cannot_be_written_is_told() {
    let step = notify("success", "summary")
        .variable("GITHUB_STEP_SUMMARY", "/nowhere/summary")
        .input("required", "summary");
    let ended = ends_with(step, 3);
    assert!(
        ended.log().contains("cannot write the step summary"),
        "{}",
        ended.log()
    );
}

#[test]
fn a_step_summary_needs_no_certificates() {
    let empty = notify("success", "summary");
    let file = empty.file("no-certificates.pem", "");
    let folder = empty.folder().join("none").display().to_string();
    let step = empty
        .variable("SSL_CERT_FILE", file)
        .variable("SSL_CERT_DIR", folder);
    let ended = done(step);
    assert!(ended.summary.contains("Deployed shop 1.1.0"));
}
