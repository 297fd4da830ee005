//! The shape of a token's subject. It takes a subject apart to explain it; it refuses to put one
//! together: what GitHub will write is only known by reading it.

/// A subject in GitHub's default format, in one of its two forms, taken apart; anything else comes
/// from a template of the repository or the organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject<'a> {
    /// `repo:owner/name:suffix`, or with ids `repo:owner@1/name@2:suffix`.
    Default {
        repository: Repository<'a>,
        suffix: Suffix<'a>,
    },
    /// Written by a template (`include_claim_keys`), or not GitHub's at all.
    Custom,
}

/// The repository of a subject, as written: `owner/name` or `owner@1/name@2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repository<'a>(&'a str);

/// What follows the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suffix<'a> {
    /// The job names an environment.
    Environment(&'a str),
    /// The job runs for a pull request and names no environment.
    PullRequest,
    /// Any other job: the branch or tag.
    Ref(&'a str),
    /// Not written by GitHub: a misspelling of `pull_request`.
    MisspeltPullRequest,
}

/// The kinds of job that GitHub tells apart in a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobKind {
    Environment,
    PullRequest,
    Ref,
}

impl<'a> Subject<'a> {
    /// Takes a subject apart; never fails, because any text may have been configured somewhere.
    pub(crate) fn parse(text: &'a str) -> Self {
        let parts = text
            .get(..5)
            .filter(|prefix| prefix.eq_ignore_ascii_case("repo:"))
            .and_then(|_| text[5..].split_once(':'));
        let Some((repository, rest)) = parts.filter(|(repository, _)| repository.contains('/'))
        else {
            return Self::Custom;
        };
        let suffix = match Suffix::parse(rest) {
            Some(suffix) => suffix,
            None => return Self::Custom,
        };
        Self::Default {
            repository: Repository(repository),
            suffix,
        }
    }
}

impl Repository<'_> {
    /// Whether owner and name carry their ids, which stay the same when they are renamed.
    pub(crate) fn has_ids(self) -> bool {
        self.0.contains('@')
    }

    /// `owner/name` without ids.
    pub(crate) fn names(self) -> String {
        let without_id = |part: &str| part.split('@').next().unwrap_or(part).to_owned();
        let parts: Vec<String> = self.0.split('/').map(without_id).collect();
        parts.join("/")
    }
}

impl<'a> Suffix<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (kind, value) = match text.split_once(':') {
            Some((kind, value)) => (kind, Some(value)),
            None => (text.trim_end_matches('/'), None),
        };
        match (kind.to_ascii_lowercase().as_str(), value) {
            ("environment", Some(value)) => Some(Self::Environment(value)),
            ("ref", Some(value)) => Some(Self::Ref(value)),
            ("pull_request", None) => Some(Self::PullRequest),
            ("pull-request" | "pullrequest" | "pull_requests", None) => {
                Some(Self::MisspeltPullRequest)
            }
            _ => None,
        }
    }

    /// Of what kind the job is, whatever the names in it.
    pub(crate) fn kind(self) -> JobKind {
        match self {
            Self::Environment(_) => JobKind::Environment,
            Self::PullRequest | Self::MisspeltPullRequest => JobKind::PullRequest,
            Self::Ref(_) => JobKind::Ref,
        }
    }

    /// What a job must be like to have this suffix.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Environment(name) => format!("a job with `environment: {name}`"),
            Self::PullRequest => "a job for a pull request, without `environment:`".to_owned(),
            Self::Ref(name) => format!("a job on `{name}`, without `environment:`"),
            Self::MisspeltPullRequest => "no job at all".to_owned(),
        }
    }
}

/// The text with `%3A` read as the colon that it stands for.
pub(crate) fn with_colons(text: &str) -> String {
    text.replace("%3A", ":").replace("%3a", ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, bool, Suffix<'_>) {
        match Subject::parse(text) {
            Subject::Default { repository, suffix } => {
                (repository.names(), repository.has_ids(), suffix)
            }
            Subject::Custom => panic!("`{text}` is read as a custom subject"),
        }
    }

    #[test]
    fn both_forms_are_taken_apart() {
        for (text, has_ids) in [
            ("repo:example/shop:environment:production", false),
            ("repo:example@42/shop@1001:environment:production", true),
        ] {
            let expected = (
                "example/shop".to_owned(),
                has_ids,
                Suffix::Environment("production"),
            );
            assert_eq!(parts(text), expected);
        }
    }

    #[test]
    fn every_suffix_is_known() {
        assert_eq!(
            parts("repo:o/r:ref:refs/heads/main").2,
            Suffix::Ref("refs/heads/main")
        );
        assert_eq!(parts("repo:o/r:pull_request").2, Suffix::PullRequest);
        assert_eq!(
            parts("repo:o/r:pull-request").2,
            Suffix::MisspeltPullRequest
        );
        assert_eq!(
            parts("repo:o/r:environment:a%3Ab").2,
            Suffix::Environment("a%3Ab")
        );
    }

    #[test]
    fn anything_else_comes_from_a_template() {
        for text in [
            "",
            "repo:o/r",
            "repository_owner:o",
            "repo:o/r:job_workflow_ref:o/w/.github/workflows/x.yml@refs/heads/main",
            "répo:o/r:pull_request",
        ] {
            assert_eq!(Subject::parse(text), Subject::Custom, "{text}");
        }
    }
}
