//! One report about a token: what it says, how that differs from what was expected, and what must be
//! configured for it. Text out of plain data; never the token, which does not get here.

use std::fmt::Write as _;

use super::compare::{Comparison, compare};
use super::party::Party;
use crate::azure::Cloud;
use crate::github::{Claims, Subject, Suffix};

/// What somebody expects of a token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expectations {
    pub(crate) subject: Option<String>,
    pub(crate) audience: Option<String>,
}

/// The report, and what came of the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Several lines of printable text.
    pub(crate) text: String,
    /// What is not as expected, each in one line; empty when nothing was expected or all is so.
    pub(crate) mismatches: Vec<String>,
    /// What is right now and will surprise somebody later.
    pub(crate) warning: Option<String>,
}

/// Explains a token by its claims.
pub(crate) fn report(claims: &Claims, expectations: &Expectations) -> Report {
    let mut text = String::new();
    let mut mismatches = Vec::new();
    write_claims(&mut text, claims);
    if let Some(expected) = &expectations.subject {
        match compare(&claims.subject, expected) {
            None => text.push_str("the subject is the expected one\n"),
            Some(comparison) => {
                write_comparison(&mut text, &claims.subject, expected, &comparison);
                mismatches.extend(
                    comparison
                        .differences
                        .iter()
                        .map(|one| printable(&one.explain())),
                );
            }
        }
    }
    if let Some(expected) = &expectations.audience
        && let Some(mismatch) = audience_mismatch(claims, expected)
    {
        let _ = writeln!(text, "audience\n  - {mismatch}");
        mismatches.push(mismatch);
    }
    let party = Party::of(claims.audience.first().map_or("", String::as_str));
    let _ = writeln!(text, "{}", party.introduction());
    // Plain `{:#}` of a JSON value escapes control characters by itself.
    for line in format!("{:#}", party.trust(claims)).lines() {
        let _ = writeln!(text, "  {}", printable(line));
    }
    Report {
        text,
        mismatches,
        warning: warning(claims),
    }
}

fn write_claims(text: &mut String, claims: &Claims) {
    text.push_str("what the token says\n");
    let audience = claims.audience.join(", ");
    let lines = [
        ("iss", Some(claims.issuer.as_str())),
        ("sub", Some(claims.subject.as_str())),
        ("aud", Some(audience.as_str())),
        ("repository", claims.repository.as_deref()),
        ("environment", claims.environment.as_deref()),
        ("ref", claims.reference.as_deref()),
        ("event_name", claims.event_name.as_deref()),
        ("job_workflow_ref", claims.job_workflow_ref.as_deref()),
    ];
    for (claim, value) in lines {
        let value = value.map_or_else(|| "(none)".to_owned(), printable);
        let _ = writeln!(text, "  {claim:<17} {value}");
    }
}

fn write_comparison(text: &mut String, token: &str, expected: &str, comparison: &Comparison) {
    let same: String = token.chars().take(comparison.first_difference).collect();
    let column = printable(&same).chars().count();
    let _ = writeln!(
        text,
        "the subject is not the expected one\n  token     {}\n  expected  {}\n            {}^ character {}",
        printable(token),
        printable(expected),
        " ".repeat(column),
        comparison.first_difference + 1,
    );
    for difference in &comparison.differences {
        let _ = writeln!(text, "  - {}", printable(&difference.explain()));
    }
}

fn audience_mismatch(claims: &Claims, expected: &str) -> Option<String> {
    if claims.audience.iter().any(|audience| audience == expected) {
        return None;
    }
    let given = claims.audience.join("`, `");
    let whose = |audience: &str| Cloud::of_audience(audience).map(Cloud::name);
    let of_cloud = |audience: &str| {
        whose(audience).map_or_else(String::new, |cloud| format!(" (Azure's cloud `{cloud}`)"))
    };
    let ours = claims.audience.first().map_or("", String::as_str);
    let advice = match (whose(ours), whose(expected)) {
        (Some(_), Some(_)) => "the audience of another cloud: set input `cloud`",
        (Some(_) | None, _) => "set input `audience`, or correct what is configured",
    };
    Some(printable(&format!(
        "the token's audience is `{given}`{}, and `{expected}`{} was expected: {advice}",
        of_cloud(ours),
        of_cloud(expected)
    )))
}

