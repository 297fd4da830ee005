//! In what way the subject of a token differs from the one that somebody expected.
//! Pure: two texts in, what a person has to know out.

use crate::github::{Repository, Subject, Suffix, with_colons};

/// Two subjects side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Number of the first character that differs, from 0.
    pub(crate) first_difference: usize,
    /// What kinds of difference there are, most telling first; never empty.
    pub(crate) differences: Vec<Difference>,
}

/// One kind of difference, told from the token's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    /// Equal but for upper and lower case; every relying party compares exactly.
    Case,
    /// One of them ends with a slash.
    TrailingSlash,
    /// One of them has blanks around it.
    Blanks,
    /// A `:` inside a value is written `%3A` in one of them.
    ColonEncoding,
    /// `pull-request` instead of `pull_request`.
    PullRequestSpelling,
    /// The jobs are of different kinds: environment, branch or tag, pull request.
    JobKind {
        token: String,
        expected: String,
        direction: Direction,
    },
    /// The ids of owner and repository stand in one of them only.
    Ids(Side),
    /// The ids of owner and repository stand in both, and differ: another repository of that name.
    OtherIds,
    /// Different repositories.
    Repository { token: String, expected: String },
    /// Different environments.
    Environment { token: String, expected: String },
    /// Different branches or tags.
    Reference { token: String, expected: String },
    /// One of them is not in GitHub's default format.
    Template(Side),
    /// A `*` is expected, and it stands for itself alone.
    Wildcard,
    /// Nothing more can be said than where they differ.
    Other,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Token,
    Expected,
}

/// What a difference of the job's kind comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The token's job names an environment, the expected one does not.
    OnlyTokenHasEnvironment,
    /// The expected job names an environment, the token's does not.
    OnlyExpectedHasEnvironment,
    /// Neither names an environment; one is for a pull request.
    PullRequest,
}

/// Compares the token's subject with the expected one; `None` when they are the same.
pub(crate) fn compare(token: &str, expected: &str) -> Option<Comparison> {
    if token == expected {
        return None;
    }
    let mut differences = Vec::new();
    if expected.contains('*') && !token.contains('*') {
        differences.push(Difference::Wildcard);
    }
    if token.trim() != token || expected.trim() != expected {
        differences.push(Difference::Blanks);
    }
    by_parts(token.trim(), expected.trim(), &mut differences);
    if differences.is_empty() {
        differences.push(Difference::Other);
    }
    Some(Comparison {
        first_difference: first_difference(token, expected),
        differences,
    })
}

fn first_difference(token: &str, expected: &str) -> usize {
    let pairs = token.chars().zip(expected.chars());
    pairs.take_while(|(ours, theirs)| ours == theirs).count()
}

fn by_parts(token: &str, expected: &str, differences: &mut Vec<Difference>) {
    match (Subject::parse(token), Subject::parse(expected)) {
        (
            Subject::Default { repository, suffix },
            Subject::Default {
                repository: expected_repository,
                suffix: expected_suffix,
            },
        ) => {
            suffixes(suffix, expected_suffix, differences);
            repositories(repository, expected_repository, differences);
            if words_differ_by_case(token, expected) {
                differences.push(Difference::Case);
            }
            let ends = (token.ends_with('/'), expected.ends_with('/'));
            if differences.is_empty() && ends.0 != ends.1 {
                differences.push(Difference::TrailingSlash);
            }
        }
        (Subject::Custom, Subject::Default { .. }) => {
            differences.push(Difference::Template(Side::Token));
        }
        (Subject::Default { .. }, Subject::Custom) => {
            differences.push(Difference::Template(Side::Expected));
        }
        (Subject::Custom, Subject::Custom) if token != expected => {
            differences.push(value(token, expected, |_, _| Difference::Other));
        }
        (Subject::Custom, Subject::Custom) => {}
    }
    differences.dedup();
}

