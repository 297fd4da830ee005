//! Whether the run is one in which strangers decide what is executed: then no command gets credentials.
//!
//! `prisma.config.ts` is code, and so is SQL. A pull request from a fork may change both.

use switchyard_runner::pull_request::{self, Origin};
use switchyard_runner::{Environment, Failure, Kind};

/// Events that run with the repository's secrets and may hold a stranger's code or text.
const REFUSED: [&str; 3] = ["pull_request_target", "issue_comment", "workflow_run"];

/// Refuses to go on where a stranger may have written what would run.
///
/// # Errors
/// A failure of kind input, naming the event.
pub(crate) fn require(environment: &Environment, command: &str) -> Result<(), Failure> {
    if !environment.is_actions() {
        return Ok(());
    }
    let refused = |reason: String| {
        let text = format!(
            "`{command}` does not run {reason}: migrations and their configuration are code, and it would run with the database's password"
        );
        Err(Failure::message(Kind::Input, text)
            .hint("run `lint` for pull requests, and this command after the merge"))
    };
    let Some(event) = environment.get("GITHUB_EVENT_NAME") else {
        return Ok(());
    };
    if REFUSED.contains(&event) {
        return refused(format!("on `{event}`"));
    }
    if event != "pull_request" {
        return Ok(());
    }
    match pull_request::origin(environment) {
        Some(Origin::Repository) => Ok(()),
        Some(Origin::Elsewhere(name)) => refused(format!("on a pull request from {name}")),
        None => {
            refused("on a pull request of which it is not known where it comes from".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(event: &str, payload: Option<&str>) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("event.json");
        if let Some(payload) = payload {
            std::fs::write(&path, payload).unwrap();
        }
        let path = path.display().to_string();
        let pairs = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_EVENT_NAME", event),
            ("GITHUB_EVENT_PATH", &path),
        ];
        let environment: Environment = pairs.into_iter().collect();
        require(&environment, "plan").map_err(|failure| failure.to_string())
    }

    fn from(head: &str) -> String {
        format!(
            r#"{{"pull_request":{{"head":{{"repo":{head}}}}},"repository":{{"full_name":"o/r"}}}}"#
        )
    }

    #[test]
    fn what_a_stranger_can_start_is_refused() {
        for event in REFUSED {
            let reason = judged(event, Some("{}")).unwrap_err();
            assert!(
                reason.contains(event) && reason.contains("plan"),
                "{reason}"
            );
        }
        for head in [r#"{"full_name":"x/r"}"#, "null"] {
            assert!(judged("pull_request", Some(&from(head))).is_err(), "{head}");
        }
    }

    #[test]
    fn a_pull_request_of_unknown_origin_is_refused() {
        for payload in [None, Some("no event"), Some("{}")] {
            assert!(judged("pull_request", payload).is_err(), "{payload:?}");
        }
    }

    #[test]
    fn what_the_repository_starts_runs() {
        assert!(judged("pull_request", Some(&from(r#"{"full_name":"o/r"}"#))).is_ok());
        for event in ["push", "workflow_dispatch", "schedule", "release"] {
            assert!(judged(event, None).is_ok(), "{event}");
        }
        assert!(require(&Environment::default(), "plan").is_ok());
    }
}
