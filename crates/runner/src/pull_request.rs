//! Where the code of a pull request comes from, by the event that began the run.

use std::path::Path;

use serde::Deserialize;

use crate::Environment;

/// Largest event read, in bytes; GitHub's own limit for a webhook is 25 MB.
const LARGEST: u64 = 25 * 1024 * 1024;

/// Where the code of a pull request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From the repository itself.
    Repository,
    /// From another one, by its name.
    Elsewhere(String),
}

#[derive(Deserialize)]
struct Event {
    pull_request: PullRequest,
    repository: Repository,
}

#[derive(Deserialize)]
struct PullRequest {
    head: Head,
}

#[derive(Deserialize)]
struct Head {
    /// Absent when the fork was deleted.
    repo: Option<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

/// The origin of the pull request that the run is for. `None` for an event of another kind, and for one that
/// cannot be read: whoever decides by it decides what that means.
#[must_use]
pub fn origin(environment: &Environment) -> Option<Origin> {
    let event = Path::new(environment.get("GITHUB_EVENT_PATH")?);
    if std::fs::metadata(event).ok()?.len() > LARGEST {
        return None;
    }
    origin_of(&std::fs::read_to_string(event).ok()?)
}

fn origin_of(event: &str) -> Option<Origin> {
    let event: Event = serde_json::from_str(event).ok()?;
    let from = event.pull_request.head.repo;
    let from = from.map_or_else(|| "a deleted repository".to_owned(), |repo| repo.full_name);
    Some(if from == event.repository.full_name {
        Origin::Repository
    } else {
        Origin::Elsewhere(from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_request_from_elsewhere_is_told_from_one_of_the_repository() {
        let event = |head: &str| {
            format!(
                r#"{{"pull_request":{{"head":{{"repo":{head}}}}},"repository":{{"full_name":"o/r"}}}}"#
            )
        };
        let elsewhere = |name: &str| Some(Origin::Elsewhere(name.to_owned()));
        assert_eq!(
            origin_of(&event(r#"{"full_name":"x/r"}"#)),
            elsewhere("x/r")
        );
        assert_eq!(origin_of(&event("null")), elsewhere("a deleted repository"));
        assert_eq!(
            origin_of(&event(r#"{"full_name":"o/r"}"#)),
            Some(Origin::Repository)
        );
        assert_eq!(origin_of(r#"{"repository":{"full_name":"o/r"}}"#), None);
        assert_eq!(origin_of("no event"), None);
    }
}