fn repositories(
    token: Repository<'_>,
    expected: Repository<'_>,
    differences: &mut Vec<Difference>,
) {
    let (ours, theirs) = (token.names(), expected.names());
    match (token.has_ids(), expected.has_ids()) {
        (true, false) => differences.push(Difference::Ids(Side::Token)),
        (false, true) => differences.push(Difference::Ids(Side::Expected)),
        (true, true) if ours == theirs && token != expected => {
            differences.push(Difference::OtherIds);
        }
        (true, true) | (false, false) => {}
    }
    if ours != theirs {
        differences.push(value(&ours, &theirs, |token, expected| {
            Difference::Repository { token, expected }
        }));
    }
}

/// Whether the words of the format itself (`repo`, `environment`, …) differ by case.
fn words_differ_by_case(token: &str, expected: &str) -> bool {
    [0, 2].into_iter().any(|index| {
        let words = (token.split(':').nth(index), expected.split(':').nth(index));
        matches!(words, (Some(ours), Some(theirs)) if ours != theirs && ours.eq_ignore_ascii_case(theirs))
    })
}

fn suffixes(token: Suffix<'_>, expected: Suffix<'_>, differences: &mut Vec<Difference>) {
    let found = match (token, expected) {
        (Suffix::Environment(ours), Suffix::Environment(theirs)) if ours != theirs => {
            value(ours, theirs, |token, expected| Difference::Environment {
                token,
                expected,
            })
        }
        (Suffix::Ref(ours), Suffix::Ref(theirs)) if ours != theirs => {
            value(ours, theirs, |token, expected| Difference::Reference {
                token,
                expected,
            })
        }
        (Suffix::PullRequest, Suffix::MisspeltPullRequest)
        | (Suffix::MisspeltPullRequest, Suffix::PullRequest) => Difference::PullRequestSpelling,
        (ours, theirs) if ours.kind() == theirs.kind() => return,
        (ours, theirs) => Difference::JobKind {
            token: ours.describe(),
            expected: theirs.describe(),
            direction: direction(ours, theirs),
        },
    };
    differences.push(found);
}

fn direction(token: Suffix<'_>, expected: Suffix<'_>) -> Direction {
    match (token, expected) {
        (Suffix::Environment(_), _) => Direction::OnlyTokenHasEnvironment,
        (_, Suffix::Environment(_)) => Direction::OnlyExpectedHasEnvironment,
        (
            Suffix::PullRequest | Suffix::MisspeltPullRequest | Suffix::Ref(_),
            Suffix::PullRequest | Suffix::MisspeltPullRequest | Suffix::Ref(_),
        ) => Direction::PullRequest,
    }
}

/// The kind of difference between two values of one part, the harmless-looking ones first.
fn value(token: &str, expected: &str, other: impl Fn(String, String) -> Difference) -> Difference {
    let without_slash = |text: &str| text.trim_end_matches('/').to_owned();
    if with_colons(token) == with_colons(expected) {
        Difference::ColonEncoding
    } else if without_slash(token) == without_slash(expected) {
        Difference::TrailingSlash
    } else if token.to_lowercase() == expected.to_lowercase() {
        Difference::Case
    } else {
        other(token.to_owned(), expected.to_owned())
    }
}

