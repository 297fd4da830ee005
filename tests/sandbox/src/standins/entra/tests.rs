use super::*;
use crate::standins::token_service::GITHUB_ISSUER;
use crate::standins::{Job, SubjectFormat, TokenService};

const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
const SUBJECT: &str = "repo:acme/shop:environment:production";
const MANAGER: &str = "https://management.azure.com/.default";

struct World {
    github: TokenService,
    entra: Entra,
}

impl World {
    fn new() -> Self {
        let github = TokenService::new().unwrap();
        github.run(Job::default().in_environment("production"));
        let keys = Arc::clone(&github.keys);
        let entra = Entra::new(Cloud::Public)
            .unwrap()
            .reaching(GITHUB_ISSUER, keys);
        let audience = entra.cloud.assertion_audience();
        let application =
            Application::new(CLIENT, "deployer", "99999999-0000-4000-8000-000000000001");
        entra.register(application.trusting(GITHUB_ISSUER, SUBJECT, audience));
        Self { github, entra }
    }

    fn assertion(&self) -> String {
        self.github.token(self.entra.cloud.assertion_audience())
    }

    /// Exchanges with some fields changed; an empty value takes the field away.
    fn exchange(&self, assertion: &str, changed: &[(&str, &str)]) -> Answer {
        self.exchange_at(TENANT, assertion, changed)
    }

    fn exchange_at(&self, tenant: &str, assertion: &str, changed: &[(&str, &str)]) -> Answer {
        let mut fields = BTreeMap::from([
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("scope", MANAGER),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion),
        ]);
        fields.extend(changed.iter().copied());
        let fields: Vec<_> = fields
            .into_iter()
            .filter(|(name, value)| !value.is_empty() || *name == "client_assertion")
            .collect();
        let url = format!("https://127.0.0.1/{tenant}/oauth2/v2.0/token");
        self.entra.answer(&Received::form(&url, &fields))
    }

    fn refused(&self, changed: &[(&str, &str)]) -> (u16, String, u64) {
        parsed(&self.exchange(&self.assertion(), changed))
    }
}

/// Status, OAuth's error and the first AADSTS code of a refusal; the code is in the text too.
fn parsed(answer: &Answer) -> (u16, String, u64) {
    let document: Value = serde_json::from_str(&answer.body).expect("JSON");
    let code = document["error_codes"][0]
        .as_u64()
        .unwrap_or_else(|| panic!("{document}"));
    let text = document["error_description"].as_str().expect("a text");
    assert!(text.starts_with(&format!("AADSTS{code}: ")), "{text}");
    (
        answer.status,
        document["error"].as_str().expect("an error").to_owned(),
        code,
    )
}

fn expect(answer: &Answer, status: u16, error: &str, code: u64) {
    assert_eq!(
        parsed(answer),
        (status, error.to_owned(), code),
        "{}",
        answer.body
    );
}

