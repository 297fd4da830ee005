use super::super::{STS_AUDIENCE, sigv4};
use super::*;
use crate::standins::{GITHUB_ISSUER, Job, TokenService};

const SUBJECT: &str = "repo:acme/shop:environment:production";
const URL: &str = "https://127.0.0.1:9000/";
const SCOPE: &str = "eu-central-1/sts";

struct World {
    github: TokenService,
    account: Arc<Account>,
    sts: Sts,
}

impl World {
    fn new() -> Self {
        let github = TokenService::new().unwrap();
        github.run(Job::default().in_environment("production"));
        let account = Account::new().trusting(GITHUB_ISSUER, Arc::clone(&github.keys));
        account.add(Role::new("deploy", SUBJECT));
        let account = Arc::new(account);
        let sts = Sts::new(Arc::clone(&account));
        Self {
            github,
            account,
            sts,
        }
    }

    /// Assumes the role with some fields changed; an empty value takes the field away.
    fn assume(&self, token: &str, changed: &[(&str, &str)]) -> Answer {
        let arn = Role::new("deploy", "").arn();
        let mut fields = BTreeMap::from([
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", VERSION),
            ("RoleArn", arn.as_str()),
            ("RoleSessionName", "run-1"),
            ("DurationSeconds", "900"),
            ("WebIdentityToken", token),
        ]);
        fields.extend(changed.iter().copied());
        let fields: Vec<_> = fields
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        self.sts.answer(&Received::form(URL, &fields))
    }

