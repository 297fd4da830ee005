//! The exec plugin as clients call it, inside of steps that are not its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{World, cache_file, exec_info, kubeconfig, read_json};
use switchyard_harness::{Ended, Step};
use switchyard_sandbox::standins::{Answer, Fault, FaultRule};

/// A job that has logged in.
fn logged_in(world: &World) -> std::path::PathBuf {
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    kubeconfig(&ended)
}

/// The token of the answer, which is the only thing on standard output.
fn token(ended: &Ended) -> String {
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let answer: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.log()));
    answer["status"]["token"].as_str().unwrap().to_owned()
}

fn exchanges(world: &World) -> usize {
    world.entra.exchanges().len()
}

#[test]
fn the_login_leaves_a_token_for_the_first_call() {
    let world = World::new();
    let config = logged_in(&world);
    let before = exchanges(&world);
    let ended = world.plugin(&config).run();
    assert!(world.tokens().contains(&token(&ended)));
    assert_eq!(exchanges(&world), before, "a fresh token was not used");
    assert_eq!(ended.stderr, "", "there is nothing to say");
    assert!(ended.outputs.is_empty() && ended.summary.is_empty());
}

#[test]
fn the_version_that_the_client_asks_for_is_echoed() {
    let world = World::new();
    let config = logged_in(&world);
    for version in ["v1", "v1beta1"] {
        let step = world.plugin(&config);
        let ended = step
            .variable("KUBERNETES_EXEC_INFO", exec_info(version))
            .run();
        let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(
            answer["apiVersion"],
            format!("client.authentication.k8s.io/{version}")
        );
        assert_eq!(answer["kind"], "ExecCredential");
        let until = answer["status"]["expirationTimestamp"].as_str().unwrap();
        assert!(until.ends_with('Z') && !until.contains('.'), "{until}");
    }
    let ended = world.plugin(&config).without("KUBERNETES_EXEC_INFO").run();
    assert!(
        ended
            .stdout
            .contains("client.authentication.k8s.io/v1beta1"),
        "{}",
        ended.stdout
    );
    let step = world.plugin(&config);
    let ended = step
        .variable("KUBERNETES_EXEC_INFO", exec_info("v1alpha1"))
        .run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("v1alpha1"), "{}", ended.stderr);
}

#[test]
fn a_job_that_outlives_its_tokens_goes_on() {
    let world = World::new();
    world.github.service().set_life(2);
    world.entra.service().tokens.set_life(2);
    let config = logged_in(&world);
    let first = token(&world.plugin(&config).run());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let next = token(&world.plugin(&config).run());
        if next != first {
            break;
        }
        assert!(Instant::now() < deadline, "the token is not replaced");
    }
}

/// What is said, and what was done to the file.
type Spoiling<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn what_is_wrong_with_the_kept_token_is_said_and_gone_over() {
    let world = World::new();
    let config = logged_in(&world);
    let path = cache_file(&world);
    let good = std::fs::read_to_string(&path).unwrap();
    let secret = world.own.path().join("elsewhere");
    std::fs::write(&secret, &good).unwrap();
    let spoil: [Spoiling<'_>; 4] = [
        ("can be read by others", &|path| {
            std::fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }),
        ("does not hold what we wrote", &|path| {
            std::fs::write(path, "{").unwrap()
        }),
        ("does not hold what we wrote", &|path| {
            std::fs::write(path, good.replace("since", "hence")).unwrap()
        }),
        ("a symbolic link", &|path| {
            std::fs::remove_file(path).unwrap();
            symlink(&secret, path).unwrap();
        }),
    ];
    for (words, spoil) in spoil {
        spoil(&path);
        let before = exchanges(&world);
        let ended = world.plugin(&config).run();
        token(&ended);
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        assert_eq!(exchanges(&world), before + 1, "{words}");
        assert!(!path.symlink_metadata().unwrap().is_symlink());
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600, "{words}");
        let ended = world.plugin(&config).run();
        assert_eq!(
            (exchanges(&world), ended.stderr.as_str()),
            (before + 1, ""),
            "{words}"
        );
    }
    assert_eq!(
        std::fs::read_to_string(&secret).unwrap(),
        good,
        "written through a link"
    );
}

#[test]
fn a_folder_that_lets_others_in_is_not_used() {
    let world = World::new();
    let config = logged_in(&world);
    let folder = cache_file(&world).parent().unwrap().to_owned();
    let step = world.plugin(&config);
    std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    let ended = step.run();
    token(&ended);
    assert!(
        ended.stderr.contains("going on without a cache"),
        "{}",
        ended.stderr
    );
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(2), "{}", ended.log());
}

