use super::*;
use crate::standins::aws::Role;

/// The example of AWS's own documentation: ListUsers of IAM.
#[test]
fn the_published_example_has_the_published_signature() {
    let request = Received::get("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08")
        .with_header(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )
        .with_header("x-amz-date", "20150830T123600Z");
    let names = ["content-type", "host", "x-amz-date"].map(str::to_owned);
    let canonical = canonical_request(&request, &names);
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    assert_eq!(
        hash,
        "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
    );
    let key = signing_key(
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "20150830",
        "us-east-1",
        "iam",
    );
    assert_eq!(
        hex(&key),
        "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
    );
    let scope = "20150830/us-east-1/iam/aws4_request";
    let text = string_to_sign("20150830T123600Z", scope, &canonical);
    assert_eq!(
        sign(&key, &text),
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    );
}

/// `get-vanilla` of AWS's test suite.
#[test]
fn the_published_test_suite_is_met() {
    let request = Received::get("https://example.amazonaws.com/")
        .with_header("x-amz-date", "20150830T123600Z");
    let names = ["host", "x-amz-date"].map(str::to_owned);
    let canonical = canonical_request(&request, &names);
    let key = signing_key(
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "20150830",
        "us-east-1",
        "service",
    );
    let scope = "20150830/us-east-1/service/aws4_request";
    let text = string_to_sign("20150830T123600Z", scope, &canonical);
    assert_eq!(
        sign(&key, &text),
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    );
}

#[test]
fn queries_and_paths_are_brought_into_one_form() {
    for (raw, canonical) in [
        ("", ""),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=1", "a=1&a=2"),
        ("a", "a="),
        ("a=%2f%20+", "a=%2F%20%2B"),
        ("X-Amz-Signature=x&a=~", "a=~"),
    ] {
        assert_eq!(canonical_query(raw), canonical, "{raw}");
    }
    assert_eq!(encode("/a%20b/c", "/"), "/a%2520b/c");
}

struct World {
    account: Account,
    session: Session,
}

impl World {
    fn new() -> Self {
        let account = Account::new();
        let role = Role::new("deploy", "*");
        let session = account.open_session(&role, "run", 900);
        account.add(role);
        Self { account, session }
    }

    fn sign(&self, request: Received, scope: &str) -> Received {
        signed(request, &self.session, scope, self.account.clock.now())
    }
}

const URL: &str = "https://127.0.0.1:9000/clusters/a?x=1";
const SCOPE: &str = "eu-central-1/eks";

#[test]
fn what_was_changed_after_it_was_signed_is_refused() {
    let world = World::new();
    let good = || world.sign(Received::get(URL), SCOPE);
    assert_eq!(
        signer(&good(), &world.account, "eks").as_ref(),
        Ok(&world.session)
    );
    for changed in [
        Received {
            method: "POST".to_owned(),
            ..good()
        },
        Received {
            path: "/clusters/b".to_owned(),
            ..good()
        },
        Received {
            raw_query: "x=2".to_owned(),
            ..good()
        },
        Received {
            body: "x".into(),
            ..good()
        },
        good().with_header("host", "elsewhere"),
    ] {
        match signer(&changed, &world.account, "eks") {
            Err(Fault::Mismatch(words)) => {
                assert!(words.starts_with("The request signature we"), "{words}")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_signature_of_the_wrong_scope_coverage_or_time_is_refused() {
    let world = World::new();
    let good = || world.sign(Received::get(URL), SCOPE);
    let of = |request: &Received| signer(request, &world.account, "eks");
    let expect = |request: &Received, start: &str| match of(request) {
        Err(Fault::Mismatch(words)) => assert!(words.starts_with(start), "{words}"),
        other => panic!("{other:?}"),
    };
    expect(
        &world.sign(Received::get(URL), "us-east-1/eks"),
        "Credential should be scoped to a valid region",
    );
    expect(
        &world.sign(Received::get(URL), "eu-central-1/sts"),
        "Credential should be scoped to correct service: 'eks'",
    );
    expect(
        &good().with_header("x-amz-later", "x"),
        "'x-amz-later' must be a 'SignedHeader'",
    );
    let without_host = good()
        .header("authorization")
        .unwrap()
        .replace("SignedHeaders=host;", "SignedHeaders=");
    expect(
        &good().with_header("authorization", &without_host),
        "'Host' or ':authority' must be",
    );
    let signed = good();
    world.account.clock.skew(301);
    expect(&signed, "Signature expired: ");
    world.account.clock.skew(-301);
    expect(&signed, "Signature not yet current: ");
    world.account.clock.skew(0);
    assert_eq!(
        of(&good().with_header("authorization", "")),
        Err(Fault::Missing)
    );
    assert!(matches!(
        of(&good().with_header("authorization", "AWS4-HMAC-SHA256 x")),
        Err(Fault::Incomplete(_))
    ));
}

#[test]
fn a_session_that_is_unknown_or_over_is_refused() {
    let world = World::new();
    let now = world.account.clock.now();
    let stranger = Session {
        access_key: "ASIAX".to_owned(),
        ..world.session.clone()
    };
    let request = signed(Received::get(URL), &stranger, SCOPE, now);
    assert_eq!(
        signer(&request, &world.account, "eks"),
        Err(Fault::UnknownToken)
    );
    let other_token = Session {
        token: "x".to_owned(),
        ..world.session.clone()
    };
    let request = signed(Received::get(URL), &other_token, SCOPE, now);
    assert_eq!(
        signer(&request, &world.account, "eks"),
        Err(Fault::UnknownToken)
    );
    world.account.clock.skew(1_000);
    let late = world.sign(Received::get(URL), SCOPE);
    assert_eq!(
        signer(&late, &world.account, "eks"),
        Err(Fault::ExpiredToken)
    );
}

#[test]
fn a_presigned_request_lives_a_quarter_of_an_hour_and_covers_its_headers() {
    let world = World::new();
    let now = world.account.clock.now();
    let headers = [("x-k8s-aws-id", "sandbox")];
    let base = "https://127.0.0.1:9000/?Action=GetCallerIdentity&Version=2011-06-15";
    let url = presigned(base, &headers, &world.session, "eu-central-1/sts", now);
    let ask = |url: &str, cluster: &str| {
        let request = Received::get(url).with_header("x-k8s-aws-id", cluster);
        signer(&request, &world.account, "sts")
    };
    assert!(ask(&url, "sandbox").is_ok());
    assert!(matches!(ask(&url, "other"), Err(Fault::Mismatch(_))));
    let without = url.replace("X-Amz-Expires=60&", "");
    assert!(matches!(
        ask(&without, "sandbox"),
        Err(Fault::Incomplete(_))
    ));
    world.account.clock.skew(890);
    assert!(
        ask(&url, "sandbox").is_ok(),
        "X-Amz-Expires is not what counts"
    );
    world.account.clock.skew(901);
    assert!(
        matches!(ask(&url, "sandbox"), Err(Fault::Mismatch(words)) if words.contains("- 15 min."))
    );
}