impl Difference {
    /// What is different, and what to change.
    pub(crate) fn explain(&self) -> String {
        match self {
            Self::Case => "they differ in upper and lower case, and are compared exactly: copy the token's subject".to_owned(),
            Self::TrailingSlash => "one of them ends with `/`: take it away where the subject is configured".to_owned(),
            Self::Blanks => "there are blanks around one of them: take them away where the subject is configured".to_owned(),
            Self::ColonEncoding => "GitHub writes a `:` inside a value as `%3A`: configure it as the token has it".to_owned(),
            Self::PullRequestSpelling => "GitHub writes `pull_request`, with an underscore: correct the configured subject".to_owned(),
            Self::JobKind { token, expected, direction } => format!("the token belongs to {token}, and {expected} was expected: {}", direction.advice()),
            Self::Ids(Side::Token) => "GitHub writes the ids of owner and repository into the subject (it does for repositories made, renamed or moved after July 15, 2026), the configured one has none: configure the token's subject".to_owned(),
            Self::Ids(Side::Expected) => "the configured subject has the ids of owner and repository, the token has none: this repository still has the older format; configure the token's subject".to_owned(),
            Self::OtherIds => "the names are the same and the ids differ: it is another repository (or owner) of that name, such as one made anew; check that it is yours before you configure its subject".to_owned(),
            Self::Repository { token, expected } => format!("the token is of repository `{token}`, and `{expected}` was expected: was it renamed or moved, or does the wrong repository deploy?"),
            Self::Environment { token, expected } => format!("the job names the environment `{token}`, and `{expected}` was expected: change the job's `environment:`, or configure a credential for this environment"),
            Self::Reference { token, expected } => format!("the job runs on `{token}`, and `{expected}` was expected: each branch and tag needs a credential of its own; a job with `environment:` has one subject for all of them"),
            Self::Template(Side::Token) => "the token's subject follows a template of the repository or the organisation (`include_claim_keys`), which replaces the default format: copy it, or set the template back".to_owned(),
            Self::Template(Side::Expected) => "the expected subject has not GitHub's default format, and the token has it: was a template of the repository or the organisation (`include_claim_keys`) taken away, or is the expected subject mistyped?".to_owned(),
            Self::Wildcard => "a `*` stands for itself: subjects are compared character by character (only a flexible credential of Entra and `StringLike` of AWS match patterns)".to_owned(),
            Self::Other => "copy the token's subject".to_owned(),
        }
    }
}

