//! Channel `github-issue` against the stand-in for GitHub's REST API.

mod steps;

use steps::{done, ends_with, github, notify, with_github};
use switchyard_harness::Step;
use switchyard_sandbox::standins::github::Permission;
use switchyard_sandbox::standins::{Answer, Fault, FaultRule, GitHub, StandIn};

fn step(event: &str, github: &StandIn<GitHub>) -> Step {
    with_github(notify(event, "github-issue"), github).input("required", "github-issue")
}

#[test]
fn a_failure_opens_an_issue_and_a_rerun_comments_on_it() {
    let github = github();
    let failure = |attempt: &str| {
        step("failure", &github)
            .variable("GITHUB_RUN_ATTEMPT", attempt)
            .input("error", "image not found")
    };
    let ended = done(failure("1"));
    assert_eq!(ended.outputs["issue-number"], "1");
    assert_eq!(
        ended.outputs["issue-url"],
        format!("{}/acme/shop/issues/1", github.base_url())
    );
    done(failure("2"));
    let issues = github.service().issues();
    assert_eq!(issues.len(), 1);
    assert_eq!(
        issues[0].title,
        "Deployment of shop 1.1.0 to production failed"
    );
    assert_eq!(issues[0].labels, ["deployment-failure"]);
    assert_eq!(issues[0].comments.len(), 1);
    insta::assert_snapshot!(issues[0].body.clone().unwrap());
}

#[test]
fn the_same_notice_is_not_posted_twice() {
    let github = github();
    let failure = |attempt: &str| step("failure", &github).variable("GITHUB_RUN_ATTEMPT", attempt);
    for attempt in ["1", "1", "2", "2"] {
        done(failure(attempt));
    }
    let issues = github.service().issues();
    assert_eq!((issues.len(), issues[0].comments.len()), (1, 1));
}

#[test]
fn success_closes_the_issue_and_a_new_failure_opens_it_again() {
    let github = github();
    let with_key = |event: &str, run: &str| {
        step(event, &github)
            .variable("GITHUB_RUN_ID", run)
            .input("issue-key", "production")
    };
    done(with_key("failure", "1"));
    done(with_key("started", "2"));
    done(with_key("success", "2"));
    let issue = github.service().issues().remove(0);
    assert_eq!((issue.state.as_str(), issue.comments.len()), ("closed", 2));
    assert_eq!(issue.state_reason.as_deref(), Some("completed"));
    let ended = done(with_key("success", "3"));
    assert_eq!(ended.outputs["skipped"], "github-issue");
    done(with_key("rolled-back", "4"));
    let issue = github.service().issues().remove(0);
    assert_eq!((issue.state.as_str(), issue.comments.len()), ("open", 3));
}

#[test]
fn without_an_issue_there_is_nothing_to_close() {
    let github = github();
    let ended = done(step("success", &github));
    assert_eq!(
        (
            ended.outputs["skipped"].as_str(),
            ended.outputs["sent"].as_str()
        ),
        ("github-issue", "")
    );
    assert!(
        github
            .exchanges()
            .iter()
            .all(|exchange| exchange.method == "GET")
    );
}

#[test]
fn the_issue_is_found_behind_a_hundred_others_and_is_no_pull_request() {
    let github = github();
    done(step("failure", &github));
    let body = github.service().issues()[0].body.clone().unwrap();
    for _ in 0..120 {
        github
            .service()
            .open("another", "text", &["deployment-failure"]);
    }
    let pull_request = github
        .service()
        .open("copied", &body, &["deployment-failure"]);
    github.service().make_pull_request(pull_request);
    done(step("failure", &github).variable("GITHUB_RUN_ATTEMPT", "2"));
    assert_eq!(github.service().issues()[0].comments.len(), 1);
    assert_eq!(github.service().issues().len(), 122);
}

#[test]
fn an_answer_that_got_lost_is_looked_for_instead_of_repeated() {
    for fault in [Fault::CutAfterActing, Fault::LateAnswer(2_500)] {
        let github = github();
        github.fail(FaultRule::next(1, fault).method("POST"));
        let ended = step("failure", &github).input("timeout", "2s").run();
        assert_eq!(github.service().issues().len(), 1, "{}", ended.log());
        done(step("failure", &github));
        let issues = github.service().issues();
        assert_eq!((issues.len(), issues[0].comments.len()), (1, 0));
    }
}

