//! The login to AWS, from the job's identity to a role's session and a kubeconfig, against strict
//! stand-ins.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;
use support::aws::Aws;
use support::{SUBJECT, kubeconfig, plugin_path, read_json};
use switchyard_harness::Ended;
use switchyard_sandbox::standins::aws::Role;
use switchyard_sandbox::standins::{Answer, Fault, FaultRule, Job};

/// When the step says that what it got ends, in seconds from now.
fn ends(ended: &Ended) -> i64 {
    let ends: jiff::Timestamp = ended.outputs["expires-at"].parse().unwrap();
    ends.as_second() - jiff::Timestamp::now().as_second()
}

/// The token of the plugin's answer, and the seconds until the client shall ask again.
fn token(ended: &Ended) -> (String, i64) {
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    let until = answer["status"]["expirationTimestamp"].as_str().unwrap();
    let until: jiff::Timestamp = until.parse().unwrap();
    let left = until.as_second() - jiff::Timestamp::now().as_second();
    let token = answer["status"]["token"].as_str().unwrap();
    (token.to_owned(), left)
}

#[test]
fn a_job_becomes_a_session_of_the_role() {
    let aws = Aws::new();
    let ended = aws.assume().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert_eq!(ended.outputs["account"], "111122223333");
    assert_eq!(ended.outputs["subject"], SUBJECT);
    assert!((3_500..=3_600).contains(&ends(&ended)), "{}", ends(&ended));
    assert!(!ended.outputs.contains_key("kubeconfig"));
    let session = aws.account.sessions().remove(0);
    assert_eq!(session.name, "switchyard-4711");
    assert!(ended.stdout.contains(&session.arn()), "{}", ended.stdout);
    let calls = [aws.github.exchanges().len(), aws.sts.exchanges().len()];
    assert_eq!(calls, [1, 1]);
    aws.assert_no_secret_in(&ended);
}

#[test]
fn a_login_to_a_cluster_takes_four_round_trips() {
    let aws = Aws::new();
    let ended = aws.login().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let session = aws.account.sessions().remove(0);
    let who = format!("we are `{}`, in `deployers`", session.arn());
    assert!(ended.stdout.contains(&who), "{}", ended.stdout);
    assert_eq!(ended.outputs["context"], "sandbox");
    assert!((800..=840).contains(&ends(&ended)), "{}", ends(&ended));
    let calls = [
        aws.github.exchanges().len(),
        aws.sts.exchanges().len(),
        aws.eks.exchanges().len(),
        aws.cluster.exchanges().len(),
    ];
    assert_eq!(calls, [1, 1, 1, 1]);
    aws.assert_no_secret_in(&ended);
}

