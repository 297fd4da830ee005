//! GitHub Enterprise Server: another issuer than github.com's, which the cloud trusts instead.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use support::aws::Aws;
use support::{World, kubeconfig};

const ISSUER: &str = "https://github.acme.example/_services/token";

#[test]
fn a_job_of_an_enterprise_server_logs_in_to_aks() {
    let world = World::of_server(ISSUER);
    let server = "https://github.acme.example";
    let ended = world.azure().variable("GITHUB_SERVER_URL", server).run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(ended.stdout.contains(&world.object), "{}", ended.stdout);
    let call = world.plugin(&kubeconfig(&ended)).run();
    assert_eq!(call.code, Some(0), "{}", call.log());
    world.assert_no_secret_in(&ended);
    // A credential for github.com lets nobody of another server in, and the report names the right issuer.
    world
        .github
        .service()
        .set_issuer("https://github.other.example/_services/token");
    let ended = world.azure().run();
    assert_eq!(ended.code, Some(3));
    for words in [
        "AADSTS700211",
        r#""issuer": "https://github.other.example/_services/token""#,
    ] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
}

#[test]
fn a_job_of_an_enterprise_server_becomes_a_role_of_aws() {
    let aws = Aws::of_server(ISSUER);
    let ended = aws.login().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let session = aws.account.sessions().remove(0);
    assert!(ended.stdout.contains(&session.arn()), "{}", ended.stdout);
    aws.assert_no_secret_in(&ended);
}

#[test]
fn the_statement_that_would_match_names_the_enterprise_servers_provider() {
    let world = World::of_server(ISSUER);
    let step = world.step().input("command", "explain");
    let ended = step
        .input("audience", "sts.amazonaws.com")
        .input("extra-ca", world.ca().display().to_string())
        .run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    let provider = "oidc-provider/github.acme.example/_services/token";
    assert!(ended.stdout.contains(provider), "{}", ended.stdout);
}