    fn session(&self) -> Session {
        let answer = self.assume(&self.github.token(STS_AUDIENCE), &[]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        self.account.sessions().pop().expect("a session")
    }

    fn signed(&self, session: &Session, fields: &[(&str, &str)]) -> Answer {
        let request = Received::form(URL, fields);
        let now = self.account.clock.now();
        self.sts
            .answer(&sigv4::signed(request, session, SCOPE, now))
    }
}

fn expect(answer: &Answer, status: u16, code: &str, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(
        answer.body.contains(&element("Code", code)),
        "{}",
        answer.body
    );
    assert!(answer.body.contains(words), "{}", answer.body);
}

#[test]
fn a_token_of_the_right_subject_opens_a_session_of_the_role() {
    let world = World::new();
    let answer = world.assume(&world.github.token(STS_AUDIENCE), &[]);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let session = &world.account.sessions()[0];
    for part in [
        element("AccessKeyId", &session.access_key),
        element("SessionToken", &session.token),
        element("Arn", "arn:aws:sts::111122223333:assumed-role/deploy/run-1"),
        element("SubjectFromWebIdentityToken", SUBJECT),
        element("Audience", STS_AUDIENCE),
    ] {
        assert!(answer.body.contains(&part), "{part} in {}", answer.body);
    }
    let left = session.until - world.account.clock.now();
    assert!((895..=900).contains(&left), "{left}");
}

#[test]
fn a_token_is_refused_for_what_sts_refuses() {
    let world = World::new();
    let good = || world.github.token(STS_AUDIENCE);
    let denied = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
    expect(
        &world.assume("a.b", &[]),
        400,
        "InvalidIdentityToken",
        "not a valid JWT",
    );
    let audience = world.github.token("api://AzureADTokenExchange");
    expect(
        &world.assume(&audience, &[]),
        400,
        "InvalidIdentityToken",
        "Incorrect token audience",
    );
    let gone = Role::new("gone", "").arn();
    expect(
        &world.assume(&good(), &[("RoleArn", &gone)]),
        403,
        "AccessDenied",
        denied,
    );
    world
        .github
        .run(Job::default().in_environment("Production"));
    expect(&world.assume(&good(), &[]), 403, "AccessDenied", denied);
    world
        .github
        .run(Job::default().in_environment("production"));
    world
        .github
        .set_issuer("https://ghes.example/_services/token");
    expect(
        &world.assume(&good(), &[]),
        400,
        "InvalidIdentityToken",
        "No OpenIDConnect provider found in your account for https://ghes.example/_services/token",
    );
    world.github.set_issuer(GITHUB_ISSUER);
    let forger = TokenService::new().unwrap();
    forger.run(Job::default().in_environment("production"));
    expect(
        &world.assume(&forger.token(STS_AUDIENCE), &[]),
        400,
        "InvalidIdentityToken",
        "retrieve verification key",
    );
    let token = good();
    world.account.clock.skew(400);
    expect(
        &world.assume(&token, &[]),
        400,
        "ExpiredTokenException",
        "Token expired: current date/time",
    );
}

#[test]
fn parameters_are_refused_for_what_sts_refuses() {
    let world = World::new();
    let token = world.github.token(STS_AUDIENCE);
    for (changed, code, words) in [
        (("Action", ""), "MissingAction", ""),
        (
            ("Action", "AssumeRoleWithSAML"),
            "InvalidAction",
            "Could not find operation AssumeRoleWithSAML for version 2011-06-15",
        ),
        (("Version", ""), "InvalidAction", "NO_VERSION_SPECIFIED"),
        (
            ("RoleArn", ""),
            "ValidationError",
            "Value null at 'roleArn'",
        ),
        (
            ("RoleArn", "deploy"),
            "ValidationError",
            "length greater than or equal to 20",
        ),
        (
            ("RoleArn", "arn:aws:iam::111122223333:user/x"),
            "ValidationError",
            "is invalid",
        ),
        (
            ("RoleSessionName", ""),
            "ValidationError",
            "Value null at 'roleSessionName'",
        ),
        (
            ("RoleSessionName", "a b"),
            "ValidationError",
            "regular expression pattern",
        ),
        (
            ("RoleSessionName", "x"),
            "ValidationError",
            "greater than or equal to 2",
        ),
        (
            ("DurationSeconds", "899"),
            "ValidationError",
            "greater than or equal to 900",
        ),
        (
            ("DurationSeconds", "43201"),
            "ValidationError",
            "less than or equal to 43200",
        ),
        (
            ("DurationSeconds", "7200"),
            "ValidationError",
            "exceeds the MaxSessionDuration",
        ),
        (
            ("WebIdentityToken", ""),
            "ValidationError",
            "Value null at 'webIdentityToken'",
        ),
    ] {
        expect(&world.assume(&token, &[changed]), 400, code, words);
    }
    assert!(world.account.sessions().is_empty());
}

#[test]
fn a_session_tells_who_it_is_and_assumes_only_a_role_that_trusts_it() {
    let world = World::new();
    let session = world.session();
    let fields = [("Action", "GetCallerIdentity"), ("Version", VERSION)];
    let answer = world.signed(&session, &fields);
    assert!(
        answer.body.contains(&element("Arn", &session.arn())),
        "{}",
        answer.body
    );
    let unsigned = world.sts.answer(&Received::form(URL, &fields));
    expect(&unsigned, 403, "MissingAuthenticationToken", "");

    let mut second = Role::new("second", "nobody");
    let arn = second.arn();
    let chain = |seconds: &str| {
        world.signed(
            &session,
            &[
                ("Action", "AssumeRole"),
                ("Version", VERSION),
                ("RoleArn", &arn),
                ("RoleSessionName", "run-1"),
                ("DurationSeconds", seconds),
            ],
        )
    };
    world.account.add(second.clone());
    let denied = format!(
        "User: {} is not authorized to perform: sts:AssumeRole on resource: {arn}",
        session.arn()
    );
    expect(&chain("900"), 403, "AccessDenied", &denied);
    second.trusted_roles.push(Role::new("deploy", "").arn());
    second.longest_session = 43_200;
    world.account.add(second);
    expect(
        &chain("3601"),
        400,
        "ValidationError",
        "1 hour session limit for roles assumed by role chaining",
    );
    assert_eq!(chain("3600").status, 200);
    assert_eq!(
        world.account.sessions().last().expect("a session").role,
        "second"
    );
    world.account.clock.skew(1_000);
    expect(
        &world.signed(&session, &fields),
        403,
        "ExpiredToken",
        "is expired",
    );
}

#[test]
fn a_presigned_request_tells_whose_token_it_is() {
    let world = World::new();
    let session = world.session();
    let base = format!("{URL}?Action=GetCallerIdentity&Version={VERSION}");
    let headers = [("x-k8s-aws-id", "sandbox")];
    let url = sigv4::presigned(&base, &headers, &session, SCOPE, world.account.clock.now());
    let ask = |cluster: &str| {
        let request = Received::get(&url).with_header("x-k8s-aws-id", cluster);
        world
            .sts
            .answer(&request.with_header("accept", "application/json"))
    };
    let document: Value = serde_json::from_str(&ask("sandbox").body).expect("JSON");
    let result = &document["GetCallerIdentityResponse"]["GetCallerIdentityResult"];
    assert_eq!(result["Arn"], session.arn());
    expect(
        &ask("other"),
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated",
    );
}
