//! Every request to GitHub, and every answer of its stand-in, held against GitHub's own OpenAPI
//! description, which npm installs once into the cache.

mod steps;

use steps::{done, github, notify, with_github};
use switchyard_sandbox::standins::Exchange;
use switchyard_sandbox::standins::github_openapi::Description;

#[test]
#[ignore = "installs GitHub's OpenAPI description through npm; `scripts/test` runs it"]
fn requests_and_answers_are_what_github_describes() {
    let cache = std::env::var("SWITCHYARD_CACHE")
        .expect("SWITCHYARD_CACHE: the folder for what is downloaded");
    let description =
        Description::install(std::path::Path::new(&cache)).expect("GitHub's OpenAPI description");
    let github = github();
    for (event, attempt) in [
        ("started", "1"),
        ("failure", "1"),
        ("failure", "2"),
        ("success", "3"),
        ("rolled-back", "4"),
    ] {
        let step = with_github(notify(event, "github-issue"), &github);
        done(
            step.variable("GITHUB_RUN_ATTEMPT", attempt)
                .input("required", "github-issue"),
        );
    }
    let exchanges = github.exchanges();
    let kinds: std::collections::BTreeSet<String> = exchanges
        .iter()
        .map(|exchange| format!("{} {}", exchange.method, exchange.path))
        .collect();
    // What is not seen here would pass unchecked.
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        [
            "GET /repos/acme/shop/issues",
            "GET /repos/acme/shop/issues/1/comments",
            "PATCH /repos/acme/shop/issues/1",
            "POST /repos/acme/shop/issues",
            "POST /repos/acme/shop/issues/1/comments",
        ]
    );
    assert_the_description_refuses(&description, &exchanges);
    for exchange in exchanges {
        let violations = description.violations(&exchange);
        assert!(
            violations.is_empty(),
            "{} {}: {violations:#?}",
            exchange.method,
            exchange.path
        );
    }
}

/// What the check is worth: slips in a request that was right are found.
fn assert_the_description_refuses(description: &Description, exchanges: &[Exchange]) {
    let created = exchanges
        .iter()
        .find(|exchange| exchange.method == "POST")
        .expect("an issue was created");
    for (body, found) in [
        (r#"{"body":"text"}"#, "\"title\" is a required property"),
        (r#"{"title":"t","body":7}"#, "7 is not of type \"string\""),
        (r#"{"title":"t","lables":[]}"#, "unknown property `lables`"),
    ] {
        let mut slipped = created.clone();
        slipped.body = body.to_owned();
        let violations = description.violations(&slipped);
        assert!(
            violations.iter().any(|violation| violation.contains(found)),
            "{violations:?}"
        );
    }
    let mut elsewhere = created.clone();
    elsewhere.path = "/repos/acme/shop/isues".to_owned();
    assert_eq!(
        description.violations(&elsewhere),
        ["no operation post /repos/acme/shop/isues"]
    );
}