#[test]
fn calls_at_once_get_one_token() {
    let world = World::new();
    let config = logged_in(&world);
    std::fs::remove_file(cache_file(&world)).unwrap();
    let before = exchanges(&world);
    let calls: Vec<_> = (0..6).map(|_| world.plugin(&config).start()).collect();
    let tokens: Vec<String> = calls
        .into_iter()
        .map(|call| token(&call.finish()))
        .collect();
    assert!(tokens.iter().all(|one| *one == tokens[0]));
    assert_eq!(exchanges(&world), before + 1);
}

#[test]
fn another_job_does_not_get_the_token_of_this_one() {
    let world = World::new();
    let config = logged_in(&world);
    let before = exchanges(&world);
    let step = world.plugin(&config);
    let ended = step
        .variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "somebody-else")
        .run();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(3), ""),
        "{}",
        ended.log()
    );
    assert_eq!(exchanges(&world), before);
}

#[test]
fn a_token_in_its_last_minutes_is_used_when_no_other_is_to_be_had() {
    let world = World::new();
    let config = logged_in(&world);
    let path = cache_file(&world);
    let mut entry = read_json(&path);
    // Of its four minutes the last one is kept back, and half of that is over.
    let from_now = |seconds: i64| {
        let second = jiff::Timestamp::now().as_second() + seconds;
        jiff::Timestamp::from_second(second).unwrap().to_string()
    };
    entry["since"] = from_now(-210).into();
    entry["until"] = from_now(30).into();
    std::fs::write(&path, entry.to_string()).unwrap();
    let before = exchanges(&world);
    world
        .github
        .fail(FaultRule::next(1, Fault::Answer(Answer::text(401, ""))));
    let ended = world.plugin(&config).run();
    token(&ended);
    assert_eq!(exchanges(&world), before);
    assert!(
        ended.stderr.contains("the one before is good until"),
        "{}",
        ended.stderr
    );
    let ended = world.plugin(&config).run();
    assert_ne!(
        token(&ended),
        entry["token"].as_str().unwrap(),
        "not replaced when it could be"
    );
}

#[test]
fn a_plugin_that_gets_no_answer_ends_in_time_with_nothing_on_standard_output() {
    let world = World::new();
    let config = logged_in(&world);
    std::fs::remove_file(cache_file(&world)).unwrap();
    let mut text = std::fs::read_to_string(&config).unwrap();
    text = text.replace("--timeout=20000ms", "--timeout=1000ms");
    std::fs::write(&config, text).unwrap();
    world
        .entra
        .fail(FaultRule::next(5, Fault::LateAnswer(10_000)));
    let started = Instant::now();
    let ended = world.plugin(&config).run();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(3), ""),
        "{}",
        ended.log()
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(ended.stderr.contains("no answer from"), "{}", ended.stderr);
}

#[test]
fn a_refusal_in_the_middle_of_a_job_is_explained_on_standard_error() {
    let world = World::new();
    let config = logged_in(&world);
    std::fs::remove_file(cache_file(&world)).unwrap();
    let job = switchyard_sandbox::standins::Job::default();
    world.github.service().run(job.in_environment("staging"));
    let ended = world.plugin(&config).run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""));
    assert!(
        ended.stderr.contains("AADSTS700213") && ended.stderr.contains("environment:staging"),
        "{}",
        ended.stderr
    );
    assert!(
        !ended
            .stderr
            .lines()
            .any(|line| line.trim_start().starts_with("::")),
        "{}",
        ended.stderr
    );
    world.assert_no_secret_in(&ended);
}

#[test]
fn a_cluster_that_trusts_github_gets_its_token_straight() {
    let world = World::new();
    let ended = world.direct().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(
        ended
            .stdout
            .contains("github:repo:acme/shop:environment:production"),
        "{}",
        ended.stdout
    );
    assert_eq!(ended.outputs["context"], "cluster");
    world.assert_no_secret_in(&ended);
    let text = world.authority.certificate();
    let with_text = world.direct().input("certificate-authority", text).run();
    assert_eq!(with_text.code, Some(0), "{}", with_text.log());
    let before = world.github.exchanges().len();
    let call = world.plugin(&kubeconfig(&ended)).run();
    assert_eq!(token(&call).split('.').count(), 3);
    assert_eq!(
        world.github.exchanges().len(),
        before,
        "the login's token was not used again"
    );
    assert!(world.entra.exchanges().is_empty());
}

#[test]
fn a_cluster_that_does_not_take_the_token_is_named() {
    let world = World::new();
    let ended = world
        .direct()
        .input("audience", "https://other.example.test")
        .run();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stdout.contains("401") && ended.stdout.contains("does not take the token"),
        "{}",
        ended.stdout
    );
    assert!(!ended.outputs.contains_key("kubeconfig"));
}

#[test]
fn a_call_that_cannot_be_understood_is_refused_on_standard_error() {
    let step = Step::new(env!("CARGO_BIN_EXE_oidc-login"))
        .argument("credential")
        .argument("aws");
    let ended = step.run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(!ended.stderr.is_empty());
}