/// A token shows one job. The other job that matters is the one that rescues this one's deployment.
fn warning(claims: &Claims) -> Option<String> {
    let advice = "each job whose subject differs needs a credential of its own: run `explain` in it and copy what it says";
    match Subject::parse(&claims.subject) {
        Subject::Default {
            suffix: Suffix::Environment(name),
            ..
        } => Some(printable(&format!(
            "this subject belongs to jobs with `environment: {name}`; a job with another one or with none, such as a rescue job that must not wait for an approval, has another subject; {advice}"
        ))),
        Subject::Default {
            suffix: Suffix::Ref(_) | Suffix::PullRequest | Suffix::MisspeltPullRequest,
            ..
        } => Some(format!(
            "this subject belongs to jobs without `environment:`; a job with it, such as a deployment that waits for an approval, has another one; {advice}"
        )),
        Subject::Custom => None,
    }
}

/// The text in one line that moves no cursor: control and bidirectional characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let is_bidirectional = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || is_bidirectional {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::{Jwt, unsigned};

    fn claims(changes: &serde_json::Value) -> Claims {
        let mut claims = serde_json::json!({
            "iss": "https://token.actions.githubusercontent.com",
            "sub": "repo:example/shop:environment:production",
            "aud": "api://AzureADTokenExchange", "iat": 0, "exp": 300,
            "repository": "example/shop", "environment": "production", "ref": "refs/heads/main",
            "event_name": "push",
            "job_workflow_ref": "example/shop/.github/workflows/deploy.yml@refs/heads/main",
        });
        for (claim, value) in changes.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        Jwt::parse(unsigned(&claims)).unwrap().claims().clone()
    }

    fn expecting(subject: &str) -> Expectations {
        Expectations {
            subject: Some(subject.to_owned()),
            audience: None,
        }
    }

    #[test]
    fn a_report_shows_claims_difference_and_what_would_match() {
        let expected = expecting("repo:example/shop:environment:Production");
        let report = report(&claims(&serde_json::json!({})), &expected);
        insta::assert_snapshot!(report.text);
    }

    #[test]
    fn the_audience_of_another_cloud_is_named() {
        let expectations = Expectations {
            subject: None,
            audience: Some(Cloud::UsGov.audience().to_owned()),
        };
        let report = report(&claims(&serde_json::json!({})), &expectations);
        assert_eq!(report.mismatches.len(), 1);
        let said = &report.mismatches[0];
        assert!(
            said.contains("cloud `public`") && said.contains("cloud `us-gov`"),
            "{said}"
        );
    }

    #[test]
    fn a_job_with_an_environment_is_warned_of_the_one_without() {
        let warned = |changes| report(&claims(&changes), &Expectations::default()).warning;
        let with = warned(serde_json::json!({})).unwrap();
        assert!(
            with.contains("environment: production") && with.contains("rescue job"),
            "{with}"
        );
        let branch = serde_json::json!({"sub": "repo:o/r:ref:refs/heads/main"});
        assert!(warned(branch).unwrap().contains("without `environment:`"));
        assert_eq!(
            warned(serde_json::json!({"sub": "repository_owner:o"})),
            None
        );
    }

    #[test]
    fn no_claim_can_write_a_line_of_its_own() {
        let evil = serde_json::json!({"sub": "repo:o/r:environment:x\n::error::y\u{202e}", "ref": "\u{1b}[2J"});
        let report = report(&claims(&evil), &expecting("z"));
        for text in [&report.text, &report.warning.unwrap()] {
            assert!(
                !text.contains('\u{1b}') && !text.contains('\u{202e}'),
                "{text}"
            );
            assert!(
                !text.lines().any(|line| line.trim_start().starts_with("::")),
                "{text}"
            );
        }
    }
}