#[test]
fn a_comment_whose_answer_got_lost_is_found() {
    let github = github();
    done(step("failure", &github));
    github.fail(
        FaultRule::next(1, Fault::CutAfterActing)
            .path("comments")
            .method("POST"),
    );
    done(step("failure", &github).variable("GITHUB_RUN_ATTEMPT", "2"));
    assert_eq!(github.service().issues()[0].comments.len(), 1);
}

#[test]
fn a_secondary_rate_limit_is_waited_out() {
    let github = github();
    github.fail(FaultRule::next(1, GitHub::secondary_rate_limit(1)).method("POST"));
    done(step("failure", &github));
    assert_eq!(github.service().issues().len(), 1);
}

#[test]
fn each_refusal_is_told_in_githubs_words_with_a_hint() {
    type Change = (fn(&mut GitHub), fn(Step) -> Step);
    let cases: [(Change, &str, &str); 4] = [
        (
            (|_| {}, |step| step.input("github-token", "ghs_wrongwrong")),
            "GitHub refused: Bad credentials (401",
            "is not valid any more",
        ),
        (
            (|service| service.permission = Permission::Read, |step| step),
            "Resource not accessible by integration (403",
            "issues: write",
        ),
        (
            (|service| service.has_issues = false, |step| step),
            "Issues has been disabled in this repository. (410",
            "switched off",
        ),
        (
            (|service| service.repository = "acme/other", |step| step),
            "Not Found (404",
            "names no repository",
        ),
    ];
    for ((set, change), words, hint) in cases {
        let mut service = GitHub::default();
        set(&mut service);
        let github = StandIn::start(service).expect("start the stand-in");
        let ended = ends_with(change(step("failure", &github)), 3);
        assert!(ended.log().contains(words), "{}", ended.log());
        assert!(ended.log().contains(hint), "{}", ended.log());
    }
}

#[test]
fn a_server_error_is_told_and_a_creation_not_repeated() {
    let github = github();
    github.fail(FaultRule::next(1, Fault::Answer(Answer::text(500, "unicorn"))).method("POST"));
    let ended = ends_with(step("failure", &github), 3);
    assert!(ended.log().contains("unicorn (500"), "{}", ended.log());
    assert!(github.service().issues().is_empty());
}

#[test]
fn a_long_text_is_cut_and_facts_mention_nobody() {
    let github = github();
    let details = step("failure", &github);
    let file = details.file(
        "report.txt",
        &"ein Bericht von @acme/ops mit <!-- Kommentar -->\n".repeat(3_000),
    );
    let step = details
        .input("details-file", file)
        .input("deployer", "@ann")
        .input("github-mention", "acme/on-call");
    let ended = done(step);
    assert!(
        ended
            .log()
            .contains("the issue's text was cut to the service's limit"),
        "{}",
        ended.log()
    );
    let body = github.service().issues()[0].body.clone().unwrap();
    assert!(body.chars().count() <= 65_536);
    assert!(body.contains("@acme/on-call"));
    assert!(!body.contains("@acme/ops") && !body.contains("@ann"));
    assert!(
        body.ends_with("```\n… (cut)"),
        "{}",
        &body[body.len() - 100..]
    );
}

#[test]
fn github_enterprise_server_is_used_below_its_own_path() {
    let github = github();
    done(step("failure", &github).input("github-api-url", format!("{}/api/v3", github.base_url())));
    assert!(
        github
            .exchanges()
            .iter()
            .all(|exchange| exchange.path.starts_with("/api/v3/repos/acme/shop/issues"))
    );
}

#[test]
fn nonsense_in_the_inputs_is_refused_before_anything_is_sent() {
    let github = github();
    for (step, words) in [
        (
            step("failure", &github).input("repository", "shop"),
            "input `repository` is `shop`",
        ),
        (
            step("failure", &github).input("repository", "../x/y"),
            "input `repository` is `../x/y`",
        ),
        (
            step("failure", &github).input("issue-label", "a,b"),
            "input `issue-label` is `a,b`",
        ),
        (
            step("failure", &github).input("github-token", ""),
            "needs input `github-token`",
        ),
        (
            step("failure", &github).input("issue-action", "delete"),
            "input `issue-action`",
        ),
    ] {
        let ended = ends_with(step, 2);
        assert!(ended.log().contains(words), "{}", ended.log());
    }
    assert!(github.exchanges().is_empty());
}