#[test]
fn the_sessions_keys_are_in_a_private_file_alone() {
    let aws = Aws::new();
    let ended = aws.login().run();
    let config = kubeconfig(&ended);
    let text = std::fs::read_to_string(&config).unwrap();
    let exec = &read_json(&config)["users"][0]["user"]["exec"];
    assert_eq!(exec["command"], plugin_path());
    let session = aws.account.sessions().remove(0);
    for secret in [&session.access_key, &session.secret, &session.token] {
        assert!(!text.contains(secret.as_str()));
    }
    for kind in ["session", "token"] {
        assert_eq!(aws.kept(kind).metadata().unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn the_plugin_signs_the_next_token_with_the_session_that_is_kept() {
    let aws = Aws::new();
    let config = kubeconfig(&aws.login().run());
    let (first, left) = token(&aws.plugin(&config).run());
    assert!(left <= 14 * 60, "{left}");
    std::fs::remove_file(aws.kept("token")).unwrap();
    let ended = aws.plugin(&config).run();
    let (second, left) = token(&ended);
    assert!(left <= 14 * 60, "{left}");
    assert!(second.starts_with("k8s-aws-v1.") && !second.contains('='));
    assert!(first.starts_with("k8s-aws-v1."));
    assert_eq!(aws.account.sessions().len(), 1);
    assert_eq!(ended.stderr, "");
    aws.assert_no_secret_in(&ended);
}

#[test]
fn no_token_outlives_the_session_that_signed_it() {
    let aws = Aws::new();
    let config = kubeconfig(&aws.login().run());
    std::fs::remove_file(aws.kept("token")).unwrap();
    let path = aws.kept("session");
    let mut entry = read_json(&path);
    let from_now = |seconds: i64| {
        let second = jiff::Timestamp::now().as_second() + seconds;
        jiff::Timestamp::from_second(second).unwrap().to_string()
    };
    entry["since"] = from_now(-3_200).into();
    entry["until"] = from_now(400).into();
    std::fs::write(&path, entry.to_string()).unwrap();
    let (_, left) = token(&aws.plugin(&config).run());
    assert!(left <= 400, "{left}");
    assert_eq!(aws.account.sessions().len(), 1);
    std::fs::remove_file(aws.kept("token")).unwrap();
    entry["until"] = from_now(200).into();
    std::fs::write(&path, entry.to_string()).unwrap();
    token(&aws.plugin(&config).run());
    assert_eq!(
        aws.account.sessions().len(),
        2,
        "a session in its last minutes was used"
    );
}

#[test]
fn clusters_that_are_asked_at_once_share_one_new_session() {
    let aws = Aws::new();
    let server = aws.cluster.base_url().to_owned();
    aws.add_cluster("second", &server, "ACTIVE");
    let config = kubeconfig(&aws.login().run());
    for kind in ["token", "session"] {
        std::fs::remove_file(aws.kept(kind)).unwrap();
    }
    // Both calls are there before the first of them is answered.
    aws.sts.fail(FaultRule::next(2, Fault::LateAnswer(700)));
    let cluster_of = |cluster: &str| aws.plugin_for(&config, cluster).start();
    let calls = ["sandbox", "second"].map(cluster_of);
    for call in calls {
        token(&call.finish());
    }
    assert_eq!(
        aws.account.sessions().len(),
        2,
        "one of the login, one more"
    );
}

#[test]
fn a_kept_session_that_we_did_not_write_is_not_used() {
    let aws = Aws::new();
    let config = kubeconfig(&aws.login().run());
    std::fs::remove_file(aws.kept("token")).unwrap();
    std::fs::write(aws.kept("session"), "{").unwrap();
    let ended = aws.plugin(&config).run();
    token(&ended);
    assert!(
        ended.stderr.contains("does not hold what we wrote"),
        "{}",
        ended.stderr
    );
    assert_eq!(aws.account.sessions().len(), 2);
}

#[test]
fn a_clock_that_is_off_by_ten_minutes_does_not_matter() {
    for skew in [600, -600] {
        let aws = Aws::new();
        aws.account.clock.skew(skew);
        aws.github.service().clock.skew(skew);
        let ended = aws.login().run();
        assert_eq!(ended.code, Some(0), "{skew}: {}", ended.log());
        let (_, left) = token(&aws.plugin(&kubeconfig(&ended)).run());
        assert!((0..=14 * 60).contains(&left), "{skew}: {left}");
    }
}

#[test]
fn a_second_role_is_assumed_by_the_session_of_the_first() {
    let aws = Aws::new();
    let mut second = Role::new("second", "nobody").allowing("eks:DescribeCluster");
    let login = || aws.login().input("chained-role", second.arn());
    let ended = login().run();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stdout.contains("may not assume the second role"),
        "{}",
        ended.stdout
    );
    second.trusted_roles.push(aws.role.arn());
    aws.account.add(second.clone());
    let login = || aws.login().input("chained-role", second.arn());
    let ended = login().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let who = "assumed-role/second/switchyard-4711";
    assert!(ended.stdout.contains(who), "{}", ended.stdout);
    aws.assert_no_secret_in(&ended);
    std::fs::remove_file(aws.kept("token")).unwrap();
    std::fs::remove_file(aws.kept("session")).unwrap();
    token(&aws.plugin(&kubeconfig(&ended)).run());
    let ended = login().input("session-duration", "2h").run();
    assert_eq!(ended.code, Some(2));
}

/// A spoilt world, and what the log says of it.
type Refusal<'a> = (&'a dyn Fn(&Aws), &'a [&'a str]);

