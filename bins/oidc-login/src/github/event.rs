//! Whether the run is one to which GitHub gives no token, whatever the workflow grants.

use std::path::Path;

use serde::Deserialize;

/// Largest event read, in bytes; GitHub's own limit for a webhook is 25 MB.
const LARGEST: u64 = 25 * 1024 * 1024;

#[derive(Deserialize)]
struct Event {
    pull_request: Option<PullRequest>,
    repository: Option<Repository>,
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

/// The fork that the event's pull request comes from; `None` for any other event, and for one that
/// cannot be read: it only makes a message better.
pub(super) fn fork(event: &Path) -> Option<String> {
    if std::fs::metadata(event).ok()?.len() > LARGEST {
        return None;
    }
    fork_of(&std::fs::read_to_string(event).ok()?)
}

fn fork_of(event: &str) -> Option<String> {
    let event: Event = serde_json::from_str(event).ok()?;
    let from = event.pull_request?.head.repo;
    let from = from.map_or_else(|| "a deleted repository".to_owned(), |repo| repo.full_name);
    (from != event.repository?.full_name).then_some(from)
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
        assert_eq!(
            fork_of(&event(r#"{"full_name":"x/r"}"#)).as_deref(),
            Some("x/r")
        );
        assert_eq!(
            fork_of(&event("null")).as_deref(),
            Some("a deleted repository")
        );
        assert_eq!(fork_of(&event(r#"{"full_name":"o/r"}"#)), None);
        assert_eq!(fork_of(r#"{"repository":{"full_name":"o/r"}}"#), None);
        assert_eq!(fork_of("no event"), None);
    }
}