#[test]
fn the_scope_decides_what_a_token_opens() {
    let world = World::new();
    let now = world.entra.clock.now();
    let aks = format!("{AKS_SERVER}/.default");
    let registry = "https://containerregistry.azure.net/.default";
    for (scope, resource) in [
        (MANAGER, Resource::ResourceManager),
        (
            "https://management.azure.com//.default",
            Resource::ResourceManager,
        ),
        (&aks, Resource::KubernetesServer),
        (registry, Resource::ContainerRegistry),
    ] {
        let answer = world.exchange(&world.assertion(), &[("scope", scope)]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        let token = document["access_token"].as_str().unwrap();
        assert!(world.entra.tokens.check(token, &resource, now).is_ok());
        for other in [Resource::ResourceManager, Resource::KubernetesServer] {
            let opened = world.entra.tokens.check(token, &other, now);
            assert_eq!(opened.is_ok(), other == resource);
        }
        let later = world.entra.tokens.check(token, &resource, now + 3_600);
        assert_eq!(later.err(), Some(Unacceptable::OutsideOfLife));
    }
}

#[test]
fn a_malformed_request_is_refused_for_what_entra_refuses() {
    let world = World::new();
    for (changed, status, error, code) in [
        (("grant_type", ""), 400, "invalid_request", 900_144),
        (
            ("grant_type", "password"),
            400,
            "unsupported_grant_type",
            70_003,
        ),
        (("client_id", ""), 400, "invalid_request", 900_144),
        (("client_id", "nobody"), 400, "unauthorized_client", 700_016),
        (
            ("scope", "https://management.azure.com"),
            400,
            "invalid_scope",
            1_002_012,
        ),
        (
            ("scope", "https://elsewhere/.default"),
            400,
            "invalid_resource",
            500_011,
        ),
        (
            ("client_assertion_type", "jwt"),
            400,
            "invalid_request",
            7_000_217,
        ),
        (("client_assertion", ""), 400, "invalid_request", 50_027),
        (
            ("client_assertion", "a.b.c"),
            400,
            "invalid_request",
            50_027,
        ),
    ] {
        assert_eq!(world.refused(&[changed]), (status, error.to_owned(), code));
    }
    let url = format!("https://127.0.0.1/{TENANT}/oauth2/v2.0/token");
    let json = Received::form(&url, &[("grant_type", "client_credentials")])
        .with_header("content-type", "application/json");
    expect(&world.entra.answer(&json), 400, "invalid_request", 900_144);
    let without = Received::form(
        &url,
        &[
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("scope", MANAGER),
        ],
    );
    expect(
        &world.entra.answer(&without),
        401,
        "invalid_client",
        7_000_218,
    );
    expect(
        &world.entra.answer(&Received::get(&url)),
        400,
        "invalid_request",
        900_561,
    );
}

#[test]
fn a_tenant_that_is_unknown_misspelt_or_of_another_cloud_is_refused() {
    let world = World::new();
    let foreign = "22222222-0000-4000-8000-000000000000";
    world.entra.know_as_foreign(foreign);
    for (tenant, code) in [
        ("00000000-0000-4000-8000-000000000000", 90_002),
        ("other.onmicrosoft.com", 90_002),
        ("acme", 900_023),
        (foreign, 900_382),
    ] {
        let answer = world.exchange_at(tenant, &world.assertion(), &[]);
        expect(&answer, 400, "invalid_request", code);
    }
}

#[test]
fn a_tenant_is_named_by_its_id_or_a_domain_in_any_case() {
    let world = World::new();
    for tenant in [TENANT, &TENANT.to_uppercase(), TENANT_DOMAIN] {
        assert_eq!(
            world.exchange_at(tenant, &world.assertion(), &[]).status,
            200,
            "{tenant}"
        );
    }
}

#[test]
fn a_subject_that_differs_is_refused_with_the_code_of_its_difference() {
    let world = World::new();
    let job = Job::default;
    for (job, code) in [
        (job(), 700_213),
        (job().in_environment("Production"), 7_002_138),
        (job().in_environment("staging"), 700_213),
        (job().on("pull_request", "refs/pull/1/merge"), 700_213),
        (
            job()
                .in_environment("production")
                .with_subject(SubjectFormat::Immutable),
            700_213,
        ),
    ] {
        world.github.run(job);
        let answer = world.exchange(&world.assertion(), &[]);
        expect(&answer, 401, "invalid_client", code);
        assert!(answer.body.contains("subject 'repo:"), "{}", answer.body);
    }
    let flexible = FederatedCredential {
        issuer: GITHUB_ISSUER.to_owned(),
        subject: SubjectMatch::Expression(
            "claims['sub'] matches 'repo:acme/*:environment:*'".to_owned(),
        ),
        audience: world.entra.cloud.assertion_audience().to_owned(),
    };
    let mut application = Application::new(CLIENT, "deployer", "x");
    application.credentials.push(flexible);
    world.entra.register(application);
    world.github.run(job());
    expect(
        &world.exchange(&world.assertion(), &[]),
        401,
        "invalid_client",
        7_002_131,
    );
    world.github.run(job().in_environment("any"));
    assert_eq!(world.exchange(&world.assertion(), &[]).status, 200);
}

#[test]
fn an_assertion_of_the_wrong_issuer_audience_key_or_time_is_refused() {
    let world = World::new();
    let other_cloud = world.github.token(Cloud::China.assertion_audience());
    expect(
        &world.exchange(&other_cloud, &[]),
        401,
        "invalid_client",
        700_212,
    );

    world
        .github
        .set_issuer("https://token.actions.githubusercontent.com/");
    expect(
        &world.exchange(&world.assertion(), &[]),
        401,
        "invalid_client",
        700_211,
    );
    world.github.set_issuer(GITHUB_ISSUER);

    let forger = TokenService::new().unwrap();
    forger.run(Job::default().in_environment("production"));
    let forged = forger.token(world.entra.cloud.assertion_audience());
    expect(
        &world.exchange(&forged, &[]),
        401,
        "invalid_client",
        7_000_272,
    );

    let good = world.assertion();
    world.github.keys.rotate().unwrap();
    assert_eq!(
        world.exchange(&good, &[]).status,
        200,
        "an old key is still published"
    );
    assert_eq!(
        world.exchange(&good, &[]).status,
        200,
        "twice within its life is fine"
    );
    world.entra.clock.skew(301);
    expect(&world.exchange(&good, &[]), 401, "invalid_client", 700_024);
    world.entra.clock.skew(-660);
    expect(&world.exchange(&good, &[]), 401, "invalid_client", 700_024);
    world.entra.clock.skew(0);
    world.github.keys.withdraw_old().unwrap();
    expect(
        &world.exchange(&good, &[]),
        401,
        "invalid_client",
        7_000_272,
    );
}

#[test]
fn an_application_without_credentials_is_told_so_and_a_fresh_one_propagates() {
    let world = World::new();
    world.entra.propagate(1);
    let answer = world.exchange(&world.assertion(), &[]);
    expect(&answer, 401, "invalid_client", 70_021);
    assert_eq!(world.exchange(&world.assertion(), &[]).status, 200);
    world
        .entra
        .register(Application::new(CLIENT, "deployer", "x"));
    expect(
        &world.exchange(&world.assertion(), &[]),
        401,
        "invalid_client",
        70_025,
    );
}

#[test]
fn what_only_a_policy_brings_about_can_be_ordered() {
    let fault = World::new()
        .entra
        .refusal(700_238, "The tenant's policy does not allow this issuer.");
    let Fault::Answer(answer) = fault else {
        panic!("{fault:?}");
    };
    expect(&answer, 401, "invalid_client", 700_238);
}