#[test]
fn a_refused_token_is_explained_with_the_statement_that_would_match() {
    let refusals: [Refusal<'_>; 5] = [
        (
            &|aws| {
                aws.github
                    .service()
                    .run(Job::default().in_environment("staging"))
            },
            &[
                "AccessDenied",
                "AWS does not say which",
                r#""token.actions.githubusercontent.com:sub": "repo:acme/shop:environment:staging""#,
                "repo:acme/shop:environment:production",
            ],
        ),
        (
            &|aws| {
                aws.github
                    .service()
                    .set_issuer("https://ghes.example/_services/token")
            },
            &[
                "InvalidIdentityToken",
                "has no identity provider for the token's issuer",
            ],
        ),
        (
            &|aws| aws.github.service().clock.skew(-400),
            &[
                "ExpiredTokenException",
                "the token that was shown has expired",
            ],
        ),
        (
            &|aws| {
                aws.account.add(Role {
                    subjects: Vec::new(),
                    ..aws.role.clone()
                });
            },
            &[
                "AccessDenied",
                "or its trust policy does not let this token in",
            ],
        ),
        (
            &|aws| {
                let longest_session = 1_800;
                aws.account.add(Role {
                    longest_session,
                    ..aws.role.clone()
                });
            },
            &["MaxSessionDuration", "lower input `session-duration`"],
        ),
    ];
    for (spoil, words) in refusals {
        let aws = Aws::new();
        spoil(&aws);
        let ended = aws.login().input("expected-subject", SUBJECT).run();
        assert_eq!(ended.code, Some(3), "{}", ended.log());
        for words in words {
            assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
        }
        assert_eq!(aws.sts.exchanges().len(), 1, "asked again: {words:?}");
        assert!(!ended.outputs.contains_key("kubeconfig"));
        aws.assert_no_secret_in(&ended);
    }
}

#[test]
fn another_audience_is_refused_and_named() {
    let aws = Aws::new();
    let ended = aws.assume().input("audience", "sts.amazonaws.com.cn").run();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stdout.contains("does not take the token's audience"),
        "{}",
        ended.stdout
    );
}

#[test]
fn what_eks_refuses_says_what_to_change() {
    let aws = Aws::new();
    aws.add_cluster("young", "", "CREATING");
    let login = |cluster: &str| aws.login().input("cluster", cluster).run();
    for (cluster, words) in [
        (
            "gone",
            "there is no such cluster in this account and region",
        ),
        ("young", "has no API server yet"),
    ] {
        let ended = login(cluster);
        assert_eq!(ended.code, Some(3), "{}", ended.log());
        assert!(ended.stdout.contains(words), "{}", ended.stdout);
    }
    aws.account.add(Role::new("deploy", SUBJECT));
    let ended = login("sandbox");
    assert_eq!(ended.code, Some(3));
    for words in ["eks:DescribeCluster", "the role may not do this"] {
        assert!(ended.stdout.contains(words), "{}", ended.stdout);
    }
    assert!(!ended.outputs.contains_key("kubeconfig"));
}

#[test]
fn what_may_go_away_is_tried_again() {
    let aws = Aws::new();
    let body = "<ErrorResponse><Error><Code>IDPCommunicationError</Code><Message>Error communicating with IDP</Message></Error></ErrorResponse>";
    aws.sts
        .fail(FaultRule::next(1, Fault::Answer(Answer::text(400, body))));
    aws.eks
        .fail(FaultRule::next(1, Fault::Answer(Answer::text(503, ""))));
    let ended = aws.login().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(ended.stdout.contains("trying again"), "{}", ended.stdout);
}

#[test]
fn an_answer_without_a_session_is_not_repeated_in_the_log() {
    let aws = Aws::new();
    let body = "<R><Credentials><SecretAccessKey>hunter2</SecretAccessKey></Credentials></R>";
    aws.sts
        .fail(FaultRule::next(1, Fault::Answer(Answer::text(200, body))));
    let ended = aws.login().run();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stdout.contains("holds no session"),
        "{}",
        ended.stdout
    );
    ended.assert_never_shows("hunter2");
}

#[test]
fn nonsense_is_refused_before_anybody_is_asked() {
    let aws = Aws::new();
    for (input, value) in [
        ("region", "eu"),
        ("role", "deploy"),
        ("session-duration", "5m"),
        ("role-session-name", "a b"),
        ("cluster", "../x"),
        ("cluster", "one, one"),
        ("sts-url", "http://127.0.0.1"),
        ("chained-role", "x"),
    ] {
        let ended = aws.login().input(input, value).run();
        assert_eq!(ended.code, Some(2), "{input}: {}", ended.log());
        assert!(ended.stdout.contains(input), "{}", ended.stdout);
    }
    assert!(aws.github.exchanges().is_empty() && aws.sts.exchanges().is_empty());
}
