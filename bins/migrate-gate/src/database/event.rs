//! Whether the event that began the run lets strangers decide what runs.
//!
//! A migration and `prisma.config.ts` are code: with the credentials of a database in hand they are run
//! only for those who may push to the repository. Pull requests get `lint`, which needs no credentials.
//! Source: <https://docs.github.com/actions/reference/security/secure-use>.

use std::path::Path;

use serde::Deserialize;
use switchyard_runner::{Environment, Failure, Kind};

/// Largest event read, in bytes; GitHub's own limit for a webhook is 25 MB.
const LARGEST: u64 = 25 * 1024 * 1024;

/// Events that run with the repository's secrets on behalf of anybody.
const OF_ANYBODY: [&str; 3] = ["pull_request_target", "issue_comment", "workflow_run"];

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

/// Where a pull request comes from.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Repository,
    Fork(String),
    Unknown,
}

/// Refuses to go on with credentials for an event of strangers.
///
/// # Errors
/// Kind gate, naming the event.
pub(crate) fn refuse_untrusted(environment: &Environment) -> Result<(), Failure> {
    let event = environment.get("GITHUB_EVENT_NAME").unwrap_or_default();
    let why = if OF_ANYBODY.contains(&event) {
        format!("event `{event}` runs with this repository's secrets whoever causes it")
    } else if event == "pull_request" {
        let payload = environment.get("GITHUB_EVENT_PATH").map(Path::new);
        match payload.map_or(Origin::Unknown, origin) {
            Origin::Repository => return Ok(()),
            Origin::Fork(fork) => format!("the pull request comes from `{fork}`"),
            Origin::Unknown => "it cannot be told where the pull request comes from".to_owned(),
        }
    } else {
        return Ok(());
    };
    Err(Failure::message(
        Kind::Gate,
        format!("{why}, and migrations are code that would run with the database's credentials"),
    )
    .hint("run `lint` for such events; the other commands on `push` or `workflow_dispatch`"))
}

fn origin(payload: &Path) -> Origin {
    let is_small = std::fs::metadata(payload).is_ok_and(|metadata| metadata.len() <= LARGEST);
    let text = is_small
        .then(|| std::fs::read_to_string(payload).ok())
        .flatten();
    text.map_or(Origin::Unknown, |text| origin_of(&text))
}

fn origin_of(event: &str) -> Origin {
    let Ok(event) = serde_json::from_str::<Event>(event) else {
        return Origin::Unknown;
    };
    match (event.pull_request, event.repository) {
        (Some(pull_request), Some(repository)) => match pull_request.head.repo {
            Some(head) if head.full_name == repository.full_name => Origin::Repository,
            Some(head) => Origin::Fork(head.full_name),
            None => Origin::Fork("a deleted repository".to_owned()),
        },
        (None, _) | (_, None) => Origin::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, payload: Option<&str>) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("event.json");
        if let Some(payload) = payload {
            std::fs::write(&path, payload).unwrap();
        }
        let path = path.display().to_string();
        let pairs = [
            ("GITHUB_EVENT_NAME", name),
            ("GITHUB_EVENT_PATH", path.as_str()),
        ];
        refuse_untrusted(&pairs.into_iter().collect()).is_err()
    }

    #[test]
    fn events_of_strangers_are_refused_and_those_of_members_are_not() {
        let from = |head: &str| {
            format!(
                r#"{{"pull_request":{{"head":{{"repo":{head}}}}},"repository":{{"full_name":"o/r"}}}}"#
            )
        };
        let fork = from(r#"{"full_name":"x/r"}"#);
        let own = from(r#"{"full_name":"o/r"}"#);
        for (event, payload, is_refused) in [
            ("push", None, false),
            ("workflow_dispatch", None, false),
            ("", None, false),
            ("pull_request", Some(own.as_str()), false),
            ("pull_request", Some(fork.as_str()), true),
            ("pull_request", Some(from("null").as_str()), true),
            ("pull_request", Some("{}"), true),
            ("pull_request", None, true),
            ("pull_request_target", Some(own.as_str()), true),
            ("issue_comment", None, true),
            ("workflow_run", None, true),
        ] {
            assert_eq!(refused(event, payload), is_refused, "{event} {payload:?}");
        }
    }
}