impl Direction {
    fn advice(self) -> &'static str {
        match self {
            Self::OnlyTokenHasEnvironment => {
                "an `environment:` replaces branch and event in the subject; configure a credential for it, or take `environment:` off the job"
            }
            Self::OnlyExpectedHasEnvironment => {
                "add `environment:` to the job, or configure a credential of its own for jobs without one (a rescue job is such a job)"
            }
            Self::PullRequest => {
                "jobs for pull requests and jobs on a branch need credentials of their own"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn differences(token: &str, expected: &str) -> Vec<Difference> {
        compare(token, expected).unwrap().differences
    }

    const ENVIRONMENT: &str = "repo:example/shop:environment:production";

    #[test]
    fn the_same_subject_has_no_difference() {
        assert_eq!(compare(ENVIRONMENT, ENVIRONMENT), None);
    }

    #[test]
    fn what_looks_alike_is_told_apart() {
        for (token, expected, difference) in [
            (
                ENVIRONMENT,
                "repo:example/shop:environment:Production",
                Difference::Case,
            ),
            (
                ENVIRONMENT,
                "repo:Example/shop:environment:production",
                Difference::Case,
            ),
            (
                ENVIRONMENT,
                "Repo:example/shop:environment:production",
                Difference::Case,
            ),
            (
                ENVIRONMENT,
                "repo:example/shop:Environment:production",
                Difference::Case,
            ),
            (
                ENVIRONMENT,
                "repo:example/shop:environment:production/",
                Difference::TrailingSlash,
            ),
            (
                "repo:o/r:pull_request",
                "repo:o/r:pull_request/",
                Difference::TrailingSlash,
            ),
            (
                ENVIRONMENT,
                " repo:example/shop:environment:production",
                Difference::Blanks,
            ),
            (
                "repo:o/r:environment:a%3Ab",
                "repo:o/r:environment:a:b",
                Difference::ColonEncoding,
            ),
            (
                "repo:o/r:pull_request",
                "repo:o/r:pull-request",
                Difference::PullRequestSpelling,
            ),
            (
                "repo:o@1/r@2:pull_request",
                "repo:o/r:pull_request",
                Difference::Ids(Side::Token),
            ),
            (
                "repo:o/r:pull_request",
                "repo:o@1/r@2:pull_request",
                Difference::Ids(Side::Expected),
            ),
            (
                "repo:o@1/r@2:pull_request",
                "repo:o@1/r@3:pull_request",
                Difference::OtherIds,
            ),
            (
                "repository_owner:o",
                ENVIRONMENT,
                Difference::Template(Side::Token),
            ),
            (
                ENVIRONMENT,
                "repo:example/shop",
                Difference::Template(Side::Expected),
            ),
        ] {
            assert_eq!(
                differences(token, expected),
                [difference],
                "{token} | {expected}"
            );
        }
    }

    #[test]
    fn a_job_of_another_kind_is_named() {
        let branch = "repo:example/shop:ref:refs/heads/main";
        for (token, expected, direction) in [
            (ENVIRONMENT, branch, Direction::OnlyTokenHasEnvironment),
            (branch, ENVIRONMENT, Direction::OnlyExpectedHasEnvironment),
            (
                "repo:example/shop:pull_request",
                branch,
                Direction::PullRequest,
            ),
        ] {
            let found = differences(token, expected);
            assert!(
                matches!(found.as_slice(), [Difference::JobKind { direction: given, .. }] if *given == direction),
                "{found:?}"
            );
        }
    }

    #[test]
    fn values_that_differ_are_both_shown() {
        let expected = Difference::Environment {
            token: "production".to_owned(),
            expected: "staging".to_owned(),
        };
        assert_eq!(
            differences(ENVIRONMENT, "repo:example/shop:environment:staging"),
            [expected]
        );
        let reference = differences("repo:o/r:ref:refs/heads/main", "repo:o/r:ref:refs/tags/v1");
        assert!(matches!(
            reference.as_slice(),
            [Difference::Reference { .. }]
        ));
        let repository = differences(ENVIRONMENT, "repo:example/store:environment:production");
        assert!(matches!(
            repository.as_slice(),
            [Difference::Repository { .. }]
        ));
    }

    #[test]
    fn several_differences_are_all_told() {
        let found = differences(
            "repo:o@1/r@2:environment:production",
            "repo:o/R:ref:refs/heads/*",
        );
        assert_eq!(found[0], Difference::Wildcard);
        assert!(
            found.contains(&Difference::Ids(Side::Token)) && found.contains(&Difference::Case),
            "{found:?}"
        );
        assert!(
            found
                .iter()
                .any(|one| matches!(one, Difference::JobKind { .. }))
        );
    }

    #[test]
    fn the_first_difference_is_counted_in_characters() {
        assert_eq!(
            compare("repo:ö/r:x", "repo:ö/s:x")
                .unwrap()
                .first_difference,
            7
        );
        assert_eq!(compare("repo", "repo:").unwrap().first_difference, 4);
    }

    /// Subjects that are alike but not the same more often than random ones would be.
    fn subject() -> impl Strategy<Value = String> {
        let repository =
            prop::sample::select(vec!["o/r", "O/r", "o@1/r@2", "o@1/r@3", "x/y/z", ""]);
        let word = prop::sample::select(vec![
            "environment:",
            "ref:",
            "Ref:",
            "pull_request",
            "pull-request",
            "",
        ]);
        let value = prop::sample::select(vec!["", "a", "A", "a/", "a%3Ab", "a:b", "*", " "]);
        (repository, word, value).prop_map(|(r, w, v)| format!("repo:{r}:{w}{v}"))
    }

    proptest! {
        #[test]
        fn different_subjects_always_have_an_explanation(token in subject(), expected in subject()) {
            match compare(&token, &expected) {
                None => prop_assert_eq!(token, expected),
                Some(found) => {
                    prop_assert_ne!(&token, &expected);
                    prop_assert!(!found.differences.is_empty());
                    let at = found.first_difference;
                    prop_assert_ne!(token.chars().nth(at), expected.chars().nth(at));
                }
            }
        }
    }
}
