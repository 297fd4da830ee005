//! `explain`: a token's claims, how they differ from what is expected, and what would match.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use support::{SUBJECT, World};
use switchyard_harness::Step;

fn explain(world: &World) -> Step {
    let step = world.step().input("command", "explain");
    step.input("extra-ca", world.ca().display().to_string())
}

#[test]
fn a_jobs_own_token_is_explained_without_any_exchange() {
    let world = World::new();
    let ended = explain(&world).run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    for part in [
        SUBJECT,
        "api://AzureADTokenExchange",
        "\"audiences\"",
        "rescue job",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert_eq!(ended.outputs["subject"], SUBJECT);
    assert!(world.entra.exchanges().is_empty());
    world.assert_no_secret_in(&ended);
}

#[test]
fn a_token_for_aws_is_explained_by_its_trust_statement() {
    let world = World::new();
    let ended = explain(&world).input("audience", "sts.amazonaws.com").run();
    for part in [
        "sts:AssumeRoleWithWebIdentity",
        "token.actions.githubusercontent.com:sub",
        SUBJECT,
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
}

#[test]
fn an_expected_subject_is_a_gate() {
    let world = World::new();
    let ended = explain(&world).input("expected-subject", SUBJECT).run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let other = "repo:acme/shop:ref:refs/heads/main";
    let ended = explain(&world).input("expected-subject", other).run();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stdout.contains("the token is not as expected")
            && ended.stdout.contains("character 16"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_token_on_standard_input_is_explained_on_a_laptop() {
    let world = World::new();
    let token = world
        .github
        .service()
        .token("api://AzureADTokenExchangeUSGov");
    let laptop = |text: &str| {
        let step = Step::new(env!("CARGO_BIN_EXE_oidc-login")).on_a_laptop();
        step.argument("explain").argument("-").stdin(text)
    };
    let ended = laptop(&token).argument("--cloud=public").run();
    assert_eq!(ended.code, Some(1), "{}", ended.log());
    assert!(
        ended.stderr.contains("cloud `us-gov`") && ended.stderr.contains(SUBJECT),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stdout, format!("subject={SUBJECT}\n"));
    assert!(!ended.log().contains(&token));
    assert_eq!(laptop(&format!("{token}\n")).run().code, Some(0));
    let ended = laptop("hunter2.hunter2").run();
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("holds no token") && !ended.stderr.contains("hunter2"),
        "{}",
        ended.stderr
    );
    assert!(world.github.exchanges().is_empty());
}

#[test]
fn outside_of_a_job_there_is_no_token_to_explain() {
    let ended = Step::new(env!("CARGO_BIN_EXE_oidc-login"))
        .on_a_laptop()
        .argument("explain")
        .run();
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("outside of a GitHub Actions job")
            && ended.stderr.contains("explain -"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_proxy_is_used_where_the_environment_names_one() {
    let world = World::new();
    let through = |step: Step| {
        step.variable("HTTPS_PROXY", "http://127.0.0.1:1")
            .input("timeout", "1s")
    };
    let ended = through(explain(&world)).run();
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(
        world.github.exchanges().is_empty(),
        "the proxy was gone around"
    );
    let ended = through(explain(&world))
        .variable("NO_PROXY", "127.0.0.1")
        .run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
}
